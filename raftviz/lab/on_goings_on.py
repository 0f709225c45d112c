"""Carries out what a person wants to go on by itself: a load of clients, faults at random."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from raftviz import commands as cmd
from raftviz.command.goings_on import CHAOS_KINDS, MAX_SEED
from raftviz.lab.api import Answer
from raftviz.lab.chaos import Chaos
from raftviz.lab.load import LoadRunner
from raftviz.lab.parts import Parts
from raftviz.lab.who import RefusedError
from raftviz.model.events import ChaosChanged


class OnLoad:
    """The commands on the load."""

    def __init__(self, parts: Parts) -> None:
        self._runner = LoadRunner(parts)

    async def carry_out(self, command: cmd.LoadCommand) -> str:
        """Do it; return in words what was done. Raises RefusedError."""
        match command:
            case cmd.Load():
                await self._runner.start(command)
                return f"clients begin to work: {str(command).removeprefix('load ')}"
            case cmd.LoadOff():
                if not self._runner.runs:
                    raise RefusedError("no clients are at work")
                await self._runner.stop()
                return "the clients stop"


class OnChaos:
    """The commands on chaos. ``obey`` carries out a command as if a person had given it."""

    def __init__(self, parts: Parts, obey: Callable[[str], Awaitable[Answer]]) -> None:
        self._parts = parts
        self._obey = obey
        self._chaos: Chaos | None = None
        self._task: asyncio.Task[None] | None = None
        self._acting: asyncio.Task[None] | None = None

    def carry_out(self, command: cmd.ChaosCommand) -> str | Awaitable[str]:
        """Do it; what is awaited must not hold up other commands. Raises RefusedError."""
        match command:
            case cmd.ChaosOn():
                return self._begin(command)
            case cmd.ChaosOff():
                if self._chaos is None or self._task is None:
                    raise RefusedError("there is no chaos")
                chaos, task, self._chaos, self._task = self._chaos, self._task, None, None
                task.cancel()
                return self._end(chaos, task)

    def _begin(self, command: cmd.ChaosOn) -> str:
        if self._chaos is not None:
            raise RefusedError("there is chaos already")
        kinds, seed = command.kinds or CHAOS_KINDS, command.seed
        if seed is None:
            seed = random.SystemRandom().randint(1, MAX_SEED)
        chosen = cmd.ChaosOn(seed, command.kinds, command.every)
        self._chaos = Chaos(seed, kinds, list(self._parts.view.servers))
        self._parts.stream.tell(ChaosChanged(str(chosen)))
        self._task = self._parts.tasks.create_task(self._run(self._chaos, command.every))
        return f"faults come at random, by seed {seed}"

    async def _run(self, chaos: Chaos, every: float) -> None:
        due = self._parts.time.clock.now()
        while True:
            due = max(due + every, self._parts.time.clock.now())
            await self._parts.time.until(due)
            # Not cut short by the end of chaos, which heals what is begun here.
            self._acting = self._parts.tasks.create_task(self._obey_all(chaos.next()))
            await asyncio.shield(self._acting)

    async def _obey_all(self, commands: Iterable[str]) -> None:
        for command in commands:
            await self._obey(command)

    async def _end(self, chaos: Chaos, task: asyncio.Task[None]) -> str:
        with suppress(asyncio.CancelledError):
            await task
        if self._acting is not None:
            await self._acting
        await self._obey_all(chaos.heal_all())
        self._parts.stream.tell(ChaosChanged(""))
        return "no more faults come, and those that came are healed"
