"""What the core asks of whoever drives it, and what it promises them beside Raft."""

from __future__ import annotations

from random import Random

import pytest

from raft.core.core import Config, Core
from raft.core.events import Role, RoleChanged, RoleReason
from raft.core.log import HardState, InvariantViolation
from raft.core.messages import AppendEntries, Granted, RequestVote, RequestVoteReply
from raft.testing.network import entries_of


def server(term: int = 0, log: tuple[int, ...] = ()) -> Core:
    """S1 of three."""
    return Core(Config(1, (1, 2, 3)), HardState(term), entries_of(log), Random(1), 0.0)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"server": 4}, "not among the members"),
        ({"members": (1, 1, 2)}, "distinct numbers from 1"),
        ({"members": (0, 1)}, "distinct numbers from 1"),
        ({"heartbeat_interval": 0.150}, "more frequent"),
        ({"heartbeat_interval": 0.0}, "more frequent"),
        ({"election_timeout_max": 0.1}, "longer than the longest"),
        ({"max_append_bytes": 0}, "max_append_bytes must be at least 1, not 0"),
        ({"max_inflight_messages": 0}, "max_inflight_messages must be at least 1"),
        ({"max_inflight_bytes": -1}, "max_inflight_bytes must be at least 1, not -1"),
        ({"max_uncommitted_bytes": 0}, "max_uncommitted_bytes must be at least 1"),
        ({"snapshot_chunk_bytes": 0}, "snapshot_chunk_bytes must be at least 1"),
        ({"clock_drift": 2.0}, "a fraction, from 0 to 1, not 2.0"),
        ({"clock_drift": -0.1}, "a fraction"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_with_the_reason(values, reason):
    with pytest.raises(ValueError, match=reason):
        Config(**({"server": 1, "members": (1, 2, 3)} | values))


def test_a_message_that_is_not_from_another_server_to_this_one_is_ignored():
    core = server()
    core.step(RequestVote(2, 3, 5, 0, 0), 0.0)
    core.step(RequestVote(1, 1, 5, 0, 0), 0.0)
    assert core.term == 0


def test_there_is_no_ready_while_there_is_nothing_to_do():
    core = server()
    assert core.ready(0.0) is None
    core.tick(0.1)
    assert core.ready(0.0) is None


def test_a_ready_without_entries_leaves_the_stored_log_alone():
    core = server(term=1, log=(1,))
    core.step(RequestVote(2, 1, 2, 1, 1), 0.0)
    ready = core.ready(0.0)
    assert (ready.hard_state, ready.first_index, ready.entries) == (HardState(2, 2), 0, ())
    core.persisted(ready.number, 0.0)
    assert core.ready(0.0) is None


def test_a_ready_hands_out_every_committed_entry_once():
    core = server(term=1)
    core.step(AppendEntries(2, 1, 1, 0, 0, entries_of([1, 1, 1]), 1), 0.0)
    ready = core.ready(0.0)
    assert (ready.first_committed, ready.committed_entries) == (1, entries_of([1]))
    core.step(AppendEntries(2, 1, 1, 3, 1, (), 3), 0.0)
    ready = core.ready(0.0)
    assert (ready.first_committed, ready.committed_entries) == (2, entries_of([1, 1]))


def test_what_is_applied_lies_between_what_was_applied_and_what_is_committed():
    core = server(term=1, log=(1, 1, 1))
    core.step(AppendEntries(2, 1, 1, 3, 1, (), 2), 0.0)
    core.applied(2)
    for index in (1, 3):
        with pytest.raises(InvariantViolation, match=f"applied {index} is outside"):
            core.applied(index)


def test_a_server_asked_to_campaign_does_as_if_its_timer_had_fired():
    core = server(term=4)
    core.take_events()
    assert core.campaign(0.0)
    assert (core.role, core.term) == (Role.CANDIDATE, 5)
    roles = [event for event in core.take_events() if isinstance(event, RoleChanged)]
    assert roles == [RoleChanged(Role.CANDIDATE, 5, RoleReason.ASKED)]


def test_a_leader_does_not_campaign():
    core = server()
    core.campaign(0.0)
    ready = core.ready(0.0)
    core.persisted(ready.number, 0.0)
    core.step(RequestVoteReply(2, 1, 1, Granted()), 0.0)
    assert not core.campaign(0.0)
    assert (core.role, core.term) == (Role.LEADER, 1)


def test_a_wait_that_begins_anew_is_as_long_as_the_one_before():
    core = server()
    timeout = core.timer_interval
    core.wait_anew(100.0)
    assert core.deadline == pytest.approx(100.0 + timeout)


def test_a_violation_shows_the_state_of_the_server():
    core = server(term=3, log=(1, 2, 2))
    with pytest.raises(InvariantViolation) as caught:
        core.applied(7)
    text = str(caught.value)
    assert "S1 FOLLOWER term 3 voted for None commit 0 applied 0" in text
    assert "terms [1, 2, 2]" in text
