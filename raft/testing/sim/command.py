"""What ``raft sim`` does; ``raft.simulate`` describes its command line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Mapping

from raft.testing.mutants import MUTANTS
from raft.testing.session_mutants import SESSION_MUTANTS
from raft.testing.sim.campaign import Campaign, Ending, Order, campaign
from raft.testing.sim.faults import KINDS
from raft.testing.sim.operator_mutants import OPERATOR_MUTANTS
from raft.testing.sim.report import Summary, command, story
from raft.testing.sim.run import Outcome
from raft.testing.sim.shrink import shrink
from raft.testing.store_mutants import STORE_MUTANTS

OK, VIOLATED, CUT_SHORT, INTERRUPTED = 0, 1, 3, 130
ESCAPED = 1
"""Exit statuses; 2 is that of a wrong command line."""
MUTANT_SEEDS = 1000
BAR = 30

MUTANTS_HEAD = ("| mutant | what it breaks | caught by | seeds |", "| --- | --- | --- | --- |")

ALL_MUTANTS: Mapping[str, type] = {
    **MUTANTS,
    **STORE_MUTANTS,
    **SESSION_MUTANTS,
    **OPERATOR_MUTANTS,
}


def run_command(options: argparse.Namespace) -> int:
    """Run the command and return the exit status."""
    if options.faults == ("list",):
        return _list({name: kind.description for name, kind in KINDS.items()})
    if options.mutant == "list":
        return _list({name: (mutant.__doc__ or "") for name, mutant in ALL_MUTANTS.items()})
    _check(options, "faults", options.faults or (), KINDS)
    _check(options, "mutant", (options.mutant,) if options.mutant else (), ALL_MUTANTS)
    if options.mutants:
        return _mutants(options)
    order = _order(options, options.mutant)
    progress = _Progress(len(options.seeds))
    result = campaign(order, options.seeds, options.jobs, progress.show)
    progress.end()
    for line in result.summary.lines(progress.seconds):
        print(line)
    status = _tell_what_is_missing(result)
    if not result.summary.failures:
        return status
    _tell(result.summary.failures[0], order)
    return VIOLATED


def _tell_what_is_missing(result: Campaign) -> int:
    """Tell which seeds were not judged, if any; return the exit status of a run without failure."""
    if result.ending is Ending.DONE:
        return OK
    missing = ", ".join(f"{seeds[0]}..{seeds[-1]}" for seeds in result.unjudged)
    again = f"seeds {missing} were not judged; run them again with --seeds"
    if result.ending is Ending.INTERRUPTED:
        print(f"interrupted: {again}", file=sys.stderr)
        return INTERRUPTED
    print(
        "a worker process was killed, by somebody or, for want of memory, by the system: "
        f"{again}, or with fewer --jobs",
        file=sys.stderr,
    )
    return CUT_SHORT


def _list(words: Mapping[str, str]) -> int:
    for name, what in words.items():
        print(f"{name:26} {what.partition(chr(10))[0]}")
    return OK


def _check(
    options: argparse.Namespace, what: str, names: Iterable[str], known: Iterable[str]
) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        options.parser.error(
            f"--{what}: {', '.join(unknown)}: there is no such thing; --{what} list lists all"
        )


def _order(options: argparse.Namespace, mutant: str | None) -> Order:
    return Order(
        servers=options.servers,
        seconds=options.seconds,
        kinds=options.faults,
        mutant=mutant,
        keep=options.keep,
        until=options.until,
        operations=options.operations,
    )


def _tell(outcome: Outcome, order: Order) -> None:
    """Shrink a failure, and print how to repeat it and what happens in it."""
    assert outcome.failure is not None
    print(f"\nseed {outcome.plan.scenario.seed}: {outcome.failure.text}\n")
    if order.keep is None:
        print("shrinking ...", file=sys.stderr)
        faults = len(outcome.plan.faults)
        outcome = shrink(outcome, order.rules())
        print(
            f"shrunk from {faults} faults to {len(outcome.plan.faults)}, "
            f"{outcome.operations} operations, {outcome.plan.end:g} s; this repeats it:"
        )
    print(f"\n    {command(outcome, order.mutant)}\n")
    for line in story(outcome, order.rules()):
        print(line)


# --- Mutants -----------------------------------------------------------------------------------


def _mutants(options: argparse.Namespace) -> int:
    """Print the table mutant → caught by → after how many seeds, as Markdown."""
    print(*MUTANTS_HEAD, sep="\n")
    escaped = []
    for name, mutant in ALL_MUTANTS.items():
        seeds = range(1, MUTANT_SEEDS + 1)
        result = campaign(_order(options, name), seeds, options.jobs, lambda _: None)
        if result.ending is not Ending.DONE:
            return _tell_what_is_missing(result)
        caught, after = "nothing", f"not in {MUTANT_SEEDS:,}"
        if result.summary.failures:
            caught, after = caught_by(result.summary.failures[0])
        else:
            escaped.append(name)
        print(f"| {name} | {what_it_breaks(mutant)} | {caught} | {after} |", flush=True)
    if escaped:
        print(f"not caught: {', '.join(escaped)}", file=sys.stderr)
        return ESCAPED
    return OK


def what_it_breaks(mutant: type) -> str:
    """Return a mutant's description."""
    return (mutant.__doc__ or "").partition("\n")[0]


def caught_by(first: Outcome) -> tuple[str, str]:
    """Return what catches a mutant, and the first seed that shows it."""
    assert first.failure is not None
    invariant = first.failure.invariant
    return "the core itself" if invariant == "core" else invariant, str(first.plan.scenario.seed)


# --- Progress ------------------------------------------------------------------------------------


class _Progress:
    """A bar on a terminal; nothing anywhere else."""

    def __init__(self, seeds: int) -> None:
        self._seeds = seeds
        self._begin = time.perf_counter()
        self._shown = sys.stderr.isatty()

    @property
    def seconds(self) -> float:
        """Real time since the beginning."""
        return max(1e-9, time.perf_counter() - self._begin)

    def show(self, summary: Summary) -> None:
        """Draw the bar anew."""
        if self._shown:
            done = BAR * summary.seeds // max(1, self._seeds)
            bar = "█" * done + "░" * (BAR - done)
            rate = summary.events / self.seconds
            text = f"\r{bar} {summary.seeds:,} of {self._seeds:,} seeds, {rate:,.0f} events/s "
            print(text, end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the bar's line."""
        if self._shown:
            print(file=sys.stderr)
