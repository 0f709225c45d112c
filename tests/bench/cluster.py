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

from raft.certificate import Certificate, Role
from raft.certs import Authority, make
from raft.client import Raft
from raft.core.messages import ServerId
from raft.secret import read_secret, write_secret

NAME = "bench"


@dataclass(frozen=True)
class Cluster:
    """Running servers: their processes and addresses by id."""

    processes: dict[ServerId, psutil.Process]
    addresses: dict[ServerId, str]
    secret: bytes | Certificate

    def client(self) -> Raft:
        return Raft(self.addresses, NAME, self.secret)


@contextlib.contextmanager
def running(
    servers: int = 3,
    directory: Path | None = None,
    options: Sequence[str] = (),
    *,
    tls: bool = False,
) -> Iterator[Cluster]:
    """Run so many servers, with their data in a directory that goes when they have stopped."""
    with tempfile.TemporaryDirectory(dir=directory, prefix="raft-bench-") as name:
        home = Path(name)
        ids = [ServerId(number) for number in range(1, servers + 1)]
        ports = free_ports(servers)
        addresses = {server: f"127.0.0.1:{port}" for server, port in zip(ids, ports, strict=True)}
        secret, proofs = _certificates(home, ids) if tls else _secret(home, ids)
        started = [_start(server, addresses, home, [*proofs[server], *options]) for server in ids]
        try:
            for process in started:
                assert process.stdout is not None
                if not process.stdout.readline():
                    raise SystemExit((home / "log-1").read_text() or "a server did not start")
            processes = {
                server: psutil.Process(process.pid)
                for server, process in zip(ids, started, strict=True)
            }
            yield Cluster(processes, addresses, secret)
        finally:
            for process in started:
                process.kill()
            for process in started:
                process.communicate()


def _secret(home: Path, servers: Sequence[ServerId]) -> tuple[bytes, dict[ServerId, list[str]]]:
    """Return a secret, and the options with which servers get it."""
    path = home / "secret"
    write_secret(path)
    return read_secret(path), {server: ["--secret-file", str(path)] for server in servers}


def _certificates(
    home: Path, servers: Sequence[ServerId]
) -> tuple[Certificate, dict[ServerId, list[str]]]:
    """Return a client's certificate, and the options with which servers get theirs."""
    who = [(Role.SERVER, str(server)) for server in servers] + [(Role.CLIENT, "bench")]
    *theirs, client = make(home, Authority.new(NAME), who, days=60)
    options = {
        server: ["--certificate", str(path)] for server, path in zip(servers, theirs, strict=True)
    }
    return Certificate(client), options


def _start(
    server: ServerId, addresses: dict[ServerId, str], home: Path, options: Sequence[str]
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "raft", "serve", "--id", str(server), "--cluster", NAME]
    command += ["--listen", addresses[server], "--data", str(home / f"data-{server}"), *options]
    for peer, address in addresses.items():
        if peer != server:
            command += ["--peer", f"{peer}={address}"]
    with (home / f"log-{server}").open("wb") as log:
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
