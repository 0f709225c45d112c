"""The explorer in a real terminal with real servers: from the command to the last process gone."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.tui.harness import NARROW, WIDE

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")

WITHIN = 60.0
LEADER = re.compile(r"term (\d+) +★ leader S(\d)")


class Terminal:
    """A terminal of its own in which ``raftviz`` runs."""

    def __init__(self, size: tuple[int, int], *arguments: str) -> None:
        self._socket = f"raftviz-{uuid.uuid4().hex[:8]}"
        program = Path(sys.executable).with_name("raftviz")
        command = f"{program} {' '.join(arguments)}; echo status $?; sleep 600"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), command
        )
        self._shell = psutil.Process(int(self._tmux("display", "-p", "#{pane_pid}")))

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def until(self, holds: Callable[[str], object]) -> str:
        """Wait until the screen is as it should be; return it."""
        end = time.monotonic() + WITHIN
        while not holds(screen := self.screen()):
            assert time.monotonic() < end, f"not seen within {WITHIN:g} s:\n{screen}"
            time.sleep(0.05)
        return screen

    def until_leader(self, above: int = 0) -> tuple[int, int]:
        """Wait until somebody leads in a term above this one; return (term, leader)."""
        shown = self.until(lambda s: (m := LEADER.search(s)) and int(m[1]) > above)
        found = LEADER.search(shown)
        assert found is not None
        return int(found[1]), int(found[2])

    def processes(self) -> list[psutil.Process]:
        """All that runs below the shell: the explorer, its laboratory, the servers."""
        return self._shell.children(recursive=True)

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture(params=[WIDE, NARROW], ids=["160x48", "80x24"])
def terminal(request: pytest.FixtureRequest) -> Iterator[Terminal]:
    terminal = Terminal(request.param)
    yield terminal
    terminal.close()


def test_a_leader_is_killed_with_a_key_and_another_takes_over(terminal: Terminal) -> None:
    term, leader = terminal.until_leader()
    running = terminal.processes()
    assert len(running) >= 7, "an explorer, a laboratory and five servers"
    terminal.press("k")
    terminal.until(lambda screen: f": kill {leader}" in screen and "4/5 alive" in screen)
    assert terminal.until_leader(above=term)[1] != leader
    terminal.press(str(leader), "r")
    terminal.until(lambda screen: "5/5 alive" in screen)
    terminal.press("q")
    terminal.until(lambda screen: "status 0" in screen)
    _, alive = psutil.wait_procs(running, timeout=10)
    assert alive == []


@pytest.mark.parametrize("end", ["C-c", "SIGTERM"])
def test_it_leaves_the_terminal_in_order(end: str) -> None:
    terminal = Terminal(NARROW)
    try:
        terminal.until_leader()
        running = terminal.processes()
        terminal.press("Space")
        terminal.until(lambda screen: "❄ FROZEN" in screen)
        if end == "C-c":
            terminal.press(end)
        else:
            running[0].terminate()
        terminal.until(lambda screen: "status 0" in screen)
        _, alive = psutil.wait_procs(running, timeout=10)
        assert alive == []
    finally:
        terminal.close()
