"""Commands that scripts and lessons carry out themselves: wait, expect."""

from __future__ import annotations

import re
from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, Scope, Takes
from raftviz.command.text import Reader, format_duration

WAIT_SECONDS = 30.0
"""How long ``wait CONDITION`` waits unless it says so."""
_LIKE_DURATION = re.compile(r"[0-9.]+\s*[a-zA-Z]*\s*(#|$)")


@dataclass(frozen=True, slots=True)
class Wait:
    """``wait 2s`` (cluster time)."""

    seconds: float

    def __str__(self) -> str:
        return f"wait {format_duration(self.seconds)}"


@dataclass(frozen=True, slots=True)
class Expect:
    """``expect CONDITION [within 5s]`` · ``wait CONDITION [within 5s]``.

    ``expect`` without ``within`` judges now; ``wait`` without it waits up to 30 s. The
    condition is a CEL expression over the ClusterView (``raftviz.model.conditions``).
    """

    condition: str
    within: float

    def __str__(self) -> str:
        limit = f" within {format_duration(self.within)}" if self.within else ""
        return f"expect {self.condition}{limit}"


ScriptCommand = Wait | Expect


def _wait(reader: Reader) -> ScriptCommand:
    if reader.comes(_LIKE_DURATION):
        return Wait(reader.duration())
    return Expect(*reader.condition_within(WAIT_SECONDS))


SPECS: tuple[CommandSpec[ScriptCommand], ...] = (
    CommandSpec(
        "wait",
        "wait DURATION | wait CONDITION [within DURATION]",
        f"let the cluster's time pass, or wait (up to {WAIT_SECONDS:g} s) for a condition",
        "wait leader != 0",
        Takes.CONDITION,
        _wait,
        Scope.SCRIPT,
    ),
    CommandSpec(
        "expect",
        "expect CONDITION [within DURATION]",
        "fail unless a condition holds, now or within a time",
        "expect leaders == 1 within 5s",
        Takes.CONDITION,
        lambda reader: Expect(*reader.condition_within(0.0)),
        Scope.SCRIPT,
    ),
)
