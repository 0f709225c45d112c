"""The bytes of a log file. Pure: bytes in, values out, and no file in sight.

A log file is a header and then batches, each what one ``save`` wrote::

    header │ first batch │ batch │ batch │ …

    header    magic 8s │ version u32 │ length of cluster u32 │ server u64 │ salt u64
              snapshot index u64 (0: none) │ snapshot checksum u32 │ zero u32
              cluster, UTF-8, zeros up to a multiple of 8
              checksum u32 over all of it │ zero u32

    batch     position u64 │ first index u64 │ currentTerm u64 │ votedFor u64 (0: none)
              length u64 │ count u32 │ sum u32 │ chain u32 │ head checksum u32
              ``length`` bytes: of each entry term u64 │ size u32 │ kind u8, and then
              of each entry its data; ones, at least 8, up to a multiple of 64 bits

All numbers are little-endian. ``position`` is where in the file the batch begins. currentTerm
and votedFor change both at once, never half of them (§5.2); if currentTerm is all ones, neither
does. First index 0: the log is untouched; else whatever stood there and behind it is gone, and
``count`` entries follow on what is left. Nothing is overwritten: the later batch counts.

``sum`` is the Adler-32 of the entries with the ones. ``chain`` is a CRC-32 that runs on from
the batch before through head and entries, so a batch is valid only behind those it was written
behind. The head checksum is a CRC-32 of the head; like the chain it starts from the header's
checksum, and so from the salt: nothing that a client may store looks like a batch of this log.

**What a crash leaves.** A batch is one write, and the next one starts only after its fsync. So
a power cut can spoil the last batch alone: any of its sectors may be missing, zero or rubbish.
That is a *torn tail*. It was never acknowledged, and is dropped. All else is *damage*:
something acknowledged would be lost, this server could forget its vote or an entry that it
helped to commit, and so it must not start. It is damage

* if a batch stands anywhere behind the bad bytes: the bad one was synced before it was written;
* in the header and the first batch: they were synced before the file got its name;
* if one flipped bit explains it: that is how disks age, not what a power cut leaves. The head
  is small enough to try each bit. In the entries the chain tells which bit it must be, and
  ``sum``, which knows nothing of the chain, confirms it. (A batch ends with ones, so that its
  lost end is more than a bit.)

What remains is greater damage to the very last batch, or a file cut short there. No single file
can tell that from a crash; a store writes its file anew whenever it is opened, so that it can
hit only what was written since.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from raft.core.log import HardState
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage.checksums import flip, flipped_bit

MAGIC = b"raft-wal"
VERSION = 2

_FILE_HEAD = struct.Struct("<8sIIQQQII")
_CHECKSUM = struct.Struct("<II")
_HEAD = struct.Struct("<QQQQQII")
_CHECK = struct.Struct("<I")
_WHOLE_HEAD = struct.Struct("<QQQQQIIII")
_POSITION = struct.Struct("<Q")
BATCH_HEAD = _WHOLE_HEAD.size
_CHECKED = BATCH_HEAD - _CHECK.size
_UNCHANGED = 2**64 - 1
_ENTRY = struct.Struct("<QIB")
_KINDS = {kind.value: kind for kind in EntryKind}


class DamagedError(Exception):
    """The bytes at ``offset`` are not what was written there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"byte {offset}: {what}")
        self.offset = offset
        self.what = what


@dataclass(frozen=True, slots=True)
class Header:
    """Whose log this is, and what it continues. ``salt`` is random: no two logs have the same.

    ``snapshot_check`` is the checksum of the header of the snapshot up to ``snapshot_index``.
    """

    cluster: str
    server: ServerId
    salt: int
    snapshot_index: Index = Index(0)
    snapshot_check: int = 0
    version: int = VERSION


class Batch(NamedTuple):
    """What one ``save`` wrote; ``first_index`` 0: the log is untouched."""

    hard_state: HardState | None
    first_index: Index
    entries: list[Entry]
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
        header.salt,
        header.snapshot_index,
        header.snapshot_check,
        0,
    )
    body = fixed + padded(cluster)
    return body + _CHECKSUM.pack(zlib.crc32(body), 0)


def seed_of(header: bytes) -> int:
    """Return the checksum that salts every batch behind this header."""
    checksum: int = _CHECKSUM.unpack_from(header, len(header) - _CHECKSUM.size)[0]
    return checksum


def encode_batch(
    position: int,
    hard_state: HardState | None,
    first_index: Index,
    entries: Sequence[Entry],
    seed: int,
    chain: int,
) -> tuple[bytes, int]:
    """Return the bytes of a batch that begins at ``position``, and the chain behind it."""
    term, voted_for = _UNCHANGED, None
    if hard_state is not None:
        term, voted_for = hard_state.term, hard_state.voted_for
    body = _encode_entries(entries)
    length = len(body)
    body += b"\xff" * (8 - length % 8)
    head = _HEAD.pack(
        position,
        first_index,
        term,
        voted_for or 0,
        length,
        len(entries),
        zlib.adler32(body),
    )
    chain = zlib.crc32(body, zlib.crc32(head, chain))
    head += _CHECK.pack(chain)
    return b"".join((head, _CHECK.pack(zlib.crc32(head, seed)), body)), chain


def _encode_entries(entries: Sequence[Entry]) -> bytes:
    rows = [_ENTRY.pack(entry.term, len(entry.data), entry.kind) for entry in entries]
    return b"".join(rows + [entry.data for entry in entries])


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
    _, version, length, server, salt, index, check, _ = _FILE_HEAD.unpack_from(data)
    body_end = _FILE_HEAD.size + length + -length % 8
    if body_end + _CHECKSUM.size > len(data):
        raise DamagedError(len(data), "the header ends here, too early")
    body, checks = data[:body_end], data[body_end : body_end + _CHECKSUM.size]
    if checks != _CHECKSUM.pack(zlib.crc32(body), 0):
        raise DamagedError(0, "the header's checksum does not match it")
    cluster = body[_FILE_HEAD.size : _FILE_HEAD.size + length].decode()
    return Header(cluster, ServerId(server), salt, Index(index), check, version), body + checks


class Reader:
    """Reads the batches of one log file, from ``start`` on; ``seed`` is that of its header."""

    def __init__(self, data: bytes, start: int, seed: int) -> None:
        self._data = data
        self._view = memoryview(data)
        self._start = start
        self._seed = seed

    def batches(self) -> Iterator[Batch]:
        """Yield the whole batches up to the end or a torn tail.

        Raises DamagedError if what follows the last whole batch is not a torn tail.
        """
        offset, chain = self._start, self._seed
        while offset < len(self._data):
            batch = self._batch(offset, chain)
            if batch is None:
                self._require_torn(offset, chain)
                return
            yield batch
            offset, chain = batch.end, batch.chain
        if offset == self._start:
            raise DamagedError(offset, "the first batch is missing")

    def _batch(self, offset: int, chain: int) -> Batch | None:
        """Return the batch at ``offset`` if it is whole. Its length is believed if its head is."""
        head = self._view[offset : offset + BATCH_HEAD]
        fields = self._fields(head, offset)
        if fields is None:
            return None
        _, first, term, voted_for, length, count, _, stored, _ = fields
        end = _end(offset, length)
        if end > len(self._data) or not self._is_whole(head, end, chain, stored):
            return None
        hard_state = None
        if term != _UNCHANGED:
            hard_state = HardState(Term(term), ServerId(voted_for) if voted_for else None)
        entries = self._entries(offset + BATCH_HEAD, length, count) if count else []
        return Batch(hard_state, Index(first), entries, stored, end)

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
        """Return the chain behind a batch, from its head and its entries up to ``end``."""
        body = _POSITION.unpack_from(head)[0] + BATCH_HEAD
        return zlib.crc32(self._view[body:end], zlib.crc32(head[: _HEAD.size], chain))

    def _entries(self, body: int, length: int, count: int) -> list[Entry]:
        """Return a batch's entries. What does not fit together was never written like this."""
        data = self._data
        at = rows_end = body + count * _ENTRY.size
        if rows_end > body + length:
            raise DamagedError(body, f"{count} entries do not fit into {length} bytes")
        entries = []
        for term, size, kind in _ENTRY.iter_unpack(self._view[body:rows_end]):
            if kind not in _KINDS:
                raise DamagedError(body, f"an entry is of the unknown kind {kind}")
            entries.append(Entry(term, _KINDS[kind], data[at : at + size]))
            at += size
        if at != body + length:
            raise DamagedError(body, "the sizes of the entries do not add up")
        return entries

    # --- Torn, or damaged (see the top of this file) ---------------------------------------------

    def _require_torn(self, offset: int, chain: int) -> None:
        """Raise DamagedError unless the bytes from ``offset`` on may be what a crash left."""
        head = self._data[offset : offset + BATCH_HEAD]
        fields = self._fields(head, offset)
        what = "no batch starts here"
        if fields is not None:
            what = "the batch's checksum does not match it, or it belongs elsewhere"
        if offset == self._start or self._has_batch_behind(offset):
            raise DamagedError(offset, what)
        if fields is None:
            bit = self._flipped_in_head(head, offset, chain)
        else:
            bit = self._flipped_in_entries(head, fields, chain)
        if bit is not None:
            raise DamagedError(bit // 8, f"one bit is flipped, so that {what}")

    def _has_batch_behind(self, offset: int) -> bool:
        places = range(offset + 8, len(self._data) - BATCH_HEAD + 1, 8)
        return any(self._fields(self._view[at : at + BATCH_HEAD], at) is not None for at in places)

    def _flipped_in_head(self, head: bytes, offset: int, chain: int) -> int | None:
        """Return the one bit of a head without which its batch is whole, None if it is not one."""
        for bit in range(len(head) * 8):
            repaired = flip(head, bit)
            fields = self._fields(repaired, offset)
            if fields is not None:
                *_, length, _, _, stored, _ = fields
                whole = self._chain(repaired, _end(offset, length), chain) == stored
                return offset * 8 + bit if whole else None
        return None

    def _flipped_in_entries(self, head: bytes, fields: tuple[int, ...], chain: int) -> int | None:
        """Return the one bit that makes a batch's chain wrong, None if it is not one."""
        offset, *_, length, _, wanted_sum, stored, _ = fields
        body, end = offset + BATCH_HEAD, _end(offset, length)
        if end > len(self._data):
            return None
        bit = flipped_bit(self._chain(head, end, chain) ^ stored, end - body)
        if bit is None or zlib.adler32(flip(self._data[body:end], bit)) != wanted_sum:
            return None
        return body * 8 + bit


def _end(offset: int, length: int) -> int:
    """Return where a batch ends whose head is at ``offset`` and whose entries take ``length``."""
    return offset + BATCH_HEAD + length - length % 8 + 8
