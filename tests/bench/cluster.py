"""Clusters of real servers, each a process of its own, and what each process has used."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from raft.client import Raft
from raft.core.messages import ServerId
from raft.secret import read_secret, write_secret

NAME = "bench"


@dataclass(frozen=True)
class Cluster:
    """Running servers: their processes and addresses by id."""

    processes: dict[ServerId, psutil.Process]
    addresses: dict[ServerId, str]
    secret: bytes

    def client(self) -> Raft:
        return Raft(self.addresses, NAME, self.secret)


@contextlib.contextmanager
def running(
    servers: int = 3, directory: Path | None = None, options: Sequence[str] = ()
) -> Iterator[Cluster]:
    """Run so many servers, with their data in a directory that goes when they have stopped."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="raft-bench-") as name:
        secret = Path(name, "secret")
        write_secret(secret)
        ids = [ServerId(number) for number in range(1, servers + 1)]
        addresses = {
            server: f"127.0.0.1:{port}"
            for server, port in zip(ids, free_ports(servers), strict=True)
        }
        started = [_start(server, addresses, Path(name), options) for server in ids]
        try:
            for process in started:
                assert process.stdout is not None
                if not process.stdout.readline():
                    raise SystemExit(Path(name, "log-1").read_text() or "a server did not start")
            processes = {
                server: psutil.Process(process.pid)
                for server, process in zip(ids, started, strict=True)
            }
            yield Cluster(processes, addresses, read_secret(secret))
        finally:
            for process in started:
                process.kill()
            for process in started:
                process.communicate()


def _start(
    server: ServerId, addresses: dict[ServerId, str], directory: Path, options: Sequence[str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "raft", "serve", "--id", str(server), "--cluster", NAME]
    command += ["--listen", addresses[server], "--data", str(directory / f"data-{server}")]
    command += ["--secret-file", str(directory / "secret"), *options]
    for peer, address in addresses.items():
        if peer != server:
            command += ["--peer", f"{peer}={address}"]
    log = (directory / f"log-{server}").open("wb")
    with log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [bound.getsockname()[1] for bound in sockets]


def seconds_used(process: psutil.Process) -> float:
    """Return the processor time, of user and kernel, that a process has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)
