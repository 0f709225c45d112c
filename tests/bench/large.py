"""A lab of 25 servers in real time: how long it takes to elect, and what it replicates.

Run it with `python -m tests.bench.large [SERVERS]`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import psutil

from raftviz.cli import MANY_HEARTBEAT, MANY_TIMEOUT
from raftviz.lab.api import LabClient, LabOptions
from raftviz.model.events import LoadMeasured
from raftviz.model.view import ClusterView
from tests.bench.machine import asked, describe, quantile

PUTS = 20
LOAD = "load 100/s"
MEASUREMENTS = 5


class Watched:
    """A lab, and the fold of what it tells."""

    def __init__(self, lab: LabClient) -> None:
        self.lab = lab
        self.view = ClusterView()

    async def until(self, condition: Callable[[ClusterView], bool]) -> None:
        while not condition(self.view):
            for event in await self.lab.next_events():
                self.view.apply(event)


async def measure(servers: int) -> None:
    options = LabOptions(
        servers=servers, seed=1, election_timeout=MANY_TIMEOUT, heartbeat=MANY_HEARTBEAT
    )
    begun = time.monotonic()
    lab = await LabClient.spawn(options)
    try:
        watched = Watched(lab)
        print(describe())
        print(f"{servers} servers are up after {time.monotonic() - begun:.1f} s")
        await watched.until(_all_follow)
        view = watched.view
        print(f"all follow a leader at {view.time:.2f} s of their time, in term {view.term}")
        await _puts(lab)
        await lab.command(LOAD)
        for _ in range(MEASUREMENTS):
            await watched.until(_another(view.measured))
        assert view.measured is not None
        rate, p99 = view.measured.ok / view.measured.seconds, view.measured.p99
        print(f"{LOAD}: {rate:.0f}/s, p99 {p99 * 1000:.0f} ms, in term {view.term}")
        print(f"processors in use: {psutil.cpu_percent(1.0):.0f} %")
    finally:
        await lab.close()


async def _puts(lab: LabClient) -> None:
    times = []
    for number in range(PUTS):
        sent = time.monotonic()
        answer = await lab.command(f"put x {number}")
        assert "is stored" in answer.text, answer.text
        times.append(time.monotonic() - sent)
    print(f"a put takes {quantile(sorted(times), 0.5) * 1000:.0f} ms (median of {PUTS})")


def _all_follow(view: ClusterView) -> bool:
    servers = view.servers.values()
    return bool(servers) and all(server.leader is not None for server in servers)


def _another(before: LoadMeasured | None) -> Callable[[ClusterView], bool]:
    return lambda view: view.measured not in (None, before)


def main() -> None:
    asyncio.run(measure(asked(__doc__, "SERVERS", int, 25)))


if __name__ == "__main__":
    main()
