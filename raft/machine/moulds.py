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
_KNOWN = 1024
"""So many combinations of sizes are remembered; there are far fewer at a time."""


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
        self._end = begin + self._pointers.size
        # There are few different sizes at a time, so this is as good as no work.
        self._head = functools.lru_cache(_KNOWN)(self._make_head)
        self._places: dict[bytes, tuple[int, list[slice]]] = {}
        """By the head of a frame: how long it is, and where its strings are."""
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
        known = self._places.get(frame[: self._end]) or self._learn(frame)
        if known is None or known[0] != len(frame):
            return None
        return [frame[place] for place in known[1]]

    def _learn(self, frame: bytes) -> tuple[int, list[slice]] | None:
        """Return how long a frame with this head is, and where its strings are."""
        head = frame[: self._end]
        if len(head) < self._end:
            return None
        sizes = [pointer >> 35 for pointer in self._pointers.unpack_from(head, self._begin)]
        if head != self._make_head(*sizes):
            return None
        at, places = self._end, []
        for size in sizes:
            places.append(slice(at, at + size))
            at += _padded(size)
        if len(self._places) >= _KNOWN:
            self._places.clear()
        self._places[head] = (at, places)
        return at, places


def _padded(size: int) -> int:
    return size + -size % _WORD
