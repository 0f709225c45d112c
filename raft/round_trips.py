"""How long the others take to answer, held against what elections need (§5.6).

broadcastTime ≪ electionTimeout: where answers take nearly as long as the servers' patience, leaders
are unseated again and again; where they take longer, votes come when their election is over, and
nobody ever leads. Nobody sees why. So candidates measure as leaders do.

Pre-votes are not measured: the same one may be asked several times, and who answers does not tell
which. Where their answers come late, elections follow all the same, and those are measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Final

from raft.core.config import Config
from raft.core.membership import Configuration
from raft.core.messages import (
    AlreadyVoted,
    AppendEntries,
    AppendEntriesReply,
    Granted,
    LogBehind,
    Message,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
)
from raft.core.quorum import majority

SAMPLES = 20
"""Answers of one server before it is judged, by their median: some are always late."""
ELECTIONS = 64
"""Requests for votes to one server whose answers may still come."""

REQUESTS: Final = (AppendEntries, RequestVote)
"""What is measured ..."""
REPLIES: Final = (AppendEntriesReply, RequestVoteReply)
"""... and how it is answered."""


@dataclass(slots=True)
class _Peer:
    """What is known of one server."""

    append: tuple[Term, int, float] | None = None
    """The AppendEntries that is measured, by its term and round, and when it left."""
    votes: dict[Term, float] = field(default_factory=dict)
    """In which terms it was asked for its vote, and when; the latest ones."""
    took: list[float] = field(default_factory=list)
    """What was measured, in seconds, until there is enough of it."""
    typical: float = float("inf")
    """The median of the last ``SAMPLES``; until there were as many: not known."""


class RoundTrips:
    """Measures one append to each follower at a time, and every request for a vote."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._peers: dict[ServerId, _Peer] = {}
        self._warned = False

    def sent(self, request: Message, now: float) -> None:
        """Note that one of the ``REQUESTS`` leaves at ``now`` (seconds)."""
        peer = self._peers.get(request.dst)
        if peer is None:
            peer = self._peers[request.dst] = _Peer()
        if isinstance(request, AppendEntries):
            if peer.append is None or peer.append[0] != request.term:
                peer.append = request.term, request.round, now
        elif isinstance(request, RequestVote):
            peer.votes[request.term] = now
            if len(peer.votes) > ELECTIONS:
                del peer.votes[next(iter(peer.votes))]

    def answered(self, reply: Message, members: Configuration, now: float) -> str | None:
        """Take in one of the ``REPLIES``; return a warning, the first time that one is due.

        Only the answer to the very request that was noted counts: after a silence the next
        answer says nothing about how long it took. Of a vote it counts even if that came too late.
        """
        peer = self._peers.get(reply.src)
        if peer is None:
            return None
        left: float | None = None
        match reply:
            case AppendEntriesReply():
                left = self._append_left(peer, reply)
            case RequestVoteReply(outcome=Granted() | AlreadyVoted() | LogBehind()):
                # Whoever refuses for another reason may be in another term than it was asked in.
                left = peer.votes.pop(reply.term, None)
        if left is None:
            return None
        self._note(reply.src, now - left)
        enough = not peer.took
        return self._judge(members) if enough else None

    def _append_left(self, peer: _Peer, reply: AppendEntriesReply) -> float | None:
        asked, answered = peer.append, (reply.term, reply.round)
        if asked is None or answered < asked[:2]:
            return None
        peer.append = None
        return asked[2] if answered == asked[:2] else None

    def _note(self, peer: ServerId, took: float) -> None:
        known = self._peers[peer]
        known.took.append(took)
        if len(known.took) == SAMPLES:
            known.typical = median(known.took)
            known.took.clear()

    def _judge(self, members: Configuration) -> str | None:
        """Judge how long a majority of the voters takes: that is what elections wait for.

        A server that is further away than that, or no voter, makes no election fail.
        """
        if self._warned:
            return None
        speed = {server: -peer.typical for server, peer in self._peers.items()}
        speed[self._config.server] = 0.0
        took = -members.quorum_value(speed, majority, float("-inf"))
        warning = self._config.timing_warning(round(took, 3)) if took < float("inf") else None
        self._warned = warning is not None
        return warning
