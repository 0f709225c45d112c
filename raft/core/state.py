"""A server's state (Figure 2, "State"), and the few ways in which it may change.

Everything that all roles share is here, with the invariants that no role may break. What each
role does with it is in ``follower.py``, ``candidate.py`` and ``leader.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from raft.core.config import Config
from raft.core.events import (
    CommitAdvanced,
    ConfigurationChanged,
    CoreEvent,
    EntriesAppended,
    EntriesTruncated,
    LeaderChanged,
    LogCompacted,
    MessageIgnored,
    Role,
    SnapshotInstalled,
    TermChanged,
    TimerArmed,
    TimerKind,
)
from raft.core.log import HardState, InvariantViolation, Log, Snapshot
from raft.core.membership import Configuration, ConfigurationError, Configurations, Placed
from raft.core.messages import Entry, EntryKind, Index, Message, ServerId, Term
from raft.core.readonly import ReadState
from raft.core.rules import Rules

# To look up a member of an enumeration costs Python 3.11 as much as a method call, or two.
_ELECTION: Final = TimerKind.ELECTION
_HEARTBEAT: Final = TimerKind.HEARTBEAT
_CONFIGURATION: Final = EntryKind.CONFIGURATION


@dataclass(slots=True)
class Outbox:
    """What has come up and is not handed out yet."""

    messages: list[Message] = field(default_factory=list)
    after_persist: list[Message] = field(default_factory=list)
    read_states: list[ReadState] = field(default_factory=list)
    events: list[CoreEvent] = field(default_factory=list)


class State:
    """The state of one server, in memory. ``Saves`` says how much of it is on disk."""

    def __init__(
        self,
        config: Config,
        rules: Rules,
        random: Random,
        hard_state: HardState,
        snapshot: Snapshot | None,
        entries: Iterable[Entry],
    ) -> None:
        self.config = config
        self.rules = rules
        self.me = config.server
        self.outbox = Outbox()
        self._random = random

        # Persistent state on all servers.
        self.recovering = hard_state.recovering
        self.remember(hard_state.term, hard_state.voted_for)
        self.snapshot = snapshot
        if snapshot is None:
            self.log = Log(entries)
            first = Configuration(tuple(sorted(config.members)), addresses=config.addresses)
            self.configurations = Configurations(first)
        else:
            self.log = Log(entries, snapshot.index, snapshot.term)
            self.configurations = Configurations(
                snapshot.configuration, snapshot.configuration_index
            )
        for index in range(self.log.first_index, self.log.last_index + 1):
            if (entry := self.log.entry(index)).kind is EntryKind.CONFIGURATION:
                self._note_configuration(Index(index), entry)
        self.saves = Saves(hard_state, self.log.last_index)

        # Volatile state on all servers.
        self.commit_index = self.last_applied = self.log.prev_index
        self.role = Role.FOLLOWER
        self.leader: ServerId | None = None
        self.heard: ServerId | None = None
        self.heard_at = float("-inf")
        self.timer_kind = TimerKind.ELECTION
        self.timer_interval = 0.0
        self.deadline = 0.0

    # --- Who belongs to the cluster --------------------------------------------------------------

    @property
    def configuration(self) -> Configuration:
        """The latest configuration in the log, committed or not: the one that counts (§6)."""
        return self.configurations.latest

    @property
    def peers(self) -> tuple[ServerId, ...]:
        """All other members."""
        return tuple(server for server in self.configuration.members if server != self.me)

    def is_quorum(self, agreeing: Iterable[ServerId]) -> bool:
        """Tell whether these servers are enough to elect a leader."""
        return self.rules.is_quorum(self.configuration, agreeing)

    @property
    def may_campaign(self) -> bool:
        """Tell whether this server may become leader: it is a voter, or was and may be needed.

        One that lost entries may not, until it has them again (``raft.core.recovering``).

        While the change that removes it is not committed, it may be the only one whose log is
        good enough to win (thesis §4.2.2); its own vote does not count any more.
        """
        placed = self.configurations
        return not self.recovering and (
            placed.latest.is_voter(self.me)
            or (placed.index > self.commit_index and placed.before.is_voter(self.me))
        )

    # --- Terms and time --------------------------------------------------------------------------

    def remember(self, term: Term, voted_for: ServerId | None) -> None:
        """Change currentTerm or votedFor, and with them what the disk must hold (§5.2)."""
        self.term = term
        self.voted_for = voted_for
        self.hard_state = self.rules.hard_state(term, voted_for)
        if self.recovering:
            self.hard_state = replace(self.hard_state, recovering=self.recovering)

    def enter_term(self, term: Term) -> None:
        """Raise currentTerm. The vote of the new term is free; its leader is not known."""
        if term <= self.term:
            raise self.violation(f"terms only grow, but {term} follows {self.term}")
        self.remember(term, None)
        self.emit(TermChanged(term))
        self.set_leader(None)

    def set_leader(self, leader: ServerId | None) -> None:
        """Note who leads the current term."""
        if leader != self.leader:
            self.leader = leader
            self.emit(LeaderChanged(self.term, leader))

    def end_recovery_if_over(self) -> None:
        """Become a voter again once the log is known to hold all that it ever held."""
        if self.recovering and self.saves.stable_index >= self.commit_index:
            committed_term = self.log.term_at(self.commit_index)
            if self.rules.has_recovered(self.recovering, committed_term):
                self.recovering = Term(0)
                self.remember(self.term, self.voted_for)

    def begin(self, now: float) -> None:
        """Note that this server begins to take part at ``now``.

        It may have heard from a leader just before it crashed, and that leader may count on it
        (lease reads); in term 0 it cannot have.
        """
        if self.config.check_quorum and self.term > 0:
            self.heard_at = now

    def hear(self, leader: ServerId, now: float) -> None:
        """Note that the leader of this term spoke."""
        self.set_leader(leader)
        self.heard, self.heard_at = leader, now
        self.arm_election_timer(now)

    def forget_leader(self) -> None:
        """Hold to no leader any more."""
        self.set_leader(None)
        self.heard, self.heard_at = None, float("-inf")

    def hears_leader(self, now: float) -> bool:
        """Tell whether a leader spoke, or may have, less than the shortest election timeout ago.

        It does not matter whether this server has entered another term since: that leader may
        still count on its patience.
        """
        return now - self.heard_at < self.config.election_timeout_min

    def arm_election_timer(self, now: float) -> None:
        """Begin to wait for a leader, for a time drawn at random (§5.2)."""
        config = self.config
        timeout = self.rules.election_timeout(
            self._random, config.election_timeout_min, config.election_timeout_max
        )
        self.arm(_ELECTION, now, timeout)

    def arm_heartbeat_timer(self, now: float) -> None:
        """Begin to wait until heartbeats are due."""
        self.arm(_HEARTBEAT, now, self.config.heartbeat_interval)

    def arm(self, kind: TimerKind, now: float, interval: float) -> None:
        """Set the one timer."""
        self.timer_kind = kind
        self.timer_interval = interval
        self.deadline = now + interval
        self.emit(TimerArmed(kind, self.deadline, interval))

    # --- The log ---------------------------------------------------------------------------------

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Add entries at the end; a configuration among them counts from now on (§6)."""
        first_index = Index(self.log.last_index + 1)
        self.log.append(entries)
        self.emit(EntriesAppended(first_index, entries))
        for index, entry in enumerate(entries, first_index):
            if entry.kind is _CONFIGURATION:
                self._note_configuration(Index(index), entry)
                self._tell_configuration()

    def truncate(self, from_index: Index) -> None:
        """Remove conflicting entries; a configuration among them no longer counts (§6)."""
        if from_index <= self.commit_index:
            raise self.violation(f"entry {from_index} is committed and would be removed")
        self.log.truncate(from_index)
        self.saves.truncated(from_index)
        self.emit(EntriesTruncated(from_index))
        if self.configurations.truncate(from_index):
            self._tell_configuration()

    def commit_to(self, index: Index) -> None:
        """Raise commitIndex."""
        if index == self.commit_index:
            return
        if not self.commit_index < index <= self.log.last_index:
            raise self.violation(f"commitIndex cannot go from {self.commit_index} to {index}")
        self.commit_index = index
        self.emit(CommitAdvanced(index))
        self.end_recovery_if_over()

    def compact(self, snapshot: Snapshot, keep_from: Index) -> None:
        """Let a snapshot of one's own state machine stand for the entries before ``keep_from``."""
        self.snapshot = snapshot
        self.configurations.compact(snapshot.index)
        self.log.compact(Index(max(self.log.prev_index, min(snapshot.index, keep_from - 1))))
        self.saves.snapshot = snapshot
        self.emit(LogCompacted(snapshot.index, snapshot.term, self.log.first_index))

    def install(self, snapshot: Snapshot) -> None:
        """Take over a leader's snapshot (InstallSnapshot, receiver implementation 5 to 8)."""
        # 5. Save the snapshot (``saves.install``); one with a smaller index is given up for it.
        self.snapshot = snapshot
        # 6. If an entry has the snapshot's last index and term, what follows it is retained.
        retain = self.log.term_at(snapshot.index) == snapshot.term
        if retain:
            self.log.compact(snapshot.index)
            self.configurations.compact(snapshot.index)
            # A server that joined later does not know the members of the beginning.
            self.configurations.begin_with(
                Placed(snapshot.configuration_index, snapshot.configuration)
            )
        else:
            # 7. Discard the entire log. Of what is on disk only the committed entries are known to
            #    be among those that the snapshot stands for, until it is there itself.
            self.log.restart(snapshot.index, snapshot.term)
            self.saves.truncated(Index(self.commit_index + 1), rewrite=True)
            # 8. Load the snapshot's cluster configuration.
            configuration = self.rules.configuration_of(snapshot, self.configuration)
            self.configurations = Configurations(configuration, snapshot.configuration_index)
        self.commit_index = snapshot.index
        # 8. Reset the state machine using the snapshot's contents: ``Ready.restore`` asks for it
        #    once the snapshot is on disk. If the log is retained, too: what the snapshot stands for
        #    is committed, but this server has not applied all of it.
        self.saves.install(snapshot)
        self.emit(SnapshotInstalled(snapshot.index, snapshot.term, retain))
        self._tell_configuration()

    def _note_configuration(self, index: Index, entry: Entry) -> None:
        try:
            self.configurations.append(index, Configuration.decode(entry.data))
        except ConfigurationError as error:
            raise self.violation(f"entry {index}: {error}") from error

    def _tell_configuration(self) -> None:
        placed = self.configurations
        latest = placed.latest
        self.emit(
            ConfigurationChanged(placed.index, latest.voters, latest.outgoing, latest.learners)
        )

    # --- Output ----------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Let a message leave at once: it promises nothing that a crash could take back."""
        self.outbox.messages.append(message)

    def promise(self, message: Message) -> None:
        """Let a message leave when everything up to now is on disk."""
        if self.rules.waits_for_disk(message):
            self.outbox.after_persist.append(message)
        else:
            self.outbox.messages.append(message)

    def emit(self, event: CoreEvent) -> None:
        """Tell whoever watches."""
        self.outbox.events.append(event)

    def ignore(self, message: Message, reason: str) -> None:
        """Tell that a message changed nothing."""
        self.emit(MessageIgnored(message.src, type(message).__name__, reason))

    def violation(self, what: str) -> InvariantViolation:
        """Return the error for a state that Raft proves impossible, with all that matters."""
        terms = [e.term for e in self.log.entries(self.log.first_index, self.log.last_index)]
        return InvariantViolation(
            f"{what}\nS{self.me} {self.role.name} term {self.term} voted for {self.voted_for} "
            f"commit {self.commit_index} applied {self.last_applied}\n"
            f"log from {self.log.first_index}: terms {terms}\n"
            f"configuration {self.configuration}"
        )


class Saves:
    """What of the state is on disk, on its way there, or still to be handed out.

    Completions may come late and out of order: what was replaced since it was handed out does
    not count, even if an equal entry stands there again.
    """

    def __init__(self, hard_state: HardState, last_index: Index) -> None:
        """Begin with what was read from the disk."""
        self.hard_state = hard_state
        """The newest that was handed out."""
        self.stable_hard_state = hard_state
        """The newest that is on disk."""
        self.stable_index = last_index
        """The log is on disk up to here."""
        self.snapshot: Snapshot | None = None
        """To be handed out."""
        self.restore = False
        self._unsaved_from = Index(last_index + 1)
        self._rewrite = False
        self._under_way: dict[int, tuple[HardState, Index]] = {}
        self._done: set[int] = set()

    def truncated(self, from_index: Index, *, rewrite: bool = False) -> None:
        """Note that the entries from ``from_index`` on are gone from the log."""
        before = Index(from_index - 1)
        self.stable_index = min(self.stable_index, before)
        self._unsaved_from = min(self._unsaved_from, from_index)
        self._rewrite = self._rewrite or rewrite
        self._under_way = {
            number: (hard_state, min(last, before))
            for number, (hard_state, last) in self._under_way.items()
        }

    def install(self, snapshot: Snapshot) -> None:
        """Note that a leader's snapshot is to be stored, and the state machine to be restored."""
        self.snapshot = snapshot
        self.restore = True
        if self._unsaved_from <= snapshot.index:
            # What takes the place of another leader's entries may be in the snapshot and no longer
            # to be stored: those that the disk has behind it must go all the same.
            self._unsaved_from = Index(snapshot.index + 1)
            self._rewrite = True

    def take(self, number: int, hard_state: HardState, last_index: Index) -> tuple[Index, bool]:
        """Hand out what is unsaved up to ``last_index``; return the index where it starts.

        And tell whether what the disk has from there on must go even if nothing replaces it.
        """
        first_index, rewrite = self._unsaved_from, self._rewrite
        self._under_way[number] = hard_state, last_index
        self.hard_state = hard_state
        self._unsaved_from = Index(last_index + 1)
        self._rewrite = False
        self.snapshot, self.restore = None, False
        return first_index, rewrite

    def unsaved(self, hard_state: HardState, last_index: Index) -> bool:
        """Tell whether anything waits to be handed out."""
        return (
            self._unsaved_from <= last_index
            or self._rewrite
            or self.snapshot is not None
            or (hard_state is not self.hard_state and hard_state != self.hard_state)
        )

    def completed(self, number: int) -> bool:
        """Note that what was handed out as ``number`` is on disk; tell whether there was any."""
        if number not in self._under_way:
            return False
        self._done.add(number)
        # Only a beginning without gaps counts: a later save may be done before an earlier one.
        while self._under_way and (oldest := next(iter(self._under_way))) in self._done:
            self._done.remove(oldest)
            self.stable_hard_state, last_index = self._under_way.pop(oldest)
            self.stable_index = max(self.stable_index, last_index)
        return True
