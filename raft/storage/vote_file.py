"""The bytes of the file that keeps {term, vote} a second time. Pure: bytes in, values out.

Two slots in sectors of their own, each::

    magic 8s │ version u32 │ length of cluster u32 │ server u64 │ number u64
    currentTerm u64 │ votedFor u64 (0: none) │ recovering u64 │ newest segment u64
    cluster, UTF-8, zeros up to a multiple of 8
    checksum u32 over all of it │ zero u32

All numbers are little-endian. Slots are written in turn, each numbered one higher than the one
before, in place, so that a full disk does not matter; and each is synced *before* the log says
the same. So while both slots are whole, the newer one is at least as new as anything in the
log, whatever became of that. A slot that is not whole was torn by a crash, or has aged; nobody
can tell. Then the log has the last word, which was complete when the slot was begun.

``newest segment`` is known to have been durable: if it is gone, that was no crash.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace

from raft.core.log import HardState
from raft.core.messages import ServerId, Term
from raft.storage.log_file import padded

MAGIC = b"raft-vot"
VERSION = 1
SLOT = 4096
"""Bytes of a slot; there are two."""

_FIXED = struct.Struct("<8sIIQQQQQQ")
_CHECKSUM = struct.Struct("<II")
MAX_CLUSTER = SLOT - _FIXED.size - _CHECKSUM.size - 8
"""The longest name of a cluster, in bytes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one slot says."""

    cluster: str
    server: ServerId
    number: int
    hard_state: HardState
    newest_segment: int

    def after(self, hard_state: HardState, newest_segment: int) -> Slot:
        """Return what to write next."""
        return replace(
            self,
            number=self.number + 1,
            hard_state=hard_state,
            newest_segment=newest_segment,
        )

    @property
    def offset(self) -> int:
        """Where in the file it belongs."""
        return self.number % 2 * SLOT


def encode_slot(slot: Slot) -> bytes:
    """Return the bytes of a slot; zeros follow."""
    cluster, state = slot.cluster.encode(), slot.hard_state
    fixed = _FIXED.pack(
        MAGIC,
        VERSION,
        len(cluster),
        slot.server,
        slot.number,
        state.term,
        state.voted_for or 0,
        state.recovering,
        slot.newest_segment,
    )
    body = fixed + padded(cluster)
    return body + _CHECKSUM.pack(zlib.crc32(body), 0)


def encode_file(first: Slot) -> bytes:
    """Return the bytes of a file of which both slots say the same."""
    second = first.after(first.hard_state, first.newest_segment)
    slots = sorted((first, second), key=lambda slot: slot.offset)
    return b"".join(encode_slot(slot).ljust(SLOT, b"\0") for slot in slots)


@dataclass(frozen=True, slots=True)
class VoteFile:
    """What a vote file says: ``newest`` of the whole slots; ``bad``: where the others are.

    ``older`` is the one before, if both are whole: the log said the same before ``newest`` was
    written.
    """

    newest: Slot | None
    bad: tuple[int, ...]
    older: Slot | None = None

    @property
    def is_whole(self) -> bool:
        """Both slots are what was written, and one directly after the other."""
        return not self.bad


def decode_file(data: bytes) -> VoteFile:
    """Return what a vote file says."""
    slots = [_decode_slot(data, offset) for offset in (0, SLOT)]
    whole = sorted((slot for slot in slots if slot is not None), key=lambda slot: slot.number)
    bad = [number * SLOT for number, slot in enumerate(slots) if slot is None]
    if len(whole) == 2 and whole[1].number != whole[0].number + 1:
        # A write that never reached the disk, though the disk said so.
        bad = [whole[0].offset]
    if len(data) != 2 * SLOT and not bad:
        bad = [min(len(data), 2 * SLOT)]
    return VoteFile(whole[-1] if whole else None, tuple(bad), None if bad else whole[0])


def _decode_slot(data: bytes, offset: int) -> Slot | None:
    slot = data[offset : offset + SLOT]
    if len(slot) < SLOT:
        return None
    magic, version, length, server, number, term, vote, recovering, segment = _FIXED.unpack_from(
        slot
    )
    if magic != MAGIC or version != VERSION or length > MAX_CLUSTER:
        return None
    end = _FIXED.size + length + -length % 8
    rest = _CHECKSUM.pack(zlib.crc32(slot[:end]), 0)
    if slot[end:] != rest.ljust(SLOT - end, b"\0") or number * SLOT % (2 * SLOT) != offset:
        return None
    voted_for = ServerId(vote) if vote else None
    return Slot(
        slot[_FIXED.size : _FIXED.size + length].decode(),
        ServerId(server),
        number,
        HardState(Term(term), voted_for, Term(recovering)),
        segment,
    )
