"""Servers that tell nothing, nonsense, or too much: reported, and the others are heard."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest

from raft.clock import VirtualClock
from raft.core.events import TermChanged
from raft.core.messages import Term
from raft.frames import (
    Barrier,
    BarrierReached,
    ClientReply,
    NotLeader,
    Observation,
    SetClock,
    SetDisk,
)
from raft.transport import Identity
from raftviz.lab import collector
from raftviz.lab.cluster import Cluster
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.collector import Observer
from raftviz.lab.fabric import Fabric
from raftviz.lab.machine import ServerClock
from raftviz.lab.stream import Stream
from raftviz.model.events import LabStarted, Warned
from tests.raft.scripted import CLUSTER, ONE, SECRET, Scripted, silent
from tests.raftviz.fake_lab import server_state, spawned


class Rogue(Scripted):
    """A server that tells its observers what a test lets it tell."""

    def __init__(self, *frames, answers=False):
        super().__init__(ONE, silent)
        self.frames = frames
        self.answers = answers

    def observer_attached(self, connection):
        self.connections.add(connection)
        for frame in self.frames:
            connection.send(frame)

    def control(self, connection, control):
        if self.answers and isinstance(control, Barrier):
            connection.send(Observation(0.0, time.monotonic(), BarrierReached(control.token, 7)))


def told(event, age=0.0):
    return Observation(0.0, time.monotonic() - age, event)


STATE = told(server_state(1))


@pytest.fixture
async def observing():
    """Return a function that observes a rogue server; it gives the observer and all warnings."""
    rogues = []

    async def observe(rogue):
        rogues.append(rogue)
        address = await rogue.start()
        stream = Stream(VirtualClock())
        stream.tell(LabStarted("test", (ONE,), 0.15, 0.3, 0.05, 1))
        stream.tell(spawned(1))
        warnings = []
        stream.listener = lambda event: warnings.extend(
            [event.what.text] if isinstance(event.what, Warned) else []
        )
        observer = Observer(ONE, stream, ServerClock())
        identity = Identity(CLUSTER, None, SECRET)
        async with asyncio.timeout(20):
            await observer.attach(address, identity, SetClock(0.0, 0.0, 1.0))
        return observer, stream, warnings

    yield observe
    for rogue in rogues:
        rogue.stop()


async def test_a_server_that_never_tells_its_state_is_given_up(observing, monkeypatch):
    monkeypatch.setattr(collector, "STATE_SECONDS", 0.05)
    with pytest.raises(TimeoutError, match="no word of its state"):
        await observing(Rogue())


async def test_what_no_server_may_send_ends_the_connection_with_the_reason(observing):
    rogue = Rogue(STATE)
    observer, _, _ = await observing(rogue)
    (connection,) = rogue.connections
    connection.send(ClientReply(1, NotLeader(None)))
    async with asyncio.timeout(20):
        await observer.closed.wait()
    assert observer.reason == "a server may not send ClientReply here"


async def test_a_server_that_does_not_answer_is_silent_until_it_does(observing):
    rogue = Rogue(STATE)
    observer, _, _ = await observing(rogue)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await observer.barrier(0)
    assert observer.silent
    rogue.answers = True
    async with asyncio.timeout(20):
        assert await observer.barrier(0) == 7
    assert not observer.silent


async def test_a_server_that_tells_more_than_can_be_heard_is_reported_once(observing):
    late = [told(TermChanged(Term(term)), age=5.0) for term in range(1, 4)]
    _, stream, warnings = await observing(Rogue(STATE, *late, told(TermChanged(Term(4)))))
    async with asyncio.timeout(20):
        while stream.view.term < 4:
            await asyncio.sleep(0)
    (warning,) = warnings
    assert re.fullmatch(r"S1 tells more than can be heard: \d+ s wait unheard", warning)


@asynccontextmanager
async def a_cluster_of(rogue):
    """Yield a cluster with this one server, its network, and what it warned of."""
    over, warnings = asyncio.Event(), asyncio.Queue()

    async def ended():
        await over.wait()
        return "exit status 0"

    async def started(*how):
        return SimpleNamespace(
            server=ONE, pid=77, address=address, paused=False, killed=True, ended=ended
        )

    address = await rogue.start()
    fabric = create_autospec(Fabric, instance=True, ports={ONE: address})
    stream = Stream(VirtualClock())
    stream.tell(LabStarted("test", (ONE,), 0.15, 0.3, 0.05, 1))
    stream.listener = lambda event: (
        warnings.put_nowait(event.what.text) if isinstance(event.what, Warned) else None
    )
    clock, identity = ClusterTime(VirtualClock()), Identity(CLUSTER, None, SECRET)
    supervisor = SimpleNamespace(start=started)
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        try:
            yield Cluster(supervisor, fabric, stream, clock, identity, tasks), fabric, warnings
        finally:
            rogue.stop()
            for connection in rogue.connections:
                connection.close("it ends")
            over.set()


async def test_a_server_is_told_of_its_disk_and_its_clock_before_anybody_reaches_it():
    told_to_it, up = [], []

    class Restarted(Rogue):
        def control(self, connection, control):
            told_to_it.append(type(control))
            if len(told_to_it) == 2:
                connection.send(STATE)

    async with a_cluster_of(Restarted()) as (cluster, fabric, _):
        fabric.server_up = lambda server, address: up.extend(told_to_it)
        await cluster.start_all([ONE])
    assert up == [SetDisk, SetClock]


async def test_a_server_that_does_nothing_is_reported_while_time_runs(monkeypatch):
    monkeypatch.setattr("raftviz.lab.cluster.ANSWER_SECONDS", 0.01)
    async with a_cluster_of(Rogue(STATE)) as (cluster, _, warnings):
        await cluster.start_all([ONE])
        while await warnings.get() != "S1 tells nothing and answers nothing: its process 77 hangs":
            pass
        assert cluster.silent() == [ONE]
