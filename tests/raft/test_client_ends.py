"""Every request ends: with an answer, a typed error, or an unknown outcome, whatever servers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from raft import AddVoter, Raft
from raft.core.events import LeaderChanged
from raft.core.messages import ServerId, Term
from raft.errors import DeclinedError, NotInTimeError, OutcomeUnknownError, RaftError
from raft.frames import NotLeader, Observation, OutcomeUnknown, Result, SnapshotTaken
from raft.watching import Event
from tests.raft.cluster import free_addresses
from tests.raft.scripted import (
    CLUSTER,
    ONE,
    SECRET,
    TWO,
    Scripted,
    cluster,
    hangs_up,
    says,
    silent,
    until,
)

TIME = 0.08

CALLS: dict[str, Callable[[Raft], Awaitable[object]]] = {
    "propose": lambda raft: raft.propose(b"c", TIME),
    "propose to one": lambda raft: raft.propose(b"c", TIME, ONE),
    "read": lambda raft: raft.read(b"q", TIME),
    "read from one": lambda raft: raft.read(b"q", TIME, ONE),
    "members": lambda raft: raft.members(TIME),
    "change_membership": lambda raft: raft.change_membership([AddVoter(TWO)], TIME),
    "add": lambda raft: raft.add(TWO, "127.0.0.1:1", TIME),
    "add_learner": lambda raft: raft.add_learner(TWO, "127.0.0.1:1", TIME),
    "promote": lambda raft: raft.promote(TWO, TIME),
    "demote": lambda raft: raft.demote(ONE, TIME),
    "remove": lambda raft: raft.remove(ONE, TIME),
    "transfer_leadership": lambda raft: raft.transfer_leadership(TWO, TIME),
    "snapshot": lambda raft: raft.snapshot(None, TIME),
    "snapshot of one": lambda raft: raft.snapshot(ONE, TIME),
    "status": lambda raft: raft.status(None, TIME),
    "status of one": lambda raft: raft.status(ONE, TIME),
    "wait": lambda raft: raft.wait(lambda status: False, TIME),
    "wait for one": lambda raft: raft.wait(lambda status: False, TIME, ONE),
    "forget_leader": lambda raft: raft.forget_leader(ONE, TIME),
}
SERVERS = {
    "silent": silent,
    "hanging up": hangs_up,
    "without a leader": says(NotLeader(None)),
    "unsure": says(OutcomeUnknown("another leader")),
    "beside the point": says(SnapshotTaken(7)),  # type: ignore[arg-type]
    "without sense": says(Result(b"?")),
}


@asynccontextmanager
async def nobody() -> AsyncIterator[Raft]:
    (nowhere,) = free_addresses(1)
    async with Raft({ONE: nowhere}, CLUSTER, SECRET) as raft:
        yield raft


@pytest.mark.parametrize("servers", SERVERS)
@pytest.mark.parametrize("call", CALLS)
async def test_no_request_hangs_on_what_servers_do(call: str, servers: str) -> None:
    answers_this = (call, servers) in {
        *(("snapshot of one", "beside the point"), ("read", "without sense")),
        *(("read from one", "without sense"), ("propose to one", "without sense")),
    }
    async with cluster(Scripted(ONE, SERVERS[servers]), sessions=True) as raft:
        async with asyncio.timeout(20):
            if answers_this:
                await CALLS[call](raft)
                return
            with pytest.raises(RaftError) as failure:
                await CALLS[call](raft)
    assert failure.value.advice or isinstance(failure.value, DeclinedError)


@pytest.mark.parametrize("call", CALLS)
async def test_where_nobody_is_nothing_was_done(call: str) -> None:
    async with nobody() as raft:
        with pytest.raises(RaftError, match="nobody listens") as failure:
            async with asyncio.timeout(20):
                await CALLS[call](raft)
    assert not isinstance(failure.value, OutcomeUnknownError)
    assert isinstance(failure.value, NotInTimeError) == call.startswith("wait")


# --- Closing ----------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way(mute: str) -> None:
    one = Scripted(ONE, silent)
    async with cluster(one) as raft:
        command = asyncio.create_task(raft.propose(b"c", timeout=None))
        query = asyncio.create_task(raft.read(b"q", timeout=None))
        other = Raft({ONE: mute}, CLUSTER, SECRET, sessions=False)
        connecting = asyncio.create_task(other.propose(b"c", timeout=None))
        await until(lambda: len(one.requests) == 2)
        raft.close()
        other.close()
        with pytest.raises(OutcomeUnknownError):
            await command
        with pytest.raises(RaftError, match="the client is closed"):
            await query
        with pytest.raises(RaftError, match="the client is closed"):
            await connecting


async def test_closing_ends_what_waits_on_a_connection_that_was_given_up(impatient: None) -> None:
    one, two = Scripted(ONE, silent), Scripted(TWO, says(Result(b"two")))
    async with cluster(one, two) as raft:
        command = asyncio.create_task(raft.propose(b"c", timeout=None))
        await asyncio.wait_for(one.asked.wait(), 5)
        assert await raft.read(b"q") == b"two"
        assert not command.done()
        raft.close()
        with pytest.raises(OutcomeUnknownError, match="the client hung up"):
            async with asyncio.timeout(5):
                await command


async def test_closing_before_the_first_step_to_connect_is_nobodys_cancellation() -> None:
    async with cluster(Scripted(ONE, silent)) as raft:
        asking = asyncio.create_task(raft.read(b"q"))
        await asyncio.sleep(0)
        raft.close()
        with pytest.raises(RaftError, match="the client is closed"):
            await asking


async def read_all(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_closing_ends_the_events() -> None:
    one, two = Scripted(ONE, silent), Scripted(TWO, silent)
    async with cluster(one, two) as raft:
        watching = [asyncio.create_task(read_all(raft.events(server))) for server in (ONE, TWO)]
        unread = raft.events(ONE)
        first = asyncio.create_task(anext(unread))
        await until(lambda: len(one.observers) == 2 and len(two.observers) == 1)
        for observer in one.observers:
            observer.send(Observation(0.0, 0.0, LeaderChanged(Term(2), None)))
        assert await first == LeaderChanged(Term(2), None)
        raft.close()
        ended = await asyncio.wait_for(asyncio.gather(*watching), 5)
        assert ended == [[LeaderChanged(Term(2), None)], []]
        await until(lambda: not one.observers | two.observers)
        assert await read_all(unread) == []


@pytest.mark.parametrize("server", [None, ONE])
async def test_a_closed_client_watches_nobody(server: ServerId | None) -> None:
    one = Scripted(ONE, silent)
    async with cluster(one) as raft:
        connecting = asyncio.create_task(anext(raft.events(server)))
        await asyncio.sleep(0)
        raft.close()
        for asking in (connecting, anext(raft.events(server))):
            with pytest.raises(RaftError, match="the client is closed"):
                await asyncio.wait_for(asking, 5)
        await until(lambda: not one.observers)
