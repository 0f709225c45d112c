"""Round trips that are too long for the election timeouts are noticed, once (§5.6)."""

from __future__ import annotations

import pytest

from raft.core.config import Config
from raft.core.events import Role, RoleChanged
from raft.core.membership import Configuration
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Granted,
    Index,
    RequestVote,
    RequestVoteReply,
    ServerId,
    StaleTerm,
    Term,
    VoteOutcome,
)
from raft.round_trips import ELECTIONS, REPLIES, REQUESTS, SAMPLES, RoundTrips
from raft.testing.network import Flight, Network

CONFIG = Config(ServerId(1), tuple(map(ServerId, (1, 2, 3))))
"""Its election timeouts begin at 150 ms."""
MEMBERS = Configuration(CONFIG.members)


def request(peer: int, round_: int, term: int = 1) -> AppendEntries:
    zero = Index(0)
    return AppendEntries(ServerId(1), ServerId(peer), Term(term), zero, Term(0), (), zero, round_)


def reply(peer: int, round_: int, term: int = 1) -> AppendEntriesReply:
    return AppendEntriesReply(ServerId(peer), ServerId(1), Term(term), Appended(Index(0)), round_)


def talk(
    trips: RoundTrips,
    peer: int,
    seconds: float,
    rounds: int = 100,
    term: int = 1,
    members: Configuration = MEMBERS,
) -> list[str]:
    warnings = []
    for round_ in range(1, rounds + 1):
        trips.sent(request(peer, round_, term), float(round_))
        warning = trips.answered(reply(peer, round_, term), members, round_ + seconds)
        warnings += [warning] if warning else []
    return warnings


def test_quick_answers_are_no_news() -> None:
    assert talk(RoundTrips(CONFIG), 2, 0.002, 100) == []


def test_slow_answers_are_told_of_once() -> None:
    trips = RoundTrips(CONFIG)
    [warning] = talk(trips, 2, 0.050, 100)
    assert warning.startswith("election timeouts from 150 ms are too short for a broadcast time")
    assert talk(trips, 3, 0.200, 100) == []


def test_the_majority_counts() -> None:
    """One that is far away makes no election fail as long as the two others are near."""
    trips = RoundTrips(CONFIG)
    assert talk(trips, 2, 0.001) == []
    assert talk(trips, 3, 0.050) == []
    five = RoundTrips(Config(ServerId(1), tuple(map(ServerId, range(1, 6)))))
    members = Configuration(tuple(map(ServerId, range(1, 6))))
    assert talk(five, 2, 0.001, members=members) == []
    assert "a broadcast time of 50 ms" in talk(five, 3, 0.050, members=members)[0]


def test_learners_and_those_who_were_removed_do_not_count() -> None:
    trips = RoundTrips(CONFIG)
    members = Configuration((ServerId(1), ServerId(2)), learners=(ServerId(3),))
    assert talk(trips, 3, 0.050, members=members) == []
    assert talk(trips, 4, 0.050, members=members) == []
    assert talk(trips, 2, 0.001, members=members) == []


def test_of_a_joint_configuration_both_majorities_count() -> None:
    trips = RoundTrips(CONFIG)
    one, two, three = CONFIG.members
    joint = Configuration((one, two), outgoing=(one, three))
    assert talk(trips, 2, 0.001, members=joint) == []
    assert len(talk(trips, 3, 0.050, members=joint)) == 1


def ask_in_vain(trips: RoundTrips, outcome: VoteOutcome, seconds: float) -> list[str]:
    """Ask S2 for its vote, term after term, until long after the last answer came."""
    warnings = []
    for term in range(1, 3 * SAMPLES):
        now = float(term)
        trips.sent(RequestVote(ServerId(1), ServerId(2), Term(term), Index(0), Term(0)), now)
        if (asked := term - int(seconds)) >= 1:
            answer = RequestVoteReply(ServerId(2), ServerId(1), Term(asked), outcome)
            warning = trips.answered(answer, MEMBERS, asked + seconds)
            warnings += [warning] if warning else []
    return warnings


def test_votes_that_come_when_their_election_is_over_count() -> None:
    [warning] = ask_in_vain(RoundTrips(CONFIG), Granted(), 2.5)
    assert "a broadcast time of 2500 ms" in warning


def test_a_refusal_that_may_be_of_another_term_than_it_was_asked_in_does_not_count() -> None:
    assert ask_in_vain(RoundTrips(CONFIG), StaleTerm(), 2.5) == []


def test_only_so_many_votes_are_waited_for() -> None:
    assert ask_in_vain(RoundTrips(CONFIG), Granted(), ELECTIONS + 0.5) == []


def far_apart(network: Network, one_way: float, seconds: float) -> dict[ServerId, list[str]]:
    """Let the servers do what they do, every message take its time, and each measure."""
    trips = {server: RoundTrips(core.config) for server, core in network.cores.items()}
    warnings: dict[ServerId, list[str]] = {server: [] for server in trips}
    due: dict[Flight, float] = {}
    while network.now < seconds:
        for flight in network.in_flight:
            if flight not in due:
                due[flight] = network.now + one_way
                if isinstance(flight.message, REQUESTS):
                    trips[flight.message.src].sent(flight.message, network.now)
        first = min(network.cores.values(), key=lambda core: core.deadline)
        flight = min(network.in_flight, key=lambda flight: due[flight], default=None)
        if flight is None or due[flight] > first.deadline:
            network.fire(first.config.server)
            continue
        network.now, message = due.pop(flight), flight.message
        network.deliver(flight)
        if isinstance(message, REPLIES):
            members = network.core(message.dst).configuration
            warning = trips[message.dst].answered(message, members, network.now)
            warnings[message.dst] += [warning] if warning else []
    return warnings


@pytest.mark.parametrize("careful", [False, True], ids=["plain", "pre-vote and check-quorum"])
def test_a_cluster_that_is_too_far_apart_to_have_a_leader_is_told_why(careful: bool) -> None:
    network = Network(3, pre_vote=careful, check_quorum=careful)
    warnings = far_apart(network, 0.200, 60.0)
    roles = {h.what.role for h in network.take_trace() if isinstance(h.what, RoleChanged)}
    assert Role.CANDIDATE in roles
    assert Role.LEADER not in roles
    for told in warnings.values():
        [warning] = told
        assert "a broadcast time of 400 ms" in warning
        assert "at least ten times as much (4000 ms)" in warning


def test_a_cluster_that_is_near_enough_is_told_nothing() -> None:
    assert not any(far_apart(Network(3), 0.004, 10.0).values())


def test_a_few_answers_prove_nothing() -> None:
    assert talk(RoundTrips(CONFIG), 2, 1.0, SAMPLES - 1) == []


def test_some_answers_are_always_late() -> None:
    """As the first ones are, which wait until the servers have found each other."""
    trips = RoundTrips(CONFIG)
    for term in range(1, 10):
        assert talk(trips, 2, 5.0, SAMPLES // 2 - 1, term=2 * term) == []
        assert talk(trips, 2, 0.002, SAMPLES // 2 + 1, term=2 * term + 1) == []


def test_the_answer_to_another_request_does_not_count() -> None:
    """After a silence the next answer says nothing about how long it took."""
    trips = RoundTrips(CONFIG)
    for round_ in range(1, 200, 2):
        trips.sent(request(2, round_), float(round_))
        assert trips.answered(reply(2, round_ - 1), MEMBERS, round_ + 0.9) is None, (
            "it is an older one's"
        )
        assert trips.answered(reply(2, round_ + 1), MEMBERS, round_ + 0.9) is None
    assert talk(trips, 2, 0.002, 100, term=2) == []


def test_another_term_counts_its_rounds_anew() -> None:
    trips = RoundTrips(CONFIG)
    trips.sent(request(2, 1000), 0.0)
    assert len(talk(trips, 2, 0.050, 100, term=2)) == 1


def test_an_answer_that_nobody_waits_for() -> None:
    assert RoundTrips(CONFIG).answered(reply(2, 1), MEMBERS, 1.0) is None
