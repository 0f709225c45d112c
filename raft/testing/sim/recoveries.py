"""Servers that lost entries in the damage of a disk, and become voters again (27).

See ``raft.core.recovering``.
"""

from __future__ import annotations

from collections.abc import Sequence

from raft.core import recovering
from raft.core.log import HardState
from raft.core.messages import ServerId
from raft.testing.sim.chains import Prefix
from raft.testing.sim.violation import Violation


class Recoveries:
    """What servers that recover once had, and what they owe. Methods raise :class:`Violation`."""

    def __init__(self) -> None:
        self.damaged: set[ServerId] = set()
        """Servers whose disks were damaged, and that have not started since."""
        self._lost: dict[ServerId, list[list[Prefix]]] = {}

    def lost(self, server: ServerId) -> Sequence[list[Prefix]]:
        """Return the logs that a server had on its disk before this was damaged.

        While it recovers they count as stored: no leader is elected by its vote.
        """
        return self._lost.get(server, ())

    def begins(
        self,
        server: ServerId,
        found: HardState,
        before: Sequence[HardState],
        durable: list[Prefix],
    ) -> bool:
        """Tell whether a server that starts has lost entries and says so, in a fresh term.

        ``before`` it stopped it was in one of these states, with ``durable`` on its disk.
        """
        damaged = server in self.damaged
        self.damaged.discard(server)
        if found.recovering in (0, *(state.recovering for state in before)):
            return False
        if not damaged:
            raise Violation("26 an undamaged disk opens", f"S{server} begins to recover as {found}")
        if found not in [recovering.begin(state) for state in before]:
            raise Violation(
                "27 recovery", f"S{server} begins to recover as {found}, but it was {before[0]}"
            )
        self._lost.setdefault(server, []).append(durable)
        return True

    def ends(self, server: ServerId, durable: list[Prefix], committed: list[Prefix]) -> None:
        """Check that a server that votes again has all that it ever helped to commit."""
        for lost in self._lost.pop(server, ()):
            for index, (had, prefix) in enumerate(zip(lost, committed, strict=False)):
                if had == prefix and (index >= len(durable) or durable[index] != prefix):
                    raise Violation(
                        "27 recovery",
                        f"S{server} votes again without entry {index}, which it acknowledged",
                    )
