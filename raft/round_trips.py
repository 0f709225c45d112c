"""How long the others take to answer, held against what elections need (§5.6).

broadcastTime ≪ electionTimeout: a leader whose heartbeats and their answers take nearly as long
as its followers' patience is unseated again and again, and nobody sees why.
"""

from __future__ import annotations

from raft.core.config import Config
from raft.core.messages import AppendEntries, AppendEntriesReply, ServerId, Term

SAMPLES = 20
"""Answers of one server before it is judged."""
SMOOTHING = 1 / 8
"""The weight of the newest answer."""


class RoundTrips:
    """Measures, on a leader, one request to each follower at a time."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._asked: dict[ServerId, tuple[Term, int, float]] = {}
        self._average: dict[ServerId, float] = {}
        self._count: dict[ServerId, int] = {}
        self._warned = False

    def sent(self, request: AppendEntries, now: float) -> None:
        """Note that a request leaves at ``now`` (seconds)."""
        asked = self._asked.get(request.dst)
        if asked is None or asked[0] != request.term:
            self._asked[request.dst] = (request.term, request.round, now)

    def answered(self, reply: AppendEntriesReply, now: float) -> str | None:
        """Take in an answer; return a warning, the first time that one is due.

        Only the answer to the very request that was noted counts: after a silence the next
        answer says nothing about how long it took.
        """
        asked = self._asked.get(reply.src)
        if asked is None or (reply.term, reply.round) < asked[:2]:
            return None
        del self._asked[reply.src]
        if (reply.term, reply.round) == asked[:2]:
            self._note(reply.src, now - asked[2])
        return self._judge()

    def _note(self, peer: ServerId, took: float) -> None:
        before = self._average.get(peer, took)
        self._average[peer] = before + SMOOTHING * (took - before)
        self._count[peer] = self._count.get(peer, 0) + 1

    def _judge(self) -> str | None:
        known = [self._average[peer] for peer, count in self._count.items() if count >= SAMPLES]
        warning = self._config.timing_warning(round(max(known), 3)) if known else None
        if warning is None or self._warned:
            return None
        self._warned = True
        return warning
