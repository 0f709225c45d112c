"""Where simulated servers keep their state, and how it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, Index
from raft.storage.base import LogStore, Recovered, StorageError
from raft.storage.memory import MemoryStore
from raft.testing.sim.invariants import Save


class ServerDisk(Protocol):
    """The disk of one server. It outlives the server's crashes."""

    damaged: bool
    """What it holds can no longer be trusted."""

    def open(self) -> LogStore:
        """Return the store of a server that starts. Raises StorageError."""

    def power_loss(self, under_way: Save | None) -> None:
        """Lose what is not synced; of a save under way anything may be there."""

    def flip_bit(self, place: float) -> None:
        """Damage what is stored, at ``place`` from 0 (the beginning) to 1 (the end)."""

    def set_full(self, full: bool) -> None:
        """Let every write fail, or let writes succeed again."""

    def fail_sync(self) -> None:
        """Let the next fsync fail."""


class MemoryDisk:
    """A disk that is a ``MemoryStore``: a save is on it at once, or not at all."""

    def __init__(self) -> None:
        self._store = MemoryStore()
        self._full = self._fails = self.damaged = False

    def open(self) -> LogStore:
        """Return the store, as it was left."""
        if self.damaged:
            raise StorageError("the disk is damaged")
        return _Checked(self, self._store)

    def power_loss(self, under_way: Save | None) -> None:
        """Lose nothing: what was saved was synced."""

    def flip_bit(self, place: float) -> None:
        """Make the store unreadable."""
        self.damaged = True

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
