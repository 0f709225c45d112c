"""The few calls by which bytes reach a disk and stay there."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

# On macOS fsync only hands the bytes to the drive; this also empties the drive's cache.
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync(descriptor: int) -> None:
    """Return when everything written to ``descriptor`` survives a power cut. Raises OSError."""
    if _FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, _FULL_SYNC)


def write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``. Raises OSError; part of it may be written then."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]
        offset += written


def read_all(descriptor: int) -> bytes:
    """Return the whole file."""
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: a new file is not there until its name is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory that only its owner may enter, durably. An existing one is kept."""
    missing = [level for level in (path, *path.parents) if not level.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for level in reversed(missing):
        sync_directory(level.parent)


def lock_directory(path: Path) -> int:
    """Take the directory for this process alone; closing the descriptor gives it back.

    Raises BlockingIOError if another process has it. The lock dies with its process.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def create_file(path: Path, content: bytes) -> None:
    """Create a file (mode 0600) with ``content``, durably: all of it or no file at all."""
    unfinished = path.with_name(path.name + ".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_at(descriptor, content, 0)
        sync(descriptor)
    finally:
        os.close(descriptor)
    os.rename(unfinished, path)
    sync_directory(path.parent)
