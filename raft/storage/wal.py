"""The log on disk: a snapshot, if one was taken, and one append-only file that continues it.

``raft.storage.log_file`` and ``snapshot_file`` define the bytes, and which damage is a torn
write; this module moves them. In a directory of its own there are::

    raft.wal            the log; its header names the snapshot that it continues
    snapshot-120        what entries 1 to 120 made of the state machine
    *.tmp               rubbish: a crash came before they got their names

An acknowledged byte is never cut off or overwritten. What a new leader's entries replace is
still in the file, and the later batch counts. A snapshot lets the log begin anew, and so does
every opening of it::

    snapshot-240.tmp    written, synced, named snapshot-240; the directory synced
    raft.wal.tmp        the hard state and the entries behind 240, written, synced
    raft.wal            is that file from one moment to the next; the directory synced
    snapshot-120        removed

Until ``raft.wal`` is the new file the old one counts, and what it continues is still there; so
a crash at any step leaves the state before or after, and the next opening removes the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from raft.core.log import HardState, InvariantViolation, Snapshot
from raft.core.messages import Entry, Index, ServerId
from raft.storage.base import Recovered, StorageDamaged, StorageError
from raft.storage.disk import UNFINISHED, Disk, RealDisk, put_file, write_all
from raft.storage.log_file import (
    VERSION,
    DamagedError,
    Header,
    Reader,
    decode_header,
    encode_batch,
    encode_header,
    seed_of,
)
from raft.storage.memory import MemoryStore
from raft.storage.snapshot_file import decode_snapshot, encode_snapshot

FILE_NAME = "raft.wal"
SNAPSHOT_NAME = "snapshot-"


class Wal:
    """A ``LogStore`` that survives crashes and power cuts.

    ``dropped_tail`` says, after ``load``, how many bytes of a batch that a crash had left
    unfinished were dropped. ``path`` is the file.
    """

    _reader = Reader

    def __init__(
        self, directory: Path | str, cluster: str, server: ServerId, disk: Disk | None = None
    ) -> None:
        """Lock ``directory``, which is created if need be, for the log of one server.

        ``disk`` is the machine's unless another one is given. Raises StorageError if another
        process uses the directory, or if the disk refuses.
        """
        self.path = Path(directory).absolute() / FILE_NAME
        self.dropped_tail = 0
        self._disk = disk or RealDisk()
        self._unusable = ""
        self._header = Header(cluster, server, salt=0)
        self._stored = MemoryStore()
        self._lock = self._file = -1
        self._seed = self._chain = self._end = 0
        with self._errors_are_final():
            self._disk.make_directory(self.path.parent)
            try:
                self._lock = self._disk.lock(self.path.parent)
            except BlockingIOError:
                raise StorageError(
                    f"{self.path.parent}: in use by another process; "
                    "every server needs a directory of its own"
                ) from None
        self._unusable = "load it first"

    # --- Loading -----------------------------------------------------------------------------

    def load(self) -> Recovered:
        """Read the log, and write it anew without a torn tail. Raises StorageDamaged, StorageError.

        The last fsync of the process before this one may have failed. The kernel then keeps the
        bytes in memory, marked as written, though they never reached the disk; so may a new
        name. Only bytes and names that are written again are sure to be synced.

        Damaged files are left as they are. StorageError also if the log belongs to another
        server or cluster.
        """
        with self._errors_are_final():
            directory = self._disk.names(self.path.parent)
            self._remove(name for name in directory if name.endswith(UNFINISHED))
            names = [name for name in directory if not name.endswith(UNFINISHED)]
            if FILE_NAME in names:
                self._read_log()
            elif any(name.startswith(SNAPSHOT_NAME) for name in names):
                raise StorageDamaged(f"{self.path}: missing, though there is a snapshot beside it")
            self._begin_file()
            current = self._snapshot_path.name
            # Not before: the old log might be what is there after a crash.
            self._remove(n for n in names if n.startswith(SNAPSHOT_NAME) and n != current)
        self._unusable = ""
        return self._stored.load()

    def _read_log(self) -> None:
        data = self._read(self.path)
        with _damage_in(self.path):
            header, raw = decode_header(data)
            self._check_owner(header)
            self._header = header
            snapshot = self._read_snapshot(header) if header.snapshot_index else None
            self._stored = MemoryStore(snapshot=snapshot)
            end = start = len(raw)
            for batch in self._reader(data, start, seed_of(raw)).batches():
                try:
                    self._stored.save(batch.hard_state, batch.first_index, batch.entries)
                except InvariantViolation as error:
                    raise DamagedError(end, str(error)) from error
                end = batch.end
        self.dropped_tail = len(data) - end

    def _check_owner(self, header: Header) -> None:
        if header.version != VERSION:
            raise StorageError(
                f"{self.path}: format version {header.version}; this program reads {VERSION}"
            )
        if (header.cluster, header.server) != (self._header.cluster, self._header.server):
            raise StorageError(
                f"{self.path}: belongs to server {header.server} of cluster {header.cluster!r}, "
                f"not to server {self._header.server} of cluster {self._header.cluster!r}"
            )

    def _read_snapshot(self, header: Header) -> Snapshot:
        path = self._snapshot_path
        if path.name not in self._disk.names(path.parent):
            raise StorageDamaged(f"{path}: missing, though {self.path} continues it")
        with _damage_in(path):
            return decode_snapshot(self._read(path), header.snapshot_check)

    # --- Saving ------------------------------------------------------------------------------

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Make it durable, as ``LogStore.save`` says. Without a snapshot: one write, one fsync.

        After an error every later call raises: bytes after a failed fsync may be gone although
        a second fsync says that all is well. Raises InvariantViolation, and stores nothing, if
        entries would leave a gap or a snapshot is not newer than the stored one.
        """
        if self._unusable:
            raise StorageError(f"{self.path}: {self._unusable}")
        if hard_state is None and not first_index and not entries and snapshot is None:
            return
        self._stored.save(hard_state, first_index, entries, snapshot)
        with self._errors_are_final():
            if snapshot is None:
                self._append(hard_state, first_index, entries)
            else:
                replaced = [self._snapshot_path.name] if self._header.snapshot_index else []
                self._put_snapshot(snapshot)
                self._begin_file()
                self._remove(replaced)

    def _append(
        self, hard_state: HardState | None, first_index: Index, entries: Sequence[Entry]
    ) -> None:
        data, chain = encode_batch(
            self._end, hard_state, first_index, entries, self._seed, self._chain
        )
        write_all(self._disk, self._file, data, self._end)
        self._sync()
        self._chain = chain
        self._end += len(data)

    def _sync(self) -> None:
        self._disk.sync(self._file)

    def _put_snapshot(self, snapshot: Snapshot) -> None:
        """Write a snapshot beside the one that the log continues, and let the header name it."""
        content, check = encode_snapshot(snapshot)
        self._header = replace(self._header, snapshot_index=snapshot.index, snapshot_check=check)
        self._disk.close(self._put(self._snapshot_path, content))

    def _begin_file(self) -> None:
        """Let the log be a new file that holds, as one batch, all that is stored."""
        self._header = replace(self._header, salt=self._disk.salt())
        header = encode_header(self._header)
        stored = self._stored.load()
        self._seed = seed_of(header)
        first_index = Index(self._header.snapshot_index + 1)
        batch, self._chain = encode_batch(
            len(header), stored.hard_state, first_index, stored.entries, self._seed, self._seed
        )
        file = self._put(self.path, header + batch)
        if self._file >= 0:
            self._disk.close(self._file)
        self._file = file
        self._end = len(header) + len(batch)

    @property
    def _snapshot_path(self) -> Path:
        """Where the snapshot is that the header names."""
        return self.path.with_name(f"{SNAPSHOT_NAME}{self._header.snapshot_index}")

    # --- Files and errors --------------------------------------------------------------------

    def _put(self, path: Path, content: bytes) -> int:
        return put_file(self._disk, path, content)

    def _read(self, path: Path) -> bytes:
        file = self._disk.open(path)
        try:
            return self._disk.read(file)
        finally:
            self._disk.close(file)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._disk.remove(self.path.with_name(name))

    @contextlib.contextmanager
    def _errors_are_final(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._unusable = f"failed before: {error.strerror}"
            if isinstance(error, FileExistsError):
                raise StorageError(f"{error.filename} is not a directory") from error
            raise StorageError(f"{error.filename or self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file and give the directory back. A second call does nothing."""
        self._unusable = "it is closed"
        for handle in (self._file, self._lock):
            if handle >= 0:
                self._disk.close(handle)
        self._file = self._lock = -1


@contextlib.contextmanager
def _damage_in(path: Path) -> Iterator[None]:
    try:
        yield
    except DamagedError as damage:
        raise StorageDamaged(
            f"{path}: damaged at byte {damage.offset}: {damage.what}; the file was left as it is"
        ) from damage
