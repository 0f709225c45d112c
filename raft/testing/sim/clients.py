"""The clients of a simulated cluster: they write and read registers, and remember everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raft.core.messages import Index, ServerId
from raft.testing.sim.chance import Chance
from raft.testing.sim.node import Node
from raft.testing.sim.operations import Operation
from raft.testing.sim.scenario import Scenario

PATIENCE = 12
"""So many election timeouts a client waits for an answer; then the outcome is unknown."""

OPERATIONS_A_KEY = 60
"""Then the clients go on with fresh keys: to check a history takes longer than its length."""


class Service(Protocol):
    """What clients use."""

    now: float
    scenario: Scenario
    chance: Chance
    nodes: dict[ServerId, Node]

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

    def turn(self) -> None:
        """Begin an operation, try again, or give up: what it is time for."""
        world = self._world
        if self.current is not None and world.now >= self._gives_up:
            self.current = None
            self._server = None
        if self.current is None:
            if not self._clients.open:
                return
            self.current = self._clients.new_operation(self, self._draw.random())
            self._gives_up = world.now + PATIENCE * world.scenario.election_timeout
            world.after(self._gives_up - world.now, self.turn)
            self._send(self.current)

    def _send(self, operation: Operation) -> None:
        servers = sorted(self._world.nodes)
        if self._server is None or (not operation.is_write and self._draw.random() < 0.3):
            self._server = servers[int(self._draw.random() * len(servers))]
        delay = self._world.scenario.delay * (1 + self._draw.random())
        self._world.request_at(delay, self._world.nodes[self._server], operation)

    def answered(self, operation: Operation, accepted: bool, hint: ServerId | None) -> None:
        """Take in an answer; a late one, to what is given up, counts no more."""
        world = self._world
        if operation is not self.current:
            return
        if not accepted:
            self._server = hint
            pause = world.scenario.election_timeout / 8
            world.after(pause, lambda: self._again(operation))
            return
        operation.returned = world.now
        self.current = None
        world.after(world.scenario.think * self._draw.random(), self.turn)

    def _again(self, operation: Operation) -> None:
        if operation is self.current:
            self._send(operation)


class Clients:
    """All clients, and the history of what they did."""

    def __init__(self, world: Service, most: int | None) -> None:
        self.world = world
        self.history: list[Operation] = []
        self.open = True
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
        client = self.clients[operation.client]
        if accepted and client.current is operation:
            operation.result, operation.position = result, index
        client.answered(operation, accepted, hint)
