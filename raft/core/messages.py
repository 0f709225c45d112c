"""What Raft servers say to each other, in the paper's words (Figure 2).

Every message is a value, never changed: the core hands them out and takes them in, and never
knows how they travel. Server ids are whole numbers from 1; terms and log indexes are
whole numbers from 0, where 0 means "none yet". Every refusal says why.
"""

from __future__ import annotations

import enum
from typing import NewType

from raft.core.value import value

ServerId = NewType("ServerId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)


class EntryKind(enum.IntEnum):
    """What an entry of the log is for."""

    NOOP = 0
    """Every new leader appends one, so that it can commit older entries (§5.4.2, §8)."""
    COMMAND = 1
    """A command for the state machine."""
    CONFIGURATION = 2
    """Who belongs to the cluster from here on (§6)."""


@value
class Entry:
    """One entry of the log. Its index is its place, so a slice of entries has no gaps."""

    term: Term
    kind: EntryKind = EntryKind.COMMAND
    data: bytes = b""


# --- Why a vote is granted or refused (Figure 2, RequestVote) --------------------------------


@value
class Granted:
    """The voter gave its one vote of this term to the candidate."""


@value
class StaleTerm:
    """The sender's term is older than the receiver's; the reply's term says how far."""


@value
class AlreadyVoted:
    """The voter's one vote of this term belongs to another candidate."""

    candidate: ServerId


@value
class LogBehind:
    """The candidate's log is less up-to-date than the voter's, which ends here (§5.4.1)."""

    last_log_index: Index
    last_log_term: Term


@value
class LeaderAlive:
    """The voter heard from a leader less than an election timeout ago (§6; thesis §4.2.3).

    None: it restarted less than that ago, and may have heard from one before.
    """

    leader: ServerId | None


VoteOutcome = Granted | StaleTerm | AlreadyVoted | LogBehind | LeaderAlive

# --- Whether entries were appended (Figure 2, AppendEntries) ---------------------------------


@value
class Appended:
    """The follower's log equals the leader's up to and including ``match_index``."""

    match_index: Index


@value
class Mismatch:
    """The follower has no entry with the leader's prevLogTerm at prevLogIndex (end of §5.3).

    ``prev_log_index`` repeats what was refused, so that the leader knows which request this
    answers. ``conflict_term`` is the term of the follower's entry there (0: its log is
    shorter), ``first_index`` the first index it stores for that term (or one past its last).
    """

    prev_log_index: Index
    conflict_term: Term
    first_index: Index


AppendOutcome = Appended | StaleTerm | Mismatch

# --- The messages ----------------------------------------------------------------------------


@value
class RequestVote:
    """A candidate asks for a vote (§5.2).

    ``transfer``: the leader itself asked for this election (TimeoutNow), so voters that still
    hear from it do not refuse for that reason (thesis §4.2.3).
    """

    src: ServerId
    dst: ServerId
    term: Term
    last_log_index: Index
    last_log_term: Term
    transfer: bool = False


@value
class RequestVoteReply:
    """The answer to RequestVote; ``term`` is the voter's term after deciding."""

    src: ServerId
    dst: ServerId
    term: Term
    outcome: VoteOutcome


@value
class AppendEntries:
    """A leader replicates entries; without entries it is a heartbeat (§5.2, §5.3).

    ``round`` counts the leader's broadcasts in this term. The reply repeats it, which proves
    that the follower still took this server for the leader after the round began (§8).
    """

    src: ServerId
    dst: ServerId
    term: Term
    prev_log_index: Index
    prev_log_term: Term
    entries: tuple[Entry, ...]
    leader_commit: Index
    round: int = 0


@value
class AppendEntriesReply:
    """The answer to AppendEntries; ``term`` is the follower's term after deciding.

    ``patience`` is for how many milliseconds after the request came the follower lets nobody else
    be elected (thesis §6.4.1): the leader's lease rests on it.
    """

    src: ServerId
    dst: ServerId
    term: Term
    outcome: AppendOutcome
    round: int = 0
    patience: int = 0


@value
class RequestPreVote:
    """A server asks whether it could win an election in ``term``, the one after its own.

    Nothing changes by asking or answering: a server that was cut off does not drive the
    terms up (thesis §9.6).
    """

    src: ServerId
    dst: ServerId
    term: Term
    last_log_index: Index
    last_log_term: Term


@value
class RequestPreVoteReply:
    """The answer about ``election_term``; ``term`` is the voter's own, as ever."""

    src: ServerId
    dst: ServerId
    term: Term
    election_term: Term
    outcome: VoteOutcome


@value
class TimeoutNow:
    """A leader asks a server to start an election at once and take over (thesis §3.10)."""

    src: ServerId
    dst: ServerId
    term: Term


@value
class InstallSnapshot:
    """A leader sends a piece of its snapshot to a follower that lags too far behind (§7).

    ``size`` and ``checksum`` (CRC-32) are those of the whole snapshot, of which ``data`` is the
    part at ``offset``. ``configuration`` is the one in force at ``last_index``, from the entry at
    ``configuration_index``.
    """

    src: ServerId
    dst: ServerId
    term: Term
    last_index: Index
    last_term: Term
    configuration: bytes
    size: int
    checksum: int
    offset: int
    data: bytes
    round: int = 0
    configuration_index: Index = Index(0)

    @property
    def asks(self) -> bool:
        """It carries nothing of the snapshot, and asks where to go on: a piece is on its way."""
        return self.size > 0 and not self.data


@value
class InstallSnapshotReply:
    """The answer to InstallSnapshot: how much of it the follower has, or that it has it all.

    ``next_offset`` is where the leader should go on: after a restart of the follower, at 0.
    ``patience`` is as in :class:`AppendEntriesReply`.
    """

    src: ServerId
    dst: ServerId
    term: Term
    last_index: Index
    next_offset: int
    installed: bool
    round: int = 0
    patience: int = 0


@value
class ReadIndex:
    """A follower asks its leader at which index a read is up to date (thesis §6.4)."""

    src: ServerId
    dst: ServerId
    term: Term
    context: int


@value
class ReadIndexReply:
    """The answer to ReadIndex: whoever has applied ``index`` may answer the read ``context``."""

    src: ServerId
    dst: ServerId
    term: Term
    context: int
    index: Index


Message = (
    RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | RequestPreVote
    | RequestPreVoteReply
    | TimeoutNow
    | InstallSnapshot
    | InstallSnapshotReply
    | ReadIndex
    | ReadIndexReply
)
