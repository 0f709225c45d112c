"""What holds for all values: quorums, configurations, logs, saves, progress, conflicts."""

from __future__ import annotations

from itertools import combinations, pairwise, zip_longest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raft.core.log import HardState, Log, LogSlice
from raft.core.membership import (
    AddLearner,
    AddVoter,
    Change,
    Configuration,
    ConfigurationError,
    Configurations,
    Demote,
    Remove,
)
from raft.core.messages import AppendEntriesReply, Mismatch
from raft.core.progress import Progress, ProgressState, Window
from raft.core.quorum import is_quorum, majority, quorum_value
from raft.core.rules import Rules
from raft.core.state import Saves
from raft.testing.mutants import fails_with
from raft.testing.network import Network, entries_of
from raft.testing.safety import majorities_overlap

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


# --- Configurations ----------------------------------------------------------------------------

SERVERS = st.integers(1, 6)
CHANGES = st.lists(
    st.one_of(*(st.builds(kind, SERVERS) for kind in (AddLearner, AddVoter, Demote, Remove))),
    max_size=5,
)
CONFIGURATIONS = st.builds(
    lambda voters, others, outgoing: Configuration(
        tuple(sorted(voters)), tuple(sorted(others - voters)), tuple(sorted(outgoing))
    ),
    st.sets(SERVERS, min_size=1),
    st.sets(SERVERS),
    st.sets(SERVERS),
)


@given(CONFIGURATIONS, st.sets(SERVERS))
def test_while_joint_a_quorum_is_more_than_half_of_both_sides(
    configuration: Configuration, agreeing: set[int]
) -> None:
    sides = [set(configuration.voters)] + [set(configuration.outgoing)] * configuration.is_joint
    naive = all(2 * len(side & agreeing) > len(side) for side in sides)
    assert configuration.is_quorum(agreeing, majority) == naive


@given(CONFIGURATIONS, st.dictionaries(SERVERS, INDEXES))
def test_the_value_of_a_quorum_is_the_highest_that_a_quorum_has_reached(
    configuration: Configuration, values: dict[int, int]
) -> None:
    reached = [
        value
        for value in range(13)
        if configuration.is_quorum([s for s in values if values[s] >= value], majority)
    ]
    assert configuration.quorum_value(values, majority, 0) == max(reached, default=0)


def reachable(rules: Rules, changes: list[list[Change]]) -> list[Configuration]:
    """The configurations that these requests lead through, one after the other."""
    now = Configuration((1, 2, 3))
    steps = [now]
    for request in changes:
        try:
            target = now.after(request)
        except ConfigurationError:
            continue
        steps.append(rules.next_configuration(now, target))
        if steps[-1].is_joint:
            steps.append(steps[-1].left_joint())
        now = steps[-1]
        assert set(now.voters) == set(target.voters)
        assert now == target
    return steps


@settings(derandomize=True, database=None, report_multiple_bugs=False)
@given(st.lists(CHANGES, max_size=6))
def check_neighbours(rules: Rules, changes: list[list[Change]]) -> None:
    for one, other in pairwise(reachable(rules, changes)):
        assert majorities_overlap(one, other), f"{one} → {other}"


@fails_with("changed-in-one-step")
def test_majorities_of_neighbouring_configurations_share_a_server(rules: Rules) -> None:
    check_neighbours(rules)


@given(CHANGES, st.dictionaries(SERVERS, st.text()))
def test_a_configuration_is_in_order_and_survives_the_log(
    changes: list[Change], addresses: dict[int, str]
) -> None:
    now = Configuration((1, 2, 3)).after(
        [AddLearner(number, addresses.get(number, "")) for number in (4, 5)]
    )
    try:
        target = now.after(changes)
    except ConfigurationError:
        return
    for configuration in (target, now.next_step(target)):
        assert Configuration.decode(configuration.encode()) == configuration
        assert list(configuration.members) == sorted(set(configuration.members))
        assert {server for server, _ in configuration.addresses} <= set(configuration.members)
    assert not set(target.voters) & set(target.learners)


@given(st.lists(st.tuples(st.sampled_from(["append", "truncate", "compact"]), INDEXES)))
def test_the_configuration_in_force_is_the_last_in_the_log(steps: list[tuple[str, int]]) -> None:
    kept = Configurations(Configuration((1,)))
    naive = {0: Configuration((1,))}
    start = 0
    for number, (step, index) in enumerate(steps, 2):
        match step:
            case "append":
                index = max(naive) + 1 + index
                naive[index] = Configuration((number,))
                kept.append(index, naive[index])
            case "truncate":
                changed = index > start and max(naive) >= index
                if index > start:
                    naive = {i: c for i, c in naive.items() if i < index}
                    assert kept.truncate(index) == changed
            case "compact":
                start = max(start, max(i for i in naive if i <= index))
                kept.compact(index)
        assert (kept.index, kept.latest) == (max(naive), naive[max(naive)])
        for at in range(start, max(naive) + 3):
            assert kept.at(at).configuration == naive[max(i for i in naive if i <= at)]


# --- Logs --------------------------------------------------------------------------------------


@given(TERM_LISTS, st.integers(0, 12), st.integers(0, 14))
def test_a_compacted_log_answers_as_the_whole_one_from_there_on(
    terms: list[int], place: int, index: int
) -> None:
    whole, compacted = Log(entries_of(terms)), Log(entries_of(terms))
    place = min(place, len(terms))
    compacted.compact(place)
    assert compacted.first_index == place + 1
    assert (compacted.last_index, compacted.last_term) == (whole.last_index, whole.last_term)
    assert compacted.term_at(index) == (whole.term_at(index) if index >= place else None)
    assert compacted.entries(place + 1, index) == whole.entries(place + 1, index)
    if place < index <= len(terms):
        assert compacted.first_index_of_term_at(index) == max(
            whole.first_index_of_term_at(index), place + 1
        )
    for term in range(7):
        last = whole.last_index_of_term(term, index)
        assert compacted.last_index_of_term(term, index) == (
            last if last is not None and last >= place else None
        )


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


# --- Saves -------------------------------------------------------------------------------------


class SavesOfALog(RuleBasedStateMachine):
    """A log that grows and is cut, saves that complete late and in any order.

    Every entry is another, so that none is taken for the one that stood there before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.saves = Saves(HardState(), 0)
        self.log: list[int] = []
        self.disk: list[int] = []
        self.handed_out: dict[int, tuple[HardState, int, list[int]]] = {}
        self.reported: set[int] = set()
        self.stored = HardState()
        self.count = 0

    @rule(count=st.integers(0, 3))
    def append(self, count: int) -> None:
        self.log += range(self.count, self.count + count)
        self.count += count

    @precondition(lambda self: self.log)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(1, len(self.log)))
        del self.log[index - 1 :]
        self.saves.truncated(index)

    @rule(term=st.integers(0, 3))
    def take(self, term: int) -> None:
        number = len(self.handed_out) + 1
        hard_state = HardState(term)
        first, rewrite = self.saves.take(number, hard_state, len(self.log))
        assert not rewrite
        self.handed_out[number] = hard_state, first, self.log[first - 1 :]
        assert not self.saves.unsaved(hard_state, len(self.log))

    @precondition(lambda self: len(self.reported) < len(self.handed_out))
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.handed_out.keys() - self.reported)))
        self.reported.add(number)
        assert self.saves.completed(number)
        assert not self.saves.completed(len(self.handed_out) + 1)

    @invariant()
    def what_counts_as_stored_is_on_disk(self) -> None:
        # Only a beginning without gaps is sure to be there, whatever else was reported.
        disk: list[int] = []
        stored = HardState()
        for number, (hard_state, first, entries) in self.handed_out.items():
            if number not in self.reported:
                break
            if entries:
                disk[first - 1 :] = entries
            stored = hard_state
        stable = self.saves.stable_index
        assert self.log[:stable] == disk[:stable]
        assert stable <= len(self.log)
        assert self.saves.stable_hard_state == stored
        if len(self.reported) == len(self.handed_out):
            first_unsaved = next(
                (i for i, (one, other) in enumerate(zip_longest(self.log, disk)) if one != other),
                len(self.log),
            )
            assert stable <= first_unsaved
            if not self.saves.unsaved(self.saves.hard_state, len(self.log)):
                assert stable == len(self.log)


TestSaves = SavesOfALog.TestCase

# --- Progress ----------------------------------------------------------------------------------


@given(
    st.integers(1, 4),
    st.integers(1, 40),
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.integers(0, 20)),
            st.tuples(st.just("acknowledged"), INDEXES),
            st.tuples(st.just("clear"), st.just(0)),
        )
    ),
)
def test_a_window_is_full_when_as_many_messages_or_bytes_are_out(
    most: int, most_bytes: int, steps: list[tuple[str, int]]
) -> None:
    window = Window(most, most_bytes)
    out: list[tuple[int, int]] = []
    index = 0
    for step, value in steps:
        match step:
            case "send" if not window.full:
                index += 1
                window.add(index, value)
                out.append((index, value))
            case "acknowledged":
                window.acknowledged(value)
                out = [(last, size) for last, size in out if last > value]
            case "clear":
                window.clear()
                out = []
        assert window.full == (len(out) >= most or sum(size for _, size in out) >= most_bytes)
        assert len(out) <= most


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
                taken = progress.refused(index, hint, 1)
                if not taken:
                    assert (progress.next_index, progress.state, progress.waiting) == before
                else:
                    assert index > progress.match_index
                    back = min(index, hint)
                    assert progress.next_index == max(progress.match_index + 1, back)
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
    assert progress.refused(prev_index, 1, 1) == is_answer
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
    assert progress.refused(next_index - 1, hint, 1)
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
