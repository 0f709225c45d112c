"""Round trips that are too long for the election timeouts are noticed, once (§5.6)."""

from __future__ import annotations

from raft.core.config import Config
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Index,
    ServerId,
    Term,
)
from raft.round_trips import SAMPLES, RoundTrips

CONFIG = Config(ServerId(1), tuple(map(ServerId, (1, 2, 3))))
"""Its election timeouts begin at 150 ms."""


def request(peer: int, round_: int, term: int = 1) -> AppendEntries:
    zero = Index(0)
    return AppendEntries(ServerId(1), ServerId(peer), Term(term), zero, Term(0), (), zero, round_)


def reply(peer: int, round_: int, term: int = 1) -> AppendEntriesReply:
    return AppendEntriesReply(ServerId(peer), ServerId(1), Term(term), Appended(Index(0)), round_)


def talk(trips: RoundTrips, peer: int, seconds: float, rounds: int, term: int = 1) -> list[str]:
    warnings = []
    for round_ in range(1, rounds + 1):
        trips.sent(request(peer, round_, term), float(round_))
        warning = trips.answered(reply(peer, round_, term), round_ + seconds)
        warnings += [warning] if warning else []
    return warnings


def test_quick_answers_are_no_news() -> None:
    assert talk(RoundTrips(CONFIG), 2, 0.002, 100) == []


def test_slow_answers_are_told_of_once() -> None:
    trips = RoundTrips(CONFIG)
    [warning] = talk(trips, 2, 0.050, 100)
    assert warning.startswith("election timeouts from 150 ms are too short for a broadcast time")
    assert talk(trips, 3, 0.200, 100) == []


def test_the_slowest_follower_counts() -> None:
    trips = RoundTrips(CONFIG)
    assert talk(trips, 2, 0.001, 100) == []
    assert len(talk(trips, 3, 0.050, 100)) == 1


def test_a_few_answers_prove_nothing() -> None:
    assert talk(RoundTrips(CONFIG), 2, 1.0, SAMPLES - 1) == []


def test_the_answer_to_another_request_does_not_count() -> None:
    """After a silence the next answer says nothing about how long it took."""
    trips = RoundTrips(CONFIG)
    for round_ in range(1, 200, 2):
        trips.sent(request(2, round_), float(round_))
        assert trips.answered(reply(2, round_ - 1), round_ + 0.9) is None, "it is an older one's"
        assert trips.answered(reply(2, round_ + 1), round_ + 0.9) is None
    assert talk(trips, 2, 0.002, 100, term=2) == []


def test_another_term_counts_its_rounds_anew() -> None:
    trips = RoundTrips(CONFIG)
    trips.sent(request(2, 1000), 0.0)
    assert len(talk(trips, 2, 0.050, 100, term=2)) == 1


def test_an_answer_that_nobody_waits_for() -> None:
    assert RoundTrips(CONFIG).answered(reply(2, 1), 1.0) is None
