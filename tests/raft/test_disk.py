"""The simulated disk loses what a power cut may lose, and nothing else."""

from __future__ import annotations

import errno
from itertools import product
from pathlib import Path

import pytest

from raft.storage.disk import Disk, NoRoomError, RealDisk, put_file, write_all
from raft.testing.disk import SECTOR, Fate, PowerCut, SimulatedDisk

HOME = Path("/home")
FILE = HOME / "file"


def disk_with(content: bytes) -> tuple[SimulatedDisk, int]:
    """A disk with a durable file, and the file open."""
    disk = SimulatedDisk(1)
    disk.make_directory(HOME)
    return disk, put_file(disk, FILE, content)


# --- What both disks do ------------------------------------------------------------------------


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    """A disk, and a directory on it."""
    disk: Disk = RealDisk() if request.param == "real" else SimulatedDisk()
    disk.make_directory(tmp_path / "a" / "b")
    return disk, tmp_path / "a" / "b"


def test_files_are_written_read_and_named(place: tuple[Disk, Path]) -> None:
    disk, home = place
    file = disk.create(home / "one")
    assert disk.write_at(file, b"hello world", 0) == 11
    write_all(disk, file, b"W", 6)
    write_all(disk, file, b"!", 13)
    disk.sync(file)
    assert disk.read(file) == b"hello World\0\0!"
    disk.rename(home / "one", home / "two")
    disk.sync_directory(home)
    assert disk.names(home) == ["two"]
    disk.close(file)
    file = disk.open(home / "two")
    assert disk.read(file) == b"hello World\0\0!"
    disk.close(file)
    disk.remove(home / "two")
    assert disk.names(home) == []


def test_a_file_in_place_of_another(place: tuple[Disk, Path]) -> None:
    disk, home = place
    disk.close(put_file(disk, home / "it", b"before"))
    before = disk.open(home / "it")
    disk.close(put_file(disk, home / "it", b"after"))
    after = disk.open(home / "it")
    assert (disk.read(before), disk.read(after)) == (b"before", b"after")
    assert disk.names(home) == ["it"]


def test_what_is_not_there_and_what_is(place: tuple[Disk, Path]) -> None:
    disk, home = place
    with pytest.raises(FileNotFoundError):
        disk.open(home / "none")
    with pytest.raises(FileNotFoundError):
        disk.remove(home / "none")
    with pytest.raises(FileNotFoundError):
        disk.rename(home / "none", home / "other")
    with pytest.raises(FileNotFoundError):
        disk.names(home / "none")
    with pytest.raises(FileNotFoundError):
        disk.create(home / "none" / "file")
    disk.close(disk.create(home / "file"))
    with pytest.raises(FileExistsError):
        disk.create(home / "file")


def test_a_lock_is_one_processes(place: tuple[Disk, Path]) -> None:
    disk, home = place
    lock = disk.lock(home)
    with pytest.raises(BlockingIOError):
        disk.lock(home)
    disk.close(lock)
    disk.close(disk.lock(home))


def test_a_closed_handle_is_refused(place: tuple[Disk, Path]) -> None:
    disk, home = place
    file = disk.create(home / "file")
    disk.close(file)
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.close(file)


def test_salts_differ(place: tuple[Disk, Path]) -> None:
    disk, _ = place
    assert len({disk.salt() for _ in range(100)}) == 100


def test_put_file_closes_what_it_cannot_finish() -> None:
    for call in ("write_at", "sync", "rename", "sync_directory"):
        disk = SimulatedDisk()
        disk.make_directory(HOME)
        disk.fail(call)
        with pytest.raises(OSError, match="Input/output error"):
            put_file(disk, FILE, b"x")
        assert disk.calls["close"] == 1


# --- Power cuts --------------------------------------------------------------------------------


def test_put_file_leaves_nothing_of_a_file_that_has_no_room() -> None:
    disk, _ = disk_with(b"kept")
    disk.capacity = 100
    for content in (b"x" * 97, b"x" * 1000):
        with pytest.raises(NoRoomError, match="No space left"):
            put_file(disk, HOME / "other", content)
        assert disk.names(HOME) == ["file"]
    disk.fail("create", errno.ENOSPC)
    with pytest.raises(NoRoomError):
        put_file(disk, HOME / "other", b"")
    disk.close(put_file(disk, HOME / "other", b"x" * 96))
    disk.fail("sync", errno.ENOSPC)
    with pytest.raises(OSError, match="No space left") as error:
        put_file(disk, HOME / "third", b"")
    assert not isinstance(error.value, NoRoomError), "an fsync that fails is never harmless"


def test_short_writes_into_one_sector_reach_the_disk_in_their_order() -> None:
    """The cache holds the sector as a whole: no later write is kept without the earlier ones."""
    disk, file = disk_with(b"")
    disk.longest_write = 3
    write_all(disk, file, b"abcdefgh" * 100, 0)
    assert disk.pieces == 2
    left = {disk.survivors([Fate.CUT, Fate.LOST])[FILE] for _ in range(100)}
    assert len(left) > 10
    assert all((b"abcdefgh" * 100).startswith(content) for content in left)


def test_what_is_synced_survives_anything() -> None:
    for seed in range(50):
        disk = SimulatedDisk(seed)
        disk.make_directory(HOME)
        file = put_file(disk, FILE, b"safe" * 500)
        write_all(disk, file, b"not safe" * 300, 2000)
        disk.crash()
        assert disk.content(FILE)[:2000] == b"safe" * 500


def test_all_that_is_not_synced_may_be_lost() -> None:
    disk, file = disk_with(b"before")
    write_all(disk, file, b"AFTER!", 0)
    assert disk.read(file) == b"AFTER!"
    disk.crash([Fate.LOST])
    assert disk.content(FILE) == b"before"


def test_each_sector_of_a_write_has_its_own_fate() -> None:
    """Lost, reordered, torn: 2 sectors before the third, or only the last one."""
    disk, file = disk_with(b"")
    write_all(disk, file, b"a" * SECTOR + b"b" * SECTOR + b"c" * 10, 0)
    assert disk.pieces == 3
    a, b, c = b"a" * SECTOR, b"b" * SECTOR, b"c" * 10
    zeros = bytes(SECTOR)
    expected = {
        (0, 0, 0): b"",
        (0, 0, 1): zeros + zeros + c,
        (0, 1, 0): zeros + b,
        (0, 1, 1): zeros + b + c,
        (1, 0, 0): a,
        (1, 0, 1): a + zeros + c,
        (1, 1, 0): a + b,
        (1, 1, 1): a + b + c,
    }
    for kept in product((0, 1), repeat=3):
        fates = [Fate.KEPT if keep else Fate.LOST for keep in kept]
        assert disk.survivors(fates)[FILE] == expected[kept]


def test_a_write_is_cut_in_pieces_at_the_disks_sectors() -> None:
    disk, file = disk_with(b"-" * 500)
    write_all(disk, file, b"x" * 600, 500)
    assert disk.pieces == 3  # 500 to 512, to 1024, to 1100
    assert disk.survivors([Fate.LOST, Fate.KEPT, Fate.LOST])[FILE] == (
        b"-" * 500 + bytes(12) + b"x" * 512
    )


def test_a_garbled_sector_harms_only_what_is_being_written() -> None:
    disk, file = disk_with(b"-" * 100)
    write_all(disk, file, b"x" * 50, 100)
    survived = disk.survivors([Fate.GARBLED])[FILE]
    assert survived[:100] == b"-" * 100
    assert len(survived) == 150
    assert survived[100:] != b"x" * 50


def test_a_cut_sector_has_a_beginning() -> None:
    lengths = set()
    for seed in range(200):
        disk = SimulatedDisk(seed)
        disk.make_directory(HOME)
        file = put_file(disk, FILE, b"")
        write_all(disk, file, b"12345", 0)
        survived = disk.survivors([Fate.CUT])[FILE]
        assert b"12345".startswith(survived)
        lengths.add(len(survived))
    assert lengths == {0, 1, 2, 3, 4, 5}


def test_a_new_name_is_durable_when_its_directory_was_synced() -> None:
    """Even if the file itself was synced."""
    disk = SimulatedDisk()
    disk.make_directory(HOME)
    file = disk.create(FILE)
    write_all(disk, file, b"x", 0)
    disk.sync(file)
    assert disk.pieces == 1
    assert disk.survivors([Fate.LOST]) == {}
    assert disk.survivors([Fate.KEPT]) == {FILE: b"x"}
    disk.sync_directory(HOME)
    assert disk.survivors([]) == {FILE: b"x"}


def test_a_name_may_be_durable_before_its_bytes() -> None:
    disk = SimulatedDisk()
    disk.make_directory(HOME)
    write_all(disk, disk.create(FILE), b"x", 0)
    disk.sync_directory(HOME)
    assert disk.survivors([Fate.LOST]) == {FILE: b""}


def test_a_rename_happens_or_does_not() -> None:
    disk, _ = disk_with(b"old")
    new = disk.create(HOME / "new")
    write_all(disk, new, b"new", 0)
    disk.sync(new)
    disk.rename(HOME / "new", FILE)
    assert disk.survivors([Fate.LOST, Fate.LOST]) == {FILE: b"old"}
    assert disk.survivors([Fate.KEPT, Fate.LOST]) == {FILE: b"old", HOME / "new": b"new"}
    assert disk.survivors([Fate.LOST, Fate.KEPT]) == {FILE: b"new"}
    assert disk.survivors([Fate.KEPT, Fate.KEPT]) == {FILE: b"new"}


def test_a_removal_may_come_undone() -> None:
    disk, _ = disk_with(b"x")
    disk.remove(FILE)
    assert disk.names(HOME) == []
    assert disk.survivors([Fate.LOST]) == {FILE: b"x"}
    assert disk.survivors([Fate.KEPT]) == {}


def test_names_of_another_directory_are_not_synced() -> None:
    disk = SimulatedDisk()
    disk.make_directory(HOME / "other")
    disk.create(HOME / "other" / "file")
    disk.sync_directory(HOME)
    assert disk.survivors([Fate.LOST]) == {}


def test_a_crash_ends_the_process() -> None:
    disk, file = disk_with(b"x")
    disk.lock(HOME)
    disk.crash()
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.read(file)
    disk.lock(HOME)


def test_the_end_of_a_process_loses_nothing() -> None:
    disk, file = disk_with(b"before")
    disk.lock(HOME)
    write_all(disk, file, b"AFTER!", 0)
    disk.kill()
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.read(file)
    disk.lock(HOME)
    assert disk.content(FILE) == b"AFTER!"
    assert disk.survivors([Fate.LOST]) == {FILE: b"before"}


def test_chance_finds_every_kind_of_crash() -> None:
    """Nothing, everything, a beginning, a part that is no beginning, and rubbish."""
    seen = set()
    for seed in range(300):
        disk = SimulatedDisk(seed)
        disk.make_directory(HOME)
        file = put_file(disk, FILE, b"")
        write_all(disk, file, b"a" * SECTOR + b"b" * SECTOR + b"c" * SECTOR, 0)
        disk.crash()
        content = disk.content(FILE)
        if set(content) <= set(b"abc\0"):
            seen.add("".join("-abc"["abc".find(chr(b)) + 1] for b in content[::SECTOR]))
        else:
            seen.add("garbled")
    assert {"", "abc", "a", "ab", "-b", "--c", "a-c", "garbled"} <= seen


def test_the_power_fails_before_a_call_that_is_counted() -> None:
    disk, file = disk_with(b"")
    disk.calls_left = 2
    write_all(disk, file, b"1", 0)
    assert disk.read(file) == b"1"
    disk.sync(file)
    with pytest.raises(PowerCut):
        disk.write_at(file, b"2", 1)
    with pytest.raises(PowerCut):
        disk.read(file)
    disk.crash()
    assert disk.content(FILE) == b"1"
    assert disk.names(HOME) == ["file"]


# --- Faults ------------------------------------------------------------------------------------


def test_a_failed_sync_takes_for_written_what_is_not() -> None:
    """Linux marks the page clean and reports once; a second fsync says that all is well."""
    outcomes = set()
    for seed in range(20):
        disk = SimulatedDisk(seed)
        disk.make_directory(HOME)
        file = put_file(disk, FILE, b"")
        write_all(disk, file, b"x", 0)
        disk.fail("sync")
        with pytest.raises(OSError, match="Input/output error"):
            disk.sync(file)
        disk.sync(file)
        assert disk.read(file) == b"x"
        disk.crash()
        outcomes.add(disk.content(FILE))
    assert outcomes == {b"", b"x"}


def test_bytes_that_are_written_again_are_synced_again() -> None:
    disk, file = disk_with(b"")
    write_all(disk, file, b"x", 0)
    disk.fail("sync")
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync(file)
    write_all(disk, file, b"x", 0)
    disk.sync(file)
    disk.crash()
    assert disk.content(FILE) == b"x"


def test_after_a_failed_sync_of_names_the_disk_is_read_only() -> None:
    disk, file = disk_with(b"x")
    disk.remove(FILE)
    disk.fail("sync_directory")
    with pytest.raises(OSError, match="Input/output error"):
        disk.sync_directory(HOME)
    for change in (
        lambda: disk.write_at(file, b"y", 0),
        lambda: disk.sync(file),
        lambda: disk.create(HOME / "new"),
        lambda: disk.sync_directory(HOME),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()
    assert disk.read(file) == b"x"
    disk.crash([Fate.LOST])
    disk.remove(FILE)


def test_a_fault_comes_once_and_when_it_is_told_to() -> None:
    disk, file = disk_with(b"")
    disk.fail("write_at", errno.EDQUOT, after=2)
    disk.write_at(file, b"1", 0)
    disk.write_at(file, b"2", 1)
    with pytest.raises(OSError, match="quota"):
        disk.write_at(file, b"3", 2)
    disk.write_at(file, b"3", 2)
    assert disk.read(file) == b"123"


def test_a_full_disk_takes_what_fits() -> None:
    disk, file = disk_with(b"-" * 90)
    disk.capacity = 100
    assert disk.write_at(file, b"x" * 30, 80) == 20
    with pytest.raises(OSError, match="No space left on device"):
        disk.write_at(file, b"x", 100)
    assert disk.write_at(file, b"y" * 100, 0) == 100
    disk.capacity = None
    assert disk.write_at(file, b"x", 100) == 1


def test_a_write_may_be_short() -> None:
    disk, file = disk_with(b"")
    disk.longest_write = 3
    assert disk.write_at(file, b"12345", 0) == 3
    write_all(disk, file, b"12345", 0)
    assert disk.read(file) == b"12345"
    assert disk.calls["write_at"] == 3


def test_a_bit_is_flipped_where_it_is_told_to() -> None:
    disk, _ = disk_with(b"\x00\x00")
    disk.flip(FILE, 9)
    assert disk.content(FILE) == b"\x00\x02"
    disk.crash([])
    assert disk.content(FILE) == b"\x00\x02"


def test_one_seed_gives_one_disk() -> None:
    def life(seed: int) -> list[dict[Path, bytes]]:
        disk = SimulatedDisk(seed)
        disk.make_directory(HOME)
        states = []
        for number in range(10):
            file = disk.create(HOME / f"{number}{disk.salt()}")
            write_all(disk, file, b"x" * 2000, 0)
            disk.fail("sync")
            with pytest.raises(OSError, match="Input/output error"):
                disk.sync(file)
            write_all(disk, file, b"y" * 1500, 0)
            disk.crash()
            states.append({path: disk.content(path) for path in disk.paths()})
        return states

    assert life(3) == life(3)
    assert life(3) != life(4)
