"""Frames to bytes and back: ``schemas/raft.capnp : Envelope``.

Every frame is one standard stream-framed Cap'n Proto message of one segment, so a captured
connection is read by ``capnp decode schemas/raft.capnp Envelope``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from raft.codec import (
    HEADER_SIZE,
    DecodeError,
    RecordCodec,
    UnionCodec,
    frame_size,
    load_schema,
)
from raft.core.messages import AppendEntries, Entry, Index, ServerId, Term
from raft.frames import Frame

__all__ = [
    "MAX_FRAME",
    "MAX_OBSERVATION",
    "Copies",
    "DecodeError",
    "FrameSplitter",
    "RecordCodec",
    "UnionCodec",
    "decode",
    "encode",
    "in_frames",
    "load_schema",
]

MAX_FRAME = 1024 * 1024
"""Bytes of the largest frame a server accepts. An AppendEntries carries half of it in entries."""

MAX_COLUMN = 256 * 1024
"""Bytes of many requests, or of their results, that go into one frame, if there are several."""

_CELL = 24
"""Bytes that a frame needs for each of them: an id, a pointer, the padding."""

MAX_OBSERVATION = 64 * 1024 * 1024
"""Bytes of the largest frame an observer accepts: a ServerState holds the log."""

_FRAMES: UnionCodec[Frame] = UnionCodec(load_schema("raft").Envelope, Frame)

encode = _FRAMES.encode
decode = _FRAMES.decode


def in_frames(datas: Sequence[bytes]) -> Iterator[slice]:
    """Yield the parts of a column that go into one frame each."""
    begin = size = 0
    for at, data in enumerate(datas):
        size += len(data) + _CELL
        if size > MAX_COLUMN and at > begin:
            yield slice(begin, at)
            begin, size = at, len(data) + _CELL
    if begin < len(datas):
        yield slice(begin, len(datas))


class Copies:
    """Encodes messages; one that repeats the last but for whom it goes to costs only a copy.

    A leader sends the same entries to all followers that keep up.
    """

    def __init__(self) -> None:
        self._last: AppendEntries | None = None
        self._frame = b""

    def encode(self, message: AppendEntries) -> bytes:
        """Return the message as one frame, as ``encode`` does."""
        if self._last is None or not _same_but_dst(self._last, message):
            self._last, self._frame = message, encode(message)
            return self._frame
        return b"".join((self._frame[:_DST], _ID.pack(message.dst), self._frame[_DST + 8 :]))


def _same_but_dst(one: AppendEntries, other: AppendEntries) -> bool:
    return (
        one.prev_log_index == other.prev_log_index
        and one.term == other.term
        and one.leader_commit == other.leader_commit
        and one.round == other.round
        and one.prev_log_term == other.prev_log_term
        and one.src == other.src
        and one.entries == other.entries
    )


_ID = struct.Struct("<Q")
_EXAMPLE = AppendEntries(
    *(ServerId(1), ServerId(2**64 - 1), Term(1), Index(0), Term(0), (Entry(Term(1)),), Index(0))
)
_DST = encode(_EXAMPLE).index(_ID.pack(_EXAMPLE.dst))
"""Where in an AppendEntries its destination stands."""


class FrameSplitter:
    """Cuts a stream of bytes into frames, and judges each by its first 8 bytes.

    A frame of several segments or over ``limit`` bytes raises DecodeError before any of it is
    kept; the stream cannot be read on after that. ``limit`` may change between frames.
    """

    def __init__(self, limit: int = MAX_FRAME) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take bytes in and return every frame they complete. Raises DecodeError."""
        self.push(chunk)
        frames = []
        while (frame := self.next_frame()) is not None:
            frames.append(frame)
        return frames

    def push(self, chunk: bytes | memoryview) -> None:
        """Take bytes in, for ``next_frame``."""
        self._buffer += chunk

    def next_frame(self) -> bytes | None:
        """Return the next frame if it is complete. Raises DecodeError."""
        buffer = self._buffer
        if len(buffer) < HEADER_SIZE:
            return None
        size = frame_size(buffer, self.limit)
        if len(buffer) < size:
            return None
        frame = bytes(memoryview(buffer)[:size])
        del buffer[:size]
        return frame
