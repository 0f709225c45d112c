"""The clients of a simulated cluster: they write and read registers, and remember everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raft.core.messages import Index, ServerId
from raft.machine.sessions import (
    Numbering,
    OpenSession,
    Perform,
    Performed,
    SessionAnswer,
    SessionOpened,
    decode_answer,
    encode_request,
)
from raft.testing.sim.chance import Chance
from raft.testing.sim.invariants import Invariants
from raft.testing.sim.node import Node, Watch
from raft.testing.sim.operations import Operation
from raft.testing.sim.scenario import Scenario

PATIENCE = 12
"""So many election timeouts a client waits for an answer; then the outcome is unknown."""

RETRIES = 3
"""So often a client sends a command of a session again."""

OPERATIONS_A_KEY = 60
"""Then the clients go on with fresh keys: to check a history takes longer than its length."""


class Service(Protocol):
    """What clients use."""

    now: float
    scenario: Scenario
    chance: Chance
    invariants: Invariants
    nodes: dict[ServerId, Node]
    watch: Watch | None

    def request_at(self, delay: float, node: Node, operation: Operation) -> None:
        """Let a request arrive at a server after ``delay``."""

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """Do something later."""


class Client:
    """One client: one operation at a time, on whichever server it takes for the leader."""

    def __init__(self, number: int, clients: Clients) -> None:
        self.number = number
        self.current: Operation | None = None
        self._clients = clients
        self._world = clients.world
        self._draw = self._world.chance.stream("client", number)
        self._server: ServerId | None = None
        self._gives_up = 0.0
        self._retries = 0
        self._numbering: Numbering | None = None
        self._perform = Perform(0, 0, 0, b"")

    def turn(self) -> None:
        """Begin an operation, try again, or give up: what it is time for."""
        world = self._world
        if self._clients.over:
            return
        if self.current is not None and world.now >= self._gives_up:
            self._server = None
            # In a session the same command may be sent again: it takes effect once.
            if self.current.in_session and self._retries > 0:
                self._retries -= 1
                self._wait(self.current)
                return
            self._give_up()
        if self.current is None:
            if not self._clients.open:
                return
            if world.scenario.sessions and self._numbering is None:
                self.current = Operation(self.number, -1, b"", True, False, world.now)
                self.current.in_session = encode_request(OpenSession())
            else:
                self.current = self._clients.new_operation(self, self._draw.random())
                if self._numbering is not None and self.current.is_write:
                    self._perform = self._numbering.number(self.current.command)
                    self.current.in_session = encode_request(self._perform)
            self._retries = RETRIES
            self._wait(self.current)

    def _wait(self, operation: Operation) -> None:
        patience = PATIENCE * self._world.scenario.election_timeout
        self._gives_up = self._world.now + patience
        self._world.after(patience, self.turn)
        self._send(operation)

    def _give_up(self) -> None:
        """Never learn what became of it: with a new session the old one's retries are over."""
        if self.current is not None and self._world.watch is not None:
            line = f"client {self.number} has no answer and gives up: {self.current.wish}"
            self._world.watch(self._world.now, ServerId(0), line)
        self.current = None
        self._numbering = None

    def _send(self, operation: Operation) -> None:
        servers = sorted(self._world.nodes)
        if self._server is None or (not operation.is_write and self._draw.random() < 0.3):
            self._server = servers[int(self._draw.random() * len(servers))]
        delay = self._world.scenario.delay * (1 + self._draw.random())
        self._world.request_at(delay, self._world.nodes[self._server], operation)

    def answered(
        self,
        operation: Operation,
        accepted: bool,
        result: bytes,
        index: Index,
        hint: ServerId | None,
    ) -> None:
        """Take in an answer; a late one, to what is given up, counts no more."""
        world = self._world
        if operation is not self.current:
            return
        if not accepted:
            self._server = hint
            pause = world.scenario.election_timeout / 8
            world.after(pause, lambda: self._again(operation))
            return
        self.current = None
        if not operation.in_session:
            operation.result, operation.position = result, index
            operation.returned = world.now
        else:
            self._answered_in_session(operation, decode_answer(result))
        world.after(world.scenario.think * self._draw.random(), self.turn)

    def _answered_in_session(self, operation: Operation, answer: SessionAnswer) -> None:
        match answer:
            case SessionOpened(session):
                self._numbering = Numbering(session)
            case Performed() if self._numbering is not None:
                self._numbering.answered(self._perform)
                operation.returned = self._world.now
                operation.position = self._world.invariants.effects[operation.command]
            case _:
                # The session has expired: nobody knows what became of the command.
                self._give_up()

    def _again(self, operation: Operation) -> None:
        if operation is self.current and not self._clients.over:
            self._send(operation)


class Clients:
    """All clients, and the history of what they did."""

    def __init__(self, world: Service, most: int | None) -> None:
        self.world = world
        self.history: list[Operation] = []
        self.open = True
        """They still begin operations."""
        self.over = False
        """They ask for nothing any more."""
        self._most = most
        self._keys = world.scenario.keys
        self.clients = [Client(number, self) for number in range(world.scenario.clients)]

    def start(self) -> None:
        """Let all clients begin."""
        for client in self.clients:
            self.world.after(0.0, client.turn)

    def new_operation(self, client: Client, drawn: float) -> Operation:
        """Return the next operation of a client, and note it."""
        number = len(self.history)
        epoch = number // (OPERATIONS_A_KEY * self._keys)
        key = b"k%d" % (epoch * self._keys + number % self._keys)
        leases = self.world.scenario.leases and drawn < 0.3
        operation = Operation(client.number, number, key, drawn > 0.6, leases, self.world.now)
        self.history.append(operation)
        if self._most is not None and len(self.history) >= self._most:
            self.open = False
        return operation

    def fresh_write(self) -> Operation:
        """Return a write of nobody in particular; who asks for it may ask again."""
        number = len(self.history)
        operation = Operation(len(self.clients), number, b"last", True, False, self.world.now)
        self.history.append(operation)
        return operation

    def answered(
        self,
        operation: Operation,
        accepted: bool,
        result: bytes,
        index: Index,
        hint: ServerId | None,
    ) -> None:
        """Hand an answer to the client it is for."""
        if operation.client == len(self.clients):
            if accepted:
                operation.returned, operation.position = self.world.now, index
            return
        self.clients[operation.client].answered(operation, accepted, result, index, hint)
