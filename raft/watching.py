"""What happens in a server, for the application: as it happens, and without slowing the server."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import AsyncIterator, Sequence

from raft.core.events import CoreEvent
from raft.core.messages import ServerId
from raft.errors import RaftError, UnreachableError
from raft.frames import (
    BarrierReached,
    Caller,
    Frame,
    Observation,
    ObservationsLost,
    ServerState,
)
from raft.line import unreachable
from raft.transport import Connection, HandshakeError, Identity, connect

EVENTS_KEPT = 10_000
"""So many events wait for a slow reader; beyond that the oldest are lost."""

Event = CoreEvent | ObservationsLost
"""What happened in the core of a server, or that the reader missed some of it."""


class Events(AsyncIterator[Event]):
    """What happens in one server from now on: ``async for event in events``.

    It ends when the server stops. Whoever reads too slowly loses the oldest events, and is told
    how many by an ObservationsLost in their place. To let go of it is enough to end it.
    """

    def __init__(self) -> None:
        self._waiting: deque[CoreEvent] = deque()
        self._lost = 0
        self._ended = False
        self._error: RaftError | None = None
        self._arrived = asyncio.Event()

    def push(self, events: Sequence[CoreEvent]) -> None:
        """Take in what happened."""
        self._waiting.extend(events)
        while len(self._waiting) > EVENTS_KEPT:
            self._waiting.popleft()
            self._lost += 1
        self._arrived.set()

    def miss(self, count: int) -> None:
        """Take in that so many events will never come."""
        self._lost += count
        self._arrived.set()

    def end(self, error: RaftError | None = None) -> None:
        """No more will come, for this reason; the first one counts."""
        if not self._ended:
            self._ended, self._error = True, error
            self._arrived.set()

    async def __anext__(self) -> Event:
        await self.something()
        if self._lost:
            lost, self._lost = self._lost, 0
            return ObservationsLost(lost)
        return self._waiting.popleft()

    async def something(self) -> None:
        """Wait until there is something to read. Raises StopAsyncIteration, or what ended it."""
        while not (self._lost or self._waiting):
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()

    def skip(self) -> None:
        """Forget all that can be read by now."""
        self._waiting.clear()
        self._lost = 0


class Watchers:
    """Those in its own process who watch a server, as long as they hold on to their Events."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Events] = weakref.WeakSet()

    def add(self) -> Events:
        """Return the events from now on."""
        events = Events()
        self._all.add(events)
        return events

    def publish(self, events: Sequence[CoreEvent]) -> None:
        """Tell all of them what happened."""
        if events and self._all:
            for each in self._all:
                each.push(events)

    def close(self) -> None:
        """Tell all of them that nothing more will happen."""
        for each in self._all:
            each.end()


async def observe(server: ServerId, address: str, identity: Identity) -> tuple[Connection, Events]:
    """Watch a server over the network; return the connection, to be closed at the end, too.

    Raises UnreachableError, RefusedError.
    """
    events = Events()

    def receive(frame: Frame) -> None:
        assert isinstance(frame, Observation)
        match frame.event:
            case ObservationsLost(count):
                events.miss(count)
            case ServerState() | BarrierReached():
                pass  # its state, at the beginning and after losses, is nothing that happened
            case event:
                events.push([event])

    def lost(reason: str) -> None:
        events.end(UnreachableError(server, reason))

    try:
        connection = await connect(address, identity, Caller.OBSERVER, server, receive, lost)
    except (HandshakeError, OSError) as error:
        raise unreachable(server, address, error) from None
    return connection, events
