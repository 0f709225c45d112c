"""What pre-votes, members and snapshots look like on the screen."""

from __future__ import annotations

import pytest

from raft.core.events import (
    LogCompacted,
    PreVoteReceived,
    Role,
    RoleChanged,
    RoleReason,
    TransferChanged,
)
from raft.core.membership import Configuration
from raft.core.messages import (
    Entry,
    EntryKind,
    Granted,
    Index,
    InstallSnapshot,
    LeaderAlive,
    RequestPreVote,
    ServerId,
    Term,
)
from raftviz.model.events import MessageSent
from tests.raftviz.fake_lab import FakeLab, Told, cluster, entries, server_state
from tests.tui.harness import NARROW, WIDE, explorer, show, text_of

S1, S2, S3 = ServerId(1), ServerId(2), ServerId(3)
MEMBERS = Entry(Term(1), EntryKind.CONFIGURATION, Configuration((S1, S2, S3)).encode())
LOG = (*entries(1), MEMBERS, *entries(1, 1))

ASKS: list[Told] = [
    (1, RoleChanged(Role.PRE_CANDIDATE, Term(1), RoleReason.ELECTION_TIMEOUT)),
    (1, PreVoteReceived(Term(2), S1, Granted())),
    (1, PreVoteReceived(Term(2), S3, LeaderAlive(S2))),
    MessageSent(7, RequestPreVote(S1, S3, Term(2), Index(4), Term(1)), 1.0),
]
SENDS_SNAPSHOT: list[Told] = [
    (2, LogCompacted(Index(3), Term(1), Index(4))),
    (2, TransferChanged(S3)),
    MessageSent(8, InstallSnapshot(S2, S3, Term(1), Index(3), Term(1), b"", 9, 0, 0, b"x"), 1.0),
]


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_a_pre_candidate_looks_like_a_candidate_with_its_own_word(
    size: tuple[int, int],
) -> None:
    lab = FakeLab(*cluster(3, leader=2, term=1, log=LOG), *ASKS)
    async with explorer(lab, size) as pilot:
        await pilot.press("1")
        await show(pilot)
        text = text_of(pilot)
        assert "◇ S1" in text
        assert "PRE-VOTE" in text
        assert "+−· 1/2" in text
        assert "asks whether it could win an election in term 2" in text or size == NARROW


async def test_dots_stand_for_what_a_snapshot_stands_for() -> None:
    lab = FakeLab(*cluster(3, leader=2, term=1, log=LOG), *SENDS_SNAPSHOT)
    async with explorer(lab, WIDE) as pilot:
        await pilot.press("2")
        await show(pilot)
        text = text_of(pilot)
        assert "1 entry, the last of term 1, behind a snapshot up to 3" in text
        assert "hands over to S3" in text
        (row,) = [line for line in text.splitlines() if "▶S2" in line and "····" in line]
        assert "·······" in row
        assert "1 –" in row
        assert text.count("1 membe") == 2, "the others still have the entry with the members"


async def test_what_nobody_told_is_said_to_be_unknown() -> None:
    state = server_state(1, term=1, log=entries(1), commit=4, behind=(3, 1))
    lab = FakeLab(*cluster(3, term=1), (1, state))
    async with explorer(lab, WIDE) as pilot:
        await pilot.press("1")
        await show(pilot)
        assert "what entries up to 3 said is not known" in text_of(pilot)
