"""No process of a run outlives it, however it ends and whatever its servers are doing."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from raftviz.lab.run_directory import running
from tests.cases import few

OWNER = Path(__file__).parent / "owner.py"
SECONDS = 5.0
"""Real seconds within which nothing may be left: this much is promised."""

STATES = {
    "running": [],
    "paused": ["pause 1 3"],
    "all paused": ["pause all"],
    "frozen": ["freeze"],
    "frozen and paused": ["freeze", "pause 2"],
    "partitioned": ["partition 1 | 2 3", "kill 3"],
}


class Run:
    """A process that owns a laboratory, and everything that it set in motion."""

    def __init__(self, process, temp):
        self.process = process
        self.temp = temp
        self.lab = None

    @classmethod
    async def start(cls, temp, commands=()):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(OWNER),
            *commands,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "TMPDIR": str(temp)},
        )
        return cls(process, temp)

    async def ready(self):
        """Wait until the owner's commands are carried out; note the pids of all."""
        async with asyncio.timeout(30):
            told = json.loads(await self.process.stdout.readline())
        self.lab = told["lab"]
        assert set(told["servers"]) <= {process.pid for process in self.left()}

    def left(self):
        """Return every process of this run: each has its temporary directory from the owner."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process):
        try:
            named = str(self.temp) in " ".join(process.cmdline())
            inherited = process.environ().get("TMPDIR") == str(self.temp)
            return (named or inherited) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False  # it is gone, or somebody else's

    async def ends(self):
        """Fail unless everything is gone in time."""
        await asyncio.to_thread(psutil.wait_procs, self.left(), timeout=SECONDS)
        left = self.left()  # without those that only wait for their parent to notice their end
        for process in left:
            process.kill()
        assert left == []
        await self.process.wait()


@pytest.mark.parametrize("state", STATES)
async def test_when_the_owner_is_killed_everything_ends(tmp_path, state):
    run = await Run.start(tmp_path, STATES[state])
    await run.ready()
    run.process.kill()
    await run.ends()
    assert list(tmp_path.iterdir()) == [], "the run's directory is gone, too"


@pytest.mark.parametrize("state", few(STATES, 3))
async def test_when_the_lab_is_killed_its_servers_end(tmp_path, state, monkeypatch):
    run = await Run.start(tmp_path, STATES[state])
    await run.ready()
    os.kill(run.lab, signal.SIGKILL)
    async with asyncio.timeout(30):
        assert await run.process.wait() == 0, "its owner sees the end of the stream"
    await run.ends()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert running() == {}
    assert list(tmp_path.iterdir()) == [], "whoever looks for it removes what it left"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_ends_the_lab_and_all_that_is_in_it(tmp_path, number):
    run = await Run.start(tmp_path, STATES["paused"])
    await run.ready()
    os.kill(run.lab, number)
    await run.ends()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", few([2, 3, 5, 1, 4], 3))
async def test_the_owner_may_be_killed_at_any_moment_of_the_start(tmp_path, processes):
    """Once it is there itself (1), the laboratory (2), and one server after the other."""
    run = await Run.start(tmp_path)
    async with asyncio.timeout(30):
        while len(await asyncio.to_thread(run.left)) < processes:
            assert run.process.returncode is None
    run.process.kill()
    await run.ends()
    assert run.process.returncode == -signal.SIGKILL


async def test_the_next_run_removes_what_a_killed_lab_left(tmp_path):
    run = await Run.start(tmp_path)
    await run.ready()
    os.kill(run.lab, signal.SIGKILL)
    await run.ends()
    [left] = tmp_path.iterdir()
    run = await Run.start(tmp_path)
    await run.ready()
    assert not left.exists()
    run.process.kill()
    await run.ends()
