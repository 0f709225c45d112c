"""The cluster's secret in a file that only its owner may read."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


def write_secret(path: Path) -> None:
    """Write a new random secret (mode 0600). Raises OSError, also if the file exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(secrets.token_hex(32) + "\n")


def read_secret(path: Path) -> bytes:
    """Return the secret, without white space around it.

    Raises OSError, and ValueError when others may read the file or it holds none.
    """
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ValueError(
                f"{path}: others may use this file (mode {stat.S_IMODE(mode):04o}), so it keeps "
                "no secret; make it yours alone with chmod 600"
            )
        secret = file.read().strip()
    if not secret:
        raise ValueError(f"{path}: the file holds no secret")
    return secret
