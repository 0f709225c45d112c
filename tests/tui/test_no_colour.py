"""Without colours (NO_COLOR) the screen still stands, and shapes and words tell what colours do."""

from __future__ import annotations

import pytest

from raftviz.lesson import load
from tests.tui.harness import NARROW, WIDE, explorer, lab_of, show, text_of
from tests.tui.scenes import frozen, partition, replication, split_vote


@pytest.fixture(autouse=True)
def no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("size", [WIDE, NARROW, (20, 6)])
async def test_busy_scenes_are_drawn(size: tuple[int, int]) -> None:
    for scene in (replication, split_vote, partition, frozen):
        async with explorer(lab_of(scene()), size) as pilot:
            await pilot.press("question_mark", "escape", "colon", "k", "escape", "tab", "tab")
            await show(pilot)
            assert text_of(pilot).strip()


async def test_a_lesson_is_drawn() -> None:
    async with explorer(lab_of(replication()), WIDE, load("elections")) as pilot:
        await pilot.press("m", "j")
        await show(pilot)
        assert "step 1 of" in text_of(pilot)


async def test_shapes_and_words_tell_roles_and_what_is_committed() -> None:
    async with explorer(lab_of(split_vote())) as pilot:
        for expected in ("◇ S1", "CANDIDATE", "✕ S5", "DEAD", "follower"):
            assert expected in text_of(pilot)
    async with explorer(lab_of(replication())) as pilot:
        for expected in ("★ S2", "LEADER", " 2 x=9 ", "░3 z=7"):
            assert expected in text_of(pilot)
