"""What can be typed after ``:`` reaches the laboratory; what cannot is explained on the spot."""

from __future__ import annotations

import pytest
from textual.events import Key
from textual.pilot import Pilot

from raftviz import commands
from raftviz.commands import Scope
from raftviz.tui.explorer import Explorer
from tests.tui.harness import NARROW, explorer, lab_of, show, text_of
from tests.tui.scenes import frozen, replication

NAMES = {
    ":": "colon",
    " ": "space",
    "|": "vertical_line",
    "@": "at",
    "/": "slash",
    ">": "greater_than_sign",
}
LAB = [spec.example for spec in commands.TABLE if spec.scope is Scope.LAB]
SCRIPT = [spec.example for spec in commands.TABLE if spec.scope is Scope.SCRIPT]


async def type_in(pilot: Pilot[None], text: str, *keys: str) -> None:
    app = pilot.app
    assert isinstance(app, Explorer)
    await pilot.press("colon")
    app.stage.line.insert_text_at_cursor(text)
    await pilot.press(*keys)
    await show(pilot)


async def test_every_command_reaches_the_laboratory_as_typed() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        for example in LAB:
            lab.commands.clear()
            await type_in(pilot, example, "enter")
            assert f": {example}" in text_of(pilot)
            assert lab.commands == [example]


async def test_typing_key_by_key() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await pilot.press("colon", *(NAMES.get(c, c) for c in "partition 1 2 | 3 4 5"), "enter")
        await show(pilot)
    assert lab.commands == ["partition 1 2 | 3 4 5"]


async def test_what_comes_at_once_behind_the_colon_is_typed() -> None:
    """A terminal hands over a burst of keys in one piece; none of them may kill a server."""
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        for character in ":kill 5":
            pilot.app.post_message(Key(NAMES.get(character, character), character))
        pilot.app.post_message(Key("enter", "\r"))
        await pilot.pause()
        await show(pilot)
    assert lab.commands == ["kill 5"]


@pytest.mark.parametrize("example", SCRIPT)
async def test_a_command_for_scripts_says_where_it_belongs(example: str) -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await type_in(pilot, example, "enter")
        assert "raftviz run FILE" in text_of(pilot)
    assert lab.commands == []


async def test_the_screens_own_commands() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await type_in(pilot, "select 4", "enter")
        assert "▶ S4 ◀" in text_of(pilot)
        await type_in(pilot, "select leader", "enter")
        assert "▶ ★ S2 ◀" in text_of(pilot)
        await type_in(pilot, "select candidate", "enter")
        assert "there is no such server now" in text_of(pilot)
        await type_in(pilot, "help cut", "enter")
        assert "for example: cut" in text_of(pilot)
        await pilot.press("escape")
        await type_in(pilot, "quit", "enter")
        assert pilot.app._exit
    assert lab.commands == []


async def test_a_mistake_is_shown_where_it_is_and_can_be_corrected() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await type_in(pilot, "kill lader", "enter")
        lines = text_of(pilot).splitlines()
        line = next(n for n, text in enumerate(lines) if text.startswith(": kill lader"))
        assert lines[line - 1].index("▼") == lines[line].index("lader")
        assert "nearest: kill leader" in lines[line - 2]
        assert 'found "lader"' in text_of(pilot)
        await pilot.press("tab", "enter")
        await show(pilot)
        assert "▼" not in text_of(pilot)
    assert lab.commands == ["kill leader"]


async def test_a_mistake_goes_away_when_one_types_on() -> None:
    async with explorer(lab_of(replication())) as pilot:
        await type_in(pilot, "kill lader", "enter")
        await pilot.press("backspace")
        await show(pilot)
        assert "▼" not in text_of(pilot)
        assert "kill SERVERS" in text_of(pilot)


@pytest.mark.parametrize("size", [NARROW, (40, 12)])
async def test_a_mistake_is_readable_on_small_screens(size: tuple[int, int]) -> None:
    async with explorer(lab_of(replication()), size) as pilot:
        await type_in(pilot, "rate fast", "enter")
        assert "nearest:" in text_of(pilot)
        assert "▼" in text_of(pilot)


async def test_completion_knows_the_servers_and_the_messages_that_there_are() -> None:
    lab = lab_of(frozen())
    async with explorer(lab) as pilot:
        await type_in(pilot, "drop ")
        numbers = [f"#{number}" for number in range(1, 5)]
        offered = " ".join(text_of(pilot).splitlines()[-5:]).split()
        assert set(numbers) <= set(offered)
        await pilot.press("escape")
        await type_in(pilot, "kill ")
        offered = text_of(pilot).splitlines()[-3].split()
        assert "5" in offered
        assert "6" not in offered


async def test_completion_offers_and_takes() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await type_in(pilot, "part", "tab")
        line = pilot.app.query_one("#line")
        assert getattr(line, "value", "").startswith("partition")
        await pilot.press("escape")
        await type_in(pilot, "kill ")
        assert "leader" in text_of(pilot).splitlines()[-3]
        await pilot.press("escape")
        await show(pilot)
        await pilot.press("k")
        await show(pilot)
    assert lab.commands == ["kill 2"], "after Escape keys are keys again"


async def test_history_walks_back_and_forth_and_keeps_the_draft() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        for text in ("kill 1", "kill 3", "kill 1"):
            await type_in(pilot, text, "enter")
        line = pilot.app.query_one("#line")
        await type_in(pilot, "draft", "up")
        assert getattr(line, "value") == "kill 1"  # noqa: B009
        await pilot.press("up")
        assert getattr(line, "value") == "kill 3", "what was given twice stands once"  # noqa: B009
        await pilot.press("up", "down", "down", "down")
        assert getattr(line, "value") == "draft"  # noqa: B009


async def test_an_empty_line_does_nothing() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await type_in(pilot, "   ", "enter")
        assert not text_of(pilot).splitlines()[-2].startswith(":")
    assert lab.commands == []
