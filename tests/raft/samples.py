"""Frames to test with: one list that everybody shares, and properties' strategies.

The bytes of every sample are kept in ``tests/raft/golden``, one file a frame type. When the
schema has *grown*, add samples and write the files again::

    python -m tests.raft.samples

A line that changes, rather than appears, is a break of the protocol.
"""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from pathlib import Path

from hypothesis import strategies as st

from raft.core.events import (
    Applied,
    CommitAdvanced,
    ConfigurationChanged,
    EntriesAppended,
    EntriesTruncated,
    LeaderChanged,
    LogCompacted,
    MessageIgnored,
    PreVoteCast,
    PreVoteReceived,
    ProgressChanged,
    Role,
    RoleChanged,
    RoleReason,
    SnapshotInstalled,
    SnapshotSent,
    TermChanged,
    TimerArmed,
    TimerKind,
    TransferChanged,
    VoteCast,
    VoteReceived,
)
from raft.core.membership import AddLearner, AddVoter, Demote, Remove
from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    InstallSnapshot,
    InstallSnapshotReply,
    LeaderAlive,
    LogBehind,
    Mismatch,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    StaleTerm,
    TimeoutNow,
)
from raft.core.ready import Refusal
from raft.frames import (
    Address,
    AnswerTooLong,
    Barrier,
    BarrierReached,
    Caller,
    Campaign,
    ChangeMembers,
    ClientReply,
    ClientRequest,
    Consistency,
    CutPower,
    Declined,
    FireTimer,
    FollowerProgress,
    ForgetLeader,
    Members,
    MembersQuery,
    NotLeader,
    Observation,
    ObservationsLost,
    OutcomeUnknown,
    Preamble,
    Proof,
    Proposals,
    Propose,
    Queries,
    Read,
    RefusalReason,
    Refused,
    Rejected,
    Result,
    Results,
    ServerState,
    SetClock,
    SetDisk,
    SnapshotTaken,
    Status,
    StatusQuery,
    TakeSnapshot,
    TransferLeadership,
    Transferred,
    Welcome,
)
from raft.wire import encode

GOLDEN = Path(__file__).parent / "golden"

ENTRIES = (
    Entry(term=1, kind=EntryKind.NOOP),
    Entry(term=1, kind=EntryKind.COMMAND, data=b"x=1"),
    Entry(term=3, kind=EntryKind.COMMAND, data=bytes(range(256))),
)

MEMBERS = Members(
    index=9,
    committed=False,
    voters=(1, 2, 6),
    outgoing=(1, 2, 3),
    learners=(4,),
    addresses=(Address(2, "127.0.0.1:7002"), Address(6, "127.0.0.1:7006")),
    progress=(FollowerProgress(2, 13, 12), FollowerProgress(6, 1, 0)),
    last_index=12,
    leader=1,
)

_EVENTS = (
    ServerState(
        server=2,
        pid=4711,
        address="127.0.0.1:41234",
        role=Role.LEADER,
        term=3,
        voted_for=2,
        leader=2,
        first_index=1,
        entries=ENTRIES,
        commit_index=2,
        last_applied=1,
        votes=(1, 2, 4),
        progress=(FollowerProgress(1, 4, 3), FollowerProgress(3, 2, 0)),
        timer_kind=TimerKind.HEARTBEAT,
        timer_deadline=12.5,
        timer_interval=0.05,
        snapshot_term=0,
        configuration=ConfigurationChanged(0, (1, 2, 3), (), ()),
    ),
    ObservationsLost(count=17),
    BarrierReached(token=9, sent=1234),
    RoleChanged(Role.CANDIDATE, 4, RoleReason.ELECTION_TIMEOUT),
    TermChanged(4),
    VoteCast(4, 5, LogBehind(last_log_index=3, last_log_term=3)),
    VoteReceived(4, 1, Granted()),
    LeaderChanged(4, None),
    LeaderChanged(4, 5),
    TimerArmed(TimerKind.ELECTION, 12.75, 0.25),
    EntriesAppended(4, ENTRIES),
    EntriesTruncated(3),
    CommitAdvanced(2),
    Applied(2),
    ProgressChanged(3, 2, 1),
    MessageIgnored(1, "RequestVoteReply", "the election of term 3 is over"),
    PreVoteCast(5, 3, LeaderAlive(leader=2)),
    PreVoteReceived(5, 1, Granted()),
    ConfigurationChanged(7, (1, 2, 4), (1, 2, 3), (5,)),
    LogCompacted(100, 3, 90),
    SnapshotSent(4, 100, 65536, 200000),
    SnapshotInstalled(100, 3, retained=True),
    TransferChanged(3),
    TransferChanged(None),
)

SAMPLES = (
    Preamble(1, "würfel", Caller.PEER, 1, 2, bytes(range(32))),
    Preamble(1, "lab", Caller.OBSERVER, 0, 5, bytes(32)),
    Preamble(1, "würfel", Caller.PEER, 1, 2, bytes(range(32)), "127.0.0.1:7001"),
    Welcome(bytes(range(32)), bytes(range(32, 64))),
    Proof(bytes(range(64, 96))),
    Refused(RefusalReason.CLUSTER, "this server belongs to another cluster"),
    RequestVote(1, 2, 4, 3, 3),
    RequestVoteReply(2, 1, 4, Granted()),
    RequestVoteReply(2, 1, 5, StaleTerm()),
    RequestVoteReply(2, 1, 4, AlreadyVoted(candidate=3)),
    RequestVoteReply(2, 1, 4, LogBehind(last_log_index=7, last_log_term=3)),
    AppendEntries(2, 1, 3, 9, 2, (), 8, 77),
    AppendEntries(2, 1, 2**64 - 1, 0, 0, ENTRIES, 2**63, 2**32),
    AppendEntriesReply(1, 2, 3, Appended(match_index=12), 77),
    AppendEntriesReply(1, 2, 4, StaleTerm(), 78),
    AppendEntriesReply(1, 2, 3, Mismatch(9, 2, 6), 79),
    AppendEntriesReply(1, 2, 3, Appended(match_index=12), 80, patience=150),
    RequestVote(1, 2, 4, 3, 3, transfer=True),
    RequestVoteReply(2, 1, 3, LeaderAlive(leader=5)),
    RequestPreVote(1, 2, 5, 9, 3),
    RequestPreVoteReply(2, 1, 4, 5, Granted()),
    TimeoutNow(2, 1, 4),
    InstallSnapshot(
        2, 1, 4, 100, 3, b'{"voters":[1,2,3]}', 200000, 2**32 - 1, 65536, b"data", 8, 96
    ),
    InstallSnapshotReply(1, 2, 4, 100, 65540, installed=False, round=8),
    InstallSnapshotReply(1, 2, 4, 100, 200000, installed=True, round=9, patience=150),
    ReadIndex(1, 2, 4, context=2**63),
    ReadIndexReply(2, 1, 4, context=2**63, index=99),
    ClientRequest(1, StatusQuery()),
    ClientRequest(2, Propose(b"put x 1")),
    ClientRequest(3, Read(b"get x")),
    ClientRequest(4, Read(b"get x", Consistency.LEASE)),
    ClientRequest(5, MembersQuery()),
    ClientRequest(6, ChangeMembers((AddVoter(6, "127.0.0.1:7006"), Remove(1)), True, 7)),
    ClientRequest(7, ChangeMembers((AddLearner(6, "[::1]:7006"), Demote(2)), False, 0)),
    ClientRequest(8, TransferLeadership(3)),
    ClientRequest(9, TransferLeadership(None)),
    ClientRequest(10, TakeSnapshot()),
    ClientRequest(11, ForgetLeader()),
    Proposals((12, 13, 2**64 - 1), (b"put x 1", b"", bytes(range(256)))),
    Proposals((), ()),
    Queries((14, 15), (b"get x", b"get y")),
    ClientReply(1, Status(2, Role.FOLLOWER, 3, None, 1, 9, 3, 8, 8, 0, 0, (1, 2, 3), (), ())),
    ClientReply(2, Result(b"done")),
    ClientReply(3, NotLeader(4)),
    ClientReply(4, NotLeader(None)),
    ClientReply(5, OutcomeUnknown("leadership was lost")),
    ClientReply(6, Rejected("the key is too long")),
    ClientReply(7, NotLeader(6, "127.0.0.1:7006"), configuration=9),
    ClientReply(8, Declined(Refusal.CHANGE_IN_PROGRESS, "the change at index 9 is not over")),
    ClientReply(9, MEMBERS, configuration=9),
    ClientReply(10, Transferred(3)),
    ClientReply(11, SnapshotTaken(100)),
    ClientReply(12, Status(4, Role.PRE_CANDIDATE, 3, 1, 1, 9, 3, 8, 8, 5, 9, (1, 2), (3,), (4,))),
    ClientReply(14, AnswerTooLong(1_000_000)),
    ClientReply(13, Status(2, Role.FOLLOWER, 3, None, 1, 4, 1, 0, 0, 0, 0, (1, 2), (), (), True)),
    Results((12, 14, 15), (b"done", b"1", b"")),
    Results((13,), (b"done",), configuration=9),
    *(Observation(12.34, 5678.5, event) for event in _EVENTS),
    SetClock(virtual=1.5, monotonic=2.5, rate=0.05),
    FireTimer(),
    Campaign(),
    Barrier(token=9, received=1234),
    SetDisk(delay=0.05, full=False, fail_sync=True, tear=False),
    CutPower(),
)


def golden_lines() -> dict[str, list[str]]:
    """Return, for each frame type, the value and the bytes of each of its samples, by turns."""
    files: dict[str, list[str]] = {}
    for sample in SAMPLES:
        lines = files.setdefault(type(sample).__name__, [])
        lines += [f"# {sample!r}", encode(sample).hex(" ", 8)]
    return files


# --- Any value of any type of ours -----------------------------------------------------------

_NARROW = {
    "version": st.integers(0, 2**32 - 1),
    "seed": st.integers(-(2**63), 2**63 - 1),
}


def any_value(hint: object, name: str = "") -> st.SearchStrategy:
    """Return a strategy for a type as it is written in a dataclass."""
    hint = getattr(hint, "__supertype__", hint)
    arguments = typing.get_args(hint)
    if name in _NARROW:
        return _NARROW[name]
    if typing.get_origin(hint) is tuple:
        return st.lists(any_value(arguments[0]), max_size=6).map(tuple)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if types.NoneType in arguments:
            return st.none() | st.integers(1, 2**64 - 1)
        return st.one_of([any_value(member) for member in arguments])
    if hint in (Proposals, Queries, Results):
        return st.lists(st.tuples(any_value(int), any_value(bytes)), max_size=6).map(
            lambda rows: hint(*(zip(*rows, strict=True) if rows else ((), ())))
        )
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return st.builds(hint, **{name: any_value(part, name) for name, part in hints.items()})
    if issubclass(hint, enum.IntEnum):
        return st.sampled_from(hint)
    return {
        bool: st.booleans(),
        int: st.integers(0, 2**64 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=40),
        bytes: st.binary(max_size=200),
    }[hint]


if __name__ == "__main__":
    for frame_type, lines in golden_lines().items():
        (GOLDEN / f"{frame_type}.hex").write_text("\n".join(lines) + "\n")
