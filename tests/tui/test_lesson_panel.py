"""A lesson beside the cluster: text, question, hints, goal, and the way from step to step."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from raft.core.events import Role
from raft.core.messages import Entry, EntryKind, Term
from raftviz.lesson import Lesson, Question, Step, names
from raftviz.tui.explorer import CHOICES, Explorer
from raftviz.tui.keys import KEYS, LESSON_KEYS
from tests.raftviz.fake_lab import FakeLab, cluster, server_state
from tests.tui.harness import NARROW, WIDE, explorer, show, text_of

QUESTION = Question("Who leads next?", ("nobody", "another", "the same"), 1, "A majority decides.")
LESSON = Lesson(
    "sample",
    "A sample",
    5,
    0.1,
    (
        Step("First of all", "Read *this*.", goal="term == 2", hints=("one", "two")),
        Step("And then", "Read that.", scene=("kill 5",), question=QUESTION),
        Step("At last", "\n\n".join(f"Paragraph {n}." for n in range(60))),
    ),
)


def whole_cluster() -> FakeLab:
    """A cluster at rest, so that a scene is set at once."""
    return FakeLab(*cluster(5, leader=1, term=1, log=(Entry(Term(1), EntryKind.NOOP),)))


async def settle(pilot: Pilot[None]) -> None:
    """Let scenes be set: each command waits until its events are drawn."""
    for _ in range(12):
        await show(pilot)


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await settle(pilot)


async def test_steps_follow_each_other_and_set_their_scenes() -> None:
    lab = whole_cluster()
    async with explorer(lab, WIDE, LESSON) as pilot:
        await settle(pilot)
        for expected in ("First of all", "step 1 of 3", "Read this.", "goal: not yet", "A sample"):
            assert expected in text_of(pilot)
        await press(pilot, "n")
        assert "step 2 of 3" in text_of(pilot)
        assert "kill 5" in lab.commands
        await press(pilot, "pagedown", "n")
        assert "step 3 of 3" in text_of(pilot), "there is nothing after the last step"
        await press(pilot, "N", "pageup", "N")
        assert "step 1 of 3" in text_of(pilot)
        assert "Read this." in text_of(pilot)


async def test_the_goal_is_seen_when_it_is_reached() -> None:
    lab = whole_cluster()
    async with explorer(lab, WIDE, LESSON) as pilot:
        await settle(pilot)
        lab.feed((2, server_state(2, role=Role.CANDIDATE, term=2, voted_for=2)))
        await settle(pilot)
        assert "✓ goal reached" in text_of(pilot)


async def test_hints_come_one_by_one() -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "m")
        assert "hint 1 of 2: one" in text_of(pilot)
        assert "hint 2 of 2" not in text_of(pilot)
        await press(pilot, "m", "m")
        assert "hint 2 of 2: two" in text_of(pilot)
        assert "there is no other hint" in text_of(pilot)


async def test_a_question_is_answered_once_and_explained() -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        assert "Who leads next? (A B C or click)" in text_of(pilot)
        assert "A majority decides." not in text_of(pilot)
        await press(pilot, "A")
        for expected in ("✗ nobody", "✓ another", "A majority decides."):
            assert expected in text_of(pilot)
        await press(pilot, "B")
        assert text_of(pilot).count("A majority decides.") == 1
        await press(pilot, "N", "n", "B")
        assert "✗" not in text_of(pilot).split("Who leads next?")[1].split("logs")[0]


@pytest.mark.parametrize("key", ["b", "B"])
async def test_a_letter_answers_whether_it_is_a_capital_or_not(key: str) -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "n", key)
        assert "✓ another" in text_of(pilot)
        await press(pilot, key)
        assert "step 2 of 3" in text_of(pilot), "an answered question has no letters any more"


def test_no_other_key_is_an_answer() -> None:
    taken = {name for key in (*KEYS, *LESSON_KEYS) for name in key.keys}
    assert taken.isdisjoint({*CHOICES, *CHOICES.upper()})


async def test_a_question_is_answered_with_the_mouse() -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        lines = text_of(pilot).splitlines()
        y = next(n for n, line in enumerate(lines) if "B  another" in line)
        await pilot.click(offset=(lines[y].index("another"), y))
        await settle(pilot)
        assert "✓ another" in text_of(pilot)


async def test_buttons_stand_at_the_same_place_in_every_step() -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        places = []
        for _ in range(3):
            lines = text_of(pilot).splitlines()
            y = next(n for n, line in enumerate(lines) if "next n›" in line)
            places.append((lines[y].index("next n›"), y))
            await pilot.click(offset=places[-1])
            await settle(pilot)
        assert len(set(places)) == 1
        assert "step 3 of 3" in text_of(pilot)
        await pilot.click(offset=(lines[y].index("‹N back"), y))
        await settle(pilot)
        assert "step 2 of 3" in text_of(pilot)


async def test_any_step_can_be_jumped_to() -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "j")
        for title in ("1  First of all", "2  And then", "3  At last"):
            assert title in text_of(pilot)
        await press(pilot, "down", "down", "enter")
        assert "step 3 of 3" in text_of(pilot)
        await press(pilot, "j", "escape")
        assert "step 3 of 3" in text_of(pilot)


async def test_a_long_text_scrolls_with_the_arrows() -> None:
    async with explorer(whole_cluster(), NARROW, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "n", "n")
        assert "Paragraph 0." in text_of(pilot)
        await press(pilot, *["down"] * 5)
        assert "Paragraph 0." not in text_of(pilot)
        await press(pilot, *["up"] * 5)
        assert "Paragraph 0." in text_of(pilot)


async def test_a_scene_that_fails_says_so_and_can_be_set_again() -> None:
    lab = whole_cluster()
    lab.react("kill 5", ok=False, answer="S5 is dead already")
    async with explorer(lab, WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "n")
        panel = text_of(pilot).split("─ logs ─")[0]
        assert "was refused: S5 is dead already" in " ".join(panel.split())
        assert "✗ failed: s sets it up again" in panel
        assert "setting the scene" not in panel
        lab.react("kill 5", ok=False, answer="it is dead even now")
        y = next(n for n, line in enumerate(panel.splitlines()) if "s sets it" in line)
        await pilot.click(offset=(panel.splitlines()[y].index("s sets it"), y))
        await settle(pilot)
        assert lab.commands.count("kill 5") == 2
        await press(pilot, "s")
        assert lab.commands.count("kill 5") == 3
        panel = text_of(pilot).split("─ logs ─")[0]
        assert "step 2 of 3" in panel
        assert "failed" not in panel


async def test_after_the_last_step_the_lesson_is_finished() -> None:
    async with explorer(whole_cluster(), WIDE, LESSON) as pilot:
        await settle(pilot)
        await press(pilot, "n", "n")
        assert "the lesson is finished" not in text_of(pilot)
        await press(pilot, "n", "n")
        shown = text_of(pilot)
        assert shown.count("the lesson is finished") == 1
        for name in names():
            assert f"raftviz lesson {name}" in shown


async def test_lesson_keys_mean_nothing_without_a_lesson() -> None:
    lab = whole_cluster()
    async with explorer(lab) as pilot:
        await press(pilot, "n", "N", "m", "j", "A", "b", "s")
        app = pilot.app
        assert isinstance(app, Explorer)
        assert app.stage.lesson is None
    assert lab.commands == []
