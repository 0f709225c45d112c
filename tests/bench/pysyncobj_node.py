"""One PySyncObj server, and its load: proposals of its own while it leads.

    python -m tests.bench.pysyncobj_node HOST:PORT HOST:PORT …

The first address is its own. Says on standard output, as JSON, whether it leads; then for each
line ``WINDOW SECONDS SIZE`` on standard input how many writes ended, and how long they took. As
its users do, it calls the replicated method of its own object, with no socket between; it does
not sync its disk, or write to it at all.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from functools import partial

from pysyncobj import SyncObj, replicated

KEYS = 1000


class Store(SyncObj):
    """Keys and values."""

    def __init__(self, me: str, others: list[str]) -> None:
        super().__init__(me, others)
        self.values: dict[bytes, bytes] = {}

    @replicated
    def put(self, key: bytes, value: bytes) -> None:
        self.values[key] = value


class Load:
    """Keeps ``window`` proposals in flight for some seconds."""

    def __init__(self, store: Store, window: int, seconds: float, size: int) -> None:
        self._store = store
        self._value = bytes(range(256)) * (size // 256 + 1)
        self._value = self._value[:size]
        self._number = 0
        self._running = window
        self._idle = threading.Event()
        self._until = time.perf_counter() + seconds
        self.latencies: list[float] = []
        for _ in range(window):
            self._begin()
        self._idle.wait()

    def _begin(self) -> None:
        began = time.perf_counter()
        if began >= self._until:
            self._running -= 1
            if not self._running:
                self._idle.set()
            return
        self._number += 1
        key = b"key-%d" % (self._number % KEYS)
        self._store.put(key, self._value, callback=partial(self._end, began))

    def _end(self, began: float, _: object, error: int) -> None:
        if not error:
            self.latencies.append(time.perf_counter() - began)
        self._begin()


def main() -> None:
    me, *others = sys.argv[1:]
    store = Store(me, others)
    while not store.isReady() or store._getLeader() is None:
        time.sleep(0.05)
    print(json.dumps({"leads": store._isLeader()}), flush=True)
    for line in sys.stdin:
        window, seconds, size = line.split()
        began = time.perf_counter()
        ordered = sorted(Load(store, int(window), float(seconds), int(size)).latencies)
        took = time.perf_counter() - began
        half = ordered[len(ordered) // 2] if ordered else 0.0
        print(json.dumps({"writes": len(ordered), "seconds": took, "p50": half}), flush=True)


if __name__ == "__main__":
    main()
