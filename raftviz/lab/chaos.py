"""Faults at random, by the same commands that a person gives; a seed decides all of them.

What comes next depends on the seed, the kinds and the servers alone, never on what the cluster
makes of it: the same seed gives the same commands in every run.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from raft.core.messages import ServerId
from raftviz.command.goings_on import CHAOS_KINDS

MAX_FAULTS = 3
"""Faults in force at once; when there are so many, one is healed."""
HEALED = 0.4
"""How often one is healed although there could be more."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A command that does harm, and those that undo it; ``server`` if it takes one away."""

    command: str
    heals: tuple[str, ...]
    server: ServerId | None = None


class Chaos:
    """The sequence of faults and heals that follows from a seed."""

    def __init__(self, seed: int, kinds: Sequence[str], servers: Sequence[ServerId]) -> None:
        self._random = random.Random(seed)  # noqa: S311 - no secrecy
        self._kinds = tuple(kinds)
        self._servers = tuple(servers)
        self._faults: list[Fault] = []

    def next(self) -> tuple[str, ...]:
        """Return the commands whose turn it is: a fault, or those that heal one."""
        if self._faults and (len(self._faults) >= MAX_FAULTS or self._random.random() < HEALED):
            return self._faults.pop(self._random.randrange(len(self._faults))).heals
        fault = self._draw()
        if fault is None:
            return self._faults.pop(0).heals if self._faults else ()
        if fault.heals:
            self._faults.append(fault)
        return (fault.command,)

    def heal_all(self) -> tuple[str, ...]:
        """Return the commands that undo whatever is in force."""
        faults, self._faults = self._faults, []
        return tuple(command for fault in faults for command in fault.heals)

    def _draw(self) -> Fault | None:
        """Draw a fault; None if it would take a server too many away.

        A majority keeps its processes: without one there is nothing to be seen.
        """
        kind = self._random.choice(self._kinds)
        away = {fault.server for fault in self._faults if fault.server is not None}
        here = [server for server in self._servers if server not in away]
        server = self._random.choice(here)
        other = self._random.choice([one for one in self._servers if one != server] or [server])
        if kind in _TAKES_AWAY and 2 * (len(away) + 1) >= len(self._servers):
            return None
        if kind in _NEEDS_TWO and other == server:
            return None
        return self._of(kind, server, other)

    def _of(self, kind: str, server: ServerId, other: ServerId) -> Fault:
        match kind:
            case "kill" | "power":
                return Fault(f"{kind} {server}", (f"restart {server}",), server)
            case "pause":
                return Fault(f"pause {server}", (f"resume {server}",), server)
            case "isolate":
                return Fault(f"isolate {server}", (f"heal {server}",))
            case "cut" | "stall" | "reset" | "loss" | "delay" | "duplicate" | "reorder":
                return self._of_link(kind, f"{server} -> {other}")
            case "partition":
                return Fault(f"partition {self._group()}", ("heal",))
            case "clock":
                factor = self._random.choice(("1/2", "0.8", "1.25", "2"))
                return Fault(f"clock {server} x{factor}", (f"clock {server} ok",))
            case "disk":
                return self._of_disk(server)
        return Fault(f"timeout {server}", ())

    def _group(self) -> str:
        size = self._random.randint(1, max(1, len(self._servers) // 2))
        return " ".join(map(str, sorted(self._random.sample(self._servers, size))))

    def _of_link(self, kind: str, link: str) -> Fault:
        match kind:
            case "loss" | "duplicate" | "reorder":
                how_much = f" {self._random.choice((10, 30, 60))}%"
            case "delay":
                how_much = f" {self._random.choice((50, 100, 300))}ms"
            case _:
                how_much = ""
        return Fault(f"{kind} {link}{how_much}", (f"heal {link}",))

    def _of_disk(self, server: ServerId) -> Fault:
        ok = f"disk {server} ok"
        match self._random.choice(("slow", "full", "failsync", "tear")):
            case "slow":
                delay = self._random.choice((20, 50, 100, 300))
                return Fault(f"disk {server} slow {delay}ms", (ok,))
            case "full":
                return Fault(f"disk {server} full", (ok, f"restart {server}"), server)
            case what:
                # Perhaps it had nothing to write: then there is nobody to restart.
                return Fault(f"disk {server} {what}", (ok, f"restart {server}"), server)


_TAKES_AWAY = frozenset({"kill", "power", "pause", "disk"})
_NEEDS_TWO = frozenset(CHAOS_KINDS) - _TAKES_AWAY - {"clock", "timeout"}
