"""A disk in memory that loses what a power cut may lose, and fails when told to.

Every write goes to a cache first, as in a real machine, and is durable only when its file was
synced; names are durable when their directory was. :meth:`SimulatedDisk.crash` decides what
becomes of the rest: none of it is there, or its beginning, or any of its sectors, some of them
garbled. The same seed and the same calls give the same disk::

    disk = SimulatedDisk(seed=7)
    wal = Wal("/s1", "demo", 1, disk)
    …
    disk.crash()                          # a power cut; disk.kill() is the end of a process
    wal = Wal("/s1", "demo", 1, disk)     # what recovers is what was promised

Assumed of the disk: a sector that is being written may end up as anything, but bytes in it that
are not being written stay as they are.
"""

from __future__ import annotations

import enum
import errno
import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

SECTOR = 512
"""Bytes that a disk writes as one."""


class PowerCut(Exception):  # noqa: N818 - it is no error of the store's
    """The power is off, by :attr:`SimulatedDisk.calls_left`. Nothing can be done any more."""


class Fate(enum.Enum):
    """What a power cut does to a piece of what was not synced.

    A piece is what was written to a sector, one write directly behind the other, or a change of
    names, which is kept or lost.
    """

    KEPT = enum.auto()
    LOST = enum.auto()
    CUT = enum.auto()
    """The first bytes are written; chance lets this be the end of what is kept."""
    GARBLED = enum.auto()
    """Other bytes are written."""
    ZEROED = enum.auto()
    """Zeros are written."""


@dataclass(eq=False, slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    cached: bytearray = field(default_factory=bytearray)


@dataclass(eq=False, slots=True)
class _Write:
    """Bytes within one sector."""

    file: _File
    offset: int
    data: bytes


@dataclass(eq=False, slots=True)
class _Naming:
    """Names of one directory begin to mean other files, or none; all of them or none does."""

    directory: Path
    names: tuple[tuple[Path, _File | None], ...]


_Piece = _Write | _Naming


class SimulatedDisk:
    """A ``Disk`` for tests and simulations; one seed decides all that is left to chance.

    Faults are set by its attributes and methods, at any time:

    ``calls``          how often each call was made
    ``capacity``       bytes that fit in all files together; beyond that, ENOSPC (None: no end)
    ``longest_write``  a call writes no more bytes than these (None: as many as it is given)
    ``calls_left``     so many more calls that change something; then the power is off, and every
                       call raises PowerCut until ``crash`` or ``kill`` (None: it stays on)
    ``read_only``      nothing can be changed until ``crash``: EROFS
    ``refusals``       how many calls failed because of one of these, or of ``fail``
    """

    def __init__(self, seed: int | Random = 0, files: Mapping[Path, bytes] | None = None) -> None:
        """Make a disk that holds ``files``, durably; by default it is empty."""
        self._random = seed if isinstance(seed, Random) else Random(seed)  # noqa: S311
        self.calls: Counter[str] = Counter()
        self.refusals = 0
        self.capacity: int | None = None
        self.longest_write: int | None = None
        self.calls_left: int | None = None
        self._failures: dict[str, list[int]] = {}
        self.read_only = False
        self._directories: set[Path] = set()
        self._durable_names: dict[Path, _File] = {}
        self._names: dict[Path, _File] = {}
        self._pending: list[_Piece] = []
        self._open: dict[int, _File] = {}
        self._locks: dict[int, Path] = {}
        self._last_handle = 0
        self._put_files(files or {})

    # --- What a process may do: Disk ---------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        """Create a directory, and those above it, durably."""
        self._begin("make_directory")
        self._directories.update((path, *path.parents))

    def lock(self, directory: Path) -> int:
        """Take the directory for one process."""
        self._begin("lock")
        self._require_directory(directory)
        if directory in self._locks.values():
            raise _error(errno.EAGAIN, directory)
        handle = self._new_handle()
        self._locks[handle] = directory
        return handle

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""
        self._begin("names")
        self._require_directory(directory)
        return [path.name for path in self._names if path.parent == directory]

    def open(self, path: Path) -> int:
        """Open a file that is there."""
        self._begin("open")
        handle = self._new_handle()
        self._open[handle] = self._named(path)
        return handle

    def create(self, path: Path) -> int:
        """Open a new, empty file."""
        self._begin_change("create")
        self._require_directory(path.parent)
        if path in self._names:
            raise _error(errno.EEXIST, path)
        handle = self._new_handle()
        self._open[handle] = _File()
        self._name(path.parent, (path, self._open[handle]))
        return handle

    def read(self, file: int) -> bytes:
        """Return the whole file, as it is in the cache."""
        self._begin("read")
        return bytes(self._opened(file).cached)

    def write_at(self, file: int, data: bytes | memoryview, offset: int) -> int:
        """Write into the cache, as much as one call may and the disk has room for."""
        self._begin_change("write_at")
        target = self._opened(file)
        written = bytes(data[: self.longest_write])
        if self.capacity is not None:
            room = max(0, self.capacity - self._used() + len(target.cached) - offset)
            written = written[:room]
        if data and not written:
            self.refusals += 1
            raise _error(errno.ENOSPC)
        _write(target.cached, offset, written)
        end = offset + len(written)
        edges = [offset, *range(offset - offset % SECTOR + SECTOR, end, SECTOR), end]
        for start, after in itertools.pairwise(edges):
            self._wait(target, start, written[start - offset : after - offset])
        return len(written)

    def sync(self, file: int) -> None:
        """Make a file durable.

        A failure leaves some of it on the disk and takes the rest for written, as Linux does:
        the cache shows it, and no later sync writes it.
        """
        synced = self._opened(file)
        try:
            self._begin_change("sync")
        except OSError:
            for piece in self._take_pending(synced):
                if self._random.random() < 0.5:
                    _write(synced.durable, piece.offset, piece.data)
            raise
        for piece in self._take_pending(synced):
            _write(synced.durable, piece.offset, piece.data)

    def close(self, handle: int) -> None:
        """Let go of a file or a lock."""
        self._begin("close")
        if handle in self._locks:
            del self._locks[handle]
        else:
            self._opened(handle)
            del self._open[handle]

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name."""
        self._begin_change("rename")
        self._name(old.parent, (new, self._named(old)), (old, None))

    def remove(self, path: Path) -> None:
        """Remove a name."""
        self._begin_change("remove")
        self._named(path)
        self._name(path.parent, (path, None))

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable.

        After a failure nothing can be changed until the machine is started anew: a file system
        whose journal cannot be written gives up.
        """
        self._require_directory(path)
        try:
            self._begin_change("sync_directory")
        except OSError:
            self.read_only = True
            raise
        waiting, self._pending = self._pending, []
        for piece in waiting:
            if isinstance(piece, _Naming) and piece.directory == path:
                _bind(self._durable_names, piece)
            else:
                self._pending.append(piece)

    def salt(self) -> int:
        """Return 64 bits that the seed decides."""
        return self._random.getrandbits(64)

    # --- What may happen to a machine --------------------------------------------------------

    def kill(self) -> None:
        """End the process that used the disk: what it wrote is in the cache, synced or not."""
        self._open.clear()
        self._locks.clear()
        self.calls_left = None

    def crash(self, fates: Sequence[Fate] | None = None) -> None:
        """Cut the power. ``fates`` says what becomes of each of ``pieces`` (None: chance)."""
        self.replace_all(self.survivors(self._draw_fates() if fates is None else fates))
        self.read_only = False

    @property
    def pieces(self) -> int:
        """How many pieces of what was done are not durable yet."""
        return len(self._pending)

    def survivors(self, fates: Sequence[Fate]) -> dict[Path, bytes]:
        """Return the files that a power cut now would leave, if it did this to ``pieces``."""
        names = dict(self._durable_names)
        images: dict[_File, bytearray] = {}
        for piece, fate in zip(self._pending, fates, strict=True):
            if isinstance(piece, _Naming):
                if fate is Fate.KEPT:
                    _bind(names, piece)
                continue
            if piece.file not in images:
                images[piece.file] = bytearray(piece.file.durable)
            _write(images[piece.file], piece.offset, self._after(fate, piece.data))
        return {path: bytes(images.get(file, file.durable)) for path, file in names.items()}

    def fail(self, call: str, error: int = errno.EIO, after: int = 0) -> None:
        """Let the call of that name fail once, after so many more good ones of it."""
        planned = self._failures.setdefault(call, [])
        planned.extend([0] * (after + 1 - len(planned)))
        planned[after] = error

    def flip(self, path: Path, bit: int) -> None:
        """Flip one bit of a file: the disk has aged."""
        for content in (self._named(path).durable, self._named(path).cached):
            if bit < len(content) * 8:
                content[bit // 8] ^= 1 << bit % 8

    def put(self, path: Path, content: bytes) -> None:
        """Let a file hold other bytes, durably: what disks and file systems do when they fail."""
        file = self._named(path)
        self._take_pending(file)
        file.durable[:] = file.cached[:] = content

    def replace_all(self, files: Mapping[Path, bytes]) -> None:
        """Let the disk hold these files and no others: another disk is in its place."""
        self.kill()
        self._pending.clear()
        self._names.clear()
        self._durable_names.clear()
        self._put_files(files)

    def content(self, path: Path) -> bytes:
        """Return a file as a process would read it."""
        return bytes(self._named(path).cached)

    def paths(self) -> list[Path]:
        """Return the paths of all files, in order."""
        return sorted(self._names)

    # --- Inside ------------------------------------------------------------------------------

    def _begin(self, call: str) -> None:
        if self.calls_left is not None and self.calls_left < 0:
            raise PowerCut
        self.calls[call] += 1
        if self._failures and (planned := self._failures.get(call)) and (error := planned.pop(0)):
            self.refusals += 1
            raise _error(error)

    def _begin_change(self, call: str) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
        self._begin(call)
        if self.read_only:
            self.refusals += 1
            raise _error(errno.EROFS)

    def _put_files(self, files: Mapping[Path, bytes]) -> None:
        for path, content in files.items():
            self._directories.update(path.parents)
            self._durable_names[path] = _File(bytearray(content), bytearray(content))
        self._names.update(self._durable_names)

    def _new_handle(self) -> int:
        self._last_handle += 1
        return self._last_handle

    def _opened(self, handle: int) -> _File:
        if handle not in self._open:
            raise _error(errno.EBADF)
        return self._open[handle]

    def _named(self, path: Path) -> _File:
        if path not in self._names:
            raise _error(errno.ENOENT, path)
        return self._names[path]

    def _require_directory(self, path: Path) -> None:
        if path not in self._directories:
            raise _error(errno.ENOENT, path)

    def _used(self) -> int:
        return sum(len(file.cached) for file in self._names.values())

    def _name(self, directory: Path, *names: tuple[Path, _File | None]) -> None:
        naming = _Naming(directory, names)
        _bind(self._names, naming)
        self._pending.append(naming)

    def _wait(self, file: _File, offset: int, data: bytes) -> None:
        """Let bytes of one sector wait to reach the disk, with those just before them in it.

        The cache has them together, so the disk gets the later ones never without the others.
        """
        last = self._pending[-1] if self._pending else None
        follows = isinstance(last, _Write) and last.offset + len(last.data) == offset
        if isinstance(last, _Write) and last.file is file and follows and offset % SECTOR:
            last.data += data
        else:
            self._pending.append(_Write(file, offset, data))

    def _take_pending(self, file: _File) -> list[_Write]:
        """Return what of a file waits to reach the disk, and let it wait no longer."""
        mine: list[_Write] = []
        others: list[_Piece] = []
        for piece in self._pending:
            if isinstance(piece, _Write) and piece.file is file:
                mine.append(piece)
            else:
                others.append(piece)
        self._pending = others
        return mine

    def _draw_fates(self) -> list[Fate]:
        pieces, random = self.pieces, self._random
        match random.randrange(5):
            case 0:
                return [Fate.LOST] * pieces
            case 1:
                return [Fate.KEPT] * pieces
            case 2:
                kept = random.randint(0, pieces)
                cut = [Fate.KEPT] * kept + [Fate.CUT] + [Fate.LOST] * (pieces - kept)
                return cut[:pieces]
            case 3:
                return random.choices((Fate.KEPT, Fate.LOST), k=pieces)
            case _:
                fates = (Fate.KEPT, Fate.LOST, Fate.GARBLED, Fate.ZEROED)
                return random.choices(fates, k=pieces)

    def _after(self, fate: Fate, data: bytes) -> bytes:
        """Return what a power cut leaves of the data of a sector."""
        match fate:
            case Fate.KEPT:
                return data
            case Fate.LOST:
                return b""
            case Fate.CUT:
                return data[: self._random.randint(0, len(data))]
            case Fate.GARBLED:
                return self._random.randbytes(len(data))
            case Fate.ZEROED:
                return bytes(len(data))


def _write(content: bytearray, offset: int, data: bytes) -> None:
    """Write as a file system does: what nobody wrote before ``offset`` reads as zeros."""
    if data:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


def _bind(names: dict[Path, _File], naming: _Naming) -> None:
    for path, file in naming.names:
        if file is None:
            names.pop(path, None)
        else:
            names[path] = file


def _error(number: int, path: Path | None = None) -> OSError:
    """Return the OSError of this number, of the subclass that Python gives it."""
    return OSError(number, os.strerror(number), None if path is None else str(path))
