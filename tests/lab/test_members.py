"""Servers that join, leave and take each other's place while the cluster runs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import psutil
import pytest

from raft.clock import VirtualClock
from raft.core.events import ConfigurationChanged
from raftviz.commands import Promote
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.on_members import CHANGE_SECONDS, OnMembers
from raftviz.model.events import ServerAdded, ServerRemoved


@pytest.fixture
async def lab(start_lab):
    lab = await start_lab(seed=1, servers=3)
    await lab.leader()
    return lab


def voters(view):
    return view.configuration.voters


async def test_a_server_is_spawned_joins_and_gets_a_vote_once_it_has_the_log(lab):
    await lab.do("put x 1")
    assert await lab.do("add 4") == "S4 is a voter now"
    assert lab.told(ServerAdded) == [ServerAdded(4)]
    assert psutil.pid_exists(lab.view.servers[4].pid)
    assert voters(lab.view) == (1, 2, 3, 4)
    await lab.until(lambda view: view.servers[4].kv == {b"x": b"1"})
    assert {link for link in lab.view.links if 4 in link} == {
        link for n in (1, 2, 3) for link in ((n, 4), (4, n))
    }
    assert {link.delay for link in lab.view.links.values()} == {0.010}
    # It counts: with two of the others gone it is one of the majority, after a restart, too.
    await lab.do("kill 4")
    await lab.do("restart 4")
    await lab.do("transfer 4")
    assert await lab.leader() == 4
    await lab.do("kill 1")
    assert await lab.do("put x 2") == "x = 2 is stored"


async def test_a_learner_is_promoted_demoted_and_removed(lab):
    assert "has no vote" in await lab.do("add 4 as learner")
    assert (voters(lab.view), lab.view.configuration.learners) == ((1, 2, 3), (4,))
    assert await lab.do("promote 4") == "S4 is a voter now"
    assert "has no vote" in await lab.do("demote 4")
    assert lab.view.configuration.learners == (4,)
    pid = lab.view.servers[4].pid
    assert "has left the cluster" in await lab.do("remove 4")
    assert 4 not in lab.view.servers
    assert not psutil.pid_exists(pid)
    assert lab.told(ServerRemoved) == [ServerRemoved(4)]
    assert {n for link in lab.view.links for n in link} == {1, 2, 3}
    assert await lab.refused("add 4") == "there was an S4; a new server needs a new number"


async def test_the_leader_is_replaced(lab):
    leader = await lab.leader()
    await lab.do("put x 1")
    answer = await lab.do("replace leader 4")
    assert answer.startswith("S4 is a voter now; ")
    assert leader not in lab.view.servers
    await lab.leader()
    assert set(voters(lab.view)) == {1, 2, 3, 4} - {leader}
    assert await lab.do("get x") == "x is 1"


async def test_what_is_refused_changes_nothing(lab):
    leader = await lab.leader()
    assert await lab.refused("add 3") == "there is an S3 already"
    assert await lab.refused("remove 9") == "there is no S9; the servers are S1, S2 and S3"
    assert await lab.refused("promote 3") == "S3 has a vote already"
    assert await lab.refused(f"transfer {leader}") == f"S{leader} leads already"
    await lab.do("freeze")
    assert (await lab.refused("add 4")).startswith("time stands still")
    await lab.do("thaw")
    others = [server for server in (1, 2, 3) if server != leader]
    await lab.do(f"remove {others[0]}")
    await lab.do(f"remove {others[1]}")
    assert await lab.refused(f"remove {leader}") == f"S{leader} is the last voter"
    assert await lab.refused(f"demote {leader}") == f"S{leader} is the last voter"
    await lab.do(f"kill {leader}")
    assert (await lab.refused("add 4")).startswith("nobody leads at the moment")
    assert set(lab.view.servers) == {leader}


async def test_a_change_has_its_time_of_the_cluster_s_and_frozen_time_is_none():
    time = ClusterTime(VirtualClock(rate=0.0))
    time.run(1.0)
    configuration = ConfigurationChanged(1, (1, 2), (), (3,))
    view = SimpleNamespace(servers=(1, 2, 3), configuration=configuration)
    begun = asyncio.Event()

    async def promote(server, limit):
        begun.set()
        await asyncio.get_running_loop().create_future()

    parts = SimpleNamespace(
        time=time, view=view, raft=SimpleNamespace(promote=promote), cluster=None
    )
    change = asyncio.ensure_future(await OnMembers(parts).carry_out(Promote((3,))))
    await begun.wait()
    time.run(0.0)
    time.advance(CHANGE_SECONDS - 1)
    await asyncio.sleep(0)
    assert not change.done()
    time.advance(CHANGE_SECONDS + 1)
    assert await change == "the outcome is unknown: it is not done after 30 s"
