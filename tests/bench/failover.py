"""From killing a leader to the next leader's first heartbeat, beside Figure 16 of the paper.

    python -m tests.bench.failover [TRIALS]

As in §9.3: five servers, timeouts of 150–300 ms, heartbeats every 75 ms, a broadcast time of
15 ms, the leader killed at a random moment between two heartbeats. Unlike there all logs are
equal, so that every server can be elected.
"""

from __future__ import annotations

import asyncio
import csv
import random
import time
from collections.abc import Callable
from pathlib import Path

from raft.core.messages import AppendEntries
from raftviz.lab.api import LabClient, LabOptions
from raftviz.model.events import Event, MessageDelivered, ServerExited
from raftviz.model.view import ClusterView
from tests.bench.machine import asked, describe, quantile

HEARTBEAT = 0.075
ONE_WAY = 0.0075
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
PAPER = Path(__file__).with_name("figure16.csv")


class Trials:
    """A cluster whose leader is killed again and again."""

    def __init__(self, lab: LabClient) -> None:
        self._lab = lab
        self._view = ClusterView()

    async def downtime(self) -> float:
        """Kill the leader; return seconds until all others have heard from the next one."""
        await self._until(self._is_whole)
        leader = self._view.leader
        term = self._view.term
        await asyncio.sleep(random.uniform(0, HEARTBEAT))
        kill = asyncio.create_task(self._lab.command(f"kill {leader}"))
        killed = heard_last = 0.0
        waiting = {server for server in self._view.servers if server != leader}
        while waiting:
            for event in await self._events():
                if isinstance(event.what, ServerExited):
                    killed = event.monotonic_time
                elif (heartbeat := self._delivered(event)) and heartbeat.term > term:
                    waiting.discard(heartbeat.dst)
                    waiting.discard(heartbeat.src)
                    heard_last = event.monotonic_time
        await kill
        await self._lab.command(f"restart {leader}")
        return heard_last - killed

    def _delivered(self, event: Event) -> AppendEntries | None:
        if not isinstance(event.what, MessageDelivered):
            return None
        flight = self._view.flight(event.what.message_id)
        message = flight.message if flight else None
        return message if isinstance(message, AppendEntries) else None

    def _is_whole(self) -> bool:
        leader = self._view.leader
        if leader is None:
            return False
        log = self._view.servers[leader].log
        servers = self._view.servers.values()
        return all(s.alive and s.leader == leader and s.log == log for s in servers)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await self._events()

    async def _events(self) -> list[Event]:
        events = await self._lab.next_events()
        if not events:
            raise SystemExit("the laboratory ended")
        for event in events:
            self._view.apply(event)
        return events


async def run(trials: int) -> list[float]:
    """Return the downtimes of so many crashes, in seconds."""
    options = LabOptions(delay=ONE_WAY, election_timeout=(0.150, 0.300), heartbeat=HEARTBEAT)
    lab = await LabClient.spawn(options)
    try:
        cluster = Trials(lab)
        return [await cluster.downtime() for _ in range(trials)]
    finally:
        await lab.close()


def paper() -> list[tuple[float, float]]:
    """Return the paper's curve: (fraction of trials, downtime in ms that they do not exceed)."""
    with PAPER.open() as lines:
        rows = csv.DictReader(line for line in lines if not line.startswith("#"))
        return [(float(row["cum_fraction"]), float(row["downtime_ms"])) for row in rows]


def main() -> None:
    trials = asked(__doc__, "TRIALS", int, 100)
    began = time.monotonic()
    measured = sorted(1000 * downtime for downtime in asyncio.run(run(trials)))
    curve = paper()
    print(describe())
    print(f"{trials} crashes of a leader in {time.monotonic() - began:.0f} s; downtime in ms")
    print(f"{'':8}" + "".join(f"{f'p{fraction * 100:.0f}':>8}" for fraction in QUANTILES))
    print(f"{'here':8}" + "".join(f"{quantile(measured, q):8.0f}" for q in QUANTILES))
    paper_row = (next((ms for f, ms in curve if f >= q), curve[-1][1]) for q in QUANTILES)
    print(f"{'paper':8}" + "".join(f"{ms:8.0f}" for ms in paper_row))


if __name__ == "__main__":
    main()
