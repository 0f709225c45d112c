"""The disk of an attended server: what each fault does, and what a power cut takes back."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from raft.clock import VirtualClock
from raft.core.log import HardState
from raft.core.messages import Entry, EntryKind, ServerId
from raft.storage.base import StorageError
from raft.storage.disk import put_file, write_all
from raft.storage.faulty import FaultyDisk
from raft.storage.wal import Wal
from raft.testing.store_mutants import STORE_MUTANTS


class PowerIsOff(Exception):
    """Ends the test's process, as it were."""


def turn_off() -> None:
    raise PowerIsOff


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk(turn_off)


@pytest.fixture
def cut(disk: FaultyDisk) -> Callable[[], None]:
    def cut() -> None:
        with pytest.raises(PowerIsOff):
            disk.cut_power()

    return cut


Cut = Callable[[], None]


def durable(disk: FaultyDisk, path: Path, content: bytes) -> int:
    return put_file(disk, path, content)


# --- Power cuts --------------------------------------------------------------------------------


def test_a_power_cut_takes_back_what_was_not_synced(
    disk: FaultyDisk, tmp_path: Path, cut: Cut
) -> None:
    file = durable(disk, tmp_path / "file", b"before")
    write_all(disk, file, b"BEF", 0)
    write_all(disk, file, b"ORE and after", 3)
    write_all(disk, file, b"far", 40)
    assert (tmp_path / "file").read_bytes()[:16] == b"BEFORE and after"
    cut()
    assert (tmp_path / "file").read_bytes() == b"before"


def test_it_takes_back_nothing_that_was(disk: FaultyDisk, tmp_path: Path, cut: Cut) -> None:
    file = durable(disk, tmp_path / "file", b"before")
    write_all(disk, file, b"BEFORE", 0)
    disk.sync(file)
    write_all(disk, file, b" and after", 6)
    disk.sync(file)
    write_all(disk, file, b" it all", 16)
    disk.close(file)
    cut()
    assert (tmp_path / "file").read_bytes() == b"BEFORE and after"


def test_names_are_durable_when_the_directory_was_synced(
    disk: FaultyDisk, tmp_path: Path, cut: Cut
) -> None:
    for name in ("kept", "replaced", "removed"):
        durable(disk, tmp_path / name, name.encode())
    new = disk.create(tmp_path / "new")
    write_all(disk, new, b"new", 0)
    disk.sync(new)
    disk.rename(tmp_path / "new", tmp_path / "replaced")
    disk.remove(tmp_path / "removed")
    assert sorted(disk.names(tmp_path)) == ["kept", "replaced"]
    cut()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        name: name.encode() for name in ("kept", "replaced", "removed")
    }


def test_synced_names_stay(disk: FaultyDisk, tmp_path: Path, cut: Cut) -> None:
    durable(disk, tmp_path / "a", b"1")
    durable(disk, tmp_path / "a", b"2")
    durable(disk, tmp_path / "b", b"3")
    disk.remove(tmp_path / "b")
    disk.sync_directory(tmp_path)
    cut()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"2"}


# --- Faults ------------------------------------------------------------------------------------


def test_a_full_disk_lets_no_file_grow_and_none_suffer(disk: FaultyDisk, tmp_path: Path) -> None:
    file = durable(disk, tmp_path / "file", b"12345")
    disk.rig(0.0, full=True, fail_sync=False, tear=False)
    with pytest.raises(OSError) as caught:
        disk.write_at(file, b"xy", 4)
    assert caught.value.errno == errno.ENOSPC
    write_all(disk, file, b"abc", 2)
    assert disk.read(file) == b"12abc"
    disk.rig(0.0, full=False, fail_sync=False, tear=False)
    write_all(disk, file, b"more", 5)
    assert disk.read(file) == b"12abcmore"


def test_what_an_fsync_failed_with_is_lost_though_later_ones_succeed(
    disk: FaultyDisk, tmp_path: Path, cut: Cut
) -> None:
    file = durable(disk, tmp_path / "file", b"12345")
    write_all(disk, file, b"67", 5)
    disk.rig(0.0, full=False, fail_sync=True, tear=False)
    with pytest.raises(OSError) as caught:
        disk.sync(file)
    assert caught.value.errno == errno.EIO
    write_all(disk, file, b"89", 7)
    disk.sync(file)  # it fails once
    assert disk.read(file) == b"123456789"
    cut()
    assert (tmp_path / "file").read_bytes() == b"12345\0\x0089"


def test_the_power_fails_in_the_middle_of_the_next_write(disk: FaultyDisk, tmp_path: Path) -> None:
    file = durable(disk, tmp_path / "file", b"12345")
    write_all(disk, file, b"lost", 5)
    disk.rig(0.0, full=False, fail_sync=False, tear=True)
    with pytest.raises(PowerIsOff):
        disk.write_at(file, b"abcdef", 5)
    assert (tmp_path / "file").read_bytes() == b"12345abc"


def syncing(disk: FaultyDisk, file: int) -> threading.Thread:
    thread = threading.Thread(target=disk.sync, args=(file,))
    thread.start()
    return thread


def test_a_slow_disk_is_slow_by_the_clusters_time(disk: FaultyDisk, tmp_path: Path) -> None:
    file = durable(disk, tmp_path / "file", b"12345")
    clock = VirtualClock(rate=1.0)
    disk.follow(clock)
    disk.rig(3600.0, full=False, fail_sync=False, tear=False)
    thread = syncing(disk, file)
    thread.join(0.05)
    assert thread.is_alive()
    clock.set(clock.now() + 3600.0, clock.monotonic, 1.0)
    disk.follow(clock)
    thread.join(30)
    assert not thread.is_alive()


def test_it_is_not_while_time_stands_still_and_not_once_it_is_in_order(
    disk: FaultyDisk, tmp_path: Path
) -> None:
    file = durable(disk, tmp_path / "file", b"12345")
    clock = VirtualClock(rate=1.0)
    disk.follow(clock)
    disk.rig(3600.0, full=False, fail_sync=False, tear=False)
    for heal in (
        lambda: clock.set(clock.now(), clock.monotonic, 0.0),
        lambda: clock.set(clock.now(), clock.monotonic, 1.0) or disk.rig(0.0, False, False, False),
    ):
        thread = syncing(disk, file)
        heal()
        disk.follow(clock)
        thread.join(30)
        assert not thread.is_alive()


# --- What a log makes of it ----------------------------------------------------------------------

ENTRY = Entry(1, EntryKind.COMMAND, b"x=1")
NEXT = Entry(1, EntryKind.COMMAND, b"x=2")


def opened(kind: type[Wal], home: Path, disk: FaultyDisk | None) -> Wal:
    return kind(home, "demo", ServerId(1), disk)


def test_a_log_keeps_all_that_it_promised_and_one_that_does_not_sync_none(tmp_path: Path) -> None:
    for name, kind, kept in (
        ("sound", Wal, (ENTRY, NEXT)),
        ("broken", STORE_MUTANTS["fsync-skipped"], (ENTRY,)),
    ):
        home = tmp_path / name
        wal = opened(Wal, home, None)
        wal.load()
        wal.save(HardState(1, 1), 1, [ENTRY])
        wal.close()
        disk = FaultyDisk(turn_off)
        wal = opened(kind, home, disk)
        wal.load()
        wal.save(None, 2, [NEXT])
        with pytest.raises(PowerIsOff):
            disk.cut_power()
        wal.close()
        wal = opened(Wal, home, None)
        assert wal.load().entries == kept
        wal.close()


def test_a_torn_write_is_dropped(tmp_path: Path) -> None:
    disk = FaultyDisk(turn_off)
    wal = opened(Wal, tmp_path, disk)
    wal.load()
    wal.save(HardState(1, 1), 1, [ENTRY])
    disk.rig(0.0, full=False, fail_sync=False, tear=True)
    with pytest.raises(PowerIsOff):
        wal.save(None, 2, [NEXT])
    wal.close()
    wal = opened(Wal, tmp_path, None)
    assert wal.load().entries == (ENTRY,)
    assert wal.dropped_tail > 0
    wal.close()


def test_a_log_on_a_failing_disk_stops(tmp_path: Path) -> None:
    disk = FaultyDisk(turn_off)
    wal = opened(Wal, tmp_path, disk)
    wal.load()
    disk.rig(0.0, full=False, fail_sync=True, tear=False)
    with pytest.raises(StorageError, match="Input/output error"):
        wal.save(HardState(1, 1), 1, [ENTRY])
    with pytest.raises(StorageError, match="failed before"):
        wal.save(HardState(2, 1), 1, [ENTRY])
    wal.close()
