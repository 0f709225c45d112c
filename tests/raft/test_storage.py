"""What every LogStore owes the core, asked of each store we ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.core.log import HardState, InvariantViolation, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import LogStore, MemoryStore, Recovered, Wal
from raft.testing.disk import SimulatedDisk

ONE = ServerId(1)
Reopen = Callable[[LogStore], LogStore]


def entry(term: int, data: bytes = b"x", kind: EntryKind = EntryKind.COMMAND) -> Entry:
    return Entry(Term(term), kind, data)


def hard_state(term: int, voted_for: int | None = None) -> HardState:
    return HardState(Term(term), None if voted_for is None else ServerId(voted_for))


MEMBERS = Configuration(
    (ServerId(1), ServerId(2)), (ServerId(3),), (), ((ServerId(2), "127.0.0.1:7"),)
)


def snapshot(index: int, term: int, data: bytes = b"state") -> Snapshot:
    return Snapshot(Index(index), Term(term), MEMBERS, data)


@pytest.fixture(params=["memory", "wal"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[LogStore, Reopen]:
    """A new store, and how to open it again after a restart."""
    if request.param == "memory":
        return MemoryStore(), lambda store: store

    def reopen(store: LogStore) -> LogStore:
        store.close()
        return Wal(tmp_path / "data", "test", ONE)

    return Wal(tmp_path / "data", "test", ONE), reopen


def test_a_new_store_is_empty(stores: tuple[LogStore, Reopen]) -> None:
    store, _ = stores
    assert store.load() == Recovered(HardState(), ())


def test_what_was_saved_is_there_after_a_restart(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    log = (entry(1, b"", EntryKind.NOOP), entry(1, b"a" * 100), entry(2, b""))
    store.save(hard_state(1, 2), Index(1), log[:2])
    store.save(hard_state(2), Index(3), log[2:])
    assert reopen(store).load() == Recovered(hard_state(2), log)


def test_a_vote_alone_and_entries_alone_leave_the_rest(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1)])
    store.save(hard_state(4, 1), Index(0), [])
    store.save(None, Index(2), [entry(4)])
    assert reopen(store).load() == Recovered(hard_state(4, 1), (entry(1), entry(4)))


def test_bug_11_a_vote_outlives_the_server(stores: tuple[LogStore, Reopen]) -> None:
    """Term and vote not persisted before the reply: a second vote in the same term."""
    store, reopen = stores
    store.load()
    store.save(hard_state(7, 3), Index(0), [])
    assert reopen(store).load().hard_state == hard_state(7, 3)


def test_bug_42_replaced_entries_stay_gone(stores: tuple[LogStore, Reopen]) -> None:
    """Replay resurrects truncated entries: a shorter suffix replaced a longer one."""
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(2, b"old"), entry(2, b"old"), entry(2, b"old")])
    store.save(None, Index(2), [entry(3, b"new")])
    store = reopen(store)
    assert store.load().entries == (entry(1), entry(3, b"new"))
    store.save(None, Index(3), [entry(3, b"next")])
    assert reopen(store).load().entries == (entry(1), entry(3, b"new"), entry(3, b"next"))


def test_bug_42_entries_that_nothing_replaces_stay_gone(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(2, b"old"), entry(2, b"old")])
    store.save(None, Index(2), [])
    store = reopen(store)
    assert store.load().entries == (entry(1),)
    store.save(None, Index(1), [])
    assert reopen(store).load().entries == ()


def test_bug_49_an_empty_command_is_a_command(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1, b"")])
    assert reopen(store).load().entries == (entry(1, b""),)


@pytest.mark.parametrize("first_index", [0, 3])
def test_a_gap_is_refused(stores: tuple[LogStore, Reopen], first_index: int) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1)])
    with pytest.raises(InvariantViolation):
        store.save(None, Index(first_index), [entry(1)])
    assert reopen(store).load().entries == (entry(1),)


# --- Snapshots -------------------------------------------------------------------------------


def test_a_snapshot_replaces_the_entries_up_to_its_index(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(hard_state(2, 1), Index(1), [entry(1), entry(1), entry(2, b"behind")])
    store.save(None, Index(0), [], snapshot(2, 1))
    store = reopen(store)
    assert store.load() == Recovered(hard_state(2, 1), (entry(2, b"behind"),), snapshot(2, 1))
    store.save(None, Index(4), [entry(2, b"next")])
    store.save(hard_state(3), Index(4), [entry(3, b"instead")])
    recovered = Recovered(
        hard_state(3), (entry(2, b"behind"), entry(3, b"instead")), snapshot(2, 1)
    )
    assert reopen(store).load() == recovered


def test_a_snapshot_of_everything(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(1)])
    store.save(hard_state(1), Index(0), [], snapshot(2, 1, b""))
    store = reopen(store)
    assert store.load() == Recovered(hard_state(1), (), snapshot(2, 1, b""))
    store.save(None, Index(3), [entry(1)])
    assert reopen(store).load() == Recovered(hard_state(1), (entry(1),), snapshot(2, 1, b""))


def test_a_snapshot_from_a_leader_that_is_far_ahead(stores: tuple[LogStore, Reopen]) -> None:
    """With the new term, and in place of entries that another leader left (§7)."""
    store, reopen = stores
    store.load()
    store.save(hard_state(2), Index(1), [entry(1), entry(2, b"never committed")])
    store.save(hard_state(5), Index(101), [], snapshot(100, 4))
    assert reopen(store).load() == Recovered(hard_state(5), (), snapshot(100, 4))


def test_a_snapshot_in_place_of_a_conflicting_log(stores: tuple[LogStore, Reopen]) -> None:
    """Entries behind the snapshot's index that are another leader's go, too (§7, step 7)."""
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(2, b"old"), entry(2, b"old"), entry(2, b"old")])
    store.save(None, Index(3), [], snapshot(2, 3))
    assert reopen(store).load() == Recovered(HardState(), (), snapshot(2, 3))


def test_a_snapshot_with_entries_in_the_same_save(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(1), entry(1)])
    store.save(hard_state(2, 2), Index(3), [entry(2, b"new"), entry(2, b"too")], snapshot(1, 1))
    kept = (entry(1), entry(2, b"new"), entry(2, b"too"))
    assert reopen(store).load() == Recovered(hard_state(2, 2), kept, snapshot(1, 1))


def test_a_newer_snapshot_replaces_an_older_one(stores: tuple[LogStore, Reopen]) -> None:
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(1), entry(1)])
    store.save(None, Index(0), [], snapshot(1, 1, b"one"))
    store.save(None, Index(0), [], snapshot(2, 1, b"two" * 50_000))
    recovered = Recovered(HardState(), (entry(1),), snapshot(2, 1, b"two" * 50_000))
    store = reopen(store)
    assert store.load() == recovered
    assert reopen(store).load() == recovered


@pytest.mark.parametrize("index", [1, 2])
def test_a_snapshot_never_goes_back(stores: tuple[LogStore, Reopen], index: int) -> None:
    """18: a snapshot at or below what is there is an error of whoever offers it."""
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(1), entry(1)])
    store.save(None, Index(0), [], snapshot(2, 1))
    with pytest.raises(InvariantViolation, match=f"up to {index} cannot replace .* up to 2"):
        store.save(hard_state(9), Index(0), [], snapshot(index, 1))
    assert reopen(store).load() == Recovered(HardState(), (entry(1),), snapshot(2, 1))


@pytest.mark.parametrize(("first_index", "index"), [(2, 2), (2, 3), (5, 2), (5, 3)])
def test_no_gap_behind_a_snapshot(
    stores: tuple[LogStore, Reopen], first_index: int, index: int
) -> None:
    """14, 15: the boundary of log and snapshot. All or nothing: the snapshot is refused, too."""
    store, reopen = stores
    store.load()
    store.save(None, Index(1), [entry(1), entry(1), entry(1)])
    with pytest.raises(InvariantViolation, match=f"entry {first_index} cannot follow entry 3"):
        store.save(None, Index(first_index), [entry(2)], snapshot(index, 1))
    assert reopen(store).load() == Recovered(HardState(), (entry(1),) * 3)


# --- Any history -----------------------------------------------------------------------------

ENTRIES = st.lists(
    st.builds(entry, st.integers(1, 9), st.binary(max_size=40), st.sampled_from(EntryKind)),
    max_size=3,
)
HARD_STATES = st.builds(hard_state, st.integers(0, 2**63), st.none() | st.integers(1, 9))


@given(st.data())
@settings(max_examples=100)
def test_both_stores_keep_the_same(data: st.DataObject) -> None:
    """Any saves with restarts between them: the log on disk equals the list in memory."""
    disk, room = SimulatedDisk(), data.draw(st.sampled_from((256, 512, 4096)))
    memory, wal = MemoryStore(), Wal("/data", "test", ONE, disk, segment_bytes=room)
    wal.load()
    for _ in range(data.draw(st.integers(0, 12))):
        stored = memory.load()
        first = stored.snapshot.index + 1 if stored.snapshot else 1
        last = first + len(stored.entries) - 1
        taken: Snapshot | None = None
        if data.draw(st.integers(0, 3)) == 0:
            index = data.draw(st.integers(first, last + 2))
            taken = snapshot(index, 1, data.draw(st.binary(max_size=20)))
            first, last = index + 1, max(last, index)
        entries = data.draw(ENTRIES)
        first_index = data.draw(st.integers(first, last + 1)) if entries else 0
        if not entries and data.draw(st.booleans()):
            first_index = data.draw(st.integers(first, last + 1))
        state = data.draw(st.none() | HARD_STATES)
        memory.save(state, Index(first_index), entries, taken)
        wal.save(state, Index(first_index), entries, taken)
        if data.draw(st.booleans()):
            wal.close()
            wal = Wal("/data", "test", ONE, disk, segment_bytes=room)
            assert wal.load() == memory.load()
            assert wal.dropped_tail == 0
    wal.close()
    wal = Wal("/data", "test", ONE, disk, segment_bytes=room)
    assert wal.load() == memory.load()
    wanted = {"vote"}
    if (kept := memory.load().snapshot) is not None:
        wanted.add(f"snapshot-{kept.index}")
    names = {path.name for path in disk.paths()}
    assert {name for name in names if not name.startswith("log-")} == wanted
