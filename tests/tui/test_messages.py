"""The picker: any message in flight, and what becomes of it."""

from __future__ import annotations

import pytest

from raftviz.model.events import ClockChanged, MessageDelivered, MessageHeld
from raftviz.tui.explorer import Explorer
from raftviz.tui.screens.messages import MessagesScreen
from tests.tui import scenes
from tests.tui.harness import NARROW, WIDE, explorer, lab_of, show, text_of
from tests.tui.test_lesson_panel import LESSON


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize(
    ("key", "verb"), [("enter", "deliver"), ("d", "drop"), ("c", "duplicate"), ("h", "hold")]
)
async def test_a_message_is_picked_by_key(key: str, verb: str, size: tuple[int, int]) -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab, size) as pilot:
        await pilot.press("m")
        await pilot.pause()
        screen = pilot.app.screen
        assert isinstance(screen, MessagesScreen)
        shown = text_of(pilot)
        assert "messages in flight" in shown
        assert "Enter delivers" in shown
        second = screen._flights[1].message_id
        assert f"#{second}" in shown
        await pilot.press("down", key)
        await pilot.pause()
        assert not isinstance(pilot.app.screen, MessagesScreen)
        assert lab.commands == [f"{verb} #{second}"]


async def test_what_is_held_stands_last_and_can_be_released() -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab) as pilot:
        app = pilot.app
        assert isinstance(app, Explorer)
        first = min(app.seen.view.flights.values(), key=lambda flight: flight.due).message_id
        lab.feed(MessageHeld(first))
        await show(pilot)
        await pilot.press("m", "end", "h")
        await pilot.pause()
        assert lab.commands == [f"release #{first}"]


async def test_it_can_be_left_alone() -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab) as pilot:
        await pilot.press("m", "escape")
        await pilot.pause()
        assert lab.commands == []
        assert not isinstance(pilot.app.screen, MessagesScreen)


async def test_a_click_delivers() -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab) as pilot:
        await pilot.press("m")
        await pilot.pause()
        await pilot.click("OptionList", offset=(5, 1))
        await pilot.pause()
        assert len(lab.commands) == 1
        assert lab.commands[0].startswith("deliver #")


async def test_while_time_runs_or_nothing_is_in_flight_there_is_nothing_to_pick() -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab) as pilot:
        app = pilot.app
        assert isinstance(app, Explorer)
        numbers = list(app.seen.view.flights)
        lab.feed(ClockChanged(scenes.AT, 0.0, 1.0))
        await show(pilot)
        await pilot.press("m")
        await show(pilot)
        assert "freezes it" in text_of(pilot)
        lab.feed(ClockChanged(scenes.AT, 0.0, 0.0), *map(MessageDelivered, numbers))
        await show(pilot)
        await pilot.press("m")
        await show(pilot)
        assert "no message is in flight" in text_of(pilot)


async def test_in_a_lesson_the_small_letter_is_for_hints() -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab, lesson=LESSON) as pilot:
        await pilot.press("m")
        await pilot.pause()
        assert not isinstance(pilot.app.screen, MessagesScreen)
        await pilot.press("M")
        await pilot.pause()
        assert isinstance(pilot.app.screen, MessagesScreen)
