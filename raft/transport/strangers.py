"""What is logged of those who came and proved nothing: enough, however many they are."""

from __future__ import annotations

import logging
import time

MOST_LINES = 20
WINDOW_SECONDS = 10.0
"""So many lines in so many real seconds, or whoever floods a server fills its disk with them."""

_log = logging.getLogger(__name__)


class Strangers:
    """Logs why their connections were closed, and of how many it said nothing."""

    def __init__(self) -> None:
        self._window_began = float("-inf")
        self._told = 0
        self._untold = 0

    def closed(self, who: str, reason: str) -> None:
        """Log the end of a connection, if there is room for it."""
        now = time.monotonic()
        if now >= self._window_began + WINDOW_SECONDS:
            if self._untold:
                _log.info("%d more connections of unproven callers were closed", self._untold)
            self._window_began, self._told, self._untold = now, 0, 0
        if self._told < MOST_LINES:
            self._told += 1
            _log.info("unproven caller %s: connection closed: %s", who, reason)
        else:
            self._untold += 1
