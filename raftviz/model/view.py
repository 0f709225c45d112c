"""What a laboratory looks like at one moment: the fold of its events up to there (design §3).

``ClusterView.apply`` takes any stream that a laboratory can tell and never fails on it: a fact
about something unknown changes nothing. A view can be told again (``as_events``), which is how
a viewer that comes late starts with the whole picture.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from raft.core.events import ConfigurationChanged, Role
from raft.core.messages import Entry, Index, Message, ServerId, Term
from raft.frames import Consistency
from raftviz.model import events as ev
from raftviz.model.link_rules import CLIENT, LinkRules
from raftviz.model.server_view import LAB, NO_MEMBERS
from raftviz.model.server_view import ServerView as ServerView

OPERATIONS_KEPT = 500
LANDED_KEPT = 100


@dataclass(frozen=True, slots=True)
class ClockView:
    """The cluster's clock: the three numbers of ``ClockChanged``, in seconds."""

    virtual: float = 0.0
    monotonic: float = 0.0
    rate: float = 0.0

    def now(self, monotonic: float) -> float:
        """Return the virtual time at a moment of the machine's monotonic clock."""
        if self.rate == 0:
            return self.virtual
        return self.virtual + self.rate * (monotonic - self.monotonic)


@dataclass(frozen=True, slots=True)
class LinkView(LinkRules):
    """One direction of a link: its rules, and those of kinds of messages that have their own."""

    kinds: tuple[tuple[str, LinkRules], ...] = ()
    """By the kinds' names, in their order."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A message on its way: it left at ``sent`` and is ``due`` (virtual seconds) unless held."""

    message_id: int
    message: Message
    sent: float
    due: float
    held: bool = False


@dataclass(frozen=True, slots=True)
class RequestFlight:
    """A request or a reply between a client and a server on its way, as a ``Flight`` is."""

    message_id: int
    src: ServerId
    dst: ServerId
    kind: str
    sent: float
    due: float
    held: bool = False


@dataclass(frozen=True, slots=True)
class Landed:
    """A message that is no longer on its way: it arrived ``at``, or was lost then and why."""

    flight: Flight
    at: float
    lost: ev.DropReason | None


@dataclass(frozen=True, slots=True)
class OperationView:
    """What a client asked of the cluster and, once ``outcome`` is there, how that went.

    ``server`` is 0 for an operation that was sent to whoever leads. ``found`` and ``answer``
    are what a get found. ``invoked`` and ``returned`` are virtual seconds.
    """

    id: int
    kind: ev.OperationKind
    key: bytes
    value: bytes
    server: ServerId
    invoked: float
    consistency: Consistency = Consistency.LINEARIZABLE
    outcome: ev.Outcome | None = None
    found: bool = False
    answer: bytes = b""
    detail: str = ""
    returned: float | None = None


@dataclass(slots=True)
class ClusterView:
    """Everything that can be known of a laboratory, up to the event ``sequence``."""

    cluster: str = ""
    servers: dict[ServerId, ServerView] = field(default_factory=dict)
    links: dict[tuple[ServerId, ServerId], LinkView] = field(default_factory=dict)
    """Both directions between any two servers, by (source, destination)."""
    client_links: dict[tuple[ServerId, ServerId], LinkView] = field(default_factory=dict)
    """Those directions between clients and servers that have rules."""
    flights: dict[int, Flight] = field(default_factory=dict)
    """The messages on their way, by their id."""
    requests: dict[int, RequestFlight] = field(default_factory=dict)
    """What is on its way on ``client_links``, by its id."""
    clock: ClockView = ClockView()
    operations: list[OperationView] = field(default_factory=list)
    """The newest ones, oldest first."""
    election_timeout_min: float = 0.0
    election_timeout_max: float = 0.0
    heartbeat_interval: float = 0.0
    seed: int = 0
    load: str = ""
    """The command by which clients of the lab's own work on the cluster; empty: none do."""
    measured: ev.LoadMeasured | None = None
    """How that went last."""
    chaos: str = ""
    """The command by which faults come at random; empty: none do."""
    sequence: int = 0
    time: float = 0.0
    """The virtual time of the newest event."""
    monotonic: float = 0.0
    """The machine's clock at the newest event."""
    recent: deque[Landed] = field(
        default_factory=lambda: deque(maxlen=LANDED_KEPT), compare=False, repr=False
    )
    """The last messages that arrived or were lost, newest last; ``as_events`` leaves them out."""

    @property
    def leader(self) -> ServerId | None:
        """The leader of the highest term that has one: it has a process, perhaps a paused one."""
        leaders = [server for server in self.servers.values() if server.role is Role.LEADER]
        return max(leaders, key=lambda server: server.term).id if leaders else None

    @property
    def configuration(self) -> ConfigurationChanged:
        """Who belongs to the cluster, as the leader knows it, or else the newest that is known."""
        if self.leader is not None:
            return self.servers[self.leader].configuration
        known = (server.configuration for server in self.servers.values())
        return max(known, key=lambda one: one.index, default=NO_MEMBERS)

    @property
    def term(self) -> Term:
        """The highest term that any server has reached, dead or alive."""
        return max((server.term for server in self.servers.values()), default=Term(0))

    @property
    def commit_index(self) -> Index:
        """The highest commitIndex that any live server knows."""
        return max((server.commit_index for server in self.servers.values()), default=Index(0))

    @property
    def broken(self) -> dict[ServerId, tuple[str, ...]]:
        """The servers that break rules on purpose, each with which."""
        return {server.id: server.broken for server in self.servers.values() if server.broken}

    @property
    def usual_link(self) -> LinkView:
        """The rules that most of the links have that let something through."""
        through = (link for link in self.links.values() if not link.blocked)
        counted = Counter(through).most_common(1)
        return counted[0][0] if counted else LinkView()

    @property
    def held(self) -> list[int]:
        """The numbers of messages, requests and replies that wait to be released."""
        held = [number for number, flight in self.flights.items() if flight.held]
        return held + [number for number, request in self.requests.items() if request.held]

    def flight(self, message_id: int) -> Flight | None:
        """Return a message that is on its way or landed recently."""
        if (flight := self.flights.get(message_id)) is not None:
            return flight
        landed = (one.flight for one in reversed(self.recent))
        return next((flight for flight in landed if flight.message_id == message_id), None)

    def operation(self, operation_id: int) -> OperationView | None:
        """Return an operation that is still remembered."""
        newest = reversed(self.operations)
        return next((known for known in newest if known.id == operation_id), None)

    # --- Telling it again --------------------------------------------------------------------

    def as_events(self) -> list[ev.Event]:
        """Return events whose fold is equal to this view.

        They bear the ``sequence`` of the newest event in it: the stream goes on from there.
        """
        if self.sequence == 0:
            return []
        return [
            ev.Event(self.sequence, self.time if at is None else at, self.monotonic, source, what)
            for source, what, at in self._told()
        ]

    def _told(self) -> Iterator[tuple[ServerId, ev.Happening, float | None]]:
        """Yield (source, happening, its virtual time unless that is now)."""
        yield (
            LAB,
            ev.LabStarted(
                self.cluster,
                tuple(self.servers),
                self.election_timeout_min,
                self.election_timeout_max,
                self.heartbeat_interval,
                self.seed,
            ),
            None,
        )
        clock = self.clock
        yield LAB, ev.ClockChanged(clock.virtual, clock.monotonic, clock.rate), None
        for (src, dst), link in (*self.links.items(), *self.client_links.items()):
            for kind, rules in (("", link), *link.kinds):
                yield LAB, ev.link_changed(src, dst, rules, kind), None
        for server in self.servers.values():
            for source, what in server.told():
                yield source, what, None
        for flight in self.flights.values():
            yield LAB, ev.MessageSent(flight.message_id, flight.message, flight.due), flight.sent
        for one in self.requests.values():
            sent = ev.RequestSent(one.message_id, one.src, one.dst, one.kind, one.due)
            yield LAB, sent, one.sent
        for number in self.held:
            yield LAB, ev.MessageHeld(number), None
        for op in self.operations:
            yield (
                LAB,
                ev.OperationInvoked(op.id, op.kind, op.key, op.value, op.server, op.consistency),
                op.invoked,
            )
            if op.outcome is not None:
                yield (
                    LAB,
                    ev.OperationReturned(op.id, op.outcome, op.found, op.answer, op.detail),
                    op.returned,
                )
        yield from ((LAB, what, None) for what in self._told_of_goings_on())

    def _told_of_goings_on(self) -> Iterator[ev.Happening]:
        if self.load:
            yield ev.LoadChanged(self.load)
        if self.measured is not None:
            yield self.measured
        if self.chaos:
            yield ev.ChaosChanged(self.chaos)

    # --- Folding -----------------------------------------------------------------------------

    def apply(self, event: ev.Event) -> None:
        """Take in the next event of the stream. LabStarted begins a new laboratory."""
        handler = _OF_LAB.get(type(event.what))
        if handler is not None:
            handler(self, event, event.what)
        elif (server := self.servers.get(event.source)) is not None:
            server.tell(event.what, self._prefix)
        self.sequence = event.sequence
        self.time = max(self.time, event.virtual_time)
        self.monotonic = max(self.monotonic, event.monotonic_time)

    def _prefix(self, index: Index, term: Term) -> Sequence[Entry]:
        """Return all entries up to one of this term, if any server's log is known to have them."""
        known = (server.prefix(index, term) for server in self.servers.values())
        return next((prefix for prefix in known if len(prefix) == index), ())

    def _lab_started(self, event: ev.Event, what: ev.LabStarted) -> None:
        self.cluster = what.cluster
        self.servers = {server: ServerView(server) for server in what.servers}
        self.links = {(a, b): LinkView() for a in what.servers for b in what.servers if a != b}
        self.client_links = {}
        self.flights, self.requests, self.operations = {}, {}, []
        self.load, self.measured, self.chaos = "", None, ""
        self.clock = ClockView()
        self.election_timeout_min = what.election_timeout_min
        self.election_timeout_max = what.election_timeout_max
        self.heartbeat_interval = what.heartbeat_interval
        self.seed = what.seed
        self.time = self.monotonic = 0.0
        self.recent.clear()

    def _clock_changed(self, event: ev.Event, what: ev.ClockChanged) -> None:
        self.clock = ClockView(what.virtual, what.monotonic, what.rate)

    def _process_changed(self, event: ev.Event, what: _OfProcess) -> None:
        if (server := self.servers.get(what.server)) is not None:
            server.tell(what)

    def _server_clock_changed(self, event: ev.Event, what: ev.ServerClockChanged) -> None:
        if (server := self.servers.get(what.server)) is not None:
            server.run_clock(what.factor, event.virtual_time)

    def _server_added(self, event: ev.Event, what: ev.ServerAdded) -> None:
        others = [server for server in self.servers if server != what.server]
        self.servers[what.server] = ServerView(what.server)
        for other in others:
            self.links[other, what.server] = self.links[what.server, other] = LinkView()

    def _server_removed(self, event: ev.Event, what: ev.ServerRemoved) -> None:
        self.servers.pop(what.server, None)
        self.links = {link: known for link, known in self.links.items() if what.server not in link}
        for link in ((CLIENT, what.server), (what.server, CLIENT)):
            self.client_links.pop(link, None)

    def _load_changed(self, event: ev.Event, what: ev.LoadChanged) -> None:
        self.load, self.measured = what.text, None

    def _load_measured(self, event: ev.Event, what: ev.LoadMeasured) -> None:
        self.measured = what

    def _chaos_changed(self, event: ev.Event, what: ev.ChaosChanged) -> None:
        self.chaos = what.text

    def _link_changed(self, event: ev.Event, what: ev.LinkChanged) -> None:
        link = (what.src, what.dst)
        if link in self.links:
            self.links[link] = _ruled(self.links[link], what)
        elif CLIENT in link:
            ruled = _ruled(self.client_links.pop(link, LinkView()), what)
            if ruled != LinkView():
                self.client_links[link] = ruled

    def _message_sent(self, event: ev.Event, what: ev.MessageSent) -> None:
        flight = Flight(what.message_id, what.message, event.virtual_time, what.due)
        self.flights[what.message_id] = flight

    def _message_duplicated(self, event: ev.Event, what: ev.MessageDuplicated) -> None:
        sent, due = event.virtual_time, what.due
        if (flight := self.flights.get(what.message_id)) is not None:
            copy = Flight(what.copy_id, flight.message, sent, due)
            self.flights[what.copy_id] = copy
        elif (request := self.requests.get(what.message_id)) is not None:
            again = replace(request, message_id=what.copy_id, sent=sent, due=due, held=False)
            self.requests[what.copy_id] = again

    def _message_held(self, event: ev.Event, what: ev.MessageHeld) -> None:
        self._change_flight(what.message_id, held=True)

    def _message_rescheduled(self, event: ev.Event, what: ev.MessageRescheduled) -> None:
        self._change_flight(what.message_id, held=False, due=what.due)

    def _change_flight(self, message_id: int, **changes: Any) -> None:
        if message_id in self.flights:
            self.flights[message_id] = replace(self.flights[message_id], **changes)
        elif message_id in self.requests:
            self.requests[message_id] = replace(self.requests[message_id], **changes)

    def _request_sent(self, event: ev.Event, what: ev.RequestSent) -> None:
        self.requests[what.message_id] = RequestFlight(
            what.message_id, what.src, what.dst, what.kind, event.virtual_time, what.due
        )

    def _message_delivered(self, event: ev.Event, what: ev.MessageDelivered) -> None:
        self._land(what.message_id, event.virtual_time, None)

    def _message_dropped(self, event: ev.Event, what: ev.MessageDropped) -> None:
        self._land(what.message_id, event.virtual_time, what.reason)

    def _land(self, message_id: int, at: float, lost: ev.DropReason | None) -> None:
        if (flight := self.flights.pop(message_id, None)) is not None:
            self.recent.append(Landed(flight, at, lost))
        else:
            self.requests.pop(message_id, None)

    def _operation_invoked(self, event: ev.Event, what: ev.OperationInvoked) -> None:
        self.operations.append(
            OperationView(
                what.operation_id,
                what.kind,
                what.key,
                what.value,
                what.server,
                event.virtual_time,
                what.consistency,
            )
        )
        del self.operations[:-OPERATIONS_KEPT]

    def _operation_returned(self, event: ev.Event, what: ev.OperationReturned) -> None:
        known = self.operation(what.operation_id)
        if known is None:
            return
        self.operations[self.operations.index(known)] = replace(
            known,
            outcome=what.outcome,
            found=what.found,
            answer=what.value,
            detail=what.detail,
            returned=event.virtual_time,
        )


def _ruled(link: LinkView, what: ev.LinkChanged) -> LinkView:
    if not what.kind:
        return LinkView(*astuple(what.rules))
    kinds = {**dict(link.kinds), what.kind: what.rules}
    return replace(link, kinds=tuple(sorted(kinds.items(), key=lambda own: own[0])))


_OfProcess = (
    ev.ServerSpawned
    | ev.ServerExited
    | ev.ServerPaused
    | ev.ServerResumed
    | ev.DiskChanged
    | ev.RuleBroken
    | ev.RuleMended
)

_OF_LAB: dict[type, Callable[[ClusterView, ev.Event, Any], None]] = {
    ev.LabStarted: ClusterView._lab_started,
    ev.ClockChanged: ClusterView._clock_changed,
    ev.ServerSpawned: ClusterView._process_changed,
    ev.ServerExited: ClusterView._process_changed,
    ev.ServerPaused: ClusterView._process_changed,
    ev.ServerResumed: ClusterView._process_changed,
    ev.DiskChanged: ClusterView._process_changed,
    ev.RuleBroken: ClusterView._process_changed,
    ev.RuleMended: ClusterView._process_changed,
    ev.ServerClockChanged: ClusterView._server_clock_changed,
    ev.ServerAdded: ClusterView._server_added,
    ev.ServerRemoved: ClusterView._server_removed,
    ev.LoadChanged: ClusterView._load_changed,
    ev.LoadMeasured: ClusterView._load_measured,
    ev.ChaosChanged: ClusterView._chaos_changed,
    ev.MessageDuplicated: ClusterView._message_duplicated,
    ev.MessageHeld: ClusterView._message_held,
    ev.MessageRescheduled: ClusterView._message_rescheduled,
    ev.RequestSent: ClusterView._request_sent,
    ev.LinkChanged: ClusterView._link_changed,
    ev.MessageSent: ClusterView._message_sent,
    ev.MessageDelivered: ClusterView._message_delivered,
    ev.MessageDropped: ClusterView._message_dropped,
    ev.OperationInvoked: ClusterView._operation_invoked,
    ev.OperationReturned: ClusterView._operation_returned,
}
