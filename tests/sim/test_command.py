"""What ``raft sim`` prints: a failure made small, coverage, the trace, the table of mutants."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from raft import cli
from raft.testing.sim import command
from raft.testing.sim.campaign import Order, run_seeds
from raft.testing.sim.command import ALL_MUTANTS, MUTANT_SEEDS, MUTANTS_HEAD
from raft.testing.sim.run import planned, run
from raft.testing.sim.scenario import scenario
from raft.testing.sim.states import STATES

MUTANT = "half-is-a-quorum"
README = (Path(__file__).parents[1] / "README.md").read_text()


def test_a_failing_seed_is_shrunk_and_the_command_that_is_printed_fails_alike(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["sim", "--seeds", "1..20", "--seconds", "1", "--mutant", MUTANT]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"shrunk from \d+ faults to \d+, \d+ operations, .* s; this repeats it", shown)
    line = re.search(r"^    (raft sim .*)$", shown, re.MULTILINE)
    assert line is not None
    assert cli.main(line[1].split()[1:]) == 1
    again = capsys.readouterr().out
    # From the command on it is the same text: the same trace, the same story, the same end.
    assert again[again.index(line[0]) :] == shown[shown.index(line[0]) :]
    assert "14 quorum durability" in again.splitlines()[-1]


def test_two_runs_of_a_seed_are_compared_by_their_traces(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = []
    for seed in ("3", "3", "4"):
        assert cli.main(["sim", "--seeds", seed]) == 0
        shown.append(capsys.readouterr().out.splitlines()[-1])
    assert re.fullmatch("trace: [0-9a-f]{16}", shown[0])
    assert shown[0] == shown[1] != shown[2]


def test_states_that_were_not_reached_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--seeds", "1", "--servers", "1", "--faults", "loss"]) == 0
    shown = capsys.readouterr().out
    missing = re.search("^states not reached: (.*)$", shown, re.MULTILINE)
    reached = re.search("^states: (.*)$", shown, re.MULTILINE)
    assert missing is not None
    assert reached is not None
    unseen = [s for s in STATES if not re.search(rf"(^|, ){re.escape(s)} \d", reached[1])]
    assert "split vote" in unseen
    assert missing[1] == ", ".join(unseen)


def test_on_a_terminal_a_bar_shows_how_far_it_is() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "raft", "sim", "--seeds", "1..2"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    try:
        while read := os.read(ours, 4096):
            shown += read
    except OSError:
        pass  # On Linux a terminal that nobody holds any more reads so.
    finally:
        os.close(ours)
    assert process.wait() == 0
    bars = shown.decode().split("\r")
    assert any("░ 1 of 2 seeds, " in bar and "events/s" in bar for bar in bars), bars
    assert any("█ 2 of 2 seeds, " in bar for bar in bars), bars


# --- Mutants -------------------------------------------------------------------------------------


def rows() -> list[tuple[str, ...]]:
    """The README's table: mutant, what it breaks, what catches it, and the seed."""
    table = README.partition("\n".join(MUTANTS_HEAD) + "\n")[2].partition("\n\n")[0]
    return [tuple(row.strip("| ").split(" | ")) for row in table.splitlines()]


def test_the_table_of_mutants_names_all_of_them_as_they_describe_themselves() -> None:
    described = {name: command.what_it_breaks(mutant) for name, mutant in ALL_MUTANTS.items()}
    assert {name: what for name, what, _, _ in rows()} == described
    assert all(0 < int(seed) <= MUTANT_SEEDS for *_, seed in rows())


@pytest.mark.parametrize(("mutant", "_", "invariant", "seed"), rows())
def test_a_broken_rule_is_caught_by_the_seed_of_the_table(
    mutant: str, _: str, invariant: str, seed: str
) -> None:
    """Once simulated clusters live other lives, `raft sim --mutants` writes the table anew."""
    outcome = Order(mutant=mutant).run(int(seed))
    assert outcome.failure is not None, "nothing is wrong with it"
    assert command.caught_by(outcome) == (invariant, seed)


def test_a_mutant_that_nothing_catches_is_named_and_is_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("half-is-a-quorum", "gaps-accepted", "log-compared-as-vector")
    monkeypatch.setattr(command, "ALL_MUTANTS", {name: ALL_MUTANTS[name] for name in names})
    monkeypatch.setattr(command, "MUTANT_SEEDS", 2)
    assert cli.main(["sim", "--mutants"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "not caught: log-compared-as-vector\n"
    head, rule, *rows = shown.out.splitlines()
    assert (head, rule) == MUTANTS_HEAD
    table = README.splitlines()
    assert rows[0] in table
    assert rows[1] in table
    assert rows[2].endswith("| nothing | not in 2 |")


@pytest.mark.slow
@pytest.mark.parametrize("mutant", ALL_MUTANTS)
def test_seeds_find_the_mutant(mutant: str) -> None:
    assert run_seeds(Order(mutant=mutant), range(1, MUTANT_SEEDS + 1)).failures


# --- The story -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sessions", [0, 2])
def test_a_story_has_what_clients_asked_and_were_answered_and_the_run_stays_the_same(
    sessions: int,
) -> None:
    made = replace(scenario(4, 3, seconds=1.0), sessions=sessions)
    told: list[str] = []
    plain = run(planned(made))
    watched = run(planned(made), None, lambda now, server, what: told.append(str(what)))
    assert (watched.trace, watched.events) == (plain.trace, plain.events)
    lines = "\n".join(told)
    assert re.search(r"client \d → S\d  read k\d+.*, asked for since ", lines)
    assert re.search(r"client \d → S\d  write k\d+=\d+, asked for since ", lines)
    assert re.search(r"S\d → client \d  read k\d+.*: (\d+|nothing), up to entry \d+", lines)
    done = r"Performed\(.*\), by" if sessions else "done by"
    assert re.search(rf"S\d → client \d  write k\d+=\d+: {done} entry \d+", lines)


def test_a_story_has_who_gives_up() -> None:
    told: list[str] = []
    run(planned(scenario(22)), None, lambda now, server, what: told.append(str(what)))
    gives_up = re.compile(r"client \d has no answer and gives up: (read|write) k\d+.*")
    assert any(map(gives_up.fullmatch, told))
