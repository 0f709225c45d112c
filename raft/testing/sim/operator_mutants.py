"""People who do one thing wrong, by name: what no server can make good, and the simulator shows.

Each mutant overrides exactly one method of :class:`raft.testing.sim.nemesis.Nemesis`, which
otherwise does what is right when a server has lost its disk: to put a new one in its place.
"""

from __future__ import annotations

from functools import partial

from raft.testing.sim.faults import Fault
from raft.testing.sim.nemesis import Nemesis
from raft.testing.sim.node import Node


class OldCopyRestored(Nemesis):
    """Starts a server from an old copy of its disk: it forgets votes and entries it promised."""

    def _replace(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            self._happens(fault)
            self._later(fault.lasts, partial(self._start_from, node, node.disk.copy()))

    def _start_from(self, node: Node, copy: object) -> None:
        if node.core is not None:
            node.kill(0)
        node.disk.replace(copy)
        self.start(node)


class WipedDiskKept(Nemesis):
    """Starts a server with an empty disk under its old name: it forgets all that it promised."""

    def _replace(self, fault: Fault, nodes: tuple[Node, ...]) -> None:
        for node in nodes:
            self._happens(fault)
            if node.core is not None:
                node.kill(0)
            node.disk.replace(None)
            self._later(fault.lasts, partial(self.start, node))


OPERATOR_MUTANTS: dict[str, type[Nemesis]] = {
    "old-copy-restored": OldCopyRestored,
    "wiped-disk-kept": WipedDiskKept,
}
"""The mutants by name."""
