"""The network between the servers of a lab (design §3).

Every server dials its peers through the fabric: one listening port per destination, and the
caller's Preamble names the source. Connections are real and stay up; what the fabric rules
over is whole *messages*. It reads each one, keeps it for the link's delay, and hands the very
same bytes to the destination, or loses it. Bytes cannot be lost from a TCP stream without
breaking it; a message can, and that is the loss that Raft is made for (§5.1).

::

    S1 ──▶ port of S2 ─┐ Passage 1→2 ┌──▶ S2's own port
    S3 ──▶ port of S2 ─┘ Passage 3→2 └──▶ S2's own port (a connection of its own)
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from raft.clock import VirtualClock
from raft.core.messages import Message, ServerId
from raftviz.lab.passage import Passage
from raftviz.model.events import (
    DropReason,
    Happening,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageSent,
    Warned,
)

MAX_PASSAGES = 256
"""Connections open at once; servers need two for each link while a server restarts."""

LinkId = tuple[ServerId, ServerId]
"""Source and destination: each direction is a link of its own."""


@dataclass(slots=True)
class Link:
    """The rules of one direction. ``last_due`` keeps its messages in the order they were sent."""

    cut: bool
    delay: float
    last_due: float = 0.0


@dataclass(frozen=True, slots=True, order=True)
class Flight:
    """A message between two servers, due at ``due`` (virtual seconds).

    Flights due at the same moment go by source and destination, not by when the fabric
    happened to read them: frozen time stepped twice from one seed takes the same course.
    """

    due: float
    src: ServerId
    dst: ServerId
    message_id: int
    message: Message = field(compare=False)
    raw: bytes = field(compare=False)
    passage: Passage = field(compare=False)


class Fabric:
    """All links of a lab, the messages on them, and the one timer that delivers these."""

    def __init__(
        self,
        servers: Iterable[ServerId],
        delay: float,
        clock: VirtualClock,
        tell: Callable[[Happening], None],
    ) -> None:
        self.servers = tuple(servers)
        self.links: dict[LinkId, Link] = {
            (src, dst): Link(False, delay) for src, dst in itertools.permutations(self.servers, 2)
        }
        self.ports: dict[ServerId, str] = {}
        self.received: dict[ServerId, int] = dict.fromkeys(self.servers, 0)
        """Messages of each server's present process that are in the stream."""
        self.delivered: dict[ServerId, int] = dict.fromkeys(self.servers, 0)
        """Messages handed to each server's present process."""
        self._clock = clock
        self._tell = tell
        self._addresses: dict[ServerId, asyncio.Future[str | None]] = {}
        self._listeners: list[asyncio.Server] = []
        self._passages: set[Passage] = set()
        self._flights: dict[int, Flight] = {}
        self._queue: list[Flight] = []
        self._ids = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._linked = asyncio.Event()

    # --- Ports and servers -------------------------------------------------------------------

    async def open(self) -> None:
        """Listen for every destination on a loopback port of its own (``ports``)."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            listener = await loop.create_server(partial(Passage, self, server), "127.0.0.1", 0)
            self._listeners.append(listener)
            host, port = listener.sockets[0].getsockname()
            self.ports[server] = f"{host}:{port}"

    def close(self) -> None:
        """Stop listening, close every connection, forget what is in flight."""
        self._disarm()
        self._flights.clear()
        for listener in self._listeners:
            listener.close()
        for passage in list(self._passages):
            passage.abort()

    def server_starting(self, server: ServerId) -> None:
        """Let callers of this server wait: in a moment it is there.

        It calls its peers before it is known where it listens, and they call back at once.
        """
        self._addresses[server] = asyncio.get_running_loop().create_future()

    def server_up(self, server: ServerId, address: str) -> None:
        """Lead this server's callers to its new process, and count anew."""
        self._addresses[server].set_result(address)
        self.received[server] = self.delivered[server] = 0

    def server_down(self, server: ServerId) -> None:
        """Send callers of this server away; connections to it break by themselves."""
        address = self._addresses.pop(server)
        if not address.done():
            address.set_result(None)

    async def all_linked(self, servers: Iterable[ServerId]) -> None:
        """Wait until there is a connection on every link between these servers."""
        wanted = set(itertools.permutations(servers, 2))
        while wanted - {(p.src, p.dst) for p in self._passages if p.is_linked}:
            self._linked.clear()
            await self._linked.wait()

    # --- The rules of links ------------------------------------------------------------------

    def rule(self, link: LinkId, *, cut: bool | None = None, delay: float | None = None) -> bool:
        """Change the rules of a link and return whether that changed anything.

        A cut loses the messages that are on the link at that moment; a shorter delay is theirs
        too, from that moment on.
        """
        rules = self.links[link]
        before = (rules.cut, rules.delay)
        rules.cut = rules.cut if cut is None else cut
        rules.delay = rules.delay if delay is None else delay
        if (rules.cut, rules.delay) == before:
            return False
        self._tell(LinkChanged(*link, rules.cut, rules.delay))
        if rules.cut:
            self._lose(
                (f for f in self._flights.values() if (f.src, f.dst) == link), DropReason.LINK_CUT
            )
        self._hasten(link, self._clock.now() + rules.delay)
        return True

    def _hasten(self, link: LinkId, latest: float) -> None:
        """Let what is on a link arrive at ``latest``; it stays in order, by the messages' ids."""
        rules = self.links[link]
        rules.last_due = min(rules.last_due, latest)
        for flight in list(self._flights.values()):
            if (flight.src, flight.dst) == link and flight.due > latest:
                sooner = replace(flight, due=latest)
                self._flights[flight.message_id] = sooner
                heapq.heappush(self._queue, sooner)
        self._arm()

    # --- Messages ----------------------------------------------------------------------------

    def next_due(self) -> Flight | None:
        """Return the message that arrives next, None if none is in flight."""
        while self._queue and self._flights.get(self._queue[0].message_id) is not self._queue[0]:
            heapq.heappop(self._queue)  # it is lost, or due sooner
        return self._queue[0] if self._queue else None

    def deliver(self, flight: Flight) -> bool:
        """Hand a message to its destination now, whatever the clock says; False: it is lost."""
        del self._flights[flight.message_id]
        arrived = flight.passage.deliver(flight.raw)
        if arrived:
            self.delivered[flight.dst] += 1
            self._tell(MessageDelivered(flight.message_id))
        else:
            self._tell(MessageDropped(flight.message_id, DropReason.SERVER_DOWN))
        return arrived

    def clock_changed(self) -> None:
        """Take note that the clock runs otherwise from here on."""
        self._arm()

    def _lose(self, flights: Iterable[Flight], reason: DropReason) -> None:
        for flight in list(flights):
            del self._flights[flight.message_id]
            flight.passage.forget(flight.raw)
            self._tell(MessageDropped(flight.message_id, reason))

    def _arm(self) -> None:
        self._disarm()
        flight = self.next_due()
        delay = None if flight is None else self._clock.real_delay(flight.due)
        if delay is not None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._deliver_due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _deliver_due(self) -> None:
        now = self._clock.now()
        while (flight := self.next_due()) is not None and flight.due <= now:
            self.deliver(flight)
        self._arm()

    # --- What passages ask and report --------------------------------------------------------

    def admit(self, passage: Passage) -> bool:
        """Take in a connection, unless there are too many."""
        if len(self._passages) >= MAX_PASSAGES:
            self.warn(f"the port of S{passage.dst} has too many connections; one was closed")
            return False
        self._passages.add(passage)
        return True

    async def address(self, server: ServerId) -> str | None:
        """Return where the server's process listens, None if it has none."""
        address = self._addresses.get(server)
        return None if address is None else await asyncio.shield(address)

    def linked(self) -> None:
        """Note that a passage has finished its handshake."""
        self._linked.set()

    def carry(self, passage: Passage, message: Message, raw: bytes) -> None:
        """Take a message from its sender, and deliver or lose it by the rules of its link.

        A server tells of what made it send a message before it sends it, on another connection.
        Whatever it told can be read at the latest when the message can, that is in this
        iteration of the loop: in the next one the cause is in the stream, and the message
        may follow.
        """
        asyncio.get_running_loop().call_soon(self._launch, passage, message, raw)

    def _launch(self, passage: Passage, message: Message, raw: bytes) -> None:
        src, dst = message.src, message.dst
        link = self.links[src, dst]
        now = self._clock.now()
        due = max(now + link.delay, link.last_due)
        flight = Flight(due, src, dst, next(self._ids), message, raw, passage)
        self.received[src] += 1
        self._flights[flight.message_id] = flight
        self._tell(MessageSent(flight.message_id, message, due))
        if link.cut:
            self._lose([flight], DropReason.LINK_CUT)
            return
        link.last_due = due
        heapq.heappush(self._queue, flight)
        if self._queue[0] is flight:
            self._arm()

    def broken(self, passage: Passage) -> None:
        """Lose what was on a passage whose destination is gone."""
        self._lose(
            (f for f in self._flights.values() if f.passage is passage), DropReason.SERVER_DOWN
        )

    def closed(self, passage: Passage) -> None:
        """Forget a passage: both its ends are gone."""
        self._passages.discard(passage)

    def warn(self, text: str) -> None:
        """Say that something foreign or wrong reached a port."""
        self._tell(Warned(text))
