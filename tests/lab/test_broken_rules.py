"""Rules that are broken on purpose in real servers: shown at every moment, until mended."""

from __future__ import annotations

import pytest

from raft.core.events import Role
from raftviz.lab.api import LabClient
from raftviz.model.events import RuleBroken, RuleMended
from raftviz.model.invariants import Invariants
from raftviz.model.view import ClusterView

shared = pytest.mark.asyncio(loop_scope="module")


@shared
async def test_a_broken_rule_is_a_restart_in_place_with_the_data_kept(orderly):
    lab = orderly
    await lab.do("put x 1")
    pids = {server.id: server.pid for server in lab.view.servers.values()}
    answer = await lab.do("break vote-twice in 2,3")
    assert answer.startswith("S2 and S3 broken on purpose: Votes for whoever asks")
    assert answer.endswith("(§5.2)")
    assert lab.view.broken == {2: ("vote-twice",), 3: ("vote-twice",)}
    assert {s for s, pid in pids.items() if lab.view.servers[s].pid != pid} == {2, 3}
    await lab.leader()
    assert await lab.do("get x") == "x is 1"
    assert await lab.refused("break vote-twice in 2") == "S2 breaks vote-twice already"
    assert "break the same rule" in await lab.refused("break repeated-vote-refused in 2")


@shared
async def test_whoever_attaches_later_hears_of_it(orderly):
    lab = orderly
    await lab.do("break vote-twice in 2")
    other = await LabClient.attach(lab.client.socket)
    view = ClusterView()
    for event in await other.next_events():
        view.apply(event)
    assert view.broken == {2: ("vote-twice",)}
    await other.close()


@shared
async def test_a_restart_does_not_mend_it_and_mend_does(orderly):
    lab = orderly
    await lab.do("break vote-twice in 2")
    await lab.do("break gaps-accepted in 2")
    await lab.do("kill 2")
    await lab.do("restart 2")
    assert lab.view.broken == {2: ("vote-twice", "gaps-accepted")}
    assert await lab.do("mend vote-twice") == "from now on S2 keeps vote-twice"
    assert lab.view.broken == {2: ("gaps-accepted",)}
    await lab.do("mend")
    assert lab.view.broken == {}
    assert lab.told(RuleBroken) == [RuleBroken(2, "vote-twice"), RuleBroken(2, "gaps-accepted")]
    assert lab.told(RuleMended) == [RuleMended(2, "vote-twice"), RuleMended(2, "gaps-accepted")]
    assert "keeps all rules" in await lab.refused("mend")
    assert "S2 keeps vote-twice" in await lab.refused("mend vote-twice in 2")


@shared
async def test_a_dead_server_breaks_it_from_its_next_start_on(orderly):
    lab = orderly
    await lab.do("kill 2")
    await lab.do("break vote-twice in 2")
    assert not lab.view.servers[2].alive
    assert lab.view.broken == {2: ("vote-twice",)}
    await lab.do("restart 2")
    await lab.do("pause 3")
    assert await lab.refused("break vote-twice in 3") == "S3 is paused"


async def test_two_leaders_of_one_term_when_half_is_a_quorum(start_lab):
    """The rule is broken in the servers themselves, and whoever watches sees the property fall."""
    lab = await start_lab(seed=1, servers=4, rate=0)
    await lab.do("break half-is-a-quorum")
    await lab.do("partition 1 2 | 3 4")
    await lab.do("timeout 1")
    await lab.do("timeout 3")
    await lab.do("step 4")
    invariants, view = Invariants(), ClusterView()
    for event in lab.events:
        invariants.apply(event, view)
        view.apply(event)
    leaders = {(s.id, s.term) for s in view.servers.values() if s.role is Role.LEADER}
    assert leaders == {(1, 1), (3, 1)}
    assert [broken.value for broken in invariants.broken] == ["Election Safety"]
