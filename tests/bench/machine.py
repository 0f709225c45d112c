"""What a number was measured on."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

T = TypeVar("T")


def asked(doc: str | None, name: str, kind: Callable[[str], T], default: T) -> T:
    """Return the one argument of a bench, or its default; ``doc`` is what ``--help`` tells."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(name, nargs="?", type=kind, default=default, help="default: %(default)s")
    value: T = vars(parser.parse_args())[name]
    return value


def describe() -> str:
    """Return the machine in one line: system, processors, memory, Python."""
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count()} × {_processor()}, "
        f"{memory:.0f} GiB, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "unknown processor"


def quantile(sorted_values: list[float], fraction: float) -> float:
    """Return the value that ``fraction`` of them do not exceed."""
    place = min(int(fraction * len(sorted_values)), len(sorted_values) - 1)
    return sorted_values[place]


def spread(values: list[float], unit: str = "ms", scale: float = 1000.0) -> str:
    """Return values, in seconds, as their median, ninth decile and maximum."""
    ordered = sorted(value * scale for value in values)
    median, tenth, last = quantile(ordered, 0.5), quantile(ordered, 0.9), ordered[-1]
    return f"median {median:.0f} {unit}, p90 {tenth:.0f} {unit}, max {last:.0f} {unit}"
