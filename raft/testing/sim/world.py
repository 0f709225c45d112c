"""The simulation itself: one queue of what is due, and a cluster that it happens to.

An event is what is taken from the queue and does something: a message arrives at a server that
runs, a timer fires, a disk completes a save, a client's request, answer or turn, a fault
begins or ends. After each of them every invariant has been checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any

from raft.core.membership import Configuration
from raft.core.messages import AppendEntries, Index, Message, ServerId
from raft.core.quorum import majority
from raft.core.rules import Rules
from raft.machine.sessions import decode_answer
from raft.storage.base import StorageError
from raft.storage.wal import Wal
from raft.testing.sim.chance import Chance
from raft.testing.sim.clients import Clients
from raft.testing.sim.disks import MemoryDisk, ServerDisk, WalDisk
from raft.testing.sim.facts import Violation
from raft.testing.sim.faults import SPARES, Fault
from raft.testing.sim.invariants import Invariants
from raft.testing.sim.nemesis import Nemesis, leads
from raft.testing.sim.network import Network
from raft.testing.sim.node import Node, Watch
from raft.testing.sim.operations import Operation
from raft.testing.sim.operator_mutants import OPERATOR_MUTANTS
from raft.testing.sim.scenario import Scenario
from raft.testing.store_mutants import STORE_MUTANTS

_KINDS = {kind: number for number, kind in enumerate(Message.__args__, 1)}

_Answer = tuple[Operation, bool, bytes, Index, ServerId | None]


def _said(operation: Operation, result: bytes, index: Index) -> str:
    """Return what a server answers to a client, in words."""
    if operation.in_session:
        return f"{decode_answer(result)}, by entry {index}"
    if operation.is_write:
        return f"done by entry {index}"
    return f"{result.decode() or 'nothing'}, up to entry {index}"


class World:
    """A cluster, its network, its clients and its bad luck. ``run`` lets it all happen."""

    def __init__(
        self,
        scenario: Scenario,
        faults: Iterable[Fault],
        rules: Rules | None = None,
        operations: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Prepare a run; ``operations``: so many at most, ``watch`` is told what happens."""
        self.scenario = scenario
        self.chance = Chance(scenario.seed)
        self.rules = rules or Rules()
        self.now = 0.0
        self.events = 0
        self.trace = 0
        """Stands for all that happened: equal runs have equal ones."""
        self.watch = watch
        self._queue: list[tuple[float, int, Callable[[Any], None], Any]] = []
        self._sequence = 0
        self._contexts = 0
        first = tuple(ServerId(number) for number in range(1, scenario.size + 1))
        everybody = tuple(ServerId(number) for number in range(1, scenario.size + SPARES + 1))
        self.invariants = Invariants(Configuration(first))
        self.network = Network(scenario, self.chance, everybody, self._after, self._arrive)
        self.nodes: dict[ServerId, Node] = {}
        mutant = scenario.operator_mutant
        self.nemesis: Nemesis = OPERATOR_MUTANTS[mutant](self) if mutant else Nemesis(self)
        self.clients = Clients(self, operations)
        for server in first:
            self._add(server, first)
        for fault in faults:
            self._push(fault.at, self._begin, fault)

    def start(self) -> None:
        """Start the servers and the clients."""
        for node in self.nodes.values():
            node.start()
        self.clients.start()

    # --- The queue -----------------------------------------------------------------------------

    def _push(self, when: float, action: Callable[[Any], None], what: Any) -> None:
        self._sequence += 1
        heappush(self._queue, (when, self._sequence, action, what))

    def _after(self, delay: float, action: Callable[[Any], None], what: Any) -> None:
        self._sequence += 1
        heappush(self._queue, (self.now + delay, self._sequence, action, what))

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """Do something later."""
        self._push(self.now + delay, self._do, action)

    def run_until(self, end: float) -> None:
        """Let everything happen that is due by then."""
        queue = self._queue
        while queue and queue[0][0] <= end:
            self.now, _, action, what = heappop(queue)
            action(what)
        self.now = end

    def _note(self, kind: int, server: int, detail: int) -> None:
        """Count an event, and let the trace stand for it too."""
        self.events += 1
        # Of numbers alone: what a hash of them is does not depend on the process.
        self.trace = hash((self.trace, self.now, kind, server, detail))

    # --- What happens --------------------------------------------------------------------------

    def _arrive(self, message: Message) -> None:
        node = self.nodes.get(message.dst)
        if node is None or node.core is None:
            return
        end = 0
        if type(message) is AppendEntries:
            end = message.prev_log_index + len(message.entries)
        self._note(_KINDS[type(message)], message.dst, message.term << 16 ^ end)
        if self.watch is not None:
            self.watch(self.now, message.dst, message)
        node.take(message)

    def _do(self, action: Callable[[], object]) -> None:
        self._note(20, 0, 0)
        action()

    def _begin(self, fault: Fault) -> None:
        self._note(21, 0, fault.number)
        if self.watch is not None:
            self.watch(self.now, ServerId(0), fault)
        self.nemesis.begin(fault)

    def wake_at(self, node: Node, when: float) -> None:
        """Call ``node.wake`` then."""
        if when < math.inf:
            self._push(when, self._wake, (node, node.life))

    def _wake(self, what: tuple[Node, int]) -> None:
        node, life = what
        if node.life == life and node.wake():
            self._note(22, node.server, 0)

    def saved_at(self, node: Node, when: float) -> None:
        """Call ``node.save_done`` then, unless it crashes before."""
        self._push(when, self._saved, (node, node.life))

    def _saved(self, what: tuple[Node, int]) -> None:
        node, life = what
        if node.life == life:
            self._note(23, node.server, 0)
            node.save_done()

    def send(self, node: Node, message: Message) -> None:
        """Let a message leave, after a look at what it promises."""
        self.invariants.said(node.server, message)
        self.network.send(message)

    def lease_used(self, node: Node, index: Index) -> None:
        """Look at a read that asked nobody: those who would elect another must be no quorum.

        Nor is it one if a voter that is joining has heard of nobody yet: while the configuration
        is joint, a majority of the old voters is needed as well.
        """
        self.invariants.lease_used(node.server, index)
        assert node.core is not None
        free = [
            s for s, n in self.nodes.items() if not (n is node or n.is_patient_with(node.server))
        ]
        if node.core.configuration.is_quorum(free, majority):
            raise Violation(
                "28 leases",
                f"S{node.server} reads by its lease, but {free} are free to elect another",
            )

    def failed(self, node: Node, error: StorageError) -> None:
        """Stop a server whose disk failed, as the real one stops."""
        self.invariants.coverage["stopped by its disk"] += 1
        node.kill(0)
        self.nemesis.start_soon(node)

    # --- Clients -------------------------------------------------------------------------------

    def request_at(self, delay: float, node: Node, operation: Operation) -> None:
        """Let a request arrive at a server after ``delay``."""
        self._after(delay, self._request, (node, operation))

    def _request(self, what: tuple[Node, Operation]) -> None:
        node, operation = what
        self._note(24, node.server, operation.number)
        if self.watch is not None:
            down = ": it is down" if node.core is None else ""
            since = f", asked for since {operation.invoked:.4f}"
            line = f"client {operation.client} → S{node.server}  {operation.wish}{since}{down}"
            self.watch(self.now, node.server, line)
        if node.core is not None:
            node.request(operation)

    def reply(
        self, node: Node, operation: Operation, accepted: bool, result: bytes, index: Index
    ) -> None:
        """Let a server's answer reach its client."""
        hint = node.core.leader if node.core is not None else None
        answer = (operation, accepted, result, index, hint if hint in self.nodes else None)
        self._after(self.scenario.delay, self._answer, (node.server, answer))

    def _answer(self, what: tuple[ServerId, _Answer]) -> None:
        server, answer = what
        operation, accepted, result, index, _ = answer
        self._note(26, 0, operation.number)
        if self.watch is not None:
            said = _said(operation, result, index) if accepted else "refused"
            line = f"S{server} → client {operation.client}  {operation.wish}: {said}"
            self.watch(self.now, server, line)
        self.clients.answered(*answer)

    def next_context(self) -> int:
        """Return a number for a read that no other read has."""
        self._contexts += 1
        return self._contexts

    # --- The cluster ---------------------------------------------------------------------------

    def _add(self, server: ServerId, members: tuple[ServerId, ...]) -> Node:
        disk: ServerDisk = MemoryDisk()
        if self.scenario.durable:
            store = STORE_MUTANTS[self.scenario.store] if self.scenario.store else Wal
            disk = WalDisk(server, self.chance.stream("storage", server), members, store)
        node = self.nodes[server] = Node(self, server, members, disk)
        return node

    def add_node(self, server: ServerId) -> Node:
        """Return a server that may become a member, running if it can."""
        node = self.nodes.get(server) or self._add(server, ())
        self.nemesis.start(node)
        return node

    def leader(self) -> Node | None:
        """Return who leads the highest term that has a leader, of those that run."""
        leaders = [node for node in self.nodes.values() if node.running and leads(node.core)]
        return max(leaders, key=lambda node: node.core.term if node.core else 0, default=None)
