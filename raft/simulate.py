"""``raft sim``: let simulated clusters meet with everything that can go wrong, and judge them."""

from __future__ import annotations

import argparse
import math

from raft.testing.sim.scenario import MOST_SERVERS, SHORT

EPILOG = """\
A seed stands for a cluster of 1 to 7 servers, its settings, its clients and all that goes wrong
with it: the same seed is the same run, event for event. When the faults are over, the cluster
must recover. All promises of Raft are checked after every event.

A seed that fails is shrunk to few faults and few operations, and printed as one command that
repeats it, with the end of its story.

Exit status: 0 nothing is wrong; 1 a promise is broken, or with --mutants one of them is caught
by nothing; 2 the command is wrong; 3 not all seeds were judged, because a process of --jobs was
killed; 130 the same, because of Ctrl-C. In the last two cases what was judged is reported, and
which seeds were not.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``raft sim``."""
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--seeds", type=_seeds, default=range(1, 101), metavar="A..B", help="default 1..100")
    add("--servers", type=_size, metavar="N", help="1 to 7; by default each seed chooses")
    add(
        "--seconds",
        type=_seconds,
        default=SHORT,
        metavar="S",
        help=f"simulated seconds of faults for each seed (default {SHORT:g})",
    )
    add("--faults", type=_kinds, metavar="KIND,...", help="only these; 'list' lists all kinds")
    add("--mutant", metavar="NAME", help="break a rule of Raft; 'list' lists all mutants")
    add("--mutants", action="store_true", help="run all of them: which are caught, and by what")
    add("--jobs", type=_jobs, default=1, metavar="J", help="processes (default 1)")
    add("--keep", type=_numbers, metavar="N,...", help="of the faults only these; or 'none'")
    add("--until", type=_seconds, metavar="S", help="end the faults then")
    add("--operations", type=_count, metavar="N", help="clients begin no more operations than that")


def main(options: argparse.Namespace) -> int:
    """Run the command and return the exit status."""
    # Loaded when it runs: ``raft --help`` waits for nothing.
    from raft.testing.sim.command import run_command

    return run_command(options)


# --- What the options say --------------------------------------------------------------------


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        seeds = range(int(first), int(last if dots else first) + 1)
    except ValueError:
        seeds = range(0)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} are no seeds: 1..100 are, or 17")
    return seeds


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _size(text: str) -> int:
    if not _is_number(text) or not 1 <= int(text) <= MOST_SERVERS:
        raise argparse.ArgumentTypeError(f"{text!r}: 1 to {MOST_SERVERS} servers")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} are no seconds: 4 are, or 0.5")
    return seconds


def _count(text: str) -> int:
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return int(text)


def _jobs(text: str) -> int:
    if not _is_number(text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: one process at least")
    return int(text)


def _kinds(text: str) -> tuple[str, ...]:
    kinds = tuple(text.split(","))
    if "" in kinds:
        raise argparse.ArgumentTypeError(f"{text!r}: a name is missing: crash,power are two")
    return kinds


def _numbers(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: numbers of faults, as 3,14; or none") from None
