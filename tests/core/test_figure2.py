"""Figure 2 of the paper, sentence by sentence; the name of each test is the sentence.

S1 is the server under test. What the others say is made up, to give S1 reasons to act.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from raft.core.events import MessageIgnored, Role, TimerKind
from raft.core.log import HardState, InvariantViolation
from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    LogBehind,
    Message,
    Mismatch,
    RequestVote,
    RequestVoteReply,
    StaleTerm,
)
from raft.core.ready import Refusal, Refused
from raft.testing.network import Network, entries_of
from raft.testing.safety import Safety

HEARTBEAT = 0.050
SHORTEST, LONGEST = 0.150, 0.300


class Unchecked(Safety):
    """Servers that only seem to exist keep no promises."""

    def ignore(self, *_: object) -> None:
        pass

    started = happened = said = applied = restored = state = pre_voted = ignore
    read_asked = read_answered = ignore


def server(
    term: int = 0, voted_for: int | None = None, log: Iterable[int] = (), size: int = 3
) -> Network:
    """A cluster in which S1 starts with this persistent state."""
    network = Network(size, judge=Unchecked)
    network.install(1, HardState(term, voted_for), entries_of(log))
    return network


def candidate(term: int = 1, log: Iterable[int] = (), size: int = 3) -> Network:
    network = server(term - 1, None, log, size)
    network.fire(1)
    network.in_flight.clear()
    return network


def leader(term: int = 1, log: Iterable[int] = (), size: int = 3) -> Network:
    """S1 leads; its first messages are still in flight."""
    network = candidate(term, log, size)
    for voter in range(2, size // 2 + 2):
        hear(network, RequestVoteReply(voter, 1, term, Granted()))
    return network


def hear(network: Network, *messages: Message) -> list[Message]:
    """Let messages arrive at S1 and return what it says upon them."""
    before = len(network.in_flight)
    for message in messages:
        network.deliver(network.put(message))
    return [flight.message for flight in network.in_flight[before:]]


def append(
    term: int, prev_index: int, prev_term: int, terms: Iterable[int] = (), commit: int = 0
) -> AppendEntries:
    """An AppendEntries of S2 to S1."""
    return AppendEntries(2, 1, term, prev_index, prev_term, entries_of(terms), commit)


def terms(network: Network) -> list[int]:
    core = network.core(1)
    return [entry.term for entry in core.log.entries(1, core.log.last_index)]


def sent_to(network: Network, peer: int) -> list[Message]:
    return [flight.message for flight in network.in_flight if flight.message.dst == peer]


# --- State ---------------------------------------------------------------------------------------


def test_persistent_state_is_updated_on_stable_storage_before_responding_to_a_vote_request():
    network = server()
    network.slow.add(1)
    assert hear(network, RequestVote(2, 1, 1, 0, 0)) == []
    assert network.disks[1].hard_state == HardState(0, None)
    network.save(1)
    assert network.disks[1].hard_state == HardState(1, 2)
    assert sent_to(network, 2) == [RequestVoteReply(1, 2, 1, Granted())]


def test_persistent_state_is_updated_on_stable_storage_before_responding_to_append_entries():
    network = server()
    network.slow.add(1)
    assert hear(network, append(1, 0, 0, [1])) == []
    network.save(1)
    assert network.disks[1].entries == entries_of([1])
    assert network.disks[1].hard_state == HardState(1, None)
    assert sent_to(network, 2) == [AppendEntriesReply(1, 2, 1, Appended(1))]


def test_a_candidate_stores_term_and_vote_before_it_asks_for_votes():
    network = server(term=4)
    network.slow.add(1)
    network.fire(1)
    assert network.in_flight == []
    network.save(1)
    assert network.disks[1].hard_state == HardState(5, 1)
    assert [type(flight.message) for flight in network.in_flight] == [RequestVote, RequestVote]


def test_a_leader_sends_entries_while_its_own_disk_is_busy_but_does_not_count_itself():
    network = leader()  # thesis §10.2.1
    network.slow.add(1)
    network.in_flight.clear()
    network.propose(1, b"x=1")
    assert network.disks[1].entries == (Entry(1, EntryKind.NOOP),)
    hear(network, AppendEntriesReply(2, 1, 1, Appended(1)))
    assert [m.entries[-1].data for m in sent_to(network, 2)] == [b"x=1"]
    hear(network, AppendEntriesReply(2, 1, 1, Appended(2)))
    assert network.core(1).commit_index == 1
    network.save(1)
    assert network.core(1).commit_index == 2


def test_current_term_is_initialized_to_0_on_first_boot():
    assert server().core(1).term == 0


def test_current_term_increases_monotonically():
    network = server(term=3)
    hear(network, append(2, 0, 0), RequestVote(2, 1, 1, 0, 0))
    assert network.core(1).term == 3
    hear(network, append(5, 0, 0))
    assert network.core(1).term == 5


def test_voted_for_is_the_candidate_that_received_the_vote_in_the_current_term_or_null_if_none():
    network = server(term=3, voted_for=2)
    assert network.core(1).voted_for == 2
    hear(network, append(4, 0, 0))
    assert network.core(1).voted_for is None
    hear(network, RequestVote(3, 1, 4, 0, 0))
    assert network.core(1).voted_for == 3


def test_persistent_state_survives_a_crash_and_volatile_state_begins_anew():
    network = server(term=3, voted_for=2, log=[1, 3])
    hear(network, append(3, 2, 3, [3], commit=3))
    assert network.core(1).last_applied == 3
    network.crash(1)
    network.restart(1)
    core = network.core(1)
    assert (core.term, core.voted_for, terms(network)) == (3, 2, [1, 3, 3])
    assert (core.commit_index, core.last_applied, core.role) == (0, 0, Role.FOLLOWER)


def test_the_first_index_of_the_log_is_1():
    network = leader()
    assert network.core(1).log.entry(1) == Entry(1, EntryKind.NOOP)
    with pytest.raises(IndexError, match="no entry at index 0"):
        network.core(1).log.entry(0)


def test_commit_index_and_last_applied_are_initialized_to_0():
    core = server(term=3, log=[1, 2, 3]).core(1)
    assert (core.commit_index, core.last_applied) == (0, 0)


def test_commit_index_and_last_applied_increase_monotonically():
    network = server(log=[1, 1])
    hear(network, append(1, 2, 1, commit=2), append(1, 2, 1, commit=1), append(1, 1, 1, commit=2))
    assert (network.core(1).commit_index, network.core(1).last_applied) == (2, 2)


def test_next_index_is_initialized_to_leader_last_log_index_plus_1():
    network = leader(term=4, log=[1, 1, 3])
    assert {p.next_index for p in network.core(1).progress.values()} == {4}


def test_match_index_is_initialized_to_0():
    network = leader(term=4, log=[1, 1, 3])
    assert {p.match_index for p in network.core(1).progress.values()} == {0}


def test_next_index_and_match_index_are_reinitialized_after_election():
    network = leader()
    hear(network, AppendEntriesReply(2, 1, 1, Appended(1)))
    assert network.core(1).progress[2].match_index == 1
    hear(network, append(2, 1, 1, [2]))
    network.fire(1)
    hear(network, RequestVoteReply(3, 1, 3, Granted()))
    assert network.core(1).role is Role.LEADER
    assert {(p.next_index, p.match_index) for p in network.core(1).progress.values()} == {(3, 0)}


# --- AppendEntries -------------------------------------------------------------------------------


def test_append_entries_1_reply_false_if_term_is_less_than_current_term():
    network = server(term=3, log=[1])
    assert hear(network, append(2, 1, 1, [2])) == [AppendEntriesReply(1, 2, 3, StaleTerm())]
    assert terms(network) == [1]


def test_append_entries_2_reply_false_if_log_contains_no_entry_at_prev_log_index():
    network = server(term=3, log=[1, 1])
    reply = AppendEntriesReply(1, 2, 3, Mismatch(5, 0, 3))
    assert hear(network, append(3, 5, 2, [3])) == [reply]
    assert terms(network) == [1, 1]


def test_append_entries_2_reply_false_if_the_term_at_prev_log_index_does_not_match():
    network = server(term=3, log=[1, 2, 2])
    reply = AppendEntriesReply(1, 2, 3, Mismatch(3, 2, 2))
    assert hear(network, append(3, 3, 3, [3])) == [reply]
    assert terms(network) == [1, 2, 2]


def test_append_entries_3_delete_a_conflicting_entry_and_all_that_follow_it():
    network = server(term=3, log=[1, 2, 2, 2, 2])
    hear(network, append(3, 1, 1, [2, 3]))
    assert terms(network) == [1, 2, 3]


def test_append_entries_3_keep_what_follows_when_nothing_conflicts():
    network = server(term=3, log=[1, 2, 2, 2])
    hear(network, append(3, 1, 1, [2]), append(3, 0, 0, [1]), append(3, 1, 1))
    assert terms(network) == [1, 2, 2, 2]


def test_append_entries_4_append_any_new_entries_not_already_in_the_log():
    network = server(term=3, log=[1, 2])
    assert hear(network, append(3, 1, 1, [2, 3, 3])) == [AppendEntriesReply(1, 2, 3, Appended(4))]
    assert terms(network) == [1, 2, 3, 3]


def test_append_entries_5_set_commit_index_to_leader_commit():
    network = server(term=3, log=[1, 2, 2])
    hear(network, append(3, 3, 2, commit=2))
    assert network.core(1).commit_index == 2


def test_append_entries_5_but_not_beyond_the_index_of_the_last_new_entry():
    network = server(term=3, log=[1, 2, 2])
    hear(network, append(3, 0, 0, [1], commit=3))
    assert network.core(1).commit_index == 1


def test_append_entries_success_says_how_far_the_logs_are_known_to_match():
    network = server(term=3, log=[1, 2, 2])
    assert hear(network, append(3, 1, 1)) == [AppendEntriesReply(1, 2, 3, Appended(1))]


def test_append_entries_carries_term_for_the_leader_to_update_itself():
    network = leader(term=2)
    hear(network, AppendEntriesReply(2, 1, 7, StaleTerm()))
    assert (network.core(1).term, network.core(1).role) == (7, Role.FOLLOWER)
    assert network.disks[1].hard_state == HardState(7, None)


def test_append_entries_lets_followers_know_their_leader():
    network = server()
    hear(network, append(1, 0, 0))
    assert network.core(1).leader == 2


def test_append_entries_may_send_more_than_one_entry_for_efficiency():
    network = leader()
    network.in_flight.clear()
    for _ in range(3):
        network.propose(1, b"x=1")
    hear(network, AppendEntriesReply(2, 1, 1, Appended(1)))
    assert [len(message.entries) for message in sent_to(network, 2)] == [3]


# --- RequestVote ---------------------------------------------------------------------------------


def test_request_vote_1_reply_false_if_term_is_less_than_current_term():
    network = server(term=3)
    reply = RequestVoteReply(1, 2, 3, StaleTerm())
    assert hear(network, RequestVote(2, 1, 2, 9, 2)) == [reply]


def test_request_vote_2_grant_if_voted_for_is_null():
    network = server(term=3)
    assert hear(network, RequestVote(2, 1, 3, 0, 0)) == [RequestVoteReply(1, 2, 3, Granted())]


def test_request_vote_2_grant_if_voted_for_is_the_candidate():
    network = server(term=3, voted_for=2)
    assert hear(network, RequestVote(2, 1, 3, 0, 0)) == [RequestVoteReply(1, 2, 3, Granted())]


def test_request_vote_2_refuse_if_voted_for_is_another():
    network = server(term=3, voted_for=2)
    reply = RequestVoteReply(1, 3, 3, AlreadyVoted(2))
    assert hear(network, RequestVote(3, 1, 3, 9, 3)) == [reply]


def test_request_vote_2_refuse_if_the_candidates_log_is_less_up_to_date():
    network = server(term=3, log=[1, 2])
    reply = RequestVoteReply(1, 2, 3, LogBehind(2, 2))
    assert hear(network, RequestVote(2, 1, 3, 9, 1)) == [reply]
    assert network.core(1).voted_for is None


def test_request_vote_carries_the_candidates_last_log_index_and_term():
    network = server(term=3, log=[1, 2, 2])
    network.fire(1)
    assert sent_to(network, 2) == [RequestVote(1, 2, 4, 3, 2)]


def test_request_vote_carries_term_for_the_candidate_to_update_itself():
    network = candidate(term=2)
    hear(network, RequestVoteReply(2, 1, 5, StaleTerm()))
    assert (network.core(1).term, network.core(1).role) == (5, Role.FOLLOWER)


# --- Rules for servers: all ----------------------------------------------------------------------


def test_all_servers_apply_committed_entries_in_the_order_of_the_log():
    network = server()
    hear(network, append(1, 0, 0, [1, 1, 1], commit=2))
    assert network.core(1).last_applied == 2
    hear(network, append(1, 3, 1, commit=3))
    assert network.core(1).last_applied == 3


@pytest.mark.parametrize("role", [server, candidate, leader])
@pytest.mark.parametrize(
    "message",
    [
        RequestVote(2, 1, 9, 0, 0),
        RequestVoteReply(2, 1, 9, StaleTerm()),
        append(9, 0, 0),
        AppendEntriesReply(2, 1, 9, StaleTerm()),
    ],
    ids=lambda message: type(message).__name__,
)
def test_all_servers_convert_to_follower_when_request_or_response_has_a_higher_term(role, message):
    network = role()
    hear(network, message)
    assert (network.core(1).term, network.core(1).role) == (9, Role.FOLLOWER)


def test_all_servers_are_followers_when_they_start():
    assert server(term=3, voted_for=1).core(1).role is Role.FOLLOWER


# --- Rules for servers: followers ----------------------------------------------------------------


def test_followers_respond_to_candidates_and_leaders():
    assert len(hear(server(), RequestVote(2, 1, 1, 0, 0))) == 1
    assert len(hear(server(), append(1, 0, 0))) == 1


def test_followers_become_candidates_if_the_election_timeout_elapses():
    network = server(term=1)
    network.advance(LONGEST)
    assert (network.core(1).role, network.core(1).term) == (Role.CANDIDATE, 2)


def test_followers_stay_followers_while_they_receive_append_entries_from_the_current_leader():
    network = server(term=1)
    for _ in range(20):
        network.advance(SHORTEST / 2)
        hear(network, append(1, 0, 0))
    assert (network.core(1).role, network.core(1).term) == (Role.FOLLOWER, 1)


def test_followers_wait_anew_after_granting_their_vote():
    network = server(term=1)
    network.advance(SHORTEST / 2)
    hear(network, RequestVote(2, 1, 1, 0, 0))
    assert network.core(1).deadline >= network.now + SHORTEST


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(3, 1, 2, 9, 9),  # refused: the vote is S2's
        RequestVote(3, 1, 1, 9, 1),  # refused: an older term
        AppendEntries(3, 1, 1, 0, 0, (), 0),  # not the current leader
    ],
    ids=["vote-refused", "stale-vote", "stale-append"],
)
def test_followers_do_not_wait_anew_for_anything_else(message):
    network = server(term=2, voted_for=2)
    deadline = network.core(1).deadline
    network.advance(SHORTEST / 2)
    hear(network, message)
    assert network.core(1).deadline == deadline


# --- Rules for servers: candidates ---------------------------------------------------------------


def test_candidates_on_conversion_start_an_election():
    network = server(term=4, log=[1], size=5)
    network.fire(1)
    core = network.core(1)
    assert (core.term, core.voted_for, core.votes) == (5, 1, {1})
    assert core.deadline >= network.now + SHORTEST
    assert [flight.message for flight in network.in_flight] == [
        RequestVote(1, peer, 5, 1, 1) for peer in (2, 3, 4, 5)
    ]


def test_candidates_become_leader_with_votes_from_a_majority_of_servers():
    network = candidate(size=5)
    hear(network, RequestVoteReply(2, 1, 1, Granted()))
    assert network.core(1).role is Role.CANDIDATE
    hear(network, RequestVoteReply(2, 1, 1, Granted()))
    assert network.core(1).role is Role.CANDIDATE, (
        "one server has one vote, however often it says so"
    )
    hear(network, RequestVoteReply(4, 1, 1, Granted()))
    assert network.core(1).role is Role.LEADER


def test_candidates_do_not_count_refusals():
    network = candidate()
    hear(network, RequestVoteReply(2, 1, 1, AlreadyVoted(3)))
    hear(network, RequestVoteReply(3, 1, 1, LogBehind(1, 1)))
    assert network.core(1).role is Role.CANDIDATE


def test_candidates_convert_to_follower_if_append_entries_is_received_from_a_new_leader():
    network = candidate(term=3)
    hear(network, append(3, 0, 0))
    core = network.core(1)
    assert (core.role, core.term, core.leader, core.voted_for) == (Role.FOLLOWER, 3, 2, 1)
    assert core.votes == set()


def test_candidates_refuse_an_older_leader_and_continue():
    network = candidate(term=3)
    assert hear(network, append(2, 0, 0)) == [AppendEntriesReply(1, 2, 3, StaleTerm())]
    assert network.core(1).role is Role.CANDIDATE


def test_candidates_start_a_new_election_if_the_election_timeout_elapses():
    network = candidate(term=3)
    network.fire(1)
    assert (network.core(1).term, network.core(1).role) == (4, Role.CANDIDATE)
    assert network.core(1).votes == {1}


def test_a_server_alone_is_its_own_majority():
    network = server(size=1)
    network.fire(1)
    network.propose(1, b"x=1")
    core = network.core(1)
    assert (core.role, core.commit_index, core.last_applied) == (Role.LEADER, 2, 2)


# --- Rules for servers: leaders ------------------------------------------------------------------


def test_leaders_upon_election_send_append_entries_to_each_server():
    network = leader(size=5)
    assert [(m.dst, m.prev_log_index) for m in (f.message for f in network.in_flight)] == [
        (peer, 0) for peer in (2, 3, 4, 5)
    ]


def test_leaders_send_their_first_heartbeat_one_interval_after_that():
    network = leader()
    assert network.core(1).timer_kind is TimerKind.HEARTBEAT
    assert network.core(1).deadline == pytest.approx(network.now + HEARTBEAT)


def test_leaders_repeat_heartbeats_during_idle_periods_to_prevent_election_timeouts():
    network = leader()
    hear(network, *(AppendEntriesReply(peer, 1, 1, Appended(1)) for peer in (2, 3)))
    network.in_flight.clear()
    network.fire(1)
    assert network.core(1).deadline == pytest.approx(network.now + HEARTBEAT)
    assert [f.message for f in network.in_flight] == [
        AppendEntries(1, peer, 1, 1, 1, (), 1, round=2) for peer in (2, 3)
    ]


def test_leaders_that_step_down_wait_for_a_whole_election_timeout():
    network = leader()
    hear(network, append(2, 0, 0))
    assert network.core(1).timer_kind is TimerKind.ELECTION
    assert network.core(1).deadline >= network.now + SHORTEST
    network = leader()
    hear(network, AppendEntriesReply(2, 1, 2, StaleTerm()))
    assert network.core(1).timer_kind is TimerKind.ELECTION
    assert network.core(1).deadline >= network.now + SHORTEST


def test_leaders_append_a_command_to_their_log_and_respond_when_it_is_applied():
    network = leader()
    assert network.propose(1, b"x=1") == 2
    assert network.core(1).log.entry(2) == Entry(1, EntryKind.COMMAND, b"x=1")
    assert network.core(1).last_applied == 0
    hear(network, AppendEntriesReply(2, 1, 1, Appended(2)))
    assert network.core(1).last_applied == 2


@pytest.mark.parametrize("role", [server, candidate])
def test_only_leaders_take_commands(role):
    network = role()
    assert network.propose(1, b"x=1") == Refused(Refusal.NOT_LEADER, "this server does not lead")
    assert terms(network) == []


def test_leaders_send_entries_from_next_index_on():
    network = leader(term=4, log=[1, 1, 3])
    network.in_flight.clear()
    hear(network, AppendEntriesReply(2, 1, 4, Mismatch(3, 0, 2)))
    (message,) = sent_to(network, 2)
    assert (message.prev_log_index, message.prev_log_term) == (1, 1)
    assert [entry.term for entry in message.entries] == [1, 3, 4]


def test_leaders_if_successful_update_next_index_and_match_index():
    network = leader(term=4, log=[1, 1, 3])
    hear(network, AppendEntriesReply(2, 1, 4, Appended(4)))
    progress = network.core(1).progress[2]
    assert (progress.next_index, progress.match_index) == (5, 4)


def test_leaders_if_append_entries_fails_decrement_next_index_and_retry():
    network = leader(term=4, log=[1, 1, 3])
    network.in_flight.clear()
    hear(network, AppendEntriesReply(2, 1, 4, Mismatch(3, 2, 3)))
    assert network.core(1).progress[2].next_index == 3
    assert [message.prev_log_index for message in sent_to(network, 2)] == [2]


def test_leaders_never_overwrite_or_delete_entries_in_their_own_log():
    network = leader(term=4, log=[1, 1, 3])
    hear(network, append(3, 1, 1, [2]), AppendEntriesReply(2, 1, 4, Mismatch(3, 2, 2)))
    assert terms(network) == [1, 1, 3, 4]


def test_leaders_commit_n_if_a_majority_of_match_index_has_reached_it():
    network = leader(size=5)
    hear(network, AppendEntriesReply(2, 1, 1, Appended(1)))
    assert network.core(1).commit_index == 0
    hear(network, AppendEntriesReply(5, 1, 1, Appended(1)))
    assert network.core(1).commit_index == 1


def test_leaders_commit_n_only_if_its_term_is_the_current_term():
    network = leader(term=4, log=[1, 3])
    hear(network, AppendEntriesReply(2, 1, 4, Appended(2)))
    assert network.core(1).commit_index == 0
    hear(network, AppendEntriesReply(2, 1, 4, Appended(3)))
    assert network.core(1).commit_index == 3


def test_leaders_include_commit_index_in_later_append_entries():
    network = leader()
    hear(network, AppendEntriesReply(2, 1, 1, Appended(1)))
    network.in_flight.clear()
    network.fire(1)
    assert {flight.message.leader_commit for flight in network.in_flight} == {1}


# --- Where the text of §5 and §8 adds to the figure ---------------------------------------------


def test_election_timeouts_are_chosen_randomly_from_a_fixed_interval():
    network = server()
    drawn = []
    for _ in range(100):
        network.fire(1)
        drawn.append(network.core(1).timer_interval)
    assert all(SHORTEST <= timeout <= LONGEST for timeout in drawn)
    assert max(drawn) - min(drawn) > (LONGEST - SHORTEST) / 2


def test_a_follower_that_crashed_is_retried_until_it_has_all_entries():
    network = Network(3)
    network.fire(1)
    network.settle()
    network.crash(3)
    network.propose(1, b"x=1")
    for _ in range(5):
        network.fire(1)
        network.settle()
    network.restart(3)
    network.fire(1)
    network.settle()
    assert network.core(3).log.entries(1, 9) == network.core(1).log.entries(1, 9)


def test_a_repeated_request_changes_nothing_and_is_answered_again():
    network = server(term=1)
    request = append(1, 0, 0, [1, 1], commit=1)
    first, second = hear(network, request, request)
    assert first == second == AppendEntriesReply(1, 2, 1, Appended(2))
    assert terms(network) == [1, 1]


def test_a_request_that_no_leader_could_send_is_ignored():
    network = server(term=3, log=[1, 2])
    impossible = [
        append(3, 0, 0, [2, 1]),  # terms fall
        append(3, 2, 2, [4]),  # an entry from a later term
        append(3, 0, 2),  # a term before the first entry
    ]
    network.take_trace()
    assert hear(network, *impossible) == []
    ignored = [h.what for h in network.take_trace() if isinstance(h.what, MessageIgnored)]
    assert [event.reason for event in ignored] == [
        "terms fall from 2 to 1 at index 2",
        "an entry of term 4 is newer than its leader's term 3",
        "entry 0 cannot have term 2",
    ]
    assert terms(network) == [1, 2]


def test_a_message_that_is_not_from_another_server_to_this_one_is_ignored():
    network = server()
    network.core(1).step(RequestVote(2, 3, 5, 0, 0), network.now)
    network.core(1).step(RequestVote(1, 1, 5, 0, 0), network.now)
    assert network.core(1).term == 0


def test_a_server_processes_requests_of_servers_outside_of_its_configuration():
    network = server()  # thesis §4.1: a new server, or a voter, may have to hear from strangers
    hear(network, RequestVote(9, 1, 5, 0, 0))
    assert (network.core(1).term, network.core(1).voted_for) == (5, 9)
    hear(network, AppendEntries(9, 1, 5, 0, 0, entries_of([5]), 1))
    assert (network.core(1).leader, network.core(1).commit_index) == (9, 1)


def test_an_acknowledgement_of_what_the_leader_has_not_got_stops_it():
    network = leader()
    with pytest.raises(InvariantViolation, match="S2 acknowledges index 2 of a log of 1"):
        hear(network, AppendEntriesReply(2, 1, 1, Appended(2)))


def test_a_leader_commits_a_no_op_at_the_start_of_its_term():
    network = leader(term=4, log=[1, 3])
    assert network.core(1).log.entry(3) == Entry(4, EntryKind.NOOP)


def test_a_read_waits_for_the_no_op_and_for_a_majority_that_still_follows():
    network = leader(term=4, log=[1, 3])
    assert network.read(1) == 1
    network.take_trace()
    hear(network, AppendEntriesReply(2, 1, 4, Appended(3), round=1))
    assert not answered(network)
    hear(network, AppendEntriesReply(2, 1, 4, Appended(3), round=1))
    assert not answered(network), "an answer to an older round says nothing about now"
    hear(network, AppendEntriesReply(2, 1, 4, Appended(3), round=2))
    assert answered(network) == [(1, 3)]


def test_a_late_answer_to_an_older_round_does_not_undo_the_answer_to_a_newer_one():
    network = leader(term=4, size=5)
    for peer in (2, 3):
        hear(network, AppendEntriesReply(peer, 1, 4, Appended(1), round=1))
    network.read(1)
    network.take_trace()
    hear(network, AppendEntriesReply(2, 1, 4, Appended(1), round=2))
    hear(network, AppendEntriesReply(2, 1, 4, Appended(1), round=1))
    assert not answered(network)
    hear(network, AppendEntriesReply(3, 1, 4, Appended(1), round=2))
    assert answered(network) == [(1, 1)]


def test_a_read_is_never_answered_once_its_leader_has_stepped_down():
    network = leader(term=4)
    hear(network, AppendEntriesReply(2, 1, 4, Appended(1), round=1))
    network.read(1)
    hear(network, append(5, 1, 4))
    network.fire(1)
    hear(network, RequestVoteReply(2, 1, 6, Granted()))
    network.fire(1)
    network.fire(1)
    network.take_trace()
    hear(network, AppendEntriesReply(2, 1, 6, Appended(2), round=3))
    assert network.core(1).commit_index == 2
    assert not answered(network)


def test_only_leaders_take_reads():
    assert server().read(1) is None


def answered(network: Network) -> list[tuple[int, int]]:
    """The reads that S1 may answer since the last look, with the index that they must see."""
    return [
        (happening.what.context, happening.what.index)
        for happening in network.take_trace()
        if hasattr(happening.what, "context")
    ]
