"""The faults of a run: an explicit list, drawn from the seed.

A run is a scenario and such a list, so any part of the list is a run too: that is what a
failing one is shrunk by. Each fault ends by itself, and takes its end with it when it goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from raft.core.messages import ServerId
from raft.testing.sim.chance import Chance
from raft.testing.sim.scenario import MAX_SKEW, SHORT, Scenario

LEADER = ServerId(0)
"""In place of a server: whoever leads when the fault begins."""

SPARES = 3
"""So many servers stand by to become members."""

CALM = 16
"""Faults come for ``SHORT`` seconds; then none begins for so many election timeouts, in which the
last ones end and the cluster gets to work. Else a long run with many faults has no leader."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong, or that people do, from ``at`` on for ``lasts`` seconds."""

    number: int
    """In the list of all faults of its seed."""
    at: float
    kind: str
    lasts: float
    servers: tuple[ServerId, ...] = ()
    amount: float = 0.0

    def __str__(self) -> str:
        names = [f"S{s}" if s else "the leader" for s in self.servers]
        what = KINDS[self.kind].words.format(
            *names, all=", ".join(names), amount=self.amount, percent=round(self.amount * 100)
        )
        lasts = f" for {self.lasts:.3f} s" if self.lasts else ""
        return f"{self.at:.3f}  #{self.number} {self.kind}: {what}{lasts}"


Parts = tuple[tuple[ServerId, ...], float, float]
"""Servers, amount, and how long it lasts."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of faults: in words, and how one is drawn."""

    words: str
    draw: Callable[[Random, Scenario], Parts]
    weight: int = 1
    """How often it is drawn, compared with others."""
    extra: bool = False
    """It is drawn beside the others, so that to know of it changes none of them."""

    @property
    def description(self) -> str:
        """What it does, to no server in particular."""
        blanks = {"{0}": "a server", "{1}": "another", "{all}": "some servers"}
        return re.sub(r"\{[^}]*\}", lambda blank: blanks.get(blank[0], "N"), self.words)


def _one(draw: Random, scenario: Scenario) -> ServerId:
    return LEADER if draw.random() < 0.4 else ServerId(draw.randint(1, scenario.size))


def _some(draw: Random, scenario: Scenario) -> tuple[ServerId, ...]:
    everybody = [ServerId(s) for s in range(1, scenario.size + 1)]
    draw.shuffle(everybody)
    return tuple(everybody[: draw.randint(1, max(1, scenario.size - 1))])


def _all(draw: Random, scenario: Scenario) -> tuple[ServerId, ...]:
    everybody = [ServerId(s) for s in range(1, scenario.size + 1)]
    draw.shuffle(everybody)
    return tuple(everybody)


def _while(draw: Random, scenario: Scenario) -> float:
    """From a fraction of an election timeout to several."""
    return scenario.election_timeout * float(draw.choice((0.3, 1, 3, 8)))


def _on_one(amounts: tuple[float, ...] = (0.0,)) -> Callable[[Random, Scenario], Parts]:
    return lambda draw, s: ((_one(draw, s),), draw.choice(amounts), _while(draw, s))


def _at_once(draw: Random, scenario: Scenario) -> Parts:
    return (_one(draw, scenario),), draw.random(), 0.0


def _on_some(draw: Random, scenario: Scenario) -> Parts:
    return _some(draw, scenario), 0.0, _while(draw, scenario)


def _on_all(draw: Random, scenario: Scenario) -> Parts:
    return _all(draw, scenario), 0.0, _while(draw, scenario)


def _everywhere(amounts: tuple[float, ...]) -> Callable[[Random, Scenario], Parts]:
    return lambda draw, s: ((), draw.choice(amounts), _while(draw, s))


def _pair(draw: Random, scenario: Scenario) -> Parts:
    src = _one(draw, scenario)
    dst = ServerId(draw.randint(1, scenario.size))
    return (src, dst), 0.0, _while(draw, scenario)


def _jump(draw: Random, scenario: Scenario) -> Parts:
    by = scenario.election_timeout * float(draw.choice((0.5, 2, 20)))
    return (_one(draw, scenario),), by, 0.0


def _place(draw: Random, scenario: Scenario) -> Parts:
    return (_one(draw, scenario),), draw.random(), _while(draw, scenario)


def _skew(draw: Random, scenario: Scenario) -> Parts:
    rates = (1 - MAX_SKEW, 1 + MAX_SKEW) if scenario.leases else (0.5, 0.9, 1.1, 2.0)
    return (_one(draw, scenario),), draw.choice(rates), 4 * _while(draw, scenario)


def _extra(words: str, draw: Callable[[Random, Scenario], Parts]) -> Kind:
    return Kind(words, draw, extra=True)


KINDS: Mapping[str, Kind] = {
    "crash": Kind("{0} is killed, and is down", _on_one(), weight=2),
    "power": Kind("{0} loses power, and is down", _on_one(), weight=2),
    "blackout": Kind("all servers lose power, and are down", _on_all),
    "pause": Kind("{0} is stopped", _on_one()),
    "freeze": Kind("{0} is stopped, and its clock", _on_one()),
    "clock": Kind("the clock of {0} runs at {amount:g} of its speed", _skew),
    "isolate": Kind("{0} is cut off", _on_one()),
    "deaf": Kind("nothing reaches {0}", _on_one()),
    "mute": Kind("nothing that {0} sends arrives", _on_one()),
    "one-way": Kind("nothing arrives from {0} at {1}", _pair),
    "halves": Kind("{all} are cut off from the others", _on_some),
    "bridge": Kind("two halves of {all} hear of each other only by {0}", _on_all),
    "ring": Kind("each of {all} hears only its neighbours", _on_all),
    "flapping": Kind("{all} are cut off from the others, on and off", _on_some),
    "swizzle": Kind("{all} are cut off one by one, and come back in another order", _on_all),
    "stall": Kind("messages of {0} wait", _on_one()),
    "loss": Kind("{percent} % of all messages are lost", _everywhere((0.05, 0.3, 0.8))),
    "duplicate": Kind("{percent} % of all messages come twice", _everywhere((0.1, 0.5))),
    "reorder": Kind("messages take up to {amount:g} s longer", _everywhere((0.02, 0.1, 0.5))),
    "slow-disk": Kind("the disk of {0} takes up to {amount:g} s", _on_one((0.01, 0.1, 0.5))),
    "full-disk": Kind("the disk of {0} is full", _on_one()),
    "bad-sync": Kind("the next fsync of {0} fails; it is down", _on_one()),
    "damage": Kind("a bit on the disk of {0} flips, and it starts again", _at_once),
    "members": Kind("the members change", _at_once, weight=4),
    "snapshot": Kind("{0} takes a snapshot", _at_once),
    "lag": Kind("{0} is cut off, and all others take snapshots", _on_one()),
    "transfer": Kind("leadership goes to {0}", _at_once, weight=2),
    "campaign": Kind("{0} starts an election", _at_once),
    "forget-leader": Kind("{0} forgets its leader", _at_once),
    "corrupt": _extra("bytes change in {percent} % of all messages", _everywhere((0.01, 0.1))),
    "reset": _extra("all connections of {0} are lost, with what is on its way", _at_once),
    "bandwidth": _extra(
        "{0} sends each other server {amount:g} bytes a second", _on_one((1000, 5000, 50_000))
    ),
    "clock-jump": _extra("the clock of {0} jumps forward by {amount:g} s", _jump),
    "clock-back": _extra("the time of {0} goes back: its monotonic clock stands still", _on_one()),
    "slow-node": _extra("every turn of {0} takes {amount:g} s", _on_one((0.001, 0.01, 0.05))),
    "power-again": _extra("{0} loses power, and again while it starts", _place),
    "bad-start": _extra("{0} is killed, and cannot read its disk when it starts", _on_one()),
    "bad-write": _extra("the next write of {0} fails; it is down", _on_one()),
    "short-write": _extra("{0} writes at most {amount:g} bytes at once", _on_one((100, 1000))),
    "bad-sector": _extra("a sector on the disk of {0} is zeros or rubbish", _at_once),
    "stale-sector": _extra("a sector on the disk of {0} is as it was before", _at_once),
    "misdirected": _extra("a sector on the disk of {0} was written over another", _at_once),
    "truncate": _extra("a file on the disk of {0} loses its end", _at_once),
    "replace": _extra("{0} loses its disk, and a new server takes its place", _place),
    "backlog": _extra(
        "{0} is cut off, then stopped while the others take snapshots; what waits comes at once, "
        "and it is killed",
        _on_one(),
    ),
}
"""All kinds of faults, by the name under which they are known everywhere."""


def plan(scenario: Scenario, kinds: Collection[str] | None = None) -> tuple[Fault, ...]:
    """Return the faults of a scenario, in the order of their beginnings.

    Only ``kinds``, if given; else the seed chooses which kinds take part.
    """
    chance = Chance(scenario.seed)
    slots = max(1, int(scenario.seconds / scenario.pace))
    usual = [kind for kind in KINDS if not KINDS[kind].extra]
    extra = [kind for kind in KINDS if KINDS[kind].extra]
    if kinds is not None:
        first = _drawn(chance, scenario, [k for k in usual if k in kinds], range(slots))
        second = _drawn(chance, scenario, [k for k in extra if k in kinds], range(slots, 2 * slots))
    else:
        draw = chance.stream("plan")
        chosen = [kind for kind in usual if draw.random() < 0.4] or usual
        first = _drawn(chance, scenario, chosen, range(slots))
        draw = chance.stream("extra plan")
        likely = draw.choice((0.0, 0.3))
        chosen = [kind for kind in extra if draw.random() < likely]
        second = _drawn(chance, scenario, chosen, range(slots, slots + -(-slots // 2)))
    faults = [fault for fault in first + second if not _is_calm(fault.at, scenario)]
    return tuple(sorted(faults, key=lambda fault: (fault.at, fault.number)))


def _is_calm(at: float, scenario: Scenario) -> bool:
    return at % (SHORT + CALM * scenario.election_timeout) >= SHORT


def _drawn(
    chance: Chance, scenario: Scenario, kinds: Sequence[str], numbers: Iterable[int]
) -> list[Fault]:
    """Return faults of these kinds, one for each number."""
    if not kinds:
        return []
    weights = [KINDS[kind].weight for kind in kinds]
    faults = []
    for number in numbers:
        own = chance.stream("fault", number)
        (kind,) = own.choices(kinds, weights)
        at = own.uniform(0, scenario.seconds)
        servers, amount, lasts = KINDS[kind].draw(own, scenario)
        faults.append(Fault(number, at, kind, lasts, servers, amount))
    return faults
