"""What the panels tell of a server's state, of entries and of operations, also when it is old."""

from __future__ import annotations

import pytest

from raft.core.events import TermChanged, VoteCast
from raft.core.messages import AlreadyVoted, ServerId, Term
from raftviz.model.events import (
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    ServerExited,
    ServerSpawned,
)
from tests.raftviz.fake_lab import server_state
from tests.tui.harness import explorer, lab_of, show, text_of
from tests.tui.scenes import COMMITTED, LOG, replication


async def test_committed_entries_stay_solid_when_all_servers_are_dead() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        assert "◆commit" in text_of(pilot).split("░not yet░")[0]
        lab.feed(
            *(ServerExited(ServerId(n), 80 + n, "killed (SIGKILL)", True) for n in range(1, 6))
        )
        await show(pilot)
        shown = text_of(pilot).split("░not yet░")[0]
        assert shown.count(" 2 x=9 ") >= 5, "what was committed once is for ever"
        assert "░3 z=7" in shown
        assert "◆commit" not in shown, "no process knows a commitIndex any more"
        lab.feed(
            ServerSpawned(ServerId(1), 99, "127.0.0.1:1"),
            (1, server_state(1, term=3, log=LOG[:COMMITTED], commit=0)),
        )
        await show(pilot)
        assert text_of(pilot).count(" 2 x=9 ") >= 5, "a new process knows no commitIndex either"


async def test_a_refusal_is_told_until_the_term_changes() -> None:
    lab = lab_of(replication())
    refusal = VoteCast(Term(3), ServerId(4), AlreadyVoted(ServerId(2)))
    lab.feed((1, refusal))
    async with explorer(lab) as pilot:
        await pilot.press("1")
        await show(pilot)
        assert "did not vote for S4: had voted for S2" in text_of(pilot)
        lab.feed((1, TermChanged(Term(4))))
        await show(pilot)
        assert "did not vote for S4" not in text_of(pilot)


@pytest.mark.parametrize(
    ("outcome", "mark"), [(Outcome.OK, "✓"), (Outcome.FAILED, "✗"), (Outcome.UNKNOWN, "?")]
)
async def test_an_operation_has_the_mark_of_its_outcome(outcome: Outcome, mark: str) -> None:
    lab = lab_of(replication())
    invoked = OperationInvoked(9, OperationKind.PUT, b"k", b"v", ServerId(0))
    returned = OperationReturned(9, outcome, False, b"", "so it is")
    lab.react("put k v", invoked, returned, answer="that is how")
    async with explorer(lab) as pilot:
        await pilot.press("colon", *"put", "space", "k", "space", "v", "enter")
        await show(pilot)
        await show(pilot)
        assert f": put k v  {mark} that is how" in text_of(pilot)
