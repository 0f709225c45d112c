"""How often to draw: as smooth as the machine can afford."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

FASTEST, SLOWEST = 1 / 20, 1 / 4
BUSY, IDLE = 0.5, 0.3
"""Shares of one core: above the one draw less often, below the other more often."""
WINDOW = 1.0


@dataclass(slots=True)
class Pace:
    """The time between two frames, adapted once a second to what this process costs."""

    clock: Callable[[], float] = time.monotonic
    cost: Callable[[], float] = time.process_time
    interval: float = FASTEST
    _since: float = field(init=False)
    _spent: float = field(init=False)

    def __post_init__(self) -> None:
        self._since, self._spent = self.clock(), self.cost()

    def frame(self) -> float:
        """Return how many seconds to wait for the next frame."""
        now, spent = self.clock(), self.cost()
        if now - self._since >= WINDOW:
            share = (spent - self._spent) / (now - self._since)
            if share > BUSY:
                self.interval = min(self.interval * 1.5, SLOWEST)
            elif share < IDLE:
                self.interval = max(self.interval / 1.5, FASTEST)
            self._since, self._spent = now, spent
        return self.interval
