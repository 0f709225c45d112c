"""Many runs, on as many processor cores as are wanted."""

from __future__ import annotations

import contextlib
import enum
import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace

from raft.core.rules import Rules
from raft.testing.mutants import MUTANTS
from raft.testing.session_mutants import SESSION_MUTANTS
from raft.testing.sim.operator_mutants import OPERATOR_MUTANTS
from raft.testing.sim.report import Summary
from raft.testing.sim.run import Outcome, planned, run
from raft.testing.sim.scenario import SHORT, scenario
from raft.testing.store_mutants import STORE_MUTANTS

CHUNK = 10
"""So many seeds a process runs before it reports."""


class Ending(enum.Enum):
    """Why a campaign ended."""

    DONE = enum.auto()
    """All seeds were judged, or one failed."""
    INTERRUPTED = enum.auto()
    """The person at the keyboard wants no more."""
    WORKER_LOST = enum.auto()
    """A process ended without a result: somebody, or the system, killed it."""


@dataclass(slots=True)
class Campaign:
    """What came of many seeds."""

    summary: Summary = field(default_factory=Summary)
    ending: Ending = Ending.DONE
    unjudged: list[range] = field(default_factory=list)
    """Of which seeds nothing is known, in order, if it was cut short."""


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
        if self.mutant in OPERATOR_MUTANTS:
            made = replace(made, operator_mutant=self.mutant)
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
    order: Order, seeds: range, jobs: int, progress: Callable[[Summary], None]
) -> Campaign:
    """Run all seeds until one fails; the failure that stands first is that of the lowest seed."""
    if jobs == 1:
        return _run_here(order, seeds, progress)
    return _Crew(order, seeds, jobs, progress).run()


def _run_here(order: Order, seeds: range, progress: Callable[[Summary], None]) -> Campaign:
    result = Campaign()
    for number, seed in enumerate(seeds):
        try:
            result.summary.add(order.run(seed))
        except KeyboardInterrupt:
            result.ending, result.unjudged = Ending.INTERRUPTED, [seeds[number:]]
            break
        progress(result.summary)
        if result.summary.failures:
            break
    return result


class _Crew:
    """Runs seeds in processes of their own."""

    def __init__(
        self, order: Order, seeds: range, jobs: int, progress: Callable[[Summary], None]
    ) -> None:
        self._order = order
        self._left = seeds
        self._jobs = jobs
        self._progress = progress
        self._given: dict[Future[Summary], range] = {}
        self._strangers = set(multiprocessing.active_children())
        self._result = Campaign()

    def run(self) -> Campaign:
        """Run all seeds until one fails, a process is lost, or the person interrupts."""
        result = self._result
        try:
            # A fresh interpreter for each: threads of the parent must not be forked.
            with ProcessPoolExecutor(self._jobs, multiprocessing.get_context("spawn")) as pool:
                self._collect(pool)
        except (BrokenProcessPool, KeyboardInterrupt) as cut:
            broken = isinstance(cut, BrokenProcessPool)
            result.ending = Ending.WORKER_LOST if broken else Ending.INTERRUPTED
            self._take_results()
            result.unjudged = _joined([*self._given.values(), self._left])
        result.summary.failures.sort(key=lambda outcome: outcome.plan.scenario.seed)
        return result

    def _collect(self, pool: ProcessPoolExecutor) -> None:
        try:
            self._feed(pool)
            while self._given:
                wait(self._given, return_when=FIRST_COMPLETED)
                self._take_results()
                for lost in (future for future in self._given if future.done()):
                    lost.result()
                if not self._result.summary.failures:
                    self._feed(pool)
        except KeyboardInterrupt:
            for worker in set(multiprocessing.active_children()) - self._strangers:
                worker.terminate()
            raise

    def _feed(self, pool: ProcessPoolExecutor) -> None:
        """Give the processes enough to do."""
        while self._left and len(self._given) < 2 * self._jobs:
            chunk = self._left[:CHUNK]
            with _interrupts_wait():
                self._given[pool.submit(run_seeds, self._order, chunk)] = chunk
                self._left = self._left[CHUNK:]

    def _take_results(self) -> None:
        for future in [future for future in self._given if future.done()]:
            if future.exception() is None:
                del self._given[future]
                self._result.summary.merge(future.result())
                self._progress(self._result.summary)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait for a moment. A process that begins in it leaves Ctrl-C to this one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _joined(ranges: Iterable[range]) -> list[range]:
    """Return the same seeds in as few ranges as they make."""
    joined: list[range] = []
    for seeds in sorted(filter(None, ranges), key=lambda seeds: seeds.start):
        if joined and joined[-1].stop == seeds.start:
            joined[-1] = range(joined[-1].start, seeds.stop)
        else:
            joined.append(seeds)
    return joined
