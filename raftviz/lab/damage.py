"""What can happen to the files of a server while it is dead: a bit flips, or all is gone."""

from __future__ import annotations

import enum
import os
import shutil
from pathlib import Path

from raftviz.lab.who import RefusedError


class File(enum.Enum):
    """The parts of what a server keeps; its files are known by how their names begin."""

    LOG = "log"
    VOTE = "vote"
    SNAPSHOT = "snapshot"


_NAMES = {
    File.LOG: ("raft.wal", "log-"),
    File.VOTE: ("vote",),
    File.SNAPSHOT: ("snapshot-",),
}


def flip(directory: Path, file: File, offset: int | None) -> str:
    """Flip the lowest bit of a byte: of the middle one that was written, unless one is named.

    Returns in words what was done. Raises RefusedError if there is no such file or byte.
    """
    path = _newest(directory, file)
    content = bytearray(path.read_bytes())
    written = len(content.rstrip(b"\0"))
    if not written:
        raise RefusedError(f"{path.name} is empty")
    place = written // 2 if offset is None else offset
    if place >= len(content):
        raise RefusedError(f"{path.name} has {len(content)} bytes, numbered from 0")
    with path.open("r+b") as opened:
        opened.seek(place)
        opened.write(bytes([content[place] ^ 1]))
    return f"a bit of byte {place} of {path.name} ({written} bytes) is flipped"


def _newest(directory: Path, file: File) -> Path:
    found = [
        path
        for path in (directory.iterdir() if directory.is_dir() else ())
        if path.name.startswith(_NAMES[file]) and path.suffix != ".tmp"
    ]
    if not found:
        raise RefusedError(f"there is no {file.value} on its disk")
    return max(found, key=lambda path: (os.stat(path).st_mtime_ns, path.name))


def wipe(directory: Path) -> str:
    """Remove all that a server has stored; return in words what was done."""
    shutil.rmtree(directory, ignore_errors=True)
    return "everything is wiped"
