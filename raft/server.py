"""One Raft server: the only place where core, store, transport and clock meet (design §3).

Everything runs on one event loop, and nothing polls: messages, requests and the one timer set
the core in motion, and all that came in one turn of the loop is worked off together, so that
one write to the disk serves it all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raft.clock import VirtualClock
from raft.core.core import Config, Core, Ready
from raft.core.events import CoreEvent, EntriesTruncated, Role
from raft.core.messages import Entry, EntryKind, Index, Message, ServerId, Term
from raft.core.rules import Rules
from raft.frames import (
    Barrier,
    BarrierReached,
    Campaign,
    ClientReply,
    ClientRequest,
    Control,
    FireTimer,
    FollowerProgress,
    NotLeader,
    Observation,
    ObservationsLost,
    ObservedEvent,
    OutcomeUnknown,
    Propose,
    Read,
    Rejected,
    Result,
    ServerState,
    SetClock,
    Status,
    StatusQuery,
)
from raft.machine.base import StateMachine
from raft.storage.base import LogStore
from raft.transport import Connection, Identity, Listener, PeerLink
from raft.wire import encode

log = logging.getLogger(__name__)

MAX_COMMAND_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How one server takes part in its cluster.

    ``peers`` maps every other member to ``host:port``. ``listen`` is ``host:port``, port 0 for
    any free one. ``seed`` fixes the election timeouts (None: drawn afresh). An ``attended``
    server's time stands still until an observer sets its clock.
    """

    core: Config
    cluster: str
    secret: bytes
    listen: str
    peers: Mapping[ServerId, str]
    seed: int | None = None
    attended: bool = False


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A client that waits for the entry it proposed, known by its index, to be applied."""

    term: Term
    connection: Connection
    request_id: int


@dataclass(frozen=True, slots=True)
class _PendingRead:
    """A client that waits for a read."""

    connection: Connection
    request_id: int
    query: bytes


class Server:
    """A member of a cluster, from its start to its end.

    ``await start()`` opens the store and the port and returns the address; ``await run()``
    returns when :meth:`stop` is called, and raises what made the server unable to go on:
    StorageError, InvariantViolation, or whatever the state machine raised.
    """

    def __init__(
        self,
        config: ServerConfig,
        store: LogStore,
        machine: StateMachine,
        rules: Rules | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._machine = machine
        self.clock = VirtualClock(rate=0.0 if config.attended else 1.0)
        recovered = store.load()
        seed = None if config.seed is None else config.seed * 1_000_003 + config.core.server
        self.core = Core(
            config.core,
            recovered.hard_state,
            recovered.entries,
            random.Random(seed),  # noqa: S311 - timeouts need no secrecy
            self.clock.now(),
            rules,
        )
        self.core.take_events()
        identity = Identity(config.cluster, config.core.server, config.secret)
        self._listener = Listener(identity, tuple(config.peers), self)
        self._links = {
            peer: PeerLink(identity, peer, address) for peer, address in config.peers.items()
        }
        self._observers = _Observers(self._state)
        self._proposals: dict[Index, _Proposal] = {}
        self._reads: dict[int, _PendingRead] = {}
        self._confirmed_reads: list[tuple[Index, _PendingRead]] = []
        self._read_count = 0
        self._barriers: list[tuple[Connection, Barrier]] = []
        self._address = ""
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for: float | None = None
        self._clock_was_set = False
        self._turn_scheduled = False

    # --- Life ------------------------------------------------------------------------------

    async def start(self) -> str:
        """Listen, call the peers, arm the timer; return ``host:port``. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._address = await self._listener.start(self._config.listen)
        for link in self._links.values():
            link.start()
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

    def _fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for proposal in self._proposals.values():
            self._reply(proposal, OutcomeUnknown("the server is shutting down"))
        for read in [*self._reads.values(), *(read for _, read in self._confirmed_reads)]:
            self._reply(read, NotLeader(None))
        for link in self._links.values():
            link.close()
        self._listener.close()
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
        self._turn_scheduled = False
        events: list[CoreEvent] = []
        while (ready := self.core.ready()) is not None:
            # Both leave in this order when the turn is over: the cause, then its effect.
            events += self._publish()
            self._work_off(ready)
        events += self._publish()
        self._settle_proposals(events)
        if self.core.role is not Role.LEADER:
            self._refuse_reads()
        self._answer_reads()
        self._answer_barriers()
        self._arm_timer()

    def _publish(self) -> list[CoreEvent]:
        """Tell observers what happened in the core since the last time, and return it."""
        events = self.core.take_events()
        self._observers.publish(events, self.clock.now())
        return events

    def _work_off(self, ready: Ready) -> None:
        # A leader's appends need not wait for its own disk (thesis §10.2.1) ...
        self._send(ready.messages)
        if ready.hard_state is not None or ready.entries:
            self._store.save(ready.hard_state, ready.first_index, ready.entries)
        self.core.persisted(ready.number)
        # ... but votes and acknowledgements promise what is now on it.
        self._send(ready.messages_after_persist)
        if ready.committed_entries:
            self._apply(ready.first_committed, ready.committed_entries)
        for state in ready.read_states:
            read = self._reads.pop(state.context, None)
            if read is not None:
                self._confirmed_reads.append((state.index, read))

    def _send(self, messages: tuple[Message, ...]) -> None:
        for message in messages:
            self._links[message.dst].send(message)

    def _apply(self, first_index: Index, entries: tuple[Entry, ...]) -> None:
        for index, entry in enumerate(entries, first_index):
            answer = b""
            if entry.kind is EntryKind.COMMAND:
                answer = self._machine.apply(index, entry.data)
            proposal = self._proposals.pop(Index(index), None)
            if proposal is not None:
                # Another leader's entry took its place: this command will never be applied.
                mine = entry.term == proposal.term
                self._reply(proposal, Result(answer) if mine else NotLeader(self.core.leader))
        self.core.applied(Index(first_index + len(entries) - 1))

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
        # The loop may wake a clock's tick too early; the timer is due all the same.
        self.core.tick(max(self.clock.now(), self.core.deadline))
        self._schedule_turn()

    # --- Peers (called by the Listener) -----------------------------------------------------------

    def peer_attached(self, peer: ServerId) -> None:
        """Call a peer that just called us: it is up again, however long it was away."""
        self._links[peer].wake()

    def peer_message(self, message: Message) -> None:
        """Take in a message of another server."""
        self._guarded(lambda: self.core.step(message, self.clock.now()))
        self._schedule_turn()

    # --- Clients (called by the Listener) ---------------------------------------------------------

    def client_request(self, connection: Connection, request: ClientRequest) -> None:
        """Begin a request; its reply follows when it is known."""
        match request.body:
            case Propose(data):
                self._propose(connection, request.id, data)
            case Read(query):
                self._read(connection, request.id, query)
            case StatusQuery():
                connection.send(encode(ClientReply(request.id, self._status())))

    def _propose(self, connection: Connection, request_id: int, data: bytes) -> None:
        reply: NotLeader | Rejected
        if len(data) > MAX_COMMAND_BYTES:
            reply = Rejected(f"the command has {len(data)} bytes; at most {MAX_COMMAND_BYTES} fit")
        elif (refusal := self._machine.check(data)) is not None:
            reply = Rejected(refusal)
        else:
            index = self.core.propose(data, self.clock.now())
            if index is not None:
                self._proposals[index] = _Proposal(self.core.term, connection, request_id)
                self._schedule_turn()
                return
            reply = NotLeader(self.core.leader)
        connection.send(encode(ClientReply(request_id, reply)))

    def _read(self, connection: Connection, request_id: int, query: bytes) -> None:
        self._read_count += 1
        if self.core.read_index(self._read_count, self.clock.now()):
            self._reads[self._read_count] = _PendingRead(connection, request_id, query)
            self._schedule_turn()
        else:
            connection.send(encode(ClientReply(request_id, NotLeader(self.core.leader))))

    def _settle_proposals(self, events: list[CoreEvent]) -> None:
        """Tell clients whose entries were removed that this server cannot say what becomes of them.

        Another server may still hold such an entry, win a later election with it and commit it
        (Figure 8, c and d): "nothing was done" would make the client do it twice.
        """
        lost = OutcomeUnknown("another leader's entry took its place in this server's log")
        for event in events:
            if isinstance(event, EntriesTruncated):
                for index in [i for i in self._proposals if i >= event.from_index]:
                    self._reply(self._proposals.pop(index), lost)

    def _refuse_reads(self) -> None:
        """Send reads that were not confirmed in time to whoever leads now."""
        for read in self._reads.values():
            self._reply(read, NotLeader(self.core.leader))
        self._reads.clear()

    def _answer_reads(self) -> None:
        still_waiting = []
        for index, read in self._confirmed_reads:
            if index <= self.core.last_applied:
                self._reply(read, Result(self._machine.query(read.query)))
            else:
                still_waiting.append((index, read))
        self._confirmed_reads = still_waiting

    def _reply(
        self, to: _Proposal | _PendingRead, body: Result | NotLeader | OutcomeUnknown
    ) -> None:
        to.connection.send(encode(ClientReply(to.request_id, body)))

    def _status(self) -> Status:
        core = self.core
        return Status(
            server=core.config.server,
            role=core.role,
            term=core.term,
            voted_for=core.voted_for,
            leader=core.leader,
            last_index=core.log.last_index,
            last_term=core.log.last_term,
            commit_index=core.commit_index,
            last_applied=core.last_applied,
        )

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
            case FireTimer():
                self._guarded(lambda: self.core.tick(max(self.clock.now(), self.core.deadline)))
                self._schedule_turn()
            case Campaign():
                self._guarded(self._campaign)
                self._schedule_turn()
            case Barrier():
                self._barriers.append((connection, control))
                self._schedule_turn()

    def _campaign(self) -> None:
        self.core.campaign(self.clock.now())

    def _answer_barriers(self) -> None:
        waiting = []
        for connection, barrier in self._barriers:
            if self._listener.peer_messages_received >= barrier.received:
                sent = sum(link.messages_sent for link in self._links.values())
                self._observers.answer(
                    connection, BarrierReached(barrier.token, sent), self.clock.now()
                )
            else:
                waiting.append((connection, barrier))
        self._barriers = waiting

    def connection_lost(self, connection: Connection) -> None:
        """Forget whoever was at the other end."""
        self._observers.remove(connection)
        self._barriers = [(c, b) for c, b in self._barriers if c is not connection]

    def _state(self) -> ServerState:
        core = self.core
        return ServerState(
            server=core.config.server,
            pid=os.getpid(),
            address=self._address,
            role=core.role,
            term=core.term,
            voted_for=core.voted_for,
            leader=core.leader,
            first_index=Index(1),
            entries=core.log.entries(1, core.log.last_index),
            commit_index=core.commit_index,
            last_applied=core.last_applied,
            votes=tuple(sorted(core.votes)),
            progress=tuple(
                FollowerProgress(peer, p.next_index, p.match_index)
                for peer, p in core.progress.items()
            ),
            timer_kind=core.timer_kind,
            timer_deadline=core.deadline,
            timer_interval=core.timer_interval,
        )


class _Observers:
    """Those who watch, and never slow the server.

    One that reads too slowly misses something, is told how much, and gets the whole state again.
    """

    def __init__(self, state: Callable[[], ServerState]) -> None:
        self._state = state
        self._lost: dict[Connection, int] = {}

    def add(self, connection: Connection, virtual_time: float) -> None:
        self._lost[connection] = 0
        self.answer(connection, self._state(), virtual_time)

    def remove(self, connection: Connection) -> None:
        self._lost.pop(connection, None)

    def answer(self, connection: Connection, event: ObservedEvent, virtual_time: float) -> bool:
        return connection.send(encode(Observation(virtual_time, time.monotonic(), event)))

    def publish(self, events: list[CoreEvent], virtual_time: float) -> None:
        if not events or not self._lost:
            return
        now = time.monotonic()
        frames = [encode(Observation(virtual_time, now, event)) for event in events]
        for connection, lost in self._lost.items():
            if lost and not self._catch_up(connection, lost, virtual_time):
                self._lost[connection] += len(frames)
                continue
            if lost:
                # The whole state, just sent, already tells of these events.
                self._lost[connection] = 0
                continue
            for position, frame in enumerate(frames):
                if not connection.send(frame):
                    self._lost[connection] = len(frames) - position
                    break

    def _catch_up(self, connection: Connection, lost: int, virtual_time: float) -> bool:
        return self.answer(connection, ObservationsLost(lost), virtual_time) and self.answer(
            connection, self._state(), virtual_time
        )
