"""The messages that are in flight: due at a moment, or held until somebody lets them go."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from raft.clock import VirtualClock
from raft.core.messages import Message, ServerId
from raftviz.lab.passage import Passage
from raftviz.model.events import (
    DropReason,
    Happening,
    MessageDelivered,
    MessageDropped,
    MessageHeld,
    MessageRescheduled,
)


@dataclass(frozen=True, slots=True, order=True)
class Flight:
    """A message from one end of a link to the other, due at ``due`` (virtual seconds).

    Flights due at the same moment go by source and destination, not by when the fabric
    happened to read them: frozen time stepped twice from one seed takes the same course.
    ``message`` is None for what goes between a client and a server.
    """

    due: float
    src: ServerId
    dst: ServerId
    message_id: int
    kind: str = field(compare=False)
    message: Message | None = field(compare=False)
    raw: bytes = field(compare=False)
    passage: Passage = field(compare=False)
    held: bool = field(default=False, compare=False)
    """It waits: for the rules of its link, or for whoever held it ``by_hand``."""
    by_hand: bool = field(default=False, compare=False)

    @property
    def is_back(self) -> bool:
        """It goes to the caller: it is a reply to a client."""
        return self.src == self.passage.dst


class Traffic:
    """All that is in flight, and the one timer that delivers it when it is due."""

    def __init__(
        self,
        clock: VirtualClock,
        tell: Callable[[Happening], None],
        arrived: Callable[[Flight], None],
    ) -> None:
        self.flights: dict[int, Flight] = {}
        """By number, in the order in which they were sent."""
        self._clock = clock
        self._tell = tell
        self._arrived = arrived
        self._queue: list[Flight] = []
        self._timer: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Forget all of it."""
        self._disarm()
        self.flights.clear()

    def launch(self, flight: Flight) -> None:
        """Let a message be on its way."""
        self.flights[flight.message_id] = flight
        if not flight.held:
            self._put(flight)

    def hold(self, flight: Flight, *, by_hand: bool = False) -> bool:
        """Let a message wait; False: it does already."""
        by_hand = by_hand or flight.by_hand
        self.flights[flight.message_id] = replace(flight, held=True, by_hand=by_hand)
        if flight.held:
            return False
        self._tell(MessageHeld(flight.message_id))
        self._arm()
        return True

    def release(self, flight: Flight) -> bool:
        """Let a message that waits go on: it arrives now, or when it was due; False: none waits."""
        if not flight.held:
            return False
        self.reschedule(flight, max(flight.due, self._clock.now()))
        return True

    def reschedule(self, flight: Flight, due: float) -> None:
        """Let a message arrive at another moment, even if it was held."""
        moved = replace(flight, due=due, held=False, by_hand=False)
        self.flights[flight.message_id] = moved
        self._tell(MessageRescheduled(flight.message_id, due))
        self._put(moved)

    def deliver(self, flight: Flight) -> bool:
        """Hand a message to its destination now, whatever the clock says; False: it is lost."""
        del self.flights[flight.message_id]
        arrived = flight.passage.deliver(flight.raw, back=flight.is_back)
        flight.passage.forget(flight.raw, back=flight.is_back)
        if arrived:
            self._arrived(flight)
            self._tell(MessageDelivered(flight.message_id))
        else:
            self._tell(MessageDropped(flight.message_id, DropReason.SERVER_DOWN))
        return arrived

    def lose(self, flights: Iterable[Flight], reason: DropReason) -> None:
        """Lose messages."""
        for flight in list(flights):
            del self.flights[flight.message_id]
            flight.passage.forget(flight.raw, back=flight.is_back)
            self._tell(MessageDropped(flight.message_id, reason))

    # --- When they are due -------------------------------------------------------------------

    def next_due(self, wanted: Callable[[Flight], bool] | None = None) -> Flight | None:
        """Return the message that arrives next (of those that are wanted), None: there is none."""
        if wanted is not None:
            flying = (flight for flight in self.flights.values() if not flight.held)
            return min(filter(wanted, flying), default=None)
        while self._queue and self.flights.get(self._queue[0].message_id) is not self._queue[0]:
            heapq.heappop(self._queue)  # it is lost, held, or due at another moment
        return self._queue[0] if self._queue else None

    def clock_changed(self) -> None:
        """Take note that the clock runs otherwise from here on."""
        self._arm()

    def _put(self, flight: Flight) -> None:
        heapq.heappush(self._queue, flight)
        if self._queue[0] is flight:
            self._arm()

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
