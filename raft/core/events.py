"""What happened inside one server, for whoever watches.

The core explains itself with these: each is a fact, stated after it became true in memory.
Nothing in Raft depends on them; a viewer that folds them in order, starting from a full
state, knows the server exactly.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raft.core.messages import Entry, Index, ServerId, Term, VoteOutcome


class Role(enum.IntEnum):
    """The three roles of a server (Figure 4)."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2


class TimerKind(enum.IntEnum):
    """A server has one timer; its role says what it is for."""

    ELECTION = 0
    HEARTBEAT = 1


class RoleReason(enum.IntEnum):
    """Why a server took a role."""

    STARTED = 0
    """Every server begins as a follower (§5.2)."""
    ELECTION_TIMEOUT = 1
    """No word from a leader for a whole election timeout."""
    ASKED = 2
    """Somebody timed the server out by hand."""
    WON_ELECTION = 3
    """A majority of the cluster granted its vote."""
    HIGHER_TERM = 4
    """A message carried a higher term (§5.1)."""
    LEADER_EXISTS = 5
    """A candidate heard from the leader of its own term (§5.2)."""


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """The server took a role. ``term`` is its current term from here on."""

    role: Role
    term: Term
    reason: RoleReason


@dataclass(frozen=True, slots=True)
class TermChanged:
    """currentTerm rose; the vote of the old term is void."""

    term: Term


@dataclass(frozen=True, slots=True)
class VoteCast:
    """The server decided on a RequestVote. Granted: votedFor is now the candidate."""

    term: Term
    candidate: ServerId
    outcome: VoteOutcome


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """A candidate counted a reply (its own vote first)."""

    term: Term
    voter: ServerId
    outcome: VoteOutcome


@dataclass(frozen=True, slots=True)
class LeaderChanged:
    """The server learnt who leads the term, or (None) that it does not know."""

    term: Term
    leader: ServerId | None


@dataclass(frozen=True, slots=True)
class TimerArmed:
    """The one timer fires at ``deadline`` (virtual seconds), ``interval`` after it was armed."""

    kind: TimerKind
    deadline: float
    interval: float


@dataclass(frozen=True, slots=True)
class EntriesAppended:
    """Entries were added at the end of the log, the first at ``first_index``."""

    first_index: Index
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class EntriesTruncated:
    """The entries from ``from_index`` on were removed: they conflict with the leader's (§5.3)."""

    from_index: Index


@dataclass(frozen=True, slots=True)
class CommitAdvanced:
    """commitIndex rose to ``index``."""

    index: Index


@dataclass(frozen=True, slots=True)
class Applied:
    """lastApplied rose to ``index``."""

    index: Index


@dataclass(frozen=True, slots=True)
class ProgressChanged:
    """What the leader knows of one follower: nextIndex and matchIndex."""

    follower: ServerId
    next_index: Index
    match_index: Index


@dataclass(frozen=True, slots=True)
class MessageIgnored:
    """A message changed nothing, and why."""

    src: ServerId
    kind: str
    reason: str


CoreEvent = (
    RoleChanged
    | TermChanged
    | VoteCast
    | VoteReceived
    | LeaderChanged
    | TimerArmed
    | EntriesAppended
    | EntriesTruncated
    | CommitAdvanced
    | Applied
    | ProgressChanged
    | MessageIgnored
)
