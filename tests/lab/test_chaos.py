"""Faults at random: the same seed, the same commands; and all of it heals."""

from __future__ import annotations

import itertools

import pytest

from raftviz.command.goings_on import CHAOS_KINDS
from raftviz.commands import parse
from raftviz.lab.chaos import MAX_FAULTS, Chaos
from raftviz.model.events import ChaosChanged, CommandGiven

FIVE = (1, 2, 3, 4, 5)


def commands(seed, kinds=CHAOS_KINDS, servers=FIVE, count=200):
    chaos = Chaos(seed, kinds, servers)
    return [command for _ in range(count) for command in chaos.next()] + [*chaos.heal_all()]


def test_the_same_seed_gives_the_same_commands_and_another_one_others():
    assert commands(7) == commands(7)
    assert commands(7) != commands(8)
    assert len(commands(7)) > 100


@pytest.mark.parametrize("seed", range(20))
def test_all_that_it_does_are_commands_and_every_kind_has_its_turn(seed):
    done = [parse(command) for command in commands(seed, count=400)]
    assert len({type(command).__name__ for command in done}) >= len(CHAOS_KINDS)


@pytest.mark.parametrize("kind", CHAOS_KINDS)
def test_kinds_can_be_chosen(kind):
    words = {command.split()[0] for command in commands(3, [kind])}
    assert kind in words
    assert words <= {kind, "restart", "resume", "heal"}


def away(done):
    """How many servers are without a process, or may be, after each command."""
    gone = set()
    for command in done:
        name, _, rest = command.partition(" ")
        if name in ("kill", "power", "pause"):
            gone.add(rest)
        elif name in ("restart", "resume"):
            gone.discard(rest)
        elif name == "disk" and rest.split()[1] in ("full", "failsync", "tear"):
            gone.add(rest.split()[0])
        yield len(gone)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("servers", "most"), [(FIVE, 2), ((1, 2, 3), 1), ((1,), 0), ((1, 2), 0)])
def test_a_majority_keeps_its_processes_and_in_the_end_all_do(seed, servers, most):
    counts = list(away(commands(seed, servers=servers)))
    assert max(counts, default=0) <= most
    assert counts[-1:] in ([], [0])


def test_only_so_many_faults_are_in_force_at_once():
    chaos = Chaos(5, CHAOS_KINDS, FIVE)
    for _ in range(300):
        chaos.next()
        assert len(chaos._faults) <= MAX_FAULTS


async def test_chaos_in_a_lab_is_told_command_by_command_and_healed(start_lab):
    lab = await start_lab(seed=1, servers=3, rate=5)
    await lab.leader()
    answer = await lab.do("chaos on seed 7 kinds kill isolate pause every 100ms")
    assert answer == "faults come at random, by seed 7"
    assert lab.view.chaos == "chaos on seed 7 kinds kill isolate pause every 100ms"
    assert await lab.refused("chaos on") == "there is chaos already"
    chaos = Chaos(7, ["kill", "isolate", "pause"], [1, 2, 3])
    expected = list(itertools.islice((c for _ in range(20) for c in chaos.next()), 6))

    def given():
        mine = [what for what in lab.told(CommandGiven) if not what.text.startswith("chaos")]
        return [what.text for what in mine]

    await lab.until(lambda view: len(given()) >= 6)
    assert given()[:6] == expected
    await lab.do("chaos off")
    assert lab.view.chaos == ""
    assert all(server.alive and not server.paused for server in lab.view.servers.values())
    assert not any(link.cut for link in lab.view.links.values())
    assert [what.text != "" for what in lab.told(ChaosChanged)] == [True, False]
    assert await lab.refused("chaos off") == "there is no chaos"
    await lab.leader()
