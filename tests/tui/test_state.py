"""What the panels tell of a server's state, of entries and of operations, also when it is old."""

from __future__ import annotations

import pytest

from raft.core.events import Role, RoleChanged, RoleReason, TermChanged, VoteCast
from raft.core.messages import AlreadyVoted, ServerId, Term
from raftviz.model.events import (
    DropReason,
    MessageDropped,
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    ServerExited,
    ServerSpawned,
)
from tests.raftviz.fake_lab import server_state
from tests.tui.harness import explorer, lab_of, show, text_of
from tests.tui.scenes import AT, COMMITTED, LOG, append, ask, noop, replication


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


async def test_what_happened_is_told_in_order_and_a_round_of_messages_in_one_line() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        rounds = [MessageSent(70 + n, ask(1, n, 4), AT + 0.011) for n in (3, 4, 5)]
        for what in rounds:
            lab.feed(what, at=AT + 0.001)
        for number in (3, 5):
            lab.feed(MessageDropped(70 + number, DropReason.LINK_CUT), at=AT + 0.002)
        start = RoleChanged(Role.CANDIDATE, Term(4), RoleReason.ASKED)
        lab.feed((1, start), at=AT + 0.0005)
        lab.feed(MessageSent(80, ask(2, 4, 4), AT + 0.011), at=AT + 0.003)
        await pilot.press("v")
        await show(pilot)
        told = " ".join(text_of(pilot).split("what happened")[1].split())
        seen = pilot.app.seen  # type: ignore[attr-defined]
        lines = [line.text for line in seen.history.everything][-4:]
        assert "S1 → S3 S4 S5 RequestVote term 4" in told
        words = "RequestVote  term 4, its log ends at 6/3"
        assert lines == [
            "S1 was timed out by hand and starts an election in term 4",
            f"S1 → S3 S4 S5  {words}",
            f"lost, the link is cut: S1 → S3 S5  {words}",
            f"S2 → S4  {words}",
        ]
        lab.feed(MessageSent(90, ask(1, 2, 4), AT + 0.1), at=AT + 0.09)
        await show(pilot)
        assert seen.history.everything[-1].text == f"S1 → S2  {words}", "that is another round"


async def test_what_a_leader_repeats_with_every_heartbeat_is_told_once_unless_all_is_shown() -> (
    None
):
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        for number, count in enumerate((1, 1, 1, 2)):
            what, at = append(3, 5, 3, COMMITTED, [noop(3)] * count), AT + 0.05 * number
            lab.feed(MessageSent(70 + number, what, at), at=at)
            lab.feed(MessageDropped(70 + number, DropReason.LINK_CUT), at=at)
        await show(pilot)
        seen = pilot.app.seen  # type: ignore[attr-defined]
        told = "S3 → S5  AppendEntries  term 3, after 6/3, "
        once = [f"{told}+1 entry", f"{told}+2 entries"]
        noted = [line.text.removeprefix("lost, the link is cut: ") for line in seen.history.notable]
        assert [noted.count(text) for text in once] == [2, 2], "sent, and lost"
        assert [line.text for line in seen.history.everything].count(once[0]) == 3
