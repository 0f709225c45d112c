"""Pre-votes, transfers, members and snapshots, as a viewer folds, judges, names and draws them."""

from __future__ import annotations

import pytest

from raft.core.events import (
    Applied,
    CommitAdvanced,
    ConfigurationChanged,
    EntriesAppended,
    LogCompacted,
    PreVoteCast,
    PreVoteReceived,
    Role,
    RoleChanged,
    RoleReason,
    SnapshotInstalled,
    SnapshotSent,
    TransferChanged,
)
from raft.core.membership import Configuration
from raft.core.messages import (
    Entry,
    EntryKind,
    Granted,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    LeaderAlive,
    LogBehind,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    ServerId,
    Term,
    TimeoutNow,
    VoteOutcome,
)
from raft.machine.kv import Put, encode_command
from raftviz.model.events import Event, MessageSent, ServerExited
from raftviz.model.invariants import Invariants, Property, Violation
from raftviz.model.machine import command_text
from raftviz.model.values import server_values
from raftviz.model.view import ClusterView
from raftviz.model.words import describe, message_line, noteworthy
from raftviz.tui.traffic import Kind, look_of
from tests.raftviz.fake_lab import Stream, Told, cluster, entries, server_state, spawned

S1, S2, S3 = ServerId(1), ServerId(2), ServerId(3)
T1, T3, T4 = Term(1), Term(3), Term(4)


def put(key: bytes, value: bytes, term: int = 1) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, encode_command(Put(key, value)))


LOG = (*entries(1), put(b"x", b"1"), put(b"y", b"2"), put(b"x", b"3"))
THREE = cluster(3, leader=2, term=1, log=LOG)


def folded(*told: Told) -> ClusterView:
    view = ClusterView()
    for event in Stream().events(*told):
        view.apply(event)
    return view


def told_again(view: ClusterView) -> ClusterView:
    again = ClusterView()
    for event in view.as_events():
        again.apply(event)
    return again


def compacted(server: int, index: int, first: int, term: int = 1) -> tuple[int, LogCompacted]:
    return server, LogCompacted(Index(index), Term(term), Index(first))


def installed(server: int, index: int, *, retained: bool = False) -> tuple[int, SnapshotInstalled]:
    return server, SnapshotInstalled(Index(index), T1, retained)


# --- Logs behind snapshots -------------------------------------------------------------------


def test_what_a_snapshot_stands_for_is_gone_from_the_log_and_still_known() -> None:
    view = folded(*THREE, compacted(1, 3, 3))
    server = view.servers[S1]
    assert (server.first_index, server.last_index, server.snapshot) == (3, 4, (3, 1))
    assert server.log == list(LOG[2:])
    assert [server.entry(index) for index in (0, 2, 3, 4, 5)] == [None, None, *LOG[2:], None]
    assert [server.known_entry(index) for index in range(6)] == [None, *LOG, None]
    assert server.kv == {b"x": b"3", b"y": b"2"}
    assert told_again(view) == view


def test_a_log_goes_on_behind_its_snapshot() -> None:
    more = put(b"z", b"4")
    view = folded(*THREE, compacted(1, 4, 5), (1, EntriesAppended(Index(5), (more,))))
    server = view.servers[S1]
    assert (server.log, server.last_index, server.last_term) == ([more], 5, 1)
    values = server_values(server, view)
    assert [entry["index"] for entry in values["log"]] == [1, 2, 3, 4, 5]


def test_a_dead_server_keeps_its_snapshot() -> None:
    view = folded(*THREE, compacted(1, 3, 4), ServerExited(S1, 81, "killed", True))
    server = view.servers[S1]
    assert (server.first_index, server.snapshot, server.kv) == (4, (3, 1), {})
    assert told_again(view) == view
    for event in Stream().events(
        spawned(1), (1, server_state(1, term=1, log=LOG[3:], commit=4, behind=(3, 1)))
    ):
        view.apply(event)
    assert view.servers[S1].kv == {b"x": b"3", b"y": b"2"}, "what the snapshot stands for is known"


def test_what_nobody_told_before_the_snapshot_stays_unknown() -> None:
    state = server_state(1, term=1, log=LOG[3:], commit=4, behind=(3, 1))
    view = folded(*THREE[:2], spawned(1), (1, state))
    server = view.servers[S1]
    assert (server.hidden, server.kv, server.term_before) == (3, {b"x": b"3"}, 1)
    assert (server.first_index, server.known_from, server.last_index) == (4, 4, 4)
    assert told_again(view) == view


def test_a_prefix_that_does_not_lead_to_the_snapshot_is_forgotten() -> None:
    wrong = (*entries(1), put(b"q", b"7"), put(b"q", b"8"))
    dies = ServerExited(S1, 81, "killed", True)
    state = server_state(1, term=3, log=(), commit=3, behind=(3, 3))
    view = folded(*cluster(3, term=1, log=wrong, commit=0), dies, spawned(1), (1, state))
    server = view.servers[S1]
    assert (server.compacted, server.kv, server.hidden) == ([], {}, 3)


def test_an_installed_snapshot_is_filled_in_from_the_logs_of_others() -> None:
    stale = server_state(3, term=1, log=entries(1), commit=1)
    view = folded(*THREE, (3, stale), installed(3, 3))
    server = view.servers[S3]
    assert (server.log, server.first_index, server.commit_index) == ([], 4, 3)
    assert server.compacted == list(LOG[:3])
    assert (server.last_applied, server.kv) == (1, {}), "it is restored, and only then applied"
    for event in Stream().events((3, Applied(Index(3))), (3, EntriesAppended(Index(4), LOG[3:]))):
        view.apply(event)
    assert server.kv == {b"x": b"1", b"y": b"2"}
    assert (server.hidden, server.last_index) == (0, 4)
    assert told_again(view) == view


def test_an_installed_snapshot_that_nobody_knows() -> None:
    stale = server_state(3, term=1, log=entries(1))
    snapshot = SnapshotInstalled(Index(90), T3, False)
    view = folded(*THREE, (3, stale), (3, snapshot), (3, Applied(Index(90))))
    server = view.servers[S3]
    assert (server.first_index, server.compacted, server.hidden, server.kv) == (91, [], 90, {})
    assert told_again(view) == view


def test_a_retained_log_goes_on_behind_the_snapshot() -> None:
    view = folded(*THREE, installed(3, 2, retained=True))
    server = view.servers[S3]
    assert (server.first_index, server.log, server.last_index) == (3, list(LOG[2:]), 4)


# --- Members, transfers, pre-votes -----------------------------------------------------------


def test_members_and_transfers_are_told_again() -> None:
    change = ConfigurationChanged(Index(5), (S1, S2), (), (S3,))
    view = folded(*THREE, (2, change), (2, TransferChanged(S1)))
    assert (view.servers[S2].configuration, view.servers[S2].transferee) == (change, S1)
    assert told_again(view) == view
    steps_down = RoleChanged(Role.FOLLOWER, Term(2), RoleReason.HIGHER_TERM)
    for event in Stream().events((2, steps_down)):
        view.apply(event)
    assert view.servers[S2].transferee is None


def test_a_pre_candidate_counts_answers_and_gives_no_vote() -> None:
    asks = RoleChanged(Role.PRE_CANDIDATE, T1, RoleReason.ELECTION_TIMEOUT)
    yes = PreVoteReceived(Term(2), S1, Granted())
    no = PreVoteReceived(Term(2), S3, LeaderAlive(S2))
    view = folded(*THREE, (1, asks), (1, yes), (1, no))
    server = view.servers[S1]
    assert (server.role, server.term, server.voted_for) == (Role.PRE_CANDIDATE, 1, S2)
    assert server.votes == {S1: Granted(), S3: LeaderAlive(S2)}
    assert server_values(server, view)["role"] == "pre-candidate"
    assert told_again(view) == view


# --- What Raft promises ----------------------------------------------------------------------


def judged(*told: Told) -> list[Violation]:
    view, invariants = ClusterView(), Invariants()
    found = []
    for event in Stream().events(*told):
        found += invariants.apply(event, view)
        view.apply(event)
    return found


def test_what_follows_an_installed_snapshot_is_judged() -> None:
    behind = (3, server_state(3, term=1, log=entries(1)))
    good = (3, EntriesAppended(Index(4), LOG[3:]))
    assert judged(*THREE, behind, installed(3, 3), (3, Applied(Index(3))), good) == []
    bad = (3, EntriesAppended(Index(4), (put(b"q", b"7"),)))
    [violation] = judged(*THREE, behind, installed(3, 3), bad)
    assert violation.property is Property.LOG_MATCHING
    machine = judged(*THREE, behind, installed(3, 3), bad, (3, CommitAdvanced(Index(4))), apply4())
    assert Property.STATE_MACHINE_SAFETY in {one.property for one in machine}


def apply4() -> tuple[int, Applied]:
    return 3, Applied(Index(4))


def test_a_leader_whose_snapshot_has_what_is_committed_is_complete() -> None:
    behind = (3, server_state(3, term=1, log=entries(1)))
    wins = (3, RoleChanged(Role.LEADER, Term(2), RoleReason.WON_ELECTION))
    assert judged(*THREE, behind, installed(3, 4), wins) == []
    [violation] = judged(*THREE, behind, installed(3, 3), wins)
    assert violation.property is Property.LEADER_COMPLETENESS


def test_of_a_log_that_nobody_told_nothing_is_said() -> None:
    state = server_state(3, term=1, log=LOG[3:], commit=4, behind=(90, 1))
    wins = (3, RoleChanged(Role.LEADER, Term(2), RoleReason.WON_ELECTION))
    more = (3, EntriesAppended(Index(92), entries(2)))
    assert judged(*THREE, (3, state), wins, more, (3, Applied(Index(92)))) == []


# --- In words, and in the picture ------------------------------------------------------------

PIECE = InstallSnapshot(S2, S1, T3, Index(90), T3, b"{}", 200, 1, 64, b"x" * 64)
HAS_PIECE = InstallSnapshotReply(S1, S2, T3, Index(90), 128, False)
HAS_ALL = InstallSnapshotReply(S1, S2, T3, Index(90), 200, True)
ASKS = RequestPreVote(S3, S1, T4, Index(5), T3)


def answer(outcome: VoteOutcome) -> RequestPreVoteReply:
    return RequestPreVoteReply(S1, S3, T3, T4, outcome)


MESSAGES: list[tuple[Message, str, Kind, str, str]] = [
    (ASKS, "RequestPreVote  term 4, its log ends at 5/3", Kind.ASK, "?", "would you vote for me"),
    (
        RequestPreVote(S3, S1, T4, Index(0), Term(0)),
        *("RequestPreVote  term 4, its log is empty", Kind.ASK, "?", "would you vote for me"),
    ),
    (
        answer(Granted()),
        *("RequestPreVoteReply  term 3, it would vote in term 4", Kind.GRANT, "+", "I would"),
    ),
    (
        answer(LeaderAlive(S2)),
        "RequestPreVoteReply  term 3, it would not vote in term 4: it hears from the leader S2",
        *(Kind.REFUSE, "−", "has a leader"),
    ),
    (
        answer(LeaderAlive(S1)),
        "RequestPreVoteReply  term 3, it would not vote in term 4: it leads itself",
        *(Kind.REFUSE, "−", "has a leader"),
    ),
    (
        TimeoutNow(S2, S3, T3),
        *("TimeoutNow  term 3, start an election and take over", Kind.ASK, "!", "take over"),
    ),
    (
        PIECE,
        "InstallSnapshot  term 3, all up to 90/3, bytes 64 to 128 of 200",
        *(Kind.ENTRIES, "snapshot", "up to 90"),
    ),
    (
        HAS_PIECE,
        "InstallSnapshotReply  term 3, wants the snapshot up to 90 from byte 128 on",
        *(Kind.BEAT_ANSWER, "○", ""),
    ),
    (
        HAS_ALL,
        *("InstallSnapshotReply  term 3, has all up to 90", Kind.STORED, "✓", "has 90"),
    ),
    (
        ReadIndex(S3, S2, T3, 7),
        *("ReadIndex  term 3, how far must a read see?", Kind.ASK, "?", "a read"),
    ),
    (
        ReadIndexReply(S2, S3, T3, 7, Index(4)),
        *("ReadIndexReply  term 3, a read must see all up to 4", Kind.GRANT, "+", "up to 4"),
    ),
]


@pytest.mark.parametrize(("message", "line", "kind", "face", "label"), MESSAGES)
def test_a_message_in_words_and_in_the_picture(
    message: Message, line: str, kind: Kind, face: str, label: str
) -> None:
    assert message_line(message) == f"S{message.src} → S{message.dst}  {line}"
    look = look_of(message, folded(*THREE))
    assert (look.kind, look.face, look.label) == (kind, face, label)


def pre_candidate(reason: RoleReason = RoleReason.ELECTION_TIMEOUT) -> tuple[int, RoleChanged]:
    return 3, RoleChanged(Role.PRE_CANDIDATE, T3, reason)


def becomes(role: Role, reason: RoleReason) -> tuple[int, RoleChanged]:
    return 3, RoleChanged(role, T4, reason)


STORY: list[tuple[Told, str]] = [
    (
        pre_candidate(),
        "S3 asks whether it could win an election in term 4: no word from a leader",
    ),
    (
        pre_candidate(RoleReason.ASKED),
        "S3 asks whether it could win an election in term 4: it was timed out by hand",
    ),
    (
        becomes(Role.CANDIDATE, RoleReason.PRE_VOTES_WON),
        "S3 could win, so it starts an election in term 4",
    ),
    (
        becomes(Role.CANDIDATE, RoleReason.TRANSFER),
        "S3 takes over: the leader asked it to start an election, in term 4",
    ),
    (
        becomes(Role.FOLLOWER, RoleReason.QUORUM_LOST),
        "S3 becomes a follower: no majority answers it any more",
    ),
    (
        becomes(Role.FOLLOWER, RoleReason.REMOVED),
        "S3 becomes a follower: it is no member any more",
    ),
    ((1, PreVoteCast(T4, S3, Granted())), "S1 would vote for S3 in term 4"),
    (
        (1, PreVoteCast(T4, S3, LeaderAlive(None))),
        "S1 would not vote for S3 in term 4: "
        "it has just started, and may have heard from a leader before",
    ),
    (
        (2, ConfigurationChanged(Index(9), (S1, S2), (S1, S3), (S3,))),
        "S2 takes these for the members: 1 3 → 1 2 3? (by its entry 9)",
    ),
    (
        (2, ConfigurationChanged(Index(0), (S1, S2), (), ())),
        "S2 takes these for the members: 1 2 (as at the beginning)",
    ),
    (compacted(2, 90, 81, 3), "S2 has a snapshot up to 90/3; its log starts at 81 now"),
    (
        (1, SnapshotInstalled(Index(90), T3, False)),
        "S1 takes over the leader's snapshot up to 90/3 and discards all of its log",
    ),
    (
        (1, SnapshotInstalled(Index(90), T3, True)),
        "S1 takes over the leader's snapshot up to 90/3 and keeps the log behind it",
    ),
    ((2, TransferChanged(S3)), "S2 hands its leadership to S3"),
    ((2, TransferChanged(None)), "S2 hands its leadership to nobody any more"),
    (
        MessageSent(1, TimeoutNow(S2, S3, T3), 1.0),
        "S2 → S3  TimeoutNow  term 3, start an election and take over",
    ),
]
ROUTINE: list[tuple[Told, str]] = [
    ((3, PreVoteReceived(T4, S3, Granted())), "S3 would vote for itself in term 4"),
    ((3, PreVoteReceived(T4, S1, Granted())), "S3 would get the vote of S1"),
    (
        (3, PreVoteReceived(T4, S1, LogBehind(Index(6), T3))),
        "S3 would not get the vote of S1: its own log is more up-to-date (ends at 6/3)",
    ),
    (
        (2, SnapshotSent(S1, Index(90), 64, 200)),
        "S2 sends S1 its snapshot up to 90, from byte 64 of 200 on",
    ),
    (
        (1, server_state(1, role=Role.PRE_CANDIDATE, term=3, log=LOG, behind=(90, 3))),
        "S1 tells its state: pre-candidate in term 3, 4 entries from 91 on",
    ),
]


@pytest.mark.parametrize(
    ("what", "line", "is_story"),
    [*((*told, True) for told in STORY), *((*told, False) for told in ROUTINE)],
)
def test_an_event_in_words(what: Told, line: str, is_story: bool) -> None:
    event = Stream().event(what)
    assert describe(event) == line
    assert noteworthy(event) == is_story


def after(before: list[Told], what: Told) -> Event:
    return Stream().events(*before, what)[-1]


def test_words_that_need_to_know_more() -> None:
    view = folded(*THREE)
    assert describe(after(THREE, pre_candidate()), view).endswith("a leader for 200 ms")
    view = folded(*THREE, pre_candidate(), (3, PreVoteReceived(T4, S3, Granted())))
    again = describe(after(THREE, pre_candidate()), view)
    assert again.endswith("in term 4 again: no majority for 200 ms")
    counts = describe(after(THREE, (3, PreVoteReceived(T4, S1, Granted()))), view)
    assert counts == "S3 would get the vote of S1 (2 of 3)"


def test_a_configuration_is_an_entry_with_words() -> None:
    joint = Configuration((S1, S2), (S3,), (S1, S3))
    entry = Entry(T3, EntryKind.CONFIGURATION, joint.encode())
    assert command_text(entry) == "members 1 3 → 1 2 3?"
    broken = Entry(T3, EntryKind.CONFIGURATION, b"\xff")
    assert command_text(broken) == "(not a configuration)"
