"""What every server does when it is asked (Figure 2 and 13, receiver implementations).

Votes are asked of all roles; entries and snapshots come from the leader of the term, which
makes their receiver its follower.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.events import PreVoteCast, Role, VoteCast
from raft.core.log import LogSlice, Snapshot
from raft.core.membership import Configuration, ConfigurationError
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    AppendOutcome,
    Granted,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    LeaderAlive,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    StaleTerm,
    Term,
    VoteOutcome,
)
from raft.core.state import State

# --- Votes ---------------------------------------------------------------------------------------


def on_request_vote(state: State, request: RequestVote, now: float) -> None:
    """RequestVote, receiver implementation 1 and 2."""
    outcome = state.rules.vote(request, state.term, state.voted_for, state.log)
    if isinstance(outcome, Granted):
        state.remember(state.term, request.src)
        # Followers: granting a vote resets the election timeout; refusing does not (§5.2).
        state.arm_election_timer(now)
    _answer_vote(state, request, outcome)


def refuse_if_disruptive(state: State, request: RequestVote, now: float) -> bool:
    """Refuse a vote without taking over its term, if a leader is alive; tell whether so."""
    if not state.config.check_quorum:
        return False
    alive = _leader_alive(state, request, now)
    if alive is None or not state.rules.is_disruptive(request):
        return False
    _answer_vote(state, request, alive)
    return True


def _leader_alive(
    state: State, request: RequestVote | RequestPreVote, now: float
) -> LeaderAlive | None:
    """Return which leader, other than the one that asks, this server still hears."""
    if state.role is Role.LEADER:
        return LeaderAlive(state.me)
    if state.heard != request.src and state.hears_leader(now):
        return LeaderAlive(state.heard)
    return None


def _answer_vote(state: State, request: RequestVote, outcome: VoteOutcome) -> None:
    state.emit(VoteCast(state.term, request.src, outcome))
    state.promise(RequestVoteReply(state.me, request.src, state.term, outcome))


def on_request_pre_vote(state: State, request: RequestPreVote, now: float) -> None:
    """Say whether one would vote; nothing changes by it (thesis §9.6)."""
    alive = _leader_alive(state, request, now)
    outcome = state.rules.pre_vote(request, state.term, alive, state.log)
    state.emit(PreVoteCast(request.term, request.src, outcome))
    state.send(RequestPreVoteReply(state.me, request.src, state.term, request.term, outcome))


# --- AppendEntries -------------------------------------------------------------------------------


def on_append_entries(state: State, request: AppendEntries) -> None:
    """AppendEntries, receiver implementation 2 to 5; the request is of the current term."""
    fault = LogSlice(request.prev_log_index, request.prev_log_term, request.entries).fault(
        request.term
    )
    if fault is not None:
        state.ignore(request, fault)
        return
    request = _without_compacted(state, request)
    if not state.rules.matches(state.log, request.prev_log_index, request.prev_log_term):
        # 2. Reply false if there is no entry at prevLogIndex with prevLogTerm.
        answer_append(state, request, state.rules.conflict(state.log, request.prev_log_index))
        return
    _take_entries(state, request)
    match_index = state.rules.match_index(request, state.log)
    # 5. If leaderCommit > commitIndex, follow it as far as the logs are known to match.
    state.commit_to(
        state.rules.follower_commit(request.leader_commit, match_index, state.commit_index)
    )
    answer_append(state, request, Appended(match_index))


def _without_compacted(state: State, request: AppendEntries) -> AppendEntries:
    """Return the part of a request that lies behind one's own snapshot.

    What a snapshot stands for is committed, so every leader's entries match it there.
    """
    log = state.log
    skip = log.prev_index - request.prev_log_index
    if skip <= 0:
        return request
    return AppendEntries(
        request.src,
        request.dst,
        request.term,
        log.prev_index,
        log.prev_term,
        request.entries[skip:],
        request.leader_commit,
        request.round,
    )


def _take_entries(state: State, request: AppendEntries) -> None:
    if not request.entries:
        return
    known = state.rules.first_new(state.log, request)
    new = request.entries[known:]
    if not new:
        return
    first_new = Index(request.prev_log_index + 1 + known)
    if state.rules.conflicts(state.log, first_new):
        # 3. An existing entry conflicts with a new one: delete it and all that follow it.
        state.truncate(first_new)
    # 4. Append any new entries not already in the log.
    state.append(new)


def answer_append(state: State, request: AppendEntries, outcome: AppendOutcome) -> None:
    """Answer an AppendEntries once everything it stored is on disk."""
    state.promise(
        AppendEntriesReply(
            state.me, request.src, state.term, outcome, request.round, state.config.patience
        )
    )


def refuse_append(state: State, request: AppendEntries) -> None:
    """AppendEntries, receiver implementation 1: reply false if term < currentTerm.

    Without the round: it counts broadcasts of another term, and would confirm nothing in this one.
    """
    state.promise(AppendEntriesReply(state.me, request.src, state.term, StaleTerm()))


# --- InstallSnapshot -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _SnapshotKey:
    """What makes pieces parts of the same snapshot, whoever leads when they come."""

    index: Index
    term: Term
    size: int
    checksum: int


class SnapshotReceiver:
    """Puts a snapshot together from its pieces."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._key: _SnapshotKey | None = None
        self._data = bytearray()

    def receive(self, request: InstallSnapshot) -> None:
        """InstallSnapshot, receiver implementation 2 to 8; the request is of the current term.

        Answers how far it got; a piece that does not continue what is there is asked for again.
        """
        state = self._state
        if request.last_index <= state.commit_index:
            # What it stands for is there already: a late or repeated piece.
            self._forget()
            self._answer(request, request.size, installed=True)
            return
        key = _SnapshotKey(request.last_index, request.last_term, request.size, request.checksum)
        if key != self._key:
            # 2. Create a new snapshot file at the first chunk: whatever its offset, since pieces
            #    may overtake each other; one that comes too early is asked for again.
            self._key, self._data = key, bytearray()
        if request.offset == len(self._data):
            # 3. Write data into the snapshot file at the given offset.
            self._data += request.data
        if len(self._data) < request.size:
            # 4. Reply and wait for more data chunks if this was not the last (the paper's "done").
            self._answer(request, len(self._data), installed=False)
            return
        self._complete(request)

    def _complete(self, request: InstallSnapshot) -> None:
        try:
            configuration = Configuration.decode(request.configuration)
        except ConfigurationError as error:
            self._forget()
            self._state.ignore(request, str(error))
            return
        snapshot = Snapshot(
            request.last_index,
            request.last_term,
            configuration,
            bytes(self._data),
            request.configuration_index,
        )
        self._forget()
        if len(snapshot.data) != request.size or snapshot.checksum != request.checksum:
            self._state.ignore(request, "the snapshot arrived damaged; it is asked for again")
            self._answer(request, 0, installed=False)
            return
        # For 5 to 8 see ``State.install``.
        self._state.install(snapshot)
        self._answer(request, request.size, installed=True)

    def _forget(self) -> None:
        self._key, self._data = None, bytearray()

    def _answer(self, request: InstallSnapshot, next_offset: int, *, installed: bool) -> None:
        state = self._state
        state.promise(
            InstallSnapshotReply(
                state.me,
                request.src,
                state.term,
                request.last_index,
                next_offset,
                installed,
                request.round,
                state.config.patience,
            )
        )


def refuse_snapshot(state: State, request: InstallSnapshot) -> None:
    """InstallSnapshot, receiver implementation 1: reply immediately if term < currentTerm."""
    state.promise(
        InstallSnapshotReply(
            state.me, request.src, state.term, request.last_index, 0, installed=False
        )
    )
