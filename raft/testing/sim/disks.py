"""Where simulated servers keep their state, and how it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from raft.core import recovering
from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, Index, ServerId
from raft.storage.base import LogStore, Recovered, StorageError
from raft.storage.memory import MemoryStore
from raft.storage.wal import Wal
from raft.testing.disk import PowerCut, SimulatedDisk
from raft.testing.sim.invariants import Save

_DIRECTORY = Path("/simulation")

_SEGMENT_BYTES = 2048
"""Small, so that a run fills many segments."""


class ServerDisk(Protocol):
    """The disk of one server. It outlives the server's crashes."""

    def open(self) -> LogStore:
        """Return the store of a server that starts. Raises StorageError."""

    def kill(self) -> None:
        """End the process that uses the disk."""

    def power_loss(self, under_way: Save | None, store: LogStore | None) -> bool:
        """Lose what is not synced, in the middle of a save; tell whether that was done before."""

    def flip_bit(self, place: float) -> None:
        """Damage what is stored, at ``place`` from 0 (the beginning) to 1 (the end).

        The next ``load`` begins to recover from it, or raises StorageDamaged.
        """

    def set_full(self, full: bool) -> None:
        """Let every write fail, or let writes succeed again."""

    def fail_sync(self) -> None:
        """Let the next fsync fail."""


class WalDisk:
    """A disk as ``raft serve`` uses it: a ``Wal``, on a machine whose power can be cut."""

    def __init__(
        self,
        server: ServerId,
        random: Random,
        members: tuple[ServerId, ...] = (),
        store: type[Wal] = Wal,
    ) -> None:
        self._members = members
        self._wal = store
        self._server = server
        self._random = random
        self._machine = SimulatedDisk(random)

    def open(self) -> LogStore:
        """Return the log, to be loaded."""
        return self._wal(
            _DIRECTORY,
            "simulation",
            self._server,
            self._machine,
            members=self._members,
            segment_bytes=_SEGMENT_BYTES,
        )

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
        path = self._random.choice(self._machine.paths())
        content = self._machine.content(path)
        # Mostly where something is written.
        end = len(content.rstrip(b"\0")) if self._random.random() < 0.9 else len(content)
        self._machine.flip(path, int(place * end * 8))

    def set_full(self, full: bool) -> None:
        """Leave no room for another byte, or all there is."""
        self._machine.capacity = 0 if full else None

    def fail_sync(self) -> None:
        """Let the next fsync fail."""
        self._machine.fail("sync")


class MemoryDisk:
    """A disk that is a ``MemoryStore``: a save is on it at once, or not at all."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._full = self._fails = False

    def open(self) -> LogStore:
        """Return the store, as it was left."""
        return _Checked(self, self._store)

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

    def set_full(self, full: bool) -> None:
        """Let every save fail, or let them succeed again."""
        self._full = full

    def fail_sync(self) -> None:
        """Let the next save fail."""
        self._fails = True

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
