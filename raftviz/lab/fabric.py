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
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from raft.clock import VirtualClock
from raft.core.messages import Message, ServerId
from raft.frames import ClientReply, ClientRequest
from raft.wire import decode
from raftviz.lab.link import Link
from raftviz.lab.passage import Passage
from raftviz.lab.traffic import Flight, Traffic
from raftviz.model.events import (
    DropReason,
    Happening,
    MessageDropped,
    MessageDuplicated,
    MessageHeld,
    MessageSent,
    RequestSent,
    Warned,
    link_changed,
)
from raftviz.model.link_rules import CLIENT, LinkId, LinkRules

SPARE_PASSAGES = 64
"""Connections that may be open beside two for each link: one more while a server restarts."""

PACE = frozenset(("delay", "jitter", "distribution", "bandwidth"))
"""The rules that say when messages arrive."""


class Fabric:
    """All links of a lab, and the connections beneath them.

    ``links`` has both directions between any two servers, and between each and the client.
    """

    def __init__(
        self,
        servers: Iterable[ServerId],
        delay: float,
        clock: VirtualClock,
        tell: Callable[[Happening], None],
        seed: int = 0,
    ) -> None:
        self.servers: list[ServerId] = []
        self.links: dict[LinkId, Link] = {}
        self.ports: dict[ServerId, str] = {}
        self.received: dict[ServerId, int] = {}
        """Messages of each server's present process that are in the stream."""
        self.delivered: dict[ServerId, int] = {}
        """Messages handed to each server's present process."""
        self.traffic = Traffic(clock, tell, self._arrived)
        self._clock = clock
        self._tell = tell
        self._normal = LinkRules(delay=delay)
        self._seed = seed
        self._addresses: dict[ServerId, asyncio.Future[str | None]] = {}
        self._listeners: dict[ServerId, asyncio.Server] = {}
        self._passages: set[Passage] = set()
        self._ids = itertools.count(1)
        self._linked = asyncio.Event()
        for server in servers:
            self.add(server)

    # --- Ports and servers -------------------------------------------------------------------

    def add(self, server: ServerId) -> None:
        """Let there be links between a server and all others, and the client."""
        for other in self.servers:
            self._add_links(server, other, self._normal)
        self._add_links(server, CLIENT, LinkRules())
        self.servers.append(server)
        self.received[server] = self.delivered[server] = 0

    def _add_links(self, one: ServerId, other: ServerId, normal: LinkRules) -> None:
        for src, dst in ((one, other), (other, one)):
            self.links[src, dst] = Link(normal, f"{self._seed} {src}->{dst}")

    async def open(self) -> None:
        """Listen for every destination on a loopback port of its own (``ports``)."""
        for server in self.servers:
            await self.listen(server)

    async def listen(self, server: ServerId) -> None:
        """Open the port by which callers reach a server."""
        listener = await asyncio.get_running_loop().create_server(
            partial(Passage, self, server), "127.0.0.1", 0
        )
        self._listeners[server] = listener
        host, port = listener.sockets[0].getsockname()
        self.ports[server] = f"{host}:{port}"

    async def join(self, server: ServerId) -> None:
        """Let there be one more server, with links like all others have when nothing is wrong."""
        self.add(server)
        await self.listen(server)
        for link in self.server_links:
            if server in link:
                self._tell(link_changed(*link, self.links[link].rules))

    def leave(self, server: ServerId) -> None:
        """Let a server that has no process any more be gone, with all its links."""
        self._listeners.pop(server).close()
        self.servers.remove(server)
        del self.ports[server]
        for passage in list(self._passages):
            if passage.dst == server or server == passage.src:
                passage.abort()
        for link in [link for link in self.links if server in link]:
            self.traffic.lose(self.on(link), DropReason.SERVER_DOWN)
            del self.links[link]

    def close(self) -> None:
        """Stop listening, close every connection, forget what is in flight."""
        self.traffic.close()
        for listener in self._listeners.values():
            listener.close()
        for passage in list(self._passages):
            passage.abort()

    def server_starting(self, server: ServerId) -> None:
        """Let callers of this server wait: in a moment it is there.

        It calls its peers before it is known where it listens, and they call back at once.
        """
        self._addresses[server] = asyncio.get_running_loop().create_future()

    def server_started(self, server: ServerId) -> None:
        """Count anew: this server has a new process, which has sent nothing yet."""
        self.received[server] = self.delivered[server] = 0

    def server_up(self, server: ServerId, address: str) -> None:
        """Lead this server's callers to its new process."""
        self._addresses[server].set_result(address)

    def server_down(self, server: ServerId) -> None:
        """Send callers of this server away; connections to it break by themselves."""
        address = self._addresses.pop(server)
        if not address.done():
            address.set_result(None)

    async def all_linked(self, servers: Iterable[ServerId]) -> None:
        """Wait until there is a connection on every link between these servers."""
        pairs = itertools.permutations(servers, 2)
        wanted = {link for link in pairs if not self.links[link].rules.reset}
        while wanted - {(p.src, p.dst) for p in self._passages if p.is_linked}:
            self._linked.clear()
            await self._linked.wait()

    # --- The rules of links ------------------------------------------------------------------

    @property
    def server_links(self) -> list[LinkId]:
        """The links between servers."""
        return [link for link in self.links if CLIENT not in link]

    def rule(self, link: LinkId, kind: str = "", **changes: Any) -> bool:
        """Change the rules of a link (``LinkRules``), for all messages or those of a kind.

        Returns whether that changed anything. A link that loses everything loses what is on it
        at that moment, one that stalls or holds lets it wait; a shorter delay is its own, too.
        """
        paced = not PACE.isdisjoint(changes)
        return self._apply(link, self.links[link].change(kind, **changes), paced=paced)

    def heal(self, link: LinkId, kind: str = "") -> bool:
        """Make a link normal; what waits on it goes on. Returns whether that changed anything."""
        return self._apply(link, self.links[link].heal(kind), paced=True)

    def set_normal(self, rules: LinkRules) -> None:
        """Let this be how links between servers are when nothing is wrong, and are now."""
        self._normal = rules
        for link in self.server_links:
            self.links[link].normal = rules
            self.rule(link, delay=rules.delay, jitter=rules.jitter, distribution=rules.distribution)

    def _apply(self, link: LinkId, changed: bool, *, paced: bool) -> bool:
        """Tell of changed rules and let them hold; ``paced``: the link may be faster now."""
        if changed:
            rules = self.links[link]
            self._tell(link_changed(*link, rules.rules))
            for kind, own in sorted(rules.by_kind.items()):
                self._tell(link_changed(*link, own, kind))
            self._judge_again(link)
            if paced:
                self._hasten(link)
        return changed

    def _judge_again(self, link: LinkId) -> None:
        """Let new rules hold for what is on a link already."""
        rules = self.links[link]
        if rules.rules.reset:
            self._break(link)
        for flight in self.on(link):
            own = rules.of(flight.kind)
            if own.cut:
                self.traffic.lose([flight], DropReason.LINK_CUT)
            elif own.stalled or own.held:
                self.traffic.hold(flight)
            elif flight.held and not flight.by_hand:
                self.traffic.release(flight)

    def _hasten(self, link: LinkId) -> None:
        """Let what is on a link arrive no later than what is sent now; it stays in order."""
        rules, now = self.links[link], self._clock.now()
        for flight in self.on(link):
            own = rules.of(flight.kind)
            latest = now + own.delay + own.jitter
            if not flight.held and not own.bandwidth and flight.due > latest:
                self.traffic.reschedule(flight, latest)
        if not rules.rules.bandwidth:
            rules.hasten(now + rules.rules.delay + rules.rules.jitter)

    def on(self, link: LinkId) -> list[Flight]:
        """Return the messages on a link, in the order in which they were sent."""
        return [f for f in self.traffic.flights.values() if (f.src, f.dst) == link]

    def _break(self, link: LinkId) -> None:
        """Break the connection of a link, and lose what is on it."""
        self.traffic.lose(self.on(link), DropReason.LINK_RESET)
        for passage in list(self._passages):
            if link in passage.links:
                passage.abort()

    # --- Messages ----------------------------------------------------------------------------

    def carry(self, passage: Passage, message: Message, raw: bytes) -> None:
        """Take a message from its sender, and deliver or lose it by the rules of its link.

        A server tells of what made it send a message before it sends it, on another connection.
        Whatever it told can be read at the latest when the message can, that is in this
        iteration of the loop: in the next one the cause is in the stream, and the message
        may follow.
        """
        asyncio.get_running_loop().call_soon(self._send, passage, message, raw)

    def _send(self, passage: Passage, message: Message, raw: bytes) -> None:
        kind = type(message).__name__
        link = self.links.get((message.src, message.dst))
        if link is None:  # one of the two has just left
            passage.forget(raw)
            return
        number, now = next(self._ids), self._clock.now()
        fate = link.arrivals(kind, len(raw), now)
        due = fate[0] if isinstance(fate, list) else now
        self.received[message.src] += 1
        self._tell(MessageSent(number, message, due))
        flight = Flight(due, message.src, message.dst, number, kind, message, raw, passage)
        self._launch(flight, fate)

    def relay(self, passage: Passage, raw: bytes, *, back: bool) -> None:
        """Take a client's request, or the reply to one (``back``).

        On a link without rules it takes no time, not even a frozen clock's.
        """
        src, dst = (passage.dst, CLIENT) if back else (CLIENT, passage.dst)
        link = self.links.get((src, dst))
        if link is None:  # the server has just left
            passage.forget(raw, back=back)
            return
        if link.is_normal and not self.on((src, dst)):
            passage.deliver(raw, back=back)
            passage.forget(raw, back=back)
            return
        frame = decode(raw)
        what = frame.body if isinstance(frame, ClientRequest | ClientReply) else frame
        kind = type(what).__name__
        number, now = next(self._ids), self._clock.now()
        fate = link.arrivals(kind, len(raw), now)
        due = fate[0] if isinstance(fate, list) else now
        self._tell(RequestSent(number, src, dst, kind, due))
        self._launch(Flight(due, src, dst, number, kind, None, raw, passage), fate)

    def _launch(self, flight: Flight, fate: list[float] | DropReason) -> None:
        if isinstance(fate, DropReason):
            flight.passage.forget(flight.raw, back=flight.is_back)
            self._tell(MessageDropped(flight.message_id, fate))
            return
        rules = self.links[flight.src, flight.dst].of(flight.kind)
        waits = rules.stalled or rules.held
        self.traffic.launch(replace(flight, held=waits) if waits else flight)
        if waits:
            self._tell(MessageHeld(flight.message_id))
        for due in fate[1:]:
            self._copy(flight, due)

    def duplicate(self, flight: Flight) -> int:
        """Put a message on its way once more; return the copy's number."""
        return self._copy(flight, max(flight.due, self._clock.now()))

    def _copy(self, flight: Flight, due: float) -> int:
        copy = replace(flight, due=due, message_id=next(self._ids), held=False, by_hand=False)
        flight.passage.carries_more(flight.raw, back=flight.is_back)
        self._tell(MessageDuplicated(flight.message_id, copy.message_id, due))
        self.traffic.launch(copy)
        return copy.message_id

    def _arrived(self, flight: Flight) -> None:
        if flight.dst != CLIENT and flight.src != CLIENT:
            self.delivered[flight.dst] += 1

    # --- What passages ask and report --------------------------------------------------------

    def admit(self, passage: Passage) -> bool:
        """Take in a connection, unless there are too many."""
        if len(self._passages) >= 2 * len(self.links) + SPARE_PASSAGES:
            self.warn(f"the port of S{passage.dst} has too many connections; one was closed")
            return False
        self._passages.add(passage)
        return True

    async def address(self, passage: Passage) -> str | None:
        """Return where the server's process listens, None if it cannot be reached."""
        address = self._addresses.get(passage.dst)
        found = None if address is None else await asyncio.shield(address)
        links = [self.links.get(link) for link in passage.links]
        broken = any(link is None or link.rules.reset for link in links)
        return None if broken else found

    def linked(self) -> None:
        """Note that a passage has finished its handshake."""
        self._linked.set()

    def broken(self, passage: Passage) -> None:
        """Lose what was on a passage whose destination is gone."""
        self.traffic.lose(
            (f for f in self.traffic.flights.values() if f.passage is passage),
            DropReason.SERVER_DOWN,
        )

    def closed(self, passage: Passage) -> None:
        """Forget a passage: both its ends are gone."""
        self._passages.discard(passage)

    def warn(self, text: str) -> None:
        """Say that something foreign or wrong reached a port."""
        self._tell(Warned(text))
