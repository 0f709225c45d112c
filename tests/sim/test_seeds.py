"""Many seeds: nothing goes wrong that Raft promises does not.

``pytest -m slow tests/sim`` runs 20,000 of them for 60 simulated seconds each.
"""

import pytest

from raft.testing.sim.campaign import Order, run_seeds
from raft.testing.sim.report import command
from raft.testing.sim.scenario import LONG

BLOCK = 25


def check(order: Order, first: int, count: int) -> None:
    summary = run_seeds(order, range(first, first + count))
    for outcome in summary.failures:
        assert outcome.failure is not None
        raise AssertionError(f"{outcome.failure.text}\n{command(outcome, None)}")


@pytest.mark.parametrize("first", range(0, 1000, BLOCK))
def test_a_thousand_seeds(first: int) -> None:
    check(Order(), first, BLOCK)


@pytest.mark.parametrize("seed", [47, 190])
def test_long_seeds_with_a_lease_while_a_voter_joins_that_heard_nobody(seed: int) -> None:
    check(Order(seconds=LONG), seed, 1)


@pytest.mark.parametrize("seed", [64, 79, 277])
def test_seeds_with_a_transfer_while_a_joint_configuration_is_about_to_be_left(seed: int) -> None:
    """79: and with a server that was removed, whose requests for votes come late."""
    check(Order(kinds=("members", "transfer", "stall", "reorder", "slow-disk")), seed, 1)


@pytest.mark.parametrize("seed", [123, 456])
def test_seeds_in_which_a_heartbeat_ends_a_recovery(seed: int) -> None:
    """Nothing is left to store when the commit index rises."""
    damage = ("damage", "bad-sector", "truncate", "stale-sector", "misdirected")
    check(Order(kinds=(*damage, "crash", "power")), seed, 1)


@pytest.mark.parametrize("seed", [135, 450, 563])
def test_seeds_in_which_a_snapshot_covers_what_took_the_place_of_other_entries(seed: int) -> None:
    """All in one turn: what the disk has behind the snapshot must go (and once did not)."""
    check(Order(kinds=("backlog",)), seed, 1)


@pytest.mark.parametrize("seed", [13, 21, 25])
def test_long_seeds_with_very_many_faults_serve_their_clients_in_between(seed: int) -> None:
    outcome = Order(seconds=LONG).run(seed)
    assert outcome.failure is None, outcome.failure.text
    assert outcome.answered > 50


def test_a_vote_whose_sync_failed_may_be_found_on_a_disk_that_is_harmed_later() -> None:
    """That the server never knew it to be stored does not make it a thing that never was."""
    faults = (44, 67, 86, 101, 133)
    check(Order(seconds=LONG, keep=faults, until=21.917, operations=0), 3434, 1)


def test_nobody_is_damaged_without_whom_the_members_of_before_could_not_elect() -> None:
    """A configuration that is not committed yet may be lost, and the one before it count again."""
    faults = (35, 67, 119, 176, 179, 200, 284)
    check(Order(seconds=LONG, keep=faults, until=6.211, operations=5), 4577, 1)


def test_a_snapshot_whose_answers_come_twice_and_late_does_not_fill_the_network() -> None:
    """Each piece of it was answered, and each answer sent a piece, of which some came twice."""
    check(Order(seconds=LONG), 570, 1)


def test_a_server_that_was_stopped_may_install_two_snapshots_in_one_turn() -> None:
    """The second one's configuration was taken for that of the first."""
    faults = (157, 558, 218, 470, 190, 186, 120, 503, 420)
    more = (446, 108, 211, 113, 224, 403, 36, 591, 473)
    check(Order(seconds=LONG, keep=(*faults, *more), until=12.538), 4308, 1)


def test_a_transfer_may_be_given_up_in_the_turn_that_hands_over() -> None:
    """By a server that was stopped: its log had grown by when the message left."""
    faults = (498, 247, 599, 317, 534, 214, 282, 520, 408, 382, 499, 419)
    more = (236, 114, 356, 522, 370, 290, 466, 368, 463, 416, 101)
    check(Order(seconds=LONG, keep=(*faults, *more), until=10.711, operations=108), 12867, 1)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 20_000, BLOCK))
def test_twenty_thousand_long_seeds(first: int) -> None:
    check(Order(seconds=LONG), first, BLOCK)
