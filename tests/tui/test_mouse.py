"""All that keys do, the mouse can do alone."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from raft.core.messages import ServerId
from raftviz.model.events import LinkChanged, ServerPaused
from raftviz.tui.explorer import Explorer
from tests.raftviz.fake_lab import FakeLab
from tests.tui.harness import explorer, lab_of, show, text_of
from tests.tui.scenes import clock, frozen, replication


async def click(pilot: Pilot[None], text: str, *, shift: int = 0) -> None:
    """Click the first place on the screen where ``text`` stands."""
    lines = text_of(pilot).splitlines()
    y = next(n for n, line in enumerate(lines) if text in line)
    assert await pilot.click(offset=(lines[y].index(text) + shift, y))
    await show(pilot)


async def test_a_click_on_a_server_selects_it() -> None:
    async with explorer(lab_of(replication())) as pilot:
        await click(pilot, "80 ms")  # inside the circle of S4
        assert "▶ S4 ◀" in text_of(pilot)


async def test_a_click_on_a_servers_log_selects_it() -> None:
    async with explorer(lab_of(replication())) as pilot:
        await click(pilot, " S5    1 y=2", shift=9)
        assert "▶ S5 ◀" in text_of(pilot)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("k kill", "kill 2"),
        ("r restart", "restart 2"),
        ("p pause", "pause 2"),
        ("i isolate", "isolate 2"),
        ("h heal", "heal all"),
        ("t time out", "timeout 2"),
        ("␣ freeze", "freeze"),
        (". step", "step"),
        ("− slower", "rate 1/50"),
        ("+ faster", "rate 1/10"),
    ],
)
async def test_the_bottom_line_is_made_of_buttons(text: str, command: str) -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await click(pilot, text, shift=2)
    assert lab.commands == [command]


async def test_buttons_that_are_the_screens_own() -> None:
    async with explorer(lab_of(replication())) as pilot:
        await click(pilot, "1-9 select")
        assert "▶ S3 ◀" in text_of(pilot)
        await click(pilot, "? help")
        assert "keys (each gives the command" in text_of(pilot)
        await pilot.click(offset=(1, 1))
        await click(pilot, ": command")
        await pilot.press("q")
        await show(pilot)
        assert ": q" in text_of(pilot)


async def test_a_link_is_cut_with_two_clicks() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await click(pilot, "x cut")
        await click(pilot, "80 ms")
    assert lab.commands == ["cut 2 4"]


async def middle_of_link(pilot: Pilot[None], one: int, two: int) -> tuple[int, int]:
    from raftviz.tui.scene.links import middle

    app = pilot.app
    assert isinstance(app, Explorer)
    panel = app.stage.cluster
    frame = panel._frame(*panel.content_size)
    x, y = middle(frame.ring, one - 1, two - 1).cell
    return panel.content_region.x + x, panel.content_region.y + y


@pytest.mark.parametrize(("cut", "command"), [(False, "cut 3 4"), (True, "heal 3 4")])
async def test_a_click_on_a_links_middle_cuts_or_heals_it(cut: bool, command: str) -> None:
    lab = lab_of(replication())
    if cut:
        lab.feed(LinkChanged(ServerId(4), ServerId(3), True, 0.010))
    async with explorer(lab) as pilot:
        await pilot.click(offset=await middle_of_link(pilot, 3, 4))
        await show(pilot)
    assert lab.commands == [command]


async def test_a_click_on_a_message_tells_what_it_says() -> None:
    lab = lab_of(frozen())
    async with explorer(lab) as pilot:
        lab.feed(clock(0.000001))
        await show(pilot)
        await click(pilot, "newer log", shift=-3)
        assert "S2 → S3  RequestVoteReply  term 3, refused: its own log" in text_of(pilot)


@pytest.mark.parametrize(
    ("button", "verb"),
    [
        ("Enter delivers", "deliver"),
        ("d drops", "drop"),
        ("c copies", "duplicate"),
        ("h holds", "hold"),
    ],
)
async def test_a_message_in_frozen_time_is_picked_and_dealt_with_by_clicks(
    button: str, verb: str
) -> None:
    lab = lab_of(frozen())
    async with explorer(lab) as pilot:
        await click(pilot, "newer log", shift=-3)
        await click(pilot, button)
        await show(pilot)
        (command,) = lab.commands
        number = int(command.removeprefix(f"{verb} #"))
        assert isinstance(pilot.app, Explorer)
        message = pilot.app.seen.view.flights[number].message
        assert (message.src, message.dst) == (2, 3)


async def test_the_wheel_scrolls_what_is_under_it() -> None:
    lab: FakeLab = lab_of(replication())
    lab.feed(*(ServerPaused(ServerId(1 + n % 5)) for n in range(60)))
    async with explorer(lab) as pilot:
        app = pilot.app
        assert isinstance(app, Explorer)
        app.stage.feed.on_mouse_scroll_up(None)  # type: ignore[arg-type]
        await show(pilot)
        assert "↓ 3 newer" in text_of(pilot)
        app.stage.logs.on_mouse_scroll_up(None)  # type: ignore[arg-type]
        await show(pilot)
        assert "3 z=7" not in text_of(pilot)
