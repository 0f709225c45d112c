"""The log on disk with one precaution left out, by name: what tests of durability must catch.

Each mutant overrides exactly one member of :class:`raft.storage.wal.Wal` and says what goes
wrong then. ("Acknowledged before it is stored" is a mutant of the rules: a store cannot.)
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from raft.core.log import HardState, Snapshot
from raft.storage.disk import UNFINISHED, write_all
from raft.storage.log_file import DamagedError, Reader, SnapshotMark, used_bytes
from raft.storage.reading import SNAPSHOT_NAME
from raft.storage.wal import Wal


class FsyncSkipped(Wal):
    """Does not wait for the disk: a power cut takes back what was promised."""

    def _sync(self) -> None:
        """Trust the cache."""


class FsyncErrorIgnored(Wal):
    """Takes an fsync that failed for one that did not: the bytes may be nowhere but in memory."""

    def _sync(self) -> None:
        with contextlib.suppress(OSError):
            super()._sync()


class _CredulousReader(Reader):
    def _is_whole(self, head: memoryview | bytes, end: int, chain: int, stored: int) -> bool:
        return True


class TornTailAccepted(Wal):
    """Believes a batch by its head: what a crash left of one becomes entries of the log."""

    _reader = _CredulousReader


class _StrictReader(Reader):
    def _require_end(self, offset: int, chain: int) -> None:
        super()._require_end(offset, chain)
        if used_bytes(self._data, offset):
            raise DamagedError(offset, "no whole batch starts here")


class TornTailRefused(Wal):
    """Takes what a crash left of a batch for damage: a power cut, and the server is lost."""

    _reader = _StrictReader


class NamesNotSynced(Wal):
    """Does not sync the directory: a new log, with all in it, may be gone after a power cut."""

    def _put(self, path: Path, content: bytes) -> int:
        unfinished = path.with_name(path.name + UNFINISHED)
        file = self._disk.create(unfinished)
        write_all(self._disk, file, content, 0)
        self._disk.sync(file)
        self._disk.rename(unfinished, path)
        return file


class NamedBeforeSynced(Wal):
    """Gives a file its name before its bytes are durable: half a log, or half a snapshot."""

    def _put(self, path: Path, content: bytes) -> int:
        unfinished = path.with_name(path.name + UNFINISHED)
        file = self._disk.create(unfinished)
        write_all(self._disk, file, content, 0)
        self._disk.rename(unfinished, path)
        self._disk.sync_directory(path.parent)
        self._disk.sync(file)
        return file


class OldSnapshotRemovedFirst(Wal):
    """Removes the old snapshot before the new one counts: a crash leaves a log without one."""

    def _put_snapshot(self, snapshot: Snapshot) -> SnapshotMark:
        if self._mark is not None:
            self._remove([f"{SNAPSHOT_NAME}{self._mark.index}"])
        return super()._put_snapshot(snapshot)


class VoteKeptOnce(Wal):
    """Keeps term and vote in the log alone: if that is damaged, a server votes twice in a term."""

    def _write_vote(self, hard_state: HardState) -> None:
        """Trust the log."""


STORE_MUTANTS: dict[str, type[Wal]] = {
    "fsync-skipped": FsyncSkipped,
    "fsync-error-ignored": FsyncErrorIgnored,
    "torn-tail-accepted": TornTailAccepted,
    "torn-tail-refused": TornTailRefused,
    "names-not-synced": NamesNotSynced,
    "named-before-synced": NamedBeforeSynced,
    "old-snapshot-removed-first": OldSnapshotRemovedFirst,
    "vote-kept-once": VoteKeptOnce,
}
"""The mutants by name."""
