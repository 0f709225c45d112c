"""What happened inside one server, for whoever watches.

The core explains itself with these: each is a fact, stated after it became true in memory.
Nothing in Raft depends on them; a viewer that folds them in order, starting from a full
state, knows the server exactly.
"""

from __future__ import annotations

import enum

from raft.core.messages import Entry, Index, ServerId, Term, VoteOutcome
from raft.core.value import value


class Role(enum.IntEnum):
    """The three roles of a server (Figure 4)."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3
    """A follower that asks whether it could win an election (thesis §9.6)."""


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
    PRE_VOTES_WON = 6
    """A majority would vote for this server, so it starts an election."""
    QUORUM_LOST = 7
    """A leader had no answer from a majority for an election timeout (thesis §6.2)."""
    TRANSFER = 8
    """The leader handed its leadership to this server (thesis §3.10)."""
    REMOVED = 9
    """A leader is no longer a member: the change that removed it is committed (§6)."""


@value
class RoleChanged:
    """The server took a role. ``term`` is its current term from here on."""

    role: Role
    term: Term
    reason: RoleReason


@value
class TermChanged:
    """currentTerm rose; the vote of the old term is void."""

    term: Term


@value
class VoteCast:
    """The server decided on a RequestVote. Granted: votedFor is now the candidate."""

    term: Term
    candidate: ServerId
    outcome: VoteOutcome


@value
class VoteReceived:
    """A candidate counted a reply (its own vote first)."""

    term: Term
    voter: ServerId
    outcome: VoteOutcome


@value
class LeaderChanged:
    """The server learnt who leads the term, or (None) that it does not know."""

    term: Term
    leader: ServerId | None


@value
class TimerArmed:
    """The one timer fires at ``deadline`` (virtual seconds), ``interval`` after it was armed."""

    kind: TimerKind
    deadline: float
    interval: float


@value
class EntriesAppended:
    """Entries were added at the end of the log, the first at ``first_index``."""

    first_index: Index
    entries: tuple[Entry, ...]


@value
class EntriesTruncated:
    """The entries from ``from_index`` on were removed: they conflict with the leader's (§5.3)."""

    from_index: Index


@value
class CommitAdvanced:
    """commitIndex rose to ``index``."""

    index: Index


@value
class Applied:
    """lastApplied rose to ``index``."""

    index: Index


@value
class ProgressChanged:
    """What the leader knows of one follower: nextIndex and matchIndex."""

    follower: ServerId
    next_index: Index
    match_index: Index


@value
class MessageIgnored:
    """A message changed nothing, and why."""

    src: ServerId
    kind: str
    reason: str


@value
class PreVoteCast:
    """The server said whether it would vote for a candidate in ``election_term``."""

    election_term: Term
    candidate: ServerId
    outcome: VoteOutcome


@value
class PreVoteReceived:
    """A pre-candidate counted an answer (its own first)."""

    election_term: Term
    voter: ServerId
    outcome: VoteOutcome


@value
class ConfigurationChanged:
    """Who belongs to the cluster, by the entry at ``index`` (0: from the beginning).

    ``outgoing`` are the old voters while the configuration is joint.
    """

    index: Index
    voters: tuple[ServerId, ...]
    outgoing: tuple[ServerId, ...]
    learners: tuple[ServerId, ...]


@value
class LogCompacted:
    """A snapshot up to ``index`` was taken; the log starts at ``first_index`` now (§7)."""

    index: Index
    term: Term
    first_index: Index


@value
class SnapshotSent:
    """A leader sent a follower the bytes of a snapshot from ``offset`` on, ``size`` in all."""

    follower: ServerId
    index: Index
    offset: int
    size: int


@value
class SnapshotInstalled:
    """A leader's snapshot up to ``index`` replaced this server's state.

    ``retained``: the log goes on behind it; otherwise all of the log was discarded.
    """

    index: Index
    term: Term
    retained: bool


@value
class TransferChanged:
    """A leader hands its leadership to ``target`` (None: no longer)."""

    target: ServerId | None


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
    | PreVoteCast
    | PreVoteReceived
    | ConfigurationChanged
    | LogCompacted
    | SnapshotSent
    | SnapshotInstalled
    | TransferChanged
)
