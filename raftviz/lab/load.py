"""Clients of the lab's own that work on the cluster, and how that goes."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, suppress

from raft.client import Raft
from raftviz.commands import Load
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.operations import Operation
from raftviz.lab.parts import Parts
from raftviz.lab.stream import Stream
from raftviz.model.events import (
    LoadChanged,
    LoadMeasured,
    OperationKind,
    OperationReturned,
    Outcome,
)

MEASURE_SECONDS = 1.0
"""Real seconds between two measurements."""
MAX_WAITING = 1000
"""Operations under way at once; while there are more, no new one begins."""
BACK_OFF = 0.05
"""Seconds of the cluster's time that a client waits after an operation that was not ok."""


class LoadRunner:
    """Runs the one load of a lab."""

    def __init__(self, parts: Parts) -> None:
        self._operations = parts.operations
        self._time = parts.time
        self._stream = parts.stream
        self._tasks = parts.tasks
        self._connect = parts.connect
        self._work: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        """Clients are at work."""
        return self._work is not None

    async def start(self, load: Load) -> None:
        """Let clients work as ``load`` says, in place of those that do."""
        await self.stop()
        self._stream.tell(LoadChanged(str(load)))
        self._work = self._tasks.create_task(self._run(load))

    async def stop(self) -> None:
        """Begin no more operations; what is under way may end."""
        if (work := self._work) is None:
            return
        self._work = None
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
        self._stream.tell(LoadChanged(""))

    async def _run(self, load: Load) -> None:
        meter = _Meter(self._time, self._stream)
        chance = random.Random(f"{self._stream.view.seed} {load}")  # noqa: S311 - no secrecy
        operations = _operations(load, chance)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as workers:
            rafts: list[Raft | None] = [None]
            if load.sessions:
                clients = [self._connect() for _ in range(load.sessions)]
                rafts = [await stack.enter_async_context(client) for client in clients]
            workers.create_task(meter.run())
            if load.rate:
                workers.create_task(self._at_rate(load.rate, operations, rafts, meter))
            for number in range(load.clients):
                raft = rafts[number % len(rafts)]
                workers.create_task(self._in_turn(operations, raft, meter))

    async def _at_rate(
        self,
        rate: float,
        operations: Iterator[Operation],
        rafts: Sequence[Raft | None],
        meter: _Meter,
    ) -> None:
        """Begin operations one after the other, at times that nothing of them can change."""
        due = self._time.clock.now()
        number = 0
        while True:
            due = max(due + 1 / rate, self._time.clock.now() - MEASURE_SECONDS)
            await self._time.until(due)
            if meter.waiting < MAX_WAITING:
                self._begin(next(operations), rafts[number % len(rafts)], meter)
                number += 1

    async def _in_turn(
        self, operations: Iterator[Operation], raft: Raft | None, meter: _Meter
    ) -> None:
        """Begin an operation when the one before has ended, like a client that waits."""
        while True:
            failed = meter.not_ok
            await self._begin(next(operations), raft, meter)
            if meter.not_ok > failed:
                await self._time.until(self._time.clock.now() + BACK_OFF)

    def _begin(self, operation: Operation, raft: Raft | None, meter: _Meter) -> asyncio.Task[str]:
        begun = meter.begun()
        return self._operations.begin(
            operation, raft, lambda returned: meter.ended(begun, returned)
        )


class _Meter:
    """Counts what ends, and tells it every second of real time."""

    def __init__(self, time: ClusterTime, stream: Stream) -> None:
        self.waiting = self.not_ok = 0
        self._time = time
        self._stream = stream
        self._since = time.clock.now()
        self._latencies: list[float] = []
        self._failed = self._unknown = 0

    def begun(self) -> float:
        """Note that an operation begins; return when."""
        self.waiting += 1
        return self._time.clock.now()

    def ended(self, begun: float, returned: OperationReturned) -> None:
        """Note how an operation ended that began then."""
        self.waiting -= 1
        match returned.outcome:
            case Outcome.OK:
                self._latencies.append(self._time.clock.now() - begun)
            case Outcome.FAILED:
                self._failed += 1
                self.not_ok += 1
            case Outcome.UNKNOWN:
                self._unknown += 1
                self.not_ok += 1

    async def run(self) -> None:
        """Measure again and again, but not while time stands still."""
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            if self._time.frozen:
                await self._time.until(math.nextafter(self._time.clock.now(), math.inf))
            self._measure()

    def _measure(self) -> None:
        now = self._time.clock.now()
        latencies, self._latencies = sorted(self._latencies), []
        ends = (len(latencies), self._failed, self._unknown, self.waiting)
        shares = (percentile(latencies, share) for share in (50, 90, 99))
        self._stream.tell(LoadMeasured(now - self._since, *ends, *shares))
        self._since, self._failed, self._unknown = now, 0, 0


def percentile(ordered: Sequence[float], share: int) -> float:
    """Return the smallest value that ``share`` percent do not exceed; 0 if there is none."""
    return ordered[max(0, math.ceil(len(ordered) * share / 100) - 1)] if ordered else 0.0


def _operations(load: Load, chance: random.Random) -> Iterator[Operation]:
    """Yield operations for ever; every put has a value of its own."""
    kinds = (OperationKind.PUT, OperationKind.GET, OperationKind.DELETE)
    shares = (load.mix.put, load.mix.get, load.mix.delete)
    number = 0
    while True:
        number += 1
        (kind,) = chance.choices(kinds, shares)
        key = b"k%d" % chance.randint(1, load.keys)
        value = (b"%d" % number).ljust(load.size, b".") if kind is OperationKind.PUT else b""
        yield Operation(kind, key, value)
