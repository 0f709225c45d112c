"""What Raft servers say to each other, in the paper's words (Figure 2).

Every message is a frozen value: the core hands them out and takes them in, and never
knows how they travel. Server ids are whole numbers from 1; terms and log indexes are
whole numbers from 0, where 0 means "none yet". Every refusal says why.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

ServerId = NewType("ServerId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)


class EntryKind(enum.IntEnum):
    """What an entry of the log is for."""

    NOOP = 0
    """Every new leader appends one, so that it can commit older entries (§5.4.2, §8)."""
    COMMAND = 1
    """A command for the state machine."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log. Its index is its place, so a slice of entries has no gaps."""

    term: Term
    kind: EntryKind = EntryKind.COMMAND
    data: bytes = b""


# --- Why a vote is granted or refused (Figure 2, RequestVote) --------------------------------


@dataclass(frozen=True, slots=True)
class Granted:
    """The voter gave its one vote of this term to the candidate."""


@dataclass(frozen=True, slots=True)
class StaleTerm:
    """The sender's term is older than the receiver's; the reply's term says how far."""


@dataclass(frozen=True, slots=True)
class AlreadyVoted:
    """The voter's one vote of this term belongs to another candidate."""

    candidate: ServerId


@dataclass(frozen=True, slots=True)
class LogBehind:
    """The candidate's log is less up-to-date than the voter's, which ends here (§5.4.1)."""

    last_log_index: Index
    last_log_term: Term


VoteOutcome = Granted | StaleTerm | AlreadyVoted | LogBehind

# --- Whether entries were appended (Figure 2, AppendEntries) ---------------------------------


@dataclass(frozen=True, slots=True)
class Appended:
    """The follower's log equals the leader's up to and including ``match_index``."""

    match_index: Index


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class RequestVote:
    """A candidate asks for a vote (§5.2)."""

    src: ServerId
    dst: ServerId
    term: Term
    last_log_index: Index
    last_log_term: Term


@dataclass(frozen=True, slots=True)
class RequestVoteReply:
    """The answer to RequestVote; ``term`` is the voter's term after deciding."""

    src: ServerId
    dst: ServerId
    term: Term
    outcome: VoteOutcome


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class AppendEntriesReply:
    """The answer to AppendEntries; ``term`` is the follower's term after deciding."""

    src: ServerId
    dst: ServerId
    term: Term
    outcome: AppendOutcome
    round: int = 0


Message = RequestVote | RequestVoteReply | AppendEntries | AppendEntriesReply
