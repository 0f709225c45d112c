"""Every kind of fault does what it says, and a cluster survives it."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from raft.core.log import HardState
from raft.core.messages import AppendEntries, Entry, EntryKind, Index, Message, ServerId, Term
from raft.storage.base import StorageError
from raft.testing.disk import SimulatedDisk
from raft.testing.sim.campaign import Order
from raft.testing.sim.chance import Chance
from raft.testing.sim.clock import LocalClock
from raft.testing.sim.disks import WalDisk
from raft.testing.sim.faults import CALM, KINDS, Fault, plan
from raft.testing.sim.network import MOST_QUEUED, Network
from raft.testing.sim.run import planned, run
from raft.testing.sim.scenario import LONG, SHORT, scenario
from raft.testing.sim.world import World

S1, S2 = ServerId(1), ServerId(2)
PLAIN = replace(scenario(1), codec=False, jitter=0.0)

SHOWN_BY = {
    "corrupt": ("corrupted, refused by the decoder", "corrupted, refused by the connection"),
    "reset": ("reset", "lost with the connection"),
    "bandwidth": ("passed a narrow link",),
    "slow-node": ("slow server: work waits",),
    "power-again": ("did not start",),
    "bad-start": ("did not start",),
    "power": ("power lost in the middle of a save",),
    "bad-write": ("stopped by its disk",),
    "damage": ("recovery begun", "recovery over"),
    "bad-sector": ("recovery begun", "older state found on a harmed disk"),
    "stale-sector": ("recovery begun",),
    "misdirected": ("recovery begun",),
    "truncate": ("recovery begun",),
    "replace": ("server replaced",),
    "backlog": ("worked off at once",),
}
"""What is only seen where faults of this kind happen."""


def run_with(kind: str, seeds: Iterable[int], durable: bool = False) -> Counter[str]:
    states: Counter[str] = Counter()
    for seed in seeds:
        made = scenario(seed)
        outcome = run(planned(replace(made, durable=durable or made.durable), (kind,)))
        assert outcome.failure is None, outcome.failure
        states += outcome.states
        states[kind] += outcome.faults[kind]
    return states


@pytest.mark.parametrize("kind", SHOWN_BY)
def test_the_fault_does_something(kind: str) -> None:
    states: Counter[str] = Counter()
    missing = {kind, *SHOWN_BY[kind]}
    for seed in range(300):
        if missing:
            states += run_with(kind, [seed], durable=True)
            missing -= set(states)
    assert not missing, states


def test_no_other_kind_does_that() -> None:
    states: Counter[str] = Counter()
    for seed in range(15):
        states += run(planned(scenario(seed), ("loss", "campaign", "crash"))).states
    shown = {state for states in SHOWN_BY.values() for state in states}
    assert [state for state in shown if states[state]] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_three_hundred_seeds_of_each_kind(kind: str) -> None:
    assert run_with(kind, range(1, 301))[kind]


def test_a_new_kind_leaves_the_faults_of_others_as_they_were() -> None:
    """So a seed that once failed is the same run still, but for what is added to it."""
    for seed in range(50):
        usual = [fault for fault in plan(scenario(seed)) if not KINDS[fault.kind].extra]
        slots = max(1, int(scenario(seed).seconds / scenario(seed).pace))
        assert sorted(fault.number for fault in usual) == list(range(slots))


def test_a_server_whose_disk_fails_is_started_again_whenever_that_is() -> None:
    """Not only when the fault ends: nothing may have been written meanwhile."""
    world = World(scenario(1, 3), [])
    world.start()
    world.run_until(1.0)
    node = world.nodes[S1]
    node.disk.fail_sync()
    node.kill(0)
    world.nemesis.start(node)
    world.run_until(3.0)
    assert world.invariants.coverage["stopped by its disk"] == 1
    assert node.core is not None


def test_long_runs_have_calms_and_short_ones_have_none() -> None:
    for seed in range(20):
        made = scenario(seed, seconds=LONG)
        storms = SHORT + CALM * made.election_timeout
        begun = [fault.at % storms for fault in plan(made)]
        assert max(begun) < SHORT
        assert len(begun) > 0.3 * LONG / made.pace
        made = scenario(seed)
        assert len(plan(made)) >= int(made.seconds / made.pace)


# --- Clocks --------------------------------------------------------------------------------------


def test_a_clock_jumps_forward_and_never_back() -> None:
    clock = LocalClock()
    clock.jump(5.0, 1.0)
    assert clock.at(1.0) == 6.0
    assert clock.when(8.0) == 3.0
    clock.jump(-3.0, 2.0)
    assert clock.at(2.0) == 7.0


def test_a_server_lives_by_its_own_clock() -> None:
    made = replace(scenario(1, 3), leases=False)
    faults = [
        Fault(0, 1.0, "clock-jump", 0.0, (S1,), 5.0),
        Fault(1, 1.0, "clock-back", 0.5, (S2,)),
    ]
    world = World(made, faults)
    world.start()
    world.run_until(1.4)
    assert math.isclose(world.nodes[S1].now, 6.4)
    assert math.isclose(world.nodes[S2].now, 1.0)
    world.run_until(2.0)
    assert math.isclose(world.nodes[S2].now, 1.5)


def test_a_jump_ends_a_followers_patience() -> None:
    elections = {}
    for kind in ("short-write", "clock-jump"):
        outcomes = [run(planned(scenario(seed, 3), (kind,))) for seed in (1, 2, 3)]
        states = sum((outcome.states for outcome in outcomes), Counter[str]())
        reasons = ("candidate: election_timeout", "pre_candidate: election_timeout")
        elections[kind] = sum(states[reason] for reason in reasons)
    assert elections["clock-jump"] > elections["short-write"]


# --- Links ---------------------------------------------------------------------------------------


class Line:
    """The network between S1 and S2, and the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.due: list[tuple[float, int, object, object]] = []
        self.arrived: list[Message] = []
        self.network = Network(PLAIN, Chance(1), (S1, S2), self.schedule, self.arrived.append)
        self.link = self.network.links[S1, S2]

    def schedule(self, delay: float, action: object, what: object) -> None:
        self.due.append((self.now + delay, len(self.due), action, what))

    def send(self, size: int = 0) -> Message:
        entries = (Entry(Term(1), EntryKind.COMMAND, b"x" * size),) if size else ()
        message = AppendEntries(
            src=S1,
            dst=S2,
            term=Term(1),
            prev_log_index=Index(0),
            prev_log_term=Term(0),
            entries=entries,
            leader_commit=Index(0),
        )
        self.network.send(message)
        return message

    def run(self, until: float = math.inf) -> None:
        while self.due and min(self.due)[0] <= until:
            first = min(self.due, key=lambda due: due[:2])
            self.due.remove(first)
            self.now = first[0]
            first[2](first[3])  # type: ignore[operator]


def test_what_is_under_way_is_lost_with_its_connection_and_what_comes_after_is_not() -> None:
    line = Line()
    line.send()
    line.network.reset(line.link)
    line.send()
    line.run()
    assert line.arrived == []
    assert not line.link.broken
    later = line.send()
    line.run()
    assert line.arrived == [later]


def test_a_connection_is_not_opened_while_the_link_is_cut() -> None:
    line = Line()
    line.link.cuts += 1
    line.network.reset(line.link)
    line.run(until=0.4)
    assert line.link.broken
    line.link.cuts -= 1
    line.run()
    assert not line.link.broken
    assert line.link.cuts == 0


def test_a_narrow_link_delays_what_is_behind_something_big() -> None:
    line = Line()
    line.link.rate = 1000
    big, small = line.send(2000), line.send()
    line.run(until=1.9)
    assert line.arrived == []
    line.run()
    assert line.arrived == [big, small]
    assert line.now > 2.0


def test_of_what_waits_for_a_narrow_link_the_oldest_are_lost() -> None:
    line = Line()
    line.link.rate = 1000
    sent = [line.send(1000) for _ in range(MOST_QUEUED // 1000 + 5)]
    line.run()
    assert len(line.arrived) < len(sent)
    assert line.arrived[0] is sent[0], "it was on its way already"
    assert line.arrived[-1] is sent[-1]


def test_no_message_arrives_that_was_not_sent() -> None:
    line = Line()
    line.link.corrupt = 1.0
    for size in range(200):
        line.send(size)
        line.run()
    assert line.arrived == []
    assert line.network.counts["corrupted, refused by the decoder"]
    assert line.network.counts["corrupted, refused by the connection"]


# --- Disks ---------------------------------------------------------------------------------------


def saved_disk() -> WalDisk:
    disk = WalDisk(S1, Random(3))
    store, _ = disk.open()
    store.save(HardState(Term(1), S1), Index(1), [Entry(Term(1), EntryKind.COMMAND, b"x" * 3000)])
    disk.kill()
    return disk


def test_power_may_fail_at_any_step_of_a_start_and_nothing_is_lost() -> None:
    disk = saved_disk()
    for calls in range(50):
        disk.cut_opening(calls)
        try:
            _, found = disk.open()
        except StorageError:
            continue
        assert calls > 3
        assert found.hard_state == HardState(Term(1), S1)
        assert len(found.entries) == 1
        return
    raise AssertionError("it never starts")


def test_short_writes_are_written_to_their_end() -> None:
    disk = saved_disk()
    disk.limit_writes(100)
    disk.open()
    disk.kill()
    _, found = disk.open()
    assert len(found.entries[0].data) == 3000


def test_a_server_that_refuses_for_no_reason_is_noticed() -> None:
    """What a store says of a disk that nothing happened to is not believed."""
    order = Order(mutant="old-snapshot-removed-first")
    outcome = order.run(129)
    assert outcome.failure is not None
    assert outcome.failure.invariant == "26 an undamaged disk opens"


@pytest.mark.parametrize("mutant", ["old-copy-restored", "wiped-disk-kept"])
def test_a_server_whose_disk_forgot_must_not_come_back_under_its_name(mutant: str) -> None:
    for seed in range(1, 100):
        outcome = Order(mutant=mutant).run(seed)
        if outcome.failure is not None:
            assert outcome.failure.invariant == "16 durability"
            return
    raise AssertionError(f"{mutant} was not found")


def test_a_disk_refuses_with_reason_as_often_as_it_was_told_to() -> None:
    disk = SimulatedDisk(files={Path("/a/f"): b"x"})
    disk.fail("open")
    with pytest.raises(OSError, match="Input/output error"):
        disk.open(Path("/a/f"))
    file = disk.open(Path("/a/f"))
    disk.capacity = 0
    with pytest.raises(OSError, match="No space left"):
        disk.write_at(file, b"more", 1)
    assert disk.refusals == 2
    with pytest.raises(FileNotFoundError):
        disk.open(Path("/a/g"))
    assert disk.refusals == 2
