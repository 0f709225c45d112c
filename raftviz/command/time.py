"""Commands on the cluster's time: its rate, and single steps while it stands still."""

from __future__ import annotations

from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, Takes, alone
from raftviz.command.text import Reader, format_rate

MAX_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate 1/20`` · ``rate 1`` · ``rate 0``: how fast the cluster's time runs (0 … 10)."""

    rate: float

    def __str__(self) -> str:
        return f"rate {format_rate(self.rate)}"


@dataclass(frozen=True, slots=True)
class Freeze:
    """``freeze``: time stands still; nothing arrives, no timer fires."""

    def __str__(self) -> str:
        return "freeze"


@dataclass(frozen=True, slots=True)
class Thaw:
    """``thaw``: time runs again at the rate it had before it was frozen."""

    def __str__(self) -> str:
        return "thaw"


@dataclass(frozen=True, slots=True)
class Step:
    """``step`` · ``step 5``: while frozen, on to the next due thing: one message or one timer."""

    count: int

    def __str__(self) -> str:
        return "step" if self.count == 1 else f"step {self.count}"


TimeCommand = Rate | Freeze | Thaw | Step


def _step(reader: Reader) -> Step:
    return Step(1 if reader.at_end else reader.count(MAX_STEPS))


SPECS: tuple[CommandSpec[TimeCommand], ...] = (
    CommandSpec(
        "rate",
        "rate RATE",
        "how fast the cluster's time runs: 1 is real time, 0 stands still",
        "rate 1/20",
        Takes.RATE,
        lambda reader: Rate(reader.rate()),
    ),
    CommandSpec(
        "freeze",
        "freeze",
        "let time stand still: nothing arrives, no timer fires",
        "freeze",
        Takes.NOTHING,
        alone(Freeze),
    ),
    CommandSpec(
        "thaw",
        "thaw",
        "let time run again as fast as before",
        "thaw",
        Takes.NOTHING,
        alone(Thaw),
    ),
    CommandSpec(
        "step",
        "step [COUNT]",
        "while frozen: go on to the next thing due, a message or a timer",
        "step",
        Takes.NOTHING,
        _step,
    ),
)
