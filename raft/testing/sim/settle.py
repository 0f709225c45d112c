"""The end of a run: nothing is broken any more, and the cluster must come to rest.

That is the other half of what Raft promises (§5.6): with a majority of servers that talk to
each other in time, there is a leader, it serves, and all servers come to hold the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raft.core.membership import Change, Remove
from raft.core.messages import Index
from raft.machine.sessions import Sessions
from raft.testing.sim.facts import Violation
from raft.testing.sim.operations import Operation

if TYPE_CHECKING:
    from raft.testing.sim.node import Node
    from raft.testing.sim.world import World

BOUND = 20
"""Longest election timeouts until there is a leader, and again for each thing it must do."""

QUIET_DELAY = 0.0005


def settle(world: World) -> None:
    """End all faults and see the cluster recover. Raises Violation L1 to L4."""
    _heal(world)
    settling = _Settling(world)
    settling.wait("L1 a leader", settling.has_leader)
    settling.wait("L2 damaged servers are replaced", settling.is_whole)
    settling.wait("L3 a fresh write", settling.has_written)
    settling.wait("L2 convergence", settling.is_equal)
    settling.check_calm()
    _check_acknowledged(world)


def _heal(world: World) -> None:
    world.clients.over = True
    world.network.heal(QUIET_DELAY)
    world.nemesis.enabled = False
    for node in world.nodes.values():
        node.disk.set_full(False)
        node.disk.limit_writes(None)
        node.disk_slowness = node.turn_time = 0.0
        node.power_fails = False
        node.set_clock_rate(1.0)
        if node.stopped:
            node.resume()
        # An fsync that is still to fail fails now; the server starts again below.
        world.nemesis.start(node)


class _Settling:
    """What a cluster at rest must reach, asked again and again."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._scenario = world.scenario
        self._longest = 2 * world.scenario.election_timeout
        self._write: Operation | None = None
        self._write_due = 0.0

    def wait(self, what: str, reached: Callable[[], bool]) -> None:
        """Let time pass until it is reached. Raises Violation if that takes too long."""
        world = self._world
        # One entry a round trip is all that the smallest window allows.
        backlog = world.invariants.commit * 10 * QUIET_DELAY + self._scenario.disk_delay * 100
        give_up = world.now + BOUND * self._longest + backlog
        while not reached():
            if world.now > give_up:
                raise Violation(what, f"not reached {BOUND} election timeouts after all faults")
            for node in world.nodes.values():
                world.nemesis.start(node)
            world.run_until(world.now + self._longest / 8)

    def _members(self) -> list[Node]:
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return []
        nodes = self._world.nodes
        members = leader.core.configuration.members
        return [nodes[server] for server in members if not nodes[server].gone]

    def has_leader(self) -> bool:
        """Tell whether one server leads, and all running members follow it in its term."""
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return False
        self._stop_strangers(leader)
        cores = [node.core for node in self._members() if node.core is not None]
        me = leader.server
        return all(core.leader == me and core.term == leader.core.term for core in cores)

    def _stop_strangers(self, leader: Node) -> None:
        """Switch off servers that were removed: without check-quorum they would disturb."""
        core = leader.core
        assert core is not None
        unfinished = core.configuration_index > core.commit_index or core.configuration.is_joint
        if self._scenario.check_quorum or unfinished:
            return
        for node in self._world.nodes.values():
            if node.core is not None and node.server not in core.configuration.members:
                node.kill(0)
                node.gone = True
                # What it has sent may be under way for long, and would still disturb.
                for (src, _), link in self._world.network.links.items():
                    if src == node.server:
                        self._world.network.reset(link)

    def is_whole(self) -> bool:
        """Tell whether no member is damaged; people remove such a server."""
        leader = self._world.leader()
        if leader is None or leader.core is None:
            return False
        core, nodes = leader.core, self._world.nodes
        configuration = core.configuration
        if configuration.is_joint or core.configuration_index > core.commit_index:
            return False
        damaged = [s for s in configuration.members if nodes[s].gone]
        if not damaged:
            self._stop_strangers(leader)
            return True
        changes: list[Change] = [Remove(damaged[0])]
        core.propose_change(changes, leader.now)
        leader.turn()
        return False

    def has_written(self) -> bool:
        """Tell whether a write that is asked for now is acknowledged."""
        world = self._world
        if self._write is not None and self._write.done:
            return True
        leader = world.leader()
        if leader is None or world.now < self._write_due:
            return False
        self._write_due = world.now + self._longest
        self._write = world.clients.fresh_write()
        leader.request(self._write)
        return False

    def is_equal(self) -> bool:
        """Tell whether all members have the same log, stored, committed and applied to its end."""
        invariants = self._world.invariants
        members = self._members()
        ends = set[tuple[Index, Index, Index, int]]()
        for node in members:
            core = node.core
            if core is None or core.recovering or node.pending:
                return False
            last = core.log.last_index
            ends.add((last, core.commit_index, core.last_applied, node.registers.digest))
            if invariants.facts[node.server].chain[last] != invariants.committed[-1]:
                return False
        return len(ends) == 1 and all(
            last == commit == applied for last, commit, applied, _ in ends
        )

    def check_calm(self) -> None:
        """Check that while nothing happens nothing changes: no new term, no growing queue."""
        world, leader = self._world, self._world.leader()
        assert leader is not None
        assert leader.core is not None
        term = leader.core.term
        world.run_until(world.now + 3 * self._longest)
        if leader.core is None or world.leader() is not leader or leader.core.term != term:
            raise Violation("L4 stability", f"S{leader.server} does not stay leader of term {term}")
        most = self._scenario.sessions
        for node in self._members():
            if most and isinstance(node.machine, Sessions) and node.machine.open_sessions > most:
                raise Violation("L4 bounded sessions", f"S{node.server} remembers more than {most}")
        flying, saving = world.network.flying, sum(len(node.pending) for node in self._members())
        if flying > 2 * len(world.nodes) or saving:
            raise Violation("L4 bounded queues", f"{flying} messages, {saving} saves under way")


def _check_acknowledged(world: World) -> None:
    """Every write that a client was told of is where it was said to be (19)."""
    invariants = world.invariants
    for operation in world.clients.history:
        if operation.is_write and operation.done:
            entry = invariants.chains.entries[invariants.committed[operation.position]]
            if operation.command not in entry.data:
                raise Violation("19 acknowledged writes", f"lost: {operation}; there is {entry}")
