"""Pictures of whole screens. A wanted change: look at the report, then `--snapshot-update`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from raftviz.lesson import Lesson, Question, Step
from raftviz.tui.explorer import Explorer
from tests.tui import scenes
from tests.tui.harness import NARROW, WIDE, lab_of, promise, show

SIZES = {"160x48": WIDE, "80x24": NARROW}
SCENES: dict[str, Callable[[], list[scenes.Moment]]] = {
    "split_vote": scenes.split_vote,
    "replication": scenes.replication,
    "partition": scenes.partition,
    "frozen": scenes.frozen,
}
LESSON = Lesson(
    "sample",
    "A lesson to look at",
    5,
    0.1,
    (
        Step(
            "A leader and its heartbeats",
            "One server leads, and says so *again and again*.\n\n**Do this:** kill it.",
            goal="leader != 0",
            hints=("Press `k`.",),
            question=Question("Who leads then?", ("nobody", "another"), 1, "A majority decides."),
        ),
        Step("The next one", "…"),
    ),
)


def picture_of(
    moments: list[scenes.Moment], *keys: str, lesson: Lesson | None = None, theme: str = ""
) -> tuple[Explorer, Callable[[Pilot[None]], Any]]:
    """An explorer at a moment, and what is done before the picture is taken."""
    app = Explorer(promise(lab_of(moments)), lesson, now=lambda: 0.0)

    async def before(pilot: Pilot[None]) -> None:
        if theme:
            app.theme = theme
        await show(pilot)
        for key in keys:
            await pilot.press(key)
        await show(pilot)

    return app, before


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", SCENES)
def test_scene(scene: str, size: str, snap_compare: Any) -> None:
    app, before = picture_of(SCENES[scene]())
    assert snap_compare(app, terminal_size=SIZES[size], run_before=before)


def test_light(snap_compare: Any) -> None:
    app, before = picture_of(scenes.replication(), theme="raftviz-light")
    assert snap_compare(app, terminal_size=WIDE, run_before=before)


@pytest.mark.parametrize("size", SIZES)
def test_lesson(size: str, snap_compare: Any) -> None:
    app, before = picture_of(scenes.replication(), "m", "A", lesson=LESSON)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=before)


@pytest.mark.parametrize("size", SIZES)
def test_mistake(size: str, snap_compare: Any) -> None:
    keys = ("colon", *"kill", "space", *"lader", "enter")
    app, before = picture_of(scenes.replication(), *keys)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=before)


def test_help(snap_compare: Any) -> None:
    app, before = picture_of(scenes.replication(), "question_mark")
    assert snap_compare(app, terminal_size=WIDE, run_before=before)
