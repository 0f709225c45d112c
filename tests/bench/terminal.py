"""The explorer in a terminal of its own, as a person starts it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import psutil

COLUMNS, ROWS = 160, 48
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_].*?\x1b\\|.)")


class Explorer:
    """A running `raftviz`. ``started`` is when it was started, by the monotonic clock."""

    def __init__(self, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
        command = [str(Path(sys.executable).with_name("raftviz")), *arguments]
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=environment, process_group=0
        )
        os.close(slave)
        self.shown = ""
        """All text that was written since the last ``press``, without its colours and places."""

    def press(self, keys: str) -> float:
        """Press keys; return when."""
        self.shown = ""
        os.write(self._master, keys.encode())
        return time.monotonic()

    def until(self, holds: Callable[[], bool], within: float = 30.0) -> float:
        """Read what the program draws until ``holds()``; return when. Raises TimeoutError."""
        end = time.monotonic() + within
        while not holds():
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(f"not seen within {within:g} s: …{self.shown[-2000:]}")
            self.read(0.001)
        return time.monotonic()

    def read(self, seconds: float) -> None:
        """Take in what the program draws for at most so long."""
        if select.select([self._master], [], [], seconds)[0]:
            try:
                drawn = os.read(self._master, 1 << 16)
            except OSError:
                return  # nobody has the other side open any more
            self.shown += ESCAPES.sub("", drawn.decode(errors="replace"))

    def idle(self, seconds: float) -> None:
        """Let the program draw for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.read(min(left, 0.1))

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Return the processes by what they are: screen, lab, servers."""
        screen = psutil.Process(self._process.pid)
        found: dict[str, list[psutil.Process]] = {"screen": [screen], "lab": [], "servers": []}
        for child in screen.children(recursive=True):
            kind = "lab" if "raftviz.lab" in child.cmdline() else "servers"
            found[kind].append(child)
        return found

    def close(self) -> None:
        """End the explorer and all that belongs to it."""
        self._process.terminate()
        while self._process.poll() is None:
            self.read(0.05)
        os.close(self._master)
