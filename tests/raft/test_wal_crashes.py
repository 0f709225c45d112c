"""The log on disk against power cuts: at every step, with everything that one may leave behind.

A random life of a store is lived again and again, and each time the power fails one call later.
What was not synced then meets its fates, one combination after the other: each is a *crash
state*, from which the next process recovers. It must find what was acknowledged, all of it; of
the save that was under way it may find all or nothing; and it must go on from there.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random

import pytest

from raft.core import recovering
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage import MemoryStore, Recovered, StorageDamaged, StorageError, StorageFull, Wal
from raft.storage.checksums import flip
from raft.storage.log_file import used_bytes
from raft.testing.disk import Fate, PowerCut, SimulatedDisk
from raft.testing.store_mutants import STORE_MUTANTS

ONE = ServerId(1)
HOME = Path("/data")
MEMBERS = Configuration((ONE, ServerId(2), ServerId(3)))

ROOM = 1024
"""Bytes of a segment: small, so that a few saves fill several."""

ALL_COMBINATIONS = 6
"""Up to so many pieces, all combinations of kept and lost are tried; of more, some."""


# --- Lives -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Save:
    """The arguments of one save, or ``reopened``: the process ends and another one begins."""

    hard_state: HardState | None = None
    first_index: Index = Index(0)
    entries: tuple[Entry, ...] = ()
    snapshot: Snapshot | None = None
    reopened: bool = False

    def to(self, store: MemoryStore | Wal) -> None:
        store.save(self.hard_state, self.first_index, self.entries, self.snapshot)


def random_life(seed: int) -> list[Save]:
    """Votes, entries small and large, conflicts, removals, snapshots taken and received."""
    random, model = Random(seed), MemoryStore()
    life: list[Save] = []
    for number in range(random.randint(2, 8)):
        stored = model.load()
        before = stored.snapshot.index if stored.snapshot else 0
        last = before + len(stored.entries)
        hard_state = HardState(Term(number), random.choice((None, ONE, ServerId(2))))
        size = random.choice((0, 5, 5, 40, 700))
        entries = tuple(
            Entry(Term(number), EntryKind.COMMAND, random.randbytes(size))
            for _ in range(random.randint(1, 3))
        )
        match random.choice(("vote", "append", "append", "conflict", "cut", "take", "receive")):
            case "vote":
                save = Save(hard_state)
            case "append":
                save = Save(random.choice((None, hard_state)), Index(last + 1), entries)
            case "conflict":
                save = Save(hard_state, Index(random.randint(before + 1, last + 1)), entries)
            case "cut":
                save = Save(None, Index(random.randint(before + 1, last + 1)))
            case "take" if last > before:
                index = random.randint(before + 1, last)
                snapshot = Snapshot(Index(index), Term(1), MEMBERS, random.randbytes(size))
                save = Save(None, snapshot=snapshot)
            case _:
                snapshot = Snapshot(Index(last + 9), Term(1), MEMBERS, random.randbytes(size))
                save = Save(hard_state, Index(last + 10), snapshot=snapshot)
        save.to(model)
        life.append(save)
        if random.random() < 0.2:
            life.append(Save(reopened=True))
    return life


@dataclass
class Lived:
    """How far a life came: what was acknowledged, and what may be found instead."""

    acknowledged: Recovered
    under_way: Recovered | None = None

    @property
    def possible(self) -> list[Recovered]:
        """What was acknowledged; the save under way as a whole, or its hard state alone."""
        if self.under_way is None:
            return [self.acknowledged]
        voted = replace(self.acknowledged, hard_state=self.under_way.hard_state)
        return [self.acknowledged, voted, self.under_way]


def live(life: Sequence[Save], disk: SimulatedDisk, store: type[Wal]) -> Lived:
    """Live until the power or the disk fails, or to the end. Raises no PowerCut."""
    model = MemoryStore()
    lived = Lived(model.load())
    try:
        wal = new(disk, store)
        wal.load()
        for save in life:
            if save.reopened:
                wal.close()
                wal = new(disk, store)
                assert wal.load() == lived.acknowledged
                continue
            save.to(model)
            lived.under_way = model.load()
            try:
                save.to(wal)
            except StorageFull:
                # Nothing happened; somebody makes room.
                disk.capacity = None
                save.to(wal)
            lived.acknowledged, lived.under_way = lived.under_way, None
    except (PowerCut, StorageError):
        pass
    return lived


def new(disk: SimulatedDisk, store: type[Wal]) -> Wal:
    return store(HOME, "test", ONE, disk, segment_bytes=ROOM)


def recover(disk: SimulatedDisk, store: type[Wal]) -> Recovered:
    disk.kill()
    return new(disk, store).load()


def go_on(disk: SimulatedDisk, found: Recovered, store: type[Wal]) -> None:
    """Recover once more, save something behind all that is there, and find both."""
    disk.kill()
    wal = new(disk, store)
    assert wal.load() == found, "recovering twice gives the same"
    first_index = (found.snapshot.index if found.snapshot else 0) + len(found.entries) + 1
    entry = Entry(Term(99), EntryKind.COMMAND, b"and on")
    wal.save(None, Index(first_index), [entry])
    disk.crash([Fate.LOST] * disk.pieces)
    expected = Recovered(found.hard_state, (*found.entries, entry), found.snapshot)
    assert recover(disk, store) == expected


# --- Crash states ----------------------------------------------------------------------------


def fates_of(pieces: int, random: Random, samples: int) -> Iterator[Sequence[Fate]]:
    """Yield what may become of pieces: kept and lost in any order, cut off, and garbled."""
    if pieces <= ALL_COMBINATIONS:
        yield from product((Fate.KEPT, Fate.LOST), repeat=pieces)
    else:
        for _ in range(samples):
            yield random.choices((Fate.KEPT, Fate.LOST), k=pieces)
    for kept in range(pieces):
        yield [Fate.KEPT] * kept + [Fate.CUT] + [Fate.LOST] * (pieces - kept - 1)
        others = [Fate.KEPT] * pieces
        others[kept] = Fate.GARBLED
        yield others
    for _ in range(samples if pieces > 1 else 0):
        yield random.choices((Fate.KEPT, Fate.LOST, Fate.GARBLED), k=pieces)


def crash_states(
    seed: int, samples: int, store: type[Wal] = Wal
) -> Iterator[tuple[Lived, dict[Path, bytes]]]:
    """Yield what the power may leave of one life at each of its calls."""
    random, life = Random(seed), random_life(seed)
    for calls in range(1000):
        disk = SimulatedDisk(seed)
        disk.calls_left = calls
        lived = live(life, disk, store)
        for fates in fates_of(disk.pieces, random, samples):
            yield lived, disk.survivors(fates)
        if disk.calls_left >= 0:
            return
    raise AssertionError("a life has an end")


def check_crashes(seeds: Iterator[int], wanted: int, samples: int, store: type[Wal] = Wal) -> int:
    """Recover from at least ``wanted`` crash states; return their number."""
    states = 0
    for seed in seeds:
        for lived, files in crash_states(seed, samples, store):
            states += 1
            disk = SimulatedDisk(states, files)
            found = recover(disk, store)
            assert found in lived.possible, f"seed {seed}, state {states}"
            if states % 4 == 0:
                go_on(disk, found, store)
        if states >= wanted:
            break
    return states


def check_double_crashes(
    seeds: Iterator[int], wanted: int, samples: int, store: type[Wal] = Wal
) -> int:
    """Let the power fail again at each call of a recovery; return the number of states."""
    states = 0
    for seed in seeds:
        random = Random(seed)
        for lived, files in crash_states(seed, 1, store):
            if random.random() > 0.05:
                continue
            found = recover(SimulatedDisk(states, files), store)
            assert found in lived.possible
            finished = False
            for calls in range(100):
                disk = SimulatedDisk(states, files)
                finished = recover_in_part(disk, calls, store)
                for fates in fates_of(disk.pieces, random, samples):
                    states += 1
                    again = SimulatedDisk(states, disk.survivors(fates))
                    assert recover(again, store) == found, f"seed {seed}, state {states}"
                if finished:
                    break
            assert finished
        if states >= wanted:
            break
    return states


def recover_in_part(disk: SimulatedDisk, calls: int, store: type[Wal]) -> bool:
    """Recover until the power fails after so many calls; tell whether it did not."""
    disk.kill()
    disk.calls_left = calls
    try:
        new(disk, store).load()
    except PowerCut:
        return False
    return True


def check_kills(seeds: Iterator[int], wanted: int, samples: int, store: type[Wal] = Wal) -> int:
    """End the process at any call, and the power at any call of the next one's recovery.

    What the first one wrote is in the cache then, and believed, though it may not be durable.
    """
    states = 0
    for seed in seeds:
        random, life = Random(seed), random_life(seed)
        calm = SimulatedDisk(seed)
        calm.calls_left = 1000
        live(life, calm, store)
        for calls in range(1000 - calm.calls_left):
            disk = SimulatedDisk(seed)
            disk.calls_left = calls
            lived = live(life, disk, store)
            recover_in_part(disk, random.randrange(8), store)
            for fates in fates_of(disk.pieces, random, samples):
                states += 1
                again = SimulatedDisk(states, disk.survivors(fates))
                assert recover(again, store) in lived.possible, f"seed {seed}, state {states}"
        if states >= wanted:
            break
    return states


def check_errors(seeds: Iterator[int], store: type[Wal] = Wal) -> int:
    """Let each call of a life fail once, then let the process or the power end; return how many.

    An error must end the store, or leave it as it was, and lose nothing that was acknowledged
    before or after it.
    """
    errors = 0
    for seed in seeds:
        life, calm = random_life(seed), SimulatedDisk(seed)
        live(life, calm, store)
        for call, count in sorted(calm.calls.items()):
            for after in range(count if call != "close" else 0):
                for error in (errno.EIO, errno.ENOSPC):
                    errors += 1
                    disk = SimulatedDisk(seed)
                    disk.longest_write = (None, 300, 40)[errors % 3]
                    disk.fail(call, error, after)
                    lived = live(life, disk, store)
                    check_after_error(disk, lived, store, f"seed {seed}, {call} {after} {error}")
    return errors


def check_after_error(disk: SimulatedDisk, lived: Lived, store: type[Wal], what: str) -> None:
    if disk.calls["sync"] % 3:
        disk.crash()
    elif disk.read_only:
        with pytest.raises(StorageError, match="Read-only file system"):
            recover(disk, store)
        disk.crash()
    found = recover(disk, store)
    assert found in lived.possible, what
    disk.crash()
    assert recover(disk, store) == found, "what was found once is there for good"


def check_full_disks(seeds: Iterator[int], step: int, store: type[Wal] = Wal) -> int:
    """Let the disk be full at every ``step`` bytes, until a save is refused; return how many."""
    disks = 0
    for seed in seeds:
        life = random_life(seed)
        for capacity in range(0, 60_000, step):
            disks += 1
            disk = SimulatedDisk(seed)
            disk.capacity = capacity
            lived = live(life, disk, store)
            refused, disk.capacity = disk.capacity != capacity, None
            disk.crash()
            assert recover(disk, store) in lived.possible, f"seed {seed}, {capacity} bytes"
            if (
                not refused
                and lived.under_way is None
                and lived.acknowledged != Recovered(HardState(), ())
            ):
                break
    return disks


def check_cuts(seeds: Iterator[int], step: int) -> int:
    """Cut each file of a directory at every ``step`` bytes; return how many cuts there were.

    Nothing may be lost unless it is said: either all is there, or the damage is.
    """
    cuts = 0
    for seed in seeds:
        disk = SimulatedDisk(seed)
        whole = live(random_life(seed), disk, Wal).acknowledged
        files = {path: disk.content(path) for path in disk.paths()}
        for path, content in files.items():
            for length in range(0, len(content), step):
                cuts += 1
                cut = SimulatedDisk(files={**files, path: content[:length]})
                try:
                    found = recover(cut, Wal)
                except StorageDamaged:
                    continue
                what = f"seed {seed}, {path} cut at {length}"
                if found.hard_state.recovering:
                    assert found.hard_state == recovering.begin(whole.hard_state), what
                    continue
                assert found == whole, what
    return cuts


def check_damage(seeds: Iterator[int], flips: int, store: type[Wal] = Wal) -> int:
    """Flip bits of whole directories; return how many.

    What is got from them is term and vote, and entries that were there at some time.
    """
    flipped = 0
    for seed in seeds:
        random, disk, life = Random(seed), SimulatedDisk(seed), random_life(seed)
        whole = live(life, disk, store).acknowledged
        ever = {
            (index, entry)
            for save in life
            for index, entry in enumerate(save.entries, save.first_index)
        }
        files = {path: disk.content(path) for path in disk.paths()}
        for _ in range(flips):
            flipped += 1
            path = random.choice([path for path in files if path.name != "vote"])
            bit = random.randrange(used_bytes(files[path], 0) * 8)
            damaged = SimulatedDisk(files={**files, path: flip(files[path], bit)})
            found = recover_from_others(damaged, store)
            what = f"seed {seed}, {path} bit {bit}"
            assert found.hard_state == recovering.begin(whole.hard_state), what
            assert found.snapshot in (None, *(save.snapshot for save in life)), what
            first = found.snapshot.index + 1 if found.snapshot else 1
            assert ever.issuperset(enumerate(found.entries, first)), what
            assert recover_from_others(damaged, store) == found, what
    return flipped


def recover_from_others(disk: SimulatedDisk, store: type[Wal]) -> Recovered:
    disk.kill()
    return store(HOME, "test", ONE, disk, members=(), segment_bytes=ROOM).load()


def every_seed() -> Iterator[int]:
    return iter(range(100_000))


def test_a_crash_at_any_step_leaves_the_state_before_or_after() -> None:
    assert check_crashes(every_seed(), 3_000, samples=3) >= 3_000


def test_a_crash_in_the_middle_of_a_recovery_changes_nothing() -> None:
    assert check_double_crashes(every_seed(), 1_000, samples=2) >= 1_000


def test_a_power_cut_after_a_process_was_killed_loses_nothing() -> None:
    assert check_kills(every_seed(), 1_000, samples=2) >= 1_000


def test_the_old_snapshot_stays_until_the_new_log_is_durable() -> None:
    """A process is killed when it has named the new log, and the next one finds that name.

    If it removed the old snapshot at once, the power could bring back the old log alone.
    """
    life = [
        Save(None, Index(1), (Entry(Term(1)), Entry(Term(1)))),
        Save(snapshot=Snapshot(Index(1), Term(1), MEMBERS, b"one")),
        Save(snapshot=Snapshot(Index(2), Term(1), MEMBERS, b"two")),
    ]
    killed = 0
    for calls in range(100):
        for further_calls in range(8):
            disk = SimulatedDisk()
            disk.calls_left = calls
            lived = live(life, disk, Wal)
            killed += lived.under_way is not None
            recover_in_part(disk, further_calls, Wal)
            for fates in fates_of(disk.pieces, Random(calls), 10):
                again = SimulatedDisk(files=disk.survivors(fates))
                assert recover(again, Wal) in lived.possible
        if lived.under_way is None and lived.acknowledged.snapshot == life[-1].snapshot:
            break
    assert killed > 100


def test_an_error_of_any_call_loses_nothing() -> None:
    assert check_errors(iter(range(5))) > 600


def test_a_disk_that_is_full_at_any_time_loses_nothing() -> None:
    assert check_full_disks(iter(range(6)), step=229) > 100


def test_a_file_that_ends_anywhere_is_whole_or_damaged() -> None:
    assert check_cuts(iter(range(3)), step=17) > 500


def test_damage_anywhere_is_found_and_the_vote_is_not_forgotten() -> None:
    assert check_damage(iter(range(15)), flips=40) >= 600


@pytest.mark.slow
def test_very_much_damage() -> None:
    assert check_damage(iter(range(1_000_000, 1_000_200)), flips=100) >= 20_000


@pytest.mark.slow
def test_very_many_crashes() -> None:
    assert check_crashes(iter(range(1_000_000, 2_000_000)), 120_000, samples=20) >= 120_000


@pytest.mark.slow
def test_very_many_crashes_in_recoveries() -> None:
    assert check_double_crashes(iter(range(1_000_000, 2_000_000)), 30_000, samples=8) >= 30_000


@pytest.mark.slow
def test_very_many_power_cuts_after_kills() -> None:
    assert check_kills(iter(range(1_000_000, 2_000_000)), 30_000, samples=8) >= 30_000


@pytest.mark.slow
def test_very_many_errors() -> None:
    assert check_errors(iter(range(1_000_000, 1_000_200))) > 10_000


@pytest.mark.slow
def test_very_many_full_disks() -> None:
    assert check_full_disks(iter(range(1_000_000, 1_000_030)), step=23) > 5_000


@pytest.mark.slow
def test_files_that_end_at_every_byte() -> None:
    assert check_cuts(iter(range(1_000_000, 1_000_006)), step=1) > 50_000


# --- Do these tests notice? ------------------------------------------------------------------


@pytest.mark.parametrize("name", STORE_MUTANTS)
def test_a_store_without_a_precaution_is_caught(name: str) -> None:
    with pytest.raises((AssertionError, StorageError)):
        check_everything(STORE_MUTANTS[name])


def check_everything(store: type[Wal]) -> None:
    check_damage(iter(range(15)), 40, store)
    check_errors(iter(range(12)), store)
    check_kills(every_seed(), 1_000, 2, store)
    check_crashes(every_seed(), 3_000, 3, store)
