"""Carries out what a person does to time: its rate, freezing it, single steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextlib import suppress

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz import commands as cmd
from raftviz.command.text import MAX_ECHO, format_rate
from raftviz.lab.parts import Parts
from raftviz.lab.who import RefusedError, fit, resolve
from raftviz.model.conditions import Condition, ConditionError
from raftviz.model.view import ClusterView
from raftviz.model.words import clock_text

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

    async def carry_out(self, command: cmd.TimeCommand) -> str | Awaitable[str]:
        """Do it; return in words what was done. Raises RefusedError."""
        match command:
            case cmd.Rate(rate) if rate > 0:
                warning = await self._haste(rate) if rate > SAFE_RATE else ""
                self._time.run(rate)
                return f"time runs at ×{format_rate(rate)}{warning}"
            case cmd.Rate() | cmd.Freeze():
                self._time.run(0.0)
                await self._stepper.settle()
                return "time stands still"
            case cmd.Thaw():
                if not self._time.frozen:
                    raise RefusedError("time does not stand still")
                self._time.thaw()
                return f"time runs at ×{format_rate(self._time.setting.rate)}"
            case cmd.Step():
                return await self._step(command)
            case cmd.StepUntil(condition):
                return await self._step_until(_compiled(condition, self._parts.view))
            case cmd.Advance(seconds):
                return await self._advance(seconds)
            case cmd.Run(condition, within):
                return self._run(_compiled(condition, self._parts.view), within)
            case cmd.Fire(servers):
                return await self._fire(servers)

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

    # --- Steps -------------------------------------------------------------------------------

    def _must_be_frozen(self) -> None:
        if not self._time.frozen:
            raise RefusedError("time runs; freeze it to go step by step")

    async def _step(self, command: cmd.Step) -> str:
        self._must_be_frozen()
        at = None if command.servers is None else resolve(command.servers, self._parts.view)
        done = [await self._stepper.step(command.due, at)]
        for _ in range(command.count - 1):
            try:
                done.append(await self._stepper.step(command.due, at))
            except RefusedError:
                break  # nothing more is due
        return _shown(done)

    async def _step_until(self, condition: Condition) -> str:
        self._must_be_frozen()
        done: list[str] = []
        while not _holds(condition, self._parts.view):
            if len(done) == cmd.MAX_STEPS:
                return f"{condition.explain(self._parts.view)} still, after {_shown(done)}"
            done.append(await self._stepper.step())
        return _shown(done) if done else "it holds already"

    async def _advance(self, seconds: float) -> str:
        self._must_be_frozen()
        until = self._time.clock.now() + seconds
        done: list[str] = []
        while (due := self._stepper.next_moment()) is not None and due <= until:
            if len(done) == cmd.MAX_STEPS:
                at = clock_text(self._time.clock.now())
                raise RefusedError(f"{len(done)} things happened up to {at}; more are due")
            done.append(await self._stepper.step())
        self._time.advance(until)
        return _shown(done) if done else "nothing was due"

    async def _fire(self, servers: cmd.Servers) -> str:
        view = self._parts.view
        chosen = fit(servers, view, self._has_no_timer)
        fired = [self._stepper.fire(view.servers[server]) for server in chosen]
        if self._time.frozen:
            await self._stepper.settle()
        return "; ".join(fired)

    def _has_no_timer(self, server: ServerId) -> str | None:
        known = self._parts.view.servers[server]
        if not known.alive:
            return f"S{server} is dead"
        if known.paused:
            return f"S{server} is paused"
        return None if known.timer_kind is not None else f"S{server} has no timer"

    # --- Running to a moment -----------------------------------------------------------------

    def _run(self, condition: Condition, within: float) -> str | Awaitable[str]:
        """Let time run; what is returned waits until it stands still again."""
        if _holds(condition, self._parts.view):
            self._time.run(0.0)
            return "it holds already; time stands still"
        if self._time.frozen:
            self._time.thaw()
        return self._run_until(condition, self._time.clock.now() + within)

    async def _run_until(self, condition: Condition, limit: float) -> str:
        """Freeze time at the very event that makes a condition hold, or when its limit is over."""
        stream, view = self._parts.stream, self._parts.view
        over = asyncio.Event()

        def look() -> None:
            if not over.is_set() and _holds(condition, view):
                over.set()
                self._time.run(0.0)

        ends = (over.wait(), self._time.until(limit), self._time.until_frozen())
        waiting = [asyncio.ensure_future(end) for end in ends]
        stream.watchers.add(look)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stream.watchers.discard(look)
            for end in waiting:
                end.cancel()
        moment = clock_text(self._time.clock.now())
        if over.is_set():
            await self._stepper.settle()
            return f"it holds at {moment}; time stands still"
        if self._time.frozen:
            return f"time was frozen before it held: {condition.explain(view)}"
        self._time.run(0.0)
        await self._stepper.settle()
        return f"it does not hold at {moment}: {condition.explain(view)}; time stands still"


def _compiled(text: str, view: ClusterView) -> Condition:
    """Return a condition that can be judged on this cluster. Raises RefusedError."""
    try:
        condition = Condition(text)
        condition.holds(view)
    except ConditionError as error:
        raise RefusedError(f"{printable(text, MAX_ECHO)}: {error}") from None
    return condition


def _holds(condition: Condition, view: ClusterView) -> bool:
    """Judge; what cannot be judged at this moment does not hold."""
    try:
        return condition.holds(view)
    except ConditionError:
        return False


def _shown(done: list[str]) -> str:
    shown = "; ".join(done[-MAX_SHOWN_STEPS:])
    return shown if len(done) <= MAX_SHOWN_STEPS else f"{len(done)} steps, the last: {shown}"
