"""Pre-votes, check-quorum and leadership transfer (thesis §3.10, §4.2.3, §6.2, §9.6).

And the bugs that others had in them.
"""

from __future__ import annotations

from random import Random

import pytest

from raft.core.core import Config, Core
from raft.core.events import (
    MessageIgnored,
    PreVoteCast,
    PreVoteReceived,
    Role,
    RoleChanged,
    RoleReason,
    TimerArmed,
    TimerKind,
    VoteReceived,
)
from raft.core.log import HardState
from raft.core.membership import AddLearner, AddVoter, Demote, Remove
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Granted,
    LeaderAlive,
    LogBehind,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    StaleTerm,
    TimeoutNow,
    VoteOutcome,
)
from raft.core.ready import Refusal, Refused
from raft.core.rules import Rules
from raft.testing.mutants import fails_with
from raft.testing.network import Network, entries_of
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
)

SHORTEST, LONGEST = 0.150, 0.300


def led(rules: Rules | None = None, size: int = 3, **options: object) -> Network:
    """A cluster that S1 leads in term 1, with its first entry committed everywhere."""
    network = Network(size, rules, **options)
    lead(network, 1, *range(2, size // 2 + 2))
    return network


def reasons(network: Network, server: int) -> list[RoleReason]:
    """Why a server changed its role since the last look."""
    return [
        h.what.reason
        for h in network.take_trace()
        if h.server == server and isinstance(h.what, RoleChanged)
    ]


def terms(network: Network) -> set[int]:
    return {core.term for core in network.cores.values()}


def pass_time(network: Network, seconds: float) -> None:
    """Let time pass for all; messages take 10 ms."""
    for _ in range(round(seconds / 0.010)):
        network.advance(0.010)
        network.settle()


# --- Pre-votes -----------------------------------------------------------------------------------


@fails_with("pre-vote-raises-term", "pre-vote-despite-leader")
def test_a_server_that_was_cut_off_comes_back_without_unseating_the_leader(rules: Rules) -> None:
    network = led(rules, pre_vote=True)
    isolate(network, 3)
    pass_time(network, 1.0)
    assert network.core(3).role is Role.PRE_CANDIDATE
    network.cut.clear()
    arrive(network, RequestPreVote(3, 2, 2, 1, 1), RequestPreVote(3, 1, 2, 1, 1))
    pass_time(network, 1.0)
    assert (network.leader, terms(network)) == (1, {1})
    assert network.core(3).role is Role.FOLLOWER


def test_without_pre_votes_it_drives_the_term_up() -> None:
    network = led()
    isolate(network, 3)
    pass_time(network, 1.0)
    term = network.core(3).term
    assert term >= 4
    network.cut.clear()
    heartbeat(network, 1)
    assert (network.core(1).role, network.core(1).term) == (Role.FOLLOWER, term)


def test_a_majority_of_pre_votes_starts_an_election_and_nothing_else_does() -> None:
    network = Network(5, pre_vote=True)
    network.fire(1)
    core = network.core(1)
    assert (core.role, core.term, core.votes) == (Role.PRE_CANDIDATE, 0, {1})
    exchange(network, 1, 2)
    assert (core.role, core.term) == (Role.PRE_CANDIDATE, 0)
    exchange(network, 1, 2, 3)
    assert core.role is Role.LEADER
    assert reasons(network, 1)[-2:] == [RoleReason.PRE_VOTES_WON, RoleReason.WON_ELECTION]


def test_a_pre_vote_is_refused_for_the_reasons_of_a_vote() -> None:
    network = cluster(Rules(), [1, 2], [], [])
    arrive(network, RequestPreVote(2, 1, 2, 5, 2), RequestPreVote(3, 1, 3, 9, 1))
    assert pick(network, RequestPreVoteReply, 1, 2).outcome == StaleTerm()
    assert pick(network, RequestPreVoteReply, 1, 3).outcome == LogBehind(2, 2)
    arrive(network, RequestPreVote(3, 1, 3, 2, 2))
    reply = pick(network, RequestPreVoteReply, 1, 3)
    assert (reply.term, reply.election_term, reply.outcome) == (2, 3, Granted())
    assert network.core(1).voted_for is None


def test_what_is_decided_about_a_pre_vote_is_told_to_whoever_watches() -> None:
    network = led(pre_vote=True)
    network.take_trace()
    arrive(network, RequestPreVote(3, 2, 2, 9, 9))
    assert [h.what for h in network.take_trace() if isinstance(h.what, PreVoteCast)] == [
        PreVoteCast(2, 3, LeaderAlive(1))
    ]


def test_a_pre_vote_may_be_given_to_many() -> None:
    network = Network(3)
    for candidate in (2, 3, 2):
        arrive(network, RequestPreVote(candidate, 1, 1, 0, 0))
        assert pick(network, RequestPreVoteReply, 1, candidate).outcome == Granted()


def test_bug_29_a_leader_that_lost_its_leadership_is_refused_its_own_pre_vote() -> None:
    """S2 heard S1 a moment ago; that must not keep S2 from letting S1 lead again."""
    network = led(pre_vote=True, check_quorum=True)
    arrive(network, RequestPreVote(1, 2, 2, 9, 1))
    assert pick(network, RequestPreVoteReply, 2, 1).outcome == Granted()
    arrive(network, RequestPreVote(3, 2, 2, 9, 1))
    assert pick(network, RequestPreVoteReply, 2, 3).outcome == LeaderAlive(1)


def test_bug_29_pre_votes_that_come_after_the_election_count_once_more() -> None:
    network = Network(3, pre_vote=True)
    network.fire(1)
    late = RequestPreVoteReply(3, 1, 0, 1, Granted())
    exchange(network, 1, 2)
    core = network.core(1)
    assert (core.role, core.term) == (Role.LEADER, 1)
    arrive(network, late, RequestPreVoteReply(3, 1, 1, 2, Granted()))
    assert (core.role, core.term) == (Role.LEADER, 1)


def test_bug_29_a_pre_vote_of_an_earlier_question_counts() -> None:
    network = Network(3, pre_vote=True)
    arrive(network, AppendEntries(2, 1, 4, 0, 0, (), 0))
    network.fire(1)
    arrive(network, RequestPreVoteReply(3, 1, 4, 2, Granted()))
    assert network.core(1).role is Role.PRE_CANDIDATE
    arrive(network, RequestPreVoteReply(3, 1, 4, 5, Granted()))
    assert network.core(1).role is Role.CANDIDATE


@pytest.mark.parametrize("check_quorum", [False, True])
@pytest.mark.parametrize("pre_vote", [False, True])
def test_bug_29_servers_of_unequal_terms_and_logs_find_a_leader(
    pre_vote: bool, check_quorum: bool
) -> None:
    """S3 has the highest term but a short log; S2 has the log, but a low term."""
    network = Network(3, pre_vote=pre_vote, check_quorum=check_quorum)
    network.install(2, HardState(2), entries_of([1, 2]))
    network.install(3, HardState(7), entries_of([1]))
    network.crash(1)
    pass_time(network, 2.0)
    assert network.leader == 2
    assert network.core(2).commit_index == 3


def test_bug_29_a_pre_vote_of_a_server_in_an_older_term_does_not_count() -> None:
    """It is in an older term because nothing has told it of the new one: a new server, say."""
    network = Network(2, pre_vote=True)
    network.install(1, HardState(5), entries_of([5]))
    network.fire(1)
    network.settle()
    assert network.leader == 1
    assert terms(network) == {6}


def test_bug_29_a_refused_pre_vote_brings_the_asker_up_to_the_term() -> None:
    network = Network(3, pre_vote=True)
    network.install(2, HardState(6), ())
    network.fire(1)
    exchange(network, 1, 2)
    assert (network.core(1).term, network.core(1).role) == (6, Role.FOLLOWER)
    network.fire(1)
    exchange(network, 1, 2)
    assert (network.core(1).term, network.core(1).role) == (7, Role.LEADER)


# --- Check-quorum --------------------------------------------------------------------------------


def test_a_leader_that_no_majority_answers_steps_down() -> None:
    network = led(check_quorum=True)
    isolate(network, 1)
    network.take_trace()
    network.advance(LONGEST + 0.060)
    assert reasons(network, 1)[:1] == [RoleReason.QUORUM_LOST]
    assert network.core(1).leader is None


def test_a_leader_that_a_majority_answers_stays() -> None:
    network = led(size=5, check_quorum=True)
    isolate(network, 1, 2, 3)
    network.take_trace()
    pass_time(network, 1.0)
    assert reasons(network, 1) == []


def test_without_check_quorum_a_leader_without_followers_leads_on() -> None:
    network = led()
    isolate(network, 1)
    network.advance(5.0)
    assert network.core(1).role is Role.LEADER


@fails_with("disruption-obeyed")
def test_bug_28_a_server_that_was_cut_off_unseats_the_leader_of_the_others(rules: Rules) -> None:
    network = led(rules, check_quorum=True)
    arrive(network, RequestVote(3, 2, 9, 9, 9), RequestVote(3, 1, 9, 9, 9))
    assert pick(network, RequestVoteReply, 2, 3).outcome == LeaderAlive(1)
    assert pick(network, RequestVoteReply, 1, 3).outcome == LeaderAlive(1)
    assert terms(network) == {1}


@pytest.mark.parametrize(
    ("voter", "outcome", "reason"),
    [
        (2, LeaderAlive(1), "S2 refuses, since it hears from the leader S1"),
        (1, LeaderAlive(1), "S1 refuses, since it leads"),
        (
            2,
            LeaderAlive(None),
            "S2 refuses, since it may have heard from a leader before it restarted",
        ),
        (2, Granted(), "it is of term 1, which is over"),
    ],
)
def test_a_candidate_tells_why_a_voter_that_stayed_in_its_term_is_of_no_use(
    voter: int, outcome: VoteOutcome, reason: str
) -> None:
    """A refusal by who hears a leader is of an older term; it did not come too late."""
    network = led(check_quorum=True)
    network.fire(3)
    network.take_trace()
    arrive(network, RequestVoteReply(voter, 3, 1, outcome))
    ignored = [h.what for h in network.take_trace() if isinstance(h.what, MessageIgnored)]
    assert ignored == [MessageIgnored(voter, "RequestVoteReply", reason)]
    assert network.core(3).votes == {3}


def test_who_has_heard_no_leader_for_an_election_timeout_votes() -> None:
    network = led(check_quorum=True)
    network.now += SHORTEST
    arrive(network, RequestVote(3, 2, 2, 9, 9))
    assert pick(network, RequestVoteReply, 2, 3).outcome == Granted()


def test_who_restarted_may_have_heard_a_leader_and_does_not_vote_at_once() -> None:
    """That leader may count on this server's patience: its lease would be worth nothing."""
    network = led(check_quorum=True)
    network.crash(2)
    network.restart(2)
    arrive(network, RequestVote(3, 2, 2, 9, 9))
    assert pick(network, RequestVoteReply, 2, 3).outcome == LeaderAlive(None)
    network.now += SHORTEST
    arrive(network, RequestVote(3, 2, 2, 9, 9))
    assert pick(network, RequestVoteReply, 2, 3).outcome == Granted()


def test_at_its_very_first_start_a_server_votes_at_once() -> None:
    network = Network(3, check_quorum=True)
    arrive(network, RequestVote(3, 2, 1, 0, 0))
    assert pick(network, RequestVoteReply, 2, 3).outcome == Granted()


def test_a_later_term_that_it_hears_of_does_not_make_a_server_impatient() -> None:
    """Thesis §6.4.1: the leader of the term before may still count on it."""
    network = led(check_quorum=True)
    arrive(network, RequestVoteReply(3, 2, 5, StaleTerm()))
    assert network.core(2).term == 5
    arrive(network, RequestVote(3, 2, 6, 9, 9))
    assert pick(network, RequestVoteReply, 2, 3).outcome == LeaderAlive(1)


def test_forgetting_the_leader_lets_another_be_elected_at_once() -> None:
    network = led(check_quorum=True, pre_vote=True)
    network.crash(1)
    for server in (2, 3):
        network.forget_leader(server)
    assert network.core(2).leader is None
    network.campaign(2)
    network.settle()
    assert network.leader == 2


def test_a_leader_does_not_forget_itself() -> None:
    network = led()
    network.forget_leader(1)
    assert network.core(1).leader == 1


def test_bug_50_a_slow_disk_costs_a_leader_its_leadership() -> None:
    network = led(check_quorum=True)
    network.slow |= {1}
    network.propose(1, b"x=1")
    pass_time(network, 1.0)
    assert (network.leader, terms(network)) == (1, {1})
    assert network.core(1).commit_index == 2, "the followers' copies are enough"


# --- Leadership transfer -------------------------------------------------------------------------


def test_leadership_is_handed_over_at_once() -> None:
    network = led(check_quorum=True, pre_vote=True)
    assert network.transfer(1, 3) is None
    assert network.core(1).transferee == 3
    network.take_trace()
    network.settle()
    assert (network.leader, network.core(3).term) == (3, 2)
    assert reasons(network, 1) == [RoleReason.HIGHER_TERM]


@fails_with("lagging-takes-over")
def test_bug_30_a_target_that_lacks_entries_takes_over(rules: Rules) -> None:
    network = led(rules)
    isolate(network, 3)
    network.propose(1, b"x=1")
    exchange(network, 1, 2)
    network.in_flight.clear()
    network.cut.clear()
    network.transfer(1, 3)
    assert not [f for f in network.in_flight if isinstance(f.message, TimeoutNow)]
    network.settle()
    heartbeat(network, 1)
    assert (network.leader, network.core(3).log.last_index) == (3, 3)


def test_while_it_hands_over_a_leader_takes_no_commands_and_no_changes() -> None:
    network = led()
    isolate(network, 3)
    network.propose(1, b"x=1")
    network.in_flight.clear()
    network.transfer(1, 3)
    for answer in (network.propose(1, b"x=2"), network.change(1, [AddVoter(4)])):
        assert isinstance(answer, Refused)
        assert answer.reason is Refusal.TRANSFERRING
    other = network.transfer(1, 2)
    assert other == Refused(Refusal.TRANSFERRING, "leadership already goes to S3")


def test_bug_30_a_transfer_that_fails_is_never_given_up() -> None:
    network = led()
    network.crash(3)
    network.transfer(1, 3)
    for _ in range(7):
        network.fire(1)
        network.settle()
    assert network.core(1).transferee is None
    assert isinstance(network.propose(1, b"x=1"), int)


def test_bug_30_asking_again_gives_a_transfer_no_more_time() -> None:
    network = led()
    network.crash(3)
    network.transfer(1, 3)
    given_up_at = network.now + network.core(1).config.election_timeout_max
    while network.now < given_up_at:
        assert network.transfer(1, 3) is None
        heartbeat(network, 1)
    assert network.core(1).transferee is None


def test_bug_30_a_lost_request_to_take_over_is_repeated() -> None:
    network = led()
    network.transfer(1, 3)
    pick(network, TimeoutNow, 1, 3)
    heartbeat(network, 1)
    assert network.leader == 3


def test_bug_30_nobody_is_the_target_who_is_no_voter_and_none_becomes_that() -> None:
    """S3 is an old voter of a joint configuration, and a learner of the one that follows."""
    network = led(size=4)
    change(network, 1, Demote(3), Remove(4))
    assert network.transfer(1, 3) == Refused(Refusal.IMPOSSIBLE, "S3 is no voter")
    network.transfer(1, 2)
    network.settle(lambda message: not isinstance(message, TimeoutNow))
    assert network.core(1).transferee == 2, "the configuration that follows has S2"
    refused = network.core(1).propose_change([Demote(2)], network.now)
    assert isinstance(refused, Refused)
    assert refused.reason is Refusal.TRANSFERRING


def test_a_joint_configuration_is_not_left_while_leadership_is_handed_over() -> None:
    """Or its end would be one more entry, which the target lacks when it is told to take over."""
    network = led()
    change(network, 1, AddVoter(4), AddVoter(5))
    network.transfer(1, 3)
    exchange(network, 1, 4)
    network.settle(lambda message: message.dst == 3 and not isinstance(message, TimeoutNow))
    arrive(network, pick(network, AppendEntriesReply, 3, 1))
    core = network.core(1)
    assert core.commit_index == core.configuration_index, "S3's answer makes it committed"
    assert core.log.last_index == core.configuration_index
    network.settle()
    assert network.leader == 3
    heartbeat(network, 3)
    assert not network.core(3).configuration.is_joint, "whoever takes over ends it"


def test_a_joint_configuration_is_left_when_the_transfer_is_given_up() -> None:
    network = led()
    change(network, 1, AddVoter(4), AddVoter(5))
    network.transfer(1, 3)
    isolate(network, 3)
    network.settle()
    assert network.core(1).configuration.is_joint
    network.advance(network.core(1).config.election_timeout_max)
    heartbeat(network, 1)
    assert network.core(1).transferee is None
    assert not network.core(1).configuration.is_joint


def test_a_joint_configuration_is_left_by_nobody_who_has_committed_nothing_yet() -> None:
    """To leave it is a change as any other (§6); the transfer that was given up waited for it."""
    network = led()
    change(network, 1, AddVoter(4), AddVoter(5))
    network.transfer(1, 3)
    for _ in range(2):
        network.settle(lambda message: not isinstance(message, TimeoutNow))
        network.fire(1)
    arrive(network, pick(network, TimeoutNow, 1, 3))
    network.settle(lambda message: not isinstance(message, AppendEntries) or message.src == 1)
    core = network.core(3)
    assert core.role is Role.LEADER
    assert core.commit_index == core.configuration_index == core.log.last_index - 1
    isolate(network, 3)
    network.transfer(3, 2)
    network.advance(core.config.election_timeout_max)
    network.fire(3)
    assert core.transferee is None
    assert core.configuration.is_joint, "its first entry is not committed"


@pytest.mark.parametrize(
    ("to", "why"), [(1, "S1 leads already"), (4, "S4 is no voter"), (9, "S9 is no voter")]
)
def test_a_transfer_that_cannot_be(to: int, why: str) -> None:
    network = led()
    change(network, 1, AddLearner(4))
    network.settle()
    assert network.transfer(1, to) == Refused(Refusal.IMPOSSIBLE, why)


def test_a_transfer_without_a_target_does_not_go_to_a_server_that_is_down() -> None:
    network = led()
    network.crash(2)
    for _ in range(4):
        network.advance(0.050)
        network.settle()
    network.transfer(1, None)
    network.settle()
    assert network.leader == 3


def test_a_transfer_without_a_target_goes_to_the_one_that_has_most() -> None:
    network = led()
    isolate(network, 2)
    network.propose(1, b"x=1")
    network.settle()
    network.cut.clear()
    network.transfer(1, None)
    assert network.core(1).transferee == 3
    alone = Network(1)
    alone.fire(1)
    refused = alone.transfer(1, None)
    assert refused == Refused(Refusal.IMPOSSIBLE, "there is no other voter to lead")


def test_only_a_leader_hands_over() -> None:
    refused = led().transfer(2, 3)
    assert refused is not None
    assert refused.reason is Refusal.NOT_LEADER


def test_bug_30_a_request_to_take_over_from_one_who_does_not_lead() -> None:
    network = led()
    arrive(network, TimeoutNow(2, 3, 1))
    assert network.core(3).role is Role.FOLLOWER
    change(network, 1, AddLearner(4))
    network.settle()
    arrive(network, TimeoutNow(1, 4, 1))
    assert network.core(4).role is Role.FOLLOWER, "a learner leads nobody"


def test_bug_30_a_request_to_take_over_that_comes_in_a_later_term() -> None:
    network = led()
    network.transfer(1, 3)
    late = pick(network, TimeoutNow, 1, 3)
    network.in_flight.clear()
    elect(network, 2, 3)
    heartbeat(network, 2)
    arrive(network, late)
    assert network.core(3).role is Role.FOLLOWER


def test_bug_30_a_heartbeat_does_not_stop_the_target() -> None:
    network = led(pre_vote=True, check_quorum=True)
    network.transfer(1, 3)
    arrive(network, pick(network, TimeoutNow, 1, 3))
    network.fire(1)
    arrive(network, pick(network, AppendEntries, 1, 3))
    assert network.core(3).role is Role.CANDIDATE
    network.settle()
    assert network.leader == 3


# --- How an election is counted ------------------------------------------------------------------


def test_a_person_can_time_a_server_out() -> None:
    network = led()
    assert network.campaign(2)
    assert network.core(2).role is Role.CANDIDATE
    assert not network.campaign(1), "it leads already"


def test_waiting_anew_begins_when_the_time_is_known() -> None:
    config = Config(1, (1, 2, 3), check_quorum=True)
    core = Core(config, HardState(3), (), Random(1), 0.0)
    core.wait_anew(100.0)
    assert 100.0 + SHORTEST <= core.deadline <= 100.0 + LONGEST
    core.step(RequestVote(2, 1, 4, 0, 0), 100.0 + SHORTEST / 2)
    assert core.term == 3, "it may have heard a leader before it restarted"


@pytest.mark.parametrize(
    ("broadcast_time", "warning"),
    [
        (0.002, None),
        (0.0151, "too short"),
        (0.020, "at least ten times as much"),
        (0.5, "too short"),
    ],
)
def test_election_timeouts_that_are_too_short_for_the_network(
    broadcast_time: float, warning: str | None
) -> None:
    text = Config(1, (1, 2, 3)).timing_warning(broadcast_time)
    assert (text is None) if warning is None else (warning in (text or ""))


def test_election_timeouts_that_are_all_but_equal() -> None:
    config = Config(1, (1, 2, 3), election_timeout_min=0.299, election_timeout_max=0.300)
    assert "votes will often split" in (config.timing_warning(0.002) or "")


@pytest.mark.parametrize(
    ("heartbeat", "warned"), [(0.050, False), (0.049, False), (0.051, True), (0.140, True)]
)
def test_heartbeats_that_are_too_rare_for_the_election_timeouts(
    heartbeat: float, warned: bool
) -> None:
    text = Config(1, (1, 2, 3), heartbeat_interval=heartbeat).heartbeat_warning
    assert (text is not None) == warned
    assert not warned or "every 50 ms" in (text or "")


def test_acknowledgements_keep_a_leader_in_office_whatever_they_say() -> None:
    network = led(check_quorum=True)
    isolate(network, 3)
    for _ in range(20):
        network.fire(1)
        network.in_flight.clear()
        arrive(network, AppendEntriesReply(2, 1, 1, Appended(1)))
    assert network.core(1).role is Role.LEADER


# --- What watchers are told ----------------------------------------------------------------------


def told(network: Network, server: int, kind: type) -> list[object]:
    """What a server told of this kind since the last look."""
    return [h.what for h in network.take_trace() if h.server == server and isinstance(h.what, kind)]


def test_a_candidate_tells_of_every_answer() -> None:
    network = cluster(Rules(), [1], [1, 1], [])
    network.fire(1)
    network.settle()
    assert told(network, 1, VoteReceived) == [
        VoteReceived(2, 1, Granted()),
        VoteReceived(2, 2, LogBehind(2, 1)),
        VoteReceived(2, 3, Granted()),
    ]


def test_a_pre_candidate_tells_of_every_answer_to_its_question() -> None:
    network = cluster(Rules(), [1], [1, 1], [1, 1, 1], pre_vote=True)
    network.fire(1)
    network.settle()
    assert told(network, 1, PreVoteReceived) == [
        PreVoteReceived(2, 1, Granted()),
        PreVoteReceived(2, 2, LogBehind(2, 1)),
        PreVoteReceived(2, 3, LogBehind(3, 1)),
    ]
    arrive(network, RequestPreVoteReply(2, 1, 1, 7, Granted()))
    assert told(network, 1, MessageIgnored) == [
        MessageIgnored(2, "RequestPreVoteReply", "it is about term 7")
    ]


def test_a_timer_tells_when_it_fires() -> None:
    network = led()
    network.take_trace()
    network.fire(1)
    (armed,) = told(network, 1, TimerArmed)
    core = network.core(1)
    assert armed == TimerArmed(TimerKind.HEARTBEAT, core.deadline, core.timer_interval)
