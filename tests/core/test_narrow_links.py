"""A follower behind a link that passes a megabyte a second gets everything once, and in time.

What is out already must not be sent again while it is on its way: the copies would wait in front
of all that is new, and with every heartbeat there would be more of them.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush
from random import Random

import pytest

from raft.core.config import Config
from raft.core.core import Core
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    AppendEntries,
    Entry,
    EntryKind,
    InstallSnapshot,
    Message,
    ServerId,
    Term,
)

BYTES_A_SECOND = 1_000_000
ONE_WAY = 0.010
MEMBERS = (1, 2, 3)
PIECE = 64 * 1024


def size_of(message: Message) -> int:
    """About as many bytes as the message has on the wire."""
    match message:
        case InstallSnapshot():
            return 100 + len(message.data)
        case AppendEntries():
            return 100 + sum(len(entry.data) for entry in message.entries)
        case _:
            return 100


class Wire:
    """Three servers without disks; what S1 sends to S3 passes the narrow link in its order."""

    def __init__(self, snapshot: Snapshot | None = None, entries: tuple[Entry, ...] = ()) -> None:
        self.now = 0.0
        self.sent = Counter[tuple[str, int, int]]()
        """How often S3 was sent what, from where on, and how much of it; nothing else."""
        self._free_at = 0.0
        self._due: list[tuple[float, int, Message | ServerId]] = []
        self._number = 0
        self.cores: dict[int, Core] = {}
        for server in MEMBERS:
            has_it = server != 3
            self.cores[server] = Core(
                Config(ServerId(server), MEMBERS, pre_vote=True, check_quorum=True),
                HardState(Term(1)),
                entries if has_it else (),
                Random(server),
                0.0,
                None,
                snapshot if has_it else None,
            )
        self.cores[1].campaign(0.0)
        self._work(1)

    def run(self, seconds: float, reads_every: float = 0.0) -> None:
        """Let time pass. S1 is asked for a read now and then, if that is said."""
        end, next_read, context = self.now + seconds, self.now, 0
        while self._due[0][0] <= end:
            while reads_every and next_read <= self._due[0][0]:
                self.now, context = next_read, context + 1
                self.cores[1].read_index(context, self.now)
                self._work(1)
                next_read += reads_every
            self.now, _, what = heappop(self._due)
            if not isinstance(what, int):
                self.cores[what.dst].step(what, self.now)
                self._work(what.dst)
            elif self.cores[what].deadline <= self.now:
                self.cores[what].tick(self.now)
                self._work(what)

    def _at(self, when: float, what: Message | ServerId) -> None:
        self._number += 1
        heappush(self._due, (when, self._number, what))

    def _work(self, server: int) -> None:
        core = self.cores[server]
        while (ready := core.ready(self.now)) is not None:
            core.persisted(ready.number, self.now)
            for message in (*ready.messages, *ready.messages_after_persist):
                self._send(message)
            if ready.restore and ready.snapshot is not None:
                core.applied(ready.snapshot.index)
            if ready.committed_entries:
                core.applied(ready.first_committed + len(ready.committed_entries) - 1)
        core.take_events()
        self._at(core.deadline, ServerId(server))

    def _send(self, message: Message) -> None:
        leaves = self.now
        if (message.src, message.dst) == (1, 3):
            self._free_at = leaves = (
                max(self._free_at, self.now) + size_of(message) / BYTES_A_SECOND
            )
            match message:
                case InstallSnapshot(offset=offset, data=data) if data:
                    self.sent["snapshot", offset, len(data)] += 1
                case AppendEntries(prev_log_index=index, entries=entries) if entries:
                    self.sent["entries", index, len(entries)] += 1
        self._at(leaves + ONE_WAY, message)


@pytest.mark.parametrize("reads_every", [0.0, 0.005], ids=["at-rest", "while-it-is-read"])
def test_a_snapshot_crosses_it_once(reads_every: float) -> None:
    data = bytes(16 * PIECE)
    wire = Wire(Snapshot(10, 1, Configuration(MEMBERS), data))
    seconds = len(data) / BYTES_A_SECOND
    wire.run(2 * seconds, reads_every)
    assert wire.cores[3].snapshot is not None, "it takes twice as long as the link needs, and more"
    pieces = {("snapshot", PIECE * number, PIECE): 1 for number in range(16)}
    assert {what: n for what, n in wire.sent.items() if what[0] == "snapshot"} == pieces


@pytest.mark.parametrize("reads_every", [0.0, 0.005], ids=["at-rest", "while-it-is-read"])
def test_entries_cross_it_once(reads_every: float) -> None:
    entries = tuple([Entry(Term(1), EntryKind.COMMAND, bytes(PIECE))] * 16)
    wire = Wire(entries=entries)
    wire.run(2 * 16 * PIECE / BYTES_A_SECOND, reads_every)
    assert wire.cores[3].commit_index == 17
    assert set(wire.sent.values()) == {1}
    no_op_that_did_not_fit_yet = 1
    assert sum(count for _, _, count in wire.sent) == 17 + no_op_that_did_not_fit_yet


def test_a_follower_that_is_down_is_sent_no_entries_again_and_again() -> None:
    wire = Wire(entries=(Entry(Term(1), EntryKind.COMMAND, bytes(PIECE)),))
    wire.cores[3].step = lambda message, now: None  # type: ignore[method-assign]  # it is down
    wire.run(1.0, reads_every=0.005)
    assert wire.cores[1].commit_index == 2
    assert sum(wire.sent.values()) == 1
