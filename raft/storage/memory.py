"""A store that forgets when its process ends: for tests, simulations and examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raft.core.log import HardState, InvariantViolation, Snapshot
from raft.core.messages import Entry, Index
from raft.storage.base import Recovered


class MemoryStore:
    """A ``LogStore`` in memory. Load it again after ``close`` to play a restart."""

    def __init__(
        self,
        hard_state: HardState | None = None,
        entries: Iterable[Entry] = (),
        snapshot: Snapshot | None = None,
    ) -> None:
        self._hard_state = hard_state or HardState()
        self._snapshot = snapshot
        self._entries = list(entries)

    def load(self) -> Recovered:
        """Return what is stored."""
        return Recovered(self._hard_state, tuple(self._entries), self._snapshot)

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Store it, as ``LogStore.save`` says."""
        if snapshot is not None:
            del self._entries[: max(0, snapshot.index - self._before)]
            self._snapshot = snapshot
        if first_index or entries:
            keep = first_index - 1 - self._before
            if not 0 <= keep <= len(self._entries):
                raise InvariantViolation(
                    f"entry {first_index} cannot follow entry {self._before + len(self._entries)}"
                )
            self._entries[keep:] = entries
        if hard_state is not None:
            self._hard_state = hard_state

    def close(self) -> None:
        """Nothing to let go of."""

    @property
    def _before(self) -> int:
        """The index of the last entry that the snapshot stands for."""
        return self._snapshot.index if self._snapshot else 0
