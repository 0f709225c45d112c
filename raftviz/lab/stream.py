"""The one ordered stream (design §7): everything that happens goes through here, once."""

from __future__ import annotations

import time
from collections.abc import Callable

from raft.clock import VirtualClock
from raft.core.messages import ServerId
from raftviz.model.events import Event, Happening
from raftviz.model.view import ClusterView

LAB = ServerId(0)
"""The source of what the lab itself tells."""


class Stream:
    """Numbers what happens, keeps the fold of it, and hands each event to whoever listens."""

    def __init__(self, clock: VirtualClock) -> None:
        self.view = ClusterView()
        self.listener: Callable[[Event], None] = lambda event: None
        """Called with each event right after the view has taken it in."""
        self.watchers: set[Callable[[], None]] = set()
        """Called after each event that is in the view and with the listener."""
        self._clock = clock
        self._sequence = 0

    def tell(self, what: Happening) -> None:
        """Add something that the lab saw or did, at this moment."""
        self.tell_of(LAB, self._clock.now(), time.monotonic(), what)

    def tell_of(self, source: ServerId, virtual: float, monotonic: float, what: Happening) -> None:
        """Add what ``source`` told, with the times that it gave; its place is where it arrived."""
        self._sequence += 1
        event = Event(self._sequence, virtual, monotonic, source, what)
        self.view.apply(event)
        self.listener(event)
        for look in tuple(self.watchers):
            look()
