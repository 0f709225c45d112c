"""Frames that differ in nothing but a few byte strings, written and read without pycapnp.

Nearly all that a key-value machine sees is a put, a get and a value, millions of them, and each
is taken apart by every server. Every such frame has the same words, then a pointer to each of
its byte strings, then these strings::

    segment table │ words │ pointer … pointer │ string, zeros up to a word │ … │ string, zeros

Cap'n Proto allows other orders. What a mould does not recognise byte by byte, it leaves to
``raft.codec``; what it does, the codec would read alike.
"""

from __future__ import annotations

import functools
import struct

_WORD = 8
_BYTES = 2
"""The size of a list's elements, as list pointers write it."""


class Mould:
    """All frames that are like an example."""

    def __init__(self, example: bytes, *strings: bytes) -> None:
        """Learn from a frame that ends with these byte strings, none of them empty.

        Raises ValueError if it is not made as this module says.
        """
        size = sum(map(_padded, map(len, strings)))
        begin = len(example) - size - _WORD * len(strings)
        self._words = example[_WORD:begin]
        self._begin = begin
        self._pointers = struct.Struct(f"<{len(strings)}Q")
        # As good as no work: there are few different sizes at a time.
        self._head = functools.lru_cache(1024)(self._make_head)
        if self.fill(*strings) != example:
            raise ValueError("the example is no frame of strings behind their pointers")

    def _make_head(self, *sizes: int) -> bytes:
        """Return all that stands before the strings."""
        pointers = []
        ahead = len(sizes) - 1
        for size in sizes:
            # Nothing but zeros is a null pointer: an empty string is not written.
            pointers.append(ahead << 2 | 1 | _BYTES << 32 | size << 35 if size else 0)
            ahead += _padded(size) // _WORD - 1
        body = self._words + self._pointers.pack(*pointers)
        words = (len(body) + sum(map(_padded, sizes))) // _WORD
        return struct.pack("<II", 0, words) + body

    def fill(self, *strings: bytes) -> bytes:
        """Return the frame with these byte strings."""
        parts = [self._head(*map(len, strings))]
        for string in strings:
            parts += (string, bytes(-len(string) % _WORD))
        return b"".join(parts)

    def strings(self, frame: bytes) -> list[bytes] | None:
        """Return the byte strings of a frame, None if it does not come from this mould."""
        at = self._begin + self._pointers.size
        if len(frame) < at:
            return None
        sizes = [pointer >> 35 for pointer in self._pointers.unpack_from(frame, self._begin)]
        if not frame.startswith(self._head(*sizes)):
            return None
        found = []
        for size in sizes:
            found.append(frame[at : at + size])
            at += _padded(size)
        return found if at == len(frame) else None


def _padded(size: int) -> int:
    return size + -size % _WORD
