"""What lets faults happen to a cluster, and takes them back."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from raft.core.core import Core
from raft.core.events import Role
from raft.core.membership import (
    AddLearner,
    AddVoter,
    Change,
    Configuration,
    ConfigurationError,
    Demote,
    Remove,
)
from raft.core.messages import ServerId
from raft.core.ready import Refused
from raft.storage.base import StorageDamaged, StorageError
from raft.testing.sim.chance import Chance
from raft.testing.sim.faults import LEADER, SPARES, Fault
from raft.testing.sim.invariants import Invariants
from raft.testing.sim.network import Link, Network
from raft.testing.sim.node import Node
from raft.testing.sim.scenario import MOST_SERVERS, Scenario

Action = Callable[[Fault, tuple[Node, ...]], None]


class Battlefield(Protocol):
    """What the nemesis works on."""

    now: float
    scenario: Scenario
    chance: Chance
    invariants: Invariants
    network: Network
    nodes: dict[ServerId, Node]

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """Do something later."""

    def leader(self) -> Node | None:
        """Return who leads the highest term that has a leader."""

    def add_node(self, server: ServerId) -> Node:
        """Return a server that may become a member, running if it can."""


class Nemesis:
    """Begins and ends faults. ``counts`` tells how often each kind found something to break."""

    def __init__(self, world: Battlefield) -> None:
        self.counts: Counter[str] = Counter()
        self.enabled = True
        """False: all faults are over, those included that would still begin or end."""
        self._world = world
        self._actions: Mapping[str, Action] = {
            "crash": self._crash,
            "power": self._power,
            "blackout": self._power,
            "pause": self._pause,
            "freeze": self._freeze,
            "clock": self._clock,
            "isolate": lambda fault, nodes: self._cut(fault, self._around(nodes)),
            "deaf": lambda fault, nodes: self._cut(fault, self._into(nodes)),
            "mute": lambda fault, nodes: self._cut(fault, self._out_of(nodes)),
            "one-way": self._one_way,
            "halves": lambda fault, nodes: self._cut(fault, self._around(nodes)),
            "bridge": self._bridge,
            "ring": self._ring,
            "flapping": self._flapping,
            "swizzle": self._swizzle,
            "stall": self._stall,
            "loss": self._loss,
            "duplicate": self._duplicate,
            "reorder": self._reorder,
            "slow-disk": self._slow_disk,
            "full-disk": self._full_disk,
            "bad-sync": self._bad_sync,
            "damage": self._damage,
            "members": self._members,
            "snapshot": self._snapshot,
            "lag": self._lag,
            "transfer": self._transfer,
            "campaign": self._campaign,
            "forget-leader": self._forget_leader,
            "corrupt": lambda fault, nodes: self._on_all_links(fault, "corrupt"),
            "reset": self._reset,
            "bandwidth": self._bandwidth,
            "clock-jump": self._clock_jump,
            "clock-back": self._clock_back,
            "slow-node": self._slow_node,
            "power-again": self._power_again,
            "bad-start": self._bad_start,
            "bad-write": self._bad_write,
            "short-write": self._short_write,
            "bad-sector": self._spoil,
            "stale-sector": self._spoil,
            "misdirected": self._spoil,
            "truncate": self._spoil,
            "replace": self._replace,
            "backlog": self._backlog,
        }

    def begin(self, fault: Fault) -> None:
        """Let a fault happen, if there is what it happens to."""
        if not self.enabled:
            return
        nodes = []
        for server in fault.servers:
            node = self._world.leader() if server == LEADER else self._world.nodes.get(server)
            if node is None:
                return
            nodes.append(node)
        self._actions[fault.kind](fault, tuple(nodes))

    def _later(self, delay: float, action: Callable[[], object]) -> None:
        self._world.after(delay, lambda: action() if self.enabled else None)

    def _happens(self, fault: Fault) -> None:
        self.counts[fault.kind] += 1

    # --- Servers -------------------------------------------------------------------------------

    def _crash(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        draw = self._world.chance.stream("crash", fault.number)
        for node in nodes:
            if node.core is not None:
                self._happens(fault)
                node.kill(draw.randint(0, len(node.pending)))
                self._start_after(fault.lasts, node)

    def _power(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        draw = self._world.chance.stream("power", fault.number)
        self._happens(fault)
        for node in nodes:
            if node.core is not None:
                if draw.random() < 0.5:
                    node.power_fails = True
                    continue
                node.lose_power(draw.randint(0, len(node.pending)))
                self._start_after(fault.lasts * (0.5 + draw.random()), node)

    def _start_after(self, delay: float, node: Node) -> None:
        life = node.life
        self._later(delay, lambda: self.start(node) if node.life == life else None)

    def start(self, node: Node) -> None:
        """Start a server that is down. One that may have forgotten its vote never starts again."""
        if node.core is not None or node.gone:
            return
        try:
            node.start()
        except StorageDamaged:
            self._world.invariants.coverage["did not start"] += 1
            node.gone = True
        except StorageError:
            self._world.invariants.coverage["did not start"] += 1
            self.start_soon(node)

    def start_soon(self, node: Node) -> None:
        """Start a server again that its disk has stopped: whoever looks after it does so.

        When a fault of a disk ends, the disk may not have failed yet.
        """
        self._start_after(self._world.scenario.election_timeout, node)

    def _pause(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if node.running:
                self._happens(fault)
                node.pause()
                self._resume_after(fault.lasts, node)

    def _resume_after(self, delay: float, node: Node) -> None:
        life = node.life
        self._later(delay, lambda: node.resume() if node.life == life else None)

    def _freeze(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        # A lease rests on clocks that run: with leases only the process stops.
        if not self._world.scenario.leases:
            self._clock_for(nodes, 0.0, fault.lasts)
        self._pause(fault, nodes)

    def _clock(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        self._clock_for(nodes, fault.amount, fault.lasts)

    def _clock_for(self, nodes: tuple[Node, ...], rate: float, lasts: float) -> None:
        for node in nodes:
            node.set_clock_rate(rate)
            self._later(lasts, partial(node.set_clock_rate, 1.0))

    def _clock_jump(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        # A lease rests on clocks that do not jump.
        if not self._world.scenario.leases:
            self._happens(fault)
            for node in nodes:
                node.jump_clock(fault.amount)

    def _clock_back(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        if not self._world.scenario.leases:
            self._happens(fault)
            self._clock_for(nodes, 0.0, fault.lasts)

    def _slow_node(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for node in nodes:
            node.turn_time = fault.amount

        def heal() -> None:
            for node in nodes:
                node.turn_time = 0.0

        self._later(fault.lasts, heal)

    # --- Links ---------------------------------------------------------------------------------

    def _around(self, nodes: Iterable[Node]) -> list[Link]:
        """Return the links between these servers and all others."""
        inside = {node.server for node in nodes}
        links = self._world.network.links
        return [link for (a, b), link in links.items() if (a in inside) != (b in inside)]

    def _into(self, nodes: Iterable[Node]) -> list[Link]:
        inside = {node.server for node in nodes}
        links = self._world.network.links
        return [link for (a, b), link in links.items() if b in inside and a not in inside]

    def _out_of(self, nodes: Iterable[Node]) -> list[Link]:
        inside = {node.server for node in nodes}
        links = self._world.network.links
        return [link for (a, b), link in links.items() if a in inside and b not in inside]

    def _cut(self, fault: Fault, links: list[Link]) -> None:
        self._happens(fault)
        self._cut_for(links, fault.lasts)

    def _cut_for(self, links: list[Link], lasts: float) -> None:
        for link in links:
            link.cuts += 1

        def heal() -> None:
            for link in links:
                link.cuts -= 1

        self._later(lasts, heal)

    def _one_way(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        link = self._world.network.links.get((nodes[0].server, nodes[1].server))
        if link is not None:
            self._cut(fault, [link])

    def _bridge(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        middle = len(nodes) // 2
        links = self._world.network.links
        left = [node.server for node in nodes[1 : middle + 1]]
        right = [node.server for node in nodes[middle + 1 :]]
        across = [*itertools.product(left, right), *itertools.product(right, left)]
        self._cut(fault, [links[pair] for pair in across])

    def _ring(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        size = len(nodes)
        links = self._world.network.links
        self._cut(
            fault,
            [
                links[nodes[a].server, nodes[b].server]
                for a, b in itertools.permutations(range(size), 2)
                if (a - b) % size not in (1, size - 1)
            ],
        )

    def _flapping(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        links = self._around(nodes)
        step = fault.lasts / 7
        for number in range(0, 7, 2):
            self._later(number * step, lambda: self._cut_for(links, step))

    def _swizzle(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        order = list(nodes)
        self._world.chance.stream("swizzle", fault.number).shuffle(order)
        half = fault.lasts / 2
        for number, node in enumerate(nodes):
            begins = half * number / len(nodes)
            ends = half + half * order.index(node) / len(nodes)
            self._cut_after(begins, self._around([node]), ends - begins)

    def _cut_after(self, delay: float, links: list[Link], lasts: float) -> None:
        self._later(delay, lambda: self._cut_for(links, lasts))

    def _stall(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        network = self._world.network
        links = self._out_of(nodes)
        for link in links:
            link.stalls += 1

        def release() -> None:
            for link in links:
                network.release(link)

        self._later(fault.lasts, release)

    def _reset(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for link in self._around(nodes):
            self._world.network.reset(link)

    def _bandwidth(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        network = self._world.network
        links = self._out_of(nodes)
        for link in links:
            link.rate = int(fault.amount)

        def heal() -> None:
            for link in links:
                network.widen(link)

        self._later(fault.lasts, heal)

    def _loss(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._on_all_links(fault, "loss")

    def _duplicate(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._on_all_links(fault, "duplicate")

    def _reorder(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._on_all_links(fault, "slow")

    def _on_all_links(self, fault: Fault, what: str) -> None:
        self._happens(fault)
        links = list(self._world.network.links.values())
        for link in links:
            setattr(link, what, fault.amount)

        def heal() -> None:
            for link in links:
                setattr(link, what, 0.0)

        self._later(fault.lasts, heal)

    # --- Disks ---------------------------------------------------------------------------------

    def _slow_disk(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for node in nodes:
            node.disk_slowness = fault.amount

        def heal() -> None:
            for node in nodes:
                node.disk_slowness = 0.0

        self._later(fault.lasts, heal)

    def _full_disk(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for node in nodes:
            node.disk.set_full(True)

        def heal() -> None:
            for node in nodes:
                node.disk.set_full(False)
                self.start(node)

        self._later(fault.lasts, heal)

    def _bad_sync(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for node in nodes:
            node.disk.fail_sync()
        for node in nodes:
            self._later(fault.lasts, partial(self.start, node))

    def _power_again(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if node.core is not None:
                self._happens(fault)
                node.lose_power(0)
                node.disk.cut_opening(int(fault.amount * 10))
                self._later(fault.lasts, partial(self.start, node))
                self._later(2 * fault.lasts, partial(self.start, node))

    def _bad_start(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if node.core is not None:
                self._happens(fault)
                node.kill(len(node.pending))
                node.disk.fail_opening()
                self.start(node)
                self._later(fault.lasts, partial(self.start, node))

    def _bad_write(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for node in nodes:
            node.disk.fail_write()
            self._later(fault.lasts, partial(self.start, node))

    def _short_write(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._happens(fault)
        for node in nodes:
            node.disk.limit_writes(int(fault.amount))
            self._later(fault.lasts, partial(node.disk.limit_writes, None))

    def _spoil(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if node.gone or not self._can_lose(node.server):
                continue
            if node.core is not None:
                node.kill(len(node.pending))
            if node.disk.spoil(fault.kind, fault.amount):
                self._happens(fault)
                self._world.invariants.recoveries.damaged(node.server)
            self.start(node)

    def _damage(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if node.gone or not self._can_lose(node.server):
                continue
            self._happens(fault)
            if node.core is not None:
                node.kill(len(node.pending))
            node.disk.flip_bit(fault.amount)
            self._world.invariants.recoveries.damaged(node.server)
            self.start(node)

    def _can_lose(self, server: ServerId) -> bool:
        """Tell whether, without it, every set of voters that may count still has a majority."""
        invariants = self._world.invariants
        return all(
            self._survives(configuration, server)
            for facts in invariants.facts.values()
            for configuration in facts.may_count(invariants.commit)
        )

    def _survives(self, configuration: Configuration, lost: ServerId | None = None) -> bool:
        for half in (configuration.voters, configuration.outgoing):
            gone = [s for s in half if s == lost or self._is_gone(s)]
            if half and 2 * (len(half) - len(gone)) <= len(half):
                return False
        return True

    def _is_gone(self, server: ServerId) -> bool:
        """Tell whether a server is of no use for now, or for ever."""
        node = self._world.nodes.get(server)
        return self._world.invariants.lacks(server) or (node is not None and node.gone)

    # --- What people do ------------------------------------------------------------------------

    def _members(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return
        changes = self._choose_changes(fault, leader.core.configuration)
        if changes and self.change(leader, changes):
            self._happens(fault)

    def change(self, leader: Node, changes: list[Change]) -> bool:
        """Ask a leader for a change that does not leave the cluster without a majority."""
        core = leader.core
        assert core is not None
        try:
            target = core.configuration.after(changes)
        except ConfigurationError:
            return False
        if not self._survives(target):
            return False
        for change in changes:
            if isinstance(change, AddVoter | AddLearner):
                self._world.add_node(change.server)
        refused = core.propose_change(changes, leader.now)
        leader.turn()
        return not isinstance(refused, Refused)

    def _choose_changes(self, fault: Fault, now: Configuration) -> list[Change]:
        draw = self._world.chance.stream("members", fault.number)
        size = self._world.scenario.size
        everybody = [ServerId(s) for s in range(1, size + SPARES + 1)]
        outside = [s for s in everybody if s not in now.members and not self._is_gone(s)]
        changes: list[Change] = []
        wanted = draw.sample(("add", "remove", "learner", "promote", "demote"), 2)
        for what in wanted[: draw.randint(1, 2)]:
            if what == "add" and outside and len(now.voters) < MOST_SERVERS:
                changes.append(AddVoter(outside.pop(draw.randrange(len(outside)))))
            elif what == "learner" and outside:
                changes.append(AddLearner(outside.pop(draw.randrange(len(outside)))))
            elif what == "promote" and now.learners:
                changes.append(AddVoter(draw.choice(now.learners)))
            elif what in ("remove", "demote") and len(now.voters) > 1:
                kind = Remove if what == "remove" else Demote
                changes.append(kind(draw.choice(now.voters)))
        servers = [change.server for change in changes]
        return changes[: len(set(servers))] if len(set(servers)) == len(servers) else changes[:1]

    def _replace(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        """Do what is right when a disk is lost, or only an old copy of it is left.

        A server that forgot its votes and what it acknowledged must not come back under its
        name: it is removed, and a new one, with an empty disk, is added under another name.
        """
        for node in nodes:
            if not node.gone and self._can_lose(node.server):
                self._happens(fault)
                if node.core is not None:
                    node.kill(0)
                node.gone = True
                self._later(fault.lasts, partial(self._put_in_place, node, fault.lasts))

    def _put_in_place(self, node: Node, wait: float) -> None:
        """Ask whoever leads to replace a server, again and again until it is done."""
        self._later(wait, partial(self._put_in_place, node, wait))
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return
        now = leader.core.configuration
        changes: list[Change] = [Remove(node.server)] if node.server in now.members else []
        spare = next((s for s in self._everybody() if not self._is_known(s)), None)
        if changes and spare is not None and len(now.voters) <= MOST_SERVERS:
            changes.append(AddVoter(spare))
        if changes and self.change(leader, changes):
            self._world.invariants.coverage["server replaced"] += 1

    def _everybody(self) -> list[ServerId]:
        return [ServerId(s) for s in range(1, self._world.scenario.size + SPARES + 1)]

    def _is_known(self, server: ServerId) -> bool:
        return server in self._world.nodes

    def _snapshot(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            if node.running:
                self._happens(fault)
                node.compact(int(fault.amount * 4))

    def _lag(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        self._cut(fault, self._around(nodes))
        others = [n for n in self._world.nodes.values() if n not in nodes]
        for node in others:
            self._later(fault.lasts * 0.9, partial(node.compact, 0))

    def _backlog(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        """Let a server get, in one turn, what another leader has for it: entries, and a snapshot.

        It may have led, with entries that these replace. What it has stored then shows at once.
        """
        (node,) = nodes
        if not node.running:
            return
        self._cut(fault, self._around(nodes))
        life = node.life

        def go_on() -> None:
            self._world.invariants.coverage["worked off at once"] += bool(node.inbox)
            node.resume()
            if node.core is not None:
                node.kill(len(node.pending))
                self._start_after(fault.lasts, node)

        def unless_down(action: Callable[[], object]) -> Callable[[], object]:
            return lambda: action() if node.life == life else None

        self._later(fault.lasts, unless_down(node.pause))
        for other in self._world.nodes.values():
            if other is not node:
                self._later(fault.lasts * 1.5, partial(other.compact, 0))
        self._later(fault.lasts * 2, unless_down(go_on))

    def _transfer(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return
        (target,) = nodes
        to = None if target is leader else target.server
        if leader.core.transfer_leadership(to, leader.now) is None:
            self._happens(fault)
        leader.turn()

    def _campaign(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            # A server that campaigns although it hears its leader breaks the leader's lease.
            if node.core is None or (self._world.scenario.leases and node.is_patient):
                continue
            if node.running and node.core.campaign(node.now):
                self._happens(fault)
                node.turn()

    def _forget_leader(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            # A server that forgets its leader breaks the leader's lease.
            if node.running and node.core is not None and not self._world.scenario.leases:
                self._happens(fault)
                node.core.forget_leader()
                node.heard = None
                node.heard_at = -math.inf
                node.turn()


def leads(core: Core | None) -> bool:
    """Tell whether this server leads."""
    return core is not None and core.role is Role.LEADER
