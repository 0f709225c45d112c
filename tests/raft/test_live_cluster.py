"""Real servers that come and go, lag, hand over and are cut off, while they are used."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from raft.core.events import Role
from raft.core.messages import ServerId
from raft.errors import (
    ImpossibleError,
    NotLeaderError,
    OutcomeUnknownError,
    RaftError,
    UnreachableError,
)
from raft.frames import Consistency, Status
from raft.machine.kv import Get, Value, decode_answer, encode_query
from tests.raft.cluster import PATIENCE, RealCluster, Relay, eventually

JOURNAL = "tests.raft.journal"


def others(cluster: RealCluster, server: ServerId) -> list[ServerId]:
    return [other for other in cluster.processes if other != server]


async def value_at(cluster: RealCluster, server: ServerId, how: Consistency) -> bytes:
    """What one server says that the key x holds; empty if nothing."""
    reply = await cluster.raft.read(encode_query(Get(b"x")), 1.0, server, how)
    answer = decode_answer(reply)
    assert isinstance(answer, Value)
    return answer.value


# --- Snapshots -------------------------------------------------------------------------------


async def test_a_server_that_was_down_catches_up_by_a_snapshot(cluster: RealCluster) -> None:
    await cluster.put(b"x", b"before")
    leader = await cluster.leader()
    late = others(cluster, leader.server)[0]
    await cluster.kill(late)
    for number in range(50):
        await cluster.put(b"x", b"%d" % number)
    index = await cluster.raft.snapshot(leader.server)
    assert index >= 50
    await cluster.start(late)

    async def caught_up() -> Status | None:
        status = await cluster.status(late)
        return status if status and status.last_applied >= index else None

    status = await eventually(caught_up, "the late server has what the leader has")
    assert status.snapshot_index == index, "it was sent the snapshot: the entries are gone"
    assert await value_at(cluster, late, Consistency.STALE) == b"49"
    await cluster.kill(late)
    await cluster.start(late)
    assert await eventually(caught_up, "the snapshot is on its disk")


async def test_snapshots_are_taken_by_themselves_and_outlive_the_process(tmp_path: Path) -> None:
    async with RealCluster(tmp_path, 1, options=["--snapshot-entries", "20"]) as cluster:
        for number in range(50):
            await cluster.put(b"x", b"%d" % number)
        before = await cluster.leader()
        assert before.snapshot_index >= 40
        await cluster.kill(ServerId(1))
        await cluster.start(ServerId(1))
        after = await cluster.leader()
        assert after.snapshot_index >= 40
        assert await cluster.get(b"x") == b"49"
        assert "entries behind a snapshot up to" in cluster.log(ServerId(1))


# --- Members ---------------------------------------------------------------------------------


class Writers:
    """Clients that write without end; they note what was acknowledged and what may have been."""

    def __init__(self, cluster: RealCluster, count: int) -> None:
        self.acknowledged: list[bytes] = []
        self.unknown: list[bytes] = []
        self._cluster = cluster
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(count)]
        self._moved = asyncio.Event()

    async def _write(self, writer: int) -> None:
        number = 0
        while True:
            number += 1
            command = b"%d.%d" % (writer, number)
            try:
                await self._cluster.raft.propose(command, timeout=PATIENCE)
            except OutcomeUnknownError:
                self.unknown.append(command)
            else:
                self.acknowledged.append(command)
            self._moved.set()

    async def some_more(self) -> None:
        """Wait until writes have gone through that began after now."""
        goal = len(self.acknowledged) + 2 * len(self._tasks)
        async with asyncio.timeout(PATIENCE):
            while len(self.acknowledged) < goal:
                self._moved.clear()
                await self._moved.wait()

    async def stop(self) -> None:
        """Let them end; what was under way is unknown."""
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            assert isinstance(result, asyncio.CancelledError), repr(result)


async def test_all_servers_are_replaced_one_by_one_under_load(tmp_path: Path) -> None:
    """No acknowledged write is lost, and none is carried out twice."""
    options = ["--snapshot-entries", "200"]
    async with RealCluster(tmp_path, 5, options, program=JOURNAL) as cluster:
        await cluster.leader()
        writers = Writers(cluster, 4)
        for old in list(cluster.founders):
            new = ServerId(old + 5)
            address = await cluster.start_new(new)
            await writers.some_more()
            members = await cluster.raft.add(new, address, timeout=2 * PATIENCE)
            assert new in members.voters
            members = await cluster.raft.remove(old, timeout=PATIENCE)
            assert old not in members.voters
            assert await cluster.stop(old) == 0
            await writers.some_more()
        await writers.stop()
        members = await cluster.raft.members()
        assert (members.voters, members.outgoing, members.learners) == ((6, 7, 8, 9, 10), (), ())
        journal = Counter((await cluster.raft.read(b"", timeout=PATIENCE)).split(b"\n"))
        assert {command: journal[command] for command in writers.acknowledged} == dict.fromkeys(
            writers.acknowledged, 1
        )
        assert set(journal.values()) == {1}
        assert len(writers.acknowledged) > 100


async def test_a_leader_removes_itself_and_the_others_go_on(cluster: RealCluster) -> None:
    await cluster.put(b"x", b"1")
    leader = (await cluster.leader()).server
    members = await cluster.raft.remove(leader)
    assert leader not in members.voters
    await cluster.put(b"x", b"2")
    assert await cluster.get(b"x") == b"2"
    now = await cluster.leader()
    assert now.server != leader
    gone = await cluster.status(leader)
    assert gone is not None
    assert gone.role is Role.FOLLOWER
    assert leader not in gone.voters
    members = await cluster.raft.add(leader, cluster.addresses[leader])
    assert members.voters == cluster.founders, "and it may come back"


async def test_changes_that_make_no_sense_say_why(cluster: RealCluster) -> None:
    leader = (await cluster.leader()).server
    with pytest.raises(ImpossibleError, match="it is no member of the cluster"):
        await cluster.raft.promote(ServerId(9))
    with pytest.raises(ImpossibleError, match="S9 is no voter"):
        await cluster.raft.demote(ServerId(9))
    with pytest.raises(ImpossibleError, match=f"S{leader} is a member already"):
        await cluster.raft.add_learner(leader, cluster.addresses[leader])
    with pytest.raises(ImpossibleError, match="S9 is no voter"):
        await cluster.raft.transfer_leadership(ServerId(9))
    before = await cluster.raft.members()
    with pytest.raises(ImpossibleError, match="'nowhere' is not an address: HOST:PORT is"):
        await cluster.raft.add(ServerId(9), "nowhere")
    assert await cluster.raft.remove(ServerId(9)) == before, "nothing was to be done"


async def test_the_command_grows_and_shrinks_a_cluster(cluster: RealCluster) -> None:
    await cluster.command("put", "x", "1")
    address = await cluster.start_new(ServerId(4))
    added = await cluster.command("add", "4", address)
    assert (added.status, added.err) == (0, "")
    said = added.out.decode().splitlines()
    assert said[:3] == [
        "server 4 is a learner",
        "waiting until it has the log",
        "server 4 is a voter",
    ]
    assert re.search(rf"^4 +{address} +voter +\d+ of \d+$", said[-1])
    again = await cluster.command("add", "4", address)
    assert again.out.decode().startswith("server 4 is a voter already\n")
    assert (await cluster.command("transfer", "4")).out == b"server 4 leads\n"
    members = (await cluster.command("members")).out.decode()
    assert re.search(r"^4 .* voter, leads +\d+$", members, re.MULTILINE)
    demoted = await cluster.command("demote", "1")
    assert re.search(r"^1 .* learner ", demoted.out.decode(), re.MULTILINE)
    assert re.search(r"^1 .* voter ", (await cluster.command("promote", "1")).out.decode(), re.M)
    removed = await cluster.command("remove", "2")
    assert removed.out.decode().startswith(
        "server 2 is not a member any more; its process may be stopped\n"
    )
    assert not re.search(r"^2 ", removed.out.decode(), re.MULTILINE)
    again = await cluster.command("remove", "2")
    assert again.status == 1
    assert again.err.endswith("server 2 is no member: there is nothing to remove\n")
    elsewhere = await cluster.command("add", "4", "127.0.0.1:9")
    assert elsewhere.status == 1
    assert f"server 4 is a member already, at {address}" in elsewhere.err
    there = await cluster.command("add", "5", address)
    assert there.status == 1
    assert f"server 4 is at {address} already: a new one listens elsewhere" in there.err
    status = (await cluster.command("status")).out.decode()
    assert re.search(rf"^4 +{address} +leader .* 1 3 4$", status, re.MULTILINE), status
    taken = await cluster.command("snapshot", "4")
    assert taken.out.startswith(b"the snapshot stands for the log up to "), taken.err
    stranger = await cluster.command("snapshot", "9")
    assert (stranger.status, stranger.err) == (
        1,
        "raft snapshot: server 9 is no member of the cluster\n",
    )
    nobody = await cluster.command("promote", "9")
    assert (nobody.status, nobody.err) == (
        1,
        "raft promote: server 9: it is no member of the cluster\n",
    )


async def test_a_learner_has_the_log_and_no_vote(cluster: RealCluster) -> None:
    address = await cluster.start_new(ServerId(4))
    added = await cluster.command("add", "4", address, "--learner")
    assert added.out.decode().startswith("server 4 is a learner\nserver ")
    await cluster.put(b"x", b"1")
    assert (await cluster.command("get", "x", "--stale", "--server", f"4={address}")).out == b"1"
    await cluster.kill(ServerId(4))
    await cluster.start(ServerId(4))
    await cluster.put(b"x", b"2")

    async def is_back() -> bool:
        return await value_at(cluster, ServerId(4), Consistency.STALE) == b"2"

    await eventually(is_back, "it knows its cluster after a restart, too")
    for server in cluster.founders[:2]:
        await cluster.kill(server)

    async def nobody_leads() -> bool:
        statuses = await cluster.statuses()
        return len(statuses) == 2 and all(s.role is not Role.LEADER for s in statuses.values())

    await eventually(nobody_leads, "one voter of three and a learner elect nobody")
    with pytest.raises(RaftError):
        await cluster.raft.propose(b"", timeout=1.0)


# --- Leadership ------------------------------------------------------------------------------


async def test_leadership_goes_where_it_is_sent(cluster: RealCluster) -> None:
    before = await cluster.leader()
    target = others(cluster, before.server)[0]
    assert await cluster.raft.transfer_leadership(target) == target
    after = await cluster.leader()
    assert (after.server, after.term) == (target, before.term + 1)
    assert await cluster.raft.transfer_leadership(target) == target, "it leads already"
    assert (await cluster.leader()).term == after.term
    best = await cluster.raft.transfer_leadership()
    assert best != target


async def test_a_leader_that_is_told_to_stop_hands_over_first(cluster: RealCluster) -> None:
    await cluster.put(b"x", b"1")
    before = await cluster.leader()
    writing = asyncio.ensure_future(cluster.put(b"x", b"2"))
    assert await cluster.stop(before.server, signal.SIGTERM) == 0
    await writing
    after = await cluster.leader()
    assert after.term == before.term + 1, "the others did not have to find out by themselves"
    assert f"leadership goes to server {after.server}" in cluster.log(before.server)
    assert await cluster.get(b"x") == b"2"


async def test_a_last_server_that_is_told_to_stop_just_stops(cluster: RealCluster) -> None:
    leader = await cluster.leader()
    for server in others(cluster, leader.server):
        await cluster.kill(server)
    assert await cluster.stop(leader.server, signal.SIGTERM) == 0


@pytest.mark.parametrize("careful", [True, False])
async def test_a_server_that_was_cut_off_does_not_unseat_the_leader(
    tmp_path: Path, careful: bool
) -> None:
    """With pre-votes; without them it comes back with a term that ends the leader's."""
    options = [] if careful else ["--no-pre-vote", "--no-check-quorum"]
    cluster = RealCluster(tmp_path, 3, options)
    one, two, far = cluster.founders
    relays = {}
    for src, dst in [(one, far), (two, far), (far, one), (far, two)]:
        relays[src, dst] = Relay(cluster.addresses[dst])
        cluster.ways[src, dst] = await relays[src, dst].start()
    async with cluster:
        role = Role.LEADER
        while role is Role.LEADER:  # it may have been elected just before it is cut off
            for relay in relays.values():
                relay.heal()
            await cluster.raft.transfer_leadership(one, timeout=PATIENCE)
            before = await cluster.leader()
            for relay in relays.values():
                relay.cut()
            role = (await cluster.raft.status(far, timeout=PATIENCE)).role

        async def has_lost_patience() -> bool:
            status = await cluster.status(far)
            return status is not None and (
                status.role is Role.PRE_CANDIDATE if careful else status.term >= before.term + 3
            )

        await eventually(has_lost_patience, "the server that is cut off wants to be elected")
        await cluster.put(b"x", b"1")
        for relay in relays.values():
            relay.heal()

        async def is_back() -> bool:
            status = await cluster.status(far)
            leader = await cluster.leader()
            return status is not None and status.last_applied == leader.last_applied

        await eventually(is_back, "it has caught up")
        after = await cluster.leader()
        assert ((after.server, after.term) == (before.server, before.term)) == careful
        for relay in relays.values():
            relay.close()


# --- Reads -----------------------------------------------------------------------------------


async def test_reads_through_any_server_miss_no_write_while_the_leader_dies(
    cluster: RealCluster,
) -> None:
    written = 0
    reads = Counter[ServerId]()

    async def write() -> None:
        nonlocal written
        while True:
            await cluster.put(b"x", b"%08d" % (written + 1))
            written += 1

    async def read_at(server: ServerId) -> None:
        while True:
            floor = written
            with suppress(NotLeaderError, UnreachableError):
                value = await value_at(cluster, server, Consistency.LINEARIZABLE)
                assert int(value or b"0") >= floor, f"server {server} missed a write"
                reads[server] += 1
            await asyncio.sleep(0)

    async def more_reads(servers: list[ServerId]) -> None:
        goal = {server: reads[server] + 20 for server in servers}

        async def enough() -> bool:
            return all(reads[server] >= count for server, count in goal.items())

        await eventually(enough, f"each of {servers} answers reads")

    leader = (await cluster.leader()).server
    users = [asyncio.create_task(read_at(server)) for server in cluster.founders]
    users.append(asyncio.create_task(write()))
    await more_reads(list(cluster.founders))
    await cluster.kill(leader)
    await more_reads(others(cluster, leader))
    await cluster.start(leader)
    await more_reads(list(cluster.founders))
    for user in users:
        user.cancel()
    for result in await asyncio.gather(*users, return_exceptions=True):
        assert isinstance(result, asyncio.CancelledError), repr(result)


async def follows(cluster: RealCluster, server: ServerId, leader: ServerId) -> Status | None:
    status = await cluster.status(server)
    return status if status is not None and status.leader == leader else None


async def test_a_lease_is_the_leaders_and_stale_is_anybodys(cluster: RealCluster) -> None:
    await cluster.put(b"x", b"1")
    leader = (await cluster.leader()).server
    follower = others(cluster, leader)[0]
    await eventually(lambda: follows(cluster, follower, leader), "a follower that knows its leader")
    assert await value_at(cluster, leader, Consistency.LEASE) == b"1"
    with pytest.raises(NotLeaderError) as refused:
        await value_at(cluster, follower, Consistency.LEASE)
    assert refused.value.leader == leader
    assert (await cluster.command("get", "x", "--lease")).out == b"1"
    for server in others(cluster, follower):
        await cluster.kill(server)
    assert await value_at(cluster, follower, Consistency.STALE) == b"1"
    assert (await cluster.command("get", "x", "--stale")).out == b"1"
    with pytest.raises(RaftError):
        await value_at(cluster, follower, Consistency.LINEARIZABLE)
