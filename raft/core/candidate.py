"""Rules for servers: candidates (§5.2), and pre-candidates (thesis §9.6).

An election is an object that lives as long as its server is a candidate; who won it, and
what follows, is for ``core.py``.
"""

from __future__ import annotations

from raft.core.events import PreVoteReceived, Role, RoleChanged, RoleReason, VoteReceived
from raft.core.messages import (
    Granted,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
)
from raft.core.state import State


class Election:
    """One attempt to become leader: the votes of one term."""

    def __init__(self, state: State, now: float, reason: RoleReason) -> None:
        """On conversion to candidate: raise the term, vote for oneself, reset the timer, ask all.

        The requests wait for the disk: a candidate that forgot its own vote could give another.
        """
        self.granted: set[ServerId] = set()
        self._state = state
        state.enter_term(state.rules.next_term(state.term))
        state.role = Role.CANDIDATE
        state.remember(state.term, state.me)
        state.emit(RoleChanged(state.role, state.term, reason))
        state.arm_election_timer(now)
        transfer = reason is RoleReason.TRANSFER
        for peer in _voters(state):
            state.promise(
                RequestVote(
                    state.me,
                    peer,
                    state.term,
                    state.log.last_index,
                    state.log.last_term,
                    transfer,
                )
            )
        self._count(state.me)

    @property
    def won(self) -> bool:
        """Votes from a majority make a leader, once its own is on disk.

        Others vote only after that; but a server that is a majority by itself could lead, crash
        and lead the same term again, with other entries.
        """
        state = self._state
        stored = state.saves.stable_hard_state == state.hard_state
        return stored and state.is_quorum(self.granted)

    def on_reply(self, reply: RequestVoteReply) -> None:
        """Count a vote, or note why it was refused."""
        if isinstance(reply.outcome, Granted):
            self._count(reply.src)
        else:
            self._state.emit(VoteReceived(self._state.term, reply.src, reply.outcome))

    def _count(self, voter: ServerId) -> None:
        self.granted.add(voter)
        self._state.emit(VoteReceived(self._state.term, voter, Granted()))


class PreElection:
    """The question whether an election could be won. Neither term nor vote change by it."""

    def __init__(self, state: State, now: float, reason: RoleReason) -> None:
        self.granted: set[ServerId] = set()
        self._state = state
        self._term: Term = state.rules.next_term(state.term)
        state.set_leader(None)
        state.role = Role.PRE_CANDIDATE
        state.emit(RoleChanged(state.role, state.term, reason))
        state.arm_election_timer(now)
        for peer in _voters(state):
            state.send(
                RequestPreVote(
                    state.me, peer, self._term, state.log.last_index, state.log.last_term
                )
            )
        self._count(state.me)

    @property
    def won(self) -> bool:
        """A majority would vote for this server."""
        return self._state.is_quorum(self.granted)

    def on_reply(self, reply: RequestPreVoteReply) -> None:
        """Count an answer to this question; an answer to an earlier one says nothing."""
        if reply.election_term != self._term:
            self._state.ignore(reply, f"it is about term {reply.election_term}")
        elif isinstance(reply.outcome, Granted):
            self._count(reply.src)
        else:
            self._state.emit(PreVoteReceived(self._term, reply.src, reply.outcome))

    def _count(self, voter: ServerId) -> None:
        self.granted.add(voter)
        self._state.emit(PreVoteReceived(self._term, voter, Granted()))


def _voters(state: State) -> tuple[ServerId, ...]:
    return tuple(peer for peer in state.peers if state.configuration.is_voter(peer))
