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
        """Store it, as ``LogStore.save`` says.

        Raises InvariantViolation, and changes nothing, if entries would leave a gap or a
        snapshot is not newer than the stored one.
        """
        before = self._snapshot.index if self._snapshot else 0
        kept = self._entries
        if snapshot is not None:
            if snapshot.index <= before:
                raise InvariantViolation(
                    f"a snapshot up to {snapshot.index} cannot replace the one up to {before}"
                )
            kept = kept[snapshot.index - before :]
            before = snapshot.index
        if first_index or entries:
            keep = first_index - 1 - before
            if not 0 <= keep <= len(kept):
                raise InvariantViolation(
                    f"entry {first_index} cannot follow entry {before + len(kept)}"
                )
            kept[keep:] = entries
        self._entries = kept
        self._snapshot = snapshot or self._snapshot
        self._hard_state = hard_state or self._hard_state

    def close(self) -> None:
        """Nothing to let go of."""
