"""Moments of a cluster's life, told event by event, that the screen's tests look at."""

from __future__ import annotations

from collections.abc import Iterable

from raft.core.events import (
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
from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    Index,
    LogBehind,
    Message,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
    VoteOutcome,
)
from raft.machine.kv import Put, encode_command
from raftviz.model.events import (
    ClockChanged,
    DropReason,
    LinkChanged,
    MessageDropped,
    MessageSent,
    OperationInvoked,
    OperationKind,
    ServerExited,
    ServerPaused,
)
from tests.raftviz.fake_lab import Told, cluster, server_state

AT = 12.340
"""The moment of every scene, in virtual seconds; the machine's clock stands at 0."""
COMMITTED, UNCOMMITTED = 6, 8


def put(term: int, key: str, value: str) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, encode_command(Put(key.encode(), value.encode())))


def noop(term: int) -> Entry:
    return Entry(Term(term), EntryKind.NOOP)


LOG = (
    noop(1),
    put(1, "x", "1"),
    put(1, "y", "2"),
    noop(2),
    put(2, "x", "9"),
    noop(3),
    put(3, "colour", "blue"),
    put(3, "z", "7"),
)


def clock(rate: float, at: float = AT) -> ClockChanged:
    return ClockChanged(at, 0.0, rate)


def timer(server: int, left: float, interval: float, kind: TimerKind = TimerKind.ELECTION) -> Told:
    return server, TimerArmed(kind, AT + left, interval)


def sent(
    number: int, message: Message, share: float, delay: float = 0.010
) -> list[tuple[float, Told]]:
    """A message that is ``share`` of its way at the scene's moment, with the time it left."""
    left = AT - share * delay
    return [(left, MessageSent(number, message, left + delay))]


def beat(
    src: int, dst: int, term: int, prev: int = len(LOG), commit: int = COMMITTED
) -> AppendEntries:
    return append(src, dst, term, prev, (), commit)


def append(
    src: int, dst: int, term: int, prev: int, entries: Iterable[Entry], commit: int = COMMITTED
) -> AppendEntries:
    prev_term = LOG[prev - 1].term if prev else Term(0)
    return AppendEntries(
        ServerId(src),
        ServerId(dst),
        Term(term),
        Index(prev),
        prev_term,
        tuple(entries),
        Index(commit),
    )


def stored(src: int, dst: int, term: int, match: int) -> AppendEntriesReply:
    return AppendEntriesReply(ServerId(src), ServerId(dst), Term(term), Appended(Index(match)))


def ask(src: int, dst: int, term: int, last: int = COMMITTED) -> RequestVote:
    return RequestVote(ServerId(src), ServerId(dst), Term(term), Index(last), LOG[last - 1].term)


def vote(src: int, dst: int, term: int, outcome: VoteOutcome) -> RequestVoteReply:
    return RequestVoteReply(ServerId(src), ServerId(dst), Term(term), outcome)


def follower(
    server: int,
    *,
    length: int,
    term: int,
    voted: int | None,
    leader: int | None,
    commit: int = COMMITTED,
) -> Told:
    state = server_state(
        server,
        term=term,
        voted_for=voted,
        leader=leader,
        log=LOG[:length],
        commit=min(commit, length),
    )
    return server, state


def leading(
    server: int,
    *,
    term: int,
    matches: dict[int, int],
    length: int = len(LOG),
    commit: int = COMMITTED,
) -> list[Told]:
    state = server_state(
        server,
        role=Role.LEADER,
        term=term,
        voted_for=server,
        leader=server,
        log=LOG[:length],
        commit=commit,
        votes=(server, *list(matches)[:2]),
        peers=tuple(matches),
    )
    progress = [
        (server, ProgressChanged(ServerId(peer), Index(match + 1), Index(match)))
        for peer, match in matches.items()
    ]
    return [(server, state), *progress]


Moment = tuple[float, Told]
"""Something told, with its virtual time."""


def _at(told: Iterable[Told], at: float = AT) -> list[Moment]:
    return [(at, one) for one in told]


def replication(rate: float = 0.05) -> list[Moment]:
    """S2 leads term 3 and replicates two entries; S4 is a step behind."""
    begin = cluster(5, leader=2, term=3, log=LOG[:COMMITTED])
    begin += [
        *leading(2, term=3, matches={1: 8, 3: 6, 4: 5, 5: 6}),
        follower(1, length=8, term=3, voted=2, leader=2),
        follower(3, length=7, term=3, voted=2, leader=2),
        follower(4, length=5, term=3, voted=None, leader=2, commit=5),
        follower(5, length=6, term=3, voted=2, leader=2),
        timer(1, 0.212, 0.240),
        timer(3, 0.150, 0.200),
        timer(4, 0.080, 0.270),
        timer(5, 0.120, 0.160),
        timer(2, 0.030, 0.050, TimerKind.HEARTBEAT),
        clock(rate),
    ]
    return [
        *_at(begin),
        *_at([OperationInvoked(1, OperationKind.PUT, b"z", b"7", ServerId(0))], AT - 0.02),
        *sent(1, append(2, 3, 3, 7, LOG[7:8]), 0.45),
        *sent(2, append(2, 5, 3, 6, LOG[6:8]), 0.62),
        *sent(3, beat(2, 4, 3), 0.30),
        *sent(4, stored(1, 2, 3, 8), 0.55),
    ]


def split_vote(rate: float = 0.05) -> list[Moment]:
    """S5 is dead; S1 and S3 both ask for the votes of term 4; each has one of the others."""
    begin = cluster(5, leader=5, term=3, log=LOG[:COMMITTED])
    begin += [ServerExited(ServerId(5), 85, "killed (SIGKILL)", True)]
    for candidate in (1, 3):
        begin += [
            (candidate, TermChanged(Term(4))),
            (candidate, RoleChanged(Role.CANDIDATE, Term(4), RoleReason.ELECTION_TIMEOUT)),
            (candidate, VoteReceived(Term(4), ServerId(candidate), Granted())),
        ]
    begin += [
        (1, VoteReceived(Term(4), ServerId(2), Granted())),
        (1, VoteReceived(Term(4), ServerId(3), AlreadyVoted(ServerId(3)))),
        (2, TermChanged(Term(4))),
        (2, VoteCast(Term(4), ServerId(1), Granted())),
        (4, TermChanged(Term(4))),
        (4, VoteCast(Term(4), ServerId(3), Granted())),
        timer(1, 0.170, 0.200),
        timer(2, 0.230, 0.280),
        timer(3, 0.110, 0.160),
        timer(4, 0.190, 0.220),
        clock(rate),
    ]
    return [
        *_at(begin),
        *sent(1, vote(4, 3, 4, Granted()), 0.6),
        *sent(2, vote(4, 1, 4, AlreadyVoted(ServerId(3))), 0.5),
        *sent(3, vote(2, 3, 4, AlreadyVoted(ServerId(1))), 0.4),
        *sent(4, ask(1, 5, 4), 0.7),
    ]


def partition(rate: float = 1.0) -> list[Moment]:
    """S1 led term 3 and stays with S2; the other three have elected S4 in term 4."""
    begin = cluster(5, leader=1, term=3, log=LOG[:COMMITTED])
    begin += [
        *leading(1, term=3, matches={2: 7, 3: 6, 4: 6, 5: 6}, length=7),
        follower(2, length=7, term=3, voted=1, leader=1),
        follower(3, length=6, term=4, voted=4, leader=4),
        *leading(4, term=4, matches={1: 0, 2: 0, 3: 6, 5: 6}, length=6),
        follower(5, length=6, term=4, voted=4, leader=4),
    ]
    for one in (1, 2):
        for two in (3, 4, 5):
            begin += [
                LinkChanged(ServerId(one), ServerId(two), True, 0.010),
                LinkChanged(ServerId(two), ServerId(one), True, 0.010),
            ]
    begin += [timer(server, 0.15, 0.2) for server in (2, 3, 5)]
    begin += [timer(server, 0.025, 0.05, TimerKind.HEARTBEAT) for server in (1, 4)]
    begin += [clock(rate)]
    lost = sent(1, beat(1, 3, 3), 0.5)
    return [
        *_at(begin),
        *lost,
        *_at([MessageDropped(1, DropReason.LINK_CUT)]),
        *sent(2, beat(4, 5, 4), 0.7),
        *sent(3, beat(4, 3, 4), 0.5),
        *sent(4, beat(1, 2, 3), 0.4),
    ]


def frozen() -> list[Moment]:
    """Time stands still in the middle of S3's election; S4 is paused, one link is cut one way."""
    begin = cluster(5, leader=5, term=2, log=LOG[:5])
    begin += [
        ServerPaused(ServerId(4)),
        LinkChanged(ServerId(3), ServerId(1), True, 0.010),
        (3, TermChanged(Term(3))),
        (3, RoleChanged(Role.CANDIDATE, Term(3), RoleReason.ELECTION_TIMEOUT)),
        (3, VoteReceived(Term(3), ServerId(3), Granted())),
        *(timer(server, 0.05 * server, 0.25) for server in (1, 2, 3, 4)),
        timer(5, 0.020, 0.050, TimerKind.HEARTBEAT),
        clock(0),
    ]
    return [
        *_at(begin),
        *sent(1, ask(3, 2, 3, 5), 0.5),
        *sent(2, ask(3, 4, 3, 5), 0.65),
        *sent(3, ask(3, 5, 3, 5), 0.35),
        *sent(4, vote(2, 3, 3, LogBehind(Index(5), Term(2))), 0.7),
    ]
