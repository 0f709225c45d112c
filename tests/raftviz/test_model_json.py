from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.core.events import Role, RoleChanged, RoleReason, VoteCast
from raft.core.messages import (
    AppendEntries,
    Entry,
    EntryKind,
    Index,
    LogBehind,
    ServerId,
    Term,
)
from raft.machine.kv import Put, encode_command
from raftviz.model.as_json import event_json
from raftviz.model.events import (
    CommandGiven,
    Event,
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
)
from tests.raftviz.fake_lab import Told, server_state, started
from tests.raftviz.simulated import SimulatedLab

COMMAND = encode_command(Put(b"x", b"9"))
ENTRY = Entry(Term(3), EntryKind.COMMAND, COMMAND)
S2, S3 = ServerId(2), ServerId(3)


def as_json(told: Told) -> Any:
    source, what = told if isinstance(told, tuple) else (0, told)
    line = event_json(Event(7, 1.25, 99.5, ServerId(source), what))
    assert "\n" not in line
    whole = json.loads(line)
    assert [whole[name] for name in ("sequence", "time", "monotonic", "source")] == [
        7,
        1.25,
        99.5,
        source,
    ]
    return whole["event"]


def test_an_event_has_its_type_and_enumerations_their_names() -> None:
    event = as_json((2, RoleChanged(Role.LEADER, Term(3), RoleReason.WON_ELECTION)))
    assert event == {"type": "RoleChanged", "role": "leader", "term": 3, "reason": "won_election"}


def test_outcomes_and_messages_have_their_types() -> None:
    event = as_json((1, VoteCast(Term(3), S2, LogBehind(Index(5), Term(2)))))
    assert event["outcome"] == {"type": "LogBehind", "last_log_index": 5, "last_log_term": 2}
    append = AppendEntries(S2, S3, Term(3), Index(4), Term(3), (ENTRY,), Index(4), 6)
    assert as_json(MessageSent(12, append, 1.5)) == {
        "type": "MessageSent",
        "message_id": 12,
        "message": {
            "type": "AppendEntries",
            "src": 2,
            "dst": 3,
            "term": 3,
            "prev_log_index": 4,
            "prev_log_term": 3,
            "entries": [
                {
                    "term": 3,
                    "kind": "command",
                    "data": as_json_bytes(COMMAND),
                    "command": "x=9",
                }
            ],
            "leader_commit": 4,
            "round": 6,
        },
        "due": 1.5,
    }


def as_json_bytes(data: bytes) -> object:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(b"plain", "plain"), ("é".encode(), "é"), (b"", ""), (b"\xff\x00", {"base64": "/wA="})],
)
def test_bytes(value: bytes, shown: object) -> None:
    event = as_json(OperationInvoked(1, OperationKind.PUT, value, b"v", S2))
    assert event["key"] == shown
    assert event["kind"] == "put"
    assert as_json(OperationReturned(1, Outcome.OK, True, value, ""))["value"] == shown


def test_what_is_nobody_and_lists() -> None:
    state = as_json((2, server_state(2, role=Role.LEADER, term=1, votes=[1, 2], peers=[1, 3])))
    assert state["voted_for"] is None
    assert state["votes"] == [1, 2]
    assert state["progress"][0] == {"follower": 1, "next_index": 1, "match_index": 0}
    assert as_json(started(3))["servers"] == [1, 2, 3]


def test_nothing_in_a_line_is_obeyed_by_a_terminal() -> None:
    event = Event(1, 0.0, 0.0, ServerId(0), CommandGiven("\x1b]0;\x07\x9b\u202e", True, "é"))
    line = event_json(event)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["event"]["text"] == "\x1b]0;\x07\x9b\u202e"


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_every_event_of_a_run_is_json(seed: int) -> None:
    for event in SimulatedLab(3, seed).run(150):
        assert json.loads(event_json(event))["event"]["type"] == type(event.what).__name__
