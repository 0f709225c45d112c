"""Many runs, on as many processor cores as are wanted."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace

from raft.core.rules import Rules
from raft.testing.mutants import MUTANTS
from raft.testing.session_mutants import SESSION_MUTANTS
from raft.testing.sim.report import Summary
from raft.testing.sim.run import Outcome, planned, run
from raft.testing.sim.scenario import SHORT, scenario
from raft.testing.store_mutants import STORE_MUTANTS

CHUNK = 10
"""So many seeds a process runs before it reports."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be run, but for the seeds."""

    servers: int | None = None
    seconds: float = SHORT
    kinds: tuple[str, ...] | None = None
    mutant: str | None = None
    keep: tuple[int, ...] | None = None
    until: float | None = None
    operations: int | None = None

    def rules(self) -> Rules:
        """Return the rules that all servers follow."""
        return MUTANTS[self.mutant]() if self.mutant in MUTANTS else Rules()

    def run(self, seed: int) -> Outcome:
        """Run one seed."""
        made = scenario(seed, self.servers, self.seconds)
        if self.mutant in STORE_MUTANTS:
            made = replace(made, durable=True, store=self.mutant)
        if self.mutant in SESSION_MUTANTS:
            made = replace(made, sessions=made.sessions or 2, session_mutant=self.mutant)
        plan = planned(made, self.kinds, self.keep, self.until, self.operations)
        return run(plan, self.rules())


def run_seeds(order: Order, seeds: Sequence[int]) -> Summary:
    """Run some seeds, here and now; stop at the first that fails."""
    summary = Summary()
    for seed in seeds:
        summary.add(order.run(seed))
        if summary.failures:
            break
    return summary


def campaign(
    order: Order, seeds: Sequence[int], jobs: int, progress: Callable[[Summary], None]
) -> Summary:
    """Run all seeds until one fails; the failure reported is that of the lowest seed."""
    total = Summary()
    if jobs == 1:
        for chunk in _chunks(seeds):
            total.merge(run_seeds(order, chunk))
            progress(total)
            if total.failures:
                break
        return total
    # A fresh interpreter for each: threads of the parent must not be forked.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context) as pool:
        _collect(pool, order, _chunks(seeds), jobs, total, progress)
    total.failures.sort(key=lambda outcome: outcome.plan.scenario.seed)
    return total


def _collect(
    pool: ProcessPoolExecutor,
    order: Order,
    chunks: Iterator[Sequence[int]],
    jobs: int,
    total: Summary,
    progress: Callable[[Summary], None],
) -> None:
    under_way: set[Future[Summary]] = set()
    more = True
    while more or under_way:
        while more and len(under_way) < 2 * jobs:
            chunk = next(chunks, None)
            if chunk is None:
                more = False
            else:
                under_way.add(pool.submit(run_seeds, order, chunk))
        if not under_way:
            return
        done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
        for future in done:
            total.merge(future.result())
            progress(total)
        more = more and not total.failures


def _chunks(seeds: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(seeds), CHUNK):
        yield seeds[start : start + CHUNK]
