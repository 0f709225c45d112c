"""A campaign that is cut short says what it knows and what it does not, and never a traceback."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from raft import cli

SIM = (sys.executable, "-m", "raft", "sim", "--seeds", "1..100000")


def start(*arguments: str) -> "subprocess.Popen[str]":
    """Start ``raft sim`` in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [*SIM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def workers_at_work(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Wait until both workers have done something."""
    while True:
        assert process.poll() is None, process.communicate()
        workers = [
            child
            for child in psutil.Process(process.pid).children()
            if "spawn_main" in " ".join(child.cmdline()) and child.cpu_times().user > 1.0
        ]
        if len(workers) == 2:
            return workers
        time.sleep(0.05)


def check_that_every_seed_is_accounted_for(out: str, err: str) -> None:
    """Each of the hundred thousand was judged, or is named as not judged."""
    match = re.match(r"([\d,]+) seeds", out)
    assert match is not None, out
    judged = int(match[1].replace(",", ""))
    missing = re.findall(r"(\d+)\.\.(\d+)", err)
    assert judged + sum(int(last) - int(first) + 1 for first, last in missing) == 100_000


def test_a_worker_that_is_killed_leaves_its_seeds_unjudged() -> None:
    process = start("--jobs", "2")
    os.kill(workers_at_work(process)[0].pid, signal.SIGKILL)
    out, err = process.communicate()
    assert process.returncode == 3
    assert "a worker process was killed" in err
    assert "..100000 were not judged" in err
    assert "Traceback" not in err
    check_that_every_seed_is_accounted_for(out, err)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_reports_what_was_judged(jobs: str) -> None:
    process = start("--jobs", jobs)
    if jobs == "2":
        workers_at_work(process)
    else:
        while psutil.Process(process.pid).cpu_times().user < 2.0:
            assert process.poll() is None
            time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(r"interrupted: seeds .*\d+\.\.100000 were not judged; .*\n", err), err
    check_that_every_seed_is_accounted_for(out, err)


def test_the_help_names_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["sim", "--help"])
    assert "3 not all seeds were judged" in " ".join(capsys.readouterr().out.split())
