from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.core.events import Role
from raft.core.messages import (
    AlreadyVoted,
    AppendEntries,
    Entry,
    EntryKind,
    Granted,
    Index,
    RequestVoteReply,
    ServerId,
    Term,
)
from raft.machine.kv import Put, encode_command
from raftviz.model.conditions import MAX_LENGTH, Condition, ConditionError, variables
from raftviz.model.events import (
    ClockChanged,
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    ServerExited,
    ServerPaused,
)
from raftviz.model.values import (
    ENTRY_FIELDS,
    MESSAGE_FIELDS,
    NAMES,
    OPERATION_FIELDS,
    SERVER_FIELDS,
)
from raftviz.model.view import ClusterView
from tests.raftviz.fake_lab import Stream, Told, cluster, entries, server_state

S2, S3, S5 = ServerId(2), ServerId(3), ServerId(5)
PUT = Entry(Term(3), EntryKind.COMMAND, encode_command(Put(b"x", b"9")))
TOLD: list[Told] = [
    *cluster(5, leader=2, term=3, log=[*entries(1, 3), PUT]),
    ClockChanged(7.5, 0.0, 0.25),
    ServerPaused(S3),
    ServerExited(S5, 85, "killed", expected=True),
    OperationInvoked(1, OperationKind.PUT, b"x", b"9", ServerId(0)),
    OperationReturned(1, Outcome.OK, False, b"", ""),
    OperationInvoked(2, OperationKind.GET, b"x", b"", S2),
    OperationReturned(2, Outcome.OK, True, b"9", ""),
    MessageSent(1, AppendEntries(S2, S3, Term(3), Index(2), Term(3), (PUT,), Index(3)), due=8.0),
    MessageSent(2, RequestVoteReply(S3, S2, Term(3), AlreadyVoted(S2)), due=8.0),
]


def folded(*told: Told) -> ClusterView:
    view = ClusterView()
    for event in Stream().events(*told, at=7.5):
        view.apply(event)
    return view


VIEW = folded(*TOLD)


@pytest.mark.parametrize(
    "text",
    [
        "leader",
        "leader == 2",
        "leaders == 1",
        "term == 3 && commit == 3",
        "alive == 4",
        "time == 7.5 && time > 7.0",
        "rate == 0.25",
        "size(servers) == 5",
        "servers.all(s, s.term == 3)",
        'servers.exists_one(s, s.role == "leader")',
        'servers.filter(s, s.role == "dead").map(s, s.id) == [5]',
        's2.role == "leader" && s1.role == "follower"',
        "s2.id == 2 && s2.voted_for == 2 && s1.leader == 2",
        "s3.paused && s3.alive && !s5.alive && !s2.paused",
        "s1.last_index == 3 && s1.commit == 3 && s1.applied == 3",
        "s1.log[2].term == 3 && s1.log[2].index == 3",
        's1.log[2].command == "x=9" && s1.log[0].command == "no-op"',
        "s1.log == s2.log",
        's1.log.exists(e, e.command == "x=9" && e.term == 3)',
        's1.kv.x == "9" && s1.kv["x"] == "9" && "x" in s1.kv && !("y" in s1.kv)',
        "size(s5.kv) == 0 && s5.last_index == 3",
        "s2.votes == [1, 2, 3] && 2 in s2.votes && s1.votes == []",
        "s1.timer == 0.0",
        'last.kind == "get" && last.key == "x" && last.server == 2',
        'last.outcome == "ok" && last.found && last.answer == "9"',
        'operations[0].kind == "put" && operations[0].value == "9" && operations[0].server == 0',
        'messages.exists(m, m.kind == "append" && m.src == 2 && m.dst == 3 && m.entries == 1)',
        'messages.exists(m, m.kind == "vote_refused" && m.term == 3)',
        "has(s1.kv.x)",
        "start.term == 2",
        "start.s1.term < s1.term",
        "7",
        "true",
        "leader == 2 ? true : false",
        'int(last.answer) == 9 && last.answer.startsWith("9")',
    ],
)
def test_holds(text: str) -> None:
    start = {"start": {"term": 2, "s1": {"term": 2}}}
    assert Condition(text).holds(VIEW, extra=start)
    assert not Condition(f"!({text})" if text not in ("leader", "7") else "0").holds(VIEW, start)


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "leader - 2",
        "false",
        's1.kv.y == "1"',
        's1.kv["y"] != "1"',
        "s1.log[9].term == 1",
        "servers[7].alive",
        "1 / (leader - 2) == 1",
        "int(s2.role) == 1",
    ],
)
def test_what_is_not_there_does_not_hold(text: str) -> None:
    assert not Condition(text).holds(VIEW)


def test_before_the_first_operation() -> None:
    view = folded(*cluster(3))
    assert Condition('last.outcome == "none" && last.id == 0 && !last.found').holds(view)
    assert Condition("leader == 0 && leaders == 0 && size(operations) == 0").holds(view)


def test_a_pending_operation() -> None:
    view = folded(*cluster(3), OperationInvoked(4, OperationKind.DELETE, b"\xff", b"", S2))
    assert Condition('last.outcome == "pending" && last.kind == "delete"').holds(view)
    assert variables(view)["last"]["key"] == r"\xff"


def test_two_leaders_at_once() -> None:
    view = folded(*TOLD, (1, server_state(1, role=Role.LEADER, term=4)))
    assert Condition("leaders == 2 && leader == 1").holds(view)


WRONG = [
    ("lead == 1", 1, "there is no lead: did you mean leader?"),
    ("term > 1 && xyzzy", 13, "there is no xyzzy: help conditions"),
    ("s1.trm == 1", 4, "there is no trm: did you mean term?"),
    ("s1.kv.x == 'a' && s2.rolle == 'b'", 22, "did you mean role?"),
    ("servers.all(s, s.alife)", 18, "did you mean alive?"),
    ("messages.exists(m, m.command == 'x')", 22, "there is no command"),
    ("s1.log.all(e, e.voted_for == 1)", 17, "there is no voted_for"),
    ("last.outcom == 'ok'", 6, "did you mean outcome?"),
    ("servers[0].aliv", 12, "did you mean alive?"),
    ("leader.term == 1", 8, "a number or list has no term"),
    ("s0.term == 1", 1, "there is no s0"),
    ("sise(servers) == 5", 1, "did you mean size?"),
    ("leader = 2", 8, "write ==, not ="),
    ("leader == 2 and true", 13, "write &&, not and"),
    ("leader ==", 10, "the condition ends too early"),
    ("", 1, "the condition ends too early"),
    ("(leader == 1", 13, ") is missing here"),
    ("leader == 1)", 12, ") does not belong here"),
    ("leader @ 2", 8, "@ does not belong here"),
    ("s1.kv['x] == 2", 7, "this ' is never closed"),
    ('"é" == s1.role && x = 2', 21, "write ==, not ="),
    ("leader == 1 &&\n  lead == 2", 18, "did you mean leader?"),
    ("true &&\n  = 2", 11, "write ==, not ="),
    ("1" * (MAX_LENGTH + 1), MAX_LENGTH + 1, "at most 1000 characters"),
    ("(" * 200 + "1" + ")" * 200, 97, "too many brackets"),
    (
        "servers.all(a, servers.all(b, servers.all(c, servers.all(d, true))))",
        53,
        "at most 3 of all, exists, map",
    ),
]


@pytest.mark.parametrize(("text", "column", "reason"), WRONG)
def test_a_wrong_condition_is_refused_before_it_is_judged(
    text: str, column: int, reason: str
) -> None:
    with pytest.raises(ConditionError) as caught:
        Condition(text)
    assert reason in caught.value.reason
    assert caught.value.column == column
    assert str(caught.value).startswith(f"column {column}: ")


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("leader == 1 || s9.term == 1", 16, "there is no s9; the servers are s1, s2, s3, s4, s5"),
        ("leader && true", 1, "&& and || want true or false (leader != 0)"),
        ("s1.term < 'x'", 1, "what does not fit"),
        ("s1.role", 1, 'this is neither true nor false but "follower"'),
        ("time", 1, "this is neither true nor false but 7.5"),
        ("s1", 1, "this is neither true nor false but S1 follower term 3"),
        ("s1.role.matches('(')", 1, "not a valid regex"),
        ("contains(1)", 1, "contains"),
        ("true && start.term == 1", 9, "start is known in lessons only"),
    ],
)
def test_what_cannot_be_judged_is_said(text: str, column: int, reason: str) -> None:
    with pytest.raises(ConditionError) as caught:
        Condition(text).holds(VIEW)
    assert reason in caught.value.reason
    assert caught.value.column == column


@given(st.text(max_size=30) | st.text(alphabet="s1.lead()[]'\"=&|!+,<> ", max_size=30))
def test_no_text_does_harm(text: str) -> None:
    """Whatever somebody writes is judged or refused; nothing else happens."""
    try:
        Condition(text).holds(VIEW)
    except ConditionError as error:
        assert error.column >= 1  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("leader == 1 && term > 9", "leader = 2, term = 3"),
        ("s1.kv.y == '1'", "s1.kv.y is not there"),
        ("s1.kv['x'] == '1'", "s1.kv['x'] = \"9\""),
        ("s1.log[2].term == 4", "s1.log[2].term = 3"),
        ("s1.log.exists(e, e.term == 7)", "s1.log = [1/1 no-op, 2/3 no-op, 3/3 x=9]"),
        ("leader == leader + 1", "leader = 2"),
        ("size(s1.log) == 7", "s1.log = [1/1 no-op, 2/3 no-op, 3/3 x=9]"),
        ("'leader' == s1.role || leader == 9", 's1.role = "follower", leader = 2'),
        ("servers.exists(s, s.id == 7)", "servers = [S1 follower term 3, S2 leader term 3, "),
        ("size(messages) == 0", "messages = [append S2 → S3, vote_refused S3 → S2]"),
        ("time > 8.0", "time = 7.5"),
        ("!s2.alive", "s2.alive = true"),
        ("size(last.kind) == 9", 'last.kind = "get"'),
        ("1 == 2", "it looks at nothing in the cluster"),
    ],
)
def test_explains_what_it_saw(text: str, seen: str) -> None:
    condition = Condition(text)
    assert not condition.holds(VIEW)
    assert condition.explain(VIEW).startswith(seen)
    assert str(condition) == text


def test_an_explanation_is_short_and_obeys_no_escape_sequence() -> None:
    wild = Entry(Term(3), EntryKind.COMMAND, encode_command(Put(b"x", b"\x1b]0;\x07" * 500)))
    view = folded(*cluster(3, leader=2, term=3, log=[wild]))
    text = Condition("s1.kv.x == 'a'").explain(view)
    assert r"\x1b]0;\x07" in text
    assert "\x1b" not in text
    assert len(text) < 200


def test_every_name_and_field_is_documented_and_there() -> None:
    values = variables(VIEW)
    assert set(values) == {*NAMES, "s1", "s2", "s3", "s4", "s5"} - {"start"}
    assert all(set(server) == set(SERVER_FIELDS) for server in values["servers"])
    assert set(values["last"]) == set(OPERATION_FIELDS)
    assert set(variables(folded(*cluster(3)))["last"]) == set(OPERATION_FIELDS)
    assert set(values["messages"][0]) == set(MESSAGE_FIELDS)
    assert set(values["s1"]["log"][0]) == set(ENTRY_FIELDS)


def test_values_are_not_shared_with_the_view() -> None:
    view = folded(*TOLD)
    before = variables(view)
    view.servers[ServerId(1)].log.clear()
    view.servers[ServerId(1)].kv.clear()
    assert before["s1"]["log"]
    assert before["s1"]["kv"] == {"x": "9"}


def test_granted_votes_alone_are_votes() -> None:
    view = folded(*TOLD)
    view.servers[S3].votes = {S3: Granted(), S2: AlreadyVoted(S2)}
    assert Condition("s3.votes == [3]").holds(view)
