"""A real disk that fails when it is told to: the one place where a server does (design §6).

Only an attended server has it, and only its observer commands it. Until then it does what
``RealDisk`` does, and besides remembers how to undo what is not synced yet::

    write_at ──▶ the file, and the bytes that were there before
    sync     ──▶ these are forgotten: a power cut loses nothing of the file any more

The end of a process loses nothing that it wrote: the system has it. A power cut does, and
SIGKILL is none. So :meth:`FaultyDisk.cut_power` first undoes all that was not synced, and then
ends the process; what the next one finds is what a machine would find whose power failed.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from raft.clock import VirtualClock
from raft.storage.disk import RealDisk, write_all


@dataclass(frozen=True, slots=True)
class _Write:
    """``length`` bytes that were written at ``offset``, over ``before`` and the file's end.

    ``size`` was that of the file.
    """

    offset: int
    length: int
    before: bytes
    size: int

    def undo(self, file: int, end: int) -> None:
        """Let be there what was there before, up to ``end``; nothing reads as zeros."""
        bytes_before = self.before.ljust(self.length, b"\0")[: max(0, end - self.offset)]
        os.pwrite(file, bytes_before, self.offset)


@dataclass(slots=True)
class _File:
    """A file of which something is not durable. ``handle`` is a handle of our own."""

    handle: int
    durable_size: int
    waiting: list[_Write] = field(default_factory=list)
    doomed: list[_Write] = field(default_factory=list)
    """An fsync failed with these: the system takes them for written, and they never will be."""

    def undo(self) -> None:
        """Leave what a power cut leaves."""
        for write in reversed(self.waiting):
            write.undo(self.handle, write.offset + write.length)
        os.ftruncate(self.handle, self.durable_size)
        for write in reversed(self.doomed):
            write.undo(self.handle, self.durable_size)


@dataclass(frozen=True, slots=True)
class _Naming:
    """A change of names in a directory, and how to undo it."""

    directory: Path
    undo: Callable[[], None]
    replaced: int = -1
    """A handle of the file that lost its name by it; -1: none did."""


class FaultyDisk(RealDisk):
    """The file system of the machine, and what may befall it.

    ``clock`` is the cluster's, in whose time the disk is slow; while that stands still it is
    not. ``turn_off`` ends the process; a test may put something else there.
    """

    def __init__(self, turn_off: Callable[[], None] | None = None) -> None:
        self._clock = VirtualClock(rate=0.0)
        self._turn_off = turn_off or _end_this_process
        self._changed = threading.Condition()
        self._lock = threading.RLock()
        self._delay = 0.0
        self._full = self._fails = self._tears = False
        self._files: dict[tuple[int, int], _File] = {}
        self._namings: list[_Naming] = []

    # --- What an observer commands (in the server's loop) ------------------------------------

    def rig(self, delay: float, full: bool, fail_sync: bool, tear: bool) -> None:
        """Fail like this from here on.

        Each sync takes ``delay`` more (seconds of the cluster's time); a ``full`` disk lets no
        file grow; ``fail_sync`` lets the next sync fail, and ``tear`` lets the power fail in
        the middle of the next write. All False and 0: the disk is in order.
        """
        with self._changed:
            self._delay, self._full, self._fails, self._tears = delay, full, fail_sync, tear
            self._changed.notify_all()

    def follow(self, clock: VirtualClock) -> None:
        """Go by this clock; called again whenever it runs otherwise."""
        with self._changed:
            self._clock = clock
            self._changed.notify_all()

    def cut_power(self) -> None:
        """Lose everything that is not synced, and end this process."""
        with self._lock:
            self._undo()
            self._turn_off()

    # --- What the store does (in the disk's thread) ------------------------------------------

    def create(self, path: Path) -> int:
        """Open a new, empty file."""
        with self._lock:
            file = super().create(path)
            self._namings.append(_Naming(path.parent, lambda: _unlink(path)))
            return file

    def write_at(self, file: int, data: bytes | memoryview, offset: int) -> int:
        """Write at least the first bytes of ``data``."""
        with self._lock:
            size = os.fstat(file).st_size
            if self._full and offset + len(data) > size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._tears:
                self._undo()
                super().write_at(file, data[: max(1, len(data) // 2)], offset)
                self._turn_off()
            before = os.pread(file, len(data), offset)
            written = super().write_at(file, data, offset)
            write = _Write(offset, written, before[:written], size)
            self._known(file, size).waiting.append(write)
            return written

    def sync(self, file: int) -> None:
        """Return when everything written survives a power cut."""
        with self._lock:
            known = self._files.get(_identity(file))
            synced = len(known.waiting) if known else 0
        try:
            self._before_sync()
        except OSError:
            if known is not None:
                with self._lock:
                    known.doomed += known.waiting[:synced]
                    del known.waiting[:synced]
            raise
        super().sync(file)
        if known is not None:
            with self._lock:
                self._settle(known, synced)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        with self._lock:
            replaced = _open_if_there(new)
            super().rename(old, new)

            def undo() -> None:
                os.rename(new, old)
                if replaced >= 0:
                    _put_back(new, replaced)

            self._namings.append(_Naming(new.parent, undo, replaced))

    def remove(self, path: Path) -> None:
        """Remove a name."""
        with self._lock:
            removed = _open_if_there(path)
            try:
                super().remove(path)
            except OSError:
                os.close(removed)
                raise
            undo = _Naming(path.parent, lambda: _put_back(path, removed), removed)
            self._namings.append(undo)

    def sync_directory(self, path: Path) -> None:
        """Return when the names in a directory survive a power cut."""
        with self._lock:
            synced = [naming for naming in self._namings if naming.directory == path]
        self._before_sync()
        super().sync_directory(path)
        with self._lock:
            self._namings = [naming for naming in self._namings if naming not in synced]
        for naming in synced:
            if naming.replaced >= 0:
                os.close(naming.replaced)

    # --- Inside ------------------------------------------------------------------------------

    def _before_sync(self) -> None:
        with self._changed:
            due = self._clock.now() + self._delay
            while self._delay and (left := self._clock.real_delay(due)):
                self._changed.wait(left)
            if self._fails:
                self._fails = False
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _known(self, file: int, size: int) -> _File:
        identity = _identity(file)
        if identity not in self._files:
            self._files[identity] = _File(os.dup(file), size)
        return self._files[identity]

    def _settle(self, known: _File, synced: int) -> None:
        """Forget how to undo the first writes of a file, and the file if that was all."""
        del known.waiting[:synced]
        size = known.waiting[0].size if known.waiting else os.fstat(known.handle).st_size
        known.durable_size = size
        if not known.waiting and not known.doomed:
            del self._files[_identity(known.handle)]
            os.close(known.handle)

    def _undo(self) -> None:
        for known in self._files.values():
            known.undo()
        for naming in reversed(self._namings):
            naming.undo()


def _identity(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _open_if_there(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return -1


def _unlink(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()


def _put_back(path: Path, file: int) -> None:
    """Give a name back to a file that lost it. Another file gets the same bytes under it."""
    disk = RealDisk()
    copy = disk.create(path)
    write_all(disk, copy, disk.read(file), 0)
    os.close(copy)


def _end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
