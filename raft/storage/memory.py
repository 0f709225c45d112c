"""A store that forgets when its process ends: for tests, simulations and examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raft.core.log import HardState, InvariantViolation
from raft.core.messages import Entry, Index
from raft.storage.base import Recovered


class MemoryStore:
    """A ``LogStore`` in memory. Load it again after ``close`` to play a restart."""

    def __init__(self, hard_state: HardState | None = None, entries: Iterable[Entry] = ()) -> None:
        self._hard_state = hard_state or HardState()
        self._entries = list(entries)

    def load(self) -> Recovered:
        """Return what is stored."""
        return Recovered(self._hard_state, tuple(self._entries))

    def save(
        self, hard_state: HardState | None, first_index: Index, entries: Sequence[Entry]
    ) -> None:
        """Store it, as ``LogStore.save`` says."""
        if entries:
            if not 1 <= first_index <= len(self._entries) + 1:
                raise InvariantViolation(
                    f"entry {first_index} cannot follow entry {len(self._entries)}"
                )
            self._entries[first_index - 1 :] = entries
        if hard_state is not None:
            self._hard_state = hard_state

    def close(self) -> None:
        """Nothing to let go of."""
