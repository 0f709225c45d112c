"""The simulator: the same seed is the same run, what is broken is found, and made small."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from raft import cli
from raft.testing.mutants import MUTANTS
from raft.testing.sim.campaign import Order
from raft.testing.sim.faults import KINDS, plan
from raft.testing.sim.report import command, story
from raft.testing.sim.run import planned, run
from raft.testing.sim.scenario import scenario
from raft.testing.sim.shrink import shrink
from raft.testing.sim.states import STATES

TRACES = """
from raft.testing.sim.run import planned, run
from raft.testing.sim.scenario import scenario
for seed in range(12):
    outcome = run(planned(scenario(seed)))
    print(seed, outcome.trace, outcome.events, outcome.committed, sorted(outcome.states.items()))
"""


def test_a_seed_is_one_run_in_every_process() -> None:
    """Nothing depends on the order of a set, on an address, or on what hash() makes of bytes."""
    traces = [
        subprocess.run(
            [sys.executable, "-c", TRACES],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len({line.split()[1] for line in traces[0].splitlines()}) == 12


def test_a_run_may_be_repeated_without_one_of_its_faults() -> None:
    """The rest stays what it was: that is what shrinking rests on."""
    made = scenario(5)
    faults = plan(made)
    fewer = planned(made, keep=[fault.number for fault in faults[1:]]).faults
    assert fewer == faults[1:]


def test_every_kind_of_fault_happens() -> None:
    happened: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for seed in range(60):
        outcome = run(planned(scenario(seed)))
        assert outcome.failure is None
        happened += outcome.faults
        states += outcome.states
    assert [k for k in KINDS if not happened[k] and not KINDS[k].extra] == []
    assert sum(happened[k] for k in KINDS if KINDS[k].extra) > 100
    assert states.keys() <= set(STATES), "the catalogue knows every state"
    for state in (
        "split vote",
        "log truncated",
        "snapshot installed",
        "joint configuration",
        "lease read",
        "candidate: transfer",
        "follower: quorum_lost",
        "vote refused: LogBehind",
        "pre-vote refused: LeaderAlive",
        "leader with entries of older terms, not committed",
        "stopped by its disk",
        "recovery begun",
        "recovery over",
    ):
        assert states[state], state


def test_a_failure_becomes_small_and_one_command_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    order = Order(mutant="older-terms-committed")
    found = next(o for o in map(order.run, range(1, 200)) if o.failure is not None)
    small = shrink(found, order.rules())
    assert small.failure is not None
    assert found.failure is not None
    assert small.failure.invariant == found.failure.invariant
    assert len(small.plan.faults) <= 8
    told = story(small, order.rules())
    assert told[-1].endswith(small.failure.text.splitlines()[-1])
    line = command(small, order.mutant)
    assert cli.main(line.split()[1:]) == 1
    shown = capsys.readouterr().out
    assert small.failure.text in shown
    assert line in shown


def test_nothing_wrong_is_exit_status_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sim", "--seeds", "1..3", "--servers", "3"]) == 0
    assert "3 seeds" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--seeds", "9..1"], "are no seeds"),
        (["--faults", "crash,earthquake"], "earthquake: there is no such thing"),
        (["--mutant", "nice"], "nice: there is no such thing"),
        (["--servers", "8"], "1 to 7 servers"),
        (["--keep", "x"], "numbers of faults"),
        (["--jobs", "0"], "one process at least"),
        (["--seconds", "nan"], "are no seconds"),
        (["--until=-1"], "are no seconds"),
        (["--operations", "x"], "is no number from 0 on"),
    ],
)
def test_a_wrong_command_is_told_what_is_right(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sim", *arguments])
    assert reason in capsys.readouterr().err


def test_processes_find_what_one_finds() -> None:
    """In a process of its own: the pool's last helper ends only with its parent."""
    shown = [
        subprocess.run(
            [sys.executable, "-m", "raft", "sim", "--seeds", "1..24", "--jobs", jobs],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()[1:]
        for jobs in ("1", "2")
    ]
    assert sorted(shown[0][0].split(", ")) == sorted(shown[1][0].split(", "))
    assert shown[0][-1].startswith("trace: ")
    assert shown[0][-1] == shown[1][-1]


def test_the_messages_of_some_seeds_are_encoded() -> None:
    encoded = [seed for seed in range(60) if scenario(seed).codec]
    assert encoded
    plain, wired = (
        run(planned(replace(scenario(encoded[0]), codec=codec))).trace for codec in (False, True)
    )
    assert plain == wired


def test_a_new_member_alone_with_the_old_one_can_elect_it() -> None:
    """Found by seed 84: a pre-vote of a server in an older term counted as a late answer."""
    outcome = run(planned(replace(scenario(84, 1), pre_vote=True), keep=[36, 15]))
    assert outcome.failure is None


def test_a_server_that_learns_of_no_members_takes_no_snapshot() -> None:
    """Found by seed 1889: the snapshot of a new server said that nobody belongs to the cluster."""
    assert run(planned(scenario(1889, 1))).failure is None


def test_mutants_are_told_apart_by_name() -> None:
    assert isinstance(Order(mutant="vote-twice").rules(), MUTANTS["vote-twice"])
