"""Frames to bytes and back: ``schemas/raft.capnp : Envelope``.

Every frame is one standard stream-framed Cap'n Proto message of one segment, so a captured
connection is read by ``capnp decode schemas/raft.capnp Envelope``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from raft.codec import (
    HEADER_SIZE,
    DecodeError,
    RecordCodec,
    UnionCodec,
    frame_size,
    load_schema,
)
from raft.frames import Frame

__all__ = [
    "MAX_FRAME",
    "MAX_OBSERVATION",
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
