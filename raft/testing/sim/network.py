"""The simulated network: what becomes of a message between two servers."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from functools import cached_property
from random import Random
from typing import Any

from raft.core.messages import AppendEntries, Message, ServerId
from raft.testing.sim.chance import Chance
from raft.testing.sim.facts import Violation
from raft.testing.sim.scenario import Scenario
from raft.transport.link import BACKOFF_MAX, BACKOFF_MIN
from raft.wire import Copies, DecodeError, FrameSplitter, decode, encode

Schedule = Callable[[float, Callable[[Any], None], Any], None]

MOST_QUEUED = 16_384
"""Bytes that wait for a narrow link; then the oldest are lost."""

MOST_FLYING = 100_000
"""Messages under way. More there are only if messages call forth ever more messages.

That a follower far behind gets the same entries again and again, while messages overtake each
other as they never do on a connection, makes some ten thousand.
"""


class Link:
    """One direction between two servers. Counts of faults in force, so that they may overlap."""

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
        self.corrupt = 0.0
        """So many of the messages do not arrive as they left."""
        self.rate = 0
        """Bytes a second; 0: as many as there are."""
        self.queue: deque[tuple[Message, int]] = deque()
        """What waits for a narrow link, with its bytes; the first is on its way into it."""
        self.resets = 0
        """How often the connection was lost, with all that was under way."""
        self.broken = False
        """It was lost and is not opened again yet; that counts as a cut."""
        self._chance = chance
        self._ends = src, dst

    # A stream takes as long to make as half an event, and many links are never used.

    @cached_property
    def delays(self) -> Random:
        """How long each message is under way."""
        return self._chance.stream("delay", *self._ends)

    @cached_property
    def fate(self) -> Random:
        """What becomes of each message while a fault is in force."""
        return self._chance.stream("fate", *self._ends)


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
        self._copies = defaultdict[ServerId, Copies](Copies)
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
            message = self._as_sent(message)
        if link.corrupt and link.fate.random() < link.corrupt:
            self._corrupt(link, message)
            return
        if link.stalls:
            link.held.append(message)
            return
        if link.rate:
            self._queue(link, message)
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
        if self.flying > MOST_FLYING:
            raise Violation("L4 bounded queues", f"{self.flying} messages under way: {message}")
        self._schedule(delay, self._arrive, (link, link.resets, message))

    def _arrive(self, what: tuple[Link, int, Message]) -> None:
        """Let a message arrive, unless the link is cut or the connection that it left on lost."""
        self.flying -= 1
        link, connection, message = what
        if link.cuts:
            self.counts["cut"] += 1
        elif link.resets != connection:
            self.counts["lost with the connection"] += 1
        else:
            self._deliver(message)

    def heal(self, delay: float) -> None:
        """End all faults; from now on every message takes ``delay``."""
        self._delay, self._jitter = delay, 0.0
        for link in self.links.values():
            link.cuts = 0
            link.broken = False
            link.loss = link.duplicate = link.slow = link.corrupt = 0.0
            self.widen(link)
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

    # --- Narrow links --------------------------------------------------------------------------

    def _queue(self, link: Link, message: Message) -> None:
        """Let a message wait for its turn, as ``raft.transport.PeerLink`` does."""
        link.queue.append((message, len(encode(message))))
        if len(link.queue) == 1:
            self._schedule(link.queue[0][1] / link.rate, self._pass, link)
        elif sum(size for _, size in link.queue) > MOST_QUEUED:
            self.counts["dropped from a full queue"] += 1
            del link.queue[1]

    def _pass(self, link: Link) -> None:
        """Let the first of those that wait have passed a narrow link."""
        if not link.queue:
            return
        self.counts["passed a narrow link"] += 1
        self._put(link, link.queue.popleft()[0])
        if link.queue:
            self._schedule(link.queue[0][1] / link.rate, self._pass, link)

    def widen(self, link: Link) -> None:
        """Let a link be as wide as it was, and all that waits pass."""
        link.rate = 0
        while link.queue:
            self._put(link, link.queue.popleft()[0])

    # --- Connections ---------------------------------------------------------------------------

    def reset(self, link: Link) -> None:
        """Lose the connection, and all that is under way on it; it is opened again soon."""
        self.counts["reset"] += 1
        link.resets += 1
        link.held.clear()
        link.queue.clear()
        if not link.broken:
            link.broken = True
            link.cuts += 1
            self._connect_after(link, BACKOFF_MIN)

    def _connect_after(self, link: Link, backoff: float) -> None:
        rest = backoff * link.fate.uniform(0.5, 1.0)
        self._schedule(rest, self._connect, (link, backoff))

    def _connect(self, what: tuple[Link, float]) -> None:
        link, backoff = what
        if not link.broken:
            return
        if link.cuts > 1:
            self._connect_after(link, min(2 * backoff, BACKOFF_MAX))
        else:
            link.broken = False
            link.cuts = 0

    def _corrupt(self, link: Link, message: Message) -> None:
        """Lose a message some bytes of which were changed on the way, and its connection.

        The bytes go through the decoder, which must refuse them or make another frame of them,
        and do nothing else. Such a frame is not delivered: a server trusts what comes over an
        authenticated connection, so that it arrives as it was sent is for the connection to see
        to (the checksums of TCP, the seals of TLS records); it breaks then.
        """
        data = bytearray(encode(message))
        for _ in range(link.fate.choice((1, 1, 2, 8))):
            data[link.fate.randrange(len(data))] ^= 1 << link.fate.randrange(8)
        try:
            frames = [decode(frame) for frame in FrameSplitter().feed(bytes(data))]
        except DecodeError:
            self.counts["corrupted, refused by the decoder"] += 1
        else:
            what = "refused by the connection" if frames else "never complete"
            self.counts[f"corrupted, {what}"] += 1
        self.reset(link)

    def _as_sent(self, message: Message) -> Message:
        """Return a message as it comes out of its encoding, done as by ``raft.links``."""
        if type(message) is AppendEntries:
            decoded = decode(self._copies[message.src].encode(message))
        else:
            decoded = decode(encode(message))
        assert isinstance(decoded, Message)
        return decoded
