"""The consensus machine: inputs in, work and explanations out. No clock, no IO, no waiting.

Feed it messages, time and proposals; take :class:`Ready` from it and do what it says::

    core.step(message, now)          core.ready()  →  send messages
    core.tick(now)                                    save hard state and entries, then
    core.propose(data, now)                           core.persisted(ready.number)
    core.read_index(context, now)                     send messages_after_persist
                                                      apply committed entries, then
                                                      core.applied(index)

Figure 2 of the paper, in the order of this file: all servers, elections, the follower's
side of AppendEntries, the leader's side, reads, output. Decisions are in ``rules.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from random import Random

from raft.core.events import (
    Applied,
    CommitAdvanced,
    CoreEvent,
    EntriesAppended,
    EntriesTruncated,
    LeaderChanged,
    MessageIgnored,
    ProgressChanged,
    Role,
    RoleChanged,
    RoleReason,
    TermChanged,
    TimerArmed,
    TimerKind,
    VoteCast,
    VoteReceived,
)
from raft.core.log import HardState, InvariantViolation, Log, LogSlice
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    AppendOutcome,
    Entry,
    EntryKind,
    Granted,
    Index,
    Message,
    Mismatch,
    RequestVote,
    RequestVoteReply,
    ServerId,
    StaleTerm,
    Term,
)
from raft.core.progress import Progress
from raft.core.quorum import is_quorum, quorum_index
from raft.core.readonly import PendingRead, ReadQueue, ReadState
from raft.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Config:
    """What a server knows from the start. Times are in seconds.

    ``members`` are all servers of the cluster, this one included. Election timeouts are drawn
    anew for each wait; heartbeats must be much more frequent (§5.6).
    """

    server: ServerId
    members: tuple[ServerId, ...]
    election_timeout_min: float = 0.150
    election_timeout_max: float = 0.300
    heartbeat_interval: float = 0.050
    max_append_bytes: int = 256 * 1024
    """An AppendEntries carries as many entries as fit in this many bytes, but at least one."""

    def __post_init__(self) -> None:
        """Raise ValueError for a configuration that cannot work."""
        if self.server not in self.members:
            raise ValueError(f"server {self.server} is not among the members {self.members}")
        if len(set(self.members)) != len(self.members) or min(self.members) < 1:
            raise ValueError(f"members must be distinct numbers from 1, not {self.members}")
        if not 0 < self.heartbeat_interval < self.election_timeout_min:
            raise ValueError(
                f"heartbeats every {self.heartbeat_interval} s must be more frequent than "
                f"election timeouts of {self.election_timeout_min} s"
            )
        if self.election_timeout_min > self.election_timeout_max:
            raise ValueError(
                f"the shortest election timeout, {self.election_timeout_min} s, "
                f"is longer than the longest, {self.election_timeout_max} s"
            )


@dataclass(frozen=True, slots=True)
class Ready:
    """Work that the core hands out, to be done in this order.

    ``messages`` may leave at once. ``hard_state`` and ``entries`` (from ``first_index`` on,
    replacing whatever a store has there) go to the disk; then call ``persisted(number)``, send
    ``messages_after_persist``, which promise what was just stored, and apply
    ``committed_entries`` (the first at ``first_committed``). ``read_states`` are reads that may
    be answered when their index is applied.
    """

    number: int
    hard_state: HardState | None
    first_index: Index
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    messages_after_persist: tuple[Message, ...]
    first_committed: Index
    committed_entries: tuple[Entry, ...]
    read_states: tuple[ReadState, ...]


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
    ) -> None:
        self.config = config
        self.rules = rules or Rules()
        self._random = random
        self._peers = tuple(m for m in config.members if m != config.server)

        # Persistent state on all servers (Figure 2).
        self.term = hard_state.term
        self.voted_for = hard_state.voted_for
        self.log = Log(entries)

        # Volatile state on all servers.
        self.commit_index = Index(0)
        self.last_applied = Index(0)
        self.role = Role.FOLLOWER
        self.leader: ServerId | None = None

        # Volatile state on candidates and leaders.
        self.votes: set[ServerId] = set()
        self.progress: dict[ServerId, Progress] = {}
        self._reads = ReadQueue()
        self._round = 0
        self._broadcast_due = False

        # What has been handed out, and what is still to be.
        self._saved_hard_state = hard_state
        self._stable_index = self.log.last_index
        self._unsaved_from = Index(self.log.last_index + 1)
        self._in_save: dict[int, tuple[Index, Term]] = {}
        self._handed_to_apply = Index(0)
        self._ready_number = 0
        self._messages: list[Message] = []
        self._after_persist: list[Message] = []
        self._read_states: list[ReadState] = []
        self._events: list[CoreEvent] = []

        self.timer_kind = TimerKind.ELECTION
        self.deadline = 0.0
        self.timer_interval = 0.0
        self._emit(RoleChanged(self.role, self.term, RoleReason.STARTED))
        self._arm_election_timer(now)

    # --- Inputs ----------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Let time pass: a due timer fires, once. ``deadline`` tells when to call next."""
        if now < self.deadline:
            return
        if self.role is Role.LEADER:
            # Leaders: send heartbeats during idle periods to prevent election timeouts (§5.2).
            self._broadcast_due = True
            self._arm_heartbeat_timer(now)
        else:
            self._start_election(now, RoleReason.ELECTION_TIMEOUT)

    def campaign(self, now: float) -> bool:
        """Start an election at once, as if the timer had fired. False: this server leads."""
        if self.role is Role.LEADER:
            return False
        self._start_election(now, RoleReason.ASKED)
        return True

    def wait_anew(self, now: float) -> None:
        """Begin the wait for a leader at ``now``: what time it is was not known before."""
        self._arm(TimerKind.ELECTION, now, self.timer_interval)

    def step(self, message: Message, now: float) -> None:
        """Take in a message from another server."""
        if message.dst != self.config.server or message.src not in self._peers:
            self._ignore(message, "it is not between this server and another of its cluster")
            return
        # All servers: a higher term makes this server a follower in that term (§5.1).
        if self.rules.is_newer_term(message.term, self.term):
            self._enter_term(message.term)
            self._become_follower(RoleReason.HIGHER_TERM, now)
        match message:
            case RequestVote():
                self._on_request_vote(message, now)
            case RequestVoteReply():
                self._on_vote_reply(message, now)
            case AppendEntries():
                self._on_append_entries(message, now)
            case AppendEntriesReply():
                self._on_append_reply(message)

    def propose(self, data: bytes, now: float) -> Index | None:
        """Append a command to the log of a leader and return its index; None: not the leader.

        Leaders: a command from a client is appended, and answered once it is applied (§5.3).
        """
        if self.role is not Role.LEADER:
            return None
        self._append((Entry(self.term, EntryKind.COMMAND, data),))
        return self.log.last_index

    def read_index(self, context: int, now: float) -> bool:
        """Ask for the index at which a read sees every acknowledged write; False: not the leader.

        The answer comes as a ReadState with the same ``context``. It never comes if this
        server stops leading first: watch its role.
        """
        if self.role is not Role.LEADER:
            return False
        if self.rules.may_read(self.log.term_at(self.commit_index), self.term):
            self._confirm_leadership(context)
        else:
            self._reads.wait_for_commit(context)
        return True

    def persisted(self, number: int) -> None:
        """Note that hard state and entries of Ready ``number`` are on disk, in their order.

        Raises InvariantViolation for another Ready than the oldest that is not: what is stored
        before what precedes it is no log yet.
        """
        if number != next(iter(self._in_save), None):
            raise self._violation(f"Ready {number} is stored out of order")
        last_index, last_term = self._in_save.pop(number)
        # ABA: entries saved then may have been replaced since; only what is still there counts.
        if self.log.term_at(last_index) != last_term:
            return
        self._stable_index = max(self._stable_index, last_index)
        if self.role is Role.LEADER:
            self._advance_commit()

    def applied(self, index: Index) -> None:
        """Note that the state machine has applied everything up to ``index``."""
        if not self.last_applied <= index <= self.commit_index:
            raise self._violation(f"applied {index} is outside of what is committed")
        self.last_applied = index
        self._emit(Applied(index))

    # --- All servers: terms, roles, timers -----------------------------------------------------

    def _enter_term(self, term: Term) -> None:
        if term <= self.term:
            raise self._violation(f"terms only grow, but {term} follows {self.term}")
        self.term = term
        self.voted_for = None
        self._emit(TermChanged(term))
        self._set_leader(None)

    def _become_follower(self, reason: RoleReason, now: float) -> None:
        was_leader = self.role is Role.LEADER
        if self.role is not Role.FOLLOWER:
            self.role = Role.FOLLOWER
            self.votes = set()
            self.progress = {}
            self._reads = ReadQueue()
            self._emit(RoleChanged(self.role, self.term, reason))
        if was_leader:
            # A leader's timer was for heartbeats; others keep the election timeout they wait for.
            self._arm_election_timer(now)

    def _set_leader(self, leader: ServerId | None) -> None:
        if leader != self.leader:
            self.leader = leader
            self._emit(LeaderChanged(self.term, leader))

    def _arm_election_timer(self, now: float) -> None:
        config = self.config
        timeout = self.rules.election_timeout(
            self._random, config.election_timeout_min, config.election_timeout_max
        )
        self._arm(TimerKind.ELECTION, now, timeout)

    def _arm_heartbeat_timer(self, now: float) -> None:
        self._arm(TimerKind.HEARTBEAT, now, self.config.heartbeat_interval)

    def _arm(self, kind: TimerKind, now: float, interval: float) -> None:
        self.timer_kind = kind
        self.timer_interval = interval
        self.deadline = now + interval
        self._emit(TimerArmed(kind, self.deadline, interval))

    # --- Elections (§5.2) --------------------------------------------------------------------

    def _start_election(self, now: float, reason: RoleReason) -> None:
        """Candidates: increment currentTerm, vote for self, reset timer, ask all others."""
        self._enter_term(self.rules.next_term(self.term))
        self.role = Role.CANDIDATE
        self.voted_for = self.config.server
        self.votes = set()
        self._emit(RoleChanged(self.role, self.term, reason))
        self._arm_election_timer(now)
        for peer in self._peers:
            self._after_persist.append(
                RequestVote(
                    self.config.server, peer, self.term, self.log.last_index, self.log.last_term
                )
            )
        self._count_vote(self.config.server, now)

    def _on_request_vote(self, request: RequestVote, now: float) -> None:
        """RequestVote, receiver implementation 1 and 2."""
        outcome = self.rules.vote(request, self.term, self.voted_for, self.log)
        if isinstance(outcome, Granted):
            self.voted_for = request.src
            # Followers: granting a vote resets the election timeout; refusing does not (§5.2).
            self._arm_election_timer(now)
        self._emit(VoteCast(self.term, request.src, outcome))
        self._after_persist.append(
            RequestVoteReply(self.config.server, request.src, self.term, outcome)
        )

    def _on_vote_reply(self, reply: RequestVoteReply, now: float) -> None:
        if self.rules.is_stale_reply(reply, self.term):
            self._ignore(reply, f"it answers a request of term {reply.term}")
        elif self.role is not Role.CANDIDATE:
            self._ignore(reply, "the election is over")
        elif isinstance(reply.outcome, Granted):
            self._count_vote(reply.src, now)
        else:
            self._emit(VoteReceived(self.term, reply.src, reply.outcome))

    def _count_vote(self, voter: ServerId, now: float) -> None:
        """Candidates: votes from a majority of servers make a leader."""
        self.votes.add(voter)
        self._emit(VoteReceived(self.term, voter, Granted()))
        members = self.config.members
        if is_quorum(members, self.votes, self.rules.quorum(len(members))):
            self._become_leader(now)

    def _become_leader(self, now: float) -> None:
        """Leaders: nextIndex starts after the last entry; a heartbeat goes out upon election.

        The heartbeat carries a no-op, the first entry of the term: only when it commits does
        the leader know which older entries are committed (§5.4.2, §8).
        """
        self.role = Role.LEADER
        self._round = 0
        next_index = Index(self.log.last_index + 1)
        self.progress = {peer: Progress(next_index) for peer in self._peers}
        self._emit(RoleChanged(self.role, self.term, RoleReason.WON_ELECTION))
        self._set_leader(self.config.server)
        for peer in self._peers:
            self._emit(ProgressChanged(peer, next_index, Index(0)))
        self._append((Entry(self.term, EntryKind.NOOP),))
        self._broadcast_due = True
        self._arm_heartbeat_timer(now)

    # --- AppendEntries, receiver implementation (§5.3) -----------------------------------------

    def _on_append_entries(self, request: AppendEntries, now: float) -> None:
        if self.rules.is_stale_request(request.term, self.term):
            # 1. Reply false if term < currentTerm.
            self._reply_to_append(request, StaleTerm())
            return
        if self.role is Role.LEADER:
            raise self._violation(f"S{request.src} also leads term {self.term}")
        fault = LogSlice(request.prev_log_index, request.prev_log_term, request.entries).fault(
            request.term
        )
        if fault is not None:
            self._ignore(request, fault)
            return
        # Candidates: a leader of this term exists; the election is over (§5.2).
        self._become_follower(RoleReason.LEADER_EXISTS, now)
        self._set_leader(request.src)
        self._arm_election_timer(now)
        if not self.rules.matches(self.log, request.prev_log_index, request.prev_log_term):
            # 2. Reply false if there is no entry at prevLogIndex with prevLogTerm.
            self._reply_to_append(request, self.rules.conflict(self.log, request.prev_log_index))
            return
        self._take_entries(request)
        match_index = self.rules.match_index(request, self.log)
        # 5. If leaderCommit > commitIndex, follow it as far as the logs are known to match.
        self._commit_to(
            self.rules.follower_commit(request.leader_commit, match_index, self.commit_index)
        )
        self._reply_to_append(request, Appended(match_index))

    def _take_entries(self, request: AppendEntries) -> None:
        known = self.rules.first_new(self.log, request)
        new = request.entries[known:]
        if not new:
            return
        first_new = Index(request.prev_log_index + 1 + known)
        if self.rules.conflicts(self.log, first_new):
            # 3. An existing entry conflicts with a new one: delete it and all that follow it.
            self._truncate(first_new)
        # 4. Append any new entries not already in the log.
        self._append(new)

    def _reply_to_append(self, request: AppendEntries, outcome: AppendOutcome) -> None:
        self._after_persist.append(
            AppendEntriesReply(self.config.server, request.src, self.term, outcome, request.round)
        )

    # --- Leaders (§5.3, §5.4) ------------------------------------------------------------------

    def _on_append_reply(self, reply: AppendEntriesReply) -> None:
        if self.rules.is_stale_reply(reply, self.term):
            self._ignore(reply, f"it answers a request of term {reply.term}")
            return
        if self.role is not Role.LEADER:
            self._ignore(reply, "this server does not lead")
            return
        if isinstance(reply.outcome, StaleTerm):
            self._ignore(reply, "it refuses a term that it shares")
            return
        progress = self.progress[reply.src]
        before = replace(progress)
        progress.round = max(progress.round, reply.round)
        match reply.outcome:
            case Appended(match_index):
                # If successful: update nextIndex and matchIndex for follower.
                self._check_acknowledged(reply.src, match_index)
                progress.acknowledged(match_index)
            case Mismatch() as conflict:
                # If it fails because of log inconsistency: decrement nextIndex and retry.
                retry_from = self.rules.retry_from(self.log, conflict)
                if not progress.refused(conflict.prev_log_index, retry_from):
                    self._ignore(reply, "a later answer has overtaken this refusal")
        if (progress.next_index, progress.match_index) != (before.next_index, before.match_index):
            self._emit(ProgressChanged(reply.src, progress.next_index, progress.match_index))
        if progress.match_index > before.match_index:
            self._advance_commit()

    def _check_acknowledged(self, follower: ServerId, match_index: Index) -> None:
        if match_index > self.log.last_index:
            raise self._violation(
                f"S{follower} acknowledges index {match_index} of a log of {self.log.last_index}"
            )

    def _advance_commit(self) -> None:
        """Leaders: if a majority has an entry of the current term, commit it (§5.3, §5.4.2).

        The leader's own log counts as far as it is on its disk.
        """
        matched = [self._stable_index, *(p.match_index for p in self.progress.values())]
        index = Index(quorum_index(matched, self.rules.quorum(len(matched))))
        if index <= self.commit_index:
            return
        term = self.log.term_at(index)
        if term is not None and self.rules.may_commit(term, self.term):
            self._commit_to(index)
            for context in self._reads.take_early():
                self._confirm_leadership(context)

    def _send_appends(self) -> None:
        """Leaders: send each follower what it lacks, from nextIndex on (§5.3)."""
        if self._broadcast_due:
            self._round += 1
        for peer, progress in self.progress.items():
            if self._broadcast_due:
                self._send_append(peer, progress)
            while progress.may_send(self.log.last_index):
                self._send_append(peer, progress)
        self._broadcast_due = False

    def _send_append(self, peer: ServerId, progress: Progress) -> None:
        prev_index = Index(progress.next_index - 1)
        prev_term = self.log.term_at(prev_index)
        if prev_term is None:
            raise self._violation(f"nextIndex {progress.next_index} of S{peer} is past the log")
        entries = self._batch_from(progress.next_index)
        self._messages.append(
            AppendEntries(
                self.config.server,
                peer,
                self.term,
                prev_index,
                prev_term,
                entries,
                self.commit_index,
                self._round,
            )
        )
        before = progress.next_index
        if entries:
            progress.sent(Index(prev_index + len(entries)))
        if progress.next_index != before:
            self._emit(ProgressChanged(peer, progress.next_index, progress.match_index))

    def _batch_from(self, first: Index) -> tuple[Entry, ...]:
        size = 0
        last = first
        while last <= self.log.last_index:
            size += len(self.log.entry(last).data) + 32
            if size > self.config.max_append_bytes and last > first:
                break
            last = Index(last + 1)
        return self.log.entries(first, last - 1)

    # --- Reads (§8) --------------------------------------------------------------------------

    def _confirm_leadership(self, context: int) -> None:
        """Note the commitIndex, then hear from a majority in a round that begins after now."""
        self._reads.wait_for_round(PendingRead(context, self._round + 1, self.commit_index))
        self._broadcast_due = True

    def _confirm_reads(self) -> None:
        if not self._reads:
            return
        rounds = [self._round, *(p.round for p in self.progress.values())]
        cluster_size = len(rounds)
        for round_ in sorted(set(rounds), reverse=True):
            answered = sum(r >= round_ for r in rounds)
            if self.rules.is_read_confirmed(answered, cluster_size):
                self._read_states += self._reads.take_confirmed(round_)
                return

    # --- The log and its disk ------------------------------------------------------------------

    def _append(self, entries: tuple[Entry, ...]) -> None:
        first_index = Index(self.log.last_index + 1)
        self.log.append(entries)
        self._emit(EntriesAppended(first_index, entries))

    def _truncate(self, from_index: Index) -> None:
        if from_index <= self.commit_index:
            raise self._violation(f"entry {from_index} is committed and would be removed")
        self.log.truncate(from_index)
        self._stable_index = min(self._stable_index, Index(from_index - 1))
        self._unsaved_from = min(self._unsaved_from, from_index)
        self._emit(EntriesTruncated(from_index))

    def _commit_to(self, index: Index) -> None:
        if index == self.commit_index:
            return
        if not self.commit_index < index <= self.log.last_index:
            raise self._violation(f"commitIndex cannot go from {self.commit_index} to {index}")
        self.commit_index = index
        self._emit(CommitAdvanced(index))

    # --- Output --------------------------------------------------------------------------------

    def ready(self) -> Ready | None:
        """Return the work that has come up since the last call, None if there is none."""
        if self.role is Role.LEADER:
            self._send_appends()
            self._confirm_reads()
        hard_state = self.rules.hard_state(self.term, self.voted_for)
        first_index = self._unsaved_from
        entries = self.log.entries(first_index, self.log.last_index)
        first_committed = Index(self._handed_to_apply + 1)
        committed = self.log.entries(first_committed, self.commit_index)
        if not (
            hard_state != self._saved_hard_state
            or entries
            or self._messages
            or self._after_persist
            or committed
            or self._read_states
        ):
            return None
        self._ready_number += 1
        self._in_save[self._ready_number] = (self.log.last_index, self.log.last_term)
        ready = Ready(
            number=self._ready_number,
            hard_state=hard_state if hard_state != self._saved_hard_state else None,
            first_index=first_index if entries else Index(0),
            entries=entries,
            messages=tuple(self._messages),
            messages_after_persist=tuple(self._after_persist),
            first_committed=first_committed,
            committed_entries=committed,
            read_states=tuple(self._read_states),
        )
        self._saved_hard_state = hard_state
        self._unsaved_from = Index(self.log.last_index + 1)
        self._handed_to_apply = max(self._handed_to_apply, self.commit_index)
        self._messages, self._after_persist, self._read_states = [], [], []
        return ready

    def take_events(self) -> list[CoreEvent]:
        """Return what happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    def _emit(self, event: CoreEvent) -> None:
        self._events.append(event)

    def _ignore(self, message: Message, reason: str) -> None:
        self._emit(MessageIgnored(message.src, type(message).__name__, reason))

    def _violation(self, what: str) -> InvariantViolation:
        return InvariantViolation(
            f"{what}\nS{self.config.server} {self.role.name} term {self.term} "
            f"voted for {self.voted_for} commit {self.commit_index} applied {self.last_applied}\n"
            f"log terms {[entry.term for entry in self.log.entries(1, self.log.last_index)]}\n"
            f"progress {self.progress}"
        )
