"""What one direction of a link does to the messages on it.

A real network under TCP only ever delays or breaks: a byte that is lost is sent again, and
either arrives late or the connection ends. Messages are lost where nobody waits for them any
more: a connection breaks, a queue is full, a sender gives up. A laboratory offers both: what
TCP does (``stalled``, ``reset``, delays, ``bandwidth``), and what Raft is made for: messages
that are lost, doubled and out of order (§5.1).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import get_args

from raft.core.messages import Message, ServerId

CLIENT = ServerId(0)
"""The end of a link at which the laboratory's own clients are."""
LinkId = tuple[ServerId, ServerId]
"""Source and destination: each direction is a link of its own."""
MESSAGE_KINDS: tuple[str, ...] = tuple(kind.__name__ for kind in get_args(Message))
"""What servers send to each other, by the names of the paper."""


class Distribution(enum.IntEnum):
    """How the time that messages take is spread around a link's delay, by its jitter."""

    UNIFORM = 0
    """Evenly from delay − jitter to delay + jitter."""
    NORMAL = 1
    """As a bell: jitter is the standard deviation, and nothing takes less than no time."""
    EXPONENTIAL = 2
    """At least delay, and jitter more on average: a few take very long."""


@dataclass(frozen=True, slots=True)
class LinkRules:
    """The rules of one direction. Durations are in virtual seconds, shares from 0 to 1."""

    cut: bool = False
    """Every message is lost; the connection stays up."""
    delay: float = 0.0
    stalled: bool = False
    """Every message waits until this is over, and arrives late: so it is when TCP sends again."""
    reset: bool = False
    """The connection is broken, with all that was on it, and none comes about."""
    held: bool = False
    """Every message waits for somebody's hand."""
    jitter: float = 0.0
    distribution: Distribution = Distribution.UNIFORM
    loss: float = 0.0
    """The share of messages that are lost."""
    duplication: float = 0.0
    """The share of messages that arrive twice."""
    reordering: float = 0.0
    """The share of messages that later ones may overtake."""
    bandwidth: float = 0.0
    """Bytes in a virtual second; 0: no limit."""

    @property
    def blocked(self) -> bool:
        """Nothing gets through."""
        return self.cut or self.stalled or self.reset or self.held or self.loss >= 1
