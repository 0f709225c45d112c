"""What a leader knows of one follower (Figure 2, volatile state on leaders).

::

            a refusal, or a new leader
      ┌────────────────────────────────────┐
      ▼                                    │
    PROBE ──────── an acknowledgement ──▶ REPLICATE
    one append at a time,                 appends follow each other without
    nextIndex waits for the answer        waiting; nextIndex runs ahead
      │                                    ▲
      │ what it needs is compacted away    │ it has the snapshot
      └──────────────▶ SNAPSHOT ───────────┘
                       one piece at a time
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from raft.core.log import Snapshot
from raft.core.messages import Index


class ProgressState(enum.Enum):
    """How a leader sends to a follower."""

    PROBE = "probe"
    """It does not know where the logs part: one append at a time."""
    REPLICATE = "replicate"
    """It knows that the follower keeps up: appends are sent ahead of their answers."""
    SNAPSHOT = "snapshot"
    """The follower needs entries that are compacted away: it gets a snapshot in pieces."""


# To look up a member of an enumeration costs Python 3.11 as much as a method call, or two.
_REPLICATE: Final = ProgressState.REPLICATE


@dataclass(slots=True)
class Window:
    """The appends that are out and not acknowledged, bounded in number and in bytes."""

    max_messages: int
    max_bytes: int
    _appends: deque[tuple[Index, int]] = field(default_factory=deque)
    _bytes: int = 0

    @property
    def full(self) -> bool:
        """Nothing more may be sent until something is acknowledged."""
        return len(self._appends) >= self.max_messages or self._bytes >= self.max_bytes

    def add(self, last_index: Index, size: int) -> None:
        """Note an append that went out."""
        self._appends.append((last_index, size))
        self._bytes += size

    def acknowledged(self, match_index: Index) -> None:
        """Forget the appends up to ``match_index``."""
        while self._appends and self._appends[0][0] <= match_index:
            self._bytes -= self._appends.popleft()[1]

    def clear(self) -> None:
        """Forget all appends: they are lost, or will be sent again."""
        self._appends.clear()
        self._bytes = 0


@dataclass(slots=True)
class Transfer:
    """A snapshot on its way, and how much of it the follower has."""

    snapshot: Snapshot
    checksum: int
    offset: int = 0
    waiting: bool = False
    """The piece from there on is out and not answered."""
    sent_in: int = 0
    """The broadcast that it went out with, or after."""

    def sent(self, round_: int) -> None:
        """Note that a piece went out."""
        self.waiting = True
        self.sent_in = round_

    def go_on_from(self, offset: int, round_: int) -> bool:
        """Note where the follower wants to go on; False: its answer is an old one.

        Who wants no more than it did may have lost the piece that is out, or all that it had. But
        answers that were overtaken, or came twice, say the same, and so does each while the piece
        is on its way. Only to what was broadcast after the piece, that cannot be the answer unless
        messages overtook each other: it is believed, once for each piece that it calls for.
        """
        if offset <= self.offset and round_ <= self.sent_in:
            return False
        self.offset = min(offset, len(self.snapshot.data))
        self.waiting = False
        return True


@dataclass(slots=True)
class Progress:
    """nextIndex and matchIndex of one follower (Figure 2, volatile state on leaders).

    Invariant: 0 ≤ match_index < next_index; match_index never falls while one leader leads.
    """

    next_index: Index
    window: Window
    match_index: Index = Index(0)
    state: ProgressState = ProgressState.PROBE
    round: int = 0
    """The newest broadcast of this leader that the follower has answered."""
    patience: int = 0
    """For how many milliseconds after that broadcast it lets nobody else be elected."""
    heard_at: float = 0.0
    """When the follower last answered anything, in virtual seconds."""
    waiting: bool = False
    """PROBE only: an append is out and not answered. Heartbeats look at the same place."""
    back_since: int = 0
    """The broadcast after which it last went back: what was sent before tells nothing new."""
    transfer: Transfer | None = None
    """SNAPSHOT only."""

    def may_append(self, last_index: Index) -> bool:
        """Tell whether there are entries to send and nothing to wait for."""
        return (
            self.transfer is None
            and self.next_index <= last_index
            and not self.waiting
            and not self.window.full
        )

    def sent(self, last_index: Index, size: int) -> None:
        """Note that an append with entries up to ``last_index`` went out."""
        if self.state is not _REPLICATE:
            self.waiting = True
        else:
            self.next_index = max(self.next_index, Index(last_index + 1))
            self.window.add(last_index, size)

    def send_snapshot(self, snapshot: Snapshot) -> Transfer:
        """Begin to send a snapshot, or go on with the one that is on its way."""
        if self.transfer is None:
            self.state = ProgressState.SNAPSHOT
            self.transfer = Transfer(snapshot, snapshot.checksum)
        return self.transfer

    def acknowledged(self, match_index: Index) -> None:
        """Note that the logs agree up to ``match_index``; an older answer changes nothing.

        Acknowledgements may arrive late, twice and out of order: both indexes only rise. A probe
        is answered by one that reaches the place where it looked, and by no other; a snapshot by
        one that reaches its end.
        """
        reached = self.next_index - 1 if self.transfer is None else self.transfer.snapshot.index
        if match_index >= reached:
            self.transfer = None
            self.state = _REPLICATE
            self.waiting = False
        if match_index > self.match_index:
            self.match_index = match_index
            self.next_index = max(self.next_index, Index(match_index + 1))
            self.window.acknowledged(match_index)

    def refused(self, prev_log_index: Index, retry_from: Index, round_: int) -> bool:
        """Go back to ``retry_from`` because ``prev_log_index`` did not match.

        But not behind matchIndex: up to there the logs are equal. That ``retry_from`` lies before
        it means only that this log does not reach back to where the conflicting term ends in it
        (it is compacted), so that the follower's own hint counts, where that term begins.
        Returns False, and changes nothing, for a refusal of an older request: one of before it
        last went back, that an acknowledgement contradicts, or that is not the probe now out.
        """
        if self.state is ProgressState.SNAPSHOT or round_ < self.back_since:
            return False
        if prev_log_index <= self.match_index:
            return False
        if self.state is ProgressState.PROBE and prev_log_index != self.next_index - 1:
            return False
        self.next_index = max(Index(self.match_index + 1), min(retry_from, prev_log_index))
        self.state = ProgressState.PROBE
        self.window.clear()
        self.waiting = False
        return True
