"""What each command does, what it answers, and what it refuses."""

import asyncio
import itertools

import psutil
import pytest
import pytest_asyncio

from raft.core.events import Role
from raftviz.model.events import (
    CommandGiven,
    LinkChanged,
    OperationInvoked,
    OperationReturned,
    Outcome,
    ServerExited,
    ServerPaused,
    ServerResumed,
    ServerSpawned,
    Warned,
)


def cut_links(view):
    return {link for link, rules in view.links.items() if rules.cut}


def status(pid):
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return None


shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def lab(orderly):
    """The module's laboratory, in which time runs and somebody leads."""
    return orderly


@pytest_asyncio.fixture(loop_scope="module")
async def still(orderly):
    """The module's laboratory in frozen time: what is not commanded does not happen."""
    await orderly.do("freeze")
    orderly.events.clear()
    return orderly


@pytest.fixture
async def unborn(start_lab):
    """A laboratory of its own, in which no time has passed yet."""
    lab = await start_lab(seed=1, servers=3, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    return lab


# --- Processes -------------------------------------------------------------------------------


@shared
async def test_every_server_is_a_process_of_its_own_with_its_own_port_and_data(still, tmp_path):
    servers = still.view.servers.values()
    assert len({server.pid for server in servers}) == 3
    assert len({server.address for server in servers}) == 3
    children = {child.pid for child in still.process.children()}
    assert children == {server.pid for server in servers}
    data = [psutil.Process(s.pid).cmdline() for s in servers]
    directories = {line[line.index("--data") + 1] for line in data}
    assert len(directories) == 3


@shared
async def test_kill_answers_when_the_process_is_reaped_and_the_stream_says_so(still):
    pid = still.view.servers[2].pid
    assert await still.do("kill 2") == "S2 killed"
    assert status(pid) is None
    assert still.told(ServerExited) == [ServerExited(2, pid, "killed (SIGKILL)", expected=True)]
    assert not still.view.servers[2].alive
    assert await still.refused("kill 2") == "S2 is dead"


@shared
async def test_a_stopped_process_can_be_killed(still):
    pid = still.view.servers[2].pid
    await still.do("pause 2")
    await still.do("kill 2")
    assert status(pid) is None


@shared
async def test_restart_brings_another_process_with_the_old_data(lab):
    await lab.do("put x 1")
    leader = lab.view.leader
    pid, log = lab.view.servers[leader].pid, list(lab.view.servers[leader].log)
    assert await lab.refused(f"restart {leader}") == f"S{leader} is not dead"
    await lab.do(f"kill {leader}")
    await lab.do(f"restart {leader}")
    server = lab.view.servers[leader]
    assert server.alive
    assert server.pid != pid
    assert server.log[: len(log)] == log
    assert lab.told(ServerSpawned)[-1] == ServerSpawned(leader, server.pid, server.address)


@shared
async def test_a_follower_that_is_restarted_leaves_the_leader_in_peace(lab):
    leader, term = lab.view.leader, lab.view.term
    follower = next(server for server in lab.view.servers if server != leader)
    await lab.do(f"kill {follower}")
    await lab.do(f"restart {follower}")
    await lab.until(lambda view: view.servers[follower].leader == leader)
    assert lab.view.term == term


@shared
async def test_pause_stops_the_process_and_resume_lets_it_go_on(still):
    pid = still.view.servers[3].pid
    await still.do("pause 3")
    while status(pid) != psutil.STATUS_STOPPED:  # the kernel stops it at its next turn
        await asyncio.sleep(0)
    assert await still.refused("pause 3") == "S3 is paused"
    assert await still.refused("timeout 3") == "S3 is paused"
    await still.do("resume 3")
    assert status(pid) != psutil.STATUS_STOPPED
    assert await still.refused("resume 3") == "S3 is not paused"
    assert [*still.told(ServerPaused), *still.told(ServerResumed)] == [
        ServerPaused(3),
        ServerResumed(3),
    ]


@shared
async def test_a_server_that_dies_by_itself_is_news_and_the_lab_goes_on(lab):
    victim = next(server for server in lab.view.servers if server != lab.view.leader)
    psutil.Process(lab.view.servers[victim].pid).terminate()
    await lab.until(lambda view: not view.servers[victim].alive)
    [exited] = lab.told(ServerExited)
    assert (exited.server, exited.expected) == (victim, False)
    assert exited.how.startswith("exit status 0")
    await lab.do(f"restart {victim}")
    await lab.do("put x 1")


@shared
async def test_servers_named_by_role_are_those_of_the_moment(lab):
    leader = lab.view.leader
    followers = set(lab.view.servers) - {leader}
    await lab.do("pause followers")
    assert {server.id for server in lab.view.servers.values() if server.paused} == followers
    await lab.do("resume all")
    assert not any(server.paused for server in lab.view.servers.values())
    await lab.do("kill leader")
    assert not lab.view.servers[leader].alive
    assert await lab.do("restart all") == f"S{leader} restarted"


@shared
async def test_without_a_leader_or_a_candidate_there_is_none_to_command(still):
    await still.do("kill leader")
    assert await still.refused("kill leader") == "nobody leads at the moment"
    assert "no candidate" in await still.refused("pause candidate")
    await still.do("kill all")
    assert "S1 is dead" in await still.refused("kill all")
    assert "no live follower" in await still.refused("timeout followers")


@shared
async def test_of_servers_named_by_number_each_must_be_fit(still):
    await still.do("kill 1")
    assert await still.refused("kill 1 2") == "S1 is dead"
    assert still.view.servers[2].alive
    assert await still.refused("kill 7") == "there is no S7; the servers are S1, S2 and S3"


# --- Links -----------------------------------------------------------------------------------


@shared
async def test_what_is_cut(still):
    everything = set(itertools.permutations((1, 2, 3), 2))
    for command, cut in (
        ("cut 1 -> 2", {(1, 2)}),
        ("cut 1 2", {(1, 2), (2, 1)}),
        ("isolate 3", {(1, 3), (3, 1), (2, 3), (3, 2)}),
        ("partition 1 | 2 3", {(1, 2), (2, 1), (1, 3), (3, 1)}),
        ("partition 2", {(1, 2), (2, 1), (2, 3), (3, 2)}),
        ("partition 1 | 2 | 3", everything),
        ("cut all all", everything),
    ):
        still.events.clear()
        await still.do(command)
        assert cut_links(still.view) == cut, command
        assert len(still.told(LinkChanged)) == len(cut), f"{command}: one event a link"
        await still.do("heal all")
        assert cut_links(still.view) == set()


@shared
async def test_heal_and_partition_mend_what_they_name(still):
    await still.do("cut all all")
    assert await still.do("heal 1 -> 2") == "healed: S1 → S2"
    assert (1, 2) not in cut_links(still.view)
    assert (2, 1) in cut_links(still.view)
    await still.do("partition 1 2 | 3")
    assert cut_links(still.view) == {(1, 3), (3, 1), (2, 3), (3, 2)}
    await still.do("heal")
    assert cut_links(still.view) == set()
    assert await still.do("heal") == "nothing there was wrong"


@shared
async def test_a_delay_holds_for_every_link(still):
    await still.do("delay 250ms")
    assert {rules.delay for rules in still.view.links.values()} == {0.250}


@shared
async def test_links_that_do_not_exist_are_refused(lab):
    leader = lab.view.leader
    assert await lab.refused(f"cut leader {leader}") == f"S{leader} has no link to itself"
    assert "two groups" in await lab.refused(f"partition leader | {leader}")
    assert "no S9" in await lab.refused("partition 1 | 9")
    assert "no S9" in await lab.refused("cut 1 -> 9")


# --- Operations ------------------------------------------------------------------------------


@shared
async def test_put_get_and_delete(lab):
    assert await lab.do("put x 1") == "x = 1 is stored"
    assert await lab.do("get x") == "x is 1"
    assert await lab.do("delete x") == "x is deleted"
    assert await lab.do("get x") == "there is no x"
    assert [type(what) for what in lab.told(OperationInvoked | OperationReturned)] == [
        OperationInvoked,
        OperationReturned,
    ] * 4
    read = lab.told(OperationInvoked)[1].operation_id
    assert lab.told(OperationReturned)[1] == OperationReturned(read, Outcome.OK, True, b"1", "")


@shared
async def test_an_operation_for_one_server_goes_there_and_nowhere_else(lab):
    leader = lab.view.leader
    follower = next(server for server in lab.view.servers if server != leader)
    assert await lab.do(f"put x 1 @{leader}") == "x = 1 is stored"
    assert "does not lead" in await lab.do(f"put x 2 @{follower}")
    assert lab.view.operations[-1].outcome is Outcome.FAILED
    assert lab.view.operations[-1].server == follower
    assert await lab.do("get x @leader") == "x is 1"
    assert "one server" in await lab.refused("get x @followers")
    assert await lab.refused("get x @9") == "there is no S9; the servers are S1, S2 and S3"


@shared
async def test_without_a_majority_a_write_may_happen_later_and_a_read_has_not(lab):
    await lab.do("put x 0")
    await lab.do("freeze")
    leader = lab.view.leader
    for follower in set(lab.view.servers) - {leader}:
        await lab.do(f"kill {follower}")
    await lab.do("rate 10")
    began = lab.view.time
    write, read = await asyncio.gather(lab.do(f"put x 1 @{leader}"), lab.do(f"get x @{leader}"))
    assert lab.view.time >= began + 5.0
    assert write.startswith("the outcome is unknown")
    assert read.startswith("nothing was done")
    await lab.do("kill all")
    assert (await lab.do("put x 2")).startswith("nothing was done"), "it was never sent"


@shared
async def test_a_write_goes_to_the_leader_that_has_replaced_one_that_was_cut_off(lab):
    """The old one answered last, takes commands as ever, and can commit none of them."""
    old = lab.view.leader
    await lab.do("put x 1")
    await lab.do(f"isolate {old}")
    await lab.until(lambda view: view.leader not in (None, old))
    assert await lab.do("put x 2") == "x = 2 is stored"


@shared
async def test_operations_find_servers_that_have_moved_while_they_wait(lab):
    await lab.do("kill all")
    await lab.do("rate 1/20")  # however long the restart takes, the client does not give up
    waiting = asyncio.ensure_future(lab.do("put x 1"))
    await lab.until(lambda view: lab.told(OperationInvoked))
    await lab.do("restart all")
    await lab.do("rate 1")
    assert await waiting == "x = 1 is stored"


@shared
async def test_a_key_that_is_too_long_is_refused(lab):
    assert "at most 1024" in await lab.refused(f"put {'k' * 1025} 1")
    assert lab.told(OperationInvoked) == []


# --- The language ----------------------------------------------------------------------------


@shared
async def test_whatever_is_asked_is_told_with_its_answer(still):
    await still.do("cut 1 2")
    await still.refused("kil 1")
    await still.refused("select 2")
    given = still.told(CommandGiven)
    assert [(g.text, g.ok) for g in given] == [
        ("cut 1 2", True),
        ("kil 1", False),
        ("select 2", False),
    ]
    assert "kill 1" in given[1].answer


async def step_until(lab, condition):
    for _ in range(300):
        if condition(lab.view):
            return
        await lab.do("step")
    raise AssertionError("300 steps were not enough")


async def cut_off_a_leader_with_a_write(lab):
    """Let S1 lead and then take a write that cannot leave it; return when S2 leads."""
    await lab.do("timeout 1")
    await step_until(lab, lambda v: all(s.commit_index == 1 for s in v.servers.values()))
    await lab.do("isolate 1")
    assert "pending" in await lab.do("put y left @1")
    await lab.until(lambda view: len(view.servers[1].log) == 2)
    await lab.do("timeout 2")
    await step_until(lab, lambda view: view.servers[2].role is Role.LEADER)


async def test_a_write_in_whose_place_another_was_committed_has_failed(unborn):
    await cut_off_a_leader_with_a_write(unborn)
    await unborn.do("put y right @2")
    await step_until(unborn, lambda view: view.servers[2].kv == {b"y": b"right"})
    await unborn.do("heal")
    await step_until(unborn, lambda view: view.operations[0].outcome is not None)
    left = unborn.view.operations[0]
    assert left.outcome is Outcome.FAILED
    assert left.detail == "another leader's entry was committed in its place"
    assert unborn.view.servers[1].kv == {b"y": b"right"}


async def test_of_a_write_that_was_only_removed_the_outcome_is_unknown(unborn):
    await cut_off_a_leader_with_a_write(unborn)
    await unborn.do("heal")
    await unborn.do("cut 3 -> 2")  # without its answers S2 commits nothing before it reaches S1
    await step_until(unborn, lambda view: view.operations[0].outcome is not None)
    assert unborn.view.operations[0].outcome is Outcome.UNKNOWN
    assert unborn.view.servers[1].log == unborn.view.servers[2].log
    assert unborn.view.servers[1].commit_index == 1


@shared
async def test_a_server_that_does_not_lead_takes_no_write(lab):
    follower = next(server for server in lab.view.servers if server != lab.view.leader)
    assert f"server {follower} does not lead" in await lab.do(f"put x 1 @{follower}")


@shared
async def test_rates_have_bounds(still):
    reason = await still.refused("rate 11")
    assert "10" in reason
    await still.do("rate 10")
    assert still.view.clock.rate == 10


async def test_a_rate_at_which_timeouts_are_too_short_for_the_machine_gives_a_warning(start_lab):
    hasty = await start_lab(servers=1, rate=0, election_timeout=(0.002, 0.003), heartbeat=0.001)
    assert await hasty.do("rate 10") == (
        "time runs at ×10; timeouts last 0.2–0.3 ms of real time then: this machine may not keep up"
    )
    assert await hasty.do("rate 1") == "time runs at ×1"
    calm = await start_lab(servers=1, rate=0, election_timeout=(1000, 2000))
    assert await calm.do("rate 10") == "time runs at ×10"


@shared
async def test_commands_given_together_are_carried_out_one_by_one(still):
    answers = await asyncio.gather(*(still.ask("kill 1") for _ in range(3)))
    assert sorted(answer.ok for answer in answers) == [False, False, True]


@shared
async def test_timeout_makes_a_candidate_while_time_runs(lab):
    follower = next(server for server in lab.view.servers if server != lab.view.leader)
    term = lab.view.term
    await lab.do(f"timeout {follower}")
    assert lab.view.servers[follower].term > term
    await lab.until(lambda view: view.servers[follower].role is Role.LEADER)
    assert lab.told(Warned) == []
