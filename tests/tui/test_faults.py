"""What is broken, on purpose or not, is on the screen wherever one looks."""

from __future__ import annotations

import pytest

from raft.core.messages import ServerId
from raftviz.model.events import (
    ChaosChanged,
    DiskChanged,
    LoadChanged,
    LoadMeasured,
    RuleBroken,
    RuleMended,
    ServerAdded,
    ServerClockChanged,
)
from tests.tui.harness import NARROW, WIDE, explorer, lab_of, show, text_of
from tests.tui.scenes import AT, replication

S2, S3, S4 = map(ServerId, (2, 3, 4))


@pytest.mark.parametrize("size", [WIDE, NARROW, (60, 18)])
async def test_a_broken_rule_is_in_the_first_line_at_every_size(size: tuple[int, int]) -> None:
    lab = lab_of(replication())
    async with explorer(lab, size) as pilot:
        assert "BROKEN" not in text_of(pilot)
        lab.feed(RuleBroken(S3, "vote-twice"), at=AT)
        await show(pilot)
        assert " BROKEN " in text_of(pilot).splitlines()[0]
        lab.feed(RuleMended(S3, "vote-twice"), at=AT)
        await show(pilot)
        assert "BROKEN" not in text_of(pilot).splitlines()[0]


async def test_wide_screens_say_which_rule_and_where_and_what_machines_do() -> None:
    lab = lab_of(replication())
    async with explorer(lab, WIDE) as pilot:
        lab.feed(
            RuleBroken(S2, "vote-twice"),
            DiskChanged(S3, delay=0.05),
            ServerClockChanged(S4, 1.5),
            at=AT,
        )
        await show(pilot)
        text = text_of(pilot)
        assert "BROKEN ON PURPOSE" in text.splitlines()[0]
        assert "vote-twice in S2" in text
        assert "disk +50ms" in text
        assert "clock ×1.5" in text
        await pilot.press("3")
        await show(pilot)
        assert "its disk takes 50 ms longer for each fsync" in text_of(pilot)


async def test_load_and_chaos_are_in_the_first_line() -> None:
    lab = lab_of(replication())
    async with explorer(lab, WIDE) as pilot:
        lab.feed(LoadChanged("load 200/s put 50% get 50% keys 10"), ChaosChanged("chaos on"), at=AT)
        await show(pilot)
        assert " load 200/s put 50% " in text_of(pilot).splitlines()[0]
        lab.feed(LoadMeasured(1.0, 198, 0, 2, 5, 0.01, 0.02, 0.041), at=AT)
        await show(pilot)
        first = text_of(pilot).splitlines()[0]
        assert "load 198/s  p50 10 ms" in first
        assert " chaos " in first


async def test_a_server_that_is_added_has_its_place() -> None:
    lab = lab_of(replication())
    async with explorer(lab, WIDE) as pilot:
        lab.feed(ServerAdded(ServerId(6)), at=AT)
        await show(pilot)
        assert "S6" in text_of(pilot)
