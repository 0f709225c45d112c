"""Side by side in one run: this library, PySyncObj, and etcd where Debian's packages are.

    python -m tests.bench.compare [--windows 100,1000,4000] [--seconds 5] [--rounds 2]

Three servers each, on loopback, a process each; values of 64 bytes. This library syncs its disks
and is asked by a client over TCP, in a session; so is etcd (``etcdctl check perf --load=xl``, from
1000 clients). PySyncObj keeps its log in memory, and its leader proposes to itself. The systems
take turns, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.bench.cluster import free_ports, running, seconds_used
from tests.bench.machine import describe
from tests.bench.throughput import measure, run_on_fastest_loop, writes

ROW = "{:12}{:>8}{:>10}{:>10}{:>14}"


def show(system: str, window: int, rate: float, p50: float, cost: float) -> float:
    columns = (f"{rate:.0f}", f"{1000 * p50:.2f}", f"{1e6 * cost:.1f}")
    print(ROW.format(system, window, *columns), flush=True)
    return rate


# --- This library ----------------------------------------------------------------------------


async def ours(windows: list[int], seconds: float, directory: Path) -> dict[int, float]:
    """Return writes per second by window."""
    rates = {}
    with running(3, directory, ["--election-timeout", "1s..2s"]) as cluster:
        async with cluster.client() as raft:
            leader = (await raft.members(10.0)).leader
            assert leader is not None
            for window in windows:
                got = await measure(cluster, writes(raft, 64), leader, window, seconds)
                half = got.latencies[len(got.latencies) // 2]
                rates[window] = show("raft", window, got.rate, half, sum(got.cost.values()))
    return rates


# --- PySyncObj -------------------------------------------------------------------------------


@contextlib.contextmanager
def pysyncobj() -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """Run three servers; yield the leader, and the processes of all."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    module = [sys.executable, "-m", "tests.bench.pysyncobj_node"]
    started = [
        subprocess.Popen(
            [*module, me, *(other for other in addresses if other != me)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in addresses
    ]
    try:
        leads = {process: _said(process)["leads"] for process in started}
        leader = next(process for process in started if leads[process])
        yield leader, [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.communicate()


def _said(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdout is not None
    said: dict[str, float] = json.loads(process.stdout.readline())
    return said


def theirs(windows: list[int], seconds: float) -> dict[int, float]:
    """Return writes per second by window."""
    rates = {}
    with pysyncobj() as (leader, processes):
        assert leader.stdin is not None
        for window in windows:
            for duration in (1.0, seconds):  # the first one is to warm up
                before = sum(map(seconds_used, processes))
                leader.stdin.write(f"{window} {duration} 64\n")
                leader.stdin.flush()
                got = _said(leader)
            rate = got["writes"] / got["seconds"]
            cost = (sum(map(seconds_used, processes)) - before) / got["writes"]
            rates[window] = show("PySyncObj", window, rate, got["p50"], cost)
    return rates


# --- etcd ------------------------------------------------------------------------------------


@contextlib.contextmanager
def etcd(directory: Path) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Run three servers; yield the addresses for clients, and the processes."""
    ports = free_ports(6)
    peers = [f"http://127.0.0.1:{port}" for port in ports[:3]]
    clients = [f"http://127.0.0.1:{port}" for port in ports[3:]]
    members = ",".join(f"s{number}={peer}" for number, peer in enumerate(peers))
    with tempfile.TemporaryDirectory(dir=directory, prefix="etcd-bench-") as name:
        started = [
            subprocess.Popen(
                [
                    *("etcd", "--name", f"s{number}", "--data-dir", f"{name}/{number}"),
                    *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                    *("--listen-client-urls", client, "--advertise-client-urls", client),
                    *("--initial-cluster", members),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number, (peer, client) in enumerate(zip(peers, clients, strict=True))
        ]
        try:
            yield ",".join(clients), [psutil.Process(process.pid) for process in started]
        finally:
            for process in started:
                process.kill()
                process.wait()


def check_perf(etcdctl: str, directory: Path) -> float:
    """Return the writes per second of etcd's own check, which takes a minute."""
    with etcd(directory) as (endpoints, _):
        time.sleep(3)  # an election
        done = subprocess.run(
            [etcdctl, "check", "perf", "--load=xl", f"--endpoints={endpoints}"],
            env={"ETCDCTL_API": "3"},
            capture_output=True,
            text=True,
        )
    said = re.search(r"(\d+) writes/s", done.stdout)
    if said is None:
        raise SystemExit(f"etcdctl said {done.stdout + done.stderr}")
    rate = float(said[1])
    print(ROW.format("etcd", "xl", f"{rate:.0f}", "", ""), flush=True)
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--windows", default="100,1000,4000")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--directory", type=Path, default=Path("."), help="where the logs are")
    parser.add_argument("--etcdctl", default=shutil.which("etcdctl"), help="etcd's client")
    options = parser.parse_args()
    windows = [int(window) for window in options.windows.split(",")]
    print(describe())
    print(ROW.format("system", "window", "per s", "p50 ms", "all µs each"))
    best: dict[str, dict[int, float]] = {"raft": {}, "PySyncObj": {}}
    for _ in range(options.rounds):
        rates = {
            "raft": run_on_fastest_loop(ours(windows, options.seconds, options.directory)),
            "PySyncObj": theirs(windows, options.seconds),
        }
        for system, by_window in rates.items():
            for window, rate in by_window.items():
                best[system][window] = max(best[system].get(window, 0.0), rate)
    for window in windows:
        ratio = best["raft"][window] / best["PySyncObj"][window]
        print(f"window {window}: {ratio:.2f} × PySyncObj")
    most = {system: max(by_window.values()) for system, by_window in best.items()}
    print(f"best of any window: {most['raft'] / most['PySyncObj']:.2f} × PySyncObj")
    if options.etcdctl and shutil.which("etcd"):
        rate = check_perf(options.etcdctl, options.directory)
        print(f"best of any window: {most['raft'] / rate:.2f} × etcd")


if __name__ == "__main__":
    main()
