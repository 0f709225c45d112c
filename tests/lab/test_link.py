"""What a link's rules make of messages: when each arrives, and which never."""

import statistics

import pytest

from raftviz.lab.link import REORDER_SECONDS, Link
from raftviz.model.events import DropReason
from raftviz.model.link_rules import Distribution, LinkRules

DELAY = 0.010


def link(seed="1", **rules):
    made = Link(LinkRules(delay=DELAY), seed)
    made.change(**rules)
    return made


def taken(made, count=1000, kind="AppendEntries"):
    """The time that each of so many messages takes, each sent long after the other."""
    fates = [made.arrivals(kind, 100, 100.0 * number) for number in range(count)]
    return [fate[0] - 100.0 * number for number, fate in enumerate(fates)]


def test_without_a_rule_a_message_takes_the_links_delay():
    assert link().arrivals("AppendEntries", 100, 5.0) == [5.0 + DELAY]


def test_messages_stay_in_order_whatever_the_jitter():
    made = link(delay=0.1, jitter=0.1)
    due = [made.arrivals("AppendEntries", 100, number / 1000)[0] for number in range(200)]
    assert due == sorted(due)
    assert len(set(due)) > 10


@pytest.mark.parametrize(
    ("distribution", "mean", "spread"),
    [
        (Distribution.UNIFORM, 0.5, 0.1 / 3**0.5),
        (Distribution.NORMAL, 0.5, 0.1),
        (Distribution.EXPONENTIAL, 0.6, 0.1),
    ],
)
def test_jitter_spreads_the_delay_as_its_distribution_says(distribution, mean, spread):
    times = taken(link(delay=0.5, jitter=0.1, distribution=distribution), 4000)
    assert statistics.mean(times) == pytest.approx(mean, rel=0.02)
    assert statistics.stdev(times) == pytest.approx(spread, rel=0.1)
    if distribution is Distribution.UNIFORM:
        assert 0.4 <= min(times) < max(times) <= 0.6
    if distribution is Distribution.EXPONENTIAL:
        assert min(times) >= 0.5


def test_nothing_arrives_before_it_was_sent():
    times = taken(link(delay=0.0, jitter=0.1, distribution=Distribution.NORMAL))
    assert min(times) >= 0.0


def test_a_share_of_the_messages_is_lost():
    made = link(loss=0.3)
    fates = [made.arrivals("AppendEntries", 100, number) for number in range(2000)]
    lost = fates.count(DropReason.LOSS)
    assert 500 < lost < 700
    assert all(
        fate == [number + DELAY] for number, fate in enumerate(fates) if fate is not DropReason.LOSS
    )


def test_a_share_arrives_twice_and_the_copy_not_before_the_original():
    made = link(duplication=0.3, jitter=0.005)
    fates = [made.arrivals("AppendEntries", 100, number) for number in range(2000)]
    double = [fate for fate in fates if len(fate) == 2]
    assert 500 < len(double) < 700
    assert all(first <= second for first, second in double)


def test_a_share_may_be_overtaken():
    made = link(reordering=0.3)
    due = [made.arrivals("AppendEntries", 100, number / 100)[0] for number in range(2000)]
    late = [number for number, at in enumerate(due) if at > number / 100 + DELAY + 1e-9]
    assert 500 < len(late) < 700
    assert all(due[n] <= n / 100 + DELAY + REORDER_SECONDS for n in late)
    assert due != sorted(due)


def test_bandwidth_is_shared_by_what_is_sent_together():
    made = link(bandwidth=1000)
    assert made.arrivals("AppendEntries", 500, 1.0) == [pytest.approx(1.5 + DELAY)]
    assert made.arrivals("AppendEntries", 500, 1.0) == [pytest.approx(2.0 + DELAY)]
    assert made.arrivals("AppendEntries", 500, 9.0) == [pytest.approx(9.5 + DELAY)]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [("cut", DropReason.LINK_CUT), ("reset", DropReason.LINK_RESET)],
)
def test_what_lets_nothing_through_says_why(rule, reason):
    assert link(**{rule: True}).arrivals("AppendEntries", 100, 1.0) is reason


def test_a_rule_for_a_kind_leaves_the_others_alone():
    made = link()
    assert made.change("AppendEntries", delay=1.0)
    assert made.arrivals("AppendEntries", 100, 1.0) == [2.0]
    assert made.arrivals("RequestVote", 100, 1.5) == [1.5 + DELAY], "and does not hold them up"


def test_what_is_said_of_all_messages_holds_for_kinds_with_rules_of_their_own():
    made = link()
    made.change("AppendEntries", loss=0.5)
    assert made.change(delay=0.2)
    assert made.of("AppendEntries") == LinkRules(delay=0.2, loss=0.5)
    assert made.change(loss=0.5)
    assert made.by_kind == {}, "it is no exception any more"


def test_a_change_that_changes_nothing_is_none():
    made = link(loss=0.5)
    assert not made.change(loss=0.5)
    assert not made.change("AppendEntries", loss=0.5)
    assert made.heal()
    assert not made.heal()


def test_a_kind_alone_can_be_healed():
    made = link()
    made.change("AppendEntries", cut=True)
    made.change("RequestVote", cut=True)
    assert made.heal("AppendEntries")
    assert list(made.by_kind) == ["RequestVote"]
    made.change(cut=True)
    assert made.heal("AppendEntries")
    assert made.of("AppendEntries") == made.normal
    assert made.of("RequestVote").cut


def test_the_same_seed_makes_the_same_of_the_same_messages():
    rules = {"loss": 0.2, "jitter": 0.01, "duplication": 0.2, "reordering": 0.2}

    def course(seed):
        made = link(seed, **rules)
        return [made.arrivals("AppendEntries", 100, number) for number in range(100)]

    assert course("7 1->2") == course("7 1->2")
    assert course("7 1->2") != course("7 2->1")
