"""The cluster's time: one clock for the fabric and every server (design §6)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from raft.clock import VirtualClock
from raft.frames import SetClock


class ClusterTime:
    """The clock that a person sets. It stands still at 0 until it is first set."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.when_set: Callable[[SetClock], None] = lambda setting: None
        """Called with the new setting after each change, to pass it on."""
        self._thawed_rate = 1.0
        self._changed = asyncio.Event()

    @property
    def frozen(self) -> bool:
        """Nothing arrives and no timer fires, even if it is due."""
        return self.clock.rate == 0

    @property
    def setting(self) -> SetClock:
        """The three numbers by which the clock runs."""
        return SetClock(self.clock.virtual, self.clock.monotonic, self.clock.rate)

    def run(self, rate: float) -> None:
        """Let time run on from now at this rate; 0 freezes it."""
        if rate:
            self._thawed_rate = rate
        self._set(self.clock.now(), rate)

    def thaw(self) -> None:
        """Let time run at the rate that it had before it was frozen."""
        self.run(self._thawed_rate)

    def advance(self, virtual: float) -> None:
        """Move frozen time on to a moment; never back."""
        self._set(max(virtual, self.clock.now()), 0.0)

    def _set(self, virtual: float, rate: float) -> None:
        self.clock.set(virtual, time.monotonic(), rate)
        self._changed.set()
        self._changed = asyncio.Event()
        self.when_set(self.setting)

    async def until(self, deadline: float) -> None:
        """Wait until a moment of the cluster's time, however that runs meanwhile."""
        while self.clock.now() < deadline:
            try:
                async with asyncio.timeout(self.clock.real_delay(deadline)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def until_frozen(self) -> None:
        """Wait until time stands still."""
        while not self.frozen:
            await self._changed.wait()
