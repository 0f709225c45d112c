"""Frozen time, one due thing at a time (design §6).

A step moves the frozen clock on to the next moment at which anything is due, lets that one
thing happen, and waits until the servers have worked off what it caused. All of that is in
the stream before the step is over, and nothing else happens in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial

from raft.core.events import TimerKind
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Granted,
    Message,
    RequestVote,
    RequestVoteReply,
    ServerId,
)
from raft.frames import FireTimer
from raftviz.commands import Due
from raftviz.lab.cluster import Cluster
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.fabric import Fabric
from raftviz.lab.stream import Stream
from raftviz.lab.traffic import Flight
from raftviz.lab.who import RefusedError, names
from raftviz.model.events import Warned
from raftviz.model.link_rules import CLIENT
from raftviz.model.view import ServerView

SETTLE_SECONDS = 10.0
"""Real seconds that the servers have to work off what one step caused; a slow disk needs some."""


class Stepper:
    """Lets due things happen one by one."""

    def __init__(self, time: ClusterTime, fabric: Fabric, cluster: Cluster, stream: Stream) -> None:
        self._time = time
        self._fabric = fabric
        self._cluster = cluster
        self._stream = stream

    async def step(self, due: Due = Due.ANY, at: Collection[ServerId] | None = None) -> str:
        """Let the next due thing happen: of this sort, at these servers.

        Returns in words what it was. Raises RefusedError if nothing such is due.
        """
        _, let_happen = self._next(due, at)
        what = let_happen()
        await self.settle()
        return what

    def next_moment(self) -> float | None:
        """Return when the next thing is due (virtual seconds), None if nothing is."""
        try:
            return self._next(Due.ANY, None)[0]
        except RefusedError:
            return None

    def _next(self, due: Due, at: Collection[ServerId] | None) -> tuple[float, Callable[[], str]]:
        """Return when the next thing is due, and how to let it happen."""
        message = None if due is Due.TIMER else self._next_message(at)
        timer = None if due is Due.MESSAGE else self._next_timer(at)
        if message is not None and (timer is None or message.due <= timer.timer_deadline):
            return message.due, partial(self._deliver, message)
        if timer is not None:
            return timer.timer_deadline, partial(self._fire, timer)
        if due is Due.MESSAGE:
            raise RefusedError("no message is under way" + ("" if at is None else " there"))
        if due is Due.TIMER:
            raise RefusedError("no server there has a timer" if at else "no server has a timer")
        raise RefusedError("nothing is due: no message is under way, and no server has a timer")

    def _next_message(self, at: Collection[ServerId] | None) -> Flight | None:
        traffic = self._fabric.traffic
        return traffic.next_due() if at is None else traffic.next_due(lambda f: f.dst in at)

    def _next_timer(self, at: Collection[ServerId] | None) -> ServerView | None:
        # One that does not answer would not hear that its timer fired, and be due for ever.
        silent = self._cluster.silent()
        armed = [
            server
            for server in self._stream.view.servers.values()
            if server.alive and not server.paused and server.timer_kind is not None
            if server.id not in silent
            if at is None or server.id in at
        ]
        return min(armed, key=lambda server: (server.timer_deadline, server.id), default=None)

    def _deliver(self, flight: Flight) -> str:
        self._time.advance(flight.due)
        arrived = self._fabric.traffic.deliver(flight)
        name = name_flight(flight)
        if flight.dst == CLIENT:
            return f"{name} reached the client" if arrived else f"{name} was lost: nobody waits"
        if not arrived:
            return f"{name} was lost: S{flight.dst} does not take it"
        if self._cluster.is_paused(flight.dst):
            return f"{name} reached S{flight.dst}, which will read it when it is resumed"
        return f"{name} reached S{flight.dst}"

    def _fire(self, server: ServerView) -> str:
        self._time.advance(server.timer_deadline)
        return self.fire(server)

    def fire(self, server: ServerView) -> str:
        """Let a server's timer run out, due or not; return in words which it was."""
        self._cluster.control(server.id, FireTimer())
        kind = "heartbeat" if server.timer_kind is TimerKind.HEARTBEAT else "election"
        return f"S{server.id}'s {kind} timer fired"

    async def settle(self) -> None:
        """Wait until the servers have worked off what reached them and sent what it made them send.

        Done is when the network has every message that the servers say they sent. One that
        went down with a connection never comes; then it is enough that two looks are alike.
        """
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                seen = None
                while (now := await self._look()) != seen:
                    sent, received = seen = now
                    if all(received[server] == count for server, count in sent.items()):
                        return
        except TimeoutError:
            silent = self._cluster.silent()
            who = f"{names(silent)} did not answer" if silent else "the servers are still busy"
            self._stream.tell(Warned(f"{who} after {SETTLE_SECONDS:g} s"))

    async def _look(self) -> tuple[dict[ServerId, int], dict[ServerId, int]]:
        sent = await self._cluster.digest()
        return sent, dict(self._fabric.received)


def name_flight(flight: Flight) -> str:
    """Return what is in flight, by its sender: ``S2's heartbeat``."""
    if flight.message is not None:
        return name_message(flight.message)
    owner = "the client's" if flight.src == CLIENT else f"S{flight.src}'s"
    return f"{owner} {flight.kind}"


def name_message(message: Message) -> str:
    """Return what a message is, by its sender: ``S2's heartbeat``."""
    return f"S{message.src}'s {_name(message)}"


def _name(message: Message) -> str:
    match message:
        case RequestVote():
            return "request for a vote"
        case RequestVoteReply():
            return "vote" if isinstance(message.outcome, Granted) else "refusal of a vote"
        case AppendEntries(entries=()):
            return "heartbeat"
        case AppendEntries(entries=entries):
            count = len(entries)
            return f"AppendEntries with {count} {'entry' if count == 1 else 'entries'}"
        case AppendEntriesReply():
            accepted = isinstance(message.outcome, Appended)
            return "acknowledgement" if accepted else "refusal of entries"
    return type(message).__name__
