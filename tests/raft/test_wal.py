"""The log on disk against damage, failing disks and other processes.

``test_wal_crashes.py`` has the power cuts.
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import (
    Recovered,
    StorageDamaged,
    StorageError,
    StorageFull,
    Wal,
    log_file,
    snapshot_file,
)
from raft.storage.checksums import flip, flipped_bit
from raft.storage.log_file import used_bytes
from raft.storage.reading import numbers
from raft.storage.vote_file import decode_file
from raft.testing.disk import Fate, PowerCut, SimulatedDisk

ONE = ServerId(1)
HOME = Path("/data")
LOG, VOTE = HOME / "log-1", HOME / "vote"
ROOM = 2048
"""Bytes of a segment: small, as the disk of a test copies it often."""
MEMBERS = Configuration((ONE, ServerId(2)), addresses=((ServerId(2), "127.0.0.1:7"),))
TAKEN = Snapshot(Index(2), Term(1), MEMBERS, b"the state after two entries")


def row(term: int, size: int, kind: int) -> bytes:
    """Return what a batch of one entry says of it."""
    return struct.pack("<QIB", term, size, kind)


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


def new(disk: SimulatedDisk, **options: Any) -> Wal:
    """Return the log of a new process."""
    disk.kill()
    return Wal(HOME, "test", ONE, disk, **{"segment_bytes": ROOM, **options})


def written(disk: SimulatedDisk, path: Path = LOG) -> bytes:
    """Return a segment up to the zeros at its end."""
    content = disk.content(path)
    return content[: used_bytes(content, 0)]


@cache
def votes() -> list[bytes]:
    """Return the vote file after each of SAVES."""
    disk = SimulatedDisk()
    wal = new(disk)
    wal.load()
    files = [disk.content(VOTE)]
    for hard_state, first_index, entries in SAVES:
        wal.save(hard_state, Index(first_index), entries)
        files.append(disk.content(VOTE))
    return files


def holding(log: bytes, saves: int = -1) -> SimulatedDisk:
    """Return a disk with this segment, and the vote file after so many of SAVES (-1: all)."""
    return SimulatedDisk(files={LOG: log.ljust(ROOM, b"\0"), VOTE: votes()[saves]})


@cache
def life() -> tuple[bytes, list[Recovered], list[int]]:
    """Return a segment, what is stored after each of SAVES, and how much of it is used then."""
    disk = SimulatedDisk()
    wal = new(disk)
    states = [wal.load()]
    lengths = [len(written(disk))]
    for hard_state, first_index, entries in SAVES:
        wal.save(hard_state, Index(first_index), entries)
        log = states[-1].entries
        log = (*log[: first_index - 1], *entries) if first_index else log
        states.append(Recovered(hard_state or states[-1].hard_state, log))
        lengths.append(len(written(disk)))
    return written(disk), states, lengths


def recover(disk: SimulatedDisk) -> tuple[Recovered, int]:
    """Open the log as a new process would; return what it holds and how much was dropped."""
    wal = new(disk)
    return wal.load(), wal.dropped_tail


def opened(disk: SimulatedDisk) -> Wal:
    wal = new(disk)
    wal.load()
    return wal


# --- A torn tail -----------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", bytes(4096)], ids=["as made", "longer"])
def test_bugs_41_43_a_crash_at_any_byte_leaves_whole_batches(rest: bytes) -> None:
    """41: a torn tail. 43: a crash between cutting a conflict and appending what replaces it."""
    whole, states, lengths = life()
    for cut in range(lengths[0], len(whole)):
        torn = whole[:cut] + rest
        complete = sum(cut >= length for length in lengths) - 1
        disk = holding(torn, complete)
        used = used_bytes(torn, lengths[complete])
        assert recover(disk) == (states[complete], used), f"at {cut}"
        assert recover(disk) == (states[complete], 0), "the tail is gone"


def test_the_log_goes_on_after_a_torn_tail() -> None:
    whole, states, lengths = life()
    disk = holding(whole[:-1], -2)
    wal = new(disk)
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
    whole = bytearray(written(disk))
    generator = [1, *map(int, f"{0x04C11DB7:032b}")]
    pattern = sum(bit << place for place, bit in enumerate(generator)).to_bytes(5, "little")
    assert zlib.crc32(pattern, 0xFFFFFFFF) == zlib.crc32(bytes(5), 0xFFFFFFFF)
    for place, byte in enumerate(pattern):
        whole[-30 + place] ^= byte
    whole[-35] ^= 1
    assert recover(holding(bytes(whole), 0))[0] == Recovered(HardState(), ())


def test_an_unfinished_creation_is_started_over() -> None:
    disk = SimulatedDisk(files={HOME / "log-1.tmp": b"half a hea"})
    assert recover(disk) == (Recovered(HardState(), ()), 0)
    assert disk.names(HOME) == ["log-1", "vote"]


# --- Damage ----------------------------------------------------------------------------------


def test_no_flipped_bit_is_believed_or_loses_a_batch() -> None:
    """Every single bit of a log, the last batch not excepted."""
    whole, states, _ = life()
    for bit in range((len(whole) + 8) * 8):
        damaged = flip(whole + bytes(8), bit)
        disk = holding(damaged)
        if bit >= len(whole) * 8:
            assert recover(disk)[0] == states[-1], "nothing was written there"
            continue
        with pytest.raises(StorageDamaged, match=r"log-1: damaged at byte \d+: "):
            recover(disk)
        assert disk.content(LOG) == damaged.ljust(ROOM, b"\0"), "evidence: left as it is"


def test_a_flipped_bit_in_the_last_batch_is_found() -> None:
    whole, _, lengths = life()
    for bit in range(lengths[-2] * 8, len(whole) * 8):
        with pytest.raises(StorageDamaged, match=f"at byte {bit // 8}: one bit is flipped"):
            recover(holding(flip(whole, bit)))


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
        with pytest.raises(StorageDamaged, match=r"log-1: damaged at byte \d+: "):
            recover(holding(whole[:cut]))


def test_a_file_cut_short_is_damage() -> None:
    """It was made with all its zeros: what is gone may have held batches."""
    whole, _, lengths = life()
    for cut in (lengths[2], lengths[-1], ROOM - 1):
        file = whole.ljust(ROOM, b"\0")[:cut]
        with pytest.raises(StorageDamaged, match=f"at byte {cut}: the file ends here; it was made"):
            recover(SimulatedDisk(files={LOG: file, VOTE: votes()[-1]}))


def test_zeros_in_the_place_of_a_term_that_the_vote_file_knows_are_damage() -> None:
    """The log said the older copy's term before the newer copy was written."""
    whole, states, lengths = life()
    votes_given = [number for number, save in enumerate(SAVES) if save[0] is not None]
    assert votes_given == [0, 3, 4]
    with pytest.raises(
        StorageDamaged, match=f"at byte {lengths[3]}: the log ends here, though it once"
    ):
        recover(holding(whole[: lengths[3]]))
    assert recover(holding(whole[: lengths[4]]))[0].entries == states[4].entries, "a crash, perhaps"


def test_rubbish_in_the_first_batch_is_damage() -> None:
    """However bad, and though nothing comes after it: it was there when the file got its name."""
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(HardState(Term(7), ONE), Index(1), [entry(1, b"x" * 100)])
    assert recover(disk)[0].hard_state == HardState(Term(7), ONE)
    whole = written(disk, HOME / "log-2")
    damaged = SimulatedDisk(files={HOME / "log-2": whole[:-60], VOTE: disk.content(VOTE)})
    with pytest.raises(StorageDamaged, match="the batch's checksum does not match it"):
        recover(damaged)


def test_a_lost_sector_in_the_middle_is_damage() -> None:
    whole, _, lengths = life()
    lost = whole[: lengths[2]] + bytes(lengths[3] - lengths[2]) + whole[lengths[3] :]
    with pytest.raises(StorageDamaged, match=f"at byte {lengths[2]}: no batch starts here"):
        recover(holding(lost))


def test_a_batch_in_the_place_of_another_is_damage() -> None:
    whole, _, lengths = life()
    size = lengths[1] - lengths[0]
    assert lengths[5] - lengths[4] == size
    moved = whole[: lengths[4]] + whole[lengths[0] : lengths[1]] + whole[lengths[5] :]
    with pytest.raises(StorageDamaged, match=f"at byte {lengths[4]}: no batch starts here"):
        recover(holding(moved))


def test_a_batch_of_another_history_is_damage() -> None:
    """Whole, in its own place, but not written behind these batches: a sector of the past."""
    disk = SimulatedDisk()
    wal = opened(disk)
    start = len(written(disk))
    wal.save(HardState(Term(1), ONE), Index(0), [])
    end = len(written(disk))
    wal.save(HardState(Term(3), ONE), Index(0), [])
    whole = written(disk)
    body = log_file.encode_body(HardState(Term(2), ONE), None, [])
    past, _ = log_file.encode_batch(start, Index(0), body, seed_of(whole), 99)
    assert len(past) == end - start
    with pytest.raises(StorageDamaged, match=f"at byte {start}: the batch's checksum"):
        recover(holding(whole[:start] + past + whole[end:]))


def test_batches_of_another_log_are_not_believed() -> None:
    """The salt: what a client stores, be it a copy of a log, never looks like a batch."""
    other, _, lengths = life()
    disk = SimulatedDisk(1)
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, other[lengths[0] :])])
    torn = written(disk)[:-8]
    assert recover(holding(torn, 0))[0] == Recovered(HardState(), ())


def test_no_two_files_have_the_same_salt() -> None:
    """Blocks of an older file, which the disk uses again, are nothing that was written here."""
    disk = SimulatedDisk()
    salts = set()
    for number in range(1, 11):
        recover(disk)
        salts.add(log_file.decode_header(disk.content(HOME / f"log-{number}"))[0].salt)
    assert len(salts) == 10


def test_a_length_beyond_the_file_allocates_nothing() -> None:
    """A whole head whose entries the crash lost: the bytes of a whole disk are not there."""
    whole, states, _ = life()
    head = log_file._HEAD.pack(len(whole), 5, 2**31, 1, 0, 0) + bytes(4)
    head += log_file._CHECK.pack(zlib.crc32(head, seed_of(whole)))
    disk = holding(whole + head)
    assert recover(disk) == (states[-1], log_file.BATCH_HEAD)


@pytest.mark.parametrize(
    ("count", "body", "what"),
    [
        (9, bytes(26), "9 entries do not fit into 26 bytes"),
        (1, row(1, 5, 1) + b"1234", "the sizes of the entries do not add up"),
        (1, row(1, 0, 77), "an entry is of the unknown kind 77"),
    ],
)
def test_entries_that_make_no_sense_are_damage(count: int, body: bytes, what: str) -> None:
    """Written by another program: every checksum is right."""
    whole, _, _ = life()
    data = body + b"\xff" * (8 - len(body) % 8)
    batch = behind(whole, 5, log_file.Body(0, count, len(body), data))
    with pytest.raises(StorageDamaged, match=what):
        recover(holding(whole + batch))


def seed_of(log: bytes) -> int:
    return log_file.seed_of(log_file.decode_header(log)[1])


def behind(log: bytes, first_index: int, body: log_file.Body) -> bytes:
    """Return a batch that continues a segment."""
    _, raw = log_file.decode_header(log)
    chain = list(log_file.Reader(log, len(raw), seed_of(log)).batches())[-1].chain
    return log_file.encode_batch(len(log), Index(first_index), body, seed_of(log), chain)[0]


def test_a_gap_in_the_file_is_damage() -> None:
    whole, _, _ = life()
    batch = behind(whole, 9, log_file.encode_body(None, None, [entry(3, b"")]))
    with pytest.raises(StorageDamaged, match=f"byte {len(whole)}: entry 9 cannot follow entry 4"):
        recover(holding(whole + batch))


def test_a_foreign_file_is_refused() -> None:
    disk = holding(b"%PDF-1.7 something else altogether, long enough")
    with pytest.raises(StorageDamaged, match="byte 0: this is not a log of raft"):
        recover(disk)


def test_an_older_version_is_no_damage() -> None:
    """To get a log back from servers that read it no more either would lose it."""
    for version in range(1, log_file.VERSION):
        with pytest.raises(StorageError, match=f"format version {version}; this program reads 4"):
            recover(holding(log_file.MAGIC + struct.pack("<I", version) + b"x" * 200))
        assert (version ^ log_file.VERSION).bit_count() > 1, "or a flipped bit looks like it"


def test_another_version_is_refused() -> None:
    header = log_file.encode_header(log_file.Header("test", ONE, 1, 1, version=9))
    with pytest.raises(StorageError, match="format version 9; this program reads 4"):
        recover(holding(header))


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
    assert sorted(disk.names(HOME)) == ["log-2", "snapshot-3", "vote"]


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
    with pytest.raises(StorageDamaged, match="byte 179: the data has 28 bytes and should have 27"):
        recover(SimulatedDisk(files={**files, path: whole + b"!"}))


def test_a_snapshot_that_is_not_there_is_damage() -> None:
    disk = with_snapshot()
    disk.remove(HOME / "snapshot-2")
    with pytest.raises(StorageDamaged, match="snapshot-2: missing, though the log continues it"):
        recover(disk)


def test_another_snapshot_is_damage() -> None:
    """Whole, of the same index, but not the one whose entries the log has dropped."""
    disk = with_snapshot()
    other = with_snapshot(Snapshot(Index(2), Term(1), MEMBERS, b"of another server's"))
    files = {LOG: disk.content(LOG), HOME / "snapshot-2": other.content(HOME / "snapshot-2")}
    with pytest.raises(StorageDamaged, match="this is another snapshot than the log continues"):
        recover(SimulatedDisk(files=files))


def test_a_log_that_is_not_there_is_damage() -> None:
    """No crash leaves this; to begin anew would forget the vote and all entries."""
    disk = with_snapshot()
    disk.remove(LOG)
    with pytest.raises(StorageDamaged, match="log-1: missing, the newest part of the log"):
        recover(disk)
    disk.remove(VOTE)
    with pytest.raises(StorageDamaged, match="log-1: missing"):
        recover(disk)


@pytest.mark.parametrize("name", ["log-3.tmp", "snapshot-9.tmp", "snapshot-9", "snapshot-1"])
def test_what_a_crash_left_behind_is_removed(name: str) -> None:
    disk = with_snapshot()
    files = {path: disk.content(path) for path in disk.paths()}
    disk = SimulatedDisk(files={**files, HOME / name: b"rubbish"})
    assert recover(disk)[0].snapshot == TAKEN
    assert sorted(disk.names(HOME)) == ["log-2", "snapshot-2", "vote"]


def test_a_foreign_or_newer_snapshot_is_refused() -> None:
    disk = with_snapshot()
    files, path = {LOG: disk.content(LOG)}, HOME / "snapshot-2"
    with pytest.raises(StorageDamaged, match="byte 0: this is not a snapshot of raft"):
        recover(SimulatedDisk(files={**files, path: b"%PDF-1.7" + bytes(200)}))


# --- Segments --------------------------------------------------------------------------------


def logs(disk: SimulatedDisk) -> list[str]:
    """Return the segments that are there, the oldest first."""
    return [f"log-{number}" for number in numbers(disk.names(HOME), "log-")]


def filled() -> tuple[SimulatedDisk, Wal]:
    """Return a log of 20 entries in several segments, open."""
    disk = SimulatedDisk()
    wal = new(disk, segment_bytes=512)
    wal.load()
    wal.save(HardState(Term(1), ONE), Index(0), [])
    for index in range(1, 21):
        wal.save(None, Index(index), [entry(1, b"entry %d" % index * 4)])
    return disk, wal


def test_a_log_has_segments_and_each_continues_the_one_before() -> None:
    disk, _ = filled()
    assert len(logs(disk)) > 4
    headers = [log_file.decode_header(disk.content(HOME / n))[0] for n in logs(disk)]
    assert [h.previous for h in headers] == [h.sequence - 1 for h in headers]
    assert len(recover(disk)[0].entries) == 20


def test_a_batch_larger_than_a_segment_has_one_of_its_own() -> None:
    disk, wal = filled()
    large = entry(1, bytes(range(256)) * 20)
    wal.save(None, Index(21), [large])
    wal.save(None, Index(22), [entry(1, b"after")])
    assert recover(disk)[0].entries[-2:] == (large, entry(1, b"after"))


@pytest.mark.parametrize("index", [1, 7, 19, 20])
def test_a_snapshot_lets_the_segments_go_that_it_stands_for(index: int) -> None:
    disk, wal = filled()
    before = logs(disk)
    wal.save(None, Index(0), [], Snapshot(Index(index), Term(1), MEMBERS, b"state"))
    left = logs(disk)
    assert left == before[len(before) - len(left) :]
    assert (len(left) < 3) == (index >= 19), "one that holds an entry behind it stays"
    found = recover(disk)[0]
    assert found.entries == tuple(
        entry(1, b"entry %d" % number * 4) for number in range(index + 1, 21)
    )
    assert found.hard_state == HardState(Term(1), ONE)


def test_entries_that_were_cut_keep_no_segment() -> None:
    disk, wal = filled()
    wal.save(None, Index(3), [entry(2, b"another leader's")])
    wal.save(None, Index(0), [], Snapshot(Index(2), Term(1), MEMBERS, b"state"))
    assert len(logs(disk)) == 1
    assert recover(disk)[0].entries == (entry(2, b"another leader's"),)


def test_every_opening_replaces_the_newest_segment_alone() -> None:
    disk, _ = filled()
    before = logs(disk)
    for _ in range(5):
        recover(disk)
    after = logs(disk)
    assert len(after) == len(before)
    assert after[:-1] == before[:-1]


def test_a_missing_segment_is_damage() -> None:
    """Whichever is gone: at the beginning, in the middle, or the newest."""
    disk, _ = filled()
    files = {path: disk.content(path) for path in disk.paths()}
    for name in logs(disk):
        gone = {path: content for path, content in files.items() if path.name != name}
        with pytest.raises(StorageDamaged, match=f"{name}: missing"):
            recover(SimulatedDisk(files=gone))


def test_no_flipped_bit_in_a_sealed_segment_is_believed() -> None:
    """Nor is one harmless in what stands behind its end: that is not looked at."""
    disk, _ = filled()
    files = {path: disk.content(path) for path in disk.paths()}
    path = HOME / logs(disk)[1]
    whole = files[path]
    found = recover(SimulatedDisk(files=files))[0]
    used = used_bytes(whole, 0)
    for bit in range(0, min(used + 8, len(whole)) * 8, 3):
        damaged = SimulatedDisk(files={**files, path: flip(whole, bit)})
        if bit >= used * 8:
            assert recover(damaged)[0] == found
            continue
        with pytest.raises(StorageDamaged, match=rf"{path.name}: damaged at byte \d+: "):
            recover(damaged)


def test_a_segment_in_the_place_of_another_is_damage() -> None:
    disk, _ = filled()
    files = {path: disk.content(path) for path in disk.paths()}
    one, other = HOME / logs(disk)[1], HOME / logs(disk)[2]
    with pytest.raises(StorageDamaged, match="log-2: damaged at byte 0: this is segment 3"):
        recover(SimulatedDisk(files={**files, one: files[other]}))


def test_a_sealed_segment_that_ends_too_early_is_damage() -> None:
    disk, _ = filled()
    files = {path: disk.content(path) for path in disk.paths()}
    path = HOME / logs(disk)[1]
    for cut in range(used_bytes(files[path], 0)):
        with pytest.raises(StorageDamaged, match=f"{path.name}: damaged at byte"):
            recover(SimulatedDisk(files={**files, path: files[path][:cut]}))


# --- {term, vote} a second time ----------------------------------------------------------------


def test_every_bit_of_the_vote_file_may_flip() -> None:
    """The log says the same; and both copies are written anew."""
    disk = SimulatedDisk()
    opened(disk).save(HardState(Term(7), ServerId(2)), Index(1), [entry(7, b"x")])
    files = {path: disk.content(path) for path in disk.paths()}
    for bit in range(len(files[VOTE]) * 8):
        if bit % (4096 * 8) > 200 * 8 and bit % 997:
            continue  # Zeros, of which a few are enough.
        damaged = SimulatedDisk(files={**files, VOTE: flip(files[VOTE], bit)})
        assert recover(damaged)[0].hard_state == HardState(Term(7), ServerId(2))
        assert decode_file(damaged.content(VOTE)).is_whole


def test_a_vote_file_that_is_gone_or_cut_is_written_anew() -> None:
    disk = SimulatedDisk()
    opened(disk).save(HardState(Term(7), ServerId(2)), Index(1), [entry(7, b"x")])
    files = {path: disk.content(path) for path in disk.paths()}
    for cut in (0, 1, 100, 4096, 5000, 8191):
        damaged = SimulatedDisk(files={**files, VOTE: files[VOTE][:cut]})
        assert recover(damaged)[0].hard_state == HardState(Term(7), ServerId(2))
    del files[VOTE]
    assert recover(SimulatedDisk(files=files))[0].hard_state == HardState(Term(7), ServerId(2))


def test_a_vote_in_a_last_batch_that_is_damaged_is_kept() -> None:
    """However much of it is gone: to forget the vote could make two leaders of one term."""
    whole, states, lengths = life()
    for saves, (hard_state, _, _) in enumerate(SAVES, 1):
        if hard_state is not None:
            lost = whole[: lengths[saves - 1]] + b"rubbish!" * 9
            found, _ = recover(holding(lost, saves))
            assert found.hard_state == hard_state
            assert found.entries == states[saves - 1].entries


def test_a_vote_that_may_be_forgotten_is_not_given_again() -> None:
    """One copy is not whole, and the log ends in a batch that could have had a newer one."""
    whole, _, lengths = life()
    vote = flip(votes()[-1], 300)
    torn = whole[: lengths[-2]] + b"rubbish!" * 9
    with pytest.raises(StorageDamaged, match="may have forgotten its vote"):
        recover(SimulatedDisk(files={LOG: torn.ljust(ROOM, b"\0"), VOTE: vote}))


def test_an_older_copy_of_the_vote_file_is_not_believed() -> None:
    whole, states, _ = life()
    assert recover(holding(whole, 0))[0] == states[-1]


# --- A disk that fails -----------------------------------------------------------------------


def test_bug_41_an_fsync_error_is_final() -> None:
    """A second fsync would say that all is well, and the bytes be gone."""
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"kept")])
    disk.fail("sync")
    with pytest.raises(StorageError, match="data: Input/output error"):
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


def test_a_full_disk_is_a_clean_refusal() -> None:
    """Nothing is stored, nothing is lost, and when there is room again the store goes on."""
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"kept")])
    files = {path: disk.content(path) for path in disk.paths()}
    disk.capacity = sum(map(len, files.values())) + 100
    for _ in range(2):
        with pytest.raises(StorageFull, match="/data: No space left on device; nothing was stored"):
            wal.save(HardState(Term(9)), Index(2), [entry(9, b"never" * ROOM)])
        with pytest.raises(StorageFull):
            wal.save(None, Index(0), [], Snapshot(Index(1), Term(1), MEMBERS, b"never" * ROOM))
        assert {path: disk.content(path) for path in disk.paths()} == files
    wal.save(HardState(Term(2), ONE), Index(2), [entry(2, b"what has a place fits")])
    disk.capacity = None
    wal.save(None, Index(3), [entry(2, b"again" * ROOM)])
    log = (entry(1, b"kept"), entry(2, b"what has a place fits"), entry(2, b"again" * ROOM))
    assert recover(disk) == (Recovered(HardState(Term(2), ONE), log), 0)


def test_a_disk_that_is_full_after_all_is_final() -> None:
    """Some file systems take a place that was promised; nobody knows what is written then."""
    disk = SimulatedDisk()
    wal = opened(disk)
    wal.save(None, Index(1), [entry(1, b"kept")])
    disk.fail("write_at", errno.ENOSPC)
    with pytest.raises(StorageError, match=r"/data: No space left on device$"):
        wal.save(None, Index(2), [entry(1, b"never")])
    with pytest.raises(StorageError, match="failed before: "):
        wal.save(None, Index(2), [entry(1, b"again")])
    assert recover(disk)[0].entries == (entry(1, b"kept"),)


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


def test_entries_are_one_write_and_one_sync_and_a_vote_is_two() -> None:
    disk = SimulatedDisk()
    wal = opened(disk)
    disk.calls.clear()
    wal.save(None, Index(1), [entry(1, b"a"), entry(1, b"b")])
    assert disk.calls == {"write_at": 1, "sync": 1}
    wal.save(HardState(Term(1), ONE), Index(3), [entry(1, b"c")])
    assert disk.calls == {"write_at": 3, "sync": 3}
    assert disk.pieces == 0
    wal.save(None, Index(0), [])
    assert disk.calls == {"write_at": 3, "sync": 3}, "nothing to save"


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
    for name in ("log-1", "snapshot-1", "vote"):
        assert (wal.path / name).stat().st_mode & 0o777 == 0o600
    assert wal.path.stat().st_mode & 0o777 == 0o700
    wal.close()


@pytest.mark.parametrize(("cluster", "server"), [("test", 2), ("other", 1)])
def test_another_owner_is_refused(cluster: str, server: int) -> None:
    disk = holding(life()[0])
    wal = Wal(HOME, cluster, ServerId(server), disk)
    with pytest.raises(
        StorageError,
        match=rf"belongs to server 1 of cluster 'test', not to server {server} of .*{cluster}",
    ):
        wal.load()
    assert written(disk) == life()[0]


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


@pytest.mark.skipif(sys.platform == "darwin", reason="fdatasync is another call there")
def test_the_real_disk_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wal = Wal(tmp_path, "test", ONE)
    wal.load()

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        with pytest.raises(StorageError, match=f"{tmp_path}: Input/output error"):
            wal.save(HardState(Term(2)), Index(0), [])
    wal.close()


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(StorageError, match=r"/data is not a directory$"):
        Wal(tmp_path / "data", "test", ONE)
