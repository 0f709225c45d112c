"""What Raft promises, checked as it happens, over all servers and across crashes.

:class:`Safety` knows the promises themselves: the five properties of Figure 3, that what is
committed is stored by a majority, that reads are linearizable, that a snapshot equals what it
stands for. :class:`Strict` also knows the lemmas: what each server must do at every step so
that the promises can hold. A broken rule breaks a lemma first and a promise later, if at all;
who wants to see the promise fall judges by :class:`Safety` alone.

Whoever runs the servers reports, in the order in which things happen::

    started(core, disk)                 a server starts from its disk
    happened(core, events, disks)       what core.take_events() returned
    said(core, message, disk)           a message leaves
    applied(server, first, entries)     committed entries go to a state machine
    restored(server, index)             a state machine starts anew from a snapshot
    state(server, index, state)         a state machine after ``index``, as its snapshot tells it
    pre_voted(core, before)             a RequestPreVote was taken in
    read_asked(context)                 a read begins
    read_answered(server, read, applied)    and may be answered
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache

from raft.core import recovering
from raft.core.core import Core, Ready
from raft.core.events import (
    CommitAdvanced,
    ConfigurationChanged,
    CoreEvent,
    EntriesAppended,
    EntriesTruncated,
    LogCompacted,
    ProgressChanged,
    Role,
    RoleChanged,
    SnapshotInstalled,
    TermChanged,
    VoteCast,
)
from raft.core.log import HardState, Log, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    RequestPreVote,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
)
from raft.core.quorum import majority
from raft.core.readonly import ReadState


class SafetyViolation(Exception):  # noqa: N818 - the cluster is wrong, not the caller
    """The servers did, between them, what Raft promises never happens."""


class NoProgress(Exception):  # noqa: N818 - the cluster is stuck, not the caller
    """Nothing is broken any more, and still the cluster elects nobody or commits nothing."""


class Disk:
    """What one server would find after a crash (Figure 2, persistent state)."""

    def __init__(
        self,
        hard_state: HardState | None = None,
        entries: Iterable[Entry] = (),
        snapshot: Snapshot | None = None,
    ) -> None:
        self.hard_state = hard_state or HardState()
        self.snapshot = snapshot
        self.log = Log(entries) if snapshot is None else Log(entries, snapshot.index, snapshot.term)
        self._lost = Log()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries behind the snapshot."""
        return self.log.entries(self.log.first_index, self.log.last_index)

    def save(self, ready: Ready) -> None:
        """Store what a Ready asks for, in one step."""
        self.hard_state = ready.hard_state or self.hard_state
        if ready.snapshot is not None:
            self.snapshot = ready.snapshot
            index, term = ready.snapshot.index, ready.snapshot.term
            behind = self.log.entries(index + 1, self.log.last_index)
            self.log.restart(index, term)
            self.log.append(behind)
        if ready.first_index:
            self.log.truncate(ready.first_index)
            self.log.append(ready.entries)

    def lose(self, from_index: Index) -> None:
        """Become unreadable from ``from_index`` on; the server begins to recover."""
        lost = self.log.entries(self.log.first_index, self.log.last_index)
        self._lost = Log(lost, self.log.prev_index, self.log.prev_term)
        self.log.truncate(from_index)
        self.hard_state = recovering.begin(self.hard_state)

    def holds(self, index: Index, entry: Entry) -> bool:
        """Tell whether ``entry`` is stored at ``index``, or a snapshot that stands for it.

        What a server lost counts until it has recovered: no leader is elected by its vote.
        """
        logs = (self.log, self._lost) if self.hard_state.recovering else (self.log,)
        return any(
            index <= log.prev_index or (index <= log.last_index and log.entry(index) == entry)
            for log in logs
        )


@cache
def majorities_overlap(one: Configuration, other: Configuration) -> bool:
    """Tell whether every majority of one configuration shares a server with every one of the other.

    By trying all sets of servers: no cleverness that could be wrong in the same way as Raft's.
    """
    servers = sorted({*one.members, *other.members})
    for chosen in range(1 << len(servers)):
        agreeing = {server for bit, server in enumerate(servers) if chosen >> bit & 1}
        if one.is_quorum(agreeing, majority):
            others = set(servers) - agreeing
            if other.is_quorum(others, majority):
                return False
    return True


@dataclass(slots=True)
class _Facts:
    """What one server has told of itself since it started."""

    role: Role
    term: Term
    commit_index: Index
    applied: Index
    configuration: Configuration
    configuration_index: Index


@dataclass(slots=True)
class _Committed:
    """What is committed: facts about the whole cluster, each stated once."""

    first: Configuration
    entries: list[tuple[Entry, Term]] = field(default_factory=list)
    """By index, from 1, with the term in which each was committed."""
    configurations: list[tuple[Index, Configuration]] = field(default_factory=list)
    states: dict[Index, bytes] = field(default_factory=dict)

    def add(self, entry: Entry, term: Term) -> None:
        self.entries.append((entry, term))
        if entry.kind is EntryKind.CONFIGURATION:
            index = Index(len(self.entries))
            self.configurations.append((index, Configuration.decode(entry.data)))

    def term_at(self, index: int) -> Term | None:
        return self.entries[index - 1][0].term if 0 < index <= len(self.entries) else None

    def configuration_at(self, index: Index) -> Configuration:
        """Return the configuration that the committed entries up to ``index`` leave in force."""
        for placed, configuration in reversed(self.configurations):
            if placed <= index:
                return configuration
        return self.first


class Safety:
    """The promises; what breaks one raises :class:`SafetyViolation`.

    Each is kept as a fact that may be stated once: who leads a term, who has a server's vote in
    a term, which entry an index and a term name, what is committed at an index, what a state
    machine is after it. A second, different statement breaks it.

    ``first`` is the configuration of the cluster at its beginning.
    """

    def __init__(self, first: Configuration) -> None:
        self._committed = _Committed(first)
        self._servers: dict[ServerId, _Facts] = {}
        self._leader: dict[Term, ServerId] = {}
        self._votes: dict[Term, dict[ServerId, ServerId]] = {}
        self._entry: dict[tuple[Index, Term], tuple[Term, Entry]] = {}
        self._read_floor: dict[int, Index] = {}
        self.reads_answered = 0

    @property
    def committed(self) -> tuple[Entry, ...]:
        """The entries that some server has committed; the first has index 1."""
        return tuple(entry for entry, _ in self._committed.entries)

    # --- What is reported ------------------------------------------------------------------------

    def started(self, core: Core, disk: Disk) -> None:
        """Note that a server starts, or starts again, from what its disk holds."""
        server, start = core.config.server, disk.log.prev_index
        self._servers[server] = _Facts(
            Role.FOLLOWER, core.term, start, start, core.configuration, core.configuration_index
        )
        if disk.snapshot is not None:
            self._stands_for_what_is_committed(server, disk.snapshot)
        self._appended(core, disk.log.prev_term, disk.log.first_index, disk.entries)

    def happened(
        self, core: Core, events: Iterable[CoreEvent], disks: Mapping[ServerId, Disk]
    ) -> None:
        """Check what one server just did; ``disks`` are those of all servers there are."""
        for event in events:
            self._event(core, event, disks)

    def said(self, core: Core, message: Message, disk: Disk) -> None:
        """Check a message that leaves a server: a vote counts from the moment it is told.

        What a server decided but lost in a crash before it told anybody binds nobody.
        """
        match message:
            case RequestVote(src=server, term=term):
                self._voted(server, term, server)
            case RequestVoteReply(src=server, dst=candidate, term=term, outcome=Granted()):
                self._voted(server, term, candidate)
            case _:
                pass

    def applied(self, server: ServerId, first_index: Index, entries: Iterable[Entry]) -> None:
        """Check what a server gives to its state machine: each committed entry once, in order."""
        facts = self._servers[server]
        for index, entry in enumerate(entries, first_index):
            if index != facts.applied + 1:
                raise SafetyViolation(
                    f"each entry is applied once, in order (§5.3): S{server} applies entry {index} "
                    f"after entry {facts.applied}"
                )
            if index > len(self._committed.entries):
                raise SafetyViolation(f"S{server} applies entry {index}, which is not committed")
            known, _ = self._committed.entries[index - 1]
            if entry != known:
                raise SafetyViolation(
                    f"State Machine Safety: S{server} applies {_shown(index, entry)} "
                    f"where another server applied {_shown(index, known)}"
                )
            facts.applied = Index(index)

    def restored(self, server: ServerId, index: Index) -> None:
        """Note that a state machine starts anew from a snapshot."""
        facts = self._servers[server]
        if index <= facts.applied:
            raise SafetyViolation(
                f"snapshots lead forward (§7): S{server} goes back to entry {index} "
                f"after it applied {facts.applied}"
            )
        facts.applied = index

    def state(self, server: ServerId, index: Index, state: bytes) -> None:
        """Check a state machine after ``index``: the same on all servers, replayed or restored."""
        known = self._committed.states.setdefault(index, state)
        if known != state:
            raise SafetyViolation(
                f"State Machine Safety: after entry {index} S{server} has the state {state!r}, "
                f"another server had {known!r}"
            )

    def pre_voted(self, core: Core, before: HardState) -> None:
        """Check that a pre-vote changed nothing (thesis §9.6); ``before`` it was asked."""
        if before != HardState(core.term, core.voted_for):
            raise SafetyViolation(
                f"a pre-vote changes nothing (thesis §9.6): S{core.config.server} goes from "
                f"term {before.term} to {core.term}, from vote {before.voted_for} "
                f"to {core.voted_for}"
            )

    def read_asked(self, context: int) -> None:
        """Note when a read began: it must see all that was committed then."""
        self._read_floor[context] = Index(len(self._committed.entries))

    def read_answered(self, server: ServerId, read: ReadState, last_applied: Index) -> None:
        """Check the index from which a read is answered (§8)."""
        self.reads_answered += 1
        floor = self._read_floor[read.context]
        if read.index < floor:
            raise SafetyViolation(
                f"Linearizability: S{server} answers read {read.context} from index {read.index}, "
                f"but {floor} was committed before the read began"
            )
        if last_applied < read.index:
            raise SafetyViolation(
                f"Linearizability: S{server} answers read {read.context} from index {read.index} "
                f"having applied only {last_applied}"
            )

    # --- One promise each ------------------------------------------------------------------------

    def _event(self, core: Core, event: CoreEvent, disks: Mapping[ServerId, Disk]) -> None:
        server = core.config.server
        facts = self._servers[server]
        match event:
            case RoleChanged(role, term):
                facts.role = role
                if role is Role.LEADER:
                    self._took_the_lead(core, term)
            case TermChanged(term):
                facts.term = term
            case EntriesTruncated(from_index) if facts.role is Role.LEADER:
                raise SafetyViolation(
                    f"Leader Append-Only: S{server} leads and removes entries from {from_index}"
                )
            case EntriesAppended(first_index, entries):
                before = core.log.term_at(first_index - 1) or Term(0)
                self._appended(core, before, first_index, entries)
            case ConfigurationChanged(index, voters, outgoing, learners):
                facts.configuration = Configuration(voters, learners, outgoing)
                facts.configuration_index = index
            case CommitAdvanced(index):
                self._advanced_commit(core, index, disks)
            case SnapshotInstalled(index) | LogCompacted(index):
                facts.commit_index = max(facts.commit_index, index)
                assert core.snapshot is not None
                self._stands_for_what_is_committed(server, core.snapshot)
            case _:
                pass

    def _voted(self, server: ServerId, term: Term, candidate: ServerId) -> None:
        earlier = self._votes.setdefault(term, {}).setdefault(server, candidate)
        if earlier != candidate:
            raise SafetyViolation(
                f"one vote a term (§5.2): in term {term} S{server} votes for S{candidate} "
                f"after it voted for S{earlier}"
            )

    def _took_the_lead(self, core: Core, term: Term) -> None:
        server = core.config.server
        other = self._leader.setdefault(term, server)
        if other != server:
            raise SafetyViolation(f"Election Safety: S{other} and S{server} both lead term {term}")
        # By Log Matching the last one that it must have stands for all before.
        known = self._committed.entries
        last = next((i for i in range(len(known), 0, -1) if known[i - 1][1] < term), 0)
        if self._has(core, last):
            return
        for index, (entry, committed_in) in enumerate(known[:last], 1):
            if not self._has(core, index):
                raise SafetyViolation(
                    f"Leader Completeness: S{server} leads term {term} without "
                    f"{_shown(index, entry)}, which was committed in term {committed_in}"
                )

    def _has(self, core: Core, index: int) -> bool:
        log = core.log
        place = max(index, log.prev_index)
        return place == 0 or log.term_at(place) == self._committed.term_at(place)

    def _appended(
        self, core: Core, prev_term: Term, first_index: Index, entries: Iterable[Entry]
    ) -> None:
        # By induction over indexes: if index and term name one entry and its predecessor's
        # term, they name one log up to there.
        server = core.config.server
        for index, entry in enumerate(entries, first_index):
            if entry.term < prev_term:
                raise SafetyViolation(
                    f"terms never fall along a log (§5.3): S{server} appends "
                    f"{_shown(index, entry)} after an entry of term {prev_term}"
                )
            key = Index(index), entry.term
            known_prev_term, known = self._entry.setdefault(key, (prev_term, entry))
            if known != entry or known_prev_term != prev_term:
                raise SafetyViolation(
                    f"Log Matching: S{server} has {_shown(index, entry)} after term {prev_term}, "
                    f"another log has {_shown(index, known)} after term {known_prev_term}"
                )
            prev_term = entry.term

    def _advanced_commit(self, core: Core, index: Index, disks: Mapping[ServerId, Disk]) -> None:
        server = core.config.server
        facts, known = self._servers[server], self._committed
        for i in range(facts.commit_index + 1, index + 1):
            entry = core.log.entry(i)
            if i > len(known.entries):
                self._must_be_durable(server, Index(i), entry, disks)
                known.add(entry, core.term)
            other, term = known.entries[i - 1]
            if entry != other:
                raise SafetyViolation(
                    f"State Machine Safety: S{server} commits {_shown(i, entry)}, "
                    f"but {_shown(i, other)} was committed in term {term}"
                )
        facts.commit_index = index

    def _must_be_durable(
        self, server: ServerId, index: Index, entry: Entry, disks: Mapping[ServerId, Disk]
    ) -> None:
        """Check that a majority stores an entry: of the configuration now in force (§6)."""
        having = [s for s, disk in disks.items() if disk.holds(index, entry)]
        configuration = self._servers[server].configuration
        if not configuration.is_quorum(having, majority):
            names = ", ".join(f"S{s}" for s in having) or "nobody"
            raise SafetyViolation(
                f"a majority stores what is committed (§5.3): S{server} commits "
                f"{_shown(index, entry)}, which is on the disk of {names}; "
                f"the voters are {_voters(configuration)}"
            )

    def _stands_for_what_is_committed(self, server: ServerId, snapshot: Snapshot) -> None:
        """Check that a snapshot is what replaying the log up to its index would give (§7)."""
        index, known = snapshot.index, self._committed
        if known.term_at(index) != snapshot.term:
            raise SafetyViolation(
                f"a snapshot stands for what is committed (§7): S{server} has one up to "
                f"{index}/{snapshot.term}, committed there is term {known.term_at(index)}"
            )
        self._must_be_the_configuration(server, index, snapshot.configuration)
        self.state(server, index, snapshot.data)

    def _must_be_the_configuration(
        self, server: ServerId, index: Index, configuration: Configuration
    ) -> None:
        expected = self._committed.configuration_at(index)
        if _voters(expected) != _voters(configuration):
            raise SafetyViolation(
                f"a snapshot brings its configuration (§7): S{server} has {_voters(configuration)} "
                f"at {index}, committed is {_voters(expected)}"
            )


class Strict(Safety):
    """The promises, and the lemmas on which they rest."""

    def __init__(self, first: Configuration) -> None:
        super().__init__(first)
        self._asked: dict[tuple[ServerId, Term], tuple[Term, Index]] = {}

    def happened(
        self, core: Core, events: Iterable[CoreEvent], disks: Mapping[ServerId, Disk]
    ) -> None:
        """Check what one server just did, and that its state is in order."""
        super().happened(core, events, disks)
        log, facts = core.log, self._servers[core.config.server]
        in_order = log.prev_index <= core.commit_index <= log.last_index
        applied_in_order = core.last_applied <= min(core.commit_index, facts.applied)
        as_told = (core.term, core.commit_index) == (facts.term, facts.commit_index)
        if not (in_order and applied_in_order and as_told):
            raise SafetyViolation(
                f"S{core.config.server} is out of order: log {log.first_index} to "
                f"{log.last_index}, commitIndex {core.commit_index} ({facts.commit_index}), "
                f"lastApplied {core.last_applied}, term {core.term} ({facts.term})"
            )

    def said(self, core: Core, message: Message, disk: Disk) -> None:
        """Check that a message is its sender's to send, and promises what is on its disk."""
        latest = core.term + isinstance(message, RequestPreVote)
        if message.term > latest or message.src != core.config.server:
            raise SafetyViolation(f"S{core.config.server} of term {core.term} says {message}")
        if isinstance(message, RequestVote):
            asked = (message.last_log_term, message.last_log_index)
            self._asked[message.src, message.term] = asked
        if not _is_stored(message, disk):
            raise SafetyViolation(
                f"on disk before it is told (Figure 2): S{message.src} says {message}, "
                f"its disk has {disk.hard_state} and entries up to {disk.log.last_index}"
            )
        super().said(core, message, disk)

    def _event(self, core: Core, event: CoreEvent, disks: Mapping[ServerId, Disk]) -> None:
        server = core.config.server
        facts = self._servers[server]
        match event:
            case TermChanged(term) if term <= facts.term:
                raise SafetyViolation(f"terms only grow (§5.1): S{server} goes to {term}")
            case VoteCast(term, candidate, Granted()):
                self._must_be_up_to_date(core, term, candidate)
            case EntriesAppended(first_index, entries) if facts.role is Role.LEADER:
                for index, entry in enumerate(entries, first_index):
                    if entry.kind is EntryKind.CONFIGURATION:
                        self._may_change(core, Index(index), Configuration.decode(entry.data))
            case CommitAdvanced(index) if facts.role is Role.LEADER:
                if core.log.term_at(index) != core.term:
                    raise SafetyViolation(
                        f"a leader counts copies of its own term's entries only (§5.4.2): "
                        f"S{server} of term {core.term} commits up to {index}/"
                        f"{core.log.term_at(index)}"
                    )
            case ProgressChanged(follower, _, match_index) if match_index:
                self._must_match(core, follower, match_index, disks)
            case SnapshotInstalled(index) if core.configuration_index <= index:
                self._must_be_the_configuration(server, index, core.configuration)
            case _:
                pass
        super()._event(core, event, disks)

    def _appended(
        self, core: Core, prev_term: Term, first_index: Index, entries: Iterable[Entry]
    ) -> None:
        entries = tuple(entries)
        super()._appended(core, prev_term, first_index, entries)
        if entries and entries[-1].term > core.term:
            raise SafetyViolation(
                f"no entry is newer than its server's term: S{core.config.server} of term "
                f"{core.term} has one of {entries[-1].term}"
            )

    def _took_the_lead(self, core: Core, term: Term) -> None:
        super()._took_the_lead(core, term)
        me = core.config.server
        votes = self._votes.get(term, {})
        granted = {voter for voter, candidate in votes.items() if candidate == me} | {me}
        configuration = self._servers[me].configuration
        if not configuration.is_quorum(granted, majority):
            raise SafetyViolation(
                f"a majority elects a leader (§5.2): S{me} leads term {term} with the votes of "
                f"{sorted(granted)}; the voters are {_voters(configuration)}"
            )

    def _must_be_up_to_date(self, core: Core, term: Term, candidate: ServerId) -> None:
        own = core.log.last_term, core.log.last_index
        asked = self._asked.get((candidate, term), own)
        if asked < own:
            raise SafetyViolation(
                f"votes go to logs that are up to date (§5.4.1): S{core.config.server}, whose log "
                f"ends at {own[1]}/{own[0]}, votes for S{candidate}, which ends at "
                f"{asked[1]}/{asked[0]}"
            )

    def _must_match(
        self, core: Core, follower: ServerId, match_index: Index, disks: Mapping[ServerId, Disk]
    ) -> None:
        """Check a leader's matchIndex, as long as the follower is in its term."""
        disk, term = disks[follower], core.log.term_at(match_index)
        if disk.hard_state.term != core.term or term is None:
            return
        if match_index > disk.log.prev_index and disk.log.term_at(match_index) != term:
            raise SafetyViolation(
                f"matchIndex is what a follower stores (§5.3): S{core.config.server} counts S"
                f"{follower} up to {match_index}/{term}, whose disk has "
                f"{disk.log.term_at(match_index)} there"
            )

    def _may_change(self, core: Core, index: Index, new: Configuration) -> None:
        """Check a step to another configuration (§6; thesis chapter 4)."""
        server = core.config.server
        facts = self._servers[server]
        if facts.configuration_index > facts.commit_index:
            raise SafetyViolation(
                f"one change at a time (§6): S{server} appends a configuration at {index}, the one "
                f"at {facts.configuration_index} is not committed"
            )
        if core.log.term_at(facts.commit_index) != core.term:
            raise SafetyViolation(
                f"no change before the first commit of the term (§6): S{server} appends a "
                f"configuration at {index}, committed is {facts.commit_index}/"
                f"{core.log.term_at(facts.commit_index)}"
            )
        old = Configuration(facts.configuration.voters, (), facts.configuration.outgoing)
        if not majorities_overlap(old, Configuration(new.voters, (), new.outgoing)):
            raise SafetyViolation(
                f"majorities overlap (§6): S{server} goes from {_voters(old)} to {_voters(new)}"
            )


def _is_stored(message: Message, disk: Disk) -> bool:
    """Tell whether a message promises nothing that a crash of its sender would take back."""
    stored = disk.hard_state
    match message:
        case RequestVote(src=server, term=term):
            return stored.term > term or stored == HardState(term, server)
        case RequestVoteReply(dst=candidate, term=term, outcome=Granted()):
            return stored.term > term or stored == HardState(term, candidate)
        case AppendEntriesReply(term=term, outcome=Appended(match_index)):
            return stored.term >= term and disk.log.last_index >= match_index
        case InstallSnapshotReply(term=term, last_index=index, installed=True):
            return stored.term >= term and disk.log.last_index >= index
        case AppendEntries(term=term) | InstallSnapshot(term=term):
            return stored.term >= term
        case _:
            return True


def _voters(configuration: Configuration) -> str:
    names = " ".join(f"S{server}" for server in configuration.voters)
    old = " ".join(f"S{server}" for server in configuration.outgoing)
    return f"{names} and {old}" if old else names


def _shown(index: int, entry: Entry) -> str:
    return f"{index}/{entry.term} {entry.data!r}" if entry.data else f"{index}/{entry.term}"
