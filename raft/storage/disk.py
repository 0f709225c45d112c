"""The few calls by which bytes reach a disk and stay there.

A store makes them through a :class:`Disk`, so that it runs unchanged on a real one and on
``raft.testing.disk.SimulatedDisk``, which loses what a power cut may lose.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from pathlib import Path
from typing import Protocol

# On macOS fsync only hands the bytes to the drive; this also empties the drive's cache.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)

UNFINISHED = ".tmp"
"""The end of the name of a file that is still being written. After a crash it is rubbish."""


class Disk(Protocol):
    """A file system. Files and locks are known by handles; every call may raise OSError.

    What is written survives a power cut when ``sync`` has returned, and a name, be it new,
    changed or removed, when ``sync_directory`` has. Before that it may or may not.
    """

    def make_directory(self, path: Path) -> None:
        """Create a directory that only its owner may enter, durably. An existing one is kept."""

    def lock(self, directory: Path) -> int:
        """Take the directory for this process alone, until the handle is closed or it dies.

        Raises BlockingIOError if another process has it.
        """

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory, in no order."""

    def open(self, path: Path) -> int:
        """Open a file that is there, to read it."""

    def create(self, path: Path) -> int:
        """Open a new, empty file that only its owner may read. Raises FileExistsError."""

    def read(self, file: int) -> bytes:
        """Return the whole file."""

    def write_at(self, file: int, data: bytes | memoryview, offset: int) -> int:
        """Write at least the first bytes of ``data`` at ``offset``; return how many."""

    def sync(self, file: int) -> None:
        """Return when everything written to the file survives a power cut.

        After an error nobody knows which bytes do, and a second call may report success
        without having written them.
        """

    def close(self, handle: int) -> None:
        """Let go of a file or a lock."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name of the same directory, in place of the file that had it."""

    def remove(self, path: Path) -> None:
        """Remove a name."""

    def sync_directory(self, path: Path) -> None:
        """Return when the names in a directory survive a power cut."""

    def salt(self) -> int:
        """Return 64 bits that nobody can guess."""


class RealDisk:
    """The file system of the machine."""

    def make_directory(self, path: Path) -> None:
        """Create a directory, and those above it."""
        missing = [level for level in (path, *path.parents) if not level.exists()]
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for level in reversed(missing):
            self.sync_directory(level.parent)

    def lock(self, directory: Path) -> int:
        """Take the directory for this process alone."""
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise
        return handle

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""
        return os.listdir(directory)

    def open(self, path: Path) -> int:
        """Open a file that is there."""
        return os.open(path, os.O_RDONLY)

    def create(self, path: Path) -> int:
        """Open a new, empty file."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)

    def read(self, file: int) -> bytes:
        """Return the whole file."""
        with open(file, "rb", closefd=False) as reader:
            reader.seek(0)
            return reader.read()

    def write_at(self, file: int, data: bytes | memoryview, offset: int) -> int:
        """Write at least the first bytes of ``data``."""
        return os.pwrite(file, data, offset)

    def sync(self, file: int) -> None:
        """Return when everything written survives a power cut."""
        if _FULL_SYNC is None:
            os.fdatasync(file)
        else:
            fcntl.fcntl(file, _FULL_SYNC)

    def close(self, handle: int) -> None:
        """Let go of a file or a lock."""
        os.close(handle)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        os.rename(old, new)

    def remove(self, path: Path) -> None:
        """Remove a name."""
        os.unlink(path)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in a directory survive a power cut."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def salt(self) -> int:
        """Return 64 bits of the system's randomness."""
        return secrets.randbits(64)


def write_all(disk: Disk, file: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``. Raises OSError; part of it may be written then."""
    rest = memoryview(data)
    while rest:
        written = disk.write_at(file, rest, offset)
        rest = rest[written:]
        offset += written


class NoRoomError(OSError):
    """There is no room for a new file, and nothing of it is there."""


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def put_file(disk: Disk, path: Path, content: bytes) -> int:
    """Put a file in place, durably, and return it open. Raises NoRoomError, OSError.

    A crash leaves either ``content`` under that name or what was there before: the name is
    given only to bytes that are durable.
    """
    file = _unfinished_file(disk, path, content)
    try:
        disk.sync(file)
        disk.rename(_unfinished(path), path)
        disk.sync_directory(path.parent)
    except OSError:
        disk.close(file)
        raise
    return file


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + UNFINISHED)


def _unfinished_file(disk: Disk, path: Path, content: bytes) -> int:
    file = -1
    try:
        file = disk.create(_unfinished(path))
        write_all(disk, file, content, 0)
    except OSError as error:
        if file >= 0:
            disk.close(file)
        if error.errno not in _NO_ROOM:
            raise
        if file >= 0:
            disk.remove(_unfinished(path))
        raise NoRoomError(error.errno, error.strerror, str(path)) from error
    return file
