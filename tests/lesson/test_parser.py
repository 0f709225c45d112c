"""A lesson file is read whole or refused with its line, what is wrong, and what would be right."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftviz import lesson
from raftviz.lesson import LessonError, Question
from raftviz.lesson.library import MAX_BYTES
from raftviz.lesson.parser import MAX_COMMANDS, MAX_STEPS, parse
from raftviz.model.conditions import (
    ENTRY_FIELDS,
    MESSAGE_FIELDS,
    NAMES,
    OPERATION_FIELDS,
    SERVER_FIELDS,
)

WHOLE = """\
+++
title = "A title"
servers = 3
rate = "1/20"
+++

## First

```toml
leader = 2
scene = ["kill 1", "wait leader != 0 within 2s"]
goal = "alive == 3"
task = "Bring S1 back."
hints = ["Look at S1.", "`:restart 1`"]
solution = ["restart 1"]

[question]
text = "Who leads?"
choices = ["S1", "S2"]
answer = 2
why = "It was elected."
```

Some *text*.

```
## not a step
```

## Second

Nothing to do here.
"""

STEP = "## Step\n\n```toml\n{}\n```\n\nText.\n"
FRONT = '+++\ntitle = "T"\n+++\n'


def with_step(block: str) -> str:
    """A lesson whose only step has this block; the block's first line is line 7."""
    return FRONT + STEP.format(block)


def test_everything_that_a_lesson_says_is_read() -> None:
    read = parse("name", WHOLE, "name.md")
    assert (read.name, read.title, read.servers, read.rate) == ("name", "A title", 3, 0.05)
    first, second = read.steps
    assert first.title == "First"
    assert first.leader == 2
    assert first.scene == ("kill 1", "wait leader != 0 within 2s")
    assert first.goal == "alive == 3"
    assert first.hints == ("Look at S1.", "`:restart 1`")
    assert first.solution == ("restart 1",)
    assert first.task == "Bring S1 back."
    assert first.question == Question("Who leads?", ("S1", "S2"), 1, "It was elected.")
    assert first.narrative == "Some *text*.\n\n```\n## not a step\n```"
    assert second.title == "Second"
    assert second.narrative == "Nothing to do here."
    assert (second.leader, second.goal, second.task, second.question) == (None,) * 4


def test_what_is_not_said_has_a_default() -> None:
    read = parse("name", FRONT + "## Step\nText.", "name.md")
    assert (read.servers, read.rate) == (5, 1.0)


BROKEN = {
    "no front": ("## Step\nText.", 1, "no front part", "begin with +++"),
    "front without end": ('+++\ntitle = "T"\n', 1, "has no end", "close it with a line +++"),
    "no title": ("+++\n+++\n## S\nT", 2, "title is missing", 'title = "…"'),
    "title of the wrong kind": ("+++\ntitle = 3\n+++", 2, "title: 3", "a text in quotes"),
    "front not TOML": ("+++\ntitle = \n+++\n", 2, "not TOML", "lessons/README.md"),
    "too many servers": (
        '+++\ntitle = "T"\nservers = 12\n+++\n## S\nT',
        3,
        "servers: 12",
        "from 1 to 9",
    ),
    "true is no number": ('+++\ntitle = "T"\nservers = true\n+++\n', 3, "servers: True", "1 to 9"),
    "unknown key": ('+++\ntitle = "T"\nserver = 3\n+++\n', 3, "server: ", "did you mean servers?"),
    "bad rate": ('+++\ntitle = "T"\nrate = "fast"\n+++\n', 3, 'found "fast"', "rate"),
    "frozen": ('+++\ntitle = "T"\nrate = 0\n+++\n', 3, "time must run", "1/10"),
    "no steps": (FRONT, 3, "0 steps", "## its title"),
    "text before the first step": (FRONT + "\nHello.\n## S\nT", 5, "before the first step", "##"),
    "step without title": (FRONT + "##  \nText.", 4, "without a title", "behind the ##"),
    "step without text": (FRONT + "## S\n\n## Z\nText.", 4, "without text", "there is to see"),
    "block without end": (FRONT + '## S\n```toml\ngoal = "true"\n', 5, "no end", "close it"),
    "block not TOML": (with_step('hints = ["a"]\ngoal = '), 8, "not TOML", "lessons/README.md"),
    "unknown key in a step": (with_step('gaol = "true"'), 7, "gaol", "did you mean goal?"),
    "scene is no list": (with_step('scene = "kill 1"'), 7, "scene", 'scene = ["…", "…"]'),
    "scene of numbers": (with_step("scene = [1]"), 7, "1 is not a text", "a list of texts"),
    "unknown command": (with_step('scene = [\n  "heal",\n  "kil 1",\n]'), 9, "kil 1", "kill 1"),
    "a viewer's command": (with_step('scene = ["select 1"]'), 7, "for a viewer", "the cluster"),
    "unknown server": (
        with_step('scene = ["partition 1 2 | 7"]'),
        7,
        "names server 7",
        "the servers 1 to 5",
    ),
    "unknown server to ask": (with_step('scene = ["put x 1 @9"]'), 7, "names server 9", "1 to 5"),
    "leader out of range": (with_step("leader = 6"), 7, "leader: 6", "1 to 5"),
    "bad goal": (with_step('hints = []\ngoal = "leader =="'), 8, "goal", "lessons/README.md"),
    "unknown name in a goal": (with_step('goal = "leder == 1"'), 7, "leder", "lessons/README.md"),
    "unknown server in a goal": (with_step('goal = "s7.alive"'), 7, "there is no s7", "s1"),
    "goal of the wrong kind": (with_step("goal = 'leader < \"S1\"'"), 7, "column", "README.md"),
    "goal that is a text": (with_step("goal = 's1.role'"), 7, "neither true nor false", "README"),
    "start where nothing starts": (
        with_step('scene = ["wait term > start.term"]'),
        7,
        "lessons only",
        "",
    ),
    "bad condition to wait for": (
        with_step('scene = ["wait leader =="]'),
        7,
        "`leader ==`: column 10",
        "lessons/README.md",
    ),
    "goal without solution": (with_step('goal = "leader == 1"'), 7, "no solution", "solution"),
    "goal without task": (
        with_step('goal = "alive == 3"\nsolution = ["kill 1 2"]'),
        7,
        "has no task",
        'task = "…"',
    ),
    "empty goal": (with_step('goal = " "'), 7, "is empty", "leave the key out"),
    "one choice": (
        with_step('[question]\ntext = "T"\nwhy = "W"\nchoices = ["a"]'),
        10,
        "choices: 1 of them",
        "two or more",
    ),
    "question without a reason": (
        with_step('hints = []\n[question]\ntext = "T"\nchoices = ["a", "b"]\nanswer = 1'),
        8,
        "why is missing",
        'why = "…"',
    ),
    "question without an answer": (
        with_step('[question]\ntext = "T"\nwhy = "W"\nchoices = ["a", "b"]'),
        7,
        "answer: is missing",
        "from 1",
    ),
    "answer out of range": (
        with_step('[question]\ntext = "T"\nwhy = "W"\nchoices = ["a", "b"]\nanswer = 3'),
        11,
        "answer: 3",
        "from 1 to 2",
    ),
    "escape": (FRONT + "## S\nSome \x1b[31mred\x1b[0m text.", 5, r"\x1b[31m", "remove them"),
    "text turned around": (FRONT + "## S\nSome \u202etxet.", 5, r"\u202e", "remove them"),
    "too many steps": (FRONT + "## S\nT\n" * (MAX_STEPS + 1), 3, "51 steps", "1 to 50"),
    "too many commands": (
        with_step(f"scene = {['heal'] * (MAX_COMMANDS + 1)}"),
        7,
        "51 commands",
        "at most 50",
    ),
}


@pytest.mark.parametrize(("text", "line", "wrong", "right"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_named_with_its_line(
    text: str, line: int, wrong: str, right: str
) -> None:
    with pytest.raises(LessonError) as caught:
        parse("name", text, "name.md")
    assert str(caught.value).startswith(f"name.md, line {line}: "), caught.value
    assert wrong in str(caught.value)
    assert right in str(caught.value).partition(wrong)[2] or right in str(caught.value)
    assert caught.value.line == line


@given(st.lists(st.sampled_from([*WHOLE.splitlines(), '"', "[", "[question]", "x = 1", ""])))
def test_any_mixture_of_lines_is_read_or_refused(lines: list[str]) -> None:
    text = "\n".join(["+++", *lines])
    try:
        parse("name", text, "name.md")
    except LessonError as error:
        line = error.line
    else:
        line = 1
    assert 1 <= line <= len(lines) + 1


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with pytest.raises(LessonError):
        parse("name", FRONT + text, "name.md")


# --- Files -----------------------------------------------------------------------------------


def test_the_lessons_that_came_with_the_program_are_found() -> None:
    assert lesson.names() == ["elections", "replication"]
    for name in lesson.names():
        assert 6 <= len(lesson.load(name).steps) <= 10


def test_a_misspelt_lesson_is_told_the_right_name() -> None:
    with pytest.raises(LessonError, match="did you mean elections"):
        lesson.load("election")


@pytest.mark.parametrize("name", ["../pyproject", "/etc/passwd", "README", "", "elections/"])
def test_a_name_is_not_a_path(name: str) -> None:
    with pytest.raises(LessonError, match="no such lesson"):
        lesson.load(name)


def test_a_teachers_own_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.md"
    file.write_bytes(WHOLE.replace("\n", "\r\n").encode())
    assert lesson.load(str(file)) == parse("mine", WHOLE, "mine.md")


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(LessonError, match=r"gone\.md, line 1: cannot be read: No such file"):
        lesson.load(str(tmp_path / "gone.md"))


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.md"
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(LessonError, match="more than 262144 bytes"):
        lesson.load(str(file))


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin.md"
    file.write_bytes(FRONT.encode() + b"## \xe9l\xe9ction\n")
    with pytest.raises(LessonError, match="line 4: not UTF-8"):
        lesson.load(str(file))


README = (Path(__file__).parents[2] / "lessons" / "README.md").read_text()


def test_the_example_of_the_readme_is_a_lesson() -> None:
    (example,) = re.findall(r"^````markdown\n(.*?)^````$", README, flags=re.M | re.S)
    read = parse("example", example, "lessons/README.md")
    assert read.steps[0].question is not None
    assert read.steps[0].goal is not None


def test_the_readme_lists_all_that_a_condition_can_ask_for() -> None:
    tables = (NAMES, SERVER_FIELDS, OPERATION_FIELDS, MESSAGE_FIELDS, ENTRY_FIELDS)
    rows = [f"| `{name}` | {what} |" for table in tables for name, what in table.items()]
    assert [row for row in rows if row not in README] == []
