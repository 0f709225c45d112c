"""What servers take: processor time and memory when idle, and memory under maximum load.

    python -m tests.bench.resources [--idle 20] [--load 300]

Heartbeats are sent every 50 ms. Under load 1,000 writes of 64 bytes are in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from pathlib import Path

from tests.bench.cluster import Cluster, running, seconds_used
from tests.bench.machine import describe
from tests.bench.throughput import drive, run_on_fastest_loop, writes

WINDOW = 1000
LOOKS = 20


def megabytes(cluster: Cluster) -> str:
    return "  ".join(
        f"S{server} {process.memory_info().rss / 1e6:.1f} MB"
        for server, process in cluster.processes.items()
    )


async def idle(cluster: Cluster, seconds: float) -> None:
    before = {server: seconds_used(process) for server, process in cluster.processes.items()}
    began = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    shares = "  ".join(
        f"S{server} {100 * (seconds_used(process) - before[server]) / took:.2f} %"
        for server, process in cluster.processes.items()
    )
    print(f"idle, of one core:  {shares}")
    print(f"idle:               {megabytes(cluster)}", flush=True)


async def load(cluster: Cluster, seconds: float) -> None:
    async with cluster.client() as raft:
        done = 0
        for look in range(1, LOOKS + 1):
            done += len(await drive(writes(raft, 64), WINDOW, seconds / LOOKS))
            after = f"{look * seconds / LOOKS:.0f} s, {done} writes:"
            print(f"{after:24}{megabytes(cluster)}", flush=True)


async def run(options: argparse.Namespace, cluster: Cluster) -> None:
    async with cluster.client() as raft:
        print(f"the leader is S{(await raft.members(10.0)).leader}")
    await asyncio.sleep(2.0)  # imports and the election are not what idling costs
    await idle(cluster, options.idle)
    await load(cluster, options.load)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--idle", type=float, default=20.0, help="seconds")
    parser.add_argument("--load", type=float, default=300.0, help="seconds")
    parser.add_argument("--directory", type=Path, default=Path("."), help="where the logs are")
    options = parser.parse_args()
    print(describe())
    with running(3, options.directory) as cluster:
        run_on_fastest_loop(run(options, cluster))


if __name__ == "__main__":
    main()
