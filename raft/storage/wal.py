"""The log on disk: one append-only file in a directory of its own.

``raft.storage.records`` defines the bytes and says which damage is a torn write; this module
moves them. An acknowledged byte is never cut off or changed: what a new leader's entries
replace is still in the file, and the later record counts.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from raft.core.log import HardState, InvariantViolation
from raft.core.messages import Entry, Index, ServerId
from raft.storage import disk
from raft.storage.base import Recovered, StorageDamaged, StorageError
from raft.storage.records import (
    VERSION,
    Batch,
    DamagedError,
    Header,
    decode_header,
    encode_batch,
    encode_header,
    read_batches,
    seed_of,
)

FILE_NAME = "raft.wal"


class Wal:
    """A ``LogStore`` that survives crashes and power cuts.

    ``dropped_tail`` says, after ``load``, how many bytes of a batch that a crash had left
    unfinished were dropped. ``path`` is the file.
    """

    def __init__(self, directory: Path | str, cluster: str, server: ServerId) -> None:
        """Open, or create, the log of one server in ``directory`` and lock the directory.

        Raises StorageError if another process uses it, if it belongs to another server or
        cluster, or if the disk refuses.
        """
        self.path = Path(directory).resolve() / FILE_NAME
        self.dropped_tail = 0
        self._unusable = "load it first"
        self._owner = Header(cluster, server, secrets.randbits(64))
        self._lock = self._file = -1
        self._seed = self._chain = self._end = self._last_index = 0
        try:
            self._open()
        except OSError as error:
            self.close()
            where = error.filename or self.path
            if isinstance(error, FileExistsError):
                raise StorageError(f"{where} is not a directory") from error
            raise StorageError(f"{where}: {error.strerror}") from error
        except StorageError:
            self.close()
            raise

    def _open(self) -> None:
        disk.make_directory(self.path.parent)
        try:
            self._lock = disk.lock_directory(self.path.parent)
        except BlockingIOError:
            raise StorageError(
                f"{self.path.parent}: in use by another process; "
                "every server needs a directory of its own"
            ) from None
        if not self.path.exists():
            disk.create_file(self.path, encode_header(self._owner))
        self._file = os.open(self.path, os.O_RDWR)

    def load(self) -> Recovered:
        """Read the log; drop a torn tail. Raises StorageDamaged, StorageError."""
        with self._errors_are_final():
            data = disk.read_all(self._file)
        try:
            start = self._check_header(data)
            batches = list(read_batches(data, start, self._seed))
            recovered = self._fold(start, batches)
        except DamagedError as damage:
            raise StorageDamaged(
                f"{self.path}: damaged at byte {damage.offset}: {damage.what}; "
                "the file was left as it is"
            ) from damage
        self._last_index = len(recovered.entries)
        self._chain = batches[-1].chain if batches else self._seed
        self._end = start + sum(len(batch.data) for batch in batches)
        self.dropped_tail = max(0, len(data) - self._end)
        self._unusable = ""
        with self._errors_are_final():
            self._secure_tail(batches[-1].data if batches else b"")
        return recovered

    def _check_header(self, data: bytes) -> int:
        """Return where the records start, if the file is ours."""
        header, raw = decode_header(data)
        self._seed = seed_of(raw)
        if header.version != VERSION:
            raise StorageError(
                f"{self.path}: format version {header.version}; this program reads {VERSION}"
            )
        if (header.cluster, header.server) != (self._owner.cluster, self._owner.server):
            raise StorageError(
                f"{self.path}: belongs to server {header.server} of cluster {header.cluster!r}, "
                f"not to server {self._owner.server} of cluster {self._owner.cluster!r}"
            )
        return len(raw)

    def _fold(self, offset: int, batches: Sequence[Batch]) -> Recovered:
        hard_state, log = HardState(), list[Entry]()
        for batch in batches:
            if batch.entries:
                if not 1 <= batch.first_index <= len(log) + 1:
                    raise DamagedError(
                        offset, f"entry {batch.first_index} follows entry {len(log)}"
                    )
                log[batch.first_index - 1 :] = batch.entries
            hard_state = batch.hard_state or hard_state
            offset += len(batch.data)
        return Recovered(hard_state, tuple(log))

    def _secure_tail(self, last_batch: bytes) -> None:
        """Cut off what is torn, and write the last batch once more.

        Its fsync may have failed in the process before this one. The kernel then keeps the
        bytes in memory, marked as written, though they never reached the disk; only bytes
        written again are sure to be synced. Every batch before it was: the next one starts
        only after a good fsync.
        """
        os.ftruncate(self._file, self._end)
        disk.write_at(self._file, last_batch, self._end - len(last_batch))
        disk.sync(self._file)
        disk.sync_directory(self.path.parent)

    def save(
        self, hard_state: HardState | None, first_index: Index, entries: Sequence[Entry]
    ) -> None:
        """Append one batch and sync it, as ``LogStore.save`` says. One write, one fsync.

        After an error every later call raises: bytes after a failed fsync may be gone although
        a second fsync says that all is well.
        """
        if self._unusable:
            raise StorageError(f"{self.path}: {self._unusable}")
        if hard_state is None and not entries:
            return
        if entries and not 1 <= first_index <= self._last_index + 1:
            raise InvariantViolation(f"entry {first_index} cannot follow entry {self._last_index}")
        data, chain = encode_batch(hard_state, first_index, entries, self._seed, self._chain)
        with self._errors_are_final():
            disk.write_at(self._file, data, self._end)
            disk.sync(self._file)
        self._chain = chain
        self._end += len(data)
        if entries:
            self._last_index = first_index + len(entries) - 1

    @contextlib.contextmanager
    def _errors_are_final(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._unusable = f"failed before: {error.strerror}"
            raise StorageError(f"{self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file and give the directory back. A second call does nothing."""
        self._unusable = "it is closed"
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1
