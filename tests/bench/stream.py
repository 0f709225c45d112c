"""How many events a second go from servers through the lab to a viewer, each in its order.

Run it with `python -m tests.bench.stream [EVENTS]`. Processes that do nothing but tell stand for
five servers; the lab's collector, its stream and its socket are the real ones, and so is the
viewer, a process of its own that folds nothing.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raft.clock import VirtualClock
from raft.core.events import (
    Applied,
    CommitAdvanced,
    CoreEvent,
    EntriesAppended,
    ProgressChanged,
    TimerArmed,
    TimerKind,
)
from raft.core.messages import Entry, Index, ServerId, Term
from raft.frames import Observation, SetClock
from raft.machine.kv import Put, encode_command
from raft.transport import Connection, Identity
from raftviz.lab.api import Answer, LabClient
from raftviz.lab.collector import Observer
from raftviz.lab.machine import ServerClock
from raftviz.lab.stream import Stream
from raftviz.lab.viewers import Viewers
from raftviz.model.events import LabStarted
from tests.bench.machine import asked, describe
from tests.raft.scripted import CLUSTER, SECRET, Scripted, silent
from tests.raftviz.fake_lab import server_state, spawned

SERVERS = 5
EVENTS = 100_000
ENTRY = Entry(Term(3), data=encode_command(Put(b"key", b"value")))


def story(index: int) -> tuple[CoreEvent, ...]:
    """What a server tells when one entry is replicated."""
    at = Index(index)
    return (
        EntriesAppended(at, (ENTRY,)),
        ProgressChanged(ServerId(2), Index(index + 1), at),
        CommitAdvanced(at),
        Applied(at),
        TimerArmed(TimerKind.HEARTBEAT, float(index), 0.05),
    )


class Teller(Scripted):
    """A server that tells its story as fast as it is heard."""

    def __init__(self, server: ServerId, entries: int) -> None:
        super().__init__(server, silent)
        self.entries = entries
        self.telling: asyncio.Task[None] | None = None

    def observer_attached(self, connection: Connection) -> None:
        self.telling = asyncio.create_task(self._tell(connection))

    async def _tell(self, connection: Connection) -> None:
        state = server_state(self.server)
        connection.send(Observation(0.0, time.monotonic(), state))
        for index in range(1, self.entries + 1):
            for event in story(index):
                observation = Observation(0.0, time.monotonic(), event)
                while not connection.send(observation):
                    await asyncio.sleep(0.001)


async def tell(server: int, entries: int) -> None:
    teller = Teller(ServerId(server), entries)
    print(await teller.start(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    teller.stop()


async def watch(socket: Path, expected: int) -> None:
    """Attach, and check that every event comes, each server's in its order."""
    lab = await LabClient.attach(socket, watching=True)
    sequence, commits = 0, dict.fromkeys(range(1, SERVERS + 1), 0)
    print("attached", flush=True)
    begun: float | None = None
    seen = 0
    while seen < expected and (events := await lab.next_events()):
        for event in events:
            if event.source == 0 or not isinstance(
                event.what,
                EntriesAppended | ProgressChanged | CommitAdvanced | Applied | TimerArmed,
            ):
                continue
            begun = begun or time.monotonic()
            seen += 1
            assert event.sequence > sequence
            sequence = event.sequence
            if isinstance(event.what, CommitAdvanced):
                assert event.what.index == commits[event.source] + 1
                commits[event.source] += 1
    assert begun is not None
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = (used.ru_utime + used.ru_stime) / seen
    print(f"{seen} {time.monotonic() - begun} {cpu}", flush=True)
    await lab.close()


def child(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stream", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return (await asyncio.to_thread(process.stdout.readline)).strip()


async def carry_out(text: str) -> Answer:
    return Answer(False, "there is nothing to command")


async def measure(events: int) -> None:
    entries = events // (5 * SERVERS)
    total = entries * 5 * SERVERS
    tellers = [child("tell", server, entries) for server in range(1, SERVERS + 1)]
    stream = Stream(VirtualClock())
    stream.tell(LabStarted("bench", tuple(map(ServerId, range(1, 6))), 0.15, 0.3, 0.05, 1))
    for server in range(1, SERVERS + 1):
        stream.tell(spawned(server))
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "viewers.sock"
        async with asyncio.TaskGroup() as tasks:
            viewers = Viewers(carry_out, stream, tasks, lambda: None, lambda: None)
            await viewers.open(socket)
            viewer = child("watch", socket, total)
            addresses = [await line_of(teller) for teller in tellers]
            await line_of(viewer)
            cpu = time.process_time()
            identity = Identity(CLUSTER, None, SECRET)
            observers = [
                Observer(ServerId(server), stream, ServerClock()) for server in range(1, 6)
            ]
            for observer, address in zip(observers, addresses, strict=True):
                await observer.attach(address, identity, SetClock(0.0, 0.0, 1.0))
            seen, seconds, viewer_cpu = map(float, (await line_of(viewer)).split())
            cpu = time.process_time() - cpu
            viewers.close()
    for process in (*tellers, viewer):
        process.kill()
        process.wait()
    print(describe())
    print(f"{SERVERS} servers, one viewer, {seen:.0f} events, each in its order:")
    print(f"  {seen / seconds:,.0f} events/s")
    print(f"  processor time of the lab: {cpu / seen * 1e6:.1f} µs an event")
    print(f"  processor time of the viewer: {viewer_cpu * 1e6:.1f} µs an event")


def main() -> None:
    match sys.argv[1:]:
        case ["tell", server, entries]:
            asyncio.run(tell(int(server), int(entries)))
        case ["watch", socket, expected]:
            asyncio.run(watch(Path(socket), int(expected)))
        case _:
            asyncio.run(measure(asked(__doc__, "EVENTS", int, EVENTS)))


if __name__ == "__main__":
    main()
