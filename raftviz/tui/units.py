"""Times as the screen writes them."""

from __future__ import annotations


def milliseconds(seconds: float) -> str:
    """Return a duration as whole milliseconds, with its unit; tenths where it is short."""
    value = max(seconds, 0.0) * 1000
    return f"{value:.1f} ms" if 0 < value < 10 else f"{value:.0f} ms"


def rate_text(rate: float) -> str:
    """Return a rate as ``×1/20`` or ``×1``."""
    if 0 < rate < 1 and abs(1 / rate - round(1 / rate)) < 1e-6:
        return f"×1/{round(1 / rate)}"
    return f"×{rate:g}"
