"""The log on disk against damage, failing disks and other processes.

``test_wal_crashes.py`` has the power cuts.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import Recovered, StorageDamaged, StorageError, Wal, log_file, snapshot_file
from raft.storage.checksums import flip, flipped_bit
from raft.testing.disk import Fate, PowerCut, SimulatedDisk

ONE = ServerId(1)
HOME = Path("/data")
LOG = HOME / "raft.wal"
MEMBERS = Configuration((ONE, ServerId(2)), addresses=((ServerId(2), "127.0.0.1:7"),))
TAKEN = Snapshot(Index(2), Term(1), MEMBERS, b"the state after two entries")


def entry(term: int, data: bytes) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, data)


# A small life: votes, entries, a conflict that cuts entries 2 and 3, an empty command, a removal.
SAVES: list[tuple[HardState | None, int, list[Entry]]] = [
    (HardState(Term(1), ONE), 0, []),
    (None, 1, [Entry(Term(1), EntryKind.NOOP), entry(1, b"x=1")]),
    (None, 3, [entry(1, b"a longer command, of more than one word")]),
    (HardState(Term(2), ServerId(2)), 2, [entry(2, b"")]),
    (HardState(Term(3)), 0, []),
    (None, 3, []),
    (None, 3, [entry(3, b"y=2"), entry(3, b"z=3")]),
]


def life() -> tuple[bytes, list[Recovered], list[int]]:
    """Return a log file, what is stored after each of SAVES, and how long the file is then."""
    disk = SimulatedDisk()
    wal = Wal(HOME, "test", ONE, disk)
    states = [wal.load()]
    lengths = [len(disk.content(LOG))]
    for hard_state, first_index, entries in SAVES:
        wal.save(hard_state, Index(first_index), entries)
        log = states[-1].entries
        log = (*log[: first_index - 1], *entries) if first_index else log
        states.append(Recovered(hard_state or states[-1].hard_state, log))
        lengths.append(len(disk.content(LOG)))
    return disk.content(LOG), states, lengths


def recover(disk: SimulatedDisk) -> tuple[Recovered, int]:
    """Open the log as a new process would; return what it holds and how much was dropped."""
    disk.kill()
    wal = Wal(HOME, "test", ONE, disk)
    return wal.load(), wal.dropped_tail


def opened(disk: SimulatedDisk) -> Wal:
    disk.kill()
    wal = Wal(HOME, "test", ONE, disk)
    wal.load()
    return wal


# --- A torn tail -----------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", bytes(24), bytes(4096)], ids=["cut", "zeros", "page"])
def test_bugs_41_43_a_crash_at_any_byte_leaves_whole_batches(rest: bytes) -> None:
    """41: a torn tail. 43: a crash between cutting a conflict and appending what replaces it."""
    whole, states, lengths = life()
    for cut in range(lengths[0], len(whole)):
        torn = whole[:cut] + rest
        disk = SimulatedDisk(files={LOG: torn})
        complete = sum(cut >= length for length in lengths) - 1
        assert recover(disk) == (states[complete], len(torn) - lengths[complete]), f"at {cut}"
        assert recover(disk) == (states[complete], 0), "the tail is gone"


def test_the_log_goes_on_after_a_torn_tail() -> None:
    whole, states, lengths = life()
    disk = SimulatedDisk(files={LOG: whole[:-1]})
    wal = Wal(HOME, "test", ONE, disk)
    assert wal.load() == states[-2]
    assert wal.dropped_tail == len(whole) - 1 - lengths[-2]
    wal.save(None, Index(3), [entry(4, b"after")])
    recovered, _ = recover(disk)
    assert recovered.entries == (*states[-2].entries, entry(4, b"after"))


def test_a_torn_batch_of_any_size_is_no_damage() -> None:
    """Rubbish in a long batch: the search for a flipped bit ends, and finds none."""
    disk = SimulatedDisk(3)
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"kept")])
    disk.calls_left = 1
    with pytest.raises(PowerCut):
        wal.save(None, Index(2), [entry(1, os.urandom(70_000))])
    disk.crash([Fate.KEPT, *[Fate.GARBLED] * (disk.pieces - 1)])
    assert recover(disk)[0].entries == (entry(1, b"kept"),)


def test_what_only_looks_like_a_flipped_bit_is_no_damage() -> None:
    """The chain says that one bit is wrong; the other checksum knows that more are."""
    disk = SimulatedDisk()
    opened(disk).save(HardState(Term(1)), Index(1), [entry(1, b"x" * 40)])
    whole = bytearray(disk.content(LOG))
    generator = [1, *map(int, f"{0x04C11DB7:032b}")]
    pattern = sum(bit << place for place, bit in enumerate(generator)).to_bytes(5, "little")
    assert zlib.crc32(pattern, 0xFFFFFFFF) == zlib.crc32(bytes(5), 0xFFFFFFFF)
    for place, byte in enumerate(pattern):
        whole[-30 + place] ^= byte
    whole[-35] ^= 1
    assert recover(SimulatedDisk(files={LOG: bytes(whole)}))[0] == Recovered(HardState(), ())


def test_an_unfinished_creation_is_started_over() -> None:
    disk = SimulatedDisk(files={HOME / "raft.wal.tmp": b"half a hea"})
    assert recover(disk) == (Recovered(HardState(), ()), 0)
    assert disk.names(HOME) == ["raft.wal"]


# --- Damage ----------------------------------------------------------------------------------


def test_no_flipped_bit_is_believed_or_loses_a_batch() -> None:
    """Every single bit of a log, the last batch not excepted."""
    whole, _, _ = life()
    for bit in range(len(whole) * 8):
        damaged = flip(whole, bit)
        disk = SimulatedDisk(files={LOG: damaged})
        with pytest.raises(StorageDamaged, match=r"raft\.wal: damaged at byte \d+: "):
            recover(disk)
        assert disk.content(LOG) == damaged, "a refused file is evidence: left as it is"


def test_a_flipped_bit_in_the_last_batch_is_found() -> None:
    whole, _, lengths = life()
    for bit in range(lengths[-2] * 8, len(whole) * 8):
        with pytest.raises(StorageDamaged, match=f"at byte {bit // 8}: one bit is flipped"):
            recover(SimulatedDisk(files={LOG: flip(whole, bit)}))


def test_a_flipped_bit_is_found_by_the_checksum() -> None:
    data = bytes(range(256)) * 3
    checksum = zlib.crc32(data, 17)
    for bit in range(len(data) * 8):
        assert flipped_bit(checksum ^ zlib.crc32(flip(data, bit), 17), len(data)) == bit
    assert flipped_bit(0, len(data)) is None
    two = flip(flip(data, 5), 4000)
    assert flipped_bit(checksum ^ zlib.crc32(two, 17), len(data)) is None


def test_a_header_cut_short_is_damage() -> None:
    """The file gets its name after its first batch is durable: a crash cannot leave this."""
    whole, _, lengths = life()
    for cut in range(lengths[0]):
        with pytest.raises(StorageDamaged, match=r"raft\.wal: damaged at byte \d+: "):
            recover(SimulatedDisk(files={LOG: whole[:cut]}))


def test_rubbish_in_the_first_batch_is_damage() -> None:
    """However bad, and though nothing comes after it: it was there when the file got its name."""
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(HardState(Term(7), ONE), Index(1), [entry(1, b"x" * 100)])
    assert recover(disk)[0].hard_state == HardState(Term(7), ONE)
    whole = disk.content(LOG)
    with pytest.raises(StorageDamaged, match="the batch's checksum does not match it"):
        recover(SimulatedDisk(files={LOG: whole[:-60] + bytes(60)}))


def test_a_lost_sector_in_the_middle_is_damage() -> None:
    whole, _, lengths = life()
    lost = whole[: lengths[2]] + bytes(lengths[3] - lengths[2]) + whole[lengths[3] :]
    with pytest.raises(StorageDamaged, match=f"at byte {lengths[2]}: no batch starts here"):
        recover(SimulatedDisk(files={LOG: lost}))


def test_a_batch_in_the_place_of_another_is_damage() -> None:
    whole, _, lengths = life()
    size = lengths[1] - lengths[0]
    assert lengths[5] - lengths[4] == size
    moved = whole[: lengths[4]] + whole[lengths[0] : lengths[1]] + whole[lengths[5] :]
    with pytest.raises(StorageDamaged, match=f"at byte {lengths[4]}: no batch starts here"):
        recover(SimulatedDisk(files={LOG: moved}))


def test_a_batch_of_another_history_is_damage() -> None:
    """Whole, in its own place, but not written behind these batches: a sector of the past."""
    disk = SimulatedDisk()
    wal = opened(disk)
    start = len(disk.content(LOG))
    wal.save(HardState(Term(1), ONE), Index(0), [])
    end = len(disk.content(LOG))
    wal.save(HardState(Term(3), ONE), Index(0), [])
    whole = disk.content(LOG)
    _, raw = log_file.decode_header(whole)
    past, _ = log_file.encode_batch(
        start, HardState(Term(2), ONE), Index(0), [], log_file.seed_of(raw), 99
    )
    assert len(past) == end - start
    with pytest.raises(StorageDamaged, match=f"at byte {start}: the batch's checksum"):
        recover(SimulatedDisk(files={LOG: whole[:start] + past + whole[end:]}))


def test_batches_of_another_log_are_not_believed() -> None:
    """The salt: what a client stores, be it a copy of a log, never looks like a batch."""
    other, _, lengths = life()
    disk = SimulatedDisk(1)
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, other[lengths[0] :] * 2)])
    torn = disk.content(LOG)[:-8]
    assert recover(SimulatedDisk(files={LOG: torn}))[0] == Recovered(HardState(), ())


def test_no_two_files_have_the_same_salt() -> None:
    """Blocks of an older file, which the disk uses again, are nothing that was written here."""
    disk = SimulatedDisk()
    salts = set()
    for _ in range(10):
        recover(disk)
        salts.add(log_file.decode_header(disk.content(LOG))[0].salt)
    assert len(salts) == 10


def test_a_length_beyond_the_file_allocates_nothing() -> None:
    """A whole head whose entries the crash lost: the bytes of a whole disk are not there."""
    whole, states, _ = life()
    _, raw = log_file.decode_header(whole)
    head = log_file._HEAD.pack(len(whole), 5, 0, 0, 2**40, 1, 0) + bytes(4)
    head += log_file._CHECK.pack(zlib.crc32(head, log_file.seed_of(raw)))
    disk = SimulatedDisk(files={LOG: whole + head})
    assert recover(disk) == (states[-1], log_file.BATCH_HEAD)


@pytest.mark.parametrize(
    ("count", "body", "what"),
    [
        (9, b"\0" * 26, "9 entries do not fit into 26 bytes"),
        (1, log_file._ENTRY.pack(1, 5, 1) + b"1234", "the sizes of the entries do not add up"),
        (1, log_file._ENTRY.pack(1, 0, 77), "an entry is of the unknown kind 77"),
    ],
)
def test_entries_that_make_no_sense_are_damage(count: int, body: bytes, what: str) -> None:
    """Written by another program: every checksum is right."""
    whole, _, _ = life()
    _, raw = log_file.decode_header(whole)
    seed = log_file.seed_of(raw)
    chain = list(log_file.Reader(whole, len(raw), seed).batches())[-1].chain
    padded = body + b"\xff" * (8 - len(body) % 8)
    head = log_file._HEAD.pack(len(whole), 5, 0, 0, len(body), count, zlib.adler32(padded))
    head += log_file._CHECK.pack(zlib.crc32(padded, zlib.crc32(head, chain)))
    head += log_file._CHECK.pack(zlib.crc32(head, seed))
    with pytest.raises(StorageDamaged, match=what):
        recover(SimulatedDisk(files={LOG: whole + head + padded}))


def test_a_gap_in_the_file_is_damage() -> None:
    whole, _, _ = life()
    _, raw = log_file.decode_header(whole)
    seed = log_file.seed_of(raw)
    chain = list(log_file.Reader(whole, len(raw), seed).batches())[-1].chain
    batch, _ = log_file.encode_batch(len(whole), None, Index(9), [entry(3, b"")], seed, chain)
    with pytest.raises(StorageDamaged, match=f"byte {len(whole)}: entry 9 cannot follow entry 4"):
        recover(SimulatedDisk(files={LOG: whole + batch}))


def test_a_foreign_file_is_refused() -> None:
    disk = SimulatedDisk(files={LOG: b"%PDF-1.7 something else altogether, long enough"})
    with pytest.raises(StorageDamaged, match="byte 0: this is not a log of raft"):
        recover(disk)


def test_another_version_is_refused() -> None:
    header = log_file.encode_header(log_file.Header("test", ONE, 1, version=9))
    with pytest.raises(StorageError, match="format version 9; this program reads 2"):
        recover(SimulatedDisk(files={LOG: header}))


# --- Snapshots -------------------------------------------------------------------------------


def with_snapshot(taken: Snapshot = TAKEN) -> SimulatedDisk:
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(HardState(Term(1), ONE), Index(1), [entry(1, b"1"), entry(1, b"2"), entry(1, b"3")])
    wal.save(None, Index(0), [], taken)
    disk.kill()
    return disk


def test_a_snapshot_is_the_only_one() -> None:
    disk = with_snapshot()
    wal = opened(disk)
    wal.save(None, Index(0), [], Snapshot(Index(3), Term(1), MEMBERS, b"three"))
    assert sorted(disk.names(HOME)) == ["raft.wal", "snapshot-3"]


@pytest.mark.parametrize("size", [0, 1, 27, 70_000])
def test_no_flipped_bit_in_a_snapshot_is_believed(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    disk = with_snapshot(Snapshot(Index(2), Term(1), MEMBERS, data))
    path = HOME / "snapshot-2"
    whole = disk.content(path)
    files = {LOG: disk.content(LOG)}
    header = len(whole) - size
    bits = (
        range(len(whole) * 8) if size < 100 else [*range(header * 8), *range(9999, size * 8, 9999)]
    )
    for bit in bits:
        damaged = SimulatedDisk(files={**files, path: flip(whole, bit)})
        with pytest.raises(StorageDamaged, match=r"snapshot-2: damaged at byte \d+: "):
            recover(damaged)
        assert damaged.content(path) == flip(whole, bit)


def test_damage_in_a_snapshot_is_located() -> None:
    chunk = snapshot_file.CHUNK
    disk = with_snapshot(Snapshot(Index(2), Term(1), MEMBERS, bytes(3 * chunk)))
    path = HOME / "snapshot-2"
    start = len(disk.content(path)) - 3 * chunk
    disk.flip(path, (start + 2 * chunk - 1) * 8)
    with pytest.raises(
        StorageDamaged, match=f"at byte {start + chunk}: the checksum of the {chunk}"
    ):
        recover(disk)


def test_a_snapshot_of_another_length_is_damage() -> None:
    disk = with_snapshot()
    path = HOME / "snapshot-2"
    whole, files = disk.content(path), {LOG: disk.content(LOG)}
    for cut in range(len(whole)):
        with pytest.raises(StorageDamaged, match=r"snapshot-2: damaged at byte \d+: "):
            recover(SimulatedDisk(files={**files, path: whole[:cut]}))
    with pytest.raises(StorageDamaged, match="byte 171: the data has 28 bytes and should have 27"):
        recover(SimulatedDisk(files={**files, path: whole + b"!"}))


def test_a_snapshot_that_is_not_there_is_damage() -> None:
    disk = with_snapshot()
    disk.remove(HOME / "snapshot-2")
    with pytest.raises(StorageDamaged, match=r"snapshot-2: missing, though .*raft\.wal continues"):
        recover(disk)


def test_another_snapshot_is_damage() -> None:
    """Whole, of the same index, but not the one whose entries the log has dropped."""
    disk = with_snapshot()
    other = with_snapshot(Snapshot(Index(2), Term(1), MEMBERS, b"of another server's"))
    files = {LOG: disk.content(LOG), HOME / "snapshot-2": other.content(HOME / "snapshot-2")}
    with pytest.raises(StorageDamaged, match="this is another snapshot than the log continues"):
        recover(SimulatedDisk(files=files))


def test_a_log_that_is_not_there_beside_its_snapshot_is_damage() -> None:
    """No crash leaves this; to begin anew would forget the vote and all entries."""
    disk = with_snapshot()
    disk.remove(LOG)
    with pytest.raises(StorageDamaged, match=r"raft\.wal: missing, though there is a snapshot"):
        recover(disk)


@pytest.mark.parametrize("name", ["raft.wal.tmp", "snapshot-9.tmp", "snapshot-9", "snapshot-1"])
def test_what_a_crash_left_behind_is_removed(name: str) -> None:
    disk = with_snapshot()
    files = {path: disk.content(path) for path in disk.paths()}
    disk = SimulatedDisk(files={**files, HOME / name: b"rubbish"})
    assert recover(disk)[0].snapshot == TAKEN
    assert sorted(disk.names(HOME)) == ["raft.wal", "snapshot-2"]


def test_a_foreign_or_newer_snapshot_is_refused() -> None:
    disk = with_snapshot()
    files, path = {LOG: disk.content(LOG)}, HOME / "snapshot-2"
    with pytest.raises(StorageDamaged, match="byte 0: this is not a snapshot of raft"):
        recover(SimulatedDisk(files={**files, path: b"%PDF-1.7" + bytes(200)}))


# --- A disk that fails -----------------------------------------------------------------------


def test_bug_41_an_fsync_error_is_final() -> None:
    """A second fsync would say that all is well, and the bytes be gone."""
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"kept")])
    disk.fail("sync")
    with pytest.raises(StorageError, match=r"raft\.wal: Input/output error"):
        wal.save(HardState(Term(2)), Index(0), [])
    syncs = disk.calls["sync"]
    with pytest.raises(StorageError, match="failed before: Input/output error"):
        wal.save(HardState(Term(3)), Index(0), [])
    assert disk.calls["sync"] == syncs


def test_bug_41_what_an_fsync_left_in_the_cache_is_written_again_at_open() -> None:
    """The next process reads it there, believes it and promises it; no fsync would write it."""
    for seed in range(20):
        disk = SimulatedDisk(seed)
        wal = opened(disk)
        disk.fail("sync")
        with pytest.raises(StorageError):
            wal.save(HardState(Term(2), ONE), Index(0), [])
        promised, _ = recover(disk)
        assert promised.hard_state == HardState(Term(2), ONE)
        disk.crash()
        assert recover(disk) == (promised, 0)


def test_a_full_disk_is_final_and_loses_nothing() -> None:
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"kept")])
    disk.capacity = len(disk.content(LOG)) + 100
    with pytest.raises(StorageError, match=r"raft\.wal: No space left on device"):
        wal.save(None, Index(2), [entry(1, b"never" * 100)])
    disk.capacity = None
    with pytest.raises(StorageError, match="failed before: "):
        wal.save(None, Index(2), [entry(1, b"again")])
    recovered, dropped = recover(disk)
    assert recovered.entries == (entry(1, b"kept"),)
    assert dropped == 100


def test_a_disk_too_full_to_open_is_refused_and_loses_nothing() -> None:
    disk = with_snapshot()
    disk.capacity = 0
    with pytest.raises(StorageError, match=r"No space left on device"):
        recover(disk)
    disk.capacity = None
    assert recover(disk)[0].entries == (entry(1, b"3"),)


def test_short_writes_are_completed() -> None:
    disk = SimulatedDisk()
    disk.longest_write = 7
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"a command in small pieces")])
    wal.save(None, Index(0), [], Snapshot(Index(1), Term(1), MEMBERS, b"in small pieces"))
    assert recover(disk)[0].snapshot == Snapshot(Index(1), Term(1), MEMBERS, b"in small pieces")


def test_save_before_load_and_after_close_is_refused() -> None:
    disk = SimulatedDisk()
    wal = Wal(HOME, "test", ONE, disk)
    with pytest.raises(StorageError, match="load it first"):
        wal.save(HardState(Term(1)), Index(0), [])
    wal.load()
    wal.close()
    wal.close()
    with pytest.raises(StorageError, match="it is closed"):
        wal.save(HardState(Term(1)), Index(0), [])


def test_every_save_is_one_write_and_one_sync() -> None:
    disk = SimulatedDisk()
    wal = opened(disk)
    disk.calls.clear()
    wal.save(HardState(Term(1), ONE), Index(1), [entry(1, b"a"), entry(1, b"b")])
    assert disk.calls == {"write_at": 1, "sync": 1}
    assert disk.pieces == 0
    wal.save(None, Index(0), [])
    assert disk.calls == {"write_at": 1, "sync": 1}, "nothing to save"


def test_no_handle_is_left_open() -> None:
    disk = with_snapshot()
    wal = opened(disk)
    wal.save(None, Index(0), [], Snapshot(Index(3), Term(1), MEMBERS, b"three"))
    wal.close()
    assert disk._open == {}
    assert disk._locks == {}


# --- Whose log it is -------------------------------------------------------------------------


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "deep" / "data", "test", ONE)
    wal.load()
    wal.save(None, Index(1), [entry(1, b"secret")])
    wal.save(None, Index(0), [], Snapshot(Index(1), Term(1), MEMBERS, b"secret"))
    for name in ("raft.wal", "snapshot-1"):
        assert wal.path.with_name(name).stat().st_mode & 0o777 == 0o600
    assert wal.path.parent.stat().st_mode & 0o777 == 0o700
    wal.close()


@pytest.mark.parametrize(("cluster", "server"), [("test", 2), ("other", 1)])
def test_another_owner_is_refused(cluster: str, server: int) -> None:
    disk = SimulatedDisk(files={LOG: life()[0]})
    wal = Wal(HOME, cluster, ServerId(server), disk)
    with pytest.raises(
        StorageError,
        match=rf"belongs to server 1 of cluster 'test', not to server {server} of .*{cluster}",
    ):
        wal.load()
    assert disk.content(LOG) == life()[0]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    wal = Wal(tmp_path, "test", ONE)
    program = (
        "import sys; from raft.storage import Wal, StorageError\n"
        "try: Wal(sys.argv[1], 'test', 1)\n"
        "except StorageError as error: print(error)\n"
        "else: print('opened')"
    )

    def try_to_open() -> str:
        command = [sys.executable, "-c", program, str(tmp_path)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert "in use by another process" in try_to_open()
    wal.close()
    assert try_to_open() == "opened\n"


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Wal(tmp_path / "file" / "data", "test", ONE)


@pytest.mark.skipif(sys.platform == "darwin", reason="fsync is another call there")
def test_the_real_disk_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wal = Wal(tmp_path, "test", ONE)
    wal.load()

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageError, match=r"raft\.wal: Input/output error"):
            wal.save(HardState(Term(2)), Index(0), [])
    wal.close()


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StorageError, match=r"/data is not a directory$"):
        Wal(tmp_path / "data", "test", ONE)
