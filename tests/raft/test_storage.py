"""What every LogStore owes the core, asked of each store we ship."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raft.core.log import HardState, InvariantViolation
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import LogStore, MemoryStore, Recovered, Wal

ONE = ServerId(1)
Reopen = Callable[[LogStore], LogStore]


def entry(term: int, data: bytes = b"x", kind: EntryKind = EntryKind.COMMAND) -> Entry:
    return Entry(Term(term), kind, data)


def hard_state(term: int, voted_for: int | None = None) -> HardState:
    return HardState(Term(term), None if voted_for is None else ServerId(voted_for))


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


SAVES = st.lists(
    st.tuples(
        st.none() | st.builds(hard_state, st.integers(0, 2**63), st.none() | st.integers(1, 9)),
        st.integers(1, 6),
        st.lists(
            st.builds(entry, st.integers(1, 9), st.binary(max_size=40), st.sampled_from(EntryKind)),
            max_size=3,
        ),
        st.booleans(),
    ),
    max_size=12,
)


@given(SAVES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_stores_keep_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    saves: list[tuple[HardState | None, int, list[Entry], bool]],
) -> None:
    """Any saves with restarts between them: the log on disk equals the list in memory."""
    directory = tmp_path_factory.mktemp("data")
    memory, wal = MemoryStore(), Wal(directory, "test", ONE)
    wal.load()
    for state, wanted, entries, restart in saves:
        first_index = Index(min(wanted, len(memory.load().entries) + 1) if entries else 0)
        memory.save(state, first_index, entries)
        wal.save(state, first_index, entries)
        if restart:
            wal.close()
            wal = Wal(directory, "test", ONE)
            assert wal.load() == memory.load()
    wal.close()
    wal = Wal(directory, "test", ONE)
    assert wal.load() == memory.load()
    assert wal.dropped_tail == 0
    wal.close()
