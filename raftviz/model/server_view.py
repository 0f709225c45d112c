"""One server as a viewer knows it: the fold of what happened in it and to its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from raft.core import events as core
from raft.core.messages import (
    Entry,
    Granted,
    Index,
    ServerId,
    Term,
    VoteOutcome,
)
from raft.frames import FollowerProgress, ServerState
from raftviz.model import events as ev
from raftviz.model.machine import Number, apply_command

LAB = ServerId(0)
"""The source of what the laboratory itself tells."""

Prefix = Callable[[Index, Term], Sequence[Entry]]
"""Returns all entries up to one with this index and term; none unless all are known."""

NO_MEMBERS = core.ConfigurationChanged(Index(0), (), (), ())


def unknown(index: Index, term: Term) -> Sequence[Entry]:
    """Know nothing."""
    return ()


@dataclass(slots=True)
class ServerView:
    """All of Figure 2's state of one server, and its process.

    Of a dead server what is on its disk stays known, as far as it was told: ``term``,
    ``voted_for`` and ``log``. The rest begins anew with its next process.
    """

    id: ServerId
    address: str = ""
    pid: int = 0
    alive: bool = False
    """It has a process. A paused one has, too."""
    paused: bool = False
    exit: str | None = None
    """How its last process ended, in words; None while it runs or before it first did."""

    term: Term = Term(0)
    voted_for: ServerId | None = None
    log: list[Entry] = field(default_factory=list)
    """``log[0]`` has index ``first_index``."""
    first_index: Index = Index(1)
    compacted: list[Entry] = field(default_factory=list)
    """The entries before its log, which a snapshot stands for; the older ones may be unknown."""
    term_before: Term = Term(0)
    """The term of the last entry before all those that are known; 0 if there is none."""
    snapshot: tuple[Index, Term] | None = None
    """The last entry that its snapshot stands for."""
    configuration: core.ConfigurationChanged = NO_MEMBERS
    """Who belongs to the cluster, by the newest configuration in its log."""

    role: core.Role = core.Role.FOLLOWER
    """Only a process leads: a dead server is a follower."""
    leader: ServerId | None = None
    commit_index: Index = Index(0)
    last_applied: Index = Index(0)
    votes: dict[ServerId, VoteOutcome] = field(default_factory=dict)
    """The replies that a candidate counted, its own vote too; a leader keeps those that made it."""
    progress: dict[ServerId, FollowerProgress] = field(default_factory=dict)
    """A leader's nextIndex and matchIndex of each follower; empty for others."""
    timer_kind: core.TimerKind | None = None
    """None for a dead server, and for a new process until it has told its state."""
    timer_deadline: float = 0.0
    timer_interval: float = 0.0
    kv: dict[bytes, bytes] = field(default_factory=dict)
    """The key-value machine: the applied commands, folded."""
    performed: set[Number] = field(default_factory=set)
    """The commands of clients' sessions among them: each takes effect once."""
    hidden: Index = Index(0)
    """What was applied up to here is not known: a snapshot stood for it before anybody told."""
    transferee: ServerId | None = None
    """To whom a leader hands its leadership."""
    refused: core.VoteCast | None = None
    """The last vote that this process refused."""

    disk: ev.DiskChanged | None = None
    """What is wrong with its disk; None if nothing is."""
    clock: float = 1.0
    """How fast its clock runs, measured by the cluster's."""
    broken: tuple[str, ...] = ()
    """The rules that it breaks on purpose."""

    @property
    def last_index(self) -> Index:
        """The index of its log's last entry, or of what its snapshot stands for; 0 for neither."""
        return Index(self.first_index - 1 + len(self.log))

    @property
    def last_term(self) -> Term:
        """The term of its log's last entry; 0 if that is not known."""
        known = self.log or self.compacted
        return known[-1].term if known else self.term_before

    @property
    def granted(self) -> list[ServerId]:
        """The servers whose votes it has, in order."""
        return sorted(v for v, outcome in self.votes.items() if isinstance(outcome, Granted))

    def entry(self, index: int) -> Entry | None:
        """Return the entry at ``index``, None if its log has none there."""
        return self.log[index - self.first_index] if self.has(index) else None

    def has(self, index: int) -> bool:
        """Tell whether its log has an entry at ``index``."""
        return self.first_index <= index <= self.last_index

    def known_entry(self, index: int) -> Entry | None:
        """Return the entry at ``index``, even one that a snapshot stands for, None if unknown."""
        if index >= self.first_index:
            return self.entry(index)
        back = self.first_index - index
        return self.compacted[-back] if 1 <= back <= len(self.compacted) else None

    @property
    def known_from(self) -> Index:
        """The index of the oldest entry that is known, or would be."""
        return Index(self.first_index - len(self.compacted))

    @property
    def known(self) -> list[Entry]:
        """All entries that are known, from ``known_from`` on."""
        return [*self.compacted, *self.log]

    def prefix(self, index: Index, term: Term) -> Sequence[Entry]:
        """Return what is known of the entries up to ``index``, if that one is of ``term``.

        Equal terms there make all entries before equal, too (Log Matching, §5.3).
        """
        last = self.known_entry(index)
        if last is None or last.term != term:
            return ()
        return self.known[: index - self.known_from + 1]

    # --- Folding -----------------------------------------------------------------------------

    def tell(self, what: object, elsewhere: Prefix = unknown) -> None:
        """Take in a fact about this server. What is none changes nothing.

        ``elsewhere`` says what other logs tell of the entries that a snapshot stands for.

        The words of a process that has not told its state yet mean nothing. Late words of one
        that has ended still count for what it had on its disk.
        """
        kind = type(what)
        if isinstance(what, core.SnapshotInstalled):
            what = Installed(what, elsewhere(what.index, what.term))
            kind = Installed
        if kind in _OF_PROCESS:
            _OF_PROCESS[kind](self, what)
        elif kind in _OF_SERVER and (
            self.timer_kind is not None or (self.exit is not None and kind in _ON_DISK)
        ):
            _OF_SERVER[kind](self, what)

    def told(self) -> Iterator[tuple[ServerId, ev.Happening]]:
        """Yield (source, fact): an untold view to which they are told becomes equal to this."""
        yield from self._told_of_machine()
        if not self.alive and self.exit is None:
            return
        spawned = ev.ServerSpawned(self.id, self.pid, self.address)
        yield LAB, spawned
        yield self.id, self._state()
        if self.snapshot is not None:
            yield self.id, core.LogCompacted(*self.snapshot, self.first_index)
        if self.timer_kind is None:
            # What is known of it was told by a process that has ended.
            yield LAB, ev.ServerExited(self.id, self.pid, self.exit or "", expected=True)
            if self.alive:
                yield LAB, spawned
        for voter, outcome in self.votes.items():
            if isinstance(outcome, Granted):
                continue
            if self.role is core.Role.PRE_CANDIDATE:
                yield self.id, core.PreVoteReceived(Term(self.term + 1), voter, outcome)
            else:
                yield self.id, core.VoteReceived(self.term, voter, outcome)
        if self.refused is not None:
            yield self.id, self.refused
        if self.transferee is not None:
            yield self.id, core.TransferChanged(self.transferee)
        if self.paused:
            yield LAB, ev.ServerPaused(self.id)

    def _told_of_machine(self) -> Iterator[tuple[ServerId, ev.Happening]]:
        if self.disk is not None:
            yield LAB, self.disk
        if self.clock != 1:
            yield LAB, ev.ServerClockChanged(self.id, self.clock)
        for rule in self.broken:
            yield LAB, ev.RuleBroken(self.id, rule)

    def _state(self) -> ServerState:
        return ServerState(
            server=self.id,
            pid=self.pid,
            address=self.address,
            role=self.role,
            term=self.term,
            voted_for=self.voted_for,
            leader=self.leader,
            first_index=self.known_from,
            entries=tuple(self.known),
            commit_index=self.commit_index,
            last_applied=self.last_applied,
            votes=tuple(self.granted),
            progress=tuple(self.progress.values()),
            timer_kind=self.timer_kind or core.TimerKind.ELECTION,
            timer_deadline=self.timer_deadline,
            timer_interval=self.timer_interval,
            snapshot_term=self.term_before,
            configuration=self.configuration,
        )

    def _forget(self) -> None:
        """Lose what a process keeps in its memory only."""
        self.paused = False
        self.role = core.Role.FOLLOWER
        self.leader = None
        self.commit_index = self.last_applied = Index(0)
        self.votes, self.progress, self.kv, self.hidden = {}, {}, {}, Index(0)
        self.performed = set()
        self.timer_kind, self.timer_deadline, self.timer_interval = None, 0.0, 0.0
        self.refused = self.transferee = None

    # --- Its process -------------------------------------------------------------------------

    def _spawned(self, what: ev.ServerSpawned) -> None:
        self._forget()
        self.alive, self.exit = True, None
        self.pid, self.address = what.pid, what.address

    def _exited(self, what: ev.ServerExited) -> None:
        self._forget()
        self.alive, self.exit = False, what.how
        self.pid = what.pid

    def _paused(self, what: ev.ServerPaused) -> None:
        self.paused = self.alive

    def _resumed(self, what: ev.ServerResumed) -> None:
        self.paused = False

    # --- Its machine -------------------------------------------------------------------------

    def _disk_changed(self, what: ev.DiskChanged) -> None:
        self.disk = None if what.is_sound else what

    def run_clock(self, factor: float, now: float) -> None:
        """Take in how fast its clock runs from ``now`` (virtual seconds) on.

        Its timer fires by its own clock, so what is left of that lasts longer or shorter.
        """
        if self.timer_kind is not None:
            ratio = self.clock / factor
            self.timer_deadline = now + (self.timer_deadline - now) * ratio
            self.timer_interval *= ratio
        self.clock = factor

    def _rule_broken(self, what: ev.RuleBroken) -> None:
        if what.rule not in self.broken:
            self.broken += (what.rule,)

    def _rule_mended(self, what: ev.RuleMended) -> None:
        self.broken = tuple(rule for rule in self.broken if rule != what.rule)

    def _whole_state(self, what: ServerState) -> None:
        if not self.alive and self.exit is None:
            return
        self.term, self.voted_for = what.term, what.voted_for
        before = Index(what.first_index - 1)
        prefix = self.prefix(before, what.snapshot_term)
        self._begin_log(before, what.snapshot_term, prefix, self.term_before)
        self.log = list(what.entries)
        self.configuration = what.configuration
        if not self.alive:
            return
        self.pid, self.address = what.pid, what.address
        self.role, self.leader = what.role, what.leader
        self.votes = {voter: Granted() for voter in what.votes}
        self.progress = {known.follower: known for known in what.progress}
        self.timer_kind = what.timer_kind
        self.timer_deadline, self.timer_interval = what.timer_deadline, what.timer_interval
        self.refused = self.transferee = None
        self.commit_index = what.commit_index
        self._apply_anew(what.last_applied)

    # --- What happened inside ----------------------------------------------------------------

    def _role_changed(self, what: core.RoleChanged) -> None:
        self._enter_term(what.term)
        self.role = what.role
        if what.role is not core.Role.LEADER:
            self.votes, self.progress, self.transferee = {}, {}, None
        if what.role is core.Role.CANDIDATE:
            self.voted_for = self.id  # candidates vote for themselves (§5.2)

    def _term_changed(self, what: core.TermChanged) -> None:
        self._enter_term(what.term)

    def _enter_term(self, term: Term) -> None:
        if term != self.term:
            self.term, self.voted_for = term, None

    def _vote_cast(self, what: core.VoteCast) -> None:
        if isinstance(what.outcome, Granted):
            self.voted_for = what.candidate
        else:
            self.refused = what

    def _vote_received(self, what: core.VoteReceived) -> None:
        self.votes[what.voter] = what.outcome

    def _pre_vote_received(self, what: core.PreVoteReceived) -> None:
        if self.role is core.Role.PRE_CANDIDATE:
            self.votes[what.voter] = what.outcome

    def _leader_changed(self, what: core.LeaderChanged) -> None:
        self.leader = what.leader

    def _timer_armed(self, what: core.TimerArmed) -> None:
        self.timer_kind = what.kind
        self.timer_deadline, self.timer_interval = what.deadline, what.interval

    def _entries_appended(self, what: core.EntriesAppended) -> None:
        self._append(what.first_index, what.entries)

    def _append(self, first_index: Index, entries: Sequence[Entry]) -> None:
        if self.first_index <= first_index <= self.last_index + 1:  # else a whole state is due
            self.log[first_index - self.first_index :] = entries

    def _entries_truncated(self, what: core.EntriesTruncated) -> None:
        del self.log[max(what.from_index - self.first_index, 0) :]

    def _log_compacted(self, what: core.LogCompacted) -> None:
        self.snapshot = (what.index, what.term)
        self._compact(what.first_index)

    def _compact(self, first_index: Index) -> None:
        count = min(max(first_index - self.first_index, 0), len(self.log))
        self.compacted += self.log[:count]
        del self.log[:count]
        self.first_index = Index(self.first_index + count)

    def _installed(self, what: Installed) -> None:
        index, term = what.event.index, what.event.term
        if what.event.retained and self.has(index):
            self._compact(Index(index + 1))
            self.snapshot = (index, term)
        else:
            self._begin_log(index, term, what.prefix, Term(0))
            self._apply_anew(self.last_applied)
        if self.alive:
            self.commit_index = index

    def _begin_log(
        self, before: Index, term: Term, prefix: Sequence[Entry], term_before: Term
    ) -> None:
        """Let a log without entries follow on ``before``, which has ``term``.

        ``prefix`` is what is known to lead up to there, on an entry of ``term_before``.
        """
        self.compacted, self.log = list(prefix), []
        self.first_index = Index(before + 1)
        self.term_before = term_before if prefix else term
        self.snapshot = (before, term) if before else None

    def _configuration_changed(self, what: core.ConfigurationChanged) -> None:
        self.configuration = what

    def _transfer_changed(self, what: core.TransferChanged) -> None:
        self.transferee = what.target

    def _commit_advanced(self, what: core.CommitAdvanced) -> None:
        self.commit_index = what.index

    def _applied(self, what: core.Applied) -> None:
        self._apply_to(what.index)

    def _apply_anew(self, index: Index) -> None:
        self.kv, self.hidden, self.last_applied = {}, Index(0), Index(0)
        self.performed = set()
        self._apply_to(index)

    def _apply_to(self, index: Index) -> None:
        known_from = self.known_from
        if self.last_applied + 1 < known_from:
            self.hidden = min(index, Index(known_from - 1))
        for applied in range(max(self.last_applied + 1, known_from), index + 1):
            if (entry := self.known_entry(applied)) is not None:
                apply_command(self.kv, entry, self.performed)
        self.last_applied = index

    def _progress_changed(self, what: core.ProgressChanged) -> None:
        self.progress[what.follower] = FollowerProgress(
            what.follower, what.next_index, what.match_index
        )


@dataclass(frozen=True, slots=True)
class Installed:
    """A snapshot that was installed, and what is known of the entries that it stands for."""

    event: core.SnapshotInstalled
    prefix: Sequence[Entry]


_Handler = Callable[[ServerView, Any], None]

_OF_PROCESS: dict[type, _Handler] = {
    ev.ServerSpawned: ServerView._spawned,
    ev.ServerExited: ServerView._exited,
    ev.ServerPaused: ServerView._paused,
    ev.ServerResumed: ServerView._resumed,
    ServerState: ServerView._whole_state,
    ev.DiskChanged: ServerView._disk_changed,
    ev.RuleBroken: ServerView._rule_broken,
    ev.RuleMended: ServerView._rule_mended,
}

_OF_SERVER: dict[type, _Handler] = {
    core.RoleChanged: ServerView._role_changed,
    core.TermChanged: ServerView._term_changed,
    core.VoteCast: ServerView._vote_cast,
    core.VoteReceived: ServerView._vote_received,
    core.LeaderChanged: ServerView._leader_changed,
    core.TimerArmed: ServerView._timer_armed,
    core.EntriesAppended: ServerView._entries_appended,
    core.EntriesTruncated: ServerView._entries_truncated,
    core.CommitAdvanced: ServerView._commit_advanced,
    core.Applied: ServerView._applied,
    core.ProgressChanged: ServerView._progress_changed,
    core.PreVoteReceived: ServerView._pre_vote_received,
    core.ConfigurationChanged: ServerView._configuration_changed,
    core.LogCompacted: ServerView._log_compacted,
    core.TransferChanged: ServerView._transfer_changed,
    Installed: ServerView._installed,
}

_ON_DISK = frozenset(
    {
        core.TermChanged,
        core.VoteCast,
        core.EntriesAppended,
        core.EntriesTruncated,
        core.ConfigurationChanged,
        core.LogCompacted,
        Installed,
    }
)
