"""What a server's directory says, whole or damaged. Nothing is changed by reading it.

In the directory there are::

    log-7, log-8 …      the log: a chain of segments, see ``log_file``
    snapshot-120        what entries 1 to 120 made of the state machine, see ``snapshot_file``
    vote                {term, vote} a second time, see ``vote_file``
    damaged-…           what was set aside; nobody reads it
    *.tmp               rubbish: a crash came before they got their names

The newest segment counts, with those that it continues, one by one, as far back as they are
there: older ones are removed when a snapshot stands for all that they hold. Any other segment
or snapshot is rubbish that a crash kept from being removed.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, ServerId
from raft.storage.base import StorageError
from raft.storage.disk import UNFINISHED, Disk
from raft.storage.log_file import (
    VERSION,
    DamagedError,
    Header,
    Reader,
    decode_entries,
    decode_header,
    seed_of,
    used_bytes,
)
from raft.storage.replay import Replay
from raft.storage.snapshot_file import decode_snapshot
from raft.storage.vote_file import VoteFile, decode_file

LOG_NAME, SNAPSHOT_NAME, VOTE_NAME, SET_ASIDE = "log-", "snapshot-", "vote", "damaged-"
_OLD_LOG = "raft.wal"


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that are not what was written there."""

    path: Path
    offset: int | None
    """None: the whole file is missing."""
    what: str

    def __str__(self) -> str:
        where = "" if self.offset is None else f" damaged at byte {self.offset}:"
        return f"{self.path}:{where} {self.what}"


@dataclass(slots=True)
class Segment:
    """One segment of the log that counts; ``end`` is where its last batch ends."""

    path: Path
    header: Header
    raw: bytes
    """The header as it stands in the file."""
    data: bytes
    batches: int = 0
    end: int = 0
    chain: int = 0


@dataclass(slots=True)
class Reading:
    """What was found in ``directory``.

    ``segments`` are those that count, oldest first, as far as they could be read. ``damage`` is
    the first that was found in log and snapshot: what ``replay`` says is the log before it.
    ``torn`` bytes at the end of the log were never acknowledged.
    """

    directory: Path
    names: list[str]
    segments: list[Segment] = field(default_factory=list)
    replay: Replay = field(default_factory=Replay)
    snapshot: Snapshot | None = None
    entries: list[Entry] = field(default_factory=list)
    """Behind the snapshot."""
    vote: VoteFile | None = None
    torn: int = 0
    damage: Damage | None = None

    @property
    def is_new(self) -> bool:
        """No server has ever used the directory."""
        return self.damage is None and not self.segments

    @property
    def newest(self) -> int:
        """The highest number of a segment that is there, 0 if none is."""
        return max(numbers(self.names, LOG_NAME), default=0)

    @property
    def owner(self) -> tuple[str, ServerId] | None:
        """Cluster and server whose directory this is, None if nothing tells."""
        if self.segments:
            return self.segments[-1].header.cluster, self.segments[-1].header.server
        slot = self.vote.newest if self.vote else None
        return (slot.cluster, slot.server) if slot else None

    @property
    def hard_state(self) -> HardState | None:
        """What is certain of {term, vote}; None if nothing is.

        The vote file is synced before the log says the same. While it is whole it is at least
        as new as the log; only a log that is whole to its very end can say otherwise, which
        means that a crash came when the vote file was to be written anew.
        """
        log_is_whole = self.damage is None and not self.torn and bool(self.segments)
        logged = self.replay.hard_state or HardState()
        slot = self.vote.newest if self.vote else None
        if slot is None:
            return logged if log_is_whole else None
        assert self.vote is not None
        newer = max(slot.hard_state, logged, key=_age)
        if log_is_whole or (self.vote.is_whole and newer == slot.hard_state):
            return newer
        return None

    def remarks(self) -> list[Damage]:
        """Return damage that takes nothing away while the log is whole."""
        path = self.directory / VOTE_NAME
        if self.vote is None:
            return [] if self.is_new else [Damage(path, None, "missing")]
        bad = [Damage(path, at, "this copy of term and vote is not whole") for at in self.vote.bad]
        logged, slot = self.replay.hard_state, self.vote.newest
        if logged and slot and _age(logged) > _age(slot.hard_state):
            bad.append(Damage(path, slot.offset, "this is older than what the log says"))
        return bad


def _age(state: HardState) -> tuple[int, bool, bool]:
    return state.term, state.voted_for is not None, not state.recovering


class DamageFound(Exception):  # noqa: N818 (not the reader's error)
    """``damage`` was found."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(str(damage))
        self.damage = damage


@contextmanager
def damage_in(path: Path) -> Iterator[None]:
    """Let damage in bytes be damage in this file."""
    try:
        yield
    except DamagedError as error:
        raise DamageFound(Damage(path, error.offset, error.what)) from error


def numbers(names: list[str], prefix: str) -> list[int]:
    """Return the numbers of the files whose names are ``prefix`` and a number."""
    matches = (re.fullmatch(re.escape(prefix) + r"([1-9]\d{0,18})", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def read_directory(disk: Disk, directory: Path, reader: type[Reader] = Reader) -> Reading:
    """Read a server's directory. Raises OSError, and StorageError for another version's."""
    names = [name for name in disk.names(directory) if not name.endswith(UNFINISHED)]
    if _OLD_LOG in names:
        raise StorageError(
            f"{directory / _OLD_LOG}: format version 2; this program reads {VERSION}"
        )
    reading = Reading(directory, names)
    try:
        if VOTE_NAME in names:
            reading.vote = decode_file(_read(disk, directory / VOTE_NAME))
        segments = list(reversed(list(_chain_of_segments(disk, reading))))
        if segments:
            _read_segments(reading, segments, reader)
    except DamageFound as found:
        reading.damage = found.damage
    try:
        _check_beginning(reading)
        _read_snapshot(disk, reading)
        reading.entries = _decoded_entries(reading)
    except DamageFound as found:
        reading.damage = reading.damage or found.damage
        reading.replay.forget()
        reading.snapshot = None
    return reading


def _chain_of_segments(disk: Disk, reading: Reading) -> Iterator[Segment]:
    """Yield the segments that count, the newest first."""
    there = set(numbers(reading.names, LOG_NAME))
    slot = reading.vote.newest if reading.vote else None
    wanted = max(reading.newest, slot.newest_segment if slot else 0)
    if not wanted and (reading.vote or numbers(reading.names, SNAPSHOT_NAME)):
        raise DamageFound(Damage(reading.directory / f"{LOG_NAME}1", None, "missing"))
    if wanted and wanted not in there:
        path = reading.directory / f"{LOG_NAME}{wanted}"
        raise DamageFound(Damage(path, None, "missing, the newest part of the log"))
    while wanted in there:
        path = reading.directory / f"{LOG_NAME}{wanted}"
        data = _read(disk, path)
        with damage_in(path):
            header, raw = decode_header(data)
            if header.version != VERSION:
                raise StorageError(
                    f"{path}: format version {header.version}; this program reads {VERSION}"
                )
            if header.sequence != wanted or header.previous >= wanted:
                raise DamagedError(0, f"this is segment {header.sequence} of the log")
        yield Segment(path, header, raw, data)
        wanted = header.previous


def _read_segments(reading: Reading, segments: list[Segment], reader: type[Reader]) -> None:
    reading.replay = Replay(segments[0].header.last_index)
    if not segments[0].header.previous:
        reading.replay.unknown = 0
    for number, segment in enumerate(segments):
        following = segments[number + 1].header if number + 1 < len(segments) else None
        reading.segments.append(segment)
        _read_segment(reading.replay, segment, following, reader)
    last = segments[-1]
    reading.torn = used_bytes(last.data, last.end)
    with damage_in(last.path):
        _check_end(reading, last)


def _check_end(reading: Reading, last: Segment) -> None:
    """See that the log may end where it does. Raises DamagedError.

    A file was made with all its zeros; and the log said what the older copy of term and vote
    says before the newer copy was written.
    """
    if len(last.data) < last.header.size:
        raise DamagedError(
            len(last.data), f"the file ends here; it was made with {last.header.size} bytes"
        )
    logged, vote = reading.replay.hard_state or HardState(), reading.vote
    if vote is None or vote.older is None or vote.newest is None:
        return
    older = vote.older.hard_state
    if logged != vote.newest.hard_state and _age(logged) < _age(older):
        raise DamagedError(last.end, f"the log ends here, though it once said term {older.term}")


def _read_segment(
    replay: Replay, segment: Segment, following: Header | None, reader: type[Reader]
) -> None:
    replay.begin_segment(segment.header.sequence, segment.data)
    segment.end, segment.chain = len(segment.raw), seed_of(segment.raw)
    sealed = (following.previous_end, following.previous_chain) if following else (None, 0)
    with damage_in(segment.path):
        if segment.header.last_index != replay.last_index:
            raise DamagedError(
                0, f"it continues entry {segment.header.last_index}, not {replay.last_index}"
            )
        for batch in reader(segment.data, segment.end, segment.chain, *sealed).batches():
            replay.apply(batch)
            segment.batches += 1
            segment.end, segment.chain = batch.end, batch.chain


def _check_beginning(reading: Reading) -> None:
    """See that nothing is missing between the snapshot and the oldest segment."""
    replay = reading.replay
    if replay.unknown >= replay.first_index:
        gone = reading.segments[0].header.previous
        lost = f"entries {replay.first_index} to {replay.unknown}"
        path = reading.directory / f"{LOG_NAME}{gone}"
        raise DamageFound(Damage(path, None, f"missing, and with it {lost}"))


def _read_snapshot(disk: Disk, reading: Reading) -> None:
    mark = reading.replay.snapshot
    if mark is None:
        return
    path = reading.directory / f"{SNAPSHOT_NAME}{mark.index}"
    if path.name not in reading.names:
        raise DamageFound(Damage(path, None, "missing, though the log continues it"))
    with damage_in(path):
        reading.snapshot = decode_snapshot(_read(disk, path), mark.check)


def _decoded_entries(reading: Reading) -> list[Entry]:
    entries: list[Entry] = []
    # Nothing here is garbage, and a million new objects would be searched for it many times.
    collecting = gc.isenabled()
    gc.disable()
    try:
        for first, piece in reading.replay.pieces():
            skip, take = first - piece.origin, piece.last - first + 1
            entries += decode_entries(piece.data, piece.batch, skip, take)
    except DamagedError as error:
        path = reading.directory / f"{LOG_NAME}{piece.segment}"
        raise DamageFound(Damage(path, error.offset, error.what)) from error
    finally:
        if collecting:
            gc.enable()
    return entries


def _read(disk: Disk, path: Path) -> bytes:
    file = disk.open(path)
    try:
        return disk.read(file)
    except OSError as error:
        error.filename = str(path)  # the disk was told a number
        raise
    finally:
        disk.close(file)
