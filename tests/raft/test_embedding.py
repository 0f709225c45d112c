"""Members: servers inside of an application, with their own state machine, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raft import (
    AddLearner,
    Certificate,
    Config,
    Consistency,
    LogStore,
    Member,
    MemoryStore,
    NotInTimeError,
    OutcomeUnknownError,
    Raft,
    RaftError,
    RejectedError,
    ServerConfig,
    ServerId,
    StateMachine,
    StateMachineError,
    Status,
    StorageError,
    UnreachableError,
    Wal,
)
from raft import server as server_module
from raft.core.events import (
    Applied,
    CommitAdvanced,
    ConfigurationChanged,
    Role,
    RoleChanged,
)
from raft.core.messages import Index
from raft.frames import ObservationsLost
from raft.machine.base import MAX_ANSWER_BYTES, MAX_COMMAND_BYTES
from raft.watching import EVENTS_KEPT, Events
from tests.raft.certificates import Certs
from tests.raft.cluster import PATIENCE, free_addresses
from tests.raft.far_away import FarAway

SECRET = b"s" * 32
ONE, TWO, THREE, FOUR = map(ServerId, (1, 2, 3, 4))


class Journal:
    """Keeps its commands, and cannot stand one of them."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def check(self, command: bytes) -> str | None:
        return "never" if command == b"never" else None

    def apply(self, index: int, command: bytes) -> bytes:
        if command == b"poison":
            raise RuntimeError("cannot stand it")
        self.commands.append(command)
        return b"%d" % len(self.commands)

    def query(self, query: bytes) -> bytes:
        return b",".join(self.commands)

    def snapshot(self) -> bytes:
        return b",".join(self.commands)

    def restore(self, snapshot: bytes) -> None:
        self.commands = snapshot.split(b",")


def alone(
    store: LogStore | None = None, machine: StateMachine | None = None, **options: object
) -> Member:
    """A cluster of one."""
    core = Config(ONE, (ONE,), **options)  # type: ignore[arg-type]
    config = ServerConfig(core, "test", SECRET, listen="127.0.0.1:0")
    return Member(config, store or MemoryStore(), machine or Journal())


@asynccontextmanager
async def members(
    size: int = 3, proof: Callable[[ServerId], bytes | Certificate] = lambda me: SECRET
) -> AsyncIterator[dict[ServerId, Member]]:
    ids = tuple(map(ServerId, range(1, size + 1)))
    addresses = tuple(zip(ids, free_addresses(size), strict=True))
    async with AsyncExitStack() as stack:
        entered = {}
        for me in ids:
            core = Config(me, ids, addresses=addresses, pre_vote=True, check_quorum=True)
            config = ServerConfig(core, "test", proof(me))
            member = Member(config, MemoryStore(), Journal())
            entered[me] = await stack.enter_async_context(member)
        yield entered


def leads(status: Status) -> bool:
    return status.role is Role.LEADER


def applied(index: int) -> Callable[[Status], bool]:
    return lambda status: status.last_applied >= index


async def leader_of(cluster: dict[ServerId, Member]) -> ServerId:
    found = await cluster[ONE].wait(lambda status: status.leader is not None, PATIENCE)
    assert found.leader is not None
    return found.leader


# --- One handle for everything ---------------------------------------------------------------


async def test_a_member_serves_and_is_a_handle_on_its_cluster() -> None:
    async with members() as cluster:
        for place, member in enumerate(cluster.values(), 1):
            assert await member.propose(b"c%d" % place, PATIENCE) == b"%d" % place
        for member in cluster.values():
            assert await member.read(b"") == b"c1,c2,c3"
            assert (await member.members()).voters == (1, 2, 3)
        leader = await leader_of(cluster)
        other = next(server for server in cluster if server != leader)
        assert await cluster[other].transfer_leadership(other, PATIENCE) == other
        assert leads(await cluster[other].wait(leads, PATIENCE))
        assert await cluster[other].snapshot(leader) >= 4
        assert (await cluster[other].status(leader)).snapshot_index >= 4
        assert (await cluster[other].status()).server == other


async def test_a_cluster_grows_and_shrinks_by_members() -> None:
    async with members(1) as cluster:
        raft = cluster[ONE]
        await raft.propose(b"first", PATIENCE)
        core = Config(FOUR, members=())
        config = ServerConfig(core, "test", SECRET, listen="127.0.0.1:0")
        async with Member(config, MemoryStore(), Journal()) as new:
            added = await raft.add(FOUR, new.address, PATIENCE)
            assert added.voters == (1, 4)
            assert await new.propose(b"second", PATIENCE) == b"2", "it found the leader"
            await new.wait(applied((await raft.status()).last_applied), PATIENCE)
            assert await new.status() == await raft.status(FOUR)
            demoted = await new.demote(FOUR, PATIENCE)
            assert (demoted.voters, demoted.learners) == ((1,), (4,))
            assert (await raft.promote(FOUR, PATIENCE)).voters == (1, 4)
            assert (await new.remove(FOUR, PATIENCE)).voters == (1,)
        changed = await raft.change_membership([AddLearner(THREE, "127.0.0.1:9")])
        assert changed.learners == (3,)


async def test_the_handle_from_outside_does_the_same() -> None:
    async with alone() as member, Raft({ONE: member.address}, "test", SECRET) as raft:
        assert leads(await raft.wait(leads, PATIENCE))
        assert await raft.propose(b"x") == b"1"
        assert await raft.status() == await member.status()
        assert (await raft.wait(applied(3), PATIENCE, ONE)).last_applied == 3


async def test_members_with_certificates(tmp_path: Path) -> None:
    """A server's certificate is enough to use the cluster, and to watch its other servers."""
    certs = Certs(tmp_path)
    async with members(2, lambda me: certs.server(me)) as cluster:
        assert await cluster[TWO].propose(b"x", PATIENCE) == b"1"
        assert (await cluster[TWO].status(ONE)).server == ONE
        event = asyncio.ensure_future(anext(cluster[TWO].events(ONE)))
        while not event.done():
            await cluster[ONE].propose(b"y", PATIENCE)
        await event


# --- Commands --------------------------------------------------------------------------------


async def test_bug_49_an_empty_command_is_a_command() -> None:
    async with alone() as raft:
        assert await raft.propose(b"", PATIENCE) == b"1"
        assert await raft.propose(b"x") == b"2"
        assert await raft.read(b"") == b",x"


async def test_what_may_not_enter_the_log_is_refused_before() -> None:
    async with alone() as raft:
        assert await raft.propose(bytes(MAX_COMMAND_BYTES), PATIENCE) == b"1"
        before = (await raft.status()).last_index
        with pytest.raises(RejectedError, match="131073 bytes; at most 131072 are taken"):
            await raft.propose(bytes(MAX_COMMAND_BYTES + 1))
        with pytest.raises(RejectedError, match="never"):
            await raft.propose(b"never")
        assert (await raft.status()).last_index == before


class Echo(Journal):
    """Answers with as many bytes as it is told."""

    def apply(self, index: int, command: bytes) -> bytes:
        super().apply(index, command)
        return bytes(int(command))

    def query(self, query: bytes) -> bytes:
        return bytes(int(query)) if query else super().query(query)


@pytest.mark.parametrize("sessions", [True, False], ids=["in a session", "without"])
async def test_an_answer_that_is_too_long_ends_a_request_and_no_server(sessions: bool) -> None:
    """The next leader would end, too, when it is asked again, and the next."""
    own = int(sessions)  # a byte of the session's
    most, too_long = (str(MAX_ANSWER_BYTES + more).encode() for more in (-own, 1))
    said = f"and at most {MAX_ANSWER_BYTES} are sent"
    async with (
        alone(machine=Echo()) as member,
        Raft({ONE: member.address}, "test", SECRET, sessions=sessions) as raft,
    ):
        for consistency in (Consistency.LINEARIZABLE, Consistency.STALE):
            assert len(await raft.read(most, PATIENCE, consistency=consistency)) == int(most)
            with pytest.raises(RejectedError, match=said):
                await raft.read(too_long, PATIENCE, consistency=consistency)
        with pytest.raises(OutcomeUnknownError, match=f"was carried out, but .* {said}"):
            await raft.propose(too_long, PATIENCE)
        assert len(await raft.propose(most, PATIENCE)) == int(most)
        assert await raft.read(b"") == too_long + b"," + most, "and carried out once"


# --- A state machine that fails --------------------------------------------------------------


class Cancelled(Journal):
    """Looks at a future, say, that somebody has cancelled."""

    def apply(self, index: int, command: bytes) -> bytes:
        raise asyncio.CancelledError


async def test_a_cancellation_in_a_machine_is_a_failure_like_any_other() -> None:
    with pytest.raises(StateMachineError, match="failed on entry 3, a command of 1 bytes: Cancel"):
        async with alone(machine=Cancelled()) as raft:
            await raft.propose(b"x", PATIENCE)


async def test_a_long_refusal_is_cut() -> None:
    class Talks(Journal):
        def check(self, command: bytes) -> str:
            return "no! " * 1_000_000

    async with alone(machine=Talks()) as raft:
        with pytest.raises(RejectedError, match=r"^(no! ){250}\n"):
            await raft.propose(b"x", PATIENCE)


async def test_a_failing_state_machine_ends_the_block_and_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not skipped: a restart fails at the same entry, until the machine is repaired."""
    said = r"failed on entry 4, a command of 6 bytes: RuntimeError: cannot stand it; .* repair"

    async def program() -> None:
        async with alone(Wal(tmp_path, "test", ONE)) as raft:
            await raft.propose(b"good", PATIENCE)
            await raft.propose(b"poison", PATIENCE)
            raise AssertionError("not reached")

    with pytest.raises(StateMachineError, match=said) as failure:
        await program()
    assert isinstance(failure.value.__cause__, RuntimeError)
    assert (failure.value.index, failure.value.size) == (4, 6)
    assert caplog.record_tuples[-1] == (
        *("raft.member", logging.CRITICAL),
        f"server 1 cannot go on: {failure.value}",
    )
    with pytest.raises(StateMachineError, match=said):
        async with alone(Wal(tmp_path, "test", ONE)) as raft:
            await raft.run()

    class Repaired(Journal):
        def apply(self, index: int, command: bytes) -> bytes:
            return super().apply(index, command.replace(b"poison", b"harmless"))

    async with alone(Wal(tmp_path, "test", ONE), Repaired()) as raft:
        assert await raft.read(b"", PATIENCE) == b"good,harmless"


async def test_one_failing_machine_fails_on_every_server_in_its_turn() -> None:
    """The leader, then whoever takes over; the last one has no majority left to commit it."""
    addresses = dict(zip((ONE, TWO, THREE), free_addresses(3), strict=True))
    core = Config(ONE, tuple(addresses), addresses=tuple(addresses.items()))

    async def program(me: ServerId) -> None:
        config = ServerConfig(replace(core, server=me), "test", SECRET)
        async with Member(config, MemoryStore(), Journal()) as raft:
            await raft.run()

    running = {asyncio.create_task(program(me)) for me in addresses}
    async with Raft(addresses, "test", SECRET) as raft:
        proposing = asyncio.create_task(raft.propose(b"poison", PATIENCE))
        failed, others = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if len(failed) == 1:
            failed |= (await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED))[0]
    with pytest.raises(OutcomeUnknownError):
        await proposing
    failures = [task.exception() for task in failed]
    assert {type(failure) for failure in failures} == {StateMachineError}
    assert {failure.index for failure in failures} == {3}  # type: ignore[union-attr]
    for task in running - failed:
        task.cancel()
    await asyncio.wait(running)


async def test_a_query_that_fails_is_fatal_too() -> None:
    class Fragile(Journal):
        def query(self, query: bytes) -> bytes:
            raise KeyError(query)

    with pytest.raises(StateMachineError, match="failed on a query of 3 bytes: KeyError: b'abc'"):
        async with alone(machine=Fragile()) as raft:
            await raft.read(b"abc", PATIENCE)


async def test_a_snapshot_that_cannot_be_restored_ends_it_before_it_begins(tmp_path: Path) -> None:
    async with alone(Wal(tmp_path, "test", ONE)) as raft:
        await raft.propose(b"good", PATIENCE)
        await raft.snapshot(ONE)

    class Newer(Journal):
        def restore(self, snapshot: bytes) -> None:
            raise ValueError("version 1")

    with pytest.raises(StateMachineError, match="restore a snapshot of 4 bytes: ValueError: vers"):
        alone(Wal(tmp_path, "test", ONE), Newer())
    async with alone(Wal(tmp_path, "test", ONE)) as raft:  # its directory was given back
        assert await raft.read(b"", PATIENCE) == b"good"


async def test_a_snapshot_that_fails_when_the_server_has_stopped_troubles_nobody() -> None:
    begun, stopped = threading.Event(), threading.Event()

    class Late(Journal):
        def snapshot(self) -> bytes:
            begun.set()
            stopped.wait(PATIENCE)
            raise OSError("too late")

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: reported.append(what))
    async with alone(machine=Late()) as raft:
        await raft.propose(b"x", PATIENCE)
        asking = asyncio.create_task(raft.snapshot(ONE, PATIENCE))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        taking = raft._server._applier._taking
    assert taking is not None
    stopped.set()
    with pytest.raises(RaftError):
        await asking
    await asyncio.wait([taking])
    del taking, asking, raft
    gc.collect()
    assert reported == []


# --- The end of a block ----------------------------------------------------------------------


async def test_a_leader_that_leaves_hands_its_leadership_over() -> None:
    """Of two servers: once one has gone, the other could win no election."""
    async with members(2) as cluster:
        leader = await leader_of(cluster)
        other = ServerId(3 - leader)
        await cluster[other].wait(lambda status: status.commit_index > 0, PATIENCE)
        events = cluster[other].events()
        await cluster[leader].__aexit__(None, None, None)
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await anext(events)
                if isinstance(event, RoleChanged) and event.role is Role.LEADER:
                    break
        with pytest.raises(UnreachableError, match="it has stopped"):
            await cluster[leader].status()


async def test_what_the_block_raises_is_raised() -> None:
    with pytest.raises(KeyError):
        async with alone():
            raise KeyError("x")


async def test_a_cancelled_block_ends_as_one_that_is_over() -> None:
    entered = asyncio.Event()

    async def program() -> None:
        async with alone() as raft:
            entered.set()
            await raft.run()

    running = asyncio.create_task(program())
    await entered.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_server_that_cannot_go_on_cancels_the_block_and_no_more() -> None:
    class Full(MemoryStore):
        closed = False

        def save(self, *what: object) -> None:
            raise StorageError("no space left")

        def close(self) -> None:
            self.closed = True

    store, me = Full(), asyncio.current_task()
    assert me is not None
    async with asyncio.timeout(PATIENCE) as limit:
        with pytest.raises(StorageError, match="no space left"):
            async with alone(store):
                await asyncio.Event().wait()
        assert store.closed
        assert me.cancelling() == 0, "what the application does next is not cancelled"
    assert not limit.expired()


async def test_an_address_that_is_taken_is_an_error_and_the_store_is_closed(tmp_path: Path) -> None:
    async with alone() as first:
        config = ServerConfig(Config(TWO, (TWO,)), "test", SECRET, listen=first.address)
        with pytest.raises(OSError, match="in use"):
            await Member(config, Wal(tmp_path, "test", TWO), Journal()).__aenter__()
    Wal(tmp_path, "test", TWO).close()


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_beginning_that_is_cancelled_gives_the_port_back(turns: int) -> None:
    (address,) = free_addresses(1)
    config = ServerConfig(Config(ONE, (ONE,)), "test", SECRET, listen=address)
    member = Member(config, MemoryStore(), Journal())
    beginning = asyncio.create_task(member.__aenter__())
    for _ in range(turns):
        await asyncio.sleep(0)
    beginning.cancel()
    try:
        await beginning
    except asyncio.CancelledError:
        pass
    else:
        await member.__aexit__(None, None, None)
    async with Member(config, MemoryStore(), Journal()) as again:
        assert again.address == address


async def test_a_member_serves_in_its_block_and_in_no_other() -> None:
    member = alone()
    for ask in (member.status, member.run, lambda: member.wait(leads)):
        with pytest.raises(UnreachableError, match="serves from the beginning of its block on"):
            await ask()
    async with member:
        with pytest.raises(RaftError, match="server 1 has its block: make a new Member"):
            await member.__aenter__()
        await member.propose(b"it goes on")
    with pytest.raises(RaftError, match="server 1 has its block: make a new Member"):
        await member.__aenter__()


def test_a_member_must_know_where_to_listen() -> None:
    with pytest.raises(ValueError, match=r"where does server 1 listen\?"):
        ServerConfig(Config(ONE, (ONE,)), "test", SECRET)


# --- Events and waiting ----------------------------------------------------------------------


async def test_events_tell_what_happens_from_the_call_on() -> None:
    async with alone() as raft:
        events = raft.events()
        await raft.propose(b"x", PATIENCE)
        seen = []
        async with asyncio.timeout(PATIENCE):
            async for event in events:
                seen.append(event)
                if event == Applied(Index(3)):
                    break
        kinds = [type(event) for event in seen]
        assert kinds.index(RoleChanged) < kinds.index(CommitAdvanced) < kinds.index(Applied)
        assert RoleChanged(Role.LEADER, seen[0].term, 3) in seen  # type: ignore[union-attr]


async def test_events_end_with_the_server() -> None:
    async with alone() as raft:
        events = raft.events()
        await raft.wait(leads, PATIENCE)
    assert [event async for event in events]
    assert [event async for event in events] == []


async def test_events_of_another_server_over_the_network() -> None:
    async with alone() as member:
        await member.propose(b"x", PATIENCE)
        async with Raft({ONE: member.address}, "test", SECRET) as raft:
            events = raft.events()
            first = asyncio.ensure_future(anext(events))
            while not first.done():
                await raft.propose(b"y")
            kinds = {type(await first)}
            await raft.change_membership([AddLearner(TWO, "127.0.0.1:9")])
            async with asyncio.timeout(PATIENCE):
                while ConfigurationChanged not in kinds:
                    kinds.add(type(await anext(events)))
            member._server.stop()
            with pytest.raises(UnreachableError, match="server 1: "):
                async for _ in events:
                    pass


async def test_a_slow_reader_of_events_is_told_what_it_missed() -> None:
    events = Events()
    events.push([CommitAdvanced(Index(n)) for n in range(EVENTS_KEPT + 5)])
    assert await anext(events) == ObservationsLost(5)
    assert await anext(events) == CommitAdvanced(Index(5))
    events.miss(7)
    assert await anext(events) == ObservationsLost(7)
    assert await anext(events) == CommitAdvanced(Index(6))


async def test_events_that_nobody_holds_are_not_kept() -> None:
    async with alone() as raft:
        events = raft.events()
        assert len(raft._server.watchers._all) == 1
        del events
        assert len(raft._server.watchers._all) == 0


async def test_waiting_in_vain_says_what_was_seen() -> None:
    async with alone() as raft, Raft({ONE: raft.address}, "test", SECRET) as outside:
        await raft.wait(leads, PATIENCE)
        for handle in (raft, outside):
            with pytest.raises(NotInTimeError, match=r"within 0.4 s; the last was: Stat") as late:
                await handle.wait(applied(1000), timeout=0.4)
            assert late.value.status is not None
            assert late.value.status.server == ONE


async def test_waiting_for_a_server_that_is_not_there_says_so() -> None:
    (nowhere,) = free_addresses(1)
    async with Raft({ONE: nowhere}, "test", SECRET) as raft:
        with pytest.raises(NotInTimeError, match="nobody listens") as late:
            await raft.wait(leads, timeout=1.0, server=ONE)
        assert late.value.status is None


async def test_waiting_ends_with_the_server() -> None:
    async with alone() as raft:
        await raft.wait(leads, PATIENCE)
        waiting = asyncio.ensure_future(raft.wait(applied(1000), None))
        await asyncio.sleep(0)
        raft._server.stop()
        with pytest.raises(UnreachableError, match="it has stopped"):
            await waiting


# --- What is logged --------------------------------------------------------------------------


async def test_who_leads_is_logged_once_a_term(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raft.server")
    async with members() as cluster:
        for member in cluster.values():
            await member.wait(lambda status: status.leader is not None, PATIENCE)
        for member in cluster.values():
            await member.propose(b"x", PATIENCE)
    lines = [record.message for record in caplog.records if record.name == "raft.server"]
    first = next(line for line in lines if line.endswith("we lead")).removesuffix("we lead")
    assert len([line for line in lines if line.startswith(first)]) <= 3, "once for each server"
    assert any("server" in line and line.endswith("leads") for line in lines)


async def test_a_network_too_slow_for_the_timeouts_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """broadcastTime ≪ electionTimeout (§5.6): answers that take 40 ms want 400."""
    monkeypatch.setattr(server_module, "RoundTrips", FarAway)
    async with members() as cluster:
        leader = await leader_of(cluster)
        async with asyncio.timeout(PATIENCE):
            while "are too short for a broadcast time of" not in caplog.text:
                await cluster[leader].propose(b"x", PATIENCE)
    warnings = {record.name for record in caplog.records if "are too short for" in record.message}
    assert warnings == {"raft.server"}
