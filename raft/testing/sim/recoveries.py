"""Servers that lost entries of their logs, from the damage until they vote again (promise 31)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from raft.core import recovering
from raft.core.log import HardState
from raft.core.messages import ServerId
from raft.testing.sim.chains import Chains, Prefix
from raft.testing.sim.facts import Facts, Violation


class Recoveries:
    """What servers that recover once had. ``committed`` is what all have committed, by index."""

    def __init__(self, chains: Chains, committed: list[Prefix], coverage: Counter[str]) -> None:
        self._chains = chains
        self._committed = committed
        self._coverage = coverage
        self._damaged: set[ServerId] = set()
        self._lost: dict[ServerId, list[list[Prefix]]] = {}

    def damaged(self, server: ServerId) -> None:
        """Note that a server may have lost what was on its disk, but for term and vote."""
        self._damaged.add(server)

    def expected(self, server: ServerId) -> bool:
        """Tell whether a server's disk is damaged, which it has not seen yet."""
        return server in self._damaged

    def lost(self, server: ServerId) -> list[list[Prefix]]:
        """Return what a server that recovers had on its disk, before each damage."""
        return self._lost.get(server, [])

    def begins(self, facts: Facts, found: HardState, allowed: Sequence[HardState]) -> bool:
        """Tell whether a server has lost entries and says so, in a term of its own."""
        damaged = facts.server in self._damaged
        self._damaged.discard(facts.server)
        if found.recovering in (0, *(state.recovering for state in allowed)):
            return False
        if not damaged:
            raise Violation(
                "26 an undamaged disk opens", f"S{facts.server} begins to recover as {found}"
            )
        if found not in [recovering.begin(state) for state in allowed]:
            raise Violation(
                "31 recovery",
                f"S{facts.server} begins to recover as {found}, but it was {facts.hard_state}",
            )
        self._lost.setdefault(facts.server, []).append(facts.durable)
        self._coverage["recovery begun"] += 1
        return True

    def over(self, facts: Facts) -> None:
        """Check that a server that votes again has what it ever helped to commit."""
        durable, committed = facts.durable, self._committed
        for lost in self._lost.pop(facts.server, ()):
            for index in range(min(len(lost), len(committed))):
                held = lost[index] == committed[index]
                if held and (index >= len(durable) or durable[index] != committed[index]):
                    raise Violation(
                        "31 recovery",
                        f"S{facts.server} votes again without "
                        f"{self._chains.shown(index, lost[index])}, which it acknowledged",
                    )
        self._coverage["recovery over"] += 1
