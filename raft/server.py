"""One Raft server: the only place where core, store, transport and clock meet (design §3).

Everything runs on one event loop, and nothing polls: messages, requests and the one timer set
the core in motion, and all that came in one turn of the loop is worked off together. Only the
disk, and taking a snapshot, have threads of their own::

    peers ──▶ core.step ──┐                ┌──▶ Links     what may leave at once
    clients ▶ Requests ───┼──▶ core.ready ─┼──▶ Saver     the disk; then what promises it
    timer ──▶ core.tick ──┘                └──▶ Applier   the state machine; then the clients
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from raft.applying import Applier, SnapshotPolicy
from raft.certificate import Certificate
from raft.clock import VirtualClock
from raft.core.config import Config
from raft.core.core import Core
from raft.core.events import CoreEvent, Role
from raft.core.membership import Configuration
from raft.core.messages import Message, ServerId, Term
from raft.core.ready import Ready
from raft.core.rules import Rules
from raft.frames import (
    Barrier,
    BarrierReached,
    Campaign,
    Control,
    CutPower,
    FireTimer,
    FromClient,
    SetClock,
    SetDisk,
    Status,
)
from raft.links import Links
from raft.machine.base import MAX_COMMAND_BYTES as MAX_COMMAND_BYTES
from raft.machine.base import StateMachine
from raft.machine.guarded import Guarded
from raft.machine.sessions import Sessions
from raft.observers import Observers, server_state
from raft.requests import Requests
from raft.round_trips import REPLIES, REQUESTS, RoundTrips
from raft.saving import Saver
from raft.storage.base import LogStore
from raft.storage.faulty import FaultyDisk
from raft.transport import Connection, Identity, Listener
from raft.watching import Watchers
from raft.wire import MAX_FRAME

MAX_PAYLOAD = MAX_FRAME // 2
"""So many bytes of entries, or of a snapshot, fit into a message with what tells of them.

A snapshot's piece travels with the configuration: together with the longest it fits, too.
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How one server takes part in its cluster.

    ``secret`` is the cluster's, and lets the server listen on loopback addresses only; or it is
    the server's Certificate, and all connections are encrypted. ``listen`` is ``host:port``,
    port 0 for any free one; by default it is this server's address in ``core``. ``advertise`` is
    where others reach this server, if not there. ``peers`` maps other members to ``host:port``,
    which counts more than what the cluster's configuration says. ``seed`` fixes the election
    timeouts (None: drawn afresh). An ``attended`` server's time stands still until an observer
    sets its clock. Raises ValueError without an address, and
    for messages that would be too large.
    """

    core: Config
    cluster: str
    secret: bytes | Certificate = field(repr=False)
    listen: str = ""
    peers: Mapping[ServerId, str] = field(default_factory=dict)
    seed: int | None = None
    attended: bool = False
    advertise: str = ""
    snapshots: SnapshotPolicy = field(default_factory=SnapshotPolicy)

    def __post_init__(self) -> None:
        """Find the address to listen at, and refuse what peers would refuse."""
        for name in ("max_append_bytes", "snapshot_chunk_bytes"):
            if (size := getattr(self.core, name)) > MAX_PAYLOAD:
                raise ValueError(f"{name} must be at most {MAX_PAYLOAD}, not {size}")
        first = Configuration(self.core.members, addresses=self.core.addresses)
        if (reason := first.too_long()) is not None:
            raise ValueError(reason)
        listen = self.listen or dict(self.core.addresses).get(self.core.server, "")
        if not listen:
            raise ValueError(
                f"where does server {self.core.server} listen? Say it here, or in the "
                "addresses of its Config"
            )
        object.__setattr__(self, "listen", listen)


class Server:
    """A member of a cluster, from its start to its end.

    Around ``machine`` it puts the sessions of clients, whose commands it carries out once.
    ``disk`` is the one below ``store`` whose faults an observer may command, if there is one.

    ``await start()`` opens the store and the port and returns the address; ``await run()``
    returns when :meth:`stop` or :meth:`leave` is called, and raises what made the server unable
    to go on: StorageError, InvariantViolation or StateMachineError.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: LogStore,
        machine: StateMachine,
        rules: Rules | None = None,
        disk: FaultyDisk | None = None,
    ) -> None:
        self._config = config
        self._disk = disk
        self._store = store
        machine = Sessions(Guarded(machine))
        self.clock = VirtualClock(rate=0.0 if config.attended else 1.0)
        self.core = self._recover(machine, rules)
        self.core.take_events()
        me = config.core.server
        self._identity = Identity(config.cluster, me, config.secret)
        self._listener = Listener(self._identity, self)
        self._links = Links(me, config.peers)
        self._round_trips = RoundTrips(config.core)
        self._saver = Saver(
            store,
            saved=lambda readys: self._guarded(lambda: self._saved(readys)),
            failed=self._fail,
        )
        self._applier = Applier(
            self.core,
            machine,
            config.snapshots,
            applied=lambda *what: self._requests.applied(*what),
            go_on=self._schedule_turn,
        )
        self._requests = Requests(
            self.core,
            machine,
            self.clock,
            take_snapshot=self._applier.want_snapshot,
            go_on=self._schedule_turn,
        )
        self.watchers = Watchers()
        """Those in this process who want to know what happens."""
        self._observers = Observers(lambda: server_state(self.core, self._address))
        self._barriers: list[tuple[Connection, Barrier]] = []
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._known_leader: tuple[Term, ServerId | None] = (Term(0), None)
        self._clock_was_set = False
        self._turn_scheduled = False
        self._leaving = False

    def _recover(self, machine: StateMachine, rules: Rules | None) -> Core:
        config = self._config
        recovered = self._store.load()
        if recovered.snapshot is not None:
            machine.restore(recovered.snapshot.data)
        seed = None if config.seed is None else config.seed * 1_000_003 + config.core.server
        return Core(
            config.core,
            recovered.hard_state,
            recovered.entries,
            random.Random(seed),  # noqa: S311 - timeouts need no secrecy
            self.clock.now(),
            rules,
            recovered.snapshot,
        )

    def status(self) -> Status:
        """Return the server's state in numbers."""
        return self._requests.status()

    # --- Life ------------------------------------------------------------------------------

    async def start(self) -> str:
        """Listen, call the others, arm the timer; return ``host:port``. Raises OSError."""
        if (warning := self._config.core.heartbeat_warning) is not None:
            _log.warning("%s", warning)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._address = await self._listener.start(self._config.listen)
        advertised = self._config.advertise or self._address
        self._follow_configuration()
        self._links.start(dataclasses.replace(self._identity, address=advertised))
        self._arm_timer()
        return self._address

    async def run(self) -> None:
        """Serve until stopped; see the class for what it raises."""
        try:
            await self._ended
        finally:
            self._close()

    def stop(self) -> None:
        """Let ``run`` return. Clients that wait are told that their outcome is unknown."""
        if not self._ended.done():
            self._ended.set_result(None)

    def leave(self) -> None:
        """Stop, but as a leader let another one take over first (thesis §3.10).

        That is tried for two election timeouts; a second call stops at once.
        """
        if self._leaving or not self._hands_over():
            self.stop()
            return
        self._leaving = True
        _log.info("leadership goes to server %d before this one stops", self.core.transferee)
        self._loop.call_later(2 * self._config.core.election_timeout_max, self.stop)
        self._schedule_turn()

    def _hands_over(self) -> bool:
        """Tell whether another one is about to take over; begin that if none is."""
        core = self.core
        return core.transferee is not None or (
            core.transfer_leadership(None, self.clock.now()) is None
        )

    def _stop_if_left(self) -> None:
        """Stop once somebody else leads and has told this server what became of its clients."""
        core = self.core
        replaced = core.role is not Role.LEADER and core.leader is not None
        if self._leaving and replaced and not self._requests.busy:
            self.stop()

    def _fail(self, error: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._requests.close()
        self.watchers.close()
        self._links.close()
        self._listener.close()
        self._saver.close()
        self._store.close()

    # --- The turn: everything that came in since the last one -----------------------------------

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._guarded, self._turn)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Do ``work``; an error in it ends the server, visibly: Raft cannot skip over a failure."""
        if self._ended.done():
            return
        try:
            work()
        except Exception as error:
            self._fail(error)

    def _turn(self) -> None:
        self._turn_scheduled = True  # what comes up meanwhile is worked off in this very turn
        now = self.clock.now()
        self._requests.reads.ask(now)
        events: list[CoreEvent] = []
        while (ready := self.core.ready(now)) is not None:
            # Both leave in this order when the turn is over: the cause, then its effect.
            events += self._publish()
            self._work_off(ready)
        self._turn_scheduled = False
        self._applier.work()
        events += self._publish()
        self._requests.settle(events)
        self._requests.reads.answer()
        self._answer_barriers()
        self._arm_timer()
        self._log_leader()
        self._stop_if_left()

    def _log_leader(self) -> None:
        known = self.core.term, self.core.leader
        if known == self._known_leader:
            return
        self._known_leader = term, leader = known
        if leader is not None:
            me = self.core.config.server
            _log.info("term %d: %s", term, "we lead" if leader == me else f"server {leader} leads")

    def _publish(self) -> list[CoreEvent]:
        """Tell observers what happened in the core since the last time, and return it."""
        events = self.core.take_events()
        self._observers.publish(events, self.clock.now())
        self.watchers.publish(events)
        return events

    def _work_off(self, ready: Ready) -> None:
        self._follow_configuration()
        # A leader's appends need not wait for its own disk (thesis §10.2.1) ...
        self._send(ready.messages)
        # ... but votes and acknowledgements promise what is on it: see ``_saved``.
        self._saver.save(ready)
        self._applier.take(ready)
        self._requests.reads.confirm(ready.read_states)

    def _saved(self, readys: list[Ready]) -> None:
        for ready in readys:
            self.core.persisted(ready.number, self.clock.now())
            self._send(ready.messages_after_persist)
            if ready.snapshot is not None:
                self._requests.stored(ready.snapshot)
        self._schedule_turn()

    def _send(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            if isinstance(message, REQUESTS):
                self._round_trips.sent(message, self.clock.now())
            self._links.send(message)
        if not self._observers:
            # The others work while this server applies; observers must hear of the cause first.
            self._links.flush()

    def _follow_configuration(self) -> None:
        core = self.core
        committed = core.configuration_index <= core.commit_index
        self._links.follow(core.configuration, committed=committed)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            if self._armed_for == self.core.deadline:
                return
            self._timer.cancel()
            self._timer = None
        delay = self.clock.real_delay(self.core.deadline)
        if delay is not None:
            self._armed_for = self.core.deadline
            self._timer = self._loop.call_later(delay, self._guarded, self._fire_timer)

    def _fire_timer(self) -> None:
        self._timer = None
        # After a pause a heartbeat may just have been read: then this timer is out of date.
        if self._armed_for == self.core.deadline:
            # The loop may wake a clock's tick too early; the timer is due all the same.
            self.core.tick(max(self.clock.now(), self.core.deadline))
        self._schedule_turn()

    # --- Peers (called by the Listener) -----------------------------------------------------------

    def peer_attached(self, peer: ServerId, address: str) -> None:
        """Call a peer that just called us: it is up again, however long it was away."""
        self._links.attached(peer, address)

    def peer_lost(self, peer: ServerId) -> None:
        """Stop calling a server that is no member and has gone."""
        self._links.lost(peer)

    def peer_message(self, message: Message) -> None:
        """Take in a message of another server."""
        self._guarded(lambda: self.core.step(message, self.clock.now()))
        self._schedule_turn()
        if isinstance(message, REPLIES):
            members = self.core.configuration
            warning = self._round_trips.answered(message, members, self.clock.now())
            if warning is not None:
                _log.warning("%s", warning)

    # --- Clients (called by the Listener) ---------------------------------------------------------

    def client_request(self, connection: Connection, request: FromClient) -> None:
        """Begin a request; its reply follows when it is known."""
        self._guarded(lambda: self._requests.begin(connection, request))

    # --- Observers (called by the Listener) -----------------------------------------------------

    def observer_attached(self, connection: Connection) -> None:
        """Show a new observer the whole state, then everything that happens."""
        self._observers.add(connection, self.clock.now())

    def control(self, connection: Connection, control: Control) -> None:
        """Do what an observer asks. Only an attended server's time is another's to set."""
        if not self._config.attended:
            connection.close("this server is not attended: nobody sets its clock or its timers")
            return
        match control:
            case SetClock(virtual, monotonic, rate):
                self.clock.set(virtual, monotonic, rate)
                if not self._clock_was_set:
                    # Or a server that starts late would find its first timeout long over.
                    self._clock_was_set = True
                    self.core.wait_anew(self.clock.now())
                    self._schedule_turn()
                self._armed_for = None
                self._arm_timer()
                if self._disk is not None:
                    self._disk.follow(self.clock)
            case FireTimer():
                self._guarded(lambda: self.core.tick(max(self.clock.now(), self.core.deadline)))
                self._schedule_turn()
            case Campaign():
                self._guarded(self._campaign)
                self._schedule_turn()
            case Barrier():
                self._barriers.append((connection, control))
                self._schedule_turn()
            case SetDisk() | CutPower():
                self._befall(connection, control)

    def _befall(self, connection: Connection, control: SetDisk | CutPower) -> None:
        if self._disk is None:
            connection.close("this server's disk does not fail on command")
        elif isinstance(control, SetDisk):
            self._disk.rig(control.delay, control.full, control.fail_sync, control.tear)
        else:
            self._disk.cut_power()

    def _campaign(self) -> None:
        self.core.campaign(self.clock.now())

    def _answer_barriers(self) -> None:
        """Answer those whose messages are worked off, to the last thing that follows from them."""
        if self._saver.busy or self._applier.busy:
            return
        waiting = []
        for connection, barrier in self._barriers:
            if self._listener.peer_messages_received >= barrier.received:
                reached = BarrierReached(barrier.token, self._links.messages_sent)
                self._observers.answer(connection, reached, self.clock.now())
            else:
                waiting.append((connection, barrier))
        self._barriers = waiting

    def connection_lost(self, connection: Connection) -> None:
        """Forget whoever was at the other end."""
        self._observers.remove(connection)
        self._requests.forget(connection)
        self._barriers = [(c, b) for c, b in self._barriers if c is not connection]
