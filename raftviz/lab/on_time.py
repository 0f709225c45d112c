"""Carries out what a person does to time: its rate, freezing it, single steps."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from raftviz import commands as cmd
from raftviz.lab.api import MAX_RATE
from raftviz.lab.parts import Parts
from raftviz.lab.who import RefusedError

SAFE_RATE = 2.0
"""Up to here no warning is needed."""
ROUND_TRIPS = 10
"""An election timeout should be so much longer than servers take to answer (§5.6)."""
ANSWER_SECONDS = 1.0
"""Real seconds after which it is clear that servers are slow to answer."""
MAX_SHOWN_STEPS = 5
"""Of more steps than these the answer names the last."""


class OnTime:
    """The commands on the cluster's time."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._time = parts.time
        self._stepper = parts.stepper

    async def carry_out(self, command: cmd.TimeCommand) -> str:
        """Do it; return in words what was done. Raises RefusedError."""
        match command:
            case cmd.Rate(rate) if not 0 <= rate <= MAX_RATE:
                raise RefusedError(f"time can run at rates from 0 to {MAX_RATE:g}, not {rate:g}")
            case cmd.Rate(rate) if rate > 0:
                warning = await self._haste(rate) if rate > SAFE_RATE else ""
                self._time.run(rate)
                return f"time runs at ×{rate:g}{warning}"
            case cmd.Rate() | cmd.Freeze():
                self._time.run(0.0)
                await self._stepper.settle()
                return "time stands still"
            case cmd.Thaw():
                if not self._time.frozen:
                    raise RefusedError("time does not stand still")
                self._time.thaw()
                return f"time runs at ×{self._time.setting.rate:g}"
            case cmd.Step(count):
                return await self._step(count)

    async def _haste(self, rate: float) -> str:
        """Return a warning if servers could time out faster than they can answer each other."""
        begun = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._parts.cluster.digest()
        view = self._parts.view
        low, high = view.election_timeout_min, view.election_timeout_max
        if low / rate >= ROUND_TRIPS * (time.monotonic() - begun):
            return ""
        return (
            f"; timeouts last {low / rate * 1000:.3g}–{high / rate * 1000:.3g} ms of real time "
            "then: this machine may not keep up"
        )

    async def _step(self, count: int) -> str:
        if not self._time.frozen:
            raise RefusedError("time runs; freeze it to go step by step")
        done = [await self._stepper.step()]
        for _ in range(count - 1):
            try:
                done.append(await self._stepper.step())
            except RefusedError:
                break  # nothing more is due
        shown = done[-MAX_SHOWN_STEPS:]
        left_out = len(done) - len(shown)
        return "; ".join([f"{left_out} steps before", *shown] if left_out else shown)
