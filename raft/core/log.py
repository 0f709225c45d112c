"""The replicated log as the core sees it (§5.3).

Indexes start at 1; index 0 is the place before the first entry and has term 0. The whole log
is in memory here; a store keeps the durable copy (``raft.storage``).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raft.core.membership import Configuration
from raft.core.messages import Entry, Index, ServerId, Term
from raft.core.value import value

ENTRY_OVERHEAD = 32
"""Bytes that an entry takes beside its data, about."""


class InvariantViolation(Exception):  # noqa: N818 - it is no error of the caller's
    """The core is in a state that Raft proves impossible. Stop, and read the dump."""


@value
class HardState:
    """currentTerm and votedFor: one value, because they must reach the disk as one (§5.2).

    ``recovering`` is 0 but for a server that lost entries of its log (``raft.core.recovering``).
    """

    term: Term = Term(0)
    voted_for: ServerId | None = None
    recovering: Term = Term(0)


@value
class LogSlice:
    """Entries that follow directly on ``prev_index``, whose term is ``prev_term``.

    Its invariants: there are no gaps (an entry's place is its index), and terms never fall
    from one entry to the next, ``prev_term`` included (§5.3).
    """

    prev_index: Index
    prev_term: Term
    entries: tuple[Entry, ...]

    @property
    def last_index(self) -> Index:
        """Index of the last entry, or ``prev_index`` when there is none."""
        return Index(self.prev_index + len(self.entries))

    def fault(self, leader_term: Term) -> str | None:
        """Say which invariant is broken, or return None; no leader may send such a slice."""
        term = self.prev_term
        if (self.prev_index == 0) != (self.prev_term == 0):
            return f"entry {self.prev_index} cannot have term {self.prev_term}"
        for offset, entry in enumerate(self.entries):
            if entry.term < term:
                index = self.prev_index + 1 + offset
                return f"terms fall from {term} to {entry.term} at index {index}"
            term = entry.term
        if term > leader_term:
            return f"an entry of term {term} is newer than its leader's term {leader_term}"
        return None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state machine after ``index``, in place of all entries up to there (§7)."""

    index: Index
    term: Term
    configuration: Configuration
    data: bytes
    configuration_index: Index = Index(0)
    """The index of the entry that ``configuration`` stands in; 0: it is that of the beginning."""

    @property
    def checksum(self) -> int:
        """CRC-32 of the data."""
        return zlib.crc32(self.data)


def size_of(entries: Iterable[Entry]) -> int:
    """Return about how many bytes these entries take, an empty one some too."""
    return sum(len(entry.data) + ENTRY_OVERHEAD for entry in entries)


class Log:
    """The entries of one server behind its snapshot.

    ``prev_index`` and ``prev_term`` are those of the last entry that was compacted away (0 if
    none was). What lies before is committed, so it is equal on all servers (§7).
    """

    __slots__ = ("_entries", "last_index", "prev_index", "prev_term")

    def __init__(
        self,
        entries: Iterable[Entry] = (),
        prev_index: Index = Index(0),
        prev_term: Term = Term(0),
    ) -> None:
        self._entries = list(entries)
        self.prev_index = prev_index
        self.prev_term = prev_term
        self.last_index = Index(prev_index + len(self._entries))
        """Index of the last entry; ``prev_index`` when there is none. Kept, as it is asked most."""

    @property
    def first_index(self) -> Index:
        """Index of the first entry that is still there, or would be."""
        return Index(self.prev_index + 1)

    @property
    def last_term(self) -> Term:
        """Term of the last entry; 0 for an empty log."""
        return self._entries[-1].term if self._entries else self.prev_term

    def term_at(self, index: int) -> Term | None:
        """Return the term of the entry at ``index`` (0 at index 0), None if it is not there."""
        if index == self.prev_index:
            return self.prev_term
        if self.prev_index < index <= self.last_index:
            return self._entries[index - self.prev_index - 1].term
        return None

    def entry(self, index: int) -> Entry:
        """Return the entry at ``index``. Raises IndexError if it is not there."""
        if not self.prev_index < index <= self.last_index:
            raise IndexError(
                f"no entry at index {index}: the log has {self.first_index} to {self.last_index}"
            )
        return self._entries[index - self.prev_index - 1]

    def entries(self, first: int, last: int) -> tuple[Entry, ...]:
        """Return the entries from ``first`` to ``last``, both included, as far as they exist."""
        if first > last:
            return ()
        offset = self.prev_index + 1
        return tuple(self._entries[max(0, first - offset) : max(0, last - offset + 1)])

    def batch(self, first: Index, limit: int) -> tuple[tuple[Entry, ...], int]:
        """Return the entries from ``first`` on that fit in ``limit`` bytes, and their bytes.

        But one at least: an entry that is larger than the limit must get to the others too.
        """
        start = end = first - self.prev_index - 1
        size = 0
        while end < len(self._entries):
            more = len(self._entries[end].data) + ENTRY_OVERHEAD
            if size + more > limit and end > start:
                break
            size += more
            end += 1
        return tuple(self._entries[start:end]), size

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end."""
        self._entries.extend(entries)
        self.last_index = Index(self.last_index + len(entries))

    def truncate(self, from_index: int) -> None:
        """Remove the entry at ``from_index`` and all that follow it."""
        del self._entries[from_index - self.prev_index - 1 :]
        self.last_index = Index(self.prev_index + len(self._entries))

    def compact(self, index: Index) -> None:
        """Forget the entries up to ``index``, which must be there."""
        term = self.term_at(index)
        assert term is not None
        del self._entries[: index - self.prev_index]
        self.prev_index, self.prev_term = index, term

    def restart(self, prev_index: Index, prev_term: Term) -> None:
        """Forget all entries; the next one follows on ``prev_index``."""
        self._entries.clear()
        self.prev_index, self.prev_term = prev_index, prev_term
        self.last_index = prev_index

    def first_index_of_term_at(self, index: int) -> Index:
        """Return the first index of the run of equal terms that ``index`` belongs to."""
        term = self.term_at(index)
        while index > self.first_index and self.term_at(index - 1) == term:
            index -= 1
        return Index(index)

    def last_index_of_term(self, term: Term, not_after: int) -> Index | None:
        """Return the last index ≤ ``not_after`` with an entry of ``term``, None if there is none.

        Terms never fall along a log, so the search ends where they get smaller.
        """
        for index in range(min(not_after, self.last_index), max(0, self.prev_index - 1), -1):
            found = self.term_at(index)
            if found == term:
                return Index(index)
            if found is None or found < term:
                return None
        return None
