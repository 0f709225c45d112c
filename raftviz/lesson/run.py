"""One reading of a lesson on a live cluster: sets scenes, judges goals, goes anywhere.

A reader may leave a step in any state: servers dead or paused, links cut, time frozen. So the
engine first makes the cluster whole again, at real time so that nobody waits, then plays the
step's scene, and only then slows the clock to the lesson's rate. A teacher writes only what
makes the step special.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from raft.core.messages import ServerId
from raftviz import commands
from raftviz.command.text import format_duration, format_rate, format_servers
from raftviz.lab.api import Lab
from raftviz.lesson.lesson import Lesson, Step
from raftviz.model.conditions import Condition, ConditionError, variables
from raftviz.model.view import ClusterView, LinkView

WHOLE_WITHIN = 10.0
"""Seconds of cluster time in which a whole cluster must have elected and repaired its logs."""
LEADER_ATTEMPTS = 5
FROZEN_PATIENCE = 1.0
"""Real seconds for what still happens in frozen time: a client's request reaching its server."""

_CLOCK = (commands.Rate, commands.Freeze, commands.Thaw)


class SceneError(Exception):
    """A step's scene, or its solution, could not be played; the message says which line and why."""


class LessonRun:
    """A lesson, the laboratory it plays in, and the view of it that somebody else keeps folding.

    Whoever folds events into the view calls ``view_changed`` afterwards.
    """

    def __init__(self, lesson: Lesson, lab: Lab, view: ClusterView) -> None:
        self.lesson = lesson
        self.index = 0
        self.done: set[int] = set()
        """The steps whose goal was ever reached."""
        self.goal_met = False
        """Whether this step's goal was reached since its scene was set; it then stays reached."""
        self._lab = lab
        self._view = view
        self._changed = asyncio.Event()
        self._scene: asyncio.Task[None] | None = None
        self._goal: Condition | None = None
        self._start: Mapping[str, Any] | None = None
        self._delay: float | None = None
        """How long messages took before the first scene: what the laboratory was started with."""

    @property
    def step(self) -> Step:
        """The step that the reader is on."""
        return self.lesson.steps[self.index]

    @property
    def progress(self) -> str:
        """Where the reader is, as ``step 3 of 8``."""
        return f"step {self.index + 1} of {len(self.lesson.steps)}"

    @property
    def ready(self) -> bool:
        """Whether the scene is set; the goal counts from then on."""
        return self._start is not None

    async def next(self) -> None:
        """Go to the next step; on the last one do nothing."""
        if self.index + 1 < len(self.lesson.steps):
            await self.go(self.index + 1)

    async def back(self) -> None:
        """Go to the step before; on the first one set its scene again."""
        await self.go(max(self.index - 1, 0))

    async def go(self, index: int) -> None:
        """Go to step ``index`` (from 0) and set its scene.

        ``step`` is the new one at once. A scene that is being set for an earlier call is given
        up, and that call returns. Raises SceneError, and IndexError for a step that is not there.
        """
        if not 0 <= index < len(self.lesson.steps):
            raise IndexError(f"no step {index + 1} in a lesson of {len(self.lesson.steps)}")
        if self._scene is not None:
            self._scene.cancel()
        self.index = index
        self._goal = None if self.step.goal is None else Condition(self.step.goal)
        self._start = None
        self.goal_met = False
        self._scene = scene = asyncio.create_task(self._set_scene(self.step))
        try:
            await asyncio.wait({scene})
        finally:
            scene.cancel()
        if not scene.cancelled():
            scene.result()

    async def solve(self) -> None:
        """Play the step's solution and return when the goal is reached. Raises SceneError."""
        await self._play(self.step.solution)
        if self._goal is not None:
            await self._wait(lambda: self.goal_met, WHOLE_WITHIN, self._goal.text)

    def view_changed(self) -> None:
        """Judge the goal; to be called after every batch of events folded into the view.

        Raises SceneError, once, for a goal that cannot be judged: it compares, say, a number
        with a text.
        """
        self._changed.set()
        if self._goal is None or self._start is None or self.goal_met:
            return
        try:
            met = self._goal.holds(self._view, extra={"start": self._start})
        except ConditionError as error:
            goal, self._goal = self._goal, None
            raise self._error(goal.text, f"cannot be judged: {error}") from error
        if met:
            self.goal_met = True
            self.done.add(self.index)

    # --- Scenes ------------------------------------------------------------------------------

    async def _set_scene(self, step: Step) -> None:
        await self._make_whole(step.leader)
        await self._play(step.scene)
        if not any(isinstance(commands.parse(text), _CLOCK) for text in step.scene):
            await self._perform(f"rate {format_rate(self.lesson.rate)}")
        self._start = variables(self._view)
        self.view_changed()

    async def _make_whole(self, leader: ServerId | None) -> None:
        """Undo every fault; wait until ``leader``, or anybody, leads and all logs are equal."""
        # A scene that was given up may have a command under way. The laboratory carries out
        # one after the other, so the view shows what it did when this one is answered.
        await self._perform("rate 1")
        if self._delay is None:
            delays = (link.delay for link in self._view.links.values())
            self._delay = max(delays, default=0.0)
        for command in self._mending(self._delay):
            await self._perform(command)
        # Another server's timer may run out in the same moment and win: then once more.
        for _ in range(LEADER_ATTEMPTS):
            await self._wait(self._is_whole, WHOLE_WITHIN, "a cluster at rest")
            if leader is None or self._view.leader == leader:
                return
            await self._perform(f"timeout {leader}")
        raise SceneError(f"{self.progress}: S{leader} was not elected")

    def _mending(self, delay: float) -> Iterator[str]:
        """Yield the commands that undo what the view shows to be broken."""
        view = self._view
        links, servers = view.links.values(), view.servers.values()
        if view.client_links or any(link != LinkView(delay=link.delay) for link in links):
            yield "heal all"
        if view.held:
            yield "release all"
        if any(link.delay != delay for link in links):
            yield f"delay {format_duration(delay)}"
        if paused := tuple(server.id for server in servers if server.paused):
            yield f"resume {format_servers(paused)}"
        if dead := tuple(server.id for server in servers if not server.alive):
            yield f"restart {format_servers(dead)}"

    def _is_whole(self) -> bool:
        leader = self._view.leader
        if leader is None:
            return False
        last = self._view.servers[leader].last_index
        # A leader's first act is an entry of its own term: until that is applied everywhere,
        # its followers' logs may differ from its own.
        return (
            last > 0
            and self._view.servers[leader].last_term == self._view.term
            and all(
                server.alive
                and server.leader == leader
                and server.last_index == last == server.last_applied
                for server in self._view.servers.values()
            )
        )

    async def _play(self, texts: tuple[str, ...]) -> None:
        for text in texts:
            await self._carry_out(text)

    async def _carry_out(self, text: str) -> None:
        command = commands.parse(text)
        if isinstance(command, commands.Wait):
            end = self._now() + command.seconds
            await self._wait(lambda: self._now() >= end, command.seconds, text)
        elif isinstance(command, commands.Expect):
            condition = Condition(command.condition)
            await self._wait(lambda: condition.holds(self._view), command.within, text)
        else:
            await self._perform(text)

    async def _wait(self, holds: Callable[[], bool], within: float, what: str) -> None:
        """Wait until ``holds()``, for ``within`` seconds of cluster time. Raises SceneError."""
        end = self._now() + within
        while not holds():
            rate = self._view.clock.rate
            left = (end - self._now()) / rate if rate else FROZEN_PATIENCE
            if left <= 0:
                raise self._error(what, f"did not come true in {within:g} s")
            if not await self._change(left) and rate == 0:
                raise self._error(what, "waits for ever: time is frozen")

    def _error(self, what: str, reason: str) -> SceneError:
        return SceneError(f"{self.progress}: `{' '.join(what.split())}` {reason}")

    def _now(self) -> float:
        return self._view.clock.now(time.monotonic())

    async def _perform(self, text: str) -> None:
        """Give a command and wait until the view shows what it did. Raises SceneError."""
        answer = await self._lab.command(text)
        if not answer.ok:
            raise self._error(text, f"was refused: {answer.text}")
        while self._view.sequence < answer.sequence:
            await self._change()

    async def _change(self, within: float | None = None) -> bool:
        """Wait until the view changes; return whether it did within so many real seconds."""
        self._changed.clear()
        try:
            async with asyncio.timeout(within):
                return await self._changed.wait()
        except TimeoutError:
            return False
