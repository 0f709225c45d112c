from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.core.events import (
    Applied,
    CommitAdvanced,
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
    Mismatch,
    RequestVote,
    RequestVoteReply,
    ServerId,
    StaleTerm,
    Term,
)
from raft.frames import ObservationsLost
from raft.machine.kv import Delete, Put, encode_command
from raft.printable import printable
from raftviz.model.events import (
    ClockChanged,
    CommandGiven,
    DropReason,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageDuplicated,
    MessageHeld,
    MessageRescheduled,
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    RequestSent,
    ServerExited,
    ServerPaused,
    ServerResumed,
    Warned,
)
from raftviz.model.link_rules import Distribution
from raftviz.model.view import ClusterView
from raftviz.model.words import (
    MessageKind,
    clock_text,
    command_text,
    describe,
    duration_text,
    kind_of,
    message_line,
    noteworthy,
)
from tests.raftviz.fake_lab import Stream, Told, cluster, entries, server_state, spawned, started
from tests.raftviz.simulated import SimulatedLab

S1, S2, S3, NOBODY = (ServerId(number) for number in (1, 2, 3, 0))
T3, T4 = Term(3), Term(4)
X = Entry(T3, EntryKind.COMMAND, encode_command(Put(b"x", b"9")))
DEL = Entry(T3, EntryKind.COMMAND, encode_command(Delete(b"x")))
BEAT = AppendEntries(S2, S3, T3, Index(4), T3, (), Index(4))
APPEND = AppendEntries(S2, S3, T3, Index(4), T3, (X,), Index(4))


def reply(outcome: Appended | StaleTerm | Mismatch) -> AppendEntriesReply:
    return AppendEntriesReply(S3, S2, T3, outcome)


def vote(outcome: Granted | AlreadyVoted | LogBehind | StaleTerm) -> RequestVoteReply:
    return RequestVoteReply(S1, S3, T4, outcome)


MESSAGES = [
    (RequestVote(S3, S1, T4, Index(5), T3), "RequestVote  term 4, its log ends at 5/3"),
    (RequestVote(S3, S1, T4, Index(0), Term(0)), "RequestVote  term 4, its log is empty"),
    (vote(Granted()), "RequestVoteReply  term 4, granted"),
    (vote(AlreadyVoted(S2)), "RequestVoteReply  term 4, refused: it already voted for S2"),
    (vote(AlreadyVoted(S1)), "RequestVoteReply  term 4, refused: it already voted for itself"),
    (
        vote(LogBehind(Index(6), T3)),
        "RequestVoteReply  term 4, refused: its own log is more up-to-date (ends at 6/3)",
    ),
    (
        vote(StaleTerm()),
        "RequestVoteReply  term 4, refused: the request is of an older term",
    ),
    (BEAT, "AppendEntries  term 3, after 4/3, heartbeat"),
    (APPEND, "AppendEntries  term 3, after 4/3, +1 entry"),
    (
        AppendEntries(S2, S3, T3, Index(0), Term(0), (X, DEL), Index(0)),
        "AppendEntries  term 3, from the start, +2 entries",
    ),
    (reply(Appended(Index(5))), "AppendEntriesReply  term 3, has all up to 5"),
    (
        reply(StaleTerm()),
        "AppendEntriesReply  term 3, refused: the request is of an older term",
    ),
    (
        reply(Mismatch(Index(7), Term(0), Index(5))),
        "AppendEntriesReply  term 3, refused: its log ends at 4",
    ),
    (
        reply(Mismatch(Index(7), Term(2), Index(5))),
        "AppendEntriesReply  term 3, refused: its entry 7 is of term 2, which begins at 5",
    ),
]


@pytest.mark.parametrize(("message", "line"), MESSAGES)
def test_a_message_is_one_line(message: Message, line: str) -> None:
    assert message_line(message) == f"S{message.src} → S{message.dst}  {line}"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        (MESSAGES[0][0], MessageKind.REQUEST_VOTE),
        (vote(Granted()), MessageKind.VOTE_GRANTED),
        (vote(StaleTerm()), MessageKind.VOTE_REFUSED),
        (vote(AlreadyVoted(S2)), MessageKind.VOTE_REFUSED),
        (BEAT, MessageKind.HEARTBEAT),
        (APPEND, MessageKind.APPEND),
        (reply(Appended(Index(5))), MessageKind.APPEND_OK),
        (reply(StaleTerm()), MessageKind.APPEND_REFUSED),
        (reply(Mismatch(Index(7), Term(0), Index(5))), MessageKind.APPEND_REFUSED),
    ],
)
def test_kinds_of_messages(message: Message, kind: MessageKind) -> None:
    assert kind_of(message) is kind


def told_of(what: Told, *before: Told) -> str:
    stream, view = Stream(), ClusterView()
    for event in stream.events(*before):
        view.apply(event)
    return describe(stream.event(what), view)


def becomes(server: int, role: Role, term: int, reason: RoleReason) -> tuple[int, RoleChanged]:
    return server, RoleChanged(role, Term(term), reason)


CANDIDATE = server_state(3, role=Role.CANDIDATE, term=4, votes=[3, 5, 2])
STARTS = becomes(3, Role.CANDIDATE, 5, RoleReason.ELECTION_TIMEOUT)
FOLLOWS = RoleReason.HIGHER_TERM
WINS = becomes(3, Role.LEADER, 4, RoleReason.WON_ELECTION)
PUTS = OperationInvoked(1, OperationKind.PUT, b"x", b"1", S2)
GETS = OperationInvoked(1, OperationKind.GET, b"x", b"", NOBODY)


def returned(outcome: Outcome, found: bool = False, value: bytes = b"") -> OperationReturned:
    return OperationReturned(1, outcome, found, value, "no leader")


LOSS_WORDS = "by the share of messages that its link loses"
STORY: list[tuple[Told, str]] = [
    # With nothing known before
    (STARTS, "S3: no word from a leader, so it starts an election in term 5"),
    (WINS, "S3 wins term 4"),
    (
        becomes(3, Role.CANDIDATE, 5, RoleReason.ASKED),
        "S3 was timed out by hand and starts an election in term 5",
    ),
    (
        becomes(3, Role.FOLLOWER, 5, RoleReason.STARTED),
        "S3 begins as a follower in term 5",
    ),
    (
        becomes(3, Role.FOLLOWER, 5, FOLLOWS),
        "S3 becomes a follower: another server is in term 5",
    ),
    ((2, VoteCast(T4, S3, Granted())), "S2 votes for S3 in term 4"),
    (
        (1, VoteCast(T4, S3, AlreadyVoted(S2))),
        "S1 refuses its vote to S3 in term 4: it already voted for S2",
    ),
    (
        (4, VoteCast(T4, S3, LogBehind(Index(5), T3))),
        "S4 refuses its vote to S3 in term 4: its own log is more up-to-date (ends at 5/3)",
    ),
    (
        (1, VoteCast(T4, S3, StaleTerm())),
        "S1 refuses its vote to S3 in term 4: the request is of an older term",
    ),
    ((2, EntriesAppended(Index(4), (X,))), "S2 appends 4/3 x=9"),
    ((2, EntriesAppended(Index(4), entries(3))), "S2 appends 4/3 no-op"),
    ((2, EntriesAppended(Index(4), (X, DEL))), "S2 appends 4/3 x=9, 5/3 del x"),
    ((2, EntriesAppended(Index(4), (X,) * 9)), "S2 appends 9 entries, 4/3 to 12/3"),
    (
        (5, EntriesTruncated(Index(4))),
        "S5 removes its entries from 4 on: they conflict with the leader's",
    ),
    ((2, CommitAdvanced(Index(4))), "S2 commits up to 4"),
    (started(5, seed=9), "a laboratory of 5 servers starts (seed 9)"),
    (CommandGiven("kill 2", True, "S2 killed"), "» kill 2: S2 killed"),
    (CommandGiven("kill 9", False, "there is no S9"), "» kill 9: refused: there is no S9"),
    (Warned("it is late"), "warning: it is late"),
    (spawned(2), "S2 starts as process 82 at 127.0.0.1:4002"),
    (ServerExited(S2, 82, "killed (SIGKILL)", True), "S2 is dead: killed (SIGKILL)"),
    (ServerExited(S2, 82, "exit status 3", False), "S2 died by itself: exit status 3"),
    (ServerPaused(S2), "S2 is paused (SIGSTOP): its process stops where it is"),
    (ServerResumed(S2), "S2 goes on (SIGCONT): to itself, no time has passed"),
    (returned(Outcome.OK), "operation 1: done"),
    ((2, ObservationsLost(7)), "7 observations of S2 were lost: it told more than could be heard"),
    (MessageSent(1, APPEND, 1.0), "S2 → S3  AppendEntries  term 3, after 4/3, +1 entry"),
]
ROUTINE: list[tuple[Told, str]] = [
    ((4, TermChanged(T4)), "S4 enters term 4"),
    ((3, VoteReceived(T4, S3, Granted())), "S3 votes for itself in term 4"),
    ((3, VoteReceived(T4, S2, Granted())), "S3 has the vote of S2"),
    (
        (3, VoteReceived(T4, S1, AlreadyVoted(S1))),
        "S3 does not get the vote of S1: it already voted for itself",
    ),
    ((2, LeaderChanged(T4, S2)), "S2 leads term 4"),
    ((4, LeaderChanged(T4, S2)), "S4 follows S2 in term 4"),
    ((4, LeaderChanged(T4, None)), "S4 knows no leader of term 4"),
    (
        (4, TimerArmed(TimerKind.ELECTION, 9.0, 0.2139)),
        "S4 waits 214 ms before it starts an election",
    ),
    ((2, TimerArmed(TimerKind.HEARTBEAT, 9.0, 0.05)), "S2 sends heartbeats again in 50 ms"),
    ((2, Applied(Index(4))), "S2 has applied all up to 4"),
    (
        (2, ProgressChanged(S3, Index(5), Index(4))),
        "S2: the log of S3 matches up to 4; it will be sent 5 next",
    ),
    (
        (2, ProgressChanged(S3, Index(5), Index(0))),
        "S2: the log of S3 may differ; it will be sent 5 next",
    ),
    (
        (1, MessageIgnored(S3, "RequestVoteReply", "the election is over")),
        "S1 ignores a RequestVoteReply of S3: the election is over",
    ),
    ((3, CANDIDATE), "S3 tells its state: candidate in term 4, 0 entries"),
    (ClockChanged(1.0, 0.0, 1.0), "time runs in real time"),
    (ClockChanged(1.0, 0.0, 0.05), "time runs at 0.05 of real time"),
    (LinkChanged(S1, S2, True, 0.01), "the link S1 → S2 is cut: every message on it is lost"),
    (LinkChanged(S1, S2, False, 0.01), "the link S1 → S2 is open, 10 ms long"),
    (
        LinkChanged(S1, S2, False, 0.01, stalled=True),
        "the link S1 → S2 stalls: what is sent waits, and arrives late",
    ),
    (
        LinkChanged(S1, S2, False, 0.01, reset=True),
        "the link S1 → S2 is reset: its connection is broken, with all that was on it",
    ),
    (
        LinkChanged(S1, S2, False, 0.01, held=True, kind="AppendEntries"),
        "the link S1 → S2 for AppendEntries holds every message until somebody releases it",
    ),
    (
        LinkChanged(
            S1,
            S2,
            False,
            0.2,
            jitter=0.05,
            distribution=Distribution.NORMAL,
            loss=0.125,
            duplication=0.01,
            reordering=1.0,
            bandwidth=12_500,
        ),
        "the link S1 → S2 is open, 200 ms ± 50 ms (normal), loses 12.5 %, doubles 1 %, "
        "reorders 100 %, 12.5 kB/s at most",
    ),
    (
        LinkChanged(NOBODY, S2, False, 0.0, jitter=0.05, distribution=Distribution.EXPONENTIAL),
        "the link client → S2 is open, 0 ms + 50 ms on average (exponential)",
    ),
    (RequestSent(7, NOBODY, S2, "Propose", 1.0), "client → S2  Propose"),
    (MessageHeld(7), "held: message 7"),
    (MessageRescheduled(7, 1.5), "due at 00:01.500: message 7"),
    (MessageDuplicated(7, 8, 1.5), "sent once more, as #8: message 7"),
    (MessageDropped(7, DropReason.LOSS), f"lost, {LOSS_WORDS}: message 7"),
    (MessageDropped(7, DropReason.LINK_RESET), "lost, its connection was broken: message 7"),
    (PUTS, "a client asks S2: put x=1"),
    (GETS, "a client asks the leader: get x"),
    (MessageSent(1, BEAT, 1.0), "S2 → S3  AppendEntries  term 3, after 4/3, heartbeat"),
    (MessageDelivered(7), "arrived: message 7"),
    (MessageDropped(7, DropReason.SERVER_DOWN), "lost, nobody was there to take it: message 7"),
]


@pytest.mark.parametrize(("what", "line"), STORY + ROUTINE)
def test_every_event_in_words(what: Told, line: str) -> None:
    assert describe(Stream().event(what)) == line


@pytest.mark.parametrize(
    ("what", "is_story"), [(w, True) for w, _ in STORY] + [(w, False) for w, _ in ROUTINE]
)
def test_the_story_is_told_from_the_routine(what: Told, is_story: bool) -> None:
    assert noteworthy(Stream().event(what)) == is_story


FIVE = cluster(5, leader=2, term=3)


@pytest.mark.parametrize(
    ("before", "what", "line"),
    [
        (FIVE, STARTS, "S3: no word from a leader for 200 ms, so it starts an election in term 5"),
        (
            [*FIVE, (3, CANDIDATE)],
            STARTS,
            "S3: no majority for 200 ms, so it starts another election in term 5",
        ),
        ([*FIVE, (3, CANDIDATE)], WINS, "S3 wins term 4 with votes of S2 S3 S5"),
        (
            FIVE,
            LinkChanged(S2, S3, True, 0.01),
            "the link S2 → S3 is cut: every message on it is lost; "
            "S3 hears no heartbeat, and will start an election",
        ),
        (
            FIVE,
            LinkChanged(S3, S2, False, 0.01, stalled=True),
            "the link S3 → S2 stalls: what is sent waits, and arrives late; "
            "the leader S2 cannot count S3 into a majority",
        ),
        (
            FIVE,
            LinkChanged(S1, S3, False, 0.01, reset=True),
            "the link S1 → S3 is reset: its connection is broken, with all that was on it; "
            "S3 hears nothing of S1, and gets no vote from it",
        ),
        (
            FIVE,
            LinkChanged(S2, S3, True, 0.01, kind="RequestVote"),
            "the link S2 → S3 for RequestVote is cut: every message on it is lost",
        ),
        (
            [*FIVE, RequestSent(7, NOBODY, S2, "Propose", 1.0)],
            MessageDelivered(7),
            "arrived: client → S2  Propose",
        ),
        (
            [*FIVE, MessageSent(7, APPEND, 1.0)],
            MessageHeld(7),
            "held: S2 → S3  AppendEntries  term 3, after 4/3, +1 entry",
        ),
        (
            FIVE,
            becomes(2, Role.FOLLOWER, 5, FOLLOWS),
            "S2 stops leading: another server is in term 5",
        ),
        (
            [*FIVE, (3, CANDIDATE)],
            becomes(3, Role.FOLLOWER, 4, RoleReason.LEADER_EXISTS),
            "S3 gives up its election: term 4 has a leader",
        ),
        (
            [*FIVE, (3, server_state(3, role=Role.CANDIDATE, term=4, votes=[3]))],
            (3, VoteReceived(T4, S1, Granted())),
            "S3 has the vote of S1 (2 of 5)",
        ),
        ([*FIVE, PUTS], returned(Outcome.OK), "put x=1: done"),
        ([*FIVE, GETS], returned(Outcome.OK, True, b"9"), "get x: 9"),
        ([*FIVE, GETS], returned(Outcome.OK), "get x: there is none"),
        (
            [*FIVE, PUTS],
            returned(Outcome.FAILED),
            "put x=1: it failed and changed nothing (no leader)",
        ),
        (
            [*FIVE, PUTS],
            returned(Outcome.UNKNOWN),
            "put x=1: it may have taken effect, may still, or never (no leader)",
        ),
        (
            [*FIVE, MessageSent(1, BEAT, 1.0)],
            MessageDropped(1, DropReason.LINK_CUT),
            "lost, the link is cut: S2 → S3  AppendEntries  term 3, after 4/3, heartbeat",
        ),
        (
            [*FIVE, MessageSent(1, APPEND, 1.0), MessageDelivered(1)],
            MessageDelivered(1),
            "arrived: S2 → S3  AppendEntries  term 3, after 4/3, +1 entry",
        ),
        (FIVE, ClockChanged(1.0, 0.0, 0.0), "time stands still"),
        (
            [*FIVE, ClockChanged(1.0, 0.0, 0.0)],
            ClockChanged(12.34, 0.0, 0.0),
            "frozen time steps to 00:12.340",
        ),
    ],
)
def test_what_was_before_makes_the_words_richer(before: list[Told], what: Told, line: str) -> None:
    assert told_of(what, *before) == line


@pytest.mark.parametrize(("message", "is_story"), [(APPEND, True), (BEAT, False)])
def test_whether_a_loss_is_part_of_the_story(message: Message, is_story: bool) -> None:
    stream, view = Stream(), ClusterView()
    for event in stream.events(*FIVE, MessageSent(1, message, 1.0)):
        view.apply(event)
    assert noteworthy(stream.event(MessageDropped(1, DropReason.LINK_CUT)), view) == is_story


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_every_event_of_a_run_is_one_safe_line(seed: int) -> None:
    view = ClusterView()
    for event in SimulatedLab(3, seed).run(150):
        line = describe(event, view)
        assert line == printable(line)
        assert len(line) < 300
        assert describe(event)
        noteworthy(event, view)
        view.apply(event)


WILD = "\x1b]0;title\x07\u202e" * 40


@pytest.mark.parametrize(
    "what",
    [
        CommandGiven(WILD, True, WILD),
        Warned(WILD),
        ServerExited(S2, 82, WILD, False),
        OperationInvoked(1, OperationKind.PUT, WILD.encode(), WILD.encode(), S2),
        OperationReturned(1, Outcome.FAILED, False, b"", WILD),
        OperationReturned(1, Outcome.OK, True, WILD.encode(), WILD),
        (1, MessageIgnored(S3, WILD, WILD)),
        (1, EntriesAppended(Index(1), (Entry(T3, EntryKind.COMMAND, b"\xff" * 900),))),
        (1, EntriesAppended(Index(1), entries(3, data=encode_command(Put(WILD.encode(), b""))))),
    ],
)
def test_foreign_text_is_shortened_and_obeyed_by_no_terminal(what: Told) -> None:
    line = told_of(what, *FIVE, GETS)
    assert line == printable(line)
    assert len(line) < 450


def test_numbers() -> None:
    assert clock_text(0) == "00:00.000"
    assert clock_text(12.34) == "00:12.340"
    assert clock_text(59.9996) == "01:00.000"
    assert clock_text(754.3) == "12:34.300"
    assert duration_text(0.2139) == "214 ms"
    assert duration_text(1.5) == "1.50 s"
    assert command_text(X) == "x=9"
    assert command_text(Entry(T3, EntryKind.NOOP)) == "no-op"
