"""The cluster's secret in a file that only its owner may read."""

from __future__ import annotations

import secrets
from pathlib import Path

from raft.private import read_private, write_private


def write_secret(path: Path) -> None:
    """Write a new random secret (mode 0600). Raises OSError, also if the file exists."""
    write_private(path, secrets.token_hex(32).encode() + b"\n")


def read_secret(path: Path | str) -> bytes:
    """Return the secret, without white space around it.

    Raises OSError, and ValueError when others may read the file or it holds none.
    """
    secret = read_private(Path(path)).strip()
    if not secret:
        raise ValueError(f"{path}: the file holds no secret")
    return secret
