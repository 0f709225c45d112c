"""The log on disk against crashes, damage, failing disks and other processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from raft.core.log import HardState
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import Recovered, StorageDamaged, StorageError, Wal, records
from raft.storage.records import RECORD_HEAD

ONE = ServerId(1)


def entry(term: int, data: bytes) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, data)


# A small life: votes, entries, a conflict that cuts entries 2 and 3, an empty command.
SAVES: list[tuple[HardState | None, int, list[Entry]]] = [
    (HardState(Term(1), ONE), 0, []),
    (None, 1, [Entry(Term(1), EntryKind.NOOP), entry(1, b"x=1")]),
    (None, 3, [entry(1, b"a longer command, of more than one word")]),
    (HardState(Term(2), ServerId(2)), 2, [entry(2, b"")]),
    (HardState(Term(3)), 0, []),
    (None, 3, [entry(3, b"y=2"), entry(3, b"z=3")]),
]


def write_life(directory: Path) -> tuple[list[Recovered], list[int]]:
    """Write SAVES; return what is stored after each, and how long the file is then."""
    wal = Wal(directory, "test", ONE)
    states = [wal.load()]
    lengths = [wal.path.stat().st_size]
    for hard_state, first_index, entries in SAVES:
        wal.save(hard_state, Index(first_index), entries)
        log = states[-1].entries
        log = (*log[: first_index - 1], *entries) if entries else log
        states.append(Recovered(hard_state or states[-1].hard_state, log))
        lengths.append(wal.path.stat().st_size)
    wal.close()
    return states, lengths


def recover(directory: Path) -> tuple[Recovered, int]:
    wal = Wal(directory, "test", ONE)
    try:
        return wal.load(), wal.dropped_tail
    finally:
        wal.close()


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[Wal]:
    wal = Wal(tmp_path, "test", ONE)
    wal.load()
    yield wal
    wal.close()


# --- Crashes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", bytes(24), bytes(4096)], ids=["cut", "zeros", "page"])
def test_bugs_41_43_a_crash_at_any_byte_leaves_whole_batches(tmp_path: Path, rest: bytes) -> None:
    """41: a torn tail. 43: a crash between cutting a conflict and appending what replaces it."""
    states, lengths = write_life(tmp_path)
    path = tmp_path / "raft.wal"
    whole = path.read_bytes()
    for cut in range(lengths[0], len(whole)):
        path.write_bytes(whole[:cut] + rest)
        acknowledged = sum(length <= cut for length in lengths) - 1
        recovered, dropped = recover(tmp_path)
        # A batch whose first commit marker is whole may be kept: it was written completely.
        complete = acknowledged + (cut >= lengths[acknowledged + 1] - RECORD_HEAD)
        assert recovered == states[complete], f"cut at {cut}"
        assert dropped == (max(0, cut + len(rest) - lengths[complete])), f"cut at {cut}"
        assert path.read_bytes() == whole[: lengths[complete]]
        assert recover(tmp_path) == (recovered, 0), "opening twice gives the same"


def test_the_log_goes_on_after_a_torn_tail(tmp_path: Path) -> None:
    states, lengths = write_life(tmp_path)
    os.truncate(tmp_path / "raft.wal", lengths[-1] - RECORD_HEAD - 1)
    wal = Wal(tmp_path, "test", ONE)
    assert wal.load() == states[-2]
    assert wal.dropped_tail == lengths[-1] - RECORD_HEAD - 1 - lengths[-2]
    wal.save(None, Index(3), [entry(4, b"after")])
    wal.close()
    recovered, _ = recover(tmp_path)
    assert recovered.entries == (*states[-2].entries, entry(4, b"after"))


def test_a_header_cut_short_is_damage(tmp_path: Path) -> None:
    """The file gets its name after its header is durable: a crash cannot leave this."""
    _, lengths = write_life(tmp_path)
    path = tmp_path / "raft.wal"
    whole = path.read_bytes()
    for cut in range(lengths[0]):
        path.write_bytes(whole[:cut])
        with pytest.raises(StorageDamaged, match=r"raft\.wal: damaged at byte \d+: "):
            recover(tmp_path)


def test_an_unfinished_creation_is_started_over(tmp_path: Path) -> None:
    (tmp_path / "raft.wal.tmp").write_bytes(b"half a hea")
    assert recover(tmp_path) == (Recovered(HardState(), ()), 0)
    assert os.listdir(tmp_path) == ["raft.wal"]


# --- Damage ----------------------------------------------------------------------------------


def test_no_flipped_bit_is_believed_or_loses_a_batch(tmp_path: Path) -> None:
    """Every single bit: refused, or (in the last commit marker's copy) harmless."""
    states, lengths = write_life(tmp_path)
    path = tmp_path / "raft.wal"
    whole = path.read_bytes()
    harmless = 0
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        if bit // 8 < lengths[-1] - RECORD_HEAD:
            with pytest.raises(StorageDamaged, match=r"raft\.wal: damaged at byte \d+: "):
                recover(tmp_path)
            assert path.read_bytes() == damaged, "a refused file is evidence: left as it is"
        else:
            harmless += 1
            assert recover(tmp_path) == (states[-1], 0)
            assert path.read_bytes() == whole
    assert harmless == RECORD_HEAD * 8


def test_a_lost_sector_in_the_middle_is_damage(tmp_path: Path) -> None:
    _, lengths = write_life(tmp_path)
    path = tmp_path / "raft.wal"
    whole = path.read_bytes()
    path.write_bytes(whole[: lengths[2]] + bytes(lengths[3] - lengths[2]) + whole[lengths[3] :])
    with pytest.raises(StorageDamaged, match=f"at byte {lengths[2]}: no record starts here"):
        recover(tmp_path)


def test_a_batch_moved_to_another_place_is_damage(tmp_path: Path) -> None:
    _, lengths = write_life(tmp_path)
    path = tmp_path / "raft.wal"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[lengths[1] : lengths[2]])
    with pytest.raises(StorageDamaged, match=f"at byte {lengths[-1]}: .*belongs elsewhere"):
        recover(tmp_path)


def test_records_of_another_log_are_not_believed(tmp_path: Path) -> None:
    """The salt: what a client stores, be it a copy of a log, never looks like a record."""
    _, lengths = write_life(tmp_path / "other")
    records = (tmp_path / "other" / "raft.wal").read_bytes()[lengths[0] :]
    wal = Wal(tmp_path, "test", ONE)
    wal.load()
    wal.save(None, Index(1), [entry(1, records * 2)])
    size = wal.path.stat().st_size
    wal.close()
    os.truncate(wal.path, size - 2 * RECORD_HEAD - 8)
    assert recover(tmp_path)[0] == Recovered(HardState(), ())


def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    """A whole head whose payload the crash lost: four thousand million bytes are not there."""
    states, _ = write_life(tmp_path)
    path = tmp_path / "raft.wal"
    header, raw = records.decode_header(path.read_bytes())
    assert header.server == ONE
    head = records._HEAD.pack(2**32 - 1, records.RecordType.ENTRY, 1, 0, 5, 3)
    checks = records._CHECKS.pack(zlib.crc32(head, records.seed_of(raw)), 0)
    path.write_bytes(path.read_bytes() + head + checks)
    assert recover(tmp_path) == (states[-1], RECORD_HEAD)


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raft.wal").write_bytes(b"%PDF-1.7 something else altogether, long enough")
    with pytest.raises(StorageDamaged, match="byte 0: this is not a log of raft"):
        recover(tmp_path)


# --- A disk that fails -----------------------------------------------------------------------


def failing(*_: object) -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.skipif(sys.platform == "darwin", reason="fsync is another call there")
def test_bug_41_an_fsync_error_is_final(wal: Wal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second fsync would say that all is well, and the bytes be gone."""
    wal.save(None, Index(1), [entry(1, b"kept")])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(StorageError, match=r"raft\.wal: Input/output error"):
            wal.save(HardState(Term(2)), Index(0), [])
    with pytest.raises(StorageError, match="failed before: "):
        wal.save(HardState(Term(3)), Index(0), [])


def test_a_full_disk_is_final_and_loses_nothing(
    wal: Wal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wal.save(None, Index(1), [entry(1, b"kept")])
    write = os.pwrite

    def little_room(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:40], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", little_room)
        with pytest.raises(StorageError, match="No space left on device"):
            wal.save(None, Index(2), [entry(1, b"never")])
    with pytest.raises(StorageError, match="failed before: "):
        wal.save(None, Index(2), [entry(1, b"again")])
    wal.close()
    recovered, dropped = recover(tmp_path)
    assert recovered.entries == (entry(1, b"kept"),)
    assert dropped > 0


def test_short_writes_are_completed(
    wal: Wal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda file, data, at: write(file, data[:7], at))
        wal.save(None, Index(1), [entry(1, b"a command in small pieces")])
    wal.close()
    assert recover(tmp_path)[0].entries == (entry(1, b"a command in small pieces"),)


def test_the_last_batch_is_written_again_at_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fsync may have failed in the last process, with the bytes only in the page cache."""
    _, lengths = write_life(tmp_path)
    written: list[tuple[int, int]] = []
    synced_after: list[int] = []
    write, sync = os.pwrite, os.fsync

    def recording_write(file: int, data: bytes, at: int) -> int:
        written.append((at, len(data)))
        return write(file, data, at)

    def recording_sync(file: int) -> None:
        synced_after.append(len(written))
        sync(file)

    monkeypatch.setattr(os, "pwrite", recording_write)
    monkeypatch.setattr(os, "fsync", recording_sync)
    recover(tmp_path)
    assert written == [(lengths[-2], lengths[-1] - lengths[-2])]
    assert 1 in synced_after


def test_save_before_load_and_after_close_is_refused(tmp_path: Path) -> None:
    wal = Wal(tmp_path, "test", ONE)
    with pytest.raises(StorageError, match="load it first"):
        wal.save(HardState(Term(1)), Index(0), [])
    wal.load()
    wal.close()
    wal.close()
    with pytest.raises(StorageError, match="it is closed"):
        wal.save(HardState(Term(1)), Index(0), [])


@pytest.mark.skipif(sys.platform == "darwin", reason="fsync is another call there")
def test_every_save_is_synced_before_it_returns(wal: Wal, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    write, sync = os.pwrite, os.fsync

    def recording_write(file: int, data: bytes, at: int) -> int:
        calls.append("write")
        return write(file, data, at)

    def recording_sync(file: int) -> None:
        calls.append("sync")
        sync(file)

    monkeypatch.setattr(os, "pwrite", recording_write)
    monkeypatch.setattr(os, "fsync", recording_sync)
    wal.save(HardState(Term(1), ONE), Index(1), [entry(1, b"a"), entry(1, b"b")])
    assert calls == ["write", "sync"]


# --- Whose log it is -------------------------------------------------------------------------


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    wal = Wal(tmp_path / "deep" / "data", "test", ONE)
    assert wal.path.stat().st_mode & 0o777 == 0o600
    assert wal.path.parent.stat().st_mode & 0o777 == 0o700
    wal.close()


@pytest.mark.parametrize(("cluster", "server"), [("test", 2), ("other", 1)])
def test_another_owner_is_refused(tmp_path: Path, cluster: str, server: int) -> None:
    write_life(tmp_path)
    wal = Wal(tmp_path, cluster, ServerId(server))
    with pytest.raises(
        StorageError,
        match=rf"belongs to server 1 of cluster 'test', not to server {server} of .*{cluster}",
    ):
        wal.load()
    wal.close()


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


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StorageError, match=r"/data is not a directory$"):
        Wal(tmp_path / "data", "test", ONE)
