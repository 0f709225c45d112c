"""The disk beside the loop: what is to be stored goes to a thread, and the loop goes on.

A slow disk then holds back only what promises that something is stored. Heartbeats leave in
time, so that a stalled fsync does not cost a leader its leadership, and a leader's appends are
on their way to its followers while its own disk writes (thesis §10.2.1).

There is one save at a time. What comes up meanwhile waits and is stored together: one fsync
for all of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, Index
from raft.core.ready import Ready
from raft.storage.base import LogStore


@dataclass(frozen=True, slots=True)
class Save:
    """The arguments of one ``LogStore.save``."""

    hard_state: HardState | None
    first_index: Index
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None

    @classmethod
    def of(cls, ready: Ready) -> Save:
        """Return what a Ready wants stored."""
        return cls(ready.hard_state, ready.first_index, ready.entries, ready.snapshot)

    @property
    def is_empty(self) -> bool:
        """There is nothing to store."""
        return self.hard_state is None and not self.first_index and self.snapshot is None

    def then(self, later: Save) -> Save | None:
        """Return one save that does what this one and then ``later`` do, None if there is none.

        A snapshot removes entries of the store, so nothing is moved across one.
        """
        if self.is_empty:
            return later
        if later.snapshot is not None:
            return None
        hard_state = later.hard_state or self.hard_state
        if not later.first_index:
            return Save(hard_state, self.first_index, self.entries, self.snapshot)
        if not self.first_index or later.first_index <= self.first_index:
            # All that this one would have stored from there on is replaced.
            return Save(hard_state, later.first_index, later.entries, self.snapshot)
        kept = self.entries[: later.first_index - self.first_index]
        return Save(hard_state, self.first_index, kept + later.entries, self.snapshot)


class Saver:
    """Stores what Readys want stored, in their order.

    ``saved`` is called in the loop with Readys that are on disk, oldest first; ``failed`` with
    the error after which nothing more is stored.
    """

    def __init__(
        self,
        store: LogStore,
        saved: Callable[[list[Ready]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._saved = saved
        self._failed = failed
        self._waiting: deque[Ready] = deque()
        self._under_way: list[Ready] = []
        self._queue: SimpleQueue[Save | None] = SimpleQueue()
        self._thread: Thread | None = None

    @property
    def busy(self) -> bool:
        """Something is not on disk yet."""
        return bool(self._under_way)

    def save(self, ready: Ready) -> None:
        """Store what ``ready`` wants stored, after all that came before it."""
        self._waiting.append(ready)
        if not self.busy:
            self._begin()

    def close(self) -> None:
        """Wait until the disk is left alone."""
        self._waiting.clear()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _begin(self) -> None:
        """Hand to the disk as much of what waits as can be stored at once."""
        save = Save(None, Index(0), (), None)
        while self._waiting and (more := save.then(Save.of(self._waiting[0]))) is not None:
            save = more
            self._under_way.append(self._waiting.popleft())
        if save.is_empty:
            self._done()
            return
        if self._thread is None:
            loop = asyncio.get_running_loop()
            # An executor's futures would cost a write more than the write itself.
            self._thread = Thread(target=self._work, args=(loop,), name="disk", daemon=True)
            self._thread.start()
        self._queue.put(save)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """Store what comes, in the thread of the disk."""
        while (save := self._queue.get()) is not None:
            error = None
            try:
                self._store.save(save.hard_state, save.first_index, save.entries, save.snapshot)
            except BaseException as raised:
                error = raised
            loop.call_soon_threadsafe(self._ended, error)

    def _ended(self, error: BaseException | None) -> None:
        if error is not None:
            self._failed(error)
        else:
            self._done()

    def _done(self) -> None:
        saved, self._under_way = self._under_way, []
        self._saved(saved)
        if self._waiting and not self.busy:
            self._begin()
