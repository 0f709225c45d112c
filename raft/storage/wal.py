"""The log on disk: a chain of append-only segments, snapshots, and {term, vote} twice.

``log_file``, ``vote_file`` and ``snapshot_file`` define the bytes, ``reading`` the directory
and what of it counts; this module moves them. An acknowledged byte is never cut off or
overwritten: what a new leader's entries replace is still there, and the later batch counts.

A save is one write behind the last one, into zeros that are there already, and one fsync. Term
or vote go to the vote file before. When a segment is full, and whenever the log is opened, a
new one is made, under another name until it is whole; so a crash at any step leaves the state
before or after. A snapshot is durable before the log names it, and only then are the snapshot
and the segments removed that it replaces, the oldest first.

**No room.** Segments are made with their zeros, so a disk that is full says so before anything
is written into the log: StorageFull, and nothing has happened.

**Damage.** See ``log_file`` for what is damage, and ``raft.core.recovering`` for what a server
can do about it. ``load`` does that if the others are enough to elect a leader without this
server, and if {term, vote} are certain. The damaged files get other names; none is removed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from raft.core import recovering
from raft.core.log import HardState, InvariantViolation, Snapshot
from raft.core.membership import Configuration, ConfigurationError
from raft.core.messages import Entry, EntryKind, Index, ServerId
from raft.core.quorum import majority
from raft.storage.base import Recovered, StorageDamaged, StorageError, StorageFull
from raft.storage.disk import UNFINISHED, Disk, NoRoomError, RealDisk, put_file, write_all
from raft.storage.log_file import (
    Body,
    Header,
    Reader,
    SnapshotMark,
    encode_batch,
    encode_body,
    encode_header,
    seed_of,
)
from raft.storage.reading import (
    LOG_NAME,
    SET_ASIDE,
    SNAPSHOT_NAME,
    VOTE_NAME,
    Reading,
    numbers,
    read_directory,
)
from raft.storage.snapshot_file import encode_snapshot
from raft.storage.vote_file import MAX_CLUSTER, Slot, encode_file, encode_slot

SEGMENT_BYTES = 4 * 1024 * 1024

_log = logging.getLogger(__name__)


class Wal:
    """A ``LogStore`` that survives crashes and power cuts.

    ``dropped_tail`` says, after ``load``, how many bytes of a batch that a crash had left
    unfinished were dropped, ``notices`` what of it a person should know. ``path`` is the
    directory.
    """

    _reader = Reader

    def __init__(
        self,
        directory: Path | str,
        cluster: str,
        server: ServerId,
        disk: Disk | None = None,
        *,
        members: Iterable[ServerId] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Lock ``directory``, which is created if need be, for the log of one server.

        ``disk`` is the machine's unless another one is given. ``members`` are the voters of the
        cluster as far as the caller knows, for a damaged log can be got back from them: none if
        it only knows that there are others, and by default this server alone. Raises
        StorageError if another process uses the directory, or if the disk refuses.
        """
        if len(cluster.encode()) > MAX_CLUSTER:
            raise StorageError(f"the name of the cluster has more than {MAX_CLUSTER} bytes")
        self.path = Path(directory).absolute()
        self.dropped_tail = 0
        self.notices: list[str] = []
        self._disk = disk or RealDisk()
        self._owner = cluster, server
        self._members = (server,) if members is None else tuple(members)
        self._segment_bytes = segment_bytes
        self._unusable = ""
        self._hard_state = HardState()
        self._mark: SnapshotMark | None = None
        self._last_index = Index(0)
        self._header = Header(cluster, server, sequence=0, salt=0)
        self._segments: list[int] = []
        self._starts: list[tuple[int, int]] = []
        """Segment, and index of the first entry that it holds: of each that holds any."""
        self._seed = self._chain = self._end = self._room = 0
        self._slot = Slot(cluster, server, 0, HardState(), 0)
        self._lock = self._file = self._vote = -1
        with self._errors_are_final():
            self._disk.make_directory(self.path)
            try:
                self._lock = self._disk.lock(self.path)
            except BlockingIOError:
                raise StorageError(
                    f"{self.path}: in use by another process; "
                    "every server needs a directory of its own"
                ) from None
        self._unusable = "load it first"

    # --- Loading -----------------------------------------------------------------------------

    def load(self) -> Recovered:
        """Read the log, and write its end anew without a torn tail. Raises StorageError.

        The last fsync of the process before this one may have failed. The kernel then keeps the
        bytes in memory, marked as written, though they never reached the disk; so may a new
        name. Only bytes and names that are written again are sure to be synced.

        StorageDamaged if something is damaged and cannot be got back from others; the files are
        left as they are then. StorageError also if they belong to another server or cluster.
        """
        with self._errors_are_final():
            self._remove(n for n in self._disk.names(self.path) if n.endswith(UNFINISHED))
            reading = read_directory(self._disk, self.path, self._reader)
            self._check_owner(reading)
            if reading.vote is not None and not reading.vote.is_whole:
                self.notices += [f"{one}; it is written anew" for one in reading.remarks()]
            hard_state = reading.hard_state
            if reading.is_new:
                hard_state = HardState()
            if reading.damage is not None or hard_state is None:
                hard_state = self._begin_to_recover(reading, hard_state)
            self._take_over(reading, hard_state)
        self._unusable = ""
        return Recovered(hard_state, tuple(reading.entries), reading.snapshot)

    def _check_owner(self, reading: Reading) -> None:
        if reading.owner is not None and reading.owner != self._owner:
            (cluster, server), (my_cluster, me) = reading.owner, self._owner
            raise StorageError(
                f"{self.path}: belongs to server {server} of cluster {cluster!r}, "
                f"not to server {me} of cluster {my_cluster!r}"
            )

    def _begin_to_recover(self, reading: Reading, certain: HardState | None) -> HardState:
        """Return the state in which the log is got back from others. Raises StorageDamaged."""
        damage = reading.damage or next(iter(reading.remarks()))
        if certain is None:
            raise StorageDamaged(
                f"{damage}; this server may have forgotten its vote, so that it can never be "
                "part of its cluster again: let a new one, with a new id, take its place "
                "(raft add, raft remove). The files were left as they are"
            )
        if not self._others_are_enough(reading):
            raise StorageDamaged(
                f"{damage}; no other servers are known that could elect a leader without this "
                "one, and give its log back. The files were left as they are"
            )
        state = recovering.begin(certain)
        self.notices.append(
            f"{damage}; the log is got back from the other servers. Until that is done this one "
            f"neither votes nor leads. The damaged files are kept as {SET_ASIDE}…"
        )
        return state

    def _others_are_enough(self, reading: Reading) -> bool:
        """Tell whether a majority without this server is known: by the caller, or by the log."""
        if not self._members:
            return True
        known = [set(self._members)]
        if reading.snapshot is not None:
            known.append(set(reading.snapshot.configuration.voters))
        for entry in reversed(reading.entries):
            if entry.kind is EntryKind.CONFIGURATION:
                with contextlib.suppress(ConfigurationError):
                    known.append(set(Configuration.decode(entry.data).voters))
                break
        me = self._owner[1]
        return any(len(voters - {me}) >= majority(len(voters)) for voters in known if voters)

    def _take_over(self, reading: Reading, hard_state: HardState) -> None:
        """Go on where the log ends, in a new segment that takes the place of the newest one.

        Only what the newest one says is written anew: those before it were synced when another
        one followed. After damage all of the log, as far as it is known, is in the new one.
        """
        replay, slot = reading.replay, reading.vote.newest if reading.vote else None
        self.dropped_tail = reading.torn
        self._hard_state, self._mark = hard_state, replay.snapshot
        self._last_index = Index(replay.last_index)
        cluster, server = self._owner
        header = Header(cluster, server, 0, 0, after_damage=reading.damage is not None)
        first_index, older = replay.first_index, []
        if reading.damage is None and reading.segments:
            header = reading.segments[-1].header
            self._set_evidence_aside(header)
            first_index = Index(max(replay.lowest, first_index))
            older = [segment.header.sequence for segment in reading.segments[:-1]]
        newest = max(reading.newest, slot.newest_segment if slot else 0)
        self._segments = older
        self._starts = []
        for first, piece in replay.pieces():
            if piece.segment in older:
                self._starts_at(piece.segment, first)
        entries = reading.entries[first_index - replay.first_index :]
        after_damage = header.after_damage and reading.damage is not None
        self._header = replace(header, sequence=newest, after_damage=after_damage)
        self._begin_segment(self._header, first_index, entries)
        if entries:
            self._starts_at(self._header.sequence, first_index)
        self._put_vote_file(slot)
        self._set_evidence_aside(self._header)
        self._remove_rest()

    def _set_evidence_aside(self, newest: Header) -> None:
        """Give what is damaged, or rests on what is, names that nobody reads."""
        if not newest.after_damage:
            return
        names = self._disk.names(self.path)
        evidence = [f"{LOG_NAME}{n}" for n in numbers(names, LOG_NAME) if n < newest.sequence]
        evidence += self._other_snapshots(names)
        for name in evidence:
            self._disk.rename(self.path / name, self.path / (SET_ASIDE + name))
        if evidence:
            self._disk.sync_directory(self.path)

    def _other_snapshots(self, names: list[str]) -> list[str]:
        current = self._mark.index if self._mark else 0
        others = [n for n in numbers(names, SNAPSHOT_NAME) if n != current]
        return [f"{SNAPSHOT_NAME}{number}" for number in others]

    def _remove_rest(self) -> None:
        """Remove what a crash left. Not before: it might be what counts after the next one."""
        names = self._disk.names(self.path)
        rest = [n for n in numbers(names, LOG_NAME) if n not in self._segments]
        self._remove(f"{LOG_NAME}{number}" for number in rest)
        self._remove(self._other_snapshots(names))

    # --- Saving ------------------------------------------------------------------------------

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Make it durable, as ``LogStore.save`` says: for entries alone one write, one fsync.

        After an error other than StorageFull every later call raises: bytes after a failed
        fsync may be gone although a second fsync says that all is well. Raises
        InvariantViolation, and stores nothing, if entries would leave a gap or a snapshot is
        not newer than the stored one.
        """
        if self._unusable:
            raise StorageError(f"{self.path}: {self._unusable}")
        if hard_state is None and not first_index and not entries and snapshot is None:
            return
        self._check(first_index, entries, snapshot)
        with self._errors_are_final():
            mark = None if snapshot is None else self._put_snapshot(snapshot)
            body = encode_body(hard_state, mark, entries)
            if self._end + body.batch_size > self._room:
                self._continue_in_new_segment(body.batch_size)
            if hard_state is not None:
                self._write_vote(hard_state)
            self._append(first_index, body)
            self._note(hard_state, first_index, len(entries), mark)
            if mark is not None:
                self._compact(mark)

    def _check(
        self, first_index: Index, entries: Sequence[Entry], snapshot: Snapshot | None
    ) -> None:
        before, last = self._mark.index if self._mark else 0, self._last_index
        if snapshot is not None:
            if snapshot.index <= before:
                raise InvariantViolation(
                    f"a snapshot up to {snapshot.index} cannot replace the one up to {before}"
                )
            before, last = snapshot.index, max(last, snapshot.index)
        if (first_index or entries) and not before <= first_index - 1 <= last:
            raise InvariantViolation(f"entry {first_index} cannot follow entry {last}")

    def _put_snapshot(self, snapshot: Snapshot) -> SnapshotMark:
        """Write a snapshot beside the one that the log continues."""
        content, check = encode_snapshot(snapshot)
        self._disk.close(self._put(self.path / f"{SNAPSHOT_NAME}{snapshot.index}", content))
        return SnapshotMark(snapshot.index, check)

    def _continue_in_new_segment(self, wanted: int) -> None:
        """Begin another segment, with room for a batch of so many bytes."""
        full = replace(
            self._header,
            previous=self._header.sequence,
            previous_end=self._end,
            previous_chain=self._chain,
            last_index=self._last_index,
            after_damage=False,
        )
        self._begin_segment(full, Index(0), (), wanted)
        self._write_vote(self._hard_state)

    def _begin_segment(
        self, header: Header, first_index: Index, entries: Sequence[Entry], wanted: int = 0
    ) -> None:
        """Make the segment after ``header.sequence``; it opens with what counts so far."""
        body = encode_body(self._hard_state, self._mark, entries)
        end = len(encode_header(header)) + body.batch_size
        room = max(self._segment_bytes, end + wanted)
        sequence, salt = header.sequence + 1, self._disk.salt()
        header = replace(header, sequence=sequence, salt=salt, size=room)
        raw = encode_header(header)
        seed = seed_of(raw)
        batch, chain = encode_batch(len(raw), first_index, body, seed, seed)
        content = (raw + batch).ljust(room, b"\0")
        file = self._put(self.path / f"{LOG_NAME}{header.sequence}", content)
        if self._file >= 0:
            self._disk.close(self._file)
        self._file, self._header, self._seed = file, header, seed
        self._chain, self._end, self._room = chain, end, room
        self._segments.append(header.sequence)

    def _put_vote_file(self, slot: Slot | None) -> None:
        """Write the vote file anew, both copies."""
        cluster, server = self._owner
        number = slot.number + 1 if slot else 0
        first = Slot(cluster, server, number, self._hard_state, self._header.sequence)
        vote = self._put(self.path / VOTE_NAME, encode_file(first))
        if self._vote >= 0:
            self._disk.close(self._vote)
        self._vote = vote
        self._slot = first.after(first.hard_state, first.newest_segment)

    def _write_vote(self, hard_state: HardState) -> None:
        """Store {term, vote} outside of the log, before the log says so too."""
        slot = self._slot.after(hard_state, self._header.sequence)
        write_all(self._disk, self._vote, encode_slot(slot), slot.offset)
        self._disk.sync(self._vote)
        self._slot = slot

    def _append(self, first_index: Index, body: Body) -> None:
        data, chain = encode_batch(self._end, first_index, body, self._seed, self._chain)
        write_all(self._disk, self._file, data, self._end)
        self._sync()
        self._chain = chain
        self._end += len(data)

    def _sync(self) -> None:
        self._disk.sync(self._file)

    def _note(
        self, hard_state: HardState | None, first_index: int, count: int, mark: SnapshotMark | None
    ) -> None:
        """Remember what is stored from now on."""
        if hard_state is not None:
            if self._hard_state.recovering and not hard_state.recovering:
                _log.info("%s: the log is whole again; this server votes", self.path)
            self._hard_state = hard_state
        if mark is not None and mark.index >= self._last_index:
            self._starts.clear()
            self._last_index = mark.index
        if first_index:
            while self._starts and self._starts[-1][1] >= first_index:
                self._starts.pop()
            self._last_index = Index(first_index - 1 + count)
        if count:
            self._starts_at(self._header.sequence, first_index)

    def _starts_at(self, segment: int, first_index: int) -> None:
        if not self._starts or self._starts[-1][0] != segment:
            self._starts.append((segment, first_index))

    def _compact(self, mark: SnapshotMark) -> None:
        """Remove what a snapshot stands for: the one before it, and the oldest segments."""
        self._mark = mark
        self._remove(self._other_snapshots(self._disk.names(self.path)))
        holding = [segment for segment, first in self._starts if first <= mark.index + 1]
        needed = holding[-1] if self._last_index > mark.index else self._header.sequence
        while self._segments[0] < needed:
            self._remove([f"{LOG_NAME}{self._segments.pop(0)}"])
        self._starts = [start for start in self._starts if start[0] >= needed]

    # --- Files and errors --------------------------------------------------------------------

    def _put(self, path: Path, content: bytes) -> int:
        return put_file(self._disk, path, content)

    def _remove(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._disk.remove(self.path / name)

    @contextlib.contextmanager
    def _errors_are_final(self) -> Iterator[None]:
        try:
            yield
        except NoRoomError as error:
            raise StorageFull(
                f"{self.path}: {error.strerror}; nothing was stored. "
                "Free some, then start the server again"
            ) from error
        except OSError as error:
            self._unusable = f"failed before: {error.strerror}"
            if isinstance(error, FileExistsError):
                raise StorageError(f"{error.filename} is not a directory") from error
            raise StorageError(f"{error.filename or self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the files and give the directory back. A second call does nothing."""
        self._unusable = "it is closed"
        for handle in (self._file, self._vote, self._lock):
            if handle >= 0:
                self._disk.close(handle)
        self._file = self._vote = self._lock = -1
