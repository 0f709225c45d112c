"""The bytes of one segment of the log. Pure: bytes in, values out, and no file in sight.

The log is a chain of segments. Each is a header and then batches, each what one ``save``
wrote, and zeros up to the size that the segment was made with::

    header │ opening batch │ batch │ batch │ … │ zeros

    header    magic 8s │ version u32 │ length of cluster u32 │ server u64 │ sequence u64 │ salt u64
              previous u64 (0: none) │ previous end u64 │ last index u64 │ size u64
              previous chain u32 │ after damage u32 (0 or 1)
              cluster, UTF-8, zeros up to a multiple of 8
              checksum u32 over all of it │ zero u32

    batch     position u64 │ first index u64 │ length u32 │ count u32 │ flags u32
              sum u32 │ chain u32 │ head checksum u32
              ``length`` bytes, of which each part is there only if there is something to say:
                  hard state (flag 1)  currentTerm u64 │ votedFor u64 (0: none) │ recovering u64
                  snapshot (flag 2)    index u64 │ checksum of its header u32 │ zero u32
                  entries              term u64 of each │ size u32 of each │ kind u8 of each │ data
              ones, at least 8, up to a multiple of 64 bits

All numbers are little-endian. ``position`` is where in the file the batch begins. A batch
takes effect as a whole: the hard state replaces the one before (§5.2: never half of it), the
snapshot stands for the entries up to its index, and with a first index other than 0 whatever
stood there and behind it is gone, and ``count`` entries follow on what is left. Nothing is
overwritten: the later batch counts. The opening batch repeats hard state and snapshot, so
that a segment can be read without those before it.

A header names the segment that it continues, where that one ends, the chain there, and the
``last index`` of the log there. What stands in the older segment behind that end does not
count: it is zeros, or what a crash tore. After damage a segment continues none.

``sum`` is the Adler-32 of the body with the ones. ``chain`` is a CRC-32 that runs on from the
batch before through head and body, so a batch is valid only behind those it was written
behind. The head checksum is a CRC-32 of the head; like the chain it starts from the header's
checksum, and so from the salt: nothing that a client may store looks like a batch of this log.

**What a crash leaves.** A batch is one write, and the next one starts only after its fsync. So
a power cut can spoil the last batch alone: any of its sectors may be missing, zero or rubbish.
That is a *torn tail*. It was never acknowledged, and is dropped. All else is *damage*:
something acknowledged would be lost, and with it entries that this server helped to commit.
It is damage

* in a segment that another one continues: all of it was synced before;
* if a batch stands anywhere behind the bad bytes: the bad one was synced before it was written;
* in the header and the opening batch: they were synced before the file got its name;
* if the file is shorter than its ``size``, with which it was made, for the same reason;
* if one flipped bit explains it: that is how disks age, not what a power cut leaves. The head
  is small enough to try each bit. In the body the chain tells which bit it must be, and
  ``sum``, which knows nothing of the chain, confirms it. (A batch ends with ones, so that its
  lost end is more than a bit.)

What remains is greater damage to the last batches, down to the very end: zeros in their place,
say. No single file can tell that from a crash. The vote file can if a term or a vote was in a
batch before the last one that had any (see ``reading``), and keeps it in any case.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from raft.core.log import HardState
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage.checksums import flip, flipped_bit

MAGIC = b"raft-log"
VERSION = 4

_FILE_HEAD = struct.Struct("<8sIIQQQQQQQII")
_CHECKSUM = struct.Struct("<II")
_HEAD = struct.Struct("<QQIIII")
_CHECK = struct.Struct("<I")
_WHOLE_HEAD = struct.Struct("<QQIIIIII")
_POSITION = struct.Struct("<Q")
BATCH_HEAD = _WHOLE_HEAD.size
_CHECKED = BATCH_HEAD - _CHECK.size

_HARD_STATE = struct.Struct("<QQQ")
_SNAPSHOT = struct.Struct("<QII")
_HAS_HARD_STATE, _HAS_SNAPSHOT = 1, 2
_ROW = 8 + 4 + 1
"""What an entry takes beside its data."""
_ONE_ROW = struct.Struct("<QIB")
_KINDS = {kind.value: kind for kind in EntryKind}


class DamagedError(Exception):
    """The bytes at ``offset`` are not what was written there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"byte {offset}: {what}")
        self.offset = offset
        self.what = what


@dataclass(frozen=True, slots=True)
class Header:
    """Whose segment this is, and what it continues.

    ``sequence`` counts segments and is never used again. ``previous`` is the one that this one
    continues (0: none), ``previous_end`` how many of its bytes count, ``previous_chain`` the
    chain there, ``last_index`` that of the log there. ``size``: so many bytes the file was made
    with. ``after_damage``: older segments may be there, but they are evidence. ``salt`` is
    random: no two files have the same.
    """

    cluster: str
    server: ServerId
    sequence: int
    salt: int
    previous: int = 0
    previous_end: int = 0
    previous_chain: int = 0
    last_index: Index = Index(0)
    size: int = 0
    after_damage: bool = False
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class SnapshotMark:
    """Which snapshot stands for the entries up to ``index``; ``check``: of its file's header."""

    index: Index
    check: int


class Batch(NamedTuple):
    """What one ``save`` wrote; ``first_index`` 0: the log is untouched."""

    position: int
    hard_state: HardState | None
    snapshot: SnapshotMark | None
    first_index: Index
    entry_count: int
    rows: int
    """Where in the file the entries are."""
    size: int
    """How many bytes they take."""
    chain: int
    end: int


# --- Writing ---------------------------------------------------------------------------------


def encode_header(header: Header) -> bytes:
    """Return the header's bytes; the chain of batches starts from their ``seed_of``."""
    cluster = header.cluster.encode()
    fixed = _FILE_HEAD.pack(
        MAGIC,
        header.version,
        len(cluster),
        header.server,
        header.sequence,
        header.salt,
        header.previous,
        header.previous_end,
        header.last_index,
        header.size,
        header.previous_chain,
        header.after_damage,
    )
    body = fixed + padded(cluster)
    return body + _CHECKSUM.pack(zlib.crc32(body), 0)


def seed_of(header: bytes) -> int:
    """Return the checksum that salts every batch behind this header."""
    checksum: int = _CHECKSUM.unpack_from(header, len(header) - _CHECKSUM.size)[0]
    return checksum


@dataclass(frozen=True, slots=True)
class Body:
    """A batch of ``count`` entries without its head: the same wherever it is written."""

    flags: int
    count: int
    length: int
    data: bytes

    @property
    def batch_size(self) -> int:
        """How many bytes the batch takes."""
        return BATCH_HEAD + len(self.data)


def encode_body(
    hard_state: HardState | None, snapshot: SnapshotMark | None, entries: Sequence[Entry]
) -> Body:
    """Return what a batch says, but for where it stands."""
    flags, parts = 0, []
    if hard_state is not None:
        flags |= _HAS_HARD_STATE
        voted_for = hard_state.voted_for or 0
        parts.append(_HARD_STATE.pack(hard_state.term, voted_for, hard_state.recovering))
    if snapshot is not None:
        flags |= _HAS_SNAPSHOT
        parts.append(_SNAPSHOT.pack(snapshot.index, snapshot.check, 0))
    count = len(entries)
    if count:
        data = [entry.data for entry in entries]
        parts.append(struct.pack(f"<{count}Q", *[entry.term for entry in entries]))
        parts.append(struct.pack(f"<{count}I", *map(len, data)))
        parts.append(bytes([entry.kind for entry in entries]))
        parts += data
    length = sum(map(len, parts))
    parts.append(b"\xff" * (8 - length % 8))
    return Body(flags, count, length, b"".join(parts))


def encode_batch(
    position: int, first_index: Index, body: Body, seed: int, chain: int
) -> tuple[bytes, int]:
    """Return the bytes of a batch that begins at ``position``, and the chain behind it."""
    head = _HEAD.pack(
        position, first_index, body.length, body.count, body.flags, zlib.adler32(body.data)
    )
    chain = zlib.crc32(body.data, zlib.crc32(head, chain))
    head += _CHECK.pack(chain)
    return b"".join((head, _CHECK.pack(zlib.crc32(head, seed)), body.data)), chain


def padded(data: bytes) -> bytes:
    """Return ``data`` with zeros up to a multiple of 8."""
    return data + bytes(-len(data) % 8)


# --- Reading ---------------------------------------------------------------------------------


def decode_header(data: bytes) -> tuple[Header, bytes]:
    """Return the header at the beginning of ``data`` and its bytes. Raises DamagedError.

    It was durable before the file got its name, so a short or wrong one is never a torn write.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise DamagedError(0, "this is not a log of raft")
    if len(data) < _FILE_HEAD.size:
        raise DamagedError(len(data), "the header ends here, too early")
    _, version, length, server, sequence, salt, *before = _FILE_HEAD.unpack_from(data)
    if 0 < version < VERSION:
        # Of another shape. (No flipped bit makes one of these versions out of this one.)
        return Header("", ServerId(0), sequence=0, salt=0, version=version), b""
    body_end = _FILE_HEAD.size + length + -length % 8
    if body_end + _CHECKSUM.size > len(data):
        raise DamagedError(len(data), "the header ends here, too early")
    body, checks = data[:body_end], data[body_end : body_end + _CHECKSUM.size]
    if checks != _CHECKSUM.pack(zlib.crc32(body), 0):
        raise DamagedError(0, "the header's checksum does not match it")
    cluster = body[_FILE_HEAD.size : _FILE_HEAD.size + length].decode()
    previous, previous_end, last_index, size, previous_chain, after_damage = before
    header = Header(
        cluster,
        ServerId(server),
        sequence,
        salt,
        previous,
        previous_end,
        previous_chain,
        Index(last_index),
        size,
        bool(after_damage),
        version,
    )
    return header, body + checks


class Reader:
    """Reads the batches of one segment, from ``start`` on; ``seed`` is that of its header.

    ``end`` is where it ends if another segment continues it, and ``chain`` the chain there.
    """

    def __init__(
        self, data: bytes, start: int, seed: int, end: int | None = None, chain: int = 0
    ) -> None:
        self._data = data
        self._view = memoryview(data)
        self._start = start
        self._seed = seed
        self._sealed_end = end
        self._sealed_chain = chain
        self._limit = len(data) if end is None else min(end, len(data))

    def batches(self) -> Iterator[Batch]:
        """Yield the whole batches up to the end, or to zeros or a torn tail.

        Raises DamagedError if what follows the last whole batch is none of these.
        """
        offset, chain = self._start, self._seed
        while offset < self._limit:
            batch = self._batch(offset, chain)
            if batch is None:
                self._require_end(offset, chain)
                return
            yield batch
            offset, chain = batch.end, batch.chain
        if offset == self._start:
            raise DamagedError(offset, "the first batch is missing")
        sealed = self._sealed_end
        if sealed is not None and (offset, chain) != (sealed, self._sealed_chain):
            raise DamagedError(offset, f"this ends here; the next segment continues byte {sealed}")

    def _batch(self, offset: int, chain: int) -> Batch | None:
        """Return the batch at ``offset`` if it is whole. Its length is believed if its head is."""
        head = self._view[offset : offset + BATCH_HEAD]
        fields = self._fields(head, offset)
        if fields is None:
            return None
        _, first, length, count, flags, _, stored, _ = fields
        at = offset + BATCH_HEAD
        body_end = at + length
        end = _end(offset, length)
        if end > self._limit or not self._is_whole(head, end, chain, stored):
            return None
        if not flags and count * _ROW <= length:
            return Batch(offset, None, None, Index(first), count, at, length, stored, end)
        hard_state, snapshot = None, None
        if flags & _HAS_HARD_STATE and at + _HARD_STATE.size <= body_end:
            term, voted_for, recovering = _HARD_STATE.unpack_from(self._data, at)
            vote = ServerId(voted_for) if voted_for else None
            hard_state = HardState(Term(term), vote, Term(recovering))
            at += _HARD_STATE.size
        if flags & _HAS_SNAPSHOT and at + _SNAPSHOT.size <= body_end:
            index, check, _ = _SNAPSHOT.unpack_from(self._data, at)
            snapshot = SnapshotMark(Index(index), check)
            at += _SNAPSHOT.size
        if flags >> 2 or count * _ROW > body_end - at or (not count and at != body_end):
            # Checksums and all: written by another program.
            raise DamagedError(offset, f"{count} entries do not fit into {body_end - at} bytes")
        size = body_end - at
        return Batch(offset, hard_state, snapshot, Index(first), count, at, size, stored, end)

    def _fields(self, head: memoryview | bytes, position: int) -> tuple[int, ...] | None:
        """Return the fields of a batch's head, None if the bytes are no head at this place."""
        if len(head) < BATCH_HEAD:
            return None
        fields = _WHOLE_HEAD.unpack(head)
        if fields[0] != position or zlib.crc32(head[:_CHECKED], self._seed) != fields[-1]:
            return None
        return fields

    def _is_whole(self, head: memoryview | bytes, end: int, chain: int, stored: int) -> bool:
        return self._chain(head, end, chain) == stored

    def _chain(self, head: memoryview | bytes, end: int, chain: int) -> int:
        """Return the chain behind a batch, from its head and its body up to ``end``."""
        body: int = _POSITION.unpack_from(head)[0] + BATCH_HEAD
        return zlib.crc32(self._view[body:end], zlib.crc32(head[: _HEAD.size], chain))

    # --- The end, torn, or damaged (see the top of this file) ------------------------------------

    def _require_end(self, offset: int, chain: int) -> None:
        """Raise DamagedError unless the log may end at ``offset``, whatever a crash left there."""
        head = self._data[offset : offset + BATCH_HEAD]
        fields = self._fields(head, offset)
        what = "no batch starts here"
        if fields is not None:
            what = "the batch's checksum does not match it, or it belongs elsewhere"
        if offset == self._start or self._sealed_end is not None:
            raise DamagedError(offset, what)
        if used_bytes(self._data, offset) == 0:
            return
        if self._has_batch_behind(offset):
            raise DamagedError(offset, what)
        if fields is None:
            bit = self._flipped_in_head(head, offset, chain)
        else:
            bit = self._flipped_in_body(head, fields, chain)
        if bit is not None:
            raise DamagedError(bit // 8, f"one bit is flipped, so that {what}")

    def _has_batch_behind(self, offset: int) -> bool:
        end = min(offset + used_bytes(self._data, offset), len(self._data) - BATCH_HEAD + 1)
        for at in range(offset + 8, end, 8):
            if _POSITION.unpack_from(self._data, at)[0] == at:
                head = self._view[at : at + BATCH_HEAD]
                if self._fields(head, at) is not None:
                    return True
        return False

    def _flipped_in_head(self, head: bytes, offset: int, chain: int) -> int | None:
        """Return the one bit of a head without which its batch is whole, None if it is not one."""
        for bit in range(len(head) * 8):
            repaired = flip(head, bit)
            fields = self._fields(repaired, offset)
            if fields is not None:
                _, _, length, _, _, _, stored, _ = fields
                whole = self._chain(repaired, _end(offset, length), chain) == stored
                return offset * 8 + bit if whole else None
        return None

    def _flipped_in_body(self, head: bytes, fields: tuple[int, ...], chain: int) -> int | None:
        """Return the one bit that makes a batch's chain wrong, None if it is not one."""
        offset, _, length, _, _, wanted_sum, stored, _ = fields
        body, end = offset + BATCH_HEAD, _end(offset, length)
        if end > len(self._data):
            return None
        bit = flipped_bit(self._chain(head, end, chain) ^ stored, end - body)
        if bit is None or zlib.adler32(flip(self._data[body:end], bit)) != wanted_sum:
            return None
        return body * 8 + bit


def used_bytes(data: bytes, offset: int) -> int:
    """Return how many bytes there are from ``offset`` on before nothing but zeros follows."""
    return len(data[offset:].rstrip(b"\0"))


def decode_entries(data: bytes, batch: Batch, skip: int, take: int) -> list[Entry]:
    """Return entries of a batch: those behind the first ``skip``, ``take`` of them.

    What does not fit together was never written like this. Raises DamagedError.
    """
    count, at = batch.entry_count, batch.rows
    if count == 1:
        term, size, kind = _ONE_ROW.unpack_from(data, at)
        if size + _ROW == batch.size and kind in _KINDS:
            return [Entry(term, _KINDS[kind], data[at + _ROW : at + batch.size])]
    terms = struct.unpack_from(f"<{count}Q", data, at)
    sizes = struct.unpack_from(f"<{count}I", data, at + 8 * count)
    first = at + _ROW * count
    kinds = data[first - count : first]
    ends = list(accumulate(sizes, initial=first))
    if ends[-1] != at + batch.size:
        raise DamagedError(at, "the sizes of the entries do not add up")
    try:
        names = [_KINDS[kind] for kind in kinds]
    except KeyError as kind:
        raise DamagedError(at, f"an entry is of the unknown kind {kind}") from None
    datas = [data[start:end] for start, end in pairwise(ends)]
    wanted = slice(skip, skip + take)
    return list(map(Entry, terms[wanted], names[wanted], datas[wanted]))


def _end(offset: int, length: int) -> int:
    """Return where a batch ends whose head is at ``offset`` and whose body takes ``length``."""
    return offset + BATCH_HEAD + length - length % 8 + 8
