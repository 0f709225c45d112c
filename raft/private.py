"""Files that only their owner may read: secrets, and keys."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def write_private(path: Path, data: bytes) -> None:
    """Write a new file (mode 0600), or none at all. Raises OSError, also if the file exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink()  # a part of a secret is none, and would be in the way
        raise


def read_private(path: Path) -> bytes:
    """Return what is in a file. Raises OSError, and ValueError when others may use the file."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(
                f"{path}: others may use this file (mode {stat.S_IMODE(mode):04o}), so it keeps "
                "no secret; make it yours alone with chmod 600"
            )
        return file.read()
