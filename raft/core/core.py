"""The consensus machine: inputs in, work and explanations out. No clock, no IO, no waiting.

Feed it messages, time and proposals; take :class:`Ready` from it and do what it says::

    core.step(message, now)          core.ready()  →  send messages
    core.tick(now)                                    save hard state, snapshot, entries, then
    core.propose(data, now)                           core.persisted(ready.number)
    core.read_index(context, now)                     send messages_after_persist
                                                      restore the snapshot, apply what is
                                                      committed, then core.applied(index)

Figure 2 of the paper by its boxes: "State" is in ``state.py``; "Rules for Servers" is here for
all servers, in ``candidate.py`` and ``leader.py`` for those; what receivers of the RPCs do is
in ``follower.py``; every decision is a method of ``rules.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Final

from raft.core.candidate import Election, PreElection
from raft.core.config import Config
from raft.core.events import Applied, CoreEvent, Role, RoleChanged, RoleReason, TimerKind
from raft.core.follower import (
    SnapshotReceiver,
    on_append_entries,
    on_request_pre_vote,
    on_request_vote,
    refuse_append,
    refuse_if_disruptive,
    refuse_snapshot,
)
from raft.core.leader import Leadership
from raft.core.log import HardState, Log, Snapshot
from raft.core.membership import Change, Configuration
from raft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    LeaderAlive,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
    TimeoutNow,
)
from raft.core.progress import Progress
from raft.core.readonly import ReadRequest, ReadState
from raft.core.ready import Ready, Refusal, Refused
from raft.core.recovering import UNFIT_TO_VOTE
from raft.core.rules import Rules
from raft.core.state import State

__all__ = ["Config", "Core", "Ready", "Refusal", "Refused"]

_NOTHING_TO_STORE: Final = (None, None, False, Index(0), ())
_NOTHING_TO_APPLY: Final = (Index(0), ())
_NOT_LEADER = Refused(Refusal.NOT_LEADER, "this server does not lead")


class Core:
    """One server's part in the consensus. Single-threaded; time never runs but by ``now``."""

    def __init__(
        self,
        config: Config,
        hard_state: HardState,
        entries: Iterable[Entry],
        random: Random,
        now: float,
        rules: Rules | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Start from what the disk holds: ``entries`` follow on ``snapshot``, or on nothing."""
        self.config = config
        self.rules = rules or Rules()
        self._state = State(config, self.rules, random, hard_state, snapshot, entries)
        self._election: Election | None = None
        self._pre_election: PreElection | None = None
        self._leadership: Leadership | None = None
        self._receiver = SnapshotReceiver(self._state)
        self._ready_number = 0
        self._handed_to_apply = self._state.commit_index
        self._state.emit(RoleChanged(Role.FOLLOWER, self.term, RoleReason.STARTED))
        self._state.begin(now)
        self._state.arm_election_timer(now)

    # --- State, for whoever asks -----------------------------------------------------------------

    @property
    def term(self) -> Term:
        """The current term."""
        return self._state.term

    @property
    def voted_for(self) -> ServerId | None:
        """Who got this server's vote of the current term."""
        return self._state.voted_for

    @property
    def recovering(self) -> bool:
        """Whether this server lost entries and does not vote yet (``raft.core.recovering``)."""
        return self._state.recovering > 0

    @property
    def log(self) -> Log:
        """The log, from the snapshot on. Not to be changed."""
        return self._state.log

    @property
    def snapshot(self) -> Snapshot | None:
        """What stands for the entries that are gone from the log."""
        return self._state.snapshot

    @property
    def configuration(self) -> Configuration:
        """The members, by the latest configuration in the log."""
        return self._state.configuration

    @property
    def configuration_index(self) -> Index:
        """The index of the entry in which that configuration stands."""
        return self._state.configurations.index

    @property
    def commit_index(self) -> Index:
        """The highest index known to be committed."""
        return self._state.commit_index

    @property
    def last_applied(self) -> Index:
        """The highest index that the state machine has applied."""
        return self._state.last_applied

    @property
    def role(self) -> Role:
        """What this server is at the moment."""
        return self._state.role

    @property
    def leader(self) -> ServerId | None:
        """Who leads the current term, as far as this server knows."""
        return self._state.leader

    @property
    def votes(self) -> frozenset[ServerId]:
        """Who granted a candidate its vote, or would (pre-candidate)."""
        election = self._election or self._pre_election
        return frozenset(election.granted) if election else frozenset()

    @property
    def progress(self) -> Mapping[ServerId, Progress]:
        """What a leader knows of the others; empty for everybody else."""
        return self._leadership.progress if self._leadership else {}

    @property
    def transferee(self) -> ServerId | None:
        """To whom a leader hands its leadership at the moment."""
        return self._leadership.transferee if self._leadership else None

    @property
    def deadline(self) -> float:
        """When ``tick`` is next wanted, in virtual seconds."""
        return self._state.deadline

    @property
    def timer_kind(self) -> TimerKind:
        """What the one timer is for."""
        return self._state.timer_kind

    @property
    def timer_interval(self) -> float:
        """What the timer was set to, in seconds."""
        return self._state.timer_interval

    # --- Inputs: time and people -----------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Let time pass: a due timer fires, once. ``deadline`` tells when to call next."""
        if now < self._state.deadline:
            return
        if self._leadership is None:
            # Followers and candidates: if election timeout elapses, start (new) election (§5.2).
            self._campaign(now, RoleReason.ELECTION_TIMEOUT)
        elif (reason := self._leadership.tick(now)) is not None:
            self._become_follower(reason, now)

    def campaign(self, now: float) -> bool:
        """Let the election timer fire at once; False: this server leads, or may not.

        While it hears a leader that is against what the leader's lease rests on: where reads are
        answered by lease (``lease_read``), servers campaign only when their time is up.
        """
        if self._leadership is not None or not self._state.may_campaign:
            return False
        self._campaign(now, RoleReason.ASKED)
        return True

    def wait_anew(self, now: float) -> None:
        """Begin the wait for a leader at ``now``: what time it is was not known before."""
        self._state.begin(now)
        self._state.arm(TimerKind.ELECTION, now, self._state.timer_interval)

    def forget_leader(self) -> None:
        """Stop holding to a leader that is known to be gone: others may be elected at once.

        It must be gone: one that is only cut off, and reads by its lease, counts on this server's
        patience, and could read what is out of date (thesis §6.4.1).
        """
        if self._leadership is None:
            self._state.forget_leader()

    def transfer_leadership(self, to: ServerId | None, now: float) -> Refused | None:
        """Hand leadership to ``to``, or to whoever is best (thesis §3.10); None: it began.

        It ends with another leader, or is given up after an election timeout.
        """
        if self._leadership is None:
            return _NOT_LEADER
        return self._leadership.transfer(to, now)

    # --- Inputs: clients -------------------------------------------------------------------------

    def propose(self, data: bytes, now: float) -> Index | Refused:
        """Append a command to the log of a leader; return its index."""
        return self.propose_all((data,))

    def propose_all(self, commands: Sequence[bytes]) -> Index | Refused:
        """Append commands to the log of a leader, all or none; return the index of the first."""
        if self._leadership is None:
            return _NOT_LEADER
        return self._leadership.propose(commands)

    def propose_change(
        self, changes: Iterable[Change], now: float, expected_index: Index | None = None
    ) -> Index | Refused:
        """Begin to change the members; return the index of the first step's entry (§6).

        With ``expected_index`` only if the configuration is still the one at that index; it must
        have been committed there, since another leader may have put another one in its place.
        """
        if self._leadership is None:
            return _NOT_LEADER
        return self._leadership.change(changes, expected_index, now)

    def read_index(self, context: int, now: float) -> bool:
        """Ask for the index at which a read sees every acknowledged write; False: ask elsewhere.

        The answer comes as a ReadState with the same ``context``, or never: if leadership
        changes first, or a message is lost. A follower asks its leader; so that no late
        answer meets another question, contexts must not repeat, not even after a restart.
        """
        state = self._state
        if self._leadership is not None:
            self._leadership.read(ReadRequest(state.me, context))
            return True
        if state.leader is None:
            return False
        state.send(ReadIndex(state.me, state.leader, state.term, context))
        return True

    def lease_read(self, now: float) -> Index | None:
        """Return the index for a read that asks nobody; None: no lease (thesis §6.4.1)."""
        return self._leadership.lease_read(now) if self._leadership else None

    # --- Inputs: the state machine and the disk --------------------------------------------------

    def persisted(self, number: int, now: float) -> None:
        """Note that what Ready ``number`` wanted stored is on disk, in whatever order."""
        done = self._state.saves.completed(number)
        self._state.end_recovery_if_over()
        if done:
            self._lead_if_elected(now)
            self._advance_commit(now)

    def applied(self, index: Index) -> None:
        """Note that the state machine has applied everything up to ``index``."""
        state = self._state
        if not state.last_applied <= index <= state.commit_index:
            raise state.violation(f"applied {index} is outside of what is committed")
        state.last_applied = index
        state.emit(Applied(index))

    def compact(self, data: bytes, keep_entries: int = 0) -> None:
        """Let ``data``, the state machine after ``last_applied``, stand for the log up to there.

        The newest ``keep_entries`` of the entries stay in memory, for followers that lag little.
        """
        state = self._state
        index = state.last_applied
        term = state.log.term_at(index)
        if term is None or index == 0 or (state.snapshot and state.snapshot.index >= index):
            return
        placed = state.configurations.at(index)
        if not placed.configuration.voters:
            # A new server has not reached the entry yet that says who belongs to the cluster.
            return
        snapshot = Snapshot(index, term, placed.configuration, data, placed.index)
        state.compact(snapshot, Index(index - keep_entries + 1))

    # --- Inputs: messages ------------------------------------------------------------------------

    def step(self, message: Message, now: float) -> None:
        """Take in a message from another server of the cluster, or one that was or will be."""
        state = self._state
        if message.dst != state.me or message.src == state.me:
            state.ignore(message, "it is not from another server to this one")
            return
        if state.recovering and isinstance(message, RequestPreVote | RequestVote):
            state.ignore(message, UNFIT_TO_VOTE)
            return
        if isinstance(message, RequestPreVote):
            self._on_request_pre_vote(message, now)
            return
        if isinstance(message, RequestVote) and refuse_if_disruptive(state, message, now):
            return
        # All servers: a higher term makes this server a follower in that term (§5.1).
        if self.rules.is_newer_term(message.term, state.term):
            state.enter_term(message.term)
            self._become_follower(RoleReason.HIGHER_TERM, now)
        match message:
            case AppendEntries():
                if self.rules.is_stale_request(message.term, state.term):
                    refuse_append(state, message)
                else:
                    self._follow(message, now)
                    on_append_entries(state, message)
            case RequestVote():
                on_request_vote(state, message, now)
            case InstallSnapshot():
                if self.rules.is_stale_request(message.term, state.term):
                    refuse_snapshot(state, message)
                else:
                    self._follow(message, now)
                    self._on_snapshot(message, now)
            case _:
                self._on_other(message, now)

    def _on_other(self, message: Message, now: float) -> None:
        """Take in a reply, or what servers ask of each other within a term."""
        state = self._state
        # A pre-vote names the election that it is about; who grants it may be in an older term, as
        # a new member is. If that did not count, the cluster could be without a leader for ever.
        about_election = isinstance(message, RequestPreVoteReply)
        if not about_election and self.rules.is_stale_reply(message, state.term):
            state.ignore(message, _why_stale(message))
            return
        match message:
            case AppendEntriesReply() if self._leadership is not None:
                self._leadership.on_append_reply(message, now)
                self._advance_commit(now)
            case RequestVoteReply() if self._election is not None:
                self._election.on_reply(message)
                self._lead_if_elected(now)
            case RequestPreVoteReply() if self._pre_election is not None:
                self._pre_election.on_reply(message)
                self._elect_if_hopeful(now)
            case InstallSnapshotReply() if self._leadership is not None:
                self._leadership.on_snapshot_reply(message, now)
                self._advance_commit(now)
            case ReadIndex() if self._leadership is not None:
                self._leadership.read(ReadRequest(message.src, message.context))
            case ReadIndexReply():
                state.outbox.read_states.append(ReadState(message.context, message.index))
            case TimeoutNow() if message.src == state.leader and state.may_campaign:
                self._start_election(now, RoleReason.TRANSFER)
            case RequestVoteReply() | RequestPreVoteReply():
                state.ignore(message, "the election is over")
            case TimeoutNow():
                state.ignore(message, "this server may not take over")
            case _:
                state.ignore(message, "this server does not lead")

    def _follow(self, message: AppendEntries | InstallSnapshot, now: float) -> None:
        """Take the sender for the leader of this term; an election is over (§5.2)."""
        state = self._state
        if self._leadership is not None:
            raise state.violation(f"S{message.src} also leads term {state.term}")
        if self._election is not None or self._pre_election is not None:
            # Candidates: if AppendEntries comes from new leader, convert to follower (§5.2).
            self._become_follower(RoleReason.LEADER_EXISTS, now)
        state.hear(message.src, now)

    def _on_snapshot(self, message: InstallSnapshot, now: float) -> None:
        before = self._state.commit_index
        self._receiver.receive(message)
        if self._state.commit_index == before:
            return
        snapshot = self._state.snapshot
        assert snapshot is not None
        self._handed_to_apply = max(self._handed_to_apply, snapshot.index)
        term = self.rules.term_after_snapshot(snapshot, self.term)
        if term != self.term:
            self._state.remember(term, self.voted_for)

    def _on_request_pre_vote(self, message: RequestPreVote, now: float) -> None:
        term = self.rules.term_after_pre_vote(message.term, self.term)
        if term > self.term:
            self._state.enter_term(term)
            self._become_follower(RoleReason.HIGHER_TERM, now)
        on_request_pre_vote(self._state, message, now)

    # --- Roles (Figure 4) ------------------------------------------------------------------------

    def _campaign(self, now: float, reason: RoleReason) -> None:
        """Convert to candidate, by way of a pre-vote if so configured (§5.2; thesis §9.6)."""
        if not self._state.may_campaign:
            # Learners, and servers that were removed, wait to be called: by whom they do not know.
            self._state.set_leader(None)
            self._state.arm_election_timer(now)
        elif self.config.pre_vote:
            self._election = None
            self._pre_election = PreElection(self._state, now, reason)
            self._elect_if_hopeful(now)
        else:
            self._start_election(now, reason)

    def _elect_if_hopeful(self, now: float) -> None:
        if self._pre_election is not None and self._pre_election.won:
            self._start_election(now, RoleReason.PRE_VOTES_WON)

    def _start_election(self, now: float, reason: RoleReason) -> None:
        self._pre_election = None
        self._election = Election(self._state, now, reason)
        self._lead_if_elected(now)

    def _lead_if_elected(self, now: float) -> None:
        if self._election is not None and self._election.won:
            self._election = None
            self._leadership = Leadership(self._state, now)

    def _become_follower(self, reason: RoleReason, now: float) -> None:
        state = self._state
        led = self._leadership is not None
        self._election = self._pre_election = self._leadership = None
        if state.role is not Role.FOLLOWER:
            state.role = Role.FOLLOWER
            state.emit(RoleChanged(state.role, state.term, reason))
        if led:
            if state.leader == state.me:
                state.set_leader(None)
            # A leader's timer was for heartbeats; others keep the timeout they wait for.
            state.arm_election_timer(now)

    def _advance_commit(self, now: float) -> None:
        leadership = self._leadership
        if leadership is not None and leadership.advance_commit(now) and leadership.removed:
            # The others must learn that the change which removed this server is committed.
            leadership.send_last_appends(now)
            self._become_follower(RoleReason.REMOVED, now)

    # --- Output ----------------------------------------------------------------------------------

    def ready(self, now: float) -> Ready | None:
        """Return the work that has come up since the last call, None if there is none."""
        state, saves, outbox = self._state, self._state.saves, self._state.outbox
        if self._leadership is not None:
            self._leadership.send_appends(now)
        to_store = saves.unsaved(state.hard_state, state.log.last_index)
        to_apply = state.commit_index > self._handed_to_apply
        if not (
            to_store or to_apply or outbox.messages or outbox.after_persist or outbox.read_states
        ):
            return None
        self._ready_number += 1
        ready = Ready(
            self._ready_number,
            *(self._take_unsaved() if to_store else _NOTHING_TO_STORE),
            tuple(outbox.messages),
            tuple(outbox.after_persist),
            *(self._take_committed() if to_apply else _NOTHING_TO_APPLY),
            tuple(outbox.read_states),
        )
        outbox.messages, outbox.after_persist, outbox.read_states = [], [], []
        return ready

    def _take_unsaved(
        self,
    ) -> tuple[HardState | None, Snapshot | None, bool, Index, tuple[Entry, ...]]:
        state, saves = self._state, self._state.saves
        hard_state = state.hard_state if state.hard_state != saves.hard_state else None
        snapshot, restore = saves.snapshot, saves.restore
        first_index, rewrite = saves.take(
            self._ready_number, state.hard_state, state.log.last_index
        )
        entries = state.log.entries(first_index, state.log.last_index)
        return (
            hard_state,
            snapshot,
            restore,
            first_index if entries or rewrite else Index(0),
            entries,
        )

    def _take_committed(self) -> tuple[Index, tuple[Entry, ...]]:
        # All servers: if commitIndex > lastApplied, apply what lies between, in order (§5.3).
        # ``applied`` raises lastApplied when the state machine has done so.
        state = self._state
        first_index = self.rules.next_to_apply(self._handed_to_apply)
        self._handed_to_apply = state.commit_index
        return first_index, state.log.entries(first_index, state.commit_index)

    def take_events(self) -> list[CoreEvent]:
        """Return what happened since the last call, in order."""
        events, self._state.outbox.events = self._state.outbox.events, []
        return events


def _why_stale(reply: Message) -> str:
    """Say why a reply of an older term changes nothing.

    A voter that hears a leader does not enter the candidate's term: its answer is of an older one,
    however fast it came, and what matters is why it refused (thesis §4.2.3).
    """
    match reply:
        case RequestVoteReply(outcome=LeaderAlive(None)):
            return (
                f"S{reply.src} refuses, since it may have heard from a leader before it restarted"
            )
        case RequestVoteReply(outcome=LeaderAlive(leader)) if leader == reply.src:
            return f"S{reply.src} refuses, since it leads"
        case RequestVoteReply(outcome=LeaderAlive(leader)):
            return f"S{reply.src} refuses, since it hears from the leader S{leader}"
        case _:
            return f"it is of term {reply.term}, which is over"
