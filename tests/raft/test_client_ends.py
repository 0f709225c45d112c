"""Every request ends: with an answer, a typed error, or an unknown outcome, whatever servers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from raft import AddVoter, Raft
from raft.errors import DeclinedError, NotInTimeError, OutcomeUnknownError, RaftError
from raft.frames import NotLeader, OutcomeUnknown, Result, SnapshotTaken
from tests.raft.cluster import free_addresses
from tests.raft.scripted import CLUSTER, ONE, SECRET, TWO, Scripted, cluster, hangs_up, says, silent

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
