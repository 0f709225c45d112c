"""The replicated log as the core sees it (§5.3).

Indexes start at 1; index 0 is the place before the first entry and has term 0. The whole log
is in memory here; a store keeps the durable copy (``raft.storage``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from raft.core.messages import Entry, Index, ServerId, Term


class InvariantViolation(Exception):  # noqa: N818 - it is no error of the caller's
    """The core is in a state that Raft proves impossible. Stop, and read the dump."""


@dataclass(frozen=True, slots=True)
class HardState:
    """currentTerm and votedFor: one value, because they must reach the disk as one (§5.2)."""

    term: Term = Term(0)
    voted_for: ServerId | None = None


@dataclass(frozen=True, slots=True)
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


class Log:
    """All entries of one server, in memory."""

    __slots__ = ("_entries",)

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = list(entries)

    @property
    def last_index(self) -> Index:
        """Index of the last entry; 0 for an empty log."""
        return Index(len(self._entries))

    @property
    def last_term(self) -> Term:
        """Term of the last entry; 0 for an empty log."""
        return self._entries[-1].term if self._entries else Term(0)

    def term_at(self, index: int) -> Term | None:
        """Return the term of the entry at ``index`` (0 at index 0), None if there is none."""
        if index == 0:
            return Term(0)
        if 0 < index <= len(self._entries):
            return self._entries[index - 1].term
        return None

    def entry(self, index: int) -> Entry:
        """Return the entry at ``index``. Raises IndexError if there is none."""
        if not 0 < index <= len(self._entries):
            raise IndexError(f"no entry at index {index}: the log has 1 to {self.last_index}")
        return self._entries[index - 1]

    def entries(self, first: int, last: int) -> tuple[Entry, ...]:
        """Return the entries from ``first`` to ``last``, both included, as far as they exist."""
        return tuple(self._entries[first - 1 : last])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end."""
        self._entries.extend(entries)

    def truncate(self, from_index: int) -> None:
        """Remove the entry at ``from_index`` and all that follow it."""
        del self._entries[from_index - 1 :]

    def first_index_of_term_at(self, index: int) -> Index:
        """Return the first index of the run of equal terms that ``index`` belongs to."""
        term = self._entries[index - 1].term
        while index > 1 and self._entries[index - 2].term == term:
            index -= 1
        return Index(index)

    def last_index_of_term(self, term: Term, not_after: int) -> Index | None:
        """Return the last index ≤ ``not_after`` with an entry of ``term``, None if there is none.

        Terms never fall along a log, so the search ends where they get smaller.
        """
        for index in range(min(not_after, len(self._entries)), 0, -1):
            found = self._entries[index - 1].term
            if found == term:
                return Index(index)
            if found < term:
                return None
        return None
