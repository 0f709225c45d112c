"""A damaged log: set aside and got back from others, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import Recovered, StorageDamaged, Wal
from raft.storage.checksums import flip
from raft.storage.log_file import used_bytes
from raft.storage.reading import numbers, read_directory
from raft.testing.disk import Fate, PowerCut, SimulatedDisk

ONE = ServerId(1)
THREE = (ONE, ServerId(2), ServerId(3))
HOME = Path("/data")
VOTE = HOME / "vote"
ROOM = 512


def entry(number: int, term: int = 1) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, b"command %d" % number * 3)


def new(disk: SimulatedDisk, members: tuple[ServerId, ...] | None = THREE) -> Wal:
    disk.kill()
    return Wal(HOME, "test", ONE, disk, members=members, segment_bytes=ROOM)


def filled(snapshot: int = 0) -> SimulatedDisk:
    """Return a disk with twelve entries in several segments, and a snapshot if one is wanted."""
    disk = SimulatedDisk()
    wal = new(disk)
    wal.load()
    wal.save(HardState(Term(3), ServerId(2)), Index(0), [])
    for index in range(1, 13):
        wal.save(None, Index(index), [entry(index)])
    if snapshot:
        members = Configuration(THREE)
        wal.save(None, Index(0), [], Snapshot(Index(snapshot), Term(1), members, b"state"))
    disk.kill()
    return disk


def files(disk: SimulatedDisk) -> dict[Path, bytes]:
    return {path: disk.content(path) for path in disk.paths()}


def logs(disk: SimulatedDisk) -> list[Path]:
    return [HOME / f"log-{number}" for number in numbers(disk.names(HOME), "log-")]


FRESH = HardState(Term(4), None, Term(4))


def test_what_can_be_read_before_the_damage_is_kept() -> None:
    disk = filled()
    before = files(disk)
    number = 3
    damaged = logs(disk)[number]
    disk.flip(damaged, (used_bytes(before[damaged], 0) - 20) * 8)
    broken = files(disk)
    wal = new(disk)
    found = wal.load()
    assert found.hard_state == FRESH
    kept = len(found.entries)
    assert 0 < kept < 12
    assert found.entries == tuple(entry(index) for index in range(1, kept + 1))
    assert any(f"{damaged}: damaged at byte" in notice for notice in wal.notices)
    evidence = {path.name: content for path, content in broken.items() if "log" in path.name}
    aside = {
        path.name.removeprefix("damaged-"): content
        for path, content in files(disk).items()
        if path.name.startswith("damaged-")
    }
    assert aside == evidence, "nothing is removed"


def test_the_log_goes_on_behind_what_was_kept() -> None:
    disk = filled()
    disk.flip(logs(disk)[3], 200 * 8)
    wal = new(disk)
    found = wal.load()
    index = Index(len(found.entries) + 1)
    wal.save(HardState(Term(5), None, Term(4)), index, [entry(99, 5)])
    again = new(disk).load()
    assert again == Recovered(
        HardState(Term(5), None, Term(4)), (*found.entries, entry(99, 5)), None
    )
    wal = new(disk)
    wal.load()
    wal.save(HardState(Term(5)), Index(0), [])
    assert new(disk).load().hard_state == HardState(Term(5))


def test_a_damaged_snapshot_takes_the_log_with_it() -> None:
    disk = filled(snapshot=6)
    disk.flip(HOME / "snapshot-6", 300)
    found = new(disk).load()
    assert found == Recovered(FRESH, (), None)
    assert "damaged-snapshot-6" in disk.names(HOME)


@pytest.mark.parametrize("name", ["snapshot-6", "first log", "last log", "all logs"])
def test_files_that_are_gone(name: str) -> None:
    disk = filled(snapshot=6)
    there = logs(disk)
    gone = {
        "snapshot-6": [HOME / "snapshot-6"],
        "first log": there[:1],
        "last log": there[-1:],
        "all logs": there,
    }[name]
    for path in gone:
        disk.remove(path)
    wal = new(disk)
    found = wal.load()
    assert found.hard_state == FRESH
    assert all(e == entry(7 + number) for number, e in enumerate(found.entries))
    assert new(disk).load() == found


def test_every_bit_of_every_file() -> None:
    """Nothing false is accepted, nothing of what is kept is wrong, and term and vote stay."""
    disk = filled(snapshot=6)
    before = files(disk)
    whole = new(SimulatedDisk(files=before)).load()
    for path, content in before.items():
        for bit in range(0, used_bytes(content, 0) * 8, 53):
            damaged = SimulatedDisk(files={**before, path: flip(content, bit)})
            found = new(damaged).load()
            if path == VOTE:
                assert found == whole
                continue
            assert found.hard_state == FRESH, f"{path} {bit}"
            assert found.snapshot in (None, whole.snapshot)
            first = 7 if found.snapshot else 1
            assert found.entries == tuple(
                entry(index) for index in range(first, first + len(found.entries))
            )


@pytest.mark.parametrize("members", [None, (ONE,), (ONE, ServerId(2))])
def test_alone_it_refuses(members: tuple[ServerId, ...] | None) -> None:
    """Without this server there is no majority that could elect a leader."""
    disk = filled()
    disk.flip(logs(disk)[3], 200 * 8)
    before = files(disk)
    with pytest.raises(StorageDamaged, match=r"log-4: damaged at byte \d+: .* no other servers"):
        new(disk, members).load()
    assert files(disk) == before


def test_the_members_in_the_log_count_too() -> None:
    disk = filled(snapshot=6)
    wal = new(disk)
    wal.load()
    wal.save(None, Index(13), [entry(13)])
    path = logs(disk)[-1]
    disk.flip(path, (used_bytes(disk.content(path), 0) - 20) * 8)
    assert new(disk, None).load().hard_state == FRESH


def test_a_server_that_joined_is_not_alone() -> None:
    disk = filled()
    disk.flip(logs(disk)[0], 77)
    assert new(disk, ()).load() == Recovered(FRESH, ())


def test_without_a_certain_vote_it_refuses() -> None:
    """It may have voted in a term that it does not remember; a fresh one could be that term."""
    disk = filled()
    disk.flip(logs(disk)[3], 200 * 8)
    disk.flip(VOTE, 300)
    before = files(disk)
    with pytest.raises(StorageDamaged, match="may have forgotten its vote, so that it can never"):
        new(disk).load()
    assert files(disk) == before
    disk.remove(VOTE)
    with pytest.raises(StorageDamaged, match="may have forgotten its vote"):
        new(disk).load()


def test_a_crash_while_damage_is_set_aside_changes_nothing_but_names() -> None:
    """At every call, with whatever it leaves; the evidence is there whatever happens."""
    disk = filled(snapshot=6)
    disk.flip(logs(disk)[-2], 200 * 8)
    before = files(disk)
    evidence = {content for path, content in before.items() if path.name.startswith("log-")}
    calm = new(SimulatedDisk(files=before)).load()
    for calls in range(200):
        disk = SimulatedDisk(calls, before)
        disk.calls_left = calls
        try:
            wal = Wal(HOME, "test", ONE, disk, members=THREE, segment_bytes=ROOM)
            wal.load()
        except PowerCut:
            pass
        finished = disk.calls_left is not None and disk.calls_left >= 0
        fates: list[list[Fate]] = [[Fate.LOST] * disk.pieces, [Fate.KEPT] * disk.pieces]
        for fate in (*fates, None):
            left = disk.survivors(fate or disk._draw_fates())
            again = SimulatedDisk(files=left)
            assert new(again).load() == calm, f"{calls} calls"
            assert evidence <= set(files(again).values())
            assert new(again).load() == calm
        if finished:
            return
    raise AssertionError("it never ends")


def test_a_reading_changes_nothing_and_locates_the_damage() -> None:
    disk = filled()
    path = logs(disk)[2]
    disk.flip(path, 200 * 8)
    before = files(disk)
    reading = read_directory(disk, HOME)
    assert files(disk) == before
    assert reading.damage is not None
    assert (reading.damage.path, reading.damage.offset is not None) == (path, True)
    assert reading.hard_state == HardState(Term(3), ServerId(2))
