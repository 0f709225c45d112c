"""The bytes of a write-ahead log. Pure: bytes in, values out, and no file in sight.

A log is a header and then batches, each what one ``save`` wrote::

    header │ record record … commit commit │ record … commit commit │ …
             └─────────── batch ─────────┘

    header    magic 8s │ version u32 │ length of cluster u32 │ server u64 │ salt u64
              cluster, UTF-8, zeros up to a multiple of 8
              checksum u32 over all of it │ zero u32

    record    length u32 │ type u8 │ kind u8 │ zero u16 │ a u64 │ b u64
              head checksum u32 │ chain u32
              ``length`` bytes of payload, zeros up to a multiple of 8

    HARD_STATE  a = currentTerm   b = votedFor (0: none)   one record, so never half of it (§5.2)
    ENTRY       a = its index     b = its term             payload = its data
    COMMIT      the batch ends here and is whole           written twice

All numbers are little-endian, checksums CRC-32. The head checksum starts from the header's
checksum, so it is salted: no value that a client may store looks like a record of this log.
The chain checksum runs on from the record before it through head and payload: a record is
valid only in its place.

**What a crash leaves.** A batch is one write, and the next one starts only after its fsync.
So a crash can spoil the last batch alone, and what it leaves is the beginning of it, with
missing bytes or zeros behind: a *torn tail*. It was never acknowledged, and is dropped. Bad
bytes with a valid record anywhere after them are not that, for the later record proves that
they once were good. Then something acknowledged is damaged, and dropping it could make this
server forget its vote or an entry that it helped to commit: it must not start.

**Which damage looks like a crash.** With one commit marker, a bit flipped in the last marker
would be no different from a torn write, and the acknowledged batch before it would be
dropped. The second marker closes that gap: a bit flipped in the first marker or in a record
has a valid marker behind it (damage), a bit flipped in the second one has a valid marker
before it (the batch is whole, and kept). What remains is damage that takes both markers of
the very last batch and all that follows the place: a lost sector at the end, or a file cut
short. No single file can tell that from a crash. A batch of which a later sector survived
and an earlier one did not is taken for damage: ordered file systems do not leave that.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raft.core.log import HardState
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term

MAGIC = b"raft-wal"
VERSION = 1

_FILE_HEAD = struct.Struct("<8sIIQQ")
_CHECKSUM = struct.Struct("<II")
_HEAD = struct.Struct("<IBBHQQ")
_CHECKS = struct.Struct("<II")
RECORD_HEAD = _HEAD.size + _CHECKS.size
_ENTRY_KINDS = frozenset(EntryKind)


class RecordType(enum.IntEnum):
    """What a record holds."""

    HARD_STATE = 1
    ENTRY = 2
    COMMIT = 3


class DamagedError(Exception):
    """The bytes at ``offset`` are not what was written there."""

    def __init__(self, offset: int, what: str) -> None:
        super().__init__(f"byte {offset}: {what}")
        self.offset = offset
        self.what = what


@dataclass(frozen=True, slots=True)
class Header:
    """Whose log this is. ``salt`` is random: no two logs have the same."""

    cluster: str
    server: ServerId
    salt: int
    version: int = VERSION


@dataclass(frozen=True, slots=True)
class Batch:
    """One whole batch: its records' bytes with both markers, and the values in them."""

    data: bytes
    chain: int
    hard_state: HardState | None
    first_index: Index
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class _Record:
    type: int
    kind: int
    a: int
    b: int
    payload: bytes
    chain: int
    end: int


# --- Writing ---------------------------------------------------------------------------------


def encode_header(header: Header) -> bytes:
    """Return the header's bytes; the chain of records starts from their ``seed``."""
    cluster = header.cluster.encode()
    fixed = _FILE_HEAD.pack(MAGIC, header.version, len(cluster), header.server, header.salt)
    body = fixed + _padded(cluster)
    return body + _CHECKSUM.pack(zlib.crc32(body), 0)


def seed_of(header: bytes) -> int:
    """Return the checksum that salts every record behind this header."""
    checksum: int = _CHECKSUM.unpack_from(header, len(header) - _CHECKSUM.size)[0]
    return checksum


def encode_batch(
    hard_state: HardState | None,
    first_index: Index,
    entries: Sequence[Entry],
    seed: int,
    chain: int,
) -> tuple[bytes, int]:
    """Return the bytes of one batch and the chain checksum behind it."""
    parts: list[bytes] = []

    def add(type_: RecordType, kind: int, a: int, b: int, payload: bytes) -> None:
        nonlocal chain
        record, chain = _encode(type_, kind, a, b, payload, seed, chain)
        parts.append(record)

    if hard_state is not None:
        add(RecordType.HARD_STATE, 0, hard_state.term, hard_state.voted_for or 0, b"")
    for index, entry in enumerate(entries, first_index):
        add(RecordType.ENTRY, entry.kind, index, entry.term, entry.data)
    add(RecordType.COMMIT, 0, 0, 0, b"")
    parts.append(parts[-1])
    return b"".join(parts), chain


def _encode(
    type_: RecordType, kind: int, a: int, b: int, payload: bytes, seed: int, chain: int
) -> tuple[bytes, int]:
    head = _HEAD.pack(len(payload), type_, kind, 0, a, b)
    payload = _padded(payload)
    chain = _chained(head, payload, chain)
    return head + _CHECKS.pack(zlib.crc32(head, seed), chain) + payload, chain


def _chained(head: bytes, payload: bytes, chain: int) -> int:
    return zlib.crc32(payload, zlib.crc32(head, chain))


def _padded(data: bytes) -> bytes:
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
    _, version, length, server, salt = _FILE_HEAD.unpack_from(data)
    body_end = _FILE_HEAD.size + length + -length % 8
    if body_end + _CHECKSUM.size > len(data):
        raise DamagedError(len(data), "the header ends here, too early")
    body, checks = data[:body_end], data[body_end : body_end + _CHECKSUM.size]
    if checks != _CHECKSUM.pack(zlib.crc32(body), 0):
        raise DamagedError(0, "the header's checksum does not match it")
    cluster = body[_FILE_HEAD.size : _FILE_HEAD.size + length].decode()
    return Header(cluster, ServerId(server), salt, version), body + checks


def read_batches(data: bytes, start: int, seed: int) -> Iterator[Batch]:
    """Yield the whole batches from ``start`` on, up to the end or a torn tail.

    Raises DamagedError if what follows the last whole batch is not a torn tail.
    """
    offset, chain = start, seed
    while offset < len(data):
        try:
            batch = _read_batch(data, offset, seed, chain)
        except DamagedError as damage:
            _require_torn_tail(data, damage, seed)
            return
        yield batch
        offset, chain = offset + len(batch.data), batch.chain


def _read_batch(data: bytes, start: int, seed: int, chain: int) -> Batch:
    hard_state: HardState | None = None
    first_index = Index(0)
    entries: list[Entry] = []
    offset = start
    while True:
        record = _read_record(data, offset, seed, chain)
        match record.type:
            case RecordType.COMMIT:
                marker = data[offset : record.end]
                _check_second_marker(data, record.end, marker, seed)
                whole = data[start : record.end] + marker
                return Batch(whole, record.chain, hard_state, first_index, tuple(entries))
            case RecordType.HARD_STATE:
                voted_for = ServerId(record.b) if record.b else None
                hard_state = HardState(Term(record.a), voted_for)
            case RecordType.ENTRY:
                first_index = first_index or Index(record.a)
                if record.a != first_index + len(entries):
                    raise DamagedError(offset, f"entry {record.a} is out of order")
                if record.kind not in _ENTRY_KINDS:
                    raise DamagedError(
                        offset, f"entry {record.a} is of the unknown kind {record.kind}"
                    )
                entries.append(Entry(Term(record.b), EntryKind(record.kind), record.payload))
            case unknown:
                raise DamagedError(offset, f"the record is of the unknown type {unknown}")
        offset, chain = record.end, record.chain


def _read_record(data: bytes, offset: int, seed: int, chain: int) -> _Record:
    """Return the record at ``offset``. Its length is believed only after its head is checked."""
    if not _is_head(data, offset, seed):
        raise DamagedError(offset, "no record starts here")
    length, type_, kind, _, a, b = _HEAD.unpack_from(data, offset)
    payload_start = offset + RECORD_HEAD
    end = payload_start + length + -length % 8
    if end > len(data):
        raise DamagedError(offset, f"the record has {end - len(data)} bytes more than the file")
    head, payload = data[offset : offset + _HEAD.size], data[payload_start:end]
    stored: int = _CHECKS.unpack_from(data, offset + _HEAD.size)[1]
    if _chained(head, payload, chain) != stored:
        raise DamagedError(
            offset, "the record's checksum does not match it, or it belongs elsewhere"
        )
    return _Record(type_, kind, a, b, payload[:length], stored, end)


def _is_head(data: bytes, offset: int, seed: int) -> bool:
    if offset + RECORD_HEAD > len(data):
        return False
    head = data[offset : offset + _HEAD.size]
    checksum: int = _CHECKS.unpack_from(data, offset + _HEAD.size)[0]
    return zlib.crc32(head, seed) == checksum


def _check_second_marker(data: bytes, offset: int, marker: bytes, seed: int) -> None:
    """Let a batch stand on its first marker if the second is torn, and nothing comes after."""
    if data[offset : offset + len(marker)] != marker:
        _require_torn_tail(data, DamagedError(offset, "the second commit marker is missing"), seed)


def _require_torn_tail(data: bytes, damage: DamagedError, seed: int) -> None:
    """Raise ``damage`` if a valid record stands behind it (see the top of this file)."""
    for offset in range(damage.offset + 8, len(data), 8):
        if _is_head(data, offset, seed):
            raise damage
