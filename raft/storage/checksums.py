"""What a wrong checksum tells about what became of the bytes."""

from __future__ import annotations

import zlib

# CRC-32 works on a register of 32 bits, and this is what one byte does to an empty one.
_TABLE = [zlib.crc32(bytes([byte]), 0xFFFFFFFF) ^ 0xFFFFFFFF for byte in range(256)]
# The highest byte of an element names it, so that a byte's work can be undone.
_BY_HIGHEST = {element >> 24: byte for byte, element in enumerate(_TABLE)}
_ONE_BIT = {_TABLE[1 << bit]: bit for bit in range(8)}


def flipped_bit(difference: int, size: int) -> int | None:
    """Return the one bit of ``size`` bytes which, flipped, changes their CRC-32 like this.

    ``difference`` is the exclusive or of the two checksums; None if no single bit does it.
    CRC-32 is linear, so the difference does not depend on the bytes: a bit flipped at some
    place is what it does to the register there, worked on by zeros up to the end. Here the
    zeros are undone one by one, until a single bit is left.
    """
    if not difference:
        return None
    for place in range(size - 1, -1, -1):
        if difference in _ONE_BIT:
            return place * 8 + _ONE_BIT[difference]
        byte = _BY_HIGHEST[difference >> 24]
        difference = ((difference ^ _TABLE[byte]) << 8 | byte) & 0xFFFFFFFF
    return None


def flip(data: bytes, bit: int) -> bytes:
    """Return ``data`` with one bit flipped."""
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)
