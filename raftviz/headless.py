"""Plays a script on a laboratory, without a screen: for tests, lectures and CI."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from raft.printable import printable
from raftviz.command.text import MAX_ECHO, format_duration
from raftviz.commands import Expect, Wait
from raftviz.lab.api import Lab
from raftviz.model.as_json import event_json
from raftviz.model.conditions import Condition, ConditionError
from raftviz.model.events import (
    DiskDamaged,
    Event,
    RuleBroken,
    RuleMended,
    ServerExited,
    Warned,
)
from raftviz.model.fault_words import broken_text
from raftviz.model.invariants import Invariants
from raftviz.model.view import ClusterView
from raftviz.model.words import clock_text, describe, duration_text
from raftviz.script import Line

PASSED, FAILED, UNUSABLE = 0, 1, 2
"""Exit statuses: all held; something did not, or was refused; nothing was carried out."""


_NEWS = (Warned, RuleBroken, RuleMended, DiskDamaged)
"""What a person should hear of whatever the script says."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """Where a play is written: ``words`` for a person, ``events`` (if wanted) as JSON lines."""

    words: TextIO
    events: TextIO | None = None

    def event(self, event: Event, view: ClusterView) -> None:
        """Write an event after which the cluster looks like this, if that is wanted."""
        if self.events is not None:
            print(event_json(event, view.broken), file=self.events, flush=True)

    def say(self, text: str) -> None:
        """Write a line for a person."""
        print(printable(text), file=self.words, flush=True)


@dataclass(slots=True)
class _Watch:
    """A condition that is judged after every event until it holds."""

    condition: Condition
    held: bool = False
    error: ConditionError | None = None

    def look(self, view: ClusterView) -> None:
        try:
            self.held = self.held or self.condition.holds(view)
        except ConditionError as error:
            self.error = error

    @property
    def over(self) -> bool:
        return self.held or self.error is not None


class Headless:
    """One play of one script. ``view`` is the cluster as far as was heard of it."""

    def __init__(self, lab: Lab, lines: list[Line], transcript: Transcript) -> None:
        self.view = ClusterView()
        self.invariants = Invariants()
        self._lab = lab
        self._lines = lines
        self._transcript = transcript
        self._heard = asyncio.Event()
        self._watch: _Watch | None = None
        self._at: Line | None = None

    async def play(self) -> int:
        """Carry the script out and return the exit status."""
        listening = asyncio.create_task(self._listen())
        playing = asyncio.create_task(self._play())
        try:
            await asyncio.wait((listening, playing), return_when=asyncio.FIRST_COMPLETED)
            if not playing.done():
                listening.result()
                self._say("the laboratory ended by itself")
                return FAILED
            passed = playing.result()
        except asyncio.CancelledError:
            where = f"at line {self._at.number}" if self._at else "before its first line"
            self._say(f"interrupted {where}")
            raise
        finally:
            listening.cancel()
            playing.cancel()
            await asyncio.gather(listening, playing, return_exceptions=True)
        return self._verdict(passed)

    def _verdict(self, passed: bool) -> int:
        status = self.invariants.status
        properties = " ".join(f"{'✗' if status[p] else '✓'} {p.word}" for p in status)
        safe = not self.invariants.broken
        verdict = "passed" if passed and safe else "FAILED"
        broken = f" · BROKEN ON PURPOSE: {broken_text(self.view.broken)}" * bool(self.view.broken)
        self._say(f"{verdict} · safety {properties}{broken}")
        return PASSED if passed and safe else FAILED

    def _say(self, text: str) -> None:
        broken = "!broken! " if self.view.broken else ""
        self._transcript.say(f"{clock_text(self._now())}  {broken}{text}")

    def _now(self) -> float:
        return self.view.clock.now(time.monotonic())

    # --- Hearing -----------------------------------------------------------------------------

    async def _listen(self) -> None:
        while events := await self._lab.next_events():
            for event in events:
                self._hear(event)
            self._heard.set()

    def _hear(self, event: Event) -> None:
        if isinstance(event.what, _NEWS) or (
            isinstance(event.what, ServerExited) and not event.what.expected
        ):
            self._say(describe(event, self.view))
        for violation in self.invariants.apply(event, self.view):
            self._say(f"{violation.property.value} is violated: {violation.text}")
        self.view.apply(event)
        self._transcript.event(event, self.view)
        if self._watch is not None:
            # After every single event: what a condition waits for may last no longer.
            self._watch.look(self.view)

    # --- Playing -----------------------------------------------------------------------------

    async def _play(self) -> bool:
        """Carry out one line after the other, up to the first that fails."""
        while not self.view.servers:
            await self._hear_more()
        for line in self._lines:
            self._at = line
            match line.command:
                case Wait(seconds):
                    await self._pass_time(seconds)
                    self._done(line, "")
                case Expect(within=within):
                    if not await self._expect(line, within):
                        return False
                case _:
                    if not await self._command(line):
                        return False
        return True

    async def _command(self, line: Line) -> bool:
        answer = await self._lab.command(line.text)
        while self.view.sequence < answer.sequence:
            await self._hear_more()
        self._done(line, answer.text if answer.ok else f"REFUSED: {answer.text}")
        return answer.ok

    async def _expect(self, line: Line, within: float) -> bool:
        assert line.condition is not None
        begun = self._now()
        watch = self._watch = _Watch(line.condition)
        watch.look(self.view)
        await self._pass_time(within, watch)
        self._watch = None
        if watch.held:
            waited = self._now() - begun
            self._done(line, f"holds after {duration_text(waited)}" if within else "holds")
        elif watch.error is not None:
            self._done(line, f"FAILED: {watch.error}")
        else:
            limit = f" within {format_duration(within)}" if within else ""
            self._done(line, "FAILED")
            self._say(f"  expected{limit}: {line.condition}")
            self._say(f"  seen: {line.condition.explain(self.view)}")
        return watch.held

    async def _pass_time(self, seconds: float, watch: _Watch | None = None) -> None:
        """Let ``seconds`` of the cluster's time pass, but no more than until ``watch`` is over.

        While time is frozen real seconds count: no script hangs for ever.
        """
        while seconds > 0 and not (watch and watch.over):
            rate = self.view.clock.rate or 1.0
            begun = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds / rate):
                    await self._hear_more()
            seconds -= (time.monotonic() - begun) * rate

    async def _hear_more(self) -> None:
        self._heard.clear()
        await self._heard.wait()

    def _done(self, line: Line, result: str) -> None:
        text = f"line {line.number}  {printable(line.text, MAX_ECHO)}"
        first, *others = result.split("\n")
        if others:
            self._say(text)
            for row in (first, *others):
                self._say(f"  {row}")
        else:
            self._say(text + (f"  →  {first}" if first else ""))
