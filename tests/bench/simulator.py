"""How many events of simulated clusters a second of one core takes, all invariants checked.

    python -m tests.bench.simulator [--short SEEDS] [--long SEEDS] [--times TIMES]

The seeds are always the first ones, as `raft sim --seeds 1..SEEDS` runs them: for 4 simulated
seconds of faults, and for 60. An event is what ``raft.testing.sim.world`` counts as one. The time
is this process's own (`time.process_time`), of whole runs: to draw the scenario, the faults, the
recovery after them and the check of the clients' histories are all in it. The floor is a queue
that hands as many events to a function that does nothing. Where other machines share the
processor, even the floor differs by half from one minute to the next: with ``--times`` each seed
runs several times, and the fastest counts, of the floor too. A Python that was built without
profile-guided optimisation (pyenv's are, unless told otherwise) does about a sixth less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from heapq import heappop, heappush
from statistics import median

from raft.testing.sim.campaign import Order
from raft.testing.sim.scenario import LONG, SHORT
from tests.bench.machine import describe

IN_QUEUE = 50
"""Events that wait at a time, about as in a simulation."""


def measure(seconds: float, seeds: int, times: int) -> None:
    """Run the first seeds, each ``times`` times, and print the rates of the fastest runs."""
    order = Order(seconds=seconds)
    order.run(0)  # what is imported and compiled once is no part of the first seed
    rates, events, used = [], 0, 0.0
    for seed in range(1, seeds + 1):
        runs = []
        for _ in range(times):
            began = time.process_time()
            outcome = order.run(seed)
            runs.append(time.process_time() - began)
        if outcome.failure is not None:
            raise SystemExit(f"seed {seed}: {outcome.failure.text}")
        took = min(runs)
        rates.append(outcome.events / took)
        events, used = events + outcome.events, used + took
    print(
        f"{seeds} seeds of {seconds:g} s: {events:,} events in {used:.2f} s of processor time, "
        f"{events / used:,.0f} a second; median seed {median(rates):,.0f}, "
        f"from {min(rates):,.0f} to {max(rates):,.0f}; "
        f"floor {max(floor(events) for _ in range(times)):,.0f}"
    )


def floor(events: int) -> float:
    """Return how many events a second would be, if nothing were simulated."""
    queue: list[tuple[float, int, Callable[[object], None], object]] = []
    for number in range(IN_QUEUE):
        heappush(queue, (float(number), number, _nothing, None))
    began = time.process_time()
    for number in range(IN_QUEUE, IN_QUEUE + events):
        when, _, action, what = heappop(queue)
        action(what)
        heappush(queue, (when + IN_QUEUE, number, action, what))
    return events / (time.process_time() - began)


def _nothing(what: object) -> None:
    pass


def main() -> None:
    """Measure runs of both lengths."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--short", type=int, default=100, metavar="SEEDS")
    parser.add_argument("--long", type=int, default=40, metavar="SEEDS")
    parser.add_argument("--times", type=int, default=1, help="the fastest of so many runs counts")
    options = parser.parse_args()
    if options.times < 1:
        parser.error("--times: a seed runs once at least")
    print(describe())
    measure(SHORT, options.short, options.times)
    measure(LONG, options.long, options.times)


if __name__ == "__main__":
    main()
