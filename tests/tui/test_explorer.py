"""How the explorer lives with its laboratory: it waits for it, and outlives it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from raft.core.events import Role, RoleChanged, RoleReason, TermChanged
from raft.core.messages import Term
from raftviz.lab.api import Lab, LabError
from raftviz.model.events import Warned
from raftviz.tui.explorer import EVENTS_A_FRAME, Explorer
from raftviz.tui.pace import Pace
from tests.raftviz.fake_lab import FakeLab, cluster
from tests.tui.harness import WIDE, explorer, lab_of, show, text_of
from tests.tui.scenes import frozen, replication


async def test_it_stands_before_the_laboratory_does() -> None:
    arrived: asyncio.Future[Lab] = asyncio.get_running_loop().create_future()

    async def promise() -> Lab:
        return await arrived

    screen = Explorer(promise(), now=lambda: 0.0)
    async with screen.run_test(size=WIDE) as pilot:
        await show(pilot)
        assert "starting the servers" in text_of(pilot)
        assert "✓ Election Safety" not in text_of(pilot), "nothing has been proved yet"
        assert "×0" not in text_of(pilot)
        await pilot.press("k", "space", "plus", "x", "0", "1")
        await show(pilot)
        arrived.set_result(lab_of(replication()))
        await show(pilot)
        await show(pilot)
        assert "★ leader S2" in text_of(pilot)


async def test_a_laboratory_that_cannot_start_says_why() -> None:
    async def promise() -> Lab:
        raise LabError("the laboratory did not start: no room")

    screen = Explorer(promise(), now=lambda: 0.0)
    async with screen.run_test(size=WIDE) as pilot:
        await show(pilot)
        assert "the laboratory did not start: no room" in text_of(pilot)
        await pilot.press("q")
    assert screen.return_code == 1


async def test_a_laboratory_that_ends_leaves_its_last_picture() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        lab.feed(Warned("the disk is full"))
        lab.end()
        await show(pilot)
        for expected in (
            "the laboratory ended",
            "the disk is full",
            "■ ENDED",
            "last known: 5/5 alive",
            "cluster · last known",
        ):
            assert expected in text_of(pilot)
        screen = pilot.app
        assert isinstance(screen, Explorer)
        colours = screen.seen.palette.faint, screen.seen.palette.fill_faint
        strips = screen.stage.cluster._painted.strips
        assert all(piece.style in colours for strip in strips for piece in strip), "it is dimmed"
        await pilot.press("k", "4")
        await show(pilot)
        assert "▶ S4 ◀" in text_of(pilot), "one can still look around"


async def test_a_flood_of_events_is_taken_in_portions() -> None:
    lab = FakeLab(*cluster(5))
    async with explorer(lab) as pilot:
        change = (1, RoleChanged(Role.CANDIDATE, Term(1), RoleReason.ELECTION_TIMEOUT))
        lab.feed(*[change] * (EVENTS_A_FRAME + 10), Warned("last"))
        screen = pilot.app
        assert isinstance(screen, Explorer)
        await show(pilot)
        assert screen.seen.warning == ""
        await show(pilot)
        assert screen.seen.warning == "last"


async def test_a_broken_property_is_seen_at_once() -> None:
    lab = FakeLab(*cluster(5, leader=1, term=3))
    async with explorer(lab) as pilot:
        assert text_of(pilot).count("✓ ") >= 5
        lab.feed((2, RoleChanged(Role.LEADER, Term(3), RoleReason.WON_ELECTION)))
        await show(pilot)
        assert "✗ Election Safety: broken at" in text_of(pilot)
        assert "Election Safety is broken:" in text_of(pilot).split("what happened")[1]


async def test_what_stands_still_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with explorer(lab_of(frozen())) as pilot:
        screen = pilot.app
        assert isinstance(screen, Explorer)
        drawn = 0

        def count() -> None:
            nonlocal drawn
            drawn += 1

        monkeypatch.setattr(screen.stage, "repaint", count)
        screen.frame()
        assert drawn == 0
        await pilot.press("3")
        screen.frame()
        assert drawn == 1


async def test_frames_come_by_themselves_with_a_pace() -> None:
    lab = lab_of(replication())

    async def promise() -> Lab:
        return lab

    screen = Explorer(promise(), pace=Pace())
    drawn = []
    async with screen.run_test(size=WIDE) as pilot, asyncio.timeout(20):
        while "★ leader S2" not in text_of(pilot):
            await pilot.pause(0.02)
        paint = screen.stage.repaint
        screen.stage.repaint = lambda: drawn.append(paint())  # type: ignore[method-assign]
        await pilot.press("3")
        while "▶ S3 ◀" not in text_of(pilot):
            await pilot.pause(0.02)
    assert drawn


async def test_no_animation_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    never: asyncio.Future[Lab] = asyncio.get_running_loop().create_future()
    assert Explorer(never).seen.moving
    monkeypatch.setattr("textual.constants.TEXTUAL_ANIMATIONS", "none")
    assert not Explorer(never).seen.moving


def test_the_package_starts_without_the_toolkit() -> None:
    code = "import sys, raftviz.tui.app; assert 'textual' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_leader_of_an_older_term_is_told_with_its_term() -> None:
    lab = FakeLab(*cluster(5, leader=5, term=4))
    async with explorer(lab) as pilot:
        assert "★ leader S5 (term" not in text_of(pilot)
        lab.feed((1, TermChanged(Term(9))))
        await show(pilot)
        assert "term 9" in text_of(pilot)
        assert "★ leader S5 (term 4)" in text_of(pilot)


async def test_a_picture_that_is_behind_says_so_until_it_has_caught_up() -> None:
    lab = FakeLab(*cluster(5, leader=1, term=1))
    now = 0.0

    async def promise() -> Lab:
        return lab

    screen = Explorer(promise(), now=lambda: now)
    async with screen.run_test(size=WIDE) as pilot:
        await show(pilot)
        assert "behind by" not in text_of(pilot)
        now = time.monotonic() + 40
        lab.feed(Warned("this happened long ago"))
        await show(pilot)
        assert "behind by 40 s" in text_of(pilot)
        now += 2
        await show(pilot)
        assert "behind by" not in text_of(pilot)
