"""Saves beside the loop: in order, together where that means the same, and never in its way."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, Index, ServerId, Term
from raft.core.ready import Ready
from raft.saving import Save, Saver
from raft.storage.base import StorageError
from raft.storage.memory import MemoryStore

NOTHING = Save(None, Index(0), (), None)


def entry(name: int) -> Entry:
    return Entry(Term(1), data=b"%d" % name)


@st.composite
def histories(draw: st.DrawFn) -> list[Save]:
    """Saves as a core hands them out: appends, replacements, terms, snapshots, rewrites."""
    saves: list[Save] = []
    before, last, name = 0, 0, 0
    for kind in draw(st.lists(st.sampled_from("aaarthsin"), max_size=12)):
        hard_state = HardState(Term(len(saves) + 1)) if draw(st.booleans()) else None
        count = draw(st.integers(1, 3))
        entries = tuple(entry(name + n) for n in range(count))
        name += count
        snapshot = None
        first = 0
        if kind == "a":
            first = last + 1
        elif kind == "r" and last > before:
            first = draw(st.integers(before + 1, last))
        elif kind == "s" and last > before:
            snapshot = draw(st.integers(before + 1, last))
        elif kind == "i":  # a leader's snapshot, which discards all of the log
            snapshot = last + draw(st.integers(1, 3))
            first, entries = snapshot + 1, ()
        if first:
            last = first - 1 + len(entries)
        else:
            entries = ()
        if snapshot is not None:
            before = snapshot
        place = None if snapshot is None else at(snapshot)
        saves.append(Save(hard_state, Index(first), entries, place))
    return saves


def at(index: int) -> Snapshot:
    return Snapshot(Index(index), Term(1), Configuration((ServerId(1),)), b"")


def stored(saves: Sequence[Save]) -> object:
    store = MemoryStore()
    for save in saves:
        store.save(save.hard_state, save.first_index, save.entries, save.snapshot)
    return store.load()


@given(histories())
def test_saves_that_are_stored_together_mean_the_same(saves: list[Save]) -> None:
    together: list[Save] = []
    for save in saves:
        joined = together[-1].then(save) if together else None
        together = [*together[:-1], joined] if joined is not None else [*together, save]
    assert stored(together) == stored(saves)


def test_what_has_nothing_to_store_joins_anything() -> None:
    save = Save(HardState(Term(2)), Index(3), (entry(1),), at(2))
    assert NOTHING.then(save) == save
    assert save.then(NOTHING) == save
    assert NOTHING.is_empty
    assert not save.is_empty


# --- The thread ------------------------------------------------------------------------------


class SlowStore(MemoryStore):
    """A store whose saves wait, in their thread, until they may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Semaphore(0)
        self.saves: list[Save] = []
        self.threads: set[int] = set()
        self.error: Exception | None = None

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        assert self.may_go_on.acquire(timeout=20)
        self.threads.add(threading.get_ident())
        if self.error is not None:
            raise self.error
        self.saves.append(Save(hard_state, first_index, tuple(entries), snapshot))


def ready(number: int, first: int = 0, *entries: Entry, snapshot: Snapshot | None = None) -> Ready:
    return Ready(number, None, snapshot, False, Index(first), entries, (), (), Index(1), (), ())


class Told:
    """What a saver told, in order."""

    def __init__(self, store: MemoryStore) -> None:
        self.saved: list[list[int]] = []
        self.errors: list[BaseException] = []
        self.saver = Saver(store, self._saved, self._failed)
        self._happened = asyncio.Event()

    def _saved(self, readys: list[Ready]) -> None:
        self.saved.append([one.number for one in readys])
        self._happened.set()

    def _failed(self, error: BaseException) -> None:
        self.errors.append(error)
        self._happened.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while len(self.saved) + len(self.errors) < count:
                self._happened.clear()
                await self._happened.wait()


async def test_what_comes_up_during_a_save_is_stored_together_after_it() -> None:
    store = SlowStore()
    told = Told(store)
    told.saver.save(ready(1, 1, entry(1)))
    told.saver.save(ready(2, 2, entry(2)))
    told.saver.save(ready(3))
    told.saver.save(ready(4, 2, entry(3), entry(4)))
    assert told.saver.busy
    assert told.saved == [], "nothing is told before it is stored"
    store.may_go_on.release(2)
    await told.until(2)
    assert told.saved == [[1], [2, 3, 4]]
    assert [save.entries for save in store.saves] == [(entry(1),), (entry(3), entry(4))]
    assert not told.saver.busy
    assert threading.get_ident() not in store.threads
    assert len(store.threads) == 1
    told.saver.close()


async def test_with_nothing_to_store_and_nothing_before_it_is_told_at_once() -> None:
    told = Told(SlowStore())
    told.saver.save(ready(1))
    assert told.saved == [[1]]
    told.saver.close()


async def test_with_nothing_to_store_it_still_waits_for_what_is_before_it() -> None:
    """An acknowledgement without entries may promise those of the save that is under way."""
    store = SlowStore()
    told = Told(store)
    told.saver.save(ready(1, 1, entry(1)))
    told.saver.save(ready(2))
    assert told.saved == []
    store.may_go_on.release()
    await told.until(2)
    assert told.saved == [[1], [2]]
    told.saver.close()


async def test_nothing_is_moved_across_a_snapshot() -> None:
    store = SlowStore()
    told = Told(store)
    told.saver.save(ready(1, 1, entry(1)))
    told.saver.save(ready(2, 2, entry(2)))
    told.saver.save(ready(3, snapshot=at(2)))
    told.saver.save(ready(4, 3, entry(3)))
    store.may_go_on.release(3)
    await told.until(3)
    assert told.saved == [[1], [2], [3, 4]]
    told.saver.close()


async def test_an_error_is_told_and_nothing_is_stored_after_it() -> None:
    store = SlowStore()
    store.error = StorageError("the disk is full")
    told = Told(store)
    told.saver.save(ready(1, 1, entry(1)))
    told.saver.save(ready(2, 2, entry(2)))
    store.may_go_on.release(2)
    await told.until(1)
    assert (told.saved, told.errors) == ([], [store.error])
    assert told.saver.busy, "what was to be stored never is"
    told.saver.close()


async def test_closing_waits_for_the_disk() -> None:
    store = SlowStore()
    told = Told(store)
    told.saver.save(ready(1, 1, entry(1)))
    told.saver.save(ready(2, 2, entry(2)))
    closing = asyncio.get_running_loop().run_in_executor(None, told.saver.close)
    store.may_go_on.release()
    await closing
    assert [save.entries for save in store.saves] == [(entry(1),)]


@pytest.mark.parametrize("count", [1, 5])
async def test_every_save_is_told_once_and_in_order(count: int) -> None:
    store = SlowStore()
    store.may_go_on.release(100)
    told = Told(store)
    for number in range(1, count + 1):
        told.saver.save(ready(number, number, entry(number)))
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while sum(map(len, told.saved)) < count:
            await asyncio.sleep(0)
    assert [number for numbers in told.saved for number in numbers] == list(range(1, count + 1))
    told.saver.close()
