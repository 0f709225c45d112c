"""Frozen time, one due thing at a time (design §6).

A step moves the frozen clock on to the next moment at which anything is due, lets that one
thing happen, and waits until the servers have worked off what it caused. All of that is in
the stream before the step is over, and nothing else happens in between.
"""

from __future__ import annotations

import asyncio

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
from raftviz.lab.cluster import Cluster
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.fabric import Fabric, Flight
from raftviz.lab.stream import Stream
from raftviz.lab.who import RefusedError
from raftviz.model.events import Warned
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

    async def step(self) -> str:
        """Let the next due thing happen; return in words what it was. Raises RefusedError."""
        message = self._fabric.next_due()
        timer = self._next_timer()
        if message is not None and (timer is None or message.due <= timer.timer_deadline):
            what = self._deliver(message)
        elif timer is not None:
            what = self._fire(timer)
        else:
            raise RefusedError("nothing is due: no message is under way, and no server has a timer")
        await self.settle()
        return what

    def _next_timer(self) -> ServerView | None:
        armed = [
            server
            for server in self._stream.view.servers.values()
            if server.alive and not server.paused and server.timer_kind is not None
        ]
        return min(armed, key=lambda server: (server.timer_deadline, server.id), default=None)

    def _deliver(self, flight: Flight) -> str:
        self._time.advance(flight.due)
        arrived = self._fabric.deliver(flight)
        reached = f"{name_message(flight.message)} reached S{flight.dst}"
        if not arrived:
            return f"{name_message(flight.message)} was lost: S{flight.dst} does not take it"
        if self._cluster.is_paused(flight.dst):
            return f"{reached}, which will read it when it is resumed"
        return reached

    def _fire(self, server: ServerView) -> str:
        self._time.advance(server.timer_deadline)
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
            self._stream.tell(Warned(f"the servers are still busy after {SETTLE_SECONDS:g} s"))

    async def _look(self) -> tuple[dict[ServerId, int], dict[ServerId, int]]:
        sent = await self._cluster.digest()
        return sent, dict(self._fabric.received)


def name_message(message: Message) -> str:
    """Return what a message is, by its sender: ``S2's heartbeat``."""
    match message:
        case RequestVote():
            what = "request for a vote"
        case RequestVoteReply():
            what = "vote" if isinstance(message.outcome, Granted) else "refusal of a vote"
        case AppendEntries():
            count = len(message.entries)
            what = f"AppendEntries with {count} {'entry' if count == 1 else 'entries'}"
            what = what if count else "heartbeat"
        case AppendEntriesReply():
            accepted = isinstance(message.outcome, Appended)
            what = "acknowledgement" if accepted else "refusal of entries"
    return f"S{message.src}'s {what}"
