"""What five idle servers cost while they are watched at real-time rate.

Run it with `python -m tests.bench.idle [SECONDS]`.
"""

from __future__ import annotations

import time

import psutil

from tests.bench.machine import asked, describe
from tests.bench.terminal import Explorer


def seconds_used(processes: list[psutil.Process]) -> float:
    """Return the processor time that these have used so far."""
    return sum(process.cpu_times().user + process.cpu_times().system for process in processes)


def main() -> None:
    seconds = asked(__doc__, "SECONDS", float, 15.0)
    explorer = Explorer("--rate", "1")
    try:
        explorer.until(lambda: "leader S" in explorer.shown)
        explorer.idle(2.0)  # the imports and the election are not what idling costs
        processes = explorer.processes()
        before = {kind: seconds_used(them) for kind, them in processes.items()}
        began = time.monotonic()
        explorer.idle(seconds)
        took = time.monotonic() - began
        print(describe())
        print(f"five idle servers at rate 1, watched at 160×48 for {took:.0f} s; % of one core")
        for kind, them in processes.items():
            share = 100 * (seconds_used(them) - before[kind]) / took
            memory = max(process.memory_info().rss for process in them) / 1e6
            print(f"{kind:8} {share:5.1f} %   {len(them)} × up to {memory:.0f} MB")
    finally:
        explorer.close()


if __name__ == "__main__":
    main()
