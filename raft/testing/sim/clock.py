"""The clock of one simulated server, which may run fast, slow, or not at all."""

from __future__ import annotations

import math


class LocalClock:
    """Maps the simulation's time to a server's own, and back."""

    __slots__ = ("_local", "_rate", "_since")

    def __init__(self) -> None:
        self._since = self._local = 0.0
        self._rate = 1.0

    def at(self, now: float) -> float:
        """Return what the server's clock says at the simulation's ``now``."""
        return self._local + (now - self._since) * self._rate

    def when(self, local: float) -> float:
        """Return when the server's clock says ``local``: infinity if it stands still."""
        if not self._rate:
            return math.inf
        return self._since + (local - self._local) / self._rate

    def set_rate(self, rate: float, now: float) -> None:
        """Let the clock run ``rate`` times as fast from ``now`` on; it does not jump."""
        self._local, self._since, self._rate = self.at(now), now, rate

    def jump(self, by: float, now: float) -> None:
        """Let the clock show so many seconds more at once; a monotonic one never shows less."""
        self._local, self._since = self.at(now) + max(0.0, by), now
