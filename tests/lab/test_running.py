"""A running laboratory from another terminal: found, commanded, watched."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE

import pytest

from raftviz.lab.api import LabClient
from raftviz.model.events import CommandGiven
from raftviz.model.view import ClusterView


@pytest.fixture
def apart(monkeypatch):
    """A temporary directory in which no other laboratory runs."""
    with tempfile.TemporaryDirectory(prefix="apart") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        yield directory


async def raftviz(*arguments):
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raftviz", *arguments),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ,
    )
    out, errors = await process.communicate()
    return process.returncode, (out + errors).decode().strip()


def name(lab):
    return lab.client.socket.parent.name.removeprefix("raftviz-")


async def test_the_one_that_runs_is_found_and_of_several_the_one_that_is_named(apart, start_lab):
    assert await raftviz("do", "kill", "1") == (2, "no laboratory runs; start one with raftviz")
    one = await start_lab(servers=3, rate=0)
    assert await raftviz("do", "cut", "1", "->", "2") == (0, "cut: S1 → S2")
    assert await raftviz("do", "kill 3") == (0, "S3 killed")
    assert await raftviz("do", "kill", "3") == (1, "S3 is dead")
    other = await start_lab(servers=1, rate=0)
    listed = f"these run: {', '.join(sorted([name(one), name(other)]))}"
    assert await raftviz("do", "kill", "1") == (2, f"{listed}; say which with --lab NAME")
    status, text = await raftviz("do", "--lab", "xyz", "kill", "1")
    assert (status, text) == (2, f"there is no laboratory 'xyz'; {listed}")
    assert await raftviz("do", "--lab", name(other), "kill", "1") == (0, "S1 killed")
    await other.close()
    one.process.kill()
    await one.until_ended()
    assert await raftviz("do", "kill", "1") == (2, "no laboratory runs; start one with raftviz")


async def test_who_watches_sees_everything_and_commands_nothing(start_lab):
    lab = await start_lab(servers=3, rate=0)
    watcher = await LabClient.attach(lab.client.socket, watching=True)
    answer = await watcher.command("kill 1")
    assert (answer.ok, answer.text) == (
        False,
        "you only watch this laboratory; to give commands, attach to it",
    )
    await lab.do("pause 2")
    assert [what.text for what in lab.told(CommandGiven)] == ["pause 2"]
    view = ClusterView()
    while not (view.servers and view.servers[2].paused):
        for event in await watcher.next_events():
            view.apply(event)
    assert view.servers == lab.view.servers
    await watcher.close()
