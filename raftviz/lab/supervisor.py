"""The server processes of a lab: started, killed, paused, and never left behind (design §3).

A server's standard input is a pipe that the lab holds: when the lab goes, however it goes, the
server reads the end of it and exits. A stopped process reads nothing. Each server is a process
group of its own in the lab's session, so that when the lab dies the group is orphaned, and
the kernel sends a stopped member of it SIGHUP and SIGCONT; on Linux the server has asked for
SIGKILL besides.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.lab.api import LabOptions
from raftviz.lab.run_directory import RunDirectory

CLUSTER = "raftviz"
"""The name of every lab's cluster: data that was kept can be used by a later lab."""
START_SECONDS = 60.0
KILLED = "killed (SIGKILL)"
"""How a process ended that was killed, or cut off from its power."""
_KEPT_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR")


class ServerStartError(Exception):
    """A server process did not come up; the message says why, for a person."""


@dataclass(slots=True, eq=False)
class ServerProcess:
    """One process of one server, from its birth to its end."""

    server: ServerId
    address: str
    paused: bool = False
    killed: bool = False
    """The lab ended it; otherwise its end is news."""
    _process: Process = field(kw_only=True)
    _errors: Path = field(kw_only=True)

    @property
    def pid(self) -> int:
        """The id of the process. It is not used again before ``ended`` has returned."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once, stopped or not (SIGKILL)."""
        self.killed = True
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end (SIGTERM)."""
        self.killed = True
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """Stop it (SIGSTOP)."""
        self.paused = True
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.paused = False
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def ended(self) -> str:
        """Wait until it is gone and reaped; return how it ended, in words."""
        status = await self._process.wait()
        if status < 0:
            names = (number.name for number in signal.Signals if number == -status)
            return f"killed ({next(names, f'signal {-status}')})"
        words = last_words(self._errors)
        return f"exit status {status}: {words}" if words else f"exit status {status}"


class Supervisor:
    """Starts the server processes of one lab."""

    def __init__(self, options: LabOptions, seed: int, run: RunDirectory) -> None:
        self._options = options
        self._seed = seed
        self._run = run
        self._starts: dict[ServerId, int] = {}
        self.joining: set[ServerId] = set()
        """Servers that did not found the cluster: they joined it, or will."""

    def data_of(self, server: ServerId) -> Path:
        """Return the directory in which a server keeps what it must not forget."""
        return self._run.server_directory(server) / "data"

    async def start(
        self, server: ServerId, peers: Mapping[ServerId, str], broken: Iterable[str] = ()
    ) -> ServerProcess:
        """Start a server's process, which breaks these rules, and wait until it listens.

        Raises ServerStartError.
        """
        try:
            errors = self._run.server_directory(server) / "stderr.txt"
            command = self._command(server, peers)
            command += [word for rule in broken for word in ("--rules", rule)]
            process = await self._spawn(command, errors)
        except OSError as error:
            raise ServerStartError(f"S{server} did not start: {error}") from error
        try:
            async with asyncio.timeout(START_SECONDS):
                address = await _read_address(process)
        except (TimeoutError, ValueError) as error:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            reason = last_words(errors) or str(error) or f"no word from it in {START_SECONDS:g} s"
            raise ServerStartError(f"S{server} did not start: {reason}") from error
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        return ServerProcess(server, address, _process=process, _errors=errors)

    async def _spawn(self, command: list[str], errors: Path) -> Process:
        with _emptied(errors) as stderr:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env={k: os.environ[k] for k in _KEPT_ENVIRONMENT if k in os.environ},
                process_group=0,
            )

    def _command(self, server: ServerId, peers: Mapping[ServerId, str]) -> list[str]:
        options = self._options
        low, high = options.election_timeout
        command = [sys.executable, "-P", "-m", "raft", "serve", "--attended"]
        command += ["--id", str(server), "--cluster", CLUSTER, "--listen", "127.0.0.1:0"]
        for founder in range(1, options.servers + 1) if server not in self.joining else ():
            # Of those who joined later the cluster's configuration tells.
            if founder != server and (address := peers.get(ServerId(founder))) is not None:
                command += ["--peer", f"{founder}={address}"]
        command += ["--join"] if server in self.joining else []
        command += ["--advertise", peers[server]]
        command += [] if options.pre_vote else ["--no-pre-vote"]
        command += [] if options.check_quorum else ["--no-check-quorum"]
        command += ["--append-bytes", "1"] if options.one_entry else []
        command += ["--data", str(self.data_of(server))]
        command += ["--secret-file", str(self._run.secret_file)]
        command += ["--election-timeout", f"{low:.6f}s..{high:.6f}s"]
        command += ["--heartbeat", f"{options.heartbeat:.6f}s"]
        return [*command, "--seed", str(self._draw_seed(server))]

    def _draw_seed(self, server: ServerId) -> int:
        """Another process of a server draws other timeouts, and yet the same in every run."""
        self._starts[server] = start = self._starts.get(server, 0) + 1
        seed = f"{self._seed} S{server} {start}"
        return random.Random(seed).getrandbits(48)  # noqa: S311 - timeouts need no secrecy


async def _read_address(process: Process) -> str:
    """Return the address that a server announces in its first line. Raises ValueError."""
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise ValueError("it ended without a word")
    announced = json.loads(line)
    if not isinstance(announced, dict) or not isinstance(announced.get("address"), str):
        raise ValueError("its first line does not say where it listens")
    return str(announced["address"])


def _emptied(path: Path) -> IO[bytes]:
    """Empty a file and open it so that what others add to it is not written over."""
    path.write_bytes(b"")
    return path.open("ab")


def last_words(errors: Path) -> str:
    """Return the last line that a process wrote to its standard error, made safe to show.

    What its log tells of the ordinary course of things, or warns of, is no reason for its end.
    """
    with suppress(OSError):
        lines = errors.read_bytes()[-4096:].split(b"\n")
        for line in reversed(lines):
            if line.strip() and b" INFO " not in line and b" WARNING " not in line:
                return printable(line.strip(), 300)
    return ""
