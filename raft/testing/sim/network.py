"""The simulated network: what becomes of a message between two servers."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from random import Random

from raft.core.messages import Message, ServerId
from raft.testing.sim.chance import Chance
from raft.testing.sim.scenario import Scenario
from raft.wire import decode, encode

Schedule = Callable[[float, Callable[[Message], None], Message], None]


class Link:
    """One direction between two servers. Counts of faults in force, so that they may overlap."""

    __slots__ = ("cuts", "delays", "duplicate", "fate", "held", "loss", "slow", "stalls")

    def __init__(self, chance: Chance, src: ServerId, dst: ServerId) -> None:
        self.cuts = 0
        """Nothing arrives."""
        self.stalls = 0
        """Nothing arrives before the stall is over; then all of it does, as with TCP."""
        self.held: list[Message] = []
        self.loss = 0.0
        self.duplicate = 0.0
        self.slow = 0.0
        """Seconds of further delay, at most, each message its own: they overtake each other."""
        self.delays: Random = chance.stream("delay", src, dst)
        self.fate: Random = chance.stream("fate", src, dst)


class Network:
    """All links. ``deliver`` is called when a message arrives."""

    def __init__(
        self,
        scenario: Scenario,
        chance: Chance,
        servers: Iterable[ServerId],
        schedule: Schedule,
        deliver: Callable[[Message], None],
    ) -> None:
        self.links = {
            (src, dst): Link(chance, src, dst) for src, dst in itertools.permutations(servers, 2)
        }
        self.counts: Counter[str] = Counter()
        self.flying = 0
        """Messages under way."""
        self._delay = scenario.delay
        self._jitter = scenario.jitter
        self._codec = scenario.codec
        self._schedule = schedule
        self._deliver = deliver

    def send(self, message: Message) -> None:
        """Let a message leave its server."""
        link = self.links[message.src, message.dst]
        if link.cuts:
            self.counts["cut"] += 1
            return
        if link.loss and link.fate.random() < link.loss:
            self.counts["lost"] += 1
            return
        if self._codec:
            message = as_sent(message)
        if link.stalls:
            link.held.append(message)
            return
        self._put(link, message)
        if link.duplicate and link.fate.random() < link.duplicate:
            self.counts["duplicated"] += 1
            self._put(link, message)

    def _put(self, link: Link, message: Message) -> None:
        delay = self._delay + self._jitter * link.delays.random()
        if link.slow:
            delay += link.slow * link.fate.random()
        self.flying += 1
        self._schedule(delay, self._arrive, message)

    def _arrive(self, message: Message) -> None:
        self.flying -= 1
        # What is under way when a link is cut is lost with it.
        if self.links[message.src, message.dst].cuts:
            self.counts["cut"] += 1
        else:
            self._deliver(message)

    def heal(self, delay: float) -> None:
        """End all faults; from now on every message takes ``delay``."""
        self._delay, self._jitter = delay, 0.0
        for link in self.links.values():
            link.cuts = 0
            link.loss = link.duplicate = link.slow = 0.0
            if link.stalls:
                link.stalls = 1
                self.release(link)

    def release(self, link: Link) -> None:
        """End one stall of a link."""
        link.stalls -= 1
        if not link.stalls:
            held, link.held = link.held, []
            for message in held:
                self._put(link, message)


def as_sent(message: Message) -> Message:
    """Return a message as it comes out of its encoding."""
    decoded = decode(encode(message))
    assert isinstance(decoded, Message)
    return decoded
