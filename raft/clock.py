"""Virtual time: an affine function of the machine's monotonic clock (design §6).

All processes of a machine share its monotonic clock, so servers that hold the same three
numbers agree on virtual time without exchanging a message.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class VirtualClock:
    """``now = virtual + rate · (monotonic clock − monotonic)``, all in seconds.

    Rate 1 is real time, 1/20 slow motion, 0 frozen. Every clock starts at 0 with ``rate``.
    """

    def __init__(self, rate: float = 1.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.virtual = 0.0
        self.monotonic = monotonic()
        self.rate = rate

    def now(self) -> float:
        """Return the virtual time of this moment."""
        if self.rate == 0:
            return self.virtual
        return self.virtual + self.rate * (self._monotonic() - self.monotonic)

    def set(self, virtual: float, monotonic: float, rate: float) -> None:
        """Run by these three numbers from here on."""
        self.virtual = virtual
        self.monotonic = monotonic
        self.rate = rate

    def real_delay(self, deadline: float) -> float | None:
        """Return the real seconds until ``deadline``, at least 0; None while time is frozen."""
        if self.rate == 0:
            return None
        return max(0.0, (deadline - self.now()) / self.rate)
