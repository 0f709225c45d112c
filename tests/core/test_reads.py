"""Reads without an entry in the log (§8; thesis §6.4), and the bugs that others had in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from raft.core.events import Role
from raft.core.membership import AddVoter, Remove
from raft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    ReadIndex,
    ReadIndexReply,
    StaleTerm,
    TimeoutNow,
)
from raft.core.rules import Rules
from raft.testing.mutants import fails_with
from raft.testing.network import Network
from tests.core.scenes import (
    arrive,
    change,
    cluster,
    elect,
    exchange,
    heartbeat,
    isolate,
    lead,
    pick,
    reads,
    voters,
)

SHORTEST = 0.150
LEASE = SHORTEST * 0.9


def led(rules: Rules | None = None, size: int = 3, **options: object) -> Network:
    """A cluster that S1 leads in term 1, with its first entry committed everywhere."""
    network = Network(size, rules, **options)
    lead(network, 1, *range(2, size // 2 + 2))
    network.take_trace()
    return network


# --- At the leader -------------------------------------------------------------------------------


@fails_with("read-before-noop")
def test_bug_31_a_read_before_the_first_commit_of_the_term(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    elect(network, 1, 2)
    network.propose(1, b"x=1")
    network.fire(1)
    exchange(network, 1, 2)
    network.crash(1)
    elect(network, 2, 3)
    assert network.core(2).commit_index == 0
    context = network.read(2)
    network.fire(2)
    network.settle()
    assert reads(network) == {context: 3}


@fails_with("read-without-quorum")
def test_bug_32_an_answer_to_an_earlier_question_confirms_a_later_read(rules: Rules) -> None:
    network = cluster(rules, [], [], [])
    lead(network, 1, 2)
    network.read(1)
    arrive(network, pick(network, AppendEntries, 1, 3))
    late = pick(network, AppendEntriesReply, 3, 1)
    network.in_flight.clear()
    # S3 votes for S2, which commits an entry with it. S1 has not heard of that.
    elect(network, 2, 3)
    network.fire(2)
    exchange(network, 2, 3)
    network.in_flight.clear()
    second = network.read(1)
    for message in (late, late):
        arrive(network, message)
    assert second not in reads(network)


def test_many_reads_are_confirmed_by_one_round() -> None:
    network = led()
    network.in_flight.clear()
    network.slow.add(1)  # so that they come in one turn
    first = network.read(1)
    core = network.core(1)
    contexts = [core.read_index(context, network.now) for context in (7, 8)]
    assert contexts == [True, True]
    network.safety.read_asked(7)
    network.safety.read_asked(8)
    network.save(1)
    network.settle()
    network.save(1)
    assert set(reads(network)) == {first, 7, 8}


def test_a_leader_alone_confirms_itself() -> None:
    network = Network(1)
    network.fire(1)
    network.take_trace()
    context = network.read(1)
    assert reads(network) == {context: 1}


def test_a_read_dies_with_the_leadership() -> None:
    network = led()
    context = network.read(1)
    network.in_flight.clear()
    elect(network, 2, 3)
    heartbeat(network, 2)
    heartbeat(network, 2)
    assert network.core(1).role is Role.FOLLOWER
    assert context not in reads(network)


def test_bug_32_a_repeated_question_of_the_same_read_is_confirmed_by_an_old_answer() -> None:
    """Read 7 comes again while its first round is answered, and another after it."""
    network = led()
    arrive(network, ReadIndex(2, 1, 1, 7))
    arrive(network, pick(network, AppendEntries, 1, 3))
    answer = pick(network, AppendEntriesReply, 3, 1)
    network.in_flight.clear()
    arrive(network, ReadIndex(2, 1, 1, 7), ReadIndex(2, 1, 1, 8))
    arrive(network, answer)
    told = [f.message.context for f in network.in_flight if isinstance(f.message, ReadIndexReply)]
    assert told == [7], "the first; the second 7 and the 8 wait for their own rounds"


def test_bug_32_a_refusal_of_an_older_term_confirms_a_read() -> None:
    """S3 refuses what S1 sent when it led term 1, and is in S1's present term by now."""
    network = led()
    for _ in range(5):
        network.fire(1)
    old = [f.message for f in network.in_flight if isinstance(f.message, AppendEntries)][-1]
    assert (old.dst, old.round) == (3, 8)
    network.in_flight.clear()
    elect(network, 2, 3)
    network.fire(2)
    exchange(network, 1, 2)
    elect(network, 1, 2)
    heartbeat(network, 1)
    heartbeat(network, 1)
    assert network.core(3).term == network.core(1).term == 3
    arrive(network, old)
    refusal = pick(network, AppendEntriesReply, 3, 1)
    assert (refusal.term, refusal.outcome, refusal.round) == (3, StaleTerm(), 0)
    network.take_trace()
    context = network.read(1)
    network.in_flight.clear()
    arrive(network, refusal, replace(refusal, round=old.round))
    assert context not in reads(network)


def pick_append(network: Network, src: int, dst: int) -> AppendEntries:
    """A heartbeat that one server sends another now."""
    network.fire(src)
    return pick(network, AppendEntries, src, dst)


# --- At a follower -------------------------------------------------------------------------------


def test_a_follower_asks_its_leader_and_answers_when_it_has_caught_up() -> None:
    network = led()
    network.propose(1, b"x=1")
    exchange(network, 1, 2)
    context = network.read(3)
    arrive(network, pick(network, ReadIndex, 3, 1))
    exchange(network, 1, 2)
    arrive(network, pick(network, ReadIndexReply, 1, 3))
    assert reads(network) == {}, "it has not applied entry 2 yet"
    network.settle()
    heartbeat(network, 1)
    assert reads(network) == {context: 2}


def test_a_follower_without_a_leader_takes_no_read() -> None:
    assert Network(3).read(2) is None


def test_a_deposed_leader_confirms_no_read_of_a_follower() -> None:
    network = led()
    isolate(network, 2)
    context = network.read(3)
    asked = pick(network, ReadIndex, 3, 1)
    network.cut.clear()
    elect(network, 2, 3)
    arrive(network, asked)
    assert [f for f in network.in_flight if isinstance(f.message, ReadIndexReply)] == []
    heartbeat(network, 2)
    heartbeat(network, 2)
    assert context not in reads(network)


def test_a_leader_that_has_committed_nothing_lets_a_follower_wait() -> None:
    network = Network(3)
    elect(network, 1, 2)
    arrive(network, AppendEntries(1, 3, 1, 0, 0, (), 0))
    network.in_flight.clear()
    network.take_trace()
    context = network.read(3)
    arrive(network, pick(network, ReadIndex, 3, 1))
    assert network.in_flight == []
    heartbeat(network, 1)
    heartbeat(network, 1)
    assert reads(network) == {context: 1}


def test_bug_33_a_lost_answer_blocks_the_reads_behind_it() -> None:
    network = led()
    first, second, third = (network.read(3) for _ in range(3))
    network.settle(lambda message: not isinstance(message, ReadIndexReply))
    answers = [f.message for f in network.in_flight if isinstance(f.message, ReadIndexReply)]
    assert [answer.context for answer in answers] == [first, second, third]
    network.in_flight.clear()
    arrive(network, answers[2], answers[1], answers[1])
    assert set(reads(network)) == {second, third}


# --- Leases --------------------------------------------------------------------------------------


def test_a_lease_answers_without_asking_until_it_ends() -> None:
    network = led(check_quorum=True)
    began = network.now
    network.in_flight.clear()
    context = network.lease_read(1)
    assert reads(network) == {context: 1}
    assert network.in_flight == []
    network.now = began + LEASE - 0.001
    assert network.lease_read(1) is not None
    network.now = began + LEASE
    assert network.lease_read(1) is None


def test_without_check_quorum_there_are_no_leases() -> None:
    assert led().lease_read(1) is None


def test_followers_and_new_leaders_have_no_lease() -> None:
    network = led(check_quorum=True)
    assert network.lease_read(2) is None
    network.now += SHORTEST
    elect(network, 2, 3)
    assert network.lease_read(2) is None, "it has committed nothing of its term"


@fails_with("lease-from-reply")
def test_bug_34_a_lease_that_begins_with_the_answer(rules: Rules) -> None:
    """The heartbeat took long: S2 and S3 have run out of patience before the answer comes."""
    network = led(rules, check_quorum=True)
    network.fire(1)
    arrive(network, pick(network, AppendEntries, 1, 2))
    late = pick(network, AppendEntriesReply, 2, 1)
    network.in_flight.clear()
    network.now += SHORTEST
    elect(network, 2, 3)
    network.propose(2, b"x=1")
    network.fire(2)
    exchange(network, 2, 3)
    arrive(network, late)
    assert network.lease_read(1) is None


@fails_with("disruption-obeyed")
def test_bug_34_a_lease_although_followers_vote_for_another(rules: Rules) -> None:
    network = led(rules, check_quorum=True)
    isolate(network, 1)
    network.campaign(3)
    exchange(network, 2, 3)
    assert network.lease_read(1) is not None


def test_bug_34_a_lease_while_a_follower_restarts() -> None:
    """S2 has forgotten that it heard S1: it must not vote for S3 while S1 counts on it."""
    network = led(check_quorum=True)
    isolate(network, 1)
    network.crash(2)
    network.restart(2)
    network.in_flight.clear()
    network.campaign(3)
    exchange(network, 2, 3)
    assert network.core(3).role is Role.CANDIDATE
    assert network.lease_read(1) is not None


def test_bug_34_a_lease_after_leadership_was_handed_over() -> None:
    """The transfer was given up, but the request to take over is still on its way."""
    network = led(check_quorum=True)
    network.transfer(1, 3)
    assert network.lease_read(1) is None
    late = pick(network, TimeoutNow, 1, 3)
    for _ in range(7):
        network.fire(1)
        network.settle(lambda message: not isinstance(message, TimeoutNow))
    network.in_flight.clear()
    assert network.core(1).transferee is None
    assert network.lease_read(1) is None, "not in this term any more"
    arrive(network, late)
    isolate(network, 1)
    exchange(network, 2, 3)
    assert network.core(3).role is Role.LEADER


def test_a_transfer_that_never_came_to_a_request_gives_the_lease_back() -> None:
    network = led(check_quorum=True)
    isolate(network, 3)
    network.propose(1, b"x=1")
    exchange(network, 1, 2)
    network.transfer(1, 3)
    assert network.lease_read(1) is None
    for _ in range(7):
        heartbeat(network, 1)
    assert network.core(1).transferee is None
    assert network.lease_read(1) is not None


def mixed(*impatient: int, **options: Any) -> Network:
    """A cluster with leases whose ``impatient`` servers have other ``options``."""
    network = Network(3, check_quorum=True)
    for server in impatient:
        network.crash(server)
        network.restart(server, **options)
    lead(network, 1, 2)
    network.take_trace()
    return network


@pytest.mark.parametrize(
    "options",
    [
        {"check_quorum": False},
        {"election_timeout_min": 0.055, "election_timeout_max": 0.060},
    ],
    ids=["no patience", "less patience"],
)
def test_a_lease_counts_on_no_more_patience_than_those_have_who_give_it(
    options: dict[str, Any],
) -> None:
    """S2 and S3 have other settings, as in a rolling restart, and S3 is cut off from S1."""
    network = mixed(2, 3, **options)
    network.cut |= {(1, 3), (3, 1)}
    heartbeat(network, 1)
    heard = network.now
    network.now = heard + 0.060
    network.campaign(3)
    exchange(network, 2, 3)
    network.propose(3, b"x=1")
    exchange(network, 2, 3)
    assert [network.core(s).role for s in (1, 3)] == [Role.LEADER, Role.LEADER]
    assert network.core(3).commit_index > network.core(1).commit_index
    assert network.now < heard + LEASE
    assert network.lease_read(1) is None


def test_a_lease_lasts_as_long_as_the_shortest_patience_of_those_who_give_it() -> None:
    network = mixed(2, 3, election_timeout_min=0.100)
    heard = network.now
    network.now = heard + 0.100 * 0.9 - 0.001
    assert network.lease_read(1) is not None
    network.now = heard + 0.100 * 0.9
    assert network.lease_read(1) is None


def test_a_server_without_patience_that_is_not_needed_takes_no_lease_away() -> None:
    network = mixed(3, check_quorum=False)
    isolate(network, 3)
    heartbeat(network, 1)
    assert network.lease_read(1) is not None
    heartbeat(network, 1)
    assert network.lease_read(1) is not None


def test_a_server_that_does_not_tell_its_patience_has_none() -> None:
    """It is of an older version."""
    network = led(check_quorum=True)
    network.now += SHORTEST
    network.fire(1)
    for peer in (2, 3):
        arrive(network, pick(network, AppendEntries, 1, peer))
    told = [pick(network, AppendEntriesReply, peer, 1) for peer in (2, 3)]
    network.in_flight.clear()
    assert {reply.patience for reply in told} == {150}
    arrive(network, *(replace(reply, patience=0) for reply in told))
    assert network.lease_read(1) is None


def test_a_lease_does_not_outlive_those_who_gave_it() -> None:
    """They have promised nothing for the new members, who elect whom they like."""
    network = led(check_quorum=True)
    for new in (4, 5):
        network.join(new)
        network.crash(new)
        network.restart(new, check_quorum=False)
    assert network.lease_read(1) is not None
    change(network, 1, AddVoter(4, ""), AddVoter(5, ""), Remove(2), Remove(3))
    network.settle()
    assert voters(network, 1) == (1, 4, 5)
    assert network.core(1).configuration_index == network.core(1).commit_index
    assert network.lease_read(1) is None


def test_a_leader_that_hears_nobody_keeps_no_list_of_its_rounds() -> None:
    network = led()
    isolate(network, 1)
    for _ in range(100):
        network.fire(1)
    assert len(network.core(1)._leadership._rounds_sent_at) == 0
