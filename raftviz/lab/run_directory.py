"""The private directory of one run: the secret, the viewers' socket, the servers' data.

A run holds a lock on a file in it for as long as it lives. The kernel lets go of the lock
however the run ends, so the next run can tell what was left behind, and removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path

from raft.secret import read_secret, write_secret

MAX_SOCKET_PATH = 103
"""Bytes of the longest path that a socket can have on every system."""
_PREFIX = "raftviz-"
_LOCK = "lock"
_SOCKET = "viewers.sock"


class RunDirectory:
    """A directory (mode 0700) that lasts exactly as long as a run, and its cluster's secret.

    ``data`` is where the servers' directories go; another place than the run's own is kept.
    """

    def __init__(self, data: Path | None = None) -> None:
        """Make the directory. Raises OSError."""
        remove_stale()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH:
            self.path.rmdir()
            raise OSError(f"{self.socket}: too long for a socket; set TMPDIR to a shorter path")
        self._lock = _lock(self.path)
        self.data = self.path if data is None else data
        self.secret_file = self.path / "secret"
        write_secret(self.secret_file)
        self.secret = read_secret(self.secret_file)

    @property
    def socket(self) -> Path:
        """Where viewers attach."""
        return self.path / _SOCKET

    def server_directory(self, server: int) -> Path:
        """Return (and create) the directory of one server."""
        path = self.data / f"s{server}"
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def remove(self) -> None:
        """Remove everything of the run that was not asked to be kept."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def remove_stale() -> None:
    """Remove the directories of runs that were killed before they could do it themselves."""
    for path in Path(tempfile.gettempdir()).glob(_PREFIX + "*"):
        if _is_ours(path) and _is_abandoned(path):
            shutil.rmtree(path, ignore_errors=True)


def running() -> dict[str, Path]:
    """Return the labs of this user that run, by name, and where viewers attach to each.

    What is left of others is removed.
    """
    remove_stale()
    found = sorted(Path(tempfile.gettempdir()).glob(_PREFIX + "*"))
    sockets = {path.name.removeprefix(_PREFIX): path / _SOCKET for path in found if _is_live(path)}
    return {name: socket for name, socket in sockets.items() if socket.exists()}


def _is_live(path: Path) -> bool:
    return _is_ours(path) and (path / _LOCK).exists() and not _is_abandoned(path)


def _is_ours(path: Path) -> bool:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _is_abandoned(path: Path) -> bool:
    try:
        descriptor = os.open(path / _LOCK, os.O_RDWR)
    except OSError:
        return False  # it is just being made, or is no run's directory
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _lock(directory: Path) -> int:
    """Lock the run; the file gets its name only when locked, so it never looks abandoned."""
    unfinished = directory / (_LOCK + ".new")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unfinished.rename(directory / _LOCK)
    return descriptor
