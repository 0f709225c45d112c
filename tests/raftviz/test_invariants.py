from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.core.events import (
    Applied,
    CommitAdvanced,
    EntriesAppended,
    EntriesTruncated,
    Role,
    RoleChanged,
    RoleReason,
    TermChanged,
)
from raft.core.log import InvariantViolation
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.core.rules import Rules
from raft.machine.kv import Put, encode_command
from raft.printable import printable
from raft.testing import mutants
from raftviz.model.events import Event, ServerExited
from raftviz.model.invariants import Invariants, Property, Violation
from raftviz.model.view import ClusterView
from tests.raftviz.fake_lab import Stream, Told, cluster, entries, server_state, spawned, started
from tests.raftviz.simulated import SimulatedLab


def judge(events: list[Event], *, view_first: bool = False) -> list[Violation]:
    view, invariants = ClusterView(), Invariants()
    found = []
    for event in events:
        if view_first:
            view.apply(event)
        found += invariants.apply(event, view)
        if not view_first:
            view.apply(event)
    assert {v.property: v for v in found} == invariants.broken
    assert invariants.status == {p: invariants.broken.get(p) for p in Property}
    return found


def judged(*told: Told) -> list[Violation]:
    return judge(Stream().events(*told))


def leads(server: int, term: int) -> tuple[int, RoleChanged]:
    return server, RoleChanged(Role.LEADER, Term(term), RoleReason.WON_ELECTION)


def appends(server: int, index: int, *terms: int, data: bytes = b"") -> tuple[int, EntriesAppended]:
    return server, EntriesAppended(Index(index), entries(*terms, data=data))


def commits(server: int, index: int) -> tuple[int, CommitAdvanced]:
    return server, CommitAdvanced(Index(index))


def applies(server: int, index: int) -> tuple[int, Applied]:
    return server, Applied(Index(index))


X = encode_command(Put(b"x", b"1"))
Y = encode_command(Put(b"y", b"2"))


@given(st.integers(0, 10_000), st.integers(3, 5), st.booleans())
@settings(max_examples=60)
def test_what_servers_do_breaks_nothing(seed: int, size: int, view_first: bool) -> None:
    assert judge(SimulatedLab(size, seed).run(300), view_first=view_first) == []


def test_a_story_told_twice_breaks_nothing() -> None:
    """A late viewer is told the state, and servers tell theirs again after a loss."""
    lab = SimulatedLab(5, 11)
    events = lab.run(500)
    view = ClusterView()
    for event in events:
        view.apply(event)
    again = [(server, lab.state(server)) for server in lab.network.cores]
    stream = Stream()
    assert judge(events + stream.events(*again)) == []
    assert judge(view.as_events() + stream.events(*again)) == []


def test_a_leader_may_tell_its_state_after_it_committed() -> None:
    told = [*cluster(3, leader=2, term=3, log=entries(1)), appends(2, 2, 3), commits(2, 2)]
    state = server_state(2, role=Role.LEADER, term=3, log=entries(1, 3), commit=2)
    assert judged(*told, (2, state)) == []


def test_two_leaders_of_one_term_break_election_safety() -> None:
    [violation] = judged(*cluster(3, leader=2, term=3), leads(3, 3))
    assert violation.property is Property.ELECTION_SAFETY
    assert violation.servers == (2, 3)
    assert violation.text == "S2 and S3 both lead term 3"


def test_a_leader_may_be_told_of_twice_and_others_lead_other_terms() -> None:
    told = cluster(3, leader=2, term=3)
    assert judged(*told, leads(2, 3), (3, TermChanged(Term(4))), leads(3, 4)) == []


@pytest.mark.parametrize(
    "told",
    [(2, EntriesTruncated(Index(2))), appends(2, 2, 4)],
    ids=["removes", "overwrites"],
)
def test_a_leader_that_changes_its_log_breaks_append_only(told: Told) -> None:
    log = [*entries(1), *entries(2, data=X)]
    [violation] = judged(*cluster(3, leader=2, term=4, log=log, commit=0), told)
    assert violation.property is Property.LEADER_APPEND_ONLY
    assert (violation.servers, violation.index) == ((2,), 2)
    assert violation.text == "S2 leads term 4 and no longer has its own entry 2/2 x=1"


def test_a_leader_whose_whole_state_has_lost_entries_breaks_append_only() -> None:
    told = cluster(3, leader=2, term=4, log=entries(1, 2), commit=0)
    state = server_state(2, role=Role.LEADER, term=4, log=entries(1))
    [violation] = judged(*told, (2, state))
    assert violation.property is Property.LEADER_APPEND_ONLY


def test_others_may_change_their_logs() -> None:
    told = cluster(3, leader=2, term=4, log=entries(1, 2), commit=0)
    steps_down = (2, RoleChanged(Role.FOLLOWER, Term(5), RoleReason.HIGHER_TERM))
    assert judged(*told, (3, EntriesTruncated(Index(2)))) == []
    assert judged(*told, steps_down, (2, EntriesTruncated(Index(2)))) == []
    dies = ServerExited(ServerId(2), 82, "killed", expected=True)
    assert judged(*told, dies, spawned(2), (2, server_state(2, term=4, log=entries(1)))) == []


def test_one_term_and_index_with_two_histories_breaks_log_matching() -> None:
    told = [
        *cluster(3),
        appends(1, 1, 1, data=X),
        appends(2, 1, 2, data=Y),
        appends(1, 2, 3),
        appends(2, 2, 3),
    ]
    [violation] = judged(*told)
    assert violation.property is Property.LOG_MATCHING
    assert (violation.servers, violation.index) == ((1, 2), 2)


def test_one_term_and_index_with_two_commands_breaks_log_matching() -> None:
    told = [*cluster(3), appends(1, 1, 1, data=X), appends(3, 1, 1, data=Y)]
    [violation] = judged(*told)
    assert violation.property is Property.LOG_MATCHING
    assert (violation.servers, violation.index) == ((1, 3), 1)


def test_logs_may_differ_where_their_terms_do() -> None:
    assert judged(*cluster(3), appends(1, 1, 1, 1), appends(2, 1, 1, 2), appends(3, 1, 2, 3)) == []


def test_a_leader_without_a_committed_entry_breaks_completeness() -> None:
    told = [
        *cluster(3, leader=2, term=2, log=entries(1), commit=0),
        appends(2, 2, 2, data=X),
        commits(2, 2),
        (3, TermChanged(Term(3))),
        leads(3, 3),
    ]
    [violation] = judged(*told)
    assert violation.property is Property.LEADER_COMPLETENESS
    assert (violation.servers, violation.index) == ((3, 2), 2)
    assert "without the entry 2/2 x=1, which S2 knew to be committed in term 2" in violation.text


def test_completeness_is_judged_when_the_commit_is_heard_of_late() -> None:
    told = [
        *cluster(3, leader=2, term=2, log=entries(1), commit=0),
        appends(2, 2, 2),
        (3, TermChanged(Term(3))),
        leads(3, 3),
        appends(3, 2, 3),
    ]
    assert judged(*told) == []
    assert [v.property for v in judged(*told, commits(2, 2))] == [Property.LEADER_COMPLETENESS]


def test_a_leader_of_an_earlier_term_need_not_have_what_is_committed_later() -> None:
    """S1 led term 2 with an entry of its own and was cut off; term 3 commits without it (§5.4)."""
    told = [
        *cluster(3, leader=1, term=2, log=entries(1), commit=1),
        appends(1, 2, 2),
        (2, TermChanged(Term(3))),
        leads(2, 3),
        appends(2, 2, 3),
        commits(2, 2),
        (1, server_state(1, role=Role.LEADER, term=2, log=entries(1, 2), commit=1)),
    ]
    assert judged(*told) == []


def test_two_entries_applied_at_one_index_break_machine_safety() -> None:
    told = [
        *cluster(3),
        appends(1, 1, 1, data=X),
        appends(2, 1, 2, data=Y),
        applies(1, 1),
        applies(2, 1),
    ]
    [violation] = judged(*told)
    assert violation.property is Property.STATE_MACHINE_SAFETY
    assert (violation.servers, violation.index) == ((1, 2), 1)
    assert violation.text == "S1 applied 1/1 x=1, S2 applied 1/2 y=2"


def test_a_restarted_server_is_held_to_what_was_applied_before() -> None:
    dies = ServerExited(ServerId(1), 81, "killed", expected=True)
    told = [*cluster(3, log=entries(1, 1)), dies]
    assert judged(*told, spawned(1), (1, server_state(1, log=entries(1, 1), commit=2))) == []
    found = judged(*told, spawned(1), (1, server_state(1, log=entries(1, 2), commit=2)))
    assert [v.property for v in found] == [Property.STATE_MACHINE_SAFETY]
    assert found[0].index == 2


def test_each_property_is_reported_once_with_its_time() -> None:
    stream = Stream()
    events = stream.events(*cluster(3, leader=2, term=3))
    events += stream.events(leads(3, 3), at=1.5) + stream.events(leads(1, 3), at=2.5)
    [violation] = judge(events)
    assert violation.time == 1.5


def test_a_violation_obeys_no_escape_sequence() -> None:
    wild = Entry(Term(2), EntryKind.COMMAND, encode_command(Put(b"\x1b]0;", b"\xff\x07" * 50)))
    told = cluster(3, leader=2, term=4, log=[wild], commit=0)
    [violation] = judged(*told, (2, EntriesTruncated(Index(1))))
    assert printable(violation.text) == violation.text
    assert len(violation.text) < 120


def test_a_hole_in_a_log_is_no_violation() -> None:
    assert judged(*cluster(3), appends(1, 7, 1), applies(1, 9), commits(1, 9)) == []


def test_before_anything_is_known_nothing_is_broken() -> None:
    assert judged(started(3), commits(1, 1), commits(9, 1), applies(1, 1)) == []


@pytest.mark.parametrize(
    ("rules", "property_"),
    [
        (mutants.VoteTwice, Property.ELECTION_SAFETY),
        (mutants.HalfIsAQuorum, Property.ELECTION_SAFETY),
        (mutants.LogNotCompared, Property.LEADER_COMPLETENESS),
        (mutants.GapsAccepted, Property.LOG_MATCHING),
        (mutants.ConflictKept, Property.LOG_MATCHING),
        (mutants.LogNotCompared, Property.STATE_MACHINE_SAFETY),
    ],
)
def test_servers_that_break_a_rule_are_found_out(rules: type[Rules], property_: Property) -> None:
    for seed in range(200):
        lab = SimulatedLab(4 if rules is mutants.HalfIsAQuorum else 3, seed, rules())
        with suppress(InvariantViolation):  # the core itself notices; what it did before counts
            lab.run(400)
        if any(violation.property is property_ for violation in judge(lab.events)):
            return
    pytest.fail(f"{rules.__name__} breaks {property_.value} and nobody says so")
