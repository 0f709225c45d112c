"""Reads that need no entry in the log (§8; ReadIndex, thesis §6.4).

A leader notes its commitIndex, makes sure by a round of heartbeats that no newer leader has
replaced it meanwhile, and whoever has applied the noted index may answer: the leader itself,
or the follower that asked.
"""

from __future__ import annotations

from raft.core.messages import Index, ServerId
from raft.core.value import value


@value
class ReadState:
    """The read ``context`` may be answered once ``index`` is applied."""

    context: int
    index: Index


@value
class ReadRequest:
    """A read that ``server`` wants to answer."""

    server: ServerId
    context: int


@value
class PendingRead:
    """A read that waits for the answers to the broadcast ``round``.

    ``index`` is the commitIndex when the read came.
    """

    request: ReadRequest
    round: int
    index: Index


class ReadQueue:
    """The reads of one leader in one term, oldest first."""

    __slots__ = ("_early", "_pending")

    def __init__(self) -> None:
        self._early: list[ReadRequest] = []
        self._pending: list[PendingRead] = []

    @property
    def waiting(self) -> bool:
        """Some read waits until its round is confirmed."""
        return bool(self._pending)

    def wait_for_commit(self, request: ReadRequest) -> None:
        """Hold a read back until this leader has committed an entry of its term."""
        self._early.append(request)

    def take_early(self) -> list[ReadRequest]:
        """Return the reads held back, which may start now."""
        early, self._early = self._early, []
        return early

    def wait_for_round(self, read: PendingRead) -> None:
        """Let a read wait until its round is confirmed. Rounds must not fall."""
        self._pending.append(read)

    def take_confirmed(self, round_: int) -> list[PendingRead]:
        """Return the reads that needed no newer round than ``round_``, and forget them."""
        done = 0
        while done < len(self._pending) and self._pending[done].round <= round_:
            done += 1
        confirmed = self._pending[:done]
        del self._pending[:done]
        return confirmed
