"""The state machine beside the loop: commands in their order, and snapshots while appends go on.

A snapshot is taken in a thread. Meanwhile nothing is applied, so that it shows one moment;
entries are appended, replicated and committed as ever, and heartbeats leave in time.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raft.core.core import Core
from raft.core.log import Snapshot
from raft.core.messages import Entry, EntryKind, Index
from raft.core.ready import Ready
from raft.machine.base import StateMachine

SLICE = 0.010
"""Real seconds of applying before the loop gets to see what else there is to do."""
KEPT = 10
"""Of the entries that a snapshot stands for, one in this many stays for followers that lag."""


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When to take a snapshot: after so many applied entries, or bytes of them. 0: never."""

    entries: int = 10_000
    bytes: int = 64 * 1024 * 1024

    def is_due(self, entries: int, size: int) -> bool:
        """Tell whether it is time, after so many entries of this size in all."""
        return 0 < self.entries <= entries or 0 < self.bytes <= size


class Applier:
    """Applies what is committed, and takes snapshots.

    ``applied`` is called with entries that follow each other, the index of the first and the
    machine's answers; ``go_on`` when there is work again.
    """

    def __init__(
        self,
        core: Core,
        machine: StateMachine,
        policy: SnapshotPolicy,
        *,
        applied: Callable[[Index, Sequence[Entry], Sequence[bytes]], None],
        go_on: Callable[[], None],
    ) -> None:
        self._core = core
        self._machine = machine
        self._policy = policy
        self._applied = applied
        self._go_on = go_on
        self._restore: Snapshot | None = None
        self._entries: deque[Entry] = deque()
        self._next = Index(0)
        """The index of the first one, if there are any."""
        self._size = 0
        """Bytes of the applied entries that no snapshot stands for."""
        self._wanted = False
        self._taking: asyncio.Future[bytes] | None = None
        self._tried_at = Index(0)
        """Where the core last declined a snapshot: it does not know the members there yet."""

    @property
    def busy(self) -> bool:
        """There is something left to apply, or a snapshot is being taken."""
        return bool(self._entries) or self._restore is not None or self._taking is not None

    def take(self, ready: Ready) -> None:
        """Take in what a Ready wants restored and applied."""
        if ready.restore:
            self._restore = ready.snapshot
            self._entries.clear()
        if not self._entries:
            self._next = ready.first_committed
        self._entries.extend(ready.committed_entries)

    def want_snapshot(self) -> None:
        """Take a snapshot as soon as that can be, policy or not."""
        self._wanted = True
        self._go_on()

    def work(self) -> None:
        """Apply what waits, for a while, unless a snapshot is being taken.

        Raises what the state machine raises.
        """
        if self._taking is not None:
            if not self._taking.done():
                return
            self._end_snapshot(self._taking.result())
        if self._restore is not None:
            self._machine.restore(self._restore.data)
            self._core.applied(self._restore.index)
            self._restore, self._size, self._wanted = None, 0, False
        self._apply_slice()
        if self._snapshot_due():
            self._begin_snapshot()
        elif self._entries:
            self._go_on()

    def _apply_slice(self) -> None:
        if not self._entries:
            return
        first = self._next
        entries: list[Entry] = []
        answers: list[bytes] = []
        until = time.monotonic() + SLICE
        waiting, apply, index = self._entries, self._machine.apply, first
        while waiting:
            entry = waiting.popleft()
            entries.append(entry)
            command = entry.kind is EntryKind.COMMAND
            answers.append(apply(index, entry.data) if command else b"")
            self._size += len(entry.data)
            index = Index(index + 1)
            if time.monotonic() >= until:
                break
        self._next = index
        self._applied(first, entries, answers)
        self._core.applied(Index(index - 1))

    # --- Snapshots -------------------------------------------------------------------------------

    def _uncompacted(self) -> int:
        snapshot = self._core.snapshot
        return self._core.last_applied - (snapshot.index if snapshot else 0)

    def _snapshot_due(self) -> bool:
        """Judged anew after everything that is applied or taken, so that no trigger is lost."""
        count = self._uncompacted()
        due = self._wanted or self._policy.is_due(count, self._size)
        return due and count > 0 and self._core.last_applied > self._tried_at

    def _begin_snapshot(self) -> None:
        self._taking = asyncio.get_running_loop().run_in_executor(None, self._machine.snapshot)
        self._taking.add_done_callback(self._taken)

    def _taken(self, taking: asyncio.Future[bytes]) -> None:
        if not taking.cancelled():
            taking.exception()  # seen: if the server has stopped, nobody else will look
        self._go_on()

    def _end_snapshot(self, data: bytes) -> None:
        self._taking = None
        # If a leader's snapshot has come meanwhile, the core knows better and keeps that one.
        self._core.compact(data, max(0, self._uncompacted()) // KEPT)
        if self._uncompacted() > 0:
            self._tried_at = self._core.last_applied
        else:
            self._size, self._wanted = 0, False
        self._go_on()
