"""Where simulated servers keep their state, and how it is lost."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Protocol

from raft.core import recovering
from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, Index, ServerId
from raft.storage.base import LogStore, Recovered, StorageError
from raft.storage.memory import MemoryStore
from raft.storage.wal import Wal
from raft.testing.disk import SECTOR, PowerCut, SimulatedDisk
from raft.testing.sim.facts import Harm, Save, Violation

_DIRECTORY = Path("/simulation")

_SEGMENT_BYTES = 2048
"""Small, so that a run fills many segments."""


class ServerDisk(Protocol):
    """The disk of one server. It outlives the server's crashes."""

    harm: Harm
    """Whether what it holds can still be trusted. A store that has read all of it has judged."""

    def open(self) -> tuple[LogStore, Recovered]:
        """Return the store of a server that starts, loaded.

        Raises StorageError, and Violation if the disk gave no reason for one.
        """

    def kill(self) -> None:
        """End the process that uses the disk."""

    def power_loss(self, under_way: Save | None, store: LogStore | None) -> bool:
        """Lose what is not synced, in the middle of a save; tell whether that was done before."""

    def flip_bit(self, place: float) -> None:
        """Damage what is stored, at ``place`` from 0 (the beginning) to 1 (the end).

        The next store begins to recover from it, if it cannot read all that was stored.
        """

    def set_full(self, full: bool) -> None:
        """Let every write fail, or let writes succeed again."""

    def fail_sync(self) -> None:
        """Let the next fsync fail."""

    def fail_write(self) -> None:
        """Let the next write fail."""

    def fail_opening(self) -> None:
        """Let a call fail that the next opening makes."""

    def cut_opening(self, calls: int) -> None:
        """Let the next opening lose power after so many calls that change something."""

    def limit_writes(self, longest: int | None) -> None:
        """Let a call write no more bytes than these, or as many as it is given."""

    def spoil(self, how: str, place: float) -> bool:
        """Damage a sector or a file at ``place``, from 0 to 1; False: there is none of that."""

    def copy(self) -> object:
        """Return a copy of all that it holds."""

    def replace(self, copy: object | None) -> None:
        """Put a copy of an older state in its place, or (None) an empty disk."""


class WalDisk:
    """A disk as ``raft serve`` uses it: a ``Wal``, on a machine whose power can be cut."""

    def __init__(
        self,
        server: ServerId,
        random: Random,
        members: tuple[ServerId, ...] = (),
        store: type[Wal] = Wal,
    ) -> None:
        self.harm = Harm.NONE
        self._members = members
        self._wal = store
        self._server = server
        self._random = random
        self._machine = SimulatedDisk(random)
        self._calls_left: int | None = None
        self._before: dict[Path, bytes] = {}
        """The files as the last process found them."""

    def open(self) -> tuple[LogStore, Recovered]:
        """Return the log, loaded."""
        machine = self._machine
        refusals = machine.refusals
        machine.calls_left, self._calls_left = self._calls_left, None
        self._before = self._files()
        try:
            store = self._wal(
                _DIRECTORY,
                "simulation",
                self._server,
                machine,
                members=self._members,
                segment_bytes=_SEGMENT_BYTES,
            )
            found = store.load()
        except PowerCut:
            machine.crash()
            raise StorageError("the power failed before the log was open") from None
        except StorageError as error:
            machine.kill()
            if self.harm is Harm.NONE and machine.refusals == refusals:
                raise Violation(
                    "26 an undamaged disk opens", f"S{self._server} refuses to start: {error}"
                ) from error
            raise
        machine.calls_left = None
        return store, found

    def _files(self) -> dict[Path, bytes]:
        return {path: self._machine.content(path) for path in self._machine.paths()}

    def power_loss(self, under_way: Save | None, store: LogStore | None) -> bool:
        """Cut the power somewhere in the middle of a save; tell whether it was done before."""
        done = False
        if under_way is not None and store is not None:
            self._machine.calls_left = self._random.randrange(4)
            try:
                under_way.to(store)
                done = True
            except PowerCut:
                pass
            except StorageError:
                pass
        self._machine.crash()
        return done

    def kill(self) -> None:
        """End the process: what it wrote is there."""
        self._machine.kill()

    def flip_bit(self, place: float) -> None:
        """Flip a bit of a file."""
        files = self._files()
        if not files:
            return
        path = self._random.choice(sorted(files))
        # Mostly where something is written.
        content = files[path]
        end = len(content.rstrip(b"\0")) if self._random.random() < 0.9 else len(content)
        self._machine.flip(path, int(place * end * 8))
        if self.harm is Harm.NONE:
            self.harm = Harm.NOTICED

    def spoil(self, how: str, place: float) -> bool:
        """Damage a file, if there is one with anything in it."""
        files = {path: content for path, content in self._files().items() if content}
        if not files:
            return False
        path = self._random.choice(sorted(files))
        content = files[path]
        at = int(place * len(content))
        start = at - at % SECTOR
        match how:
            case "truncate":
                spoilt = content[:at]
            case "bad-sector":
                length = len(content[start : start + SECTOR])
                new = self._random.choice((bytes(length), self._random.randbytes(length)))
                spoilt = content[:start] + new + content[start + length :]
            case "misdirected":
                other = files[self._random.choice(sorted(files))]
                src = self._random.randrange(0, len(other), SECTOR)
                spoilt = _over(content, start, other[src : src + SECTOR])
            case _:
                old = self._before.get(path, b"")[start : start + SECTOR]
                length = len(content[start : start + SECTOR])
                spoilt = _over(content, start, old.ljust(length, b"\0"))
        if spoilt == content:
            return False
        self._machine.put(path, spoilt)
        self.harm = Harm.UNNOTICED
        return True

    def copy(self) -> object:
        """Return all files."""
        return self._files()

    def replace(self, copy: object | None) -> None:
        """Put other files in place of these."""
        assert copy is None or isinstance(copy, dict)
        self._machine.replace_all(copy or {})

    def set_full(self, full: bool) -> None:
        """Leave no room for another byte, or all there is."""
        self._machine.capacity = 0 if full else None

    def fail_sync(self) -> None:
        """Let the next fsync fail."""
        self._machine.fail("sync")

    def fail_write(self) -> None:
        """Let the next write fail."""
        self._machine.fail("write_at")

    def fail_opening(self) -> None:
        """Let a file not be read, not be opened for want of a descriptor, or not be found."""
        call, error = self._random.choice(
            (("read", errno.EIO), ("open", errno.EMFILE), ("names", errno.EIO))
        )
        self._machine.fail(call, error)

    def cut_opening(self, calls: int) -> None:
        """Cut the power then."""
        self._calls_left = calls

    def limit_writes(self, longest: int | None) -> None:
        """Let writes be short."""
        self._machine.longest_write = longest


def _over(content: bytes, start: int, sector: bytes) -> bytes:
    return content[:start] + sector + content[start + len(sector) :]


class MemoryDisk:
    """A disk that is a ``MemoryStore``: a save is on it at once, or not at all."""

    def __init__(self) -> None:
        self.harm = Harm.NONE
        self._store = MemoryStore()
        self._full = self._fails = self._fails_to_open = False

    def open(self) -> tuple[LogStore, Recovered]:
        """Return the store, as it was left."""
        if self._fails_to_open:
            self._fails_to_open = False
            raise StorageError("input/output error")
        return _Checked(self, self._store), self._store.load()

    def kill(self) -> None:
        """Lose nothing."""

    def power_loss(self, under_way: Save | None, store: LogStore | None) -> bool:
        """Lose nothing: what was saved was synced."""
        return False

    def flip_bit(self, place: float) -> None:
        """Lose the entries from there on, and if it is early enough the snapshot, too."""
        found = self._store.load()
        hard_state = recovering.begin(found.hard_state)
        if found.snapshot is not None and place < 0.3:
            self._store = MemoryStore(hard_state)
        else:
            kept = found.entries[: int(place * len(found.entries))]
            self._store = MemoryStore(hard_state, kept, found.snapshot)
        self.harm = Harm.NOTICED

    def spoil(self, how: str, place: float) -> bool:
        """Do nothing: there are no sectors."""
        return False

    def copy(self) -> object:
        """Return what is stored."""
        return deepcopy(self._store)

    def replace(self, copy: object | None) -> None:
        """Put another store in place of this one."""
        assert copy is None or isinstance(copy, MemoryStore)
        self._store = copy or MemoryStore()

    def set_full(self, full: bool) -> None:
        """Let every save fail, or let them succeed again."""
        self._full = full

    def fail_sync(self) -> None:
        """Let the next save fail."""
        self._fails = True

    def fail_write(self) -> None:
        """Let the next save fail."""
        self._fails = True

    def fail_opening(self) -> None:
        """Let the next opening fail."""
        self._fails_to_open = True

    def cut_opening(self, calls: int) -> None:
        """Do nothing: to open it changes nothing."""

    def limit_writes(self, longest: int | None) -> None:
        """Do nothing: all is written at once."""

    def before_save(self) -> None:
        """Raise what the disk has in store."""
        if self._full:
            raise StorageError("no space left on the disk")
        if self._fails:
            self._fails = False
            raise StorageError("input/output error")


class _Checked:
    """A store on a disk that may refuse."""

    def __init__(self, disk: MemoryDisk, store: MemoryStore) -> None:
        self._disk = disk
        self._store = store

    def load(self) -> Recovered:
        """Return what is stored."""
        return self._store.load()

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Store it. Raises StorageError if the disk is full, or its fsync fails."""
        self._disk.before_save()
        self._store.save(hard_state, first_index, entries, snapshot)

    def close(self) -> None:
        """Let go of nothing."""
