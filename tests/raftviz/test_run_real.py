"""Scripts on real servers, as a user plays them: ``raftviz run``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cases import few

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "raftviz", "run"]


def start(*options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *options],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def play(script: str, *options: str, **environment: str) -> tuple[int, str, str]:
    """Return the exit status, standard output and standard error; all processes are gone."""
    with start(*options, "-", **environment) as process:
        out, err = process.communicate(script, timeout=120)
    assert "Traceback" not in out + err
    return process.returncode, out, err


SCRIPTS = {
    "elect": """
        expect leaders == 1 within 20s
        expect servers.all(s, s.leader == leader && s.term == term) within 20s
    """,
    "put and get": """
        wait leader != 0
        put greeting 'hello world'
        expect last.outcome == "ok"
        expect servers.all(s, s.alive && s.kv["greeting"] == "hello world") within 20s
        get greeting
        expect last.found && last.answer == "hello world"
        delete greeting
        get greeting
        expect last.outcome == "ok" && !last.found
    """,
    "kill the leader": """
        wait leader != 0
        put x 1
        kill leader
        expect alive == 2 && leader == 0
        wait leader != 0
        put x 2
        restart all
        expect alive == 3
        expect servers.all(s, s.kv.x == "2" && s.log == s1.log) within 20s
        expect leaders == 1
    """,
    "partition": """
        wait leader != 0
        put x before
        partition 1 2 | 3 4 5
        wait leader > 2
        put x majority @leader
        expect last.outcome == "ok"
        put x minority @1
        expect last.outcome != "ok"
        heal all
        expect servers.all(s, s.kv.x == "majority" && s.log == s3.log) within 20s
    """,
    "a one-way cut": """
        wait leader != 0
        isolate leader
        wait leaders == 2 within 20s
        heal
        wait leaders == 1 within 20s
    """,
    "pause the leader": """
        wait leader != 0
        pause leader
        expect servers.exists(s, s.paused && s.role == "leader")
        wait leaders == 2 within 20s
        resume all
        wait leaders == 1 && servers.all(s, s.leader == leader) within 20s
    """,
    "all restart": """
        wait leader != 0
        put x kept
        kill all
        expect alive == 0 && leader == 0
        restart all
        wait leader != 0
        get x
        expect last.answer == "kept"
    """,
    "step while frozen": """
        wait leader != 0
        freeze
        expect rate == 0.0
        put x 1
        expect last.outcome == "pending"
        step 40
        thaw
        expect last.outcome == "ok" within 20s
    """,
    "slow motion": """
        wait leader != 0
        rate 1/10
        expect rate == 0.1
        wait 20ms
        rate 10
        delay 30ms
        wait 2s
        expect time > 2.0
    """,
    "time out": """
        wait leader != 0
        timeout followers
        wait term > 1 && leader != 0
    """,
}


@pytest.mark.parametrize("name", few(SCRIPTS, 5))
def test_a_scenario_holds(name: str) -> None:
    servers = "5" if name == "partition" else "3"
    # Slow enough that a busy machine is no reason to elect another leader in between.
    status, out, err = play(SCRIPTS[name], "--servers", servers, "--rate", "1/4")
    assert (status, err) == (0, ""), out
    assert out.splitlines()[-1].endswith(
        "passed · safety ✓ election ✓ append-only ✓ matching ✓ completeness ✓ machine"
    )


def test_a_failed_expectation_is_exit_status_1() -> None:
    status, out, err = play(
        "wait leader != 0\nexpect s1.kv.x == '1' within 50ms\nkill 1", "--servers", "1"
    )
    assert (status, err) == (1, "")
    assert "line 2  expect s1.kv.x == '1' within 50ms  →  FAILED" in out
    assert "expected within 50ms: s1.kv.x == '1'" in out
    assert "seen: s1.kv.x is not there" in out
    assert "line 3" not in out


def test_a_refused_command_is_exit_status_1() -> None:
    status, out, _ = play("restart 1", "--servers", "1")
    assert status == 1
    assert "line 1  restart 1  →  REFUSED: S1 is not dead" in out


def test_a_locale_without_arrows_is_no_traceback() -> None:
    status, out, _ = play("kill 1", "--servers", "1", PYTHONIOENCODING="ascii")
    assert status == 0
    assert r"line 1  kill 1  \u2192  S1 killed" in out


def test_an_unusable_script_is_exit_status_2_and_starts_nothing() -> None:
    status, out, err = play("wait leader != 0\nkil leader")
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        'standard input:2:1: expected a command, found "kil"',
        "    kil leader",
        "    ^",
        "  try: kill leader",
    ]


def test_every_event_is_a_line_of_json(tmp_path: Path) -> None:
    file = tmp_path / "demo.raft"
    file.write_text("wait leader != 0\nexpect size(servers) == 3 && rate == 2.0\nkill 2\n")
    with start("--json", "--servers", "3", "--rate", "2", str(file)) as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    events: list[Any] = [json.loads(row) for row in out.splitlines()]
    kinds = {event["event"]["type"] for event in events}
    assert {"LabStarted", "ServerState", "RoleChanged", "MessageSent", "ServerExited"} <= kinds
    assert events[0]["event"]["servers"] == [1, 2, 3]
    told = [event["sequence"] for event in events]
    assert sorted(set(told)) == list(range(told[0], told[-1] + 1))
    assert "line 3  kill 2  →  S2 killed" in err


def children_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return list(psutil.Process(process.pid).children(recursive=True))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_script_leaves_no_process(number: signal.Signals) -> None:
    process = start("--servers", "3", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("wait leader != 0\npause 1\nfreeze\nwait 3600s\n")
    process.stdin.close()
    for row in process.stdout:
        if "line 3  freeze" in row:  # each line comes as soon as it is done
            break
    children = children_of(process)
    assert len(children) == 4  # the laboratory and three servers
    os.kill(process.pid, number)
    status = process.wait(timeout=60)
    assert status == (130 if number is signal.SIGINT else -number)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    assert process.stderr is not None
    assert process.stderr.read() == ""
    said = process.stdout.read()
    assert ("interrupted at line 4" in said) == (number is signal.SIGINT)
    process.stdout.close()
    process.stderr.close()


def test_a_reader_that_went_away_is_no_traceback() -> None:
    process = start("--json", "--servers", "1", "-")
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write("wait 3600s\n")
    process.stdin.close()
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()
