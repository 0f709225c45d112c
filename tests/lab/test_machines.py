"""Power, disks and clocks of real servers: what each fault does, and what stays of it."""

from __future__ import annotations

import pytest

from raft.core.events import Role
from raftviz.model.events import (
    DiskChanged,
    DiskDamaged,
    PowerCut,
    ServerClockChanged,
    ServerExited,
)

shared = pytest.mark.asyncio(loop_scope="module")


def follower(lab):
    return next(s.id for s in lab.view.servers.values() if s.role is Role.FOLLOWER)


# --- Power ---------------------------------------------------------------------------------------


@shared
async def test_a_power_cut_ends_a_server_and_loses_nothing_that_was_acknowledged(orderly):
    lab = orderly
    await lab.do("put x 1")
    pid = lab.view.servers[2].pid
    assert await lab.do("power 1,2,3") == "the power of S1, S2 and S3 was cut"
    assert {what.server for what in lab.told(PowerCut)} == {1, 2, 3}
    assert ServerExited(2, pid, "killed (SIGKILL)", expected=True) in lab.told(ServerExited)
    assert await lab.refused("power 2") == "S2 is dead"
    await lab.do("restart all")
    assert await lab.do("get x") == "x is 1"


@shared
async def test_a_paused_server_is_resumed_before_its_power_can_be_cut(orderly):
    still = orderly
    await still.do("freeze")
    await still.do("pause 2")
    assert await still.refused("power 2") == "S2 is paused"
    assert await still.refused("disk 2 full") == "S2 is paused"


async def test_a_log_that_does_not_sync_forgets_in_a_power_cut_and_not_in_a_kill(start_lab):
    """Why a kill proves nothing about durability."""
    lab = await start_lab(seed=1, servers=1)
    await lab.leader()
    await lab.do("break fsync-skipped")
    await lab.leader()
    await lab.do("put x 1")
    await lab.do("kill 1")
    await lab.do("restart 1")
    assert await lab.do("get x") == "x is 1"
    await lab.do("put x 2")
    await lab.do("power 1")
    await lab.do("restart 1")
    assert await lab.do("get x") != "x is 2"


# --- Stop ----------------------------------------------------------------------------------------


@shared
async def test_a_leader_that_is_stopped_hands_over_first(orderly):
    lab = orderly
    leader = await lab.leader()
    term = lab.view.servers[leader].term
    assert await lab.do(f"stop {leader}") == f"S{leader} stopped"
    (exited,) = lab.told(ServerExited)
    assert (exited.server, exited.how, exited.expected) == (leader, "exit status 0", True)
    await lab.leader()
    assert lab.view.term == term + 1, "one election, and that of the one it was handed to"
    assert await lab.refused(f"stop {leader}") == f"S{leader} is dead"


# --- Disks ---------------------------------------------------------------------------------------


@shared
async def test_a_slow_disk_holds_up_what_waits_for_it_and_is_shown(orderly):
    lab = orderly
    await lab.do("disk leader slow 50ms")
    leader = lab.view.leader
    assert lab.view.servers[leader].disk == DiskChanged(leader, delay=0.05)
    await lab.do("put x 1")
    assert await lab.do("disk all ok") == "the disk of S1, S2 and S3 is in order"
    assert all(server.disk is None for server in lab.view.servers.values())


@shared
async def test_all_disks_so_slow_that_no_write_ends_in_time(orderly):
    lab = orderly
    await lab.do("disk all slow 60s")
    await lab.do("rate 10")
    assert "the outcome is unknown" in await lab.do("put x late")
    await lab.do("disk all ok")
    await lab.until(lambda view: view.servers[view.leader or 1].kv.get(b"x") == b"late")


@shared
async def test_a_failed_fsync_ends_the_server_and_the_fault_with_it(orderly):
    lab = orderly
    victim = follower(lab)
    await lab.do(f"disk {victim} failsync")
    assert lab.view.servers[victim].disk.fails_sync
    await lab.do("put x 1")
    await lab.until(lambda view: not view.servers[victim].alive)
    await lab.until(lambda view: view.servers[victim].disk is None)
    (exited,) = lab.told(ServerExited)
    assert exited.how.startswith("exit status 3: ")
    assert "Input/output error" in exited.how
    await lab.do(f"restart {victim}")
    await lab.until(lambda view: view.servers[victim].kv.get(b"x") == b"1")


@shared
async def test_a_torn_write_is_dropped_by_the_next_process(orderly):
    lab = orderly
    victim = follower(lab)
    await lab.do(f"disk {victim} tear")
    await lab.do("put x 1")
    await lab.until(lambda view: not view.servers[victim].alive)
    assert lab.told(PowerCut) == [PowerCut(victim)]
    (exited,) = lab.told(ServerExited)
    assert exited == ServerExited(victim, exited.pid, "killed (SIGKILL)", expected=True)
    await lab.do(f"restart {victim}")
    await lab.until(lambda view: view.servers[victim].kv.get(b"x") == b"1")


@shared
async def test_a_fault_of_the_disk_outlasts_the_process(orderly):
    still = orderly
    await still.do("freeze")
    await still.do("disk 2 slow 20ms")
    await still.do("disk 2 full")
    await still.do("kill 2")
    await still.do("restart 2")
    assert still.view.servers[2].disk == DiskChanged(2, delay=0.02, full=True)


@shared
async def test_a_flipped_bit_and_a_wiped_disk_are_for_dead_servers(orderly):
    lab = orderly
    assert await lab.refused("disk 2 flip log") == "S2 is not dead"
    assert await lab.refused("disk 2 wipe") == "S2 is not dead"
    await lab.do("put x 1")
    await lab.do("kill 2")
    assert "there is no snapshot on its disk" in await lab.refused("disk 2 flip snapshot")
    assert "bytes, numbered from 0" in await lab.refused("disk 2 flip log #99999999")
    answer = await lab.do("disk 2 flip log #20")
    assert answer.startswith("S2: a bit of byte 20 of ")
    assert [what.server for what in lab.told(DiskDamaged)] == [2]
    answer = await lab.do("disk 2 wipe")
    assert answer.startswith("S2: everything is wiped; as a voter it may vote again")
    await lab.do("freeze")
    await lab.do("restart 2")
    wiped = lab.view.servers[2]
    assert (wiped.term, wiped.voted_for, wiped.log) == (0, None, [])


# --- Clocks --------------------------------------------------------------------------------------


@shared
async def test_a_fast_clock_shortens_a_servers_timer_for_everybody_who_watches(orderly):
    still = orderly
    await still.do("freeze")
    before = still.view.servers[2]
    deadline, interval, now = before.timer_deadline, before.timer_interval, still.view.clock.virtual
    await still.do("clock 2 x2")
    assert still.told(ServerClockChanged) == [ServerClockChanged(2, 2.0)]
    after = still.view.servers[2]
    assert after.clock == 2
    assert after.timer_deadline == pytest.approx(now + (deadline - now) / 2)
    assert after.timer_interval == pytest.approx(interval / 2)


async def test_a_step_fires_the_timer_of_a_fast_clock_when_it_is_due_by_the_clusters(start_lab):
    still = await start_lab(seed=1, servers=3, rate=0)
    await still.until(lambda view: view.sequence > 0)
    await still.do("clock 2 x10")
    deadline = still.view.servers[2].timer_deadline
    assert deadline < min(still.view.servers[other].timer_deadline for other in (1, 3))
    assert await still.do("step") == "S2's election timer fired"
    assert still.view.clock.virtual == pytest.approx(deadline)
    assert still.view.servers[2].term == 1
    # What it tells now is told by the cluster's clock, too.
    assert still.events[-1].virtual_time == pytest.approx(deadline)
    interval = still.view.servers[2].timer_interval
    assert 0.015 - 1e-9 <= interval <= 0.030 + 1e-9
    assert still.view.servers[2].timer_deadline == pytest.approx(deadline + interval)


@shared
async def test_a_clock_that_ran_fast_runs_right_again_without_a_jump(orderly):
    lab = orderly
    await lab.do("clock 3 x5")
    await lab.do("put x 1")
    await lab.do("clock 3 ok")
    assert lab.view.servers[3].clock == 1
    await lab.do("kill 3")
    await lab.do("restart 3")
    await lab.do("freeze")
    timer = lab.view.servers[3]
    left = timer.timer_deadline - lab.view.clock.virtual
    assert left <= 0.301, "by the cluster's clock, though its own is far ahead"
