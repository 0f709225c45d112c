"""What the batches of a log come to, without looking at their entries before it is over.

Much of a log does not count any more: a snapshot stands for it, or another leader's entries
have replaced it. So a batch is only noted, and what is left of it in the end is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raft.core.log import HardState
from raft.core.messages import Index
from raft.storage.log_file import Batch, DamagedError, SnapshotMark


@dataclass(slots=True)
class Piece:
    """Entries ``first`` to ``last`` of the log, which a batch that began with ``origin`` holds."""

    first: int
    last: int
    origin: int
    batch: Batch
    data: bytes
    segment: int


class Replay:
    """The state of a log after the batches that were applied, one after the other."""

    def __init__(self, last_index: int = 0) -> None:
        """Begin behind ``last_index``: the entries up to there are not known."""
        self.hard_state: HardState | None = None
        self.snapshot: SnapshotMark | None = None
        self.last_index = last_index
        self.unknown = last_index
        """The entries up to here stand in segments that are gone."""
        self.lowest = last_index + 1
        """The lowest index that a batch of the latest segment touched."""
        self._segment = 0
        self._data = b""
        self._pieces: list[Piece] = []

    @property
    def first_index(self) -> Index:
        """The index of the first entry that no snapshot stands for."""
        return Index(self.snapshot.index + 1 if self.snapshot else 1)

    def begin_segment(self, sequence: int, data: bytes) -> None:
        """Let the batches that follow be those of another segment."""
        self._segment, self._data = sequence, data
        self.lowest = self.last_index + 1

    def apply(self, batch: Batch) -> None:
        """Let a batch take effect. Raises DamagedError if it makes no sense behind the others."""
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        if batch.snapshot is not None:
            self._stand_for(batch, batch.snapshot)
        if batch.first_index:
            self._put(batch, batch.first_index)

    def _stand_for(self, batch: Batch, snapshot: SnapshotMark) -> None:
        if self.snapshot is not None and snapshot.index < self.snapshot.index:
            raise DamagedError(
                batch.position,
                f"a snapshot up to {snapshot.index} follows one up to {self.snapshot.index}",
            )
        self.snapshot = snapshot
        if snapshot.index > self.last_index:
            self._pieces.clear()
            self.last_index = snapshot.index

    def _put(self, batch: Batch, first: int) -> None:
        before = first - 1
        if not (self.snapshot.index if self.snapshot else 0) <= before <= self.last_index:
            what = f"entry {first} cannot follow entry {self.last_index}"
            raise DamagedError(batch.position, what)
        pieces = self._pieces
        while pieces and pieces[-1].first > before:
            pieces.pop()
        if pieces and pieces[-1].last > before:
            pieces[-1].last = before
        if before < self.unknown:
            self.unknown = before
        if first < self.lowest:
            self.lowest = first
        self.last_index = before + batch.entry_count
        if batch.entry_count:
            pieces.append(Piece(first, self.last_index, first, batch, self._data, self._segment))

    # --- What is left ----------------------------------------------------------------------------

    def pieces(self) -> Iterator[tuple[int, Piece]]:
        """Yield the pieces behind the snapshot, and with each the index from which on it counts."""
        first_index = self.first_index
        for piece in self._pieces:
            if piece.last >= first_index:
                yield max(piece.first, first_index), piece

    def forget(self) -> None:
        """Let there be no entries and no snapshot: what they rest on cannot be read."""
        self.snapshot = None
        self._pieces.clear()
        self.last_index = self.unknown = 0
