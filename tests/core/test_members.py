"""Changes of the members (§6; thesis chapter 4), and the bugs that others had in them."""

from __future__ import annotations

import pytest

from raft.core.events import Role, RoleChanged, RoleReason
from raft.core.log import HardState, InvariantViolation
from raft.core.membership import AddLearner, AddVoter, Configuration, Demote, Remove
from raft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    LeaderAlive,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from raft.core.ready import Refusal, Refused
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
    log_terms,
    pick,
    voters,
)


def led(size: int = 3, rules: Rules | None = None, **options: object) -> Network:
    """A cluster that S1 leads, with its first entry committed everywhere."""
    network = Network(size, rules, **options)
    lead(network, 1, *range(2, size // 2 + 2))
    return network


def refusal(answer: object) -> Refusal:
    assert isinstance(answer, Refused), answer
    assert answer.detail, "a refusal says why"
    return answer.reason


# --- When a configuration counts -----------------------------------------------------------------


def test_bug_27_a_configuration_counts_from_the_moment_it_is_appended() -> None:
    network = led()
    isolate(network, 1)
    change(network, 1, AddVoter(4))
    assert voters(network, 1) == (1, 2, 3, 4)
    assert network.core(1).commit_index == 1
    assert voters(network, 2) == (1, 2, 3)


def test_bug_27_a_configuration_is_rolled_back_with_its_entry() -> None:
    network = led()
    isolate(network, 1)
    change(network, 1, AddVoter(4))
    elect(network, 2, 3)
    heartbeat(network, 2)
    network.cut.clear()
    heartbeat(network, 2)
    assert voters(network, 1) == (1, 2, 3)
    assert network.core(1).configuration_index == 0


def test_a_configuration_survives_a_restart() -> None:
    network = led()
    change(network, 1, AddVoter(4))
    network.settle()
    network.crash(2)
    network.restart(2)
    assert (voters(network, 2), network.core(2).configuration_index) == ((1, 2, 3, 4), 2)


def test_a_new_server_needs_nothing_but_its_number() -> None:
    network = led()
    change(network, 1, AddVoter(4))
    network.settle()
    assert voters(network, 4) == (1, 2, 3, 4)
    assert network.core(4).last_applied == network.core(1).commit_index


def test_a_server_that_belongs_nowhere_waits_to_be_called() -> None:
    network = led()
    network.join(4)
    network.advance(5.0)
    assert network.core(4).term == 0
    assert not network.core(4).campaign(network.now)


# --- What is refused -----------------------------------------------------------------------------


@fails_with("changed-before-noop")
def test_bug_21_a_change_before_the_first_commit_of_the_term(rules: Rules) -> None:
    """The counter-example to single-server changes as first published (raft-dev, 2015)."""
    network = led(4, rules)
    isolate(network, 1)
    change(network, 1, AddVoter(5))
    network.cut.clear()
    network.settle(lambda message: {message.src, message.dst} == {1, 5})
    network.in_flight.clear()
    # S2 leads the next term without that entry and removes S1, before it has committed anything.
    elect(network, 2, 3, 4)
    answer = network.change(2, [Remove(1)])
    exchange(network, 2, 3)
    network.in_flight.clear()
    # S1 and S5 know nothing of it: with S4 they are a majority of their five.
    elect(network, 1, 4, 5)
    assert refusal(answer) is Refusal.NO_COMMIT_YET


def test_bug_24_a_second_change_while_the_first_is_not_committed() -> None:
    network = led()
    change(network, 1, AddVoter(4))
    assert refusal(network.change(1, [AddVoter(5)])) is Refusal.CHANGE_IN_PROGRESS
    assert refusal(network.change(1, [AddLearner(5)])) is Refusal.CHANGE_IN_PROGRESS
    network.settle()
    change(network, 1, AddVoter(5))


def test_bug_24_a_new_leader_refuses_changes_while_it_inherits_one() -> None:
    network = led()
    change(network, 1, AddVoter(4))
    exchange(network, 1, 2)
    network.crash(1)
    network.in_flight.clear()
    elect(network, 2, 3, 4)
    assert voters(network, 2) == (1, 2, 3, 4)
    assert refusal(network.change(2, [AddVoter(5)])) is Refusal.NO_COMMIT_YET
    heartbeat(network, 2)
    heartbeat(network, 2)
    change(network, 2, AddVoter(5))


def test_bug_24_a_transfer_goes_by_the_configuration_that_counts() -> None:
    """TimeoutNow starts an election: with the votes that the target's own log demands."""
    network = led()
    change(network, 1, AddVoter(4))
    exchange(network, 1, 2)
    network.in_flight.clear()
    network.transfer(1, 2)
    arrive(network, pick(network, TimeoutNow, 1, 2))
    assert {f.message.dst for f in network.in_flight if f.message.src == 2} == {1, 3, 4}
    exchange(network, 1, 2)
    assert network.core(2).role is Role.CANDIDATE, "two of four are no majority"


def test_a_change_meant_for_another_configuration() -> None:
    network = led()
    change(network, 1, AddVoter(4))
    network.settle()
    assert refusal(network.change(1, [AddVoter(5)], expected_index=0)) is (
        Refusal.CONFIGURATION_MOVED
    )
    assert network.change(1, [AddVoter(5)], expected_index=2) == 3


def test_a_snapshot_does_not_change_for_which_configuration_a_change_is_meant() -> None:
    """The index stays that of the configuration's entry, also for who starts from a snapshot."""
    network = led()
    change(network, 1, AddVoter(4))
    network.settle()
    network.propose(1, b"x")
    network.settle()
    network.compact(1)
    assert network.core(1).configuration_index == 2
    network.crash(1)
    network.restart(1)
    assert network.core(1).configuration_index == 2
    lead(network, 1, 2, 3)
    assert network.change(1, [AddVoter(5)], expected_index=2) == network.core(1).log.last_index


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([AddVoter(2)], "S2 is a voter already"),
        ([AddLearner(2)], "S2 is a member already"),
        ([Remove(9)], "S9 is no member"),
        ([Demote(9)], "S9 is no voter"),
        ([AddVoter(0)], "servers have numbers from 1"),
        ([Remove(1), Remove(2), Remove(3)], "at least one voter"),
    ],
)
def test_a_change_that_cannot_be(changes: list[object], why: str) -> None:
    answer = led().change(1, changes)  # type: ignore[arg-type]
    assert refusal(answer) is Refusal.IMPOSSIBLE
    assert isinstance(answer, Refused)
    assert why in answer.detail


def test_who_does_not_lead_changes_nothing() -> None:
    assert refusal(led().change(2, [AddVoter(4)])) is Refusal.NOT_LEADER


# --- Learners ------------------------------------------------------------------------------------


def test_a_learner_receives_the_log_and_counts_in_no_majority() -> None:
    network = led()
    change(network, 1, AddLearner(4), AddLearner(5))
    network.settle()
    isolate(network, 2, 3)
    network.propose(1, b"x=1")
    heartbeat(network, 1)
    assert network.core(4).log.last_index == network.core(5).log.last_index == 3
    assert network.core(1).commit_index == 2
    network.fire(4)
    assert network.core(4).role is Role.FOLLOWER, "learners start no election"


def test_a_learner_that_hears_nobody_names_no_leader() -> None:
    """Who asks it for one, or for a read, would be sent to one that is gone."""
    network = led()
    change(network, 1, AddLearner(4))
    network.settle()
    assert network.core(4).leader == 1
    network.crash(1)
    network.fire(4)
    assert network.core(4).leader is None
    assert not network.core(4).read_index(1, network.now)


def test_a_learner_is_promoted_when_it_has_caught_up() -> None:
    network = led()
    change(network, 1, AddLearner(4))
    network.settle()
    change(network, 1, AddVoter(4))
    network.settle()
    configuration = network.core(4).configuration
    assert (configuration.voters, configuration.learners) == ((1, 2, 3, 4), ())


def test_bug_25_a_learner_does_not_vote_when_it_is_asked() -> None:
    """Who asks it has a later configuration, in which it is a voter."""
    network = led()
    change(network, 1, AddLearner(4))
    network.settle()
    change(network, 1, AddVoter(4))
    exchange(network, 1, 2)
    network.in_flight.clear()
    network.crash(1)
    assert network.core(4).configuration.learners == (4,)
    elect(network, 2, 3, 4)


def test_bug_25_a_learners_vote_counts_for_nothing_who_knows_it_as_one() -> None:
    network = led()
    change(network, 1, AddLearner(4))
    network.settle()
    network.fire(2)
    network.in_flight.clear()
    arrive(network, RequestVoteReply(4, 2, network.core(2).term, Granted()))
    assert network.core(2).role is Role.CANDIDATE


# --- Joint consensus -----------------------------------------------------------------------------


@fails_with("changed-in-one-step")
def test_several_changes_go_through_a_joint_configuration(rules: Rules) -> None:
    network = led(3, rules)
    change(network, 1, AddVoter(4), AddVoter(5), Remove(2), Remove(3))
    assert (voters(network, 1), network.core(1).configuration.outgoing) == ((1, 4, 5), (1, 2, 3))
    network.settle()
    assert network.core(1).configuration == Configuration((1, 4, 5))
    assert network.core(4).configuration == Configuration((1, 4, 5))


@fails_with("joint-committed-by-new-alone")
def test_while_joint_a_majority_of_old_and_one_of_new_must_have_an_entry(rules: Rules) -> None:
    network = led(3, rules)
    change(network, 1, AddVoter(4), AddVoter(5), Remove(2), Remove(3))
    exchange(network, 1, 4, 5)
    assert network.core(1).commit_index == 1
    exchange(network, 1, 2)
    assert network.core(1).commit_index >= 2


@fails_with("joint-elected-by-new-alone")
def test_while_joint_a_majority_of_old_and_one_of_new_must_elect(rules: Rules) -> None:
    network = led(3, rules)
    change(network, 1, AddVoter(4), AddVoter(5), Remove(2), Remove(3))
    exchange(network, 1, 4)
    network.in_flight.clear()
    network.fire(4)
    exchange(network, 4, 5)
    exchange(network, 4, 1)
    assert network.core(4).role is Role.CANDIDATE, "S1, S4, S5: only S1 is of the old ones"
    elect(network, 4, 5, 1, 2)


def test_bug_22_a_joint_configuration_left_before_it_is_committed() -> None:
    network = led(3)
    change(network, 1, AddVoter(4), AddVoter(5), Remove(2), Remove(3))
    exchange(network, 1, 4)
    exchange(network, 1, 5)
    network.in_flight.clear()
    assert network.core(1).configuration.is_joint
    # S1 restarts, and cannot know whether the joint configuration in its log is committed.
    network.crash(1)
    network.restart(1)
    elect(network, 1, 2, 4)
    network.fire(1)
    exchange(network, 1, 4)
    exchange(network, 1, 5)
    assert network.core(1).configuration.is_joint, "a majority of the old voters has to have it"
    assert log_terms(network, 1) == [1, 1, 2]
    exchange(network, 1, 2)
    assert network.core(1).configuration == Configuration((1, 4, 5))


@fails_with("joint-left-early")
def test_bug_22_a_commit_of_something_earlier_ends_the_joint_configuration(rules: Rules) -> None:
    network = led(3, rules, max_append_bytes=1)
    network.propose(1, b"x=1")
    change(network, 1, AddVoter(4), AddVoter(5), Remove(2), Remove(3))
    for follower in (2, 4):
        for _ in network.each(lambda message, f=follower: {message.src, message.dst} == {1, f}):
            if network.core(1).progress[follower].match_index == 2:
                break
    assert network.core(1).commit_index == 2
    assert network.core(1).configuration.is_joint, "its own entry, the third, is not committed"


def test_bug_23_nobody_ends_a_joint_configuration_after_its_leader_is_gone() -> None:
    network = led(3)
    change(network, 1, AddVoter(4), AddVoter(5), Remove(3))
    while network.core(1).commit_index < 2:
        network.deliver(network.in_flight[0])
    network.crash(1)
    network.in_flight.clear()
    leader = next(s for s in (2, 4, 5) if network.core(s).log.last_index >= 2)
    elect(network, leader, *({2, 3, 4, 5} - {leader}))
    for _ in range(4):
        heartbeat(network, leader)
    assert network.core(leader).configuration == Configuration((1, 2, 4, 5))
    assert network.core(leader).configuration_index <= network.core(leader).commit_index


def test_bug_26_a_voter_on_its_way_out_does_not_count_its_own_vote() -> None:
    """S1 alone becomes a learner and S2 the voter: while joint, both must agree."""
    network = Network(1)
    network.fire(1)
    change(network, 1, AddVoter(2), Demote(1))
    assert network.core(1).configuration == Configuration((2,), (1,), (1,))
    exchange(network, 1, 2)
    network.in_flight.clear()
    network.crash(1)
    network.restart(1)
    network.fire(1)
    assert network.core(1).votes == {1}
    exchange(network, 1, 2)
    while network.core(1).role is Role.LEADER:
        heartbeat(network, 1)
    assert network.core(2).configuration == Configuration((2,), (1,))


def test_who_is_no_voter_any_more_asks_for_votes_but_has_none() -> None:
    """Thesis §4.2.2, figure 4.6: only the removed server has the entry that removes it."""
    network = led(2)
    isolate(network, 1)
    change(network, 1, Remove(1))
    network.crash(1)
    network.in_flight.clear()
    network.cut.clear()
    network.restart(1)
    network.fire(2)
    network.settle()
    assert network.core(2).role is not Role.LEADER, "its log is behind S1's, whose vote it needs"
    network.fire(1)
    assert network.core(1).role is Role.CANDIDATE, "its own vote is no majority of S2"
    network.settle()
    for _ in range(3):
        network.fire(2)
        network.settle()
    assert (network.leader, voters(network, 2)) == (2, (2,))
    assert not network.core(1).campaign(network.now), "now the change is committed"


# --- Removal -------------------------------------------------------------------------------------


def test_bug_53_a_leader_removes_itself() -> None:
    network = led(3)
    network.take_trace()
    change(network, 1, Remove(1))
    assert network.core(1).role is Role.LEADER, "it leads until the change is committed"
    network.settle()
    reasons = [h.what.reason for h in network.take_trace() if isinstance(h.what, RoleChanged)]
    assert reasons == [RoleReason.REMOVED]
    assert {network.core(server).commit_index for server in (1, 2, 3)} == {2}
    network.fire(1)
    assert network.core(1).role is Role.FOLLOWER
    elect(network, 2, 3)


def test_bug_53_a_leader_that_removes_itself_does_not_count_itself() -> None:
    network = led(3)
    change(network, 1, Remove(1))
    exchange(network, 1, 2)
    assert network.core(1).commit_index == 1, "S1 and S2 have it, but S1 does not count"
    exchange(network, 1, 3)
    assert network.core(1).commit_index == 2


def test_a_leader_that_becomes_a_learner_steps_down_and_stays() -> None:
    network = led(3)
    change(network, 1, Demote(1))
    network.settle()
    assert network.core(1).role is Role.FOLLOWER
    elect(network, 2, 3)
    network.propose(2, b"x=1")
    heartbeat(network, 2)
    assert network.core(1).log.last_index == network.core(2).log.last_index


@fails_with("disruption-obeyed")
def test_bug_28_a_removed_server_unseats_the_leader(rules: Rules) -> None:
    network = led(4, rules, check_quorum=True)
    change(network, 1, Remove(4))
    network.settle()
    for _ in range(3):
        heartbeat(network, 1)
        network.core(4).campaign(network.now)
        network.put(RequestVote(4, 2, network.core(4).term + 1, 9, 9))
        network.put(RequestVote(4, 1, network.core(4).term + 1, 9, 9))
        network.settle()
    assert (network.core(1).role, network.core(1).term) == (Role.LEADER, 1)


def test_bug_28_a_leader_takes_answers_of_members_only() -> None:
    network = led(4)
    change(network, 1, Remove(4))
    late = pick(network, AppendEntries, 1, 3)
    network.settle()
    arrive(network, AppendEntriesReply(4, 1, 1, Granted()))  # type: ignore[arg-type]
    assert 4 not in network.core(1).progress
    arrive(network, late)
    assert network.core(1).role is Role.LEADER


def test_progress_is_kept_of_the_members_that_are_left() -> None:
    network = led(3)
    change(network, 1, AddLearner(4))
    assert set(network.core(1).progress) == {2, 3, 4}
    network.settle()
    change(network, 1, Remove(2))
    assert set(network.core(1).progress) == {3, 4}


def test_a_configuration_entry_can_be_read_by_people() -> None:
    network = led(3)
    index = change(network, 1, AddVoter(4, "10.0.0.4:7000"))
    entry = network.core(1).log.entry(index)
    assert entry.kind is EntryKind.CONFIGURATION
    assert entry.data == (
        b'{"voters":[1,2,3,4],"learners":[],"outgoing":[],"addresses":{"4":"10.0.0.4:7000"}}'
    )


@pytest.mark.parametrize("data", [b"", b"{}", b"[1,2]", b'{"voters":[1]}', b"\xff", b"null"])
def test_an_entry_that_is_no_configuration_stops_the_server(data: bytes) -> None:
    network = cluster(Rules(), [], [], [])
    entry = Entry(1, EntryKind.CONFIGURATION, data)
    with pytest.raises(InvariantViolation, match="entry 1: not a configuration"):
        arrive(network, AppendEntries(2, 1, 1, 0, 0, (entry,), 0))


def test_five_servers_are_replaced_one_by_one() -> None:
    network = led(5)
    for old, new in zip(range(1, 6), range(6, 11), strict=True):
        leader = network.leader
        assert leader is not None
        change(network, leader, AddLearner(new))
        network.settle()
        change(network, leader, AddVoter(new), Remove(old))
        network.settle()
        if network.leader is None or old == leader:
            survivor = old + 1
            network.fire(survivor)
            network.settle()
        network.crash(old)
        assert network.leader is not None
        network.propose(network.leader, b"%d" % old)
        for _ in range(2):
            heartbeat(network, network.leader)
    assert voters(network, 10) == (6, 7, 8, 9, 10)
    commands = [entry.data for entry in network.safety.committed if entry.kind is EntryKind.COMMAND]
    assert commands == [b"1", b"2", b"3", b"4", b"5"]


def test_the_vote_of_a_voter_alone_counts_when_it_is_on_disk() -> None:
    """Else it could lead, tell a learner of it, crash, and lead the same term once more."""
    network = Network(1)
    network.fire(1)
    change(network, 1, AddLearner(2))
    network.settle()
    network.crash(1)
    network.restart(1)
    network.slow.add(1)
    network.fire(1)
    assert network.core(1).role is Role.CANDIDATE
    assert network.in_flight == []
    network.save(1)
    assert network.core(1).role is Role.LEADER


def test_a_stranger_that_hears_nothing_is_told_who_leads() -> None:
    network = led(3, check_quorum=True)
    arrive(network, RequestVote(7, 2, 9, 0, 0))
    assert pick(network, RequestVoteReply, 2, 7).outcome == LeaderAlive(1)
    assert network.core(2).term == 1
    assert network.disks[2].hard_state == HardState(1, 1)
