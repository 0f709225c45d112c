"""Writes and linearizable reads per second of a cluster on this machine, and what each costs.

    python -m tests.bench.throughput [--servers 3] [--size 64] [--tls]

Every server is a process of its own with its disk synced; the client is another one, and talks
TCP to them. A window is how many requests it keeps in flight, each a ``propose`` (in a session,
so carried out exactly once) or ``read`` of its own. The processor time of each process, divided
by the requests, hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from raft.client import Raft
from raft.core.messages import ServerId
from raft.loops import new_event_loop
from raft.machine.kv import Get, Put, encode_command, encode_query
from tests.bench.cluster import Cluster, running, seconds_used
from tests.bench.machine import describe, quantile

T = TypeVar("T")

KEYS = 1000
WARM_UP = 1.0


@dataclass(frozen=True)
class Measured:
    """What one window gave. ``cost`` is processor time in seconds per operation, by process."""

    window: int
    operations: int
    seconds: float
    latencies: list[float]
    cost: dict[str, float]

    @property
    def rate(self) -> float:
        return self.operations / self.seconds

    def row(self) -> str:
        latency = "".join(f"{1000 * quantile(self.latencies, q):9.2f}" for q in (0.5, 0.99))
        cost = "".join(f"{1e6 * value:10.1f}" for value in self.cost.values())
        total = 1e6 * sum(self.cost.values())
        return f"{self.window:7}{self.rate:10.0f}{latency}{cost}{total:10.1f}"

    def header(self) -> str:
        names = "".join(f"{name:>10}" for name in self.cost)
        return f"{'window':>7}{'per s':>10}{'p50 ms':>9}{'p99 ms':>9}{names}{'all µs':>10}"


def run_on_fastest_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a client as an application would that wants to be fast."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


Operation = Callable[[int], Awaitable[object]]
"""Does the nth operation."""


async def drive(operation: Operation, window: int, seconds: float) -> list[tuple[float, float]]:
    """Keep ``window`` operations in flight; return when each ended, and how long it took."""
    numbers = itertools.count()
    done: list[tuple[float, float]] = []
    until = time.perf_counter() + seconds

    async def worker() -> None:
        began = time.perf_counter()
        while began < until:
            await operation(next(numbers))
            ended = time.perf_counter()
            done.append((ended, ended - began))
            began = ended

    await asyncio.gather(*(worker() for _ in range(window)))
    return done


async def measure(
    cluster: Cluster, operation: Operation, leader: ServerId, window: int, seconds: float
) -> Measured:
    """Warm up, then measure."""
    await drive(operation, window, WARM_UP)
    followers = [server for server in cluster.processes if server != leader]
    processes = {"leader": cluster.processes[leader]}
    processes |= {f"S{server}": cluster.processes[server] for server in followers}
    processes["client"] = psutil.Process()
    before = {name: seconds_used(process) for name, process in processes.items()}
    began = time.perf_counter()
    done = await drive(operation, window, seconds)
    took = time.perf_counter() - began
    used = {name: seconds_used(process) - before[name] for name, process in processes.items()}
    return Measured(
        window,
        len(done),
        took,
        sorted(latency for _, latency in done),
        {name: value / len(done) for name, value in used.items()},
    )


def writes(raft: Raft, size: int) -> Operation:
    value = bytes(range(256)) * (size // 256 + 1)

    def write(number: int) -> Awaitable[object]:
        return raft.propose(encode_command(Put(b"key-%d" % (number % KEYS), value[:size])), 30.0)

    return write


def reads(raft: Raft) -> Operation:
    def read(number: int) -> Awaitable[object]:
        return raft.read(encode_query(Get(b"key-%d" % (number % KEYS))), 30.0)

    return read


# --- What one write cannot do without --------------------------------------------------------


def round_trip(times: int = 2000) -> float:
    """Return the median seconds of a message over loopback and back, between two threads."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo() -> None:
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with accepted:
            while data := accepted.recv(4096):
                accepted.sendall(data)

    threading.Thread(target=echo, daemon=True).start()
    took = []
    with listener, socket.create_connection(listener.getsockname()) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            began = time.perf_counter()
            caller.sendall(b"x" * 200)
            caller.recv(4096)
            took.append(time.perf_counter() - began)
    return quantile(sorted(took), 0.5)


def sync(directory: Path, times: int = 200) -> float:
    """Return the median seconds of one fdatasync after 200 new bytes at the end of a file."""
    path = directory / f"fdatasync-{os.getpid()}"
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    took = []
    try:
        for _ in range(times):
            os.write(file, b"x" * 200)
            began = time.perf_counter()
            os.fdatasync(file)
            took.append(time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()
    return quantile(sorted(took), 0.5)


async def run(options: argparse.Namespace, cluster: Cluster) -> None:
    async with cluster.client() as raft:
        leader = (await raft.members(10.0)).leader
        assert leader is not None
        for title, operation in (
            ("writes", writes(raft, options.size)),
            ("linearizable reads", reads(raft)),
        ):
            print(f"\n{title}; processor time per operation in µs, by process")
            for position, window in enumerate(options.windows):
                measured = await measure(cluster, operation, leader, window, options.seconds)
                if not position:
                    print(measured.header())
                print(measured.row(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, default=3)
    parser.add_argument("--size", type=int, default=64, help="bytes of a value")
    parser.add_argument("--windows", default="1,10,100,1000,4000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--directory", type=Path, default=Path("."), help="where the logs are")
    parser.add_argument("--tls", action="store_true", help="encrypt all connections")
    parser.add_argument("--serve", default="", help="more options for every server")
    options = parser.parse_args()
    options.windows = [int(window) for window in options.windows.split(",")]
    print(describe())
    floor = 2 * round_trip() + sync(options.directory)
    print(f"two loopback round trips and one fdatasync: {1000 * floor:.2f} ms")
    serve = options.serve.split()
    with running(options.servers, options.directory, serve, tls=options.tls) as cluster:
        way = "TLS" if options.tls else "plain TCP"
        print(f"{options.servers} servers, values of {options.size} bytes, {way}")
        run_on_fastest_loop(run(options, cluster))


if __name__ == "__main__":
    main()
