"""The bytes of a snapshot file. Pure: bytes in, values out.

::

    magic 8s │ version u32 │ length of configuration u32 │ last index u64 │ last term u64
    length of data u64 │ index of configuration u64 │ bytes in a chunk u32 │ zero u32
    configuration, zeros up to a multiple of 8
    CRC-32 u32 of each chunk of the data, zeros up to a multiple of 8
    checksum u32 over all of it │ zero u32
    data

All numbers are little-endian. The file was durable before it got its name, so nothing in it is
ever torn. The log that continues a snapshot knows the checksum of its header, which covers
those of the chunks: a snapshot is the one that is meant, and whole, or it is damaged.
"""

from __future__ import annotations

import struct
import zlib

from raft.core.log import Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Index, Term
from raft.storage.log_file import DamagedError, padded

MAGIC = b"raft-snp"
VERSION = 2
CHUNK = 64 * 1024

_FIXED = struct.Struct("<8sIIQQQQII")
_CHECKSUM = struct.Struct("<II")


def encode_snapshot(snapshot: Snapshot) -> tuple[bytes, int]:
    """Return the bytes of a snapshot's file and the checksum of its header."""
    configuration = snapshot.configuration.encode()
    data = memoryview(snapshot.data)
    checksums = [zlib.crc32(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        len(configuration),
        snapshot.index,
        snapshot.term,
        len(data),
        snapshot.configuration_index,
        CHUNK,
        0,
    )
    columns = struct.pack(f"<{len(checksums)}I", *checksums)
    header = fixed + padded(configuration) + padded(columns)
    check = zlib.crc32(header)
    return b"".join((header, _CHECKSUM.pack(check, 0), data)), check


def decode_snapshot(file: bytes, wanted_check: int) -> Snapshot:
    """Return the snapshot in a file whose header has this checksum. Raises DamagedError."""
    if file[: len(MAGIC)] != MAGIC:
        raise DamagedError(0, "this is not a snapshot of raft")
    if len(file) < _FIXED.size:
        raise DamagedError(len(file), "the header ends here, too early")
    _, version, length, index, term, size, placed, chunk, _ = _FIXED.unpack_from(file)
    chunks = -(-size // chunk) if chunk else 0
    checksums_at = _FIXED.size + length + -length % 8
    header_end = checksums_at + 4 * (chunks + chunks % 2)
    start = header_end + _CHECKSUM.size
    if start > len(file):
        raise DamagedError(len(file), "the header ends here, too early")
    check = zlib.crc32(memoryview(file)[:header_end])
    if file[header_end:start] != _CHECKSUM.pack(check, 0):
        raise DamagedError(0, "the header's checksum does not match it")
    if check != wanted_check:
        raise DamagedError(0, "this is another snapshot than the log continues")
    if version != VERSION:
        raise DamagedError(8, f"format version {version}; this program reads {VERSION}")
    checksums = struct.unpack_from(f"<{chunks}I", file, checksums_at)
    data = file[start:]
    _check_data(data, size, chunk, checksums, start)
    configuration = Configuration.decode(file[_FIXED.size : _FIXED.size + length])
    return Snapshot(Index(index), Term(term), configuration, data, Index(placed))


def _check_data(data: bytes, size: int, chunk: int, checksums: tuple[int, ...], start: int) -> None:
    if len(data) != size:
        at = start + min(size, len(data))
        raise DamagedError(at, f"the data has {len(data)} bytes and should have {size}")
    view = memoryview(data)
    for at, checksum in zip(range(0, size, chunk), checksums, strict=True):
        if zlib.crc32(view[at : at + chunk]) != checksum:
            raise DamagedError(start + at, f"the checksum of the {chunk} bytes from here is wrong")
