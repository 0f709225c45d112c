"""Names for logs: a number stands for an entry *and all that lie before it*.

Two logs are equal up to an index if they have the same number there, so the promises about
whole logs (Log Matching, Leader Completeness, State Machine Safety) cost one comparison each.
The numbers are exact, not hashes: equal prefixes are looked up, never compared by chance.
"""

from __future__ import annotations

from raft.core.messages import Entry, Index, Term

Prefix = int
"""Names a log from its beginning to one of its entries; 0 names the empty one."""

EMPTY: Prefix = 0


class Chains:
    """All the logs that any server of a run has had."""

    __slots__ = ("_numbers", "entries", "terms")

    def __init__(self) -> None:
        self._numbers: dict[tuple[Prefix, int, int, bytes], Prefix] = {}
        self.terms: list[Term] = [Term(0)]
        """The term of the last entry, by prefix."""
        self.entries: list[Entry] = [Entry(Term(0))]
        """The last entry, by prefix."""

    def extend(self, prefix: Prefix, entry: Entry) -> Prefix:
        """Return the name of ``prefix`` with one entry more."""
        key = (prefix, entry.term, int(entry.kind), entry.data)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.terms)
            self.terms.append(entry.term)
            self.entries.append(entry)
        return number

    def shown(self, index: int, prefix: Prefix) -> str:
        """Return the last entry of a prefix, for a person: ``7/3 b'x 1'``."""
        entry = self.entries[prefix]
        place = f"{Index(index)}/{entry.term}"
        return f"{place} {entry.data!r}" if entry.data else place
