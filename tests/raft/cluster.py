"""A cluster of real ``raft serve`` processes on loopback, for tests that kill them.

Wait for what should be true with ``eventually``; nothing here sleeps for a guessed time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from raft.certificate import Certificate
from raft.client import Raft
from raft.core.events import Role
from raft.core.messages import ServerId
from raft.errors import UnreachableError
from raft.frames import Status
from raft.machine.kv import Get, Put, Value, decode_answer, encode_command, encode_query
from raft.secret import read_secret, write_secret
from raft.transport import format_address, parse_address

NAME = "test"
PATIENCE = 30.0
"""Seconds after which a test gives up: far more than anything takes on a busy machine."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    status: int
    out: bytes
    err: str


async def run(*arguments: str | bytes, **environment: str) -> Finished:
    """Run ``raft`` to its end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raft", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, **environment},
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode is not None
    return Finished(process.returncode, out, err.decode())


async def eventually(probe: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Ask until the answer is neither None nor False, and return it."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not (answer := await probe()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None
    return answer


def free_addresses(count: int) -> list[str]:
    """Return free ports outside of the range that outgoing connections are given."""
    with ExitStack() as held:
        found: list[str] = []
        while len(found) < count:
            port = random.randrange(20_000, 32_000)
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(f"127.0.0.1:{port}")
        return found


class Relay:
    """One way from a server to another: a TCP relay that can be cut."""

    def __init__(self, destination: str) -> None:
        self._host, self._port = parse_address(destination)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._cut = False

    async def start(self) -> str:
        """Listen, and return where."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        return format_address(*self._server.sockets[0].getsockname())

    def close(self) -> None:
        """Break everything, for good."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Break the connections, and accept none that lasts."""
        self._cut = True
        for end in self._open:
            end.transport.abort()

    def heal(self) -> None:
        """Let connections through again."""
        self._cut = False

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._cut:
                raise ConnectionAbortedError
            there, thither = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, thither}
        self._open |= ends
        with suppress(OSError):
            await asyncio.gather(self._pump(reader, thither), self._pump(there, writer))
        for end in ends:
            end.transport.abort()
        self._open -= ends

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


class RealCluster:
    """Servers 1 to ``size``, each a process with its own directory and address.

    ``raft`` is a handle for the whole cluster; ``environment`` lets ``run`` find it. ``options``
    are further ones of ``raft serve``; ``program`` is run in the place of ``raft``.
    """

    def __init__(
        self, directory: Path, size: int = 3, options: Sequence[str] = (), program: str = "raft"
    ) -> None:
        self.directory = directory
        self.secret_file = directory / "secret"
        write_secret(self.secret_file)
        ids = [ServerId(number) for number in range(1, size + 1)]
        self.addresses = dict(zip(ids, free_addresses(size), strict=True))
        self.founders = tuple(ids)
        self.proof: bytes | Certificate = read_secret(self.secret_file)
        self.raft = Raft(self.addresses, NAME, self.proof)
        self.environment = {
            "RAFT_CLUSTER": NAME,
            "RAFT_SECRET_FILE": str(self.secret_file),
            "RAFT_SERVERS": ",".join(f"{id}={at}" for id, at in self.addresses.items()),
        }
        self.processes: dict[ServerId, Process] = {}
        self.options = tuple(options)
        self.program = program
        self.ways: dict[tuple[ServerId, ServerId], str] = {}
        """Where a server finds another, if not at its address."""

    async def __aenter__(self) -> RealCluster:
        await asyncio.gather(*map(self.start, self.addresses))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.raft.close()
        await asyncio.gather(*map(self.kill, list(self.processes)))
        for server in self.addresses:
            assert "Traceback" not in self.log(server), self.log(server)

    async def start(self, server: ServerId) -> Process:
        """Start a server and wait until it listens."""
        with self.log_file(server).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.program, "serve", "--id", str(server)),
                *("--listen", self.addresses[server], "--data", str(self.data(server))),
                *self._others(server),
                *self._own(server),
                *self.options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=PIPE,
                stderr=log,
                env={**os.environ, **self.environment},
            )
        self.processes[server] = process
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        assert line, f"server {server} did not start:\n{self.log(server)}"
        assert json.loads(line) == {
            "server": server,
            "pid": process.pid,
            "address": self.addresses[server],
        }
        return process

    def _others(self, server: ServerId) -> list[str]:
        if server not in self.founders:
            return ["--join"]
        others = [other for other in self.founders if other != server]
        ways = [(other, self.ways.get((server, other), self.addresses[other])) for other in others]
        return [argument for other, at in ways for argument in ("--peer", f"{other}={at}")]

    def _own(self, server: ServerId) -> list[str]:
        """Return the options that this server has for itself."""
        return []

    async def start_new(self, server: ServerId) -> str:
        """Start a server that belongs to no cluster yet; return its address."""
        (self.addresses[server],) = free_addresses(1)
        await self.start(server)
        return self.addresses[server]

    async def stop(self, server: ServerId, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal that ends the server; return its exit status (negative: the signal)."""
        process = self.processes.pop(server)
        process.send_signal(how)
        return await asyncio.wait_for(process.wait(), PATIENCE)

    async def kill(self, server: ServerId) -> None:
        """Kill the server (SIGKILL), paused or not."""
        await self.stop(server, signal.SIGKILL)

    def pause(self, server: ServerId) -> None:
        """Stop the process where it stands (SIGSTOP)."""
        self.processes[server].send_signal(signal.SIGSTOP)

    def resume(self, server: ServerId) -> None:
        """Let a paused process go on (SIGCONT)."""
        self.processes[server].send_signal(signal.SIGCONT)

    async def statuses(self) -> dict[ServerId, Status]:
        """Return the status of every running server that answers."""
        answers = await asyncio.gather(*map(self.status, list(self.processes)))
        return {answer.server: answer for answer in answers if answer is not None}

    async def status(self, server: ServerId) -> Status | None:
        """Return the status of a server, None if it does not answer."""
        line = Raft({server: self.addresses[server]}, NAME, self.proof)
        async with line:
            try:
                return await line.status(server, timeout=1.0)
            except UnreachableError:
                return None

    async def leader(self) -> Status:
        """Wait until one server leads a majority that knows it; return the leader's status."""

        async def find() -> Status | None:
            statuses = await self.statuses()
            for status in statuses.values():
                followers = [s for s in statuses.values() if s.leader == status.server]
                majority = len(status.voters) // 2 + 1
                if status.role is Role.LEADER and len(followers) >= majority:
                    return status
            return None

        return await eventually(find, "a leader that a majority follows")

    async def put(self, key: bytes, value: bytes) -> None:
        """Store a value through whoever leads."""
        await self.raft.propose(encode_command(Put(key, value)), timeout=PATIENCE)

    async def get(self, key: bytes) -> bytes | None:
        """Return what a key holds (None: nothing), linearizable."""
        answer = decode_answer(await self.raft.read(encode_query(Get(key)), timeout=PATIENCE))
        assert isinstance(answer, Value)
        return answer.value if answer.found else None

    async def command(self, *arguments: str | bytes) -> Finished:
        """Run a client command of ``raft`` against this cluster."""
        return await run(*arguments, **self.environment)

    def data(self, server: ServerId) -> Path:
        """Return the directory of a server."""
        return self.directory / f"data{server}"

    def log_file(self, server: ServerId) -> Path:
        """Return where a server's standard error goes, through all its restarts."""
        return self.directory / f"log{server}"

    def log(self, server: ServerId) -> str:
        """Return what a server wrote to standard error so far."""
        path = self.log_file(server)
        return path.read_text() if path.exists() else ""
