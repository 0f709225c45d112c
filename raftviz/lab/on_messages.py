"""Carries out what a person does to single messages: deliver, drop, duplicate, hold, release."""

from __future__ import annotations

from raftviz import commands as cmd
from raftviz.commands import Links, Messages, Numbered
from raftviz.lab.on_network import arrows, between
from raftviz.lab.parts import Parts
from raftviz.lab.stepper import name_flight
from raftviz.lab.traffic import Flight
from raftviz.lab.who import RefusedError
from raftviz.model.events import DropReason
from raftviz.model.link_rules import CLIENT, LinkId
from raftviz.model.link_words import end_text, share_text
from raftviz.model.words import message_line

MAX_SHOWN = 3
"""Of more messages than these an answer names the first."""


class OnMessages:
    """The commands on messages in flight, and on those that will be."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._fabric = parts.fabric
        self._traffic = parts.fabric.traffic

    async def carry_out(self, command: cmd.MessageCommand) -> str:
        """Do it; return in words what was done. Raises RefusedError."""
        if self._parts.time.frozen:
            # What a server has told of it has also sent, but that may not have been read yet.
            await self._parts.stepper.settle()
        match command:
            case cmd.Deliver(messages):
                return await self._deliver(self._find(messages))
            case cmd.Drop(messages):
                found = self._find(messages)
                self._traffic.lose(found, DropReason.BY_HAND)
                return f"lost: {_shown(found)}"
            case cmd.Duplicate(messages):
                found = self._find(messages)
                copies = [self._fabric.duplicate(flight) for flight in found]
                numbers = ", ".join(f"#{copy}" for copy in copies)
                return f"sent once more, as {numbers}: {_shown(found)}"
            case cmd.Duplication(links, share):
                for link in (wanted := self._links(links)):
                    self._fabric.rule(link, links.kind, duplication=share)
                return f"doubles {share_text(share)}: {arrows(wanted)}"
            case cmd.Hold(messages):
                return self._hold(messages)
            case cmd.Release(messages):
                return self._release(messages)
            case cmd.ShowMessages():
                return self._show()

    # --- Which messages ----------------------------------------------------------------------

    def _find(self, messages: Messages) -> list[Flight]:
        """Return the messages that are meant, the soonest first. Raises RefusedError if none."""
        if isinstance(messages, Links):
            found = self._on(messages)
            if not found:
                kind = messages.kind or "message"
                raise RefusedError(f"no {kind} is in flight there; messages lists what is")
            return found
        return [self._numbered(number) for number in messages.numbers]

    def _numbered(self, number: int) -> Flight:
        flight = self._traffic.flights.get(number)
        if flight is None:
            raise RefusedError(f"#{number} is not in flight; messages lists those that are")
        return flight

    def _on(self, links: Links) -> list[Flight]:
        wanted = set(self._links(links))
        flights = self._traffic.flights.values()
        return sorted(
            flight
            for flight in flights
            if (flight.src, flight.dst) in wanted and links.kind in ("", flight.kind)
        )

    def _links(self, links: Links) -> list[LinkId]:
        if links.everywhere:
            return self._fabric.server_links
        return between(links, self._parts.view)

    # --- What is done to them ----------------------------------------------------------------

    async def _deliver(self, found: list[Flight]) -> str:
        arrived = [flight for flight in found if self._traffic.deliver(flight)]
        if self._parts.time.frozen:
            await self._parts.stepper.settle()
        if len(arrived) < len(found):
            lost = [flight for flight in found if flight not in arrived]
            return f"lost, nobody takes it: {_shown(lost)}"
        return f"arrived: {_shown(arrived)}"

    def _hold(self, messages: Messages) -> str:
        if isinstance(messages, Numbered):
            held = [f for f in self._find(messages) if self._traffic.hold(f, by_hand=True)]
            return f"held: {_shown(held)}" if held else "already held"
        links = self._links(messages)
        changed = [link for link in links if self._fabric.rule(link, messages.kind, held=True)]
        kind = messages.kind or "every message"
        return f"held from now on, {kind}: {arrows(changed)}" if changed else "already held"

    def _release(self, messages: Messages) -> str:
        """Let go what waits; of links and kinds, what is to come as well."""
        if isinstance(messages, Numbered):
            found, ended = self._find(messages), False
        else:
            links = list(self._fabric.links) if messages.everywhere else self._links(messages)
            flights = self._traffic.flights.values()
            found = [f for f in flights if (f.src, f.dst) in links]
            found = [f for f in found if messages.kind in ("", f.kind)]
            rule = self._fabric.rule
            ended = bool([link for link in links if rule(link, messages.kind, held=False)])
            # What a stalled link keeps, its healing lets go.
            found = [f for f in found if not self._fabric.links[f.src, f.dst].of(f.kind).stalled]
        waiting = [flight for flight in found if flight.held]
        for flight in waiting:
            self._traffic.release(self._traffic.flights[flight.message_id])
        if waiting:
            return f"released: {_shown(waiting)}"
        if not ended:
            raise RefusedError("nothing is held there")
        return "nothing is held there any more"

    # --- The list ----------------------------------------------------------------------------

    def _show(self) -> str:
        now = self._parts.time.clock.now()
        flights = sorted(self._traffic.flights.values())
        lines = [f"{_line(flight)}, {_when(flight, now)}" for flight in flights]
        return "\n".join(lines) if lines else "no message is in flight"


def _line(flight: Flight) -> str:
    if flight.message is not None:
        return f"#{flight.message_id}  {message_line(flight.message)}"
    ends = f"{end_text(flight.src)} → {end_text(flight.dst)}"
    return f"#{flight.message_id}  {ends}  {flight.kind}"


def _when(flight: Flight, now: float) -> str:
    if flight.held:
        return "held"
    return f"due in {max(flight.due - now, 0.0) * 1000:.4g} ms"


def _shown(flights: list[Flight]) -> str:
    shown = [f"#{f.message_id} {name_flight(f)} to {_end(f)}" for f in flights[:MAX_SHOWN]]
    left = len(flights) - len(shown)
    return "; ".join([*shown, f"and {left} more"] if left else shown)


def _end(flight: Flight) -> str:
    return "the client" if flight.dst == CLIENT else f"S{flight.dst}"
