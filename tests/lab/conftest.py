"""Real laboratories for tests: started on demand, watched all the time, closed at the end."""

import asyncio

import psutil
import pytest
import pytest_asyncio

from raftviz.lab.api import LabClient, LabOptions
from raftviz.model.view import ClusterView

PATIENCE = 30.0
"""Real seconds after which a condition that does not come true fails a test."""


class WatchedLab:
    """A laboratory, and the fold of all that it told."""

    def __init__(self, client):
        self.client = client
        self.view = ClusterView()
        self.events = []
        self.ended = False
        self._news = asyncio.Event()
        self._pump = asyncio.ensure_future(self._fold())

    async def _fold(self):
        while events := await self.client.next_events():
            for event in events:
                self.view.apply(event)
            self.events += events
            self._news.set()
        self.ended = True
        self._news.set()

    @property
    def process(self):
        return psutil.Process(self.client._process.process.pid)

    async def ask(self, text):
        """Give a command and return its answer once all that it caused is folded."""
        async with asyncio.timeout(PATIENCE):
            answer = await self.client.command(text)
        await self.until(lambda view: view.sequence >= answer.sequence)
        return answer

    async def do(self, text):
        answer = await self.ask(text)
        assert answer.ok, f"{text}: {answer.text}"
        return answer.text

    async def refused(self, text):
        """Give a command that must be refused and change nothing; return the reason."""
        before = self.view.servers, self.view.links
        answer = await self.ask(text)
        assert not answer.ok, f"{text}: {answer.text}"
        assert (self.view.servers, self.view.links) == before
        return answer.text

    async def until(self, condition):
        """Wait until something holds of the view."""
        async with asyncio.timeout(PATIENCE):
            while not condition(self.view):
                assert not self.ended, "the laboratory ended"
                self._news.clear()
                await self._news.wait()

    async def until_ended(self):
        """Wait until the laboratory has ended by itself."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(self._pump)

    async def leader(self, among=None):
        """Wait until somebody leads and a majority of the live servers follow; return who."""
        await self.until(lambda view: _settled(view, among))
        return self.view.leader

    def told(self, kind):
        """Return all that was told of one kind, in order."""
        return [event.what for event in self.events if isinstance(event.what, kind)]

    async def close(self):
        await self.client.close()
        await self._pump


def _settled(view, among):
    leader = view.leader
    if leader is None or (among is not None and leader not in among):
        return False
    term = view.servers[leader].term
    live = [server for server in view.servers.values() if server.alive and not server.paused]
    return sum(s.leader == leader and s.term == term for s in live) > len(view.servers) // 2


@pytest.fixture
async def start_lab():
    """Return a function that starts a watched laboratory; all are closed at the end."""
    labs = []

    async def start(**options):
        lab = WatchedLab(await LabClient.spawn(LabOptions(**options)))
        labs.append(lab)
        return lab

    yield start
    for lab in labs:
        await lab.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_lab():
    """A laboratory of three for all tests of a module; they use it through ``orderly``."""
    lab = WatchedLab(await LabClient.spawn(LabOptions(seed=1, servers=3)))
    yield lab
    await lab.close()


@pytest_asyncio.fixture(loop_scope="module")
async def orderly(shared_lab):
    """The module's laboratory with everything in order again, and nothing told yet.

    A test that uses it runs in the module's loop: ``pytest.mark.asyncio(loop_scope="module")``.
    """
    lab = shared_lab
    await lab.until(lambda view: view.servers)
    for server in list(lab.view.servers.values()):
        if server.paused:
            await lab.do(f"resume {server.id}")
        if not server.alive:
            await lab.do(f"restart {server.id}")
    if lab.view.broken:
        await lab.do("mend")
    for command in ("rate 1", "delay 10ms", "heal all", "disk all ok", "clock all ok"):
        await lab.do(command)
    await lab.leader()
    lab.events.clear()
    return lab
