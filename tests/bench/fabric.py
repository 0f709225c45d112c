"""What the network and the clock of a lab cost: latency, throughput, changes of time, standstill.

Run it with `python -m tests.bench.fabric [SECONDS]`; so long the frozen lab is watched.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import psutil

from raft.clock import VirtualClock
from raft.core.messages import AppendEntries, Message
from raft.wire import encode
from raftviz.lab.api import LabClient, LabOptions
from raftviz.lab.fabric import Fabric
from raftviz.lab.stream import Stream
from raftviz.model.events import ClockChanged, Happening, LabStarted
from tests.bench.machine import asked, describe, quantile
from tests.lab.test_fabric import PROOF, WELCOME, End, ServerEnd, preamble

LATENCY_MESSAGES = 1000
THROUGHPUT_MESSAGES = 60_000
CHANGES = 40


def message(number: int) -> Message:
    return AppendEntries(1, 2, 3, number, 3, (), number)


# --- Latency ---------------------------------------------------------------------------------


class Timed(ServerEnd):
    """The far end: notes when each message arrives, on the clock of the near end."""

    def keep(self, frame: object) -> None:
        super().keep(frame)
        if isinstance(frame, Message):
            self.arrived.set_result(time.perf_counter())


async def take_times(address: str, far: list[Timed], count: int) -> list[float]:
    """Send messages one by one over a connection to ``address``; return what each took."""
    host, port = address.split(":")
    loop = asyncio.get_running_loop()
    _, near = await loop.create_connection(End, host, int(port))
    near.say(preamble(1, 2))
    assert await near.take() == WELCOME
    near.say(PROOF)
    times = []
    for number in range(count):
        await asyncio.sleep(0.002)
        far[-1].arrived = loop.create_future()
        sent = time.perf_counter()
        near.say(message(number))
        times.append(await far[-1].arrived - sent)
    near.transport.abort()
    return times


async def latency() -> None:
    far: list[Timed] = []

    def accept() -> Timed:
        far.append(Timed())
        return far[-1]

    listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    host, port = listener.sockets[0].getsockname()
    direct = sorted(await take_times(f"{host}:{port}", far, LATENCY_MESSAGES))
    for delay in (0.0, 0.010):
        fabric = Fabric((1, 2), delay, VirtualClock(), lambda what: None)
        await fabric.open()
        fabric.server_starting(2)
        fabric.server_up(2, f"{host}:{port}")
        through = sorted(await take_times(fabric.ports[2], far, LATENCY_MESSAGES))
        fabric.close()
        added = [
            1000 * (quantile(through, share) - quantile(direct, share) - delay)
            for share in (0.5, 0.9, 0.99)
        ]
        print(
            f"added latency on a link of {delay * 1000:.0f} ms: "
            f"p50 {added[0]:.2f} ms, p90 {added[1]:.2f} ms, p99 {added[2]:.2f} ms"
        )
    listener.close()


# --- Throughput ------------------------------------------------------------------------------


def pump(address: str) -> None:
    """Play the near end in a process of its own: connect, and send all once told to."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as near:
        near.sendall(encode(preamble(1, 2)))
        near.recv(4096)
        near.sendall(encode(PROOF))
        data = b"".join(encode(message(number)) for number in range(THROUGHPUT_MESSAGES))
        print("ready", flush=True)
        sys.stdin.readline()
        near.sendall(data)
        sys.stdin.readline()


def sink() -> None:
    """Play the far end in a process of its own: take one connection, and all that comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        far, _ = listener.accept()
        far.recv(4096)
        far.sendall(encode(WELCOME))
        while far.recv(1 << 20):
            pass


def child(role: str, *arguments: str) -> subprocess.Popen[str]:
    code = f"import sys; from tests.bench.fabric import {role}; {role}(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def throughput(kind: str, clock: VirtualClock, tell: Callable[[Happening], None]) -> None:
    fabric = Fabric((1, 2), 0.010, clock, tell)
    await fabric.open()
    far = child("sink")
    assert far.stdout is not None
    fabric.server_starting(2)
    fabric.server_up(2, f"127.0.0.1:{far.stdout.readline().strip()}")
    near = child("pump", fabric.ports[2])
    assert near.stdin is not None
    assert near.stdout is not None
    await asyncio.to_thread(near.stdout.readline)
    near.stdin.write("\n")
    near.stdin.flush()
    began, used = time.perf_counter(), time.process_time()
    while fabric.delivered[2] < THROUGHPUT_MESSAGES:
        await asyncio.sleep(0.01)
    took, used = time.perf_counter() - began, time.process_time() - used
    fabric.close()
    for process in (near, far):
        process.kill()
        process.communicate()
    print(
        f"through it, {kind}: {THROUGHPUT_MESSAGES / took:,.0f} messages/s, "
        f"{used / THROUGHPUT_MESSAGES * 1e6:.1f} µs of processor time each"
    )


async def throughputs() -> None:
    clock = VirtualClock()
    await throughput("nobody listening", clock, lambda what: None)
    stream = Stream(clock)
    stream.tell(LabStarted("bench", (1, 2), 0.15, 0.3, 0.05, 1))
    await throughput("folded into a view", clock, stream.tell)


# --- Time ------------------------------------------------------------------------------------


async def changes(lab: LabClient) -> None:
    """Freezing is answered once every server has said something after it was told."""
    late = []
    for _ in range(CHANGES):
        await lab.command("rate 1")
        await lab.next_events()
        await lab.command("freeze")
        answered = time.monotonic()
        told = [event.what for event in await lab.next_events()]
        frozen = next(what for what in told if isinstance(what, ClockChanged) and not what.rate)
        late.append(1000 * (answered - frozen.monotonic))
    late.sort()
    print(
        f"a change of time is with all of 5 servers within {statistics.median(late):.1f} ms "
        f"(p50), {quantile(late, 0.9):.1f} ms (p90), {late[-1]:.1f} ms (most)"
    )


async def standstill(lab: LabClient, seconds: float) -> None:
    assert lab._process is not None
    root = psutil.Process(lab._process.process.pid)
    processes = [root, *root.children(recursive=True)]

    def used() -> float:
        return sum(p.cpu_times().user + p.cpu_times().system for p in processes)

    before = used()
    await asyncio.sleep(seconds)
    share = 100 * (used() - before) / seconds
    print(f"a frozen lab of {len(processes) - 1} servers: {share:.2f} % of a core")


async def labs(seconds: float) -> None:
    lab = await LabClient.spawn(LabOptions(seed=1))
    try:
        await asyncio.sleep(2.0)  # the election
        await lab.next_events()
        await changes(lab)
        await standstill(lab, seconds)
    finally:
        await lab.close()


def main() -> None:
    seconds = asked(__doc__, "SECONDS", float, 15.0)
    print(describe())
    asyncio.run(latency())
    asyncio.run(throughputs())
    asyncio.run(labs(seconds))


if __name__ == "__main__":
    main()
