"""What Raft promises (Figure 3), judged from the stream as it happens.

Every log prefix gets a number of its own, the same for every server that has it, however it
came to it. Then each property is a comparison of numbers, whatever the length of the logs::

    S1   x=1 ── y=2 ── z=3        prefixes 1 2 3
    S2   x=1 ── y=2               prefixes 1 2
    S3   x=1 ── q=7 ── z=3        prefixes 1 4 5: at index 3 it has the same entry, not the same log
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from raft.core import events as core
from raft.core.messages import Entry, Index, ServerId, Term
from raft.frames import ServerState
from raft.printable import printable
from raftviz.model.events import Event
from raftviz.model.machine import command_text
from raftviz.model.view import ClusterView

SHORT = 24


class Property(enum.Enum):
    """The five properties of Figure 3, by their names there."""

    ELECTION_SAFETY = "Election Safety"
    """At most one leader is elected in a term (§5.2)."""
    LEADER_APPEND_ONLY = "Leader Append-Only"
    """A leader never overwrites or removes entries of its log (§5.3)."""
    LOG_MATCHING = "Log Matching"
    """Two logs with the same term at an index are equal up to there (§5.3)."""
    LEADER_COMPLETENESS = "Leader Completeness"
    """An entry committed in a term is in the logs of the leaders of all later terms (§5.4)."""
    STATE_MACHINE_SAFETY = "State Machine Safety"
    """No two servers apply different entries at the same index (§5.4.3)."""

    @property
    def word(self) -> str:
        """The property in one word, for a narrow place."""
        return _WORDS[self]


_WORDS = {
    Property.ELECTION_SAFETY: "election",
    Property.LEADER_APPEND_ONLY: "append-only",
    Property.LOG_MATCHING: "matching",
    Property.LEADER_COMPLETENESS: "completeness",
    Property.STATE_MACHINE_SAFETY: "machine",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """A property that does not hold: since when, between whom, and at which entry (0: none)."""

    property: Property
    time: float
    """Virtual seconds."""
    servers: tuple[ServerId, ...]
    index: Index
    text: str
    """In plain words, safe to show."""


Prefix = int
"""The number of a log prefix; 0 is the empty log's."""


@dataclass(slots=True)
class _Prefixes:
    """Numbers every log prefix that was ever seen."""

    numbers: dict[tuple[Prefix, Entry], Prefix] = field(default_factory=dict)
    last: list[tuple[Prefix, Entry | None, Index]] = field(
        default_factory=lambda: [(0, None, Index(0))]
    )
    """Of each prefix: the one before it, its last entry, and that entry's index."""

    def longer(self, prefix: Prefix, entry: Entry) -> Prefix:
        """Return the number of ``prefix`` with ``entry`` behind it."""
        number = self.numbers.setdefault((prefix, entry), len(self.last))
        if number == len(self.last):
            self.last.append((prefix, entry, Index(self.index(prefix) + 1)))
        return number

    def index(self, prefix: Prefix) -> Index:
        """Return the length of a prefix."""
        return self.last[prefix][2]

    def begins_with(self, prefix: Prefix, beginning: Prefix) -> bool:
        """Tell whether the shorter log is the beginning of the longer one."""
        length = self.index(beginning)
        while self.index(prefix) > length:
            prefix = self.last[prefix][0]
        return prefix == beginning

    def all_up_to(self, prefix: Prefix) -> list[Prefix]:
        """Return the prefixes of a prefix, itself included, shortest first."""
        found = []
        while prefix:
            found.append(prefix)
            prefix = self.last[prefix][0]
        return found[::-1]

    def same_entry(self, one: Prefix, other: Prefix) -> bool:
        """Tell whether two prefixes end with the same entry."""
        return one == other or self.last[one][1] == self.last[other][1]

    def entry(self, prefix: Prefix) -> str:
        """Return the last entry of a prefix as ``4/3 x=9``."""
        _, entry, index = self.last[prefix]
        return (
            f"{index}/{entry.term} {printable(command_text(entry), SHORT)}" if entry else "nothing"
        )


class Invariants:
    """Judges the stream of one laboratory. Of each property it reports the first violation."""

    def __init__(self) -> None:
        self.broken: dict[Property, Violation] = {}
        self._prefixes = _Prefixes()
        self._logs: dict[ServerId, list[Prefix]] = {}
        """Of each server, the prefix that ends at each index."""
        self._unknown: set[ServerId] = set()
        """Servers whose snapshot stands for entries that nobody told: nothing can be said."""
        self._leading: dict[ServerId, Term] = {}
        self._elected: dict[Term, tuple[ServerId, Prefix | None]] = {}
        """Who won each term, and its log then (None: not known)."""
        self._first_with: dict[tuple[Index, Term], tuple[ServerId, Prefix]] = {}
        """Who first had an entry of this term at this index, and the log up to there."""
        self._committed: dict[Term, tuple[ServerId, Prefix]] = {}
        """The longest log that a server in this term knew to be committed."""
        self._applied: list[tuple[ServerId, Prefix]] = []
        """Who first applied an entry at each index, and the log up to there."""
        self._last_applied: dict[ServerId, Index] = {}
        self._found: list[Violation] = []
        self._time = 0.0

    @property
    def status(self) -> dict[Property, Violation | None]:
        """Return the verdict on each property: None as long as it holds."""
        return {property_: self.broken.get(property_) for property_ in Property}

    def apply(self, event: Event, view: ClusterView) -> list[Violation]:
        """Judge the next event; ``view`` is the cluster just before or just after it."""
        self._time = event.virtual_time
        source = event.source
        match event.what:
            case core.EntriesAppended(first_index, entries):
                self._append(source, first_index, entries)
            case core.EntriesTruncated(from_index):
                self._truncate(source, from_index)
            case core.CommitAdvanced(index) if source in view.servers:
                self._commit(source, view.servers[source].term, index)
            case core.Applied(index):
                self._apply_to(source, index)
            case core.SnapshotInstalled(index, term, retained) if source in view.servers:
                if not retained:
                    self._begin_behind(source, index, term)
                self._commit(source, view.servers[source].term, index)
            case core.RoleChanged(role, term):
                self._take_role(source, role, term)
            case ServerState() as state:
                self._take_state(source, state)
        found, self._found = self._found, []
        return found

    def _take_state(self, server: ServerId, state: ServerState) -> None:
        """Take a whole state: a new process begins with one, and one follows what was lost."""
        before = self._tip(server)
        self._begin_behind(server, Index(state.first_index - 1), state.snapshot_term)
        self._append(server, state.first_index, state.entries)
        leads_on = state.role is core.Role.LEADER and self._leading.get(server) == state.term
        known = server not in self._unknown
        if known and leads_on and not self._prefixes.begins_with(self._tip(server), before):
            self._leader_changed_its_log(server, before)
        self._take_role(server, state.role, state.term)
        self._commit(server, state.term, state.commit_index)
        self._last_applied[server] = Index(0)
        self._apply_to(server, state.last_applied)

    def _begin_behind(self, server: ServerId, index: Index, term: Term) -> None:
        """Let a log follow on the entry at ``index``, which a snapshot stands for (0: on nothing).

        Whoever told of an entry with this index and term told all that leads up to it.
        """
        _, prefix = self._first_with.get((index, term), (server, 0))
        self._logs[server] = self._prefixes.all_up_to(prefix)
        self._unknown.discard(server)
        if index and not prefix:
            self._unknown.add(server)

    # --- Election Safety, Leader Completeness ------------------------------------------------

    def _take_role(self, server: ServerId, role: core.Role, term: Term) -> None:
        if role is not core.Role.LEADER:
            self._leading.pop(server, None)
            return
        self._leading[server] = term
        log = None if server in self._unknown else self._tip(server)
        winner, _ = self._elected.setdefault(term, (server, log))
        if winner != server:
            text = f"S{winner} and S{server} both lead term {term}"
            self._violated(Property.ELECTION_SAFETY, (winner, server), Index(0), text)
        if earlier := [known for known in self._committed if known < term]:
            longest = max(
                earlier, key=lambda known: self._prefixes.index(self._committed[known][1])
            )
            self._complete(term, longest)

    def _commit(self, server: ServerId, term: Term, index: Index) -> None:
        """Note that a server in ``term`` knows its log to be committed up to ``index``.

        It was committed by the leader of that term or of an earlier one (§5.4.2), so every
        later leader must have it: also one that had won by the time we hear of this.
        """
        committed = self._tip(server, index)
        _, longest = self._committed.get(term, (server, 0))
        if self._prefixes.index(committed) <= self._prefixes.index(longest):
            return
        self._committed[term] = (server, committed)
        for later in self._elected:
            if later > term:
                self._complete(later, term)

    def _complete(self, term: Term, earlier: Term) -> None:
        """Check that the leader of ``term`` began with all that was committed in ``earlier``."""
        leader, log = self._elected[term]
        knower, committed = self._committed[earlier]
        index = self._prefixes.index(committed)
        if log is None or self._prefixes.begins_with(log, committed):
            return
        text = (
            f"S{leader} leads term {term} without the entry {self._prefixes.entry(committed)}, "
            f"which S{knower} knew to be committed in term {earlier}"
        )
        self._violated(Property.LEADER_COMPLETENESS, (leader, knower), index, text)

    # --- Leader Append-Only, Log Matching ------------------------------------------------------

    def _append(self, server: ServerId, first_index: Index, entries: Sequence[Entry]) -> None:
        log = self._log(server)
        if server in self._unknown or first_index > len(log) + 1:
            return  # a hole: what was there was lost on the way, and a whole state is due
        if first_index <= len(log):
            self._truncate(server, first_index)
        prefix = self._tip(server)
        for entry in entries:
            prefix = self._prefixes.longer(prefix, entry)
            log.append(prefix)
            self._match(server, Index(len(log)), entry, prefix)

    def _match(self, server: ServerId, index: Index, entry: Entry, prefix: Prefix) -> None:
        first, known = self._first_with.setdefault((index, entry.term), (server, prefix))
        if known != prefix:
            text = (
                f"the logs of S{first} and S{server} both have an entry of term {entry.term} "
                f"at index {index}, and differ up to there"
            )
            self._violated(Property.LOG_MATCHING, (first, server), index, text)

    def _truncate(self, server: ServerId, from_index: Index) -> None:
        log = self._log(server)
        if server in self._leading and from_index <= len(log):
            self._leader_changed_its_log(server, log[from_index - 1])
        del log[from_index - 1 :]

    def _leader_changed_its_log(self, server: ServerId, lost: Prefix) -> None:
        term = self._leading[server]
        entry = self._prefixes.entry(lost)
        text = f"S{server} leads term {term} and no longer has its own entry {entry}"
        index = self._prefixes.index(lost)
        self._violated(Property.LEADER_APPEND_ONLY, (server,), index, text)

    # --- State Machine Safety ----------------------------------------------------------------

    def _apply_to(self, server: ServerId, last: Index) -> None:
        log = self._log(server)
        first = self._last_applied.get(server, 0) + 1
        self._last_applied[server] = last
        for index in range(first, min(last, len(log)) + 1):
            if index > len(self._applied):
                self._applied.append((server, log[index - 1]))
            other, applied = self._applied[index - 1]
            if not self._prefixes.same_entry(applied, log[index - 1]):
                text = (
                    f"S{other} applied {self._prefixes.entry(applied)}, "
                    f"S{server} applied {self._prefixes.entry(log[index - 1])}"
                )
                servers = (other, server)
                self._violated(Property.STATE_MACHINE_SAFETY, servers, Index(index), text)

    # --- What all of them use ------------------------------------------------------------------

    def _log(self, server: ServerId) -> list[Prefix]:
        return self._logs.setdefault(server, [])

    def _tip(self, server: ServerId, index: int | None = None) -> Prefix:
        """Return the log of a server, all of it or (if it is that long) up to ``index``."""
        log = self._log(server)
        length = len(log) if index is None else min(index, len(log))
        return log[length - 1] if length else 0

    def _violated(
        self, property_: Property, servers: tuple[ServerId, ...], index: Index, text: str
    ) -> None:
        if property_ not in self.broken:
            violation = Violation(property_, self._time, servers, index, text)
            self.broken[property_] = violation
            self._found.append(violation)
