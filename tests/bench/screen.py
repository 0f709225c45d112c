"""What the screen alone costs while a played laboratory is busy: no server, no socket.

Run it with `python -m tests.bench.screen [SECONDS]`. Five servers, real-time heartbeats every
50 ms and a write every 100 ms, drawn on a terminal of 160×48 that takes whatever is drawn; once
in real time, and once at 1/10, where every message moves.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

from raft.core.events import (
    Applied,
    CommitAdvanced,
    EntriesAppended,
    ProgressChanged,
    TimerArmed,
    TimerKind,
)
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Index,
    ServerId,
    Term,
)
from raft.machine.kv import Put, encode_command
from raftviz.model.events import ClockChanged, Event, MessageDelivered, MessageSent
from tests.bench.machine import asked, describe
from tests.raftviz.fake_lab import FakeLab, Stream, Told, cluster

SIZE = (160, 48)
ROUND = 0.050
"""Virtual seconds between two rounds of the leader."""
HALF_A_WAY = 0.005


class BusyLab(FakeLab):
    """S1 leads; every second round carries an entry. Time runs at ``rate``."""

    def __init__(self, rate: float) -> None:
        super().__init__(*cluster(5, leader=1, term=1, log=(Entry(Term(1), EntryKind.NOOP),)))
        self._rate = rate
        self._began = time.monotonic()
        self._length = 1
        self._numbers = iter(range(1, 1 << 30))
        self._busy_stream = Stream()
        self._busy_stream.sequence = 10_000
        self._due: list[tuple[float, Told]] = []
        self._rounds = 0
        self.told = 0
        self.feed(ClockChanged(0.0, self._began, rate))

    async def next_events(self) -> list[Event]:
        """Return what has become due, a few times a frame."""
        first = await super().next_events() if self._rounds == 0 else []
        await asyncio.sleep(0.01)
        now = (time.monotonic() - self._began) * self._rate
        while self._rounds * ROUND <= now:
            self._due += self._round(self._rounds * ROUND)
            self._rounds += 1
        ready = [item for item in self._due if item[0] <= now]
        self._due = [item for item in self._due if item[0] > now]
        events = first + [self._busy_stream.event(told, at) for at, told in sorted(ready, key=_at)]
        self.told += len(events)
        return events or await self.next_events()

    def _round(self, at: float) -> Iterator[tuple[float, Told]]:
        """Tell one broadcast of the leader and its answers."""
        entries: tuple[Entry, ...] = ()
        before = self._length
        if self._rounds % 2:
            data = encode_command(Put(b"key%d" % (before % 50), b"%d" % before))
            entries = (Entry(Term(1), EntryKind.COMMAND, data),)
            self._length += 1
            yield at, (1, EntriesAppended(Index(before + 1), entries))
        yield at, (1, TimerArmed(TimerKind.HEARTBEAT, at + ROUND, ROUND))
        for peer in (2, 3, 4, 5):
            yield from self._exchange(at, peer, entries, before)
        if entries:
            yield at + 4 * HALF_A_WAY, (1, CommitAdvanced(Index(self._length)))
            yield at + 4 * HALF_A_WAY, (1, Applied(Index(self._length)))

    def _exchange(
        self, at: float, peer: int, entries: tuple[Entry, ...], before: int
    ) -> Iterator[tuple[float, Told]]:
        there, back = next(self._numbers), next(self._numbers)
        arrival, answer = at + 2 * HALF_A_WAY, at + 4 * HALF_A_WAY
        src, dst, term = ServerId(1), ServerId(peer), Term(1)
        last = Index(before + len(entries))
        message = AppendEntries(src, dst, term, Index(before), term, entries, Index(before))
        yield at, MessageSent(there, message, arrival)
        yield arrival, MessageDelivered(there)
        yield arrival, (peer, TimerArmed(TimerKind.ELECTION, arrival + 0.2, 0.2))
        if entries:
            yield arrival, (peer, EntriesAppended(last, entries))
        yield arrival, (peer, CommitAdvanced(Index(before)))
        yield arrival, (peer, Applied(Index(before)))
        reply = AppendEntriesReply(dst, src, term, Appended(last))
        yield arrival, MessageSent(back, reply, answer)
        yield answer, MessageDelivered(back)
        if entries:
            yield answer, (1, ProgressChanged(dst, Index(last + 1), last))


def _at(item: tuple[float, Told]) -> float:
    return item[0]


def inside(seconds: float, rate: float, say: int) -> None:
    """Draw for so long; write to the descriptor ``say`` what that cost."""
    from raftviz.tui.explorer import Explorer
    from raftviz.tui.pace import Pace

    lab = BusyLab(rate)

    class Counted(Explorer):
        frames = 0

        def frame(self) -> None:
            self.frames += 1
            super().frame()

    async def play() -> None:
        async def promise() -> BusyLab:
            return lab

        app = Counted(promise(), pace=Pace())
        drawing = asyncio.create_task(app.run_async())
        await asyncio.sleep(2.0)  # loading is not drawing
        frames, told, cost, began = app.frames, lab.told, time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        result = {
            "cpu": 100 * (time.process_time() - cost) / took,
            "frames": (app.frames - frames) / took,
            "events": (lab.told - told) / took,
        }
        app.exit(0)
        await drawing
        os.write(say, json.dumps(result).encode())

    asyncio.run(play())


def measure(seconds: float, rate: float) -> dict[str, float]:
    """Run ``inside`` on a terminal of its own; add how much it drew."""
    master, slave = pty.openpty()
    hear, say = os.pipe()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    what = ["--inside", str(seconds), str(rate), str(say)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.screen", *what],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
        pass_fds=[say],
    )
    os.close(slave)
    os.close(say)
    drawn = 0
    while chunk := _read(master):
        drawn += len(chunk)
    process.wait()
    found = json.loads(os.read(hear, 1 << 16))
    os.close(master)
    os.close(hear)
    return {**found, "drawn": drawn / (seconds + 2) / 1000}


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody has the other side open any more
        return b""


def main() -> None:
    if "--inside" in sys.argv:
        inside(float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
        return
    seconds = asked(__doc__, "SECONDS", float, 10.0)
    print(describe())
    for rate in (1.0, 0.1):
        found = measure(seconds, rate)
        print(
            f"rate {rate:g}: {found['cpu']:.0f} % of one core, {found['frames']:.1f} frames/s, "
            f"{found['events']:.0f} events/s, {found['drawn']:.0f} kB/s to the terminal"
        )


if __name__ == "__main__":
    main()
