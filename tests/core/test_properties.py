"""What holds for all values: quorums, logs, progress and the search for a conflict."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.core.log import HardState, Log, LogSlice
from raft.core.messages import AppendEntriesReply, Mismatch
from raft.core.progress import Progress, ProgressState, Window
from raft.core.quorum import is_quorum, majority, quorum_value
from raft.core.rules import Rules
from raft.testing.mutants import fails_with
from raft.testing.network import Network, entries_of

INDEXES = st.integers(0, 12)
TERM_LISTS = st.lists(st.integers(1, 5), max_size=12).map(sorted)

# --- Quorums -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(1, 10))
def test_any_two_majorities_share_a_server_and_no_smaller_number_would_do(size: int) -> None:
    def always_meet(quorum: int) -> bool:
        groups = [set(group) for group in combinations(range(size), quorum)]
        return all(one & other for one in groups for other in groups)

    assert always_meet(majority(size))
    assert not always_meet(majority(size) - 1)


@given(st.sets(st.integers(1, 9), min_size=1), st.lists(st.integers(1, 9)))
def test_a_quorum_counts_every_member_once_and_nobody_else(
    members: set[int], agreeing: list[int]
) -> None:
    count = len([member for member in members if member in agreeing])
    assert is_quorum(members, agreeing, majority(len(members))) == (count > len(members) / 2)


@given(st.lists(INDEXES, min_size=1, max_size=9), st.data())
def test_the_quorum_value_is_the_highest_that_enough_servers_have_reached(
    matched: list[int], data: st.DataObject
) -> None:
    quorum = data.draw(st.integers(1, len(matched)))
    reached = [i for i in range(max(matched) + 1) if sum(m >= i for m in matched) >= quorum]
    assert quorum_value(matched, quorum) == max(reached)


# --- Logs --------------------------------------------------------------------------------------


@given(TERM_LISTS, st.integers(-1, 14))
def test_a_log_has_terms_from_1_to_its_end_and_0_before_it(terms: list[int], index: int) -> None:
    log = Log(entries_of(terms))
    by_index = dict(enumerate([0, *terms]))
    assert log.term_at(index) == by_index.get(index)
    assert (log.last_index, log.last_term) == (len(terms), by_index[len(terms)])


@given(TERM_LISTS, INDEXES, INDEXES)
def test_entries_are_those_from_first_to_last_as_far_as_they_exist(
    terms: list[int], first: int, last: int
) -> None:
    found = Log(entries_of(terms)).entries(first + 1, last)
    assert [e.term for e in found] == [
        term for index, term in enumerate(terms, 1) if first + 1 <= index <= last
    ]


@given(TERM_LISTS, st.integers(1, 13), TERM_LISTS)
def test_truncating_and_appending_replace_a_tail(
    terms: list[int], index: int, more: list[int]
) -> None:
    log = Log(entries_of(terms))
    log.truncate(index)
    log.append(entries_of(more))
    assert log.entries(1, 99) == entries_of(terms[: index - 1] + more)


@given(TERM_LISTS, st.integers(0, 6), st.integers(0, 14))
def test_runs_of_equal_terms_are_found(terms: list[int], term: int, not_after: int) -> None:
    log = Log(entries_of(terms))
    places = [index for index, found in enumerate(terms, 1) if found == term]
    assert log.last_index_of_term(term, not_after) == max(
        (index for index in places if index <= not_after), default=None
    )
    for index in places:
        assert log.first_index_of_term_at(index) == places[0]


@given(INDEXES, st.integers(0, 5), st.lists(st.integers(1, 5), max_size=6), st.integers(0, 6))
def test_a_slice_is_sound_if_terms_never_fall_and_no_entry_is_newer_than_its_leader(
    prev_index: int, prev_term: int, terms: list[int], leader_term: int
) -> None:
    in_order = all(one <= other for one, other in pairwise([prev_term, *terms]))
    sound = (
        in_order
        and (prev_index == 0) == (prev_term == 0)
        and max([prev_term, *terms]) <= leader_term
    )
    piece = LogSlice(prev_index, prev_term, entries_of(terms))
    assert (piece.fault(leader_term) is None) == sound
    assert piece.last_index == prev_index + len(terms)


# --- Progress ----------------------------------------------------------------------------------

REPLIES = st.lists(
    st.one_of(
        st.tuples(st.just("sent"), INDEXES, INDEXES),
        st.tuples(st.just("acknowledged"), INDEXES, INDEXES),
        st.tuples(st.just("refused"), INDEXES, INDEXES),
    ),
    max_size=30,
)


@given(st.integers(1, 13), REPLIES)
def test_0_le_match_lt_next_and_match_never_falls_whatever_is_replied(
    next_index: int, replies: list[tuple[str, int, int]]
) -> None:
    progress = Progress(next_index, Window(256, 1 << 20))
    for kind, index, hint in replies:
        match_before = progress.match_index
        match kind:
            case "sent":
                progress.sent(index, 1)
            case "acknowledged":
                progress.acknowledged(index)
                assert progress.match_index == max(match_before, index)
            case "refused":
                before = (progress.next_index, progress.state, progress.waiting)
                taken = progress.refused(index, hint)
                if not taken:
                    assert (progress.next_index, progress.state, progress.waiting) == before
                else:
                    assert progress.next_index == min(index, hint) > progress.match_index
        assert 0 <= progress.match_index < progress.next_index
        assert progress.match_index >= match_before


@given(st.integers(2, 13), INDEXES)
def test_a_probe_waits_for_its_answer_and_a_stale_refusal_is_no_answer(
    next_index: int, prev_index: int
) -> None:
    progress = Progress(next_index, Window(256, 1 << 20))
    progress.sent(next_index, 1)
    assert not progress.may_append(99)
    is_answer = prev_index == next_index - 1
    assert progress.refused(prev_index, 1) == is_answer
    assert progress.may_append(99) == is_answer


@given(st.integers(2, 13), INDEXES)
def test_a_probe_is_answered_by_an_acknowledgement_that_reaches_it_and_by_no_older_one(
    next_index: int, match_index: int
) -> None:
    progress = Progress(next_index, Window(256, 1 << 20))
    progress.sent(next_index, 1)
    progress.acknowledged(match_index)
    is_answer = match_index >= next_index - 1
    assert progress.may_append(99) == is_answer
    assert progress.state is (ProgressState.REPLICATE if is_answer else ProgressState.PROBE)
    assert progress.next_index == max(next_index, match_index + 1)


@given(st.integers(2, 13), st.integers(1, 15))
def test_a_refusal_takes_next_index_back_to_the_hint_but_never_forward(
    next_index: int, hint: int
) -> None:
    progress = Progress(next_index, Window(256, 1 << 20))
    assert progress.refused(next_index - 1, hint)
    assert progress.next_index == min(hint, next_index - 1)


# --- The search for a conflict -----------------------------------------------------------------


@st.composite
def divergent_logs(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """The terms of two logs that Raft allows: behind a common part no term is in both."""
    common: list[int] = []
    leader: list[int] = []
    follower: list[int] = []
    term = 0
    for _ in range(draw(st.integers(0, 3))):
        term += draw(st.integers(1, 2))
        common += [term] * draw(st.integers(1, 3))
    # The last common term may go on in one of the two, but in only one of them.
    draw(st.sampled_from([leader, follower])).extend([max(term, 1)] * draw(st.integers(0, 3)))
    for _ in range(draw(st.integers(0, 6))):
        term = max(term, 1) + draw(st.integers(1, 2))
        draw(st.sampled_from([leader, follower])).extend([term] * draw(st.integers(1, 4)))
    return common + leader, common + follower


@settings(derandomize=True, database=None, report_multiple_bugs=False)
@given(divergent_logs())
def check_round_trips(rules: Rules, logs: tuple[list[int], list[int]]) -> None:
    leader_log, follower_log = logs
    last_term = max([0, *leader_log, *follower_log])
    network = Network(3, rules)
    for server, log in ((1, leader_log), (2, follower_log), (3, leader_log)):
        network.install(server, HardState(last_term), entries_of(log))
    network.fire(1)
    network.settle(lambda message: 2 not in (message.src, message.dst))
    refusals = [
        message
        for message in network.each()
        if isinstance(message, AppendEntriesReply) and isinstance(message.outcome, Mismatch)
    ]
    common = sum(1 for one, other in zip(leader_log, follower_log, strict=False) if one == other)
    too_short = len(follower_log) < len(leader_log)
    assert len(refusals) <= len(set(follower_log[common:])) + too_short
    log = network.core(1).log
    assert network.core(2).log.entries(1, 99) == log.entries(1, log.last_index)


@fails_with("conflict-one-by-one", "hint-not-used", "conflict-kept", "gaps-accepted")
def test_a_conflict_takes_at_most_one_round_trip_for_each_divergent_term(rules: Rules) -> None:
    check_round_trips(rules)
