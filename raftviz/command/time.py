"""Commands on the cluster's time: its rate, and single steps while it stands still."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, OneWord, OnServers, Takes, alone, on_servers
from raftviz.command.text import Reader, Servers, format_duration, format_rate, format_servers

MAX_STEPS = 1000
RUN_SECONDS = 30.0
"""How long ``run until`` lets time run at most, unless it says so."""
_DIGIT = re.compile("[0-9]")


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate 1/20`` · ``rate 1`` · ``rate 0``: how fast time runs (0, or 1/1000 … 10)."""

    rate: float

    def __str__(self) -> str:
        return f"rate {format_rate(self.rate)}"


@dataclass(frozen=True, slots=True)
class Freeze(OneWord):
    """``freeze``: time stands still; nothing arrives, no timer fires."""


@dataclass(frozen=True, slots=True)
class Thaw(OneWord):
    """``thaw``: time runs again at the rate it had before it was frozen."""


class Due(enum.Enum):
    """Which of the things that are due a step goes on to."""

    ANY = ""
    MESSAGE = "message"
    TIMER = "timer"


@dataclass(frozen=True, slots=True)
class Step:
    """``step`` · ``step 5`` · ``step timer`` · ``step server 3``.

    While frozen, on to the next due thing, one message or one timer; with ``servers``, to the
    next at one of these.
    """

    count: int = 1
    due: Due = Due.ANY
    servers: Servers | None = None

    def __str__(self) -> str:
        which = ""
        if self.servers is not None:
            which = f" server {format_servers(self.servers, ',')}"
        due = f" {self.due.value}" if self.due is not Due.ANY else ""
        return f"step{which}{due}" if self.count == 1 else f"step{which}{due} {self.count}"


@dataclass(frozen=True, slots=True)
class StepUntil:
    """``step until CONDITION``: while frozen, step by step until it holds."""

    condition: str

    def __str__(self) -> str:
        return f"step until {self.condition}"


@dataclass(frozen=True, slots=True)
class Advance:
    """``advance 50ms``: while frozen, let all that is due within this time happen."""

    seconds: float

    def __str__(self) -> str:
        return f"advance {format_duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Run:
    """``run until CONDITION [within 5s]``: let time run, and freeze it when the condition holds.

    Or when so much of the cluster's time has passed without.
    """

    condition: str
    within: float

    def __str__(self) -> str:
        return f"run until {self.condition} within {format_duration(self.within)}"


@dataclass(frozen=True, slots=True)
class Fire(OnServers):
    """``fire 3``: let a server's timer run out now, for an election or for a heartbeat."""


TimeCommand = Rate | Freeze | Thaw | Step | StepUntil | Advance | Run | Fire

_DUE = {due.value: due for due in Due if due.value}


def _step(reader: Reader) -> Step | StepUntil:
    if reader.take("until"):
        return StepUntil(reader.condition())
    servers = reader.one_group() if reader.take("server") else None
    due = Due.ANY
    if not reader.at_end and not reader.comes(_DIGIT):
        words = _DUE if servers is not None else {**_DUE, "server": Due.ANY, "until": Due.ANY}
        due = reader.choice(words, "a number of steps, message, timer, server or until")
    return Step(1 if reader.at_end else reader.count(MAX_STEPS), due, servers)


def _run(reader: Reader) -> Run:
    if not reader.take("until"):
        reader.fail("until", ("until",))
    return Run(*reader.condition_within(RUN_SECONDS))


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
        "step [server SERVER] [message | timer] [COUNT] | step until CONDITION",
        "while frozen: go on to the next thing due, a message or a timer",
        "step",
        Takes.STEP,
        _step,
        more=("step message", "step timer", "step server 3", "step until leader != 0"),
        words=("message", "timer", "server", "until"),
    ),
    CommandSpec(
        "advance",
        "advance DURATION",
        "while frozen: let all happen that is due within a time, one after the other",
        "advance 50ms",
        Takes.DURATION,
        lambda reader: Advance(reader.duration()),
    ),
    CommandSpec(
        "run",
        "run until CONDITION [within DURATION]",
        f"let time run, and freeze it when a condition holds (or after {RUN_SECONDS:g} s)",
        "run until leader != 0",
        Takes.RUN,
        _run,
        words=("until",),
    ),
    CommandSpec(
        "fire",
        "fire SERVERS",
        "let the timers of servers run out now, for an election or a heartbeat",
        "fire leader",
        Takes.SERVERS,
        on_servers(Fire),
    ),
)
