"""What Raft promises, on real server processes that are killed, paused and cut off."""

import asyncio

import pytest

from raft.core.events import Role
from raft.core.messages import EntryKind
from raft.machine.kv import describe
from raftviz.model.events import Outcome
from tests.cases import few

shared = pytest.mark.asyncio(loop_scope="module")


def roles(view):
    return {server.id: server.role for server in view.servers.values() if server.alive}


def logs_equal(view):
    logs = [server.log for server in view.servers.values() if server.alive]
    return all(log == logs[0] for log in logs)


def commands(server):
    return [describe(entry.data) for entry in server.log if entry.kind is EntryKind.COMMAND]


def outcome_of(view, key):
    return next(op.outcome for op in view.operations if op.key == key)


@shared
@pytest.mark.parametrize("time", few(range(10), 2))
async def test_a_killed_leader_is_replaced_in_a_higher_term_and_follows_when_it_is_back(
    orderly, time
):
    lab = orderly
    first = lab.view.leader
    assert list(roles(lab.view).values()).count(Role.LEADER) == 1
    term, before = lab.view.term, len(commands(lab.view.servers[first]))
    await lab.do("put x 1")

    await lab.do(f"kill {first}")
    second = await lab.leader(among=set(lab.view.servers) - {first})
    assert lab.view.servers[second].term > term
    await lab.do("put y 2")

    await lab.do(f"restart {first}")
    back = lab.view.servers[first]
    await lab.until(
        lambda view: (
            back.leader == view.leader
            and back.log == view.servers[view.leader].log
            and back.commit_index == view.servers[view.leader].commit_index
        )
    )
    assert back.role is Role.FOLLOWER
    assert commands(back)[before:] == ["x=1", "y=2"]


async def test_a_minority_acknowledges_nothing_and_takes_over_what_the_majority_did(start_lab):
    lab = await start_lab(seed=1)
    old = await lab.leader()
    companion, *majority = [server for server in lab.view.servers if server != old]
    await lab.do("put before 0")

    three = " ".join(map(str, majority))
    await lab.do(f"partition {old} {companion} | {three}")
    lost = asyncio.ensure_future(lab.do(f"put lost 1 @{old}"))
    await lab.until(lambda view: "lost=1" in commands(view.servers[companion]))
    new = await lab.leader(among=majority)
    assert await lab.do(f"put kept 2 @{new}") == "kept = 2 is stored"
    assert "unknown" in await lost
    assert outcome_of(lab.view, b"lost") is Outcome.UNKNOWN
    assert outcome_of(lab.view, b"kept") is Outcome.OK
    assert lab.view.servers[old].role is Role.LEADER, "nobody told it that its term is over"

    await lab.do("heal")
    await lab.until(lambda view: logs_equal(view) and view.leader in majority)
    for server in lab.view.servers.values():
        assert commands(server) == ["before=0", "kept=2"]


@shared
async def test_a_leader_that_nobody_hears_is_replaced_though_it_hears_everybody(orderly):
    lab = orderly
    deaf_to = lab.view.leader
    term = lab.view.term
    others = [server for server in lab.view.servers if server != deaf_to]
    for other in others:
        await lab.do(f"cut {deaf_to} -> {other}")
    await lab.leader(among=others)
    assert lab.view.term > term
    await lab.until(lambda view: view.servers[deaf_to].role is Role.FOLLOWER)
    assert await lab.do("put heard 1") == "heard = 1 is stored"
    await lab.do("heal")
    await lab.until(lambda view: "heard=1" in commands(view.servers[deaf_to]))


@shared
async def test_a_paused_leader_comes_back_to_another_term_and_steps_down(orderly):
    lab = orderly
    await lab.do("run until leader != 0")  # and time stands still: it leads when it is paused
    paused = lab.view.leader
    others = [server for server in lab.view.servers if server != paused]
    await lab.do(f"pause {paused}")
    await lab.do("thaw")
    await lab.leader(among=others)
    assert lab.view.servers[paused].role is Role.LEADER, "it cannot know yet"
    await lab.do("put meanwhile 1")
    await lab.do(f"resume {paused}")
    await lab.until(lambda view: view.servers[paused].role is Role.FOLLOWER)
    await lab.until(lambda view: view.servers[paused].kv.get(b"meanwhile") == b"1")


@shared
async def test_all_killed_and_restarted_still_have_every_acknowledged_write(orderly):
    lab = orderly
    for number in range(10):
        await lab.do(f"put k{number} {number}")
    await lab.do("kill all")
    assert not any(server.alive for server in lab.view.servers.values())
    await lab.do("restart all")
    await lab.leader()
    for number in range(10):
        assert await lab.do(f"get k{number}") == f"k{number} is {number}"


async def test_frozen_time_stepped_from_one_seed_takes_the_same_course_to_a_leader(start_lab):
    courses = []
    for _ in range(2):
        lab = await start_lab(seed=5, servers=3, rate=0)
        course = []
        while lab.view.leader is None:
            course.append(await lab.do("step"))
            assert len(course) < 100
        courses.append((course, lab.view.leader, lab.view.time))
    assert courses[0] == courses[1]
    course = courses[0][0]
    assert course[0].endswith("election timer fired")
    assert sum("request for a vote" in step for step in course) >= 2
