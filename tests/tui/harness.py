"""An explorer before a played laboratory, at a moment that stands still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from textual.pilot import Pilot

from raftviz.lab.api import Lab
from raftviz.lesson import Lesson
from raftviz.tui.explorer import Explorer
from tests.raftviz.fake_lab import FakeLab
from tests.tui.scenes import Moment

WIDE, NARROW = (160, 48), (80, 24)


def lab_of(moments: Iterable[Moment]) -> FakeLab:
    """A laboratory that has told these moments."""
    lab = FakeLab()
    for at, told in moments:
        lab.feed(told, at=at)
    return lab


async def promise(lab: Lab) -> Lab:
    return lab


@asynccontextmanager
async def explorer(
    lab: FakeLab, size: tuple[int, int] = WIDE, lesson: Lesson | None = None
) -> AsyncIterator[Pilot[None]]:
    """Run an explorer whose frames come only from the test; the machine's clock stands at 0."""
    app = Explorer(promise(lab), lesson, now=lambda: 0.0)
    async with app.run_test(size=size) as pilot:
        await show(pilot)
        yield pilot


async def show(pilot: Pilot[None]) -> None:
    """Let everything that was said so far come onto the screen."""
    await pilot.pause()
    app = pilot.app
    assert isinstance(app, Explorer)
    app.frame()
    await pilot.pause()


def text_of(pilot: Pilot[None]) -> str:
    """Return the screen as plain text."""
    screen = pilot.app.screen
    lines = screen._compositor.render_strips(screen.size)
    return "\n".join(strip.text for strip in lines)
