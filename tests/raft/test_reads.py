"""Reads through a follower whose leader answers late."""

from __future__ import annotations

from raft.core.messages import (
    AppendEntries,
    Entry,
    Index,
    ReadIndex,
    ReadIndexReply,
    ServerId,
    Term,
)
from raft.core.rules import Rules
from raft.reads import Reads, WaitingRead
from tests.core.scenes import cluster

LEADER, FOLLOWER, TERM = ServerId(2), ServerId(1), Term(1)


def test_answers_that_always_take_longer_than_an_election_timeout_are_waited_for() -> None:
    """Heartbeats come in time, so nobody is elected; but a question is answered 400 ms later."""
    core = cluster(Rules(), [], [], []).core(1)
    reads, done, late = Reads(core), [], 0.400
    reads.begin(WaitingRead(None, lambda: done.append("answered"), lambda: done.append("refused")))
    heartbeat = AppendEntries(
        LEADER, FOLLOWER, TERM, Index(0), Term(0), (Entry(TERM),), Index(1), 1
    )
    on_their_way: list[tuple[float, ReadIndexReply]] = []
    for tick in range(200):
        now = tick * 0.050
        core.step(heartbeat, now)
        while on_their_way and on_their_way[0][0] <= now:
            core.step(on_their_way.pop(0)[1], now)
        reads.ask(now)
        while (ready := core.ready(now)) is not None:
            core.persisted(ready.number, now)
            if ready.committed_entries:
                core.applied(Index(1))
            for asked in ready.messages:
                if isinstance(asked, ReadIndex):
                    answer = ReadIndexReply(LEADER, FOLLOWER, TERM, asked.context, Index(1))
                    on_their_way.append((now + late, answer))
            reads.confirm(ready.read_states)
        reads.answer()
    assert done == ["answered"]
