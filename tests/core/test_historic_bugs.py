"""Bugs that Raft implementations really had, each with its number in the project's list.

Where a mutant puts the bug back, the test must fail with it (``fails_with``).
"""

from __future__ import annotations

from random import Random

import pytest

from raft.core.core import Config, Core, Ready
from raft.core.events import Role
from raft.core.log import HardState
from raft.core.membership import Configuration
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    InstallSnapshot,
    Mismatch,
    RequestVote,
    RequestVoteReply,
)
from raft.core.progress import ProgressState
from raft.core.ready import Refusal, Refused
from raft.core.rules import Rules
from raft.testing.mutants import fails_with
from raft.testing.network import Network, entries_of
from tests.core.scenes import arrive, cluster, elect, exchange, lead, log_terms, pick

# --- Commitment ----------------------------------------------------------------------------------


@fails_with("older-terms-committed")
def test_bug_1_an_earlier_terms_entry_committed_by_counting_copies(rules: Rules) -> None:
    network = cluster(rules, [1, 2], [1, 2], [1], [1], [1, 3])
    network.install(1, HardState(3), entries_of([1, 2]))
    elect(network, 1, 2, 3)
    for follower in (2, 3):
        network.install(follower, HardState(4, 1), entries_of([1, 2]))
        arrive(network, AppendEntriesReply(follower, 1, 4, Appended(2)))
    assert network.core(1).commit_index == 0
    network.crash(1)
    network.in_flight.clear()
    network.install(5, HardState(4), entries_of([1, 3]))
    elect(network, 5, 2, 3, 4)
    network.fire(5)
    network.settle()
    assert log_terms(network, 2) == [1, 3, 5]


@fails_with("older-terms-committed")
def test_bug_2_commitment_stuck_behind_entries_of_an_older_term(rules: Rules) -> None:
    network = cluster(rules, [1, 2, 2], [1], [1], one_entry_a_message=True)
    elect(network, 1, 2)
    network.fire(1)
    commits = set()
    for _ in network.each():
        commits.add(network.core(1).commit_index)
    assert commits == {0, 4}, "the old entries are committed by the new one, all at once"


@fails_with("commit-goes-back")
def test_bug_3_a_late_message_takes_a_followers_commit_index_back(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    lead(network, 1, 2)
    network.propose(1, b"x=1")
    old = pick(network, AppendEntries, 1, 2)
    arrive(network, old)
    network.settle()
    network.fire(1)
    network.settle()
    assert network.core(2).commit_index == 2
    arrive(network, old)
    assert network.core(2).commit_index == 2


@fails_with("commit-beyond-match", "match-up-to-last-index")
def test_bug_8_a_heartbeat_commits_what_has_not_been_matched(rules: Rules) -> None:
    network = cluster(rules, [1, 1], [1, 2, 2, 2], [1, 1])
    network.install(1, HardState(2), entries_of([1, 1]))
    elect(network, 1, 3)
    network.propose(1, b"x=1")
    network.fire(1)
    exchange(network, 1, 3)
    assert network.core(1).commit_index == 4
    network.greet(1, 2, 1)
    network.settle(lambda message: message.dst == 2)
    assert network.core(2).commit_index == 1


@fails_with("half-is-a-quorum", "even-half-is-a-quorum")
def test_bug_35_a_quorum_of_an_even_cluster_off_by_one(rules: Rules) -> None:
    network = cluster(rules, [], [], [], [])
    elect(network, 1, 2, 3)
    network.propose(1, b"x=1")
    network.fire(1)
    exchange(network, 1, 2)
    assert network.core(1).commit_index == 0, "two of four is no majority"
    exchange(network, 1, 3)
    assert network.core(1).commit_index == 2


# --- What a leader knows of a follower -----------------------------------------------------------


def test_bug_4_and_5_late_and_repeated_acknowledgements_take_match_index_back() -> None:
    network = cluster(Rules(), [], [], [], one_entry_a_message=True)
    elect(network, 1, 2)
    network.fire(1)
    exchange(network, 1, 2)
    for command in (b"x=1", b"x=2", b"x=3"):
        network.propose(1, command)
    network.settle(lambda message: message.dst == 2)
    answers = [pick(network, AppendEntriesReply, 2, 1) for _ in range(3)]
    progress = network.core(1).progress[2]
    for answer in (answers[2], answers[0], answers[1], answers[0]):
        arrive(network, answer)
        assert (progress.match_index, progress.next_index) == (4, 5)


@fails_with("match-up-to-last-index")
def test_bug_9_a_follower_acknowledges_its_last_index_instead_of_the_last_that_matches(
    rules: Rules,
) -> None:
    network = cluster(rules, [1, 1], [1, 2, 2, 2], [1, 1])
    network.install(1, HardState(2), entries_of([1, 1]))
    elect(network, 1, 3)
    network.propose(1, b"x=1")
    network.greet(1, 2, 1)
    network.settle(lambda message: message.dst == 2)
    assert pick(network, AppendEntriesReply, 2, 1).outcome == Appended(1)


@fails_with("stale-replies-honoured")
def test_bug_10_a_refusal_of_an_older_term_takes_next_index_back(rules: Rules) -> None:
    network = cluster(rules, [1], [1], [1])
    elect(network, 1, 2)
    network.fire(1)
    exchange(network, 1, 2)
    arrive(network, AppendEntries(3, 1, 3, 0, 0, (), 0))
    elect(network, 1, 2)
    before = network.core(1).progress[2].next_index
    arrive(network, AppendEntriesReply(2, 1, 2, Mismatch(before - 1, 0, 1)))
    assert network.core(1).progress[2].next_index == before


@fails_with("stale-replies-honoured")
def test_bug_10_an_acknowledgement_of_an_older_term_commits_what_is_not_there(
    rules: Rules,
) -> None:
    # S1 leads term 1 with S2's copies of entries 2 and 3, but has not heard of the last one.
    network = cluster(rules, [], [], [], [], [])
    elect(network, 1, 2, 3)
    network.propose(1, b"x=1")
    network.propose(1, b"x=2")
    network.fire(1)
    network.settle(lambda message: message.dst == 2)
    network.settle(lambda message: message.src == 2)
    network.settle(lambda message: message.dst == 2)
    late = [flight.message for flight in network.in_flight if flight.message.dst == 1]
    network.in_flight.clear()
    # S3 leads term 2 without them, and replaces them on S1 and S2; S1 leads again.
    elect(network, 3, 4, 5)
    network.fire(3)
    exchange(network, 3, 1)
    exchange(network, 3, 2)
    network.in_flight.clear()
    elect(network, 1, 4, 5)
    network.propose(1, b"x=3")
    network.fire(1)
    exchange(network, 1, 4)
    for acknowledgement in late:
        arrive(network, acknowledgement)
    assert network.core(1).progress[2].match_index == 0
    assert network.core(1).commit_index == 0


def test_bug_36_a_save_that_completes_late_makes_other_entries_durable() -> None:
    """Entry 2 of term 1 is being saved, and replaced, when its save completes (ABA)."""
    core = Core(Config(1, (1, 2, 3)), HardState(1), (), Random(1), 0.0)
    core.step(AppendEntries(2, 1, 1, 0, 0, entries_of([1, 1]), 0), 0.0)
    first = ready(core)
    core.step(AppendEntries(3, 1, 2, 1, 1, entries_of([2]), 0), 0.0)
    second = ready(core)
    core.step(AppendEntries(2, 1, 3, 1, 1, entries_of([3]), 0), 0.0)
    third = ready(core)
    assert [r.first_index for r in (first, second, third)] == [1, 2, 2]
    core.persisted(first.number, 0.0)
    core.persisted(second.number, 0.0)
    # The save of term 3's entry is not done, so S1's own vote of term 4 cannot be either.
    core.campaign(0.0)
    fourth = ready(core)
    core.step(RequestVoteReply(2, 1, 4, Granted()), 0.0)
    core.persisted(fourth.number, 0.0)
    assert core.role is Role.CANDIDATE
    core.persisted(third.number, 0.0)
    assert core.role is Role.LEADER
    # Its own copy of its first entry counts when it is stored, not when S2 has one.
    core.step(AppendEntriesReply(2, 1, 4, Appended(3)), 0.0)
    assert core.commit_index == 0
    core.persisted(ready(core).number, 0.0)
    assert core.commit_index == 3


def test_bug_36_saves_reported_out_of_their_order_count_when_no_gap_is_left() -> None:
    core = Core(Config(1, (1, 2, 3)), HardState(0), (), Random(1), 0.0)
    core.campaign(0.0)
    core.persisted(ready(core).number, 0.0)
    core.step(RequestVoteReply(2, 1, 1, Granted()), 0.0)
    saves = []
    for _ in range(3):
        saves.append(ready(core).number)
        core.propose(b"x=1", 0.0)
    core.step(AppendEntriesReply(2, 1, 1, Appended(3)), 0.0)
    core.persisted(saves[2], 0.0)
    core.persisted(saves[1], 0.0)
    assert core.commit_index == 0, "entry 1 is not stored"
    core.persisted(saves[0], 0.0)
    assert core.commit_index == 3


def ready(core: Core) -> Ready:
    work = core.ready(0.0)
    assert work is not None
    return work


@pytest.mark.parametrize("most", [1, 2, 256])
def test_bug_37_a_window_of_lost_messages_stalls_replication(most: int) -> None:
    network = cluster(Rules(), [], [], [], max_inflight_messages=most)
    lead(network, 1, 2)
    for number in range(100):
        network.propose(1, b"%d" % number)
    network.in_flight.clear()
    network.fire(1)
    network.settle()
    assert network.core(1).commit_index == 101


def test_every_refusal_of_a_burst_makes_the_leader_send_all_of_it_again() -> None:
    network = cluster(Rules(), [], [], [], one_entry_a_message=True)
    lead(network, 1, 2)
    for _ in range(20):
        network.propose(1, b"x")
    pick(network, AppendEntries, 1, 2)  # the first is lost, so the others are refused
    network.settle(lambda message: message.dst == 2)
    refusals = [pick(network, AppendEntriesReply, 2, 1) for _ in range(19)]
    arrive(network, refusals[0])
    arrive(network, pick(network, AppendEntries, 1, 2))
    arrive(network, pick(network, AppendEntriesReply, 2, 1))
    assert network.core(1).progress[2].match_index == 2
    for late in refusals:
        arrive(network, late)
    again = [flight.message for flight in network.in_flight if flight.message.dst == 2]
    assert [message.prev_log_index for message in again] == list(range(2, 21))


@pytest.mark.parametrize("options", [{"max_inflight_messages": 2}, {"max_inflight_bytes": 100}])
def test_bug_37_acknowledgements_do_not_open_the_window_again(options: dict[str, int]) -> None:
    network = Network(3, max_append_bytes=1, **options)
    lead(network, 1, 2)
    for number in range(20):
        network.propose(1, b"%d" % number)
        out = [f for f in network.in_flight if isinstance(f.message, AppendEntries)]
        assert len(out) <= 2 * 4, "33 bytes and more are an entry"
    network.settle()
    assert network.core(1).commit_index == 21, "without any heartbeat"


def test_a_leader_takes_no_more_than_it_may_have_uncommitted() -> None:
    overhead = 32
    network = Network(3, max_uncommitted_bytes=2 * (overhead + 5))
    lead(network, 1, 2)
    assert network.propose(1, b"x" * 100) == 2, "one command is always taken"
    refused = network.propose(1, b"")
    assert refused == Refused(Refusal.BUSY, "132 bytes wait to be committed")
    network.settle()
    assert [network.propose(1, b"x" * 5) for _ in range(2)] == [3, 4]
    assert isinstance(network.propose(1, b""), Refused), "an empty command takes room too"
    # What is not committed yet counts for the next leader as well.
    network.settle()
    network.propose(1, b"z" * 10)
    exchange(network, 1, 2)
    network.crash(1)
    network.in_flight.clear()
    elect(network, 2, 3)
    assert isinstance(network.propose(2, b""), Refused)


def test_bug_38_a_follower_that_has_everything_stays_probed() -> None:
    network = cluster(Rules(), [], [], [])
    lead(network, 1, 2)
    network.propose(1, b"x=1")
    pick(network, AppendEntries, 1, 2)
    network.fire(1)
    refusal = next(m for m in network.each() if m.src == 2)
    assert isinstance(refusal.outcome, Mismatch)
    network.settle()
    assert {p.state for p in network.core(1).progress.values()} == {ProgressState.REPLICATE}


@fails_with("conflict-one-by-one", "hint-not-used")
def test_bug_39_a_long_divergent_log_takes_a_round_trip_for_every_entry(rules: Rules) -> None:
    network = cluster(rules, [1] + [4] * 200, [1] + [2] * 100 + [3] * 100, [1])
    elect(network, 1, 3)
    network.fire(1)
    refusals = [
        message
        for message in network.each(lambda message: {message.src, message.dst} == {1, 2})
        if isinstance(message, AppendEntriesReply) and isinstance(message.outcome, Mismatch)
    ]
    assert len(refusals) == 2, "one for each term that differs"
    assert log_terms(network, 2) == log_terms(network, 1)


# --- A follower's log ----------------------------------------------------------------------------


@fails_with("always-truncates")
def test_bug_6_a_delayed_append_removes_entries_that_match(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    lead(network, 1, 2)
    network.propose(1, b"x=1")
    early = pick(network, AppendEntries, 1, 2)
    arrive(network, early)
    network.settle()
    network.propose(1, b"x=2")
    network.settle()
    for late in (early, early, AppendEntries(1, 2, 1, 1, 1, (), 0)):
        arrive(network, late)
        assert log_terms(network, 2) == [1, 1, 1]
        assert len(network.disks[2].entries) == 3


@fails_with("conflict-kept")
def test_bug_7_a_conflicting_entry_replaced_without_cutting_what_follows(rules: Rules) -> None:
    network = cluster(rules, [1, 1], [1, 2, 2, 2], [1, 1])
    network.install(1, HardState(2), entries_of([1, 1]))
    elect(network, 1, 3)
    network.fire(1)
    exchange(network, 1, 2)
    assert log_terms(network, 2) == [1, 1, 3]


# --- Votes ---------------------------------------------------------------------------------------


@fails_with("vote-forgotten", "term-forgotten", "vote-twice")
def test_bug_11_a_vote_forgotten_in_a_crash(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    arrive(network, RequestVote(1, 2, 1, 0, 0))
    assert pick(network, RequestVoteReply, 2, 1).outcome == Granted()
    network.crash(2)
    network.restart(2)
    arrive(network, RequestVote(3, 2, 1, 0, 0))
    assert pick(network, RequestVoteReply, 2, 3).outcome != Granted()


@fails_with("log-not-compared", "log-compared-by-length", "log-compared-as-vector")
def test_bug_12_logs_compared_otherwise_than_by_last_term_and_then_by_length(
    rules: Rules,
) -> None:
    own = (3, 5)
    assert {
        (term, index): rules.is_log_up_to_date(term, index, *own)
        for term in (2, 3, 4)
        for index in (4, 5, 6)
    } == {
        (2, 4): False, (2, 5): False, (2, 6): False,
        (3, 4): False, (3, 5): True, (3, 6): True,
        (4, 4): True, (4, 5): True, (4, 6): True,
    }  # fmt: skip


@fails_with("log-compared-by-length", "log-not-compared")
def test_bug_12_a_longer_log_wins_over_one_with_a_committed_entry(rules: Rules) -> None:
    network = cluster(rules, [1], [1], [1, 2, 2, 2])
    network.install(1, HardState(2), entries_of([1]))
    elect(network, 1, 2)
    network.fire(1)
    exchange(network, 1, 2)
    assert network.core(1).commit_index == 2
    network.crash(1)
    network.fire(3)
    network.fire(3)
    network.settle()
    assert network.core(3).role is not Role.LEADER


@fails_with("log-compared-as-vector")
def test_bug_12_of_a_longer_and_a_newer_log_neither_wins(rules: Rules) -> None:
    network = cluster(rules, [1, 1, 1], [1, 2], [])
    network.crash(3)
    network.fire(2)
    network.settle()
    assert network.core(2).role is Role.LEADER


@fails_with("repeated-vote-refused")
def test_bug_55_a_repeated_request_of_the_same_candidate_not_granted_again(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    network.fire(1)
    request = pick(network, RequestVote, 1, 2)
    arrive(network, request)
    pick(network, RequestVoteReply, 2, 1)  # the answer is lost
    arrive(network, request)
    network.settle(lambda message: message.src == 2)
    assert network.core(1).role is Role.LEADER


@fails_with("stale-replies-honoured")
def test_a_vote_of_an_older_term_counted(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    network.fire(1)
    arrive(network, pick(network, RequestVote, 1, 2))
    late = pick(network, RequestVoteReply, 2, 1)
    network.fire(1)
    arrive(network, late)
    assert network.core(1).role is Role.CANDIDATE


@fails_with("stale-requests-accepted")
def test_a_deposed_leader_obeyed(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    elect(network, 1, 3)
    network.fire(1)
    late = pick(network, AppendEntries, 1, 2)
    network.fire(2)
    network.in_flight.clear()
    elect(network, 2, 3)
    arrive(network, late)
    assert network.core(2).role is Role.LEADER


# --- Data and time -------------------------------------------------------------------------------


def test_bug_48_entries_packed_by_size_leave_gaps() -> None:
    network = Network(3, max_append_bytes=200)
    elect(network, 1, 2)
    sizes = [0, 500, 10, 10, 150, 199, 1, 0, 300, 40]
    for number, size in enumerate(sizes):
        network.propose(1, bytes([number]) * size)
    network.fire(1)
    network.settle()
    network.fire(1)
    network.settle()
    last = len(sizes) + 1
    for server in (2, 3):
        assert network.core(server).log.entries(1, last) == network.core(1).log.entries(1, last)
        assert network.core(server).last_applied == last


@pytest.mark.parametrize("limit", [1, 60, 10_000])
def test_bug_40_committed_entries_are_skipped_where_a_batch_ends(limit: int) -> None:
    """However the log comes to a follower, what it applies is the log without gaps."""
    network = Network(3, max_append_bytes=limit)
    elect(network, 1, 2)
    for number in range(20):
        network.propose(1, b"%d" % number * (1 + number % 3))
    for _ in range(3):
        network.fire(1)
        network.settle()
    for server in (2, 3):
        assert network.core(server).last_applied == 21
        network.compact(server)
    states = {network.core(server).snapshot.data for server in (2, 3)}
    assert states == {b" ".join(b"%d" % number * (1 + number % 3) for number in range(20))}


def test_bug_43_a_crash_between_removing_a_conflict_and_appending() -> None:
    """Both are one save: a crash leaves the log as it was, or as it is to be."""
    network = cluster(Rules(), [1, 1], [1, 2, 2], [1, 1])
    network.install(1, HardState(2), entries_of([1, 1]))
    elect(network, 1, 3)
    append = AppendEntries(1, 2, 3, 1, 1, network.core(1).log.entries(2, 3), 0)
    network.slow.add(2)
    arrive(network, append)
    assert log_terms(network, 2) == [1, 1, 3]
    network.crash(2)
    network.restart(2)
    assert log_terms(network, 2) == [1, 2, 2]
    arrive(network, append)
    network.save(2)
    network.crash(2)
    network.restart(2)
    assert log_terms(network, 2) == [1, 1, 3]


def test_bug_43_what_is_to_be_removed_is_named_even_if_nothing_follows() -> None:
    """A snapshot that discards the log leaves nothing to append, and still the log must go."""
    core = Core(Config(1, (1, 2, 3)), HardState(1), entries_of([1] * 9), Random(1), 0.0)
    configuration = Configuration((1, 2, 3)).encode()
    core.step(InstallSnapshot(2, 1, 3, 5, 2, configuration, 0, 0, 0, b""), 0.0)
    work = ready(core)
    assert (work.snapshot.index, work.restore) == (5, True)
    assert (work.first_index, work.entries) == (6, ())


def test_bug_49_an_empty_command_crashes_or_is_skipped() -> None:
    network = cluster(Rules(), [], [], [])
    elect(network, 1, 2)
    assert network.propose(1, b"") == 2
    network.fire(1)
    network.settle()
    network.fire(1)
    network.settle()
    assert network.core(2).log.entry(2) == Entry(1, EntryKind.COMMAND, b"")
    assert network.core(2).last_applied == 2


def test_bug_54_a_long_pause_brings_a_burst_of_timeouts() -> None:
    network = cluster(Rules(), [], [], [])
    core = network.core(1)
    core.tick(1000.0)
    core.tick(1000.0)
    assert core.term == 1, "one election, however long the pause was"
    core.persisted(ready(core).number, 1000.0)
    core.step(RequestVoteReply(2, 1, 1, Granted()), 1000.0)
    ready(core)
    core.tick(2000.0)
    core.tick(2000.0)
    assert len([m for m in ready(core).messages if m.dst == 2]) == 1
