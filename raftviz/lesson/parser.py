"""Reads the text of a lesson. Whatever is wrong with it is said with its line, before it runs.

A lesson comes from anywhere, so nothing in it is trusted: it names no files, its commands are
those that the laboratory knows, its conditions are compiled and never evaluated as Python,
and a character that a terminal would obey is refused.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz import commands
from raftviz.lesson.lesson import Lesson, Question, Step
from raftviz.lesson.table import Source, Table
from raftviz.model.conditions import Condition, ConditionError, variables
from raftviz.model.events import Event, LabStarted
from raftviz.model.view import ClusterView

MAX_STEPS = 50
MAX_COMMANDS = 50
MAX_SERVERS = 9
FRONT = "+++"
HEADING = "## "
FENCE = "```"

# A scene waits for an election as a script does; what only a viewer obeys has no place in it.
_ALLOWED = (*typing.get_args(commands.LabCommand), *typing.get_args(commands.ScriptCommand))


def parse(name: str, text: str, file: str) -> Lesson:
    """Return the lesson written in ``text``; ``file`` is named in errors. Raises LessonError."""
    source = Source(file, tuple(text.split("\n")))
    _refuse_control_characters(source)
    front, end = _front(source)
    title = front.needed_text("title")
    servers = front.number("servers", 5, 1, MAX_SERVERS)
    rate = _rate(front)
    front.finish()
    sections = _sections(source, end)
    if not 1 <= len(sections) <= MAX_STEPS:
        right = f"write 1 to {MAX_STEPS}, each under a line `## its title`"
        raise source.error(end, f"{len(sections)} steps", right)
    steps = tuple(_step(source, section, servers) for section in sections)
    return Lesson(name, title, servers, rate, steps)


# --- The parts of the file -------------------------------------------------------------------


@dataclass(slots=True)
class _Section:
    """The lines of one step; its heading stands on line ``line``."""

    title: str
    line: int
    lines: list[str] = field(default_factory=list)


def _refuse_control_characters(source: Source) -> None:
    for number, line in enumerate(source.lines, 1):
        if (shown := printable(line)) != line:
            raise source.error(number, f"invisible or control characters: {shown}", "remove them")


def _front(source: Source) -> tuple[Table, int]:
    """Return the front part's table and the number of the line that closes it."""
    if source.lines[0].rstrip() != FRONT:
        raise source.error(1, "no front part", f"begin with {FRONT}, a title, and {FRONT} again")
    for number, line in enumerate(source.lines[1:], 2):
        if line.rstrip() == FRONT:
            return source.toml(2, number - 1), number
    raise source.error(1, "the front part has no end", f"close it with a line {FRONT}")


def _sections(source: Source, front_end: int) -> list[_Section]:
    sections: list[_Section] = []
    fenced = False
    for number, line in enumerate(source.lines[front_end:], front_end + 1):
        fenced ^= line.startswith(FENCE)
        if line.startswith(HEADING) and not fenced:
            sections.append(_Section(line.removeprefix(HEADING).strip(), number))
        elif sections:
            sections[-1].lines.append(line)
        elif line.strip():
            raise source.error(number, "text before the first step", "begin with `## its title`")
    return sections


def _block(source: Source, section: _Section) -> tuple[Table, str]:
    """Return the table of the block right under the heading (empty without one), and the rest."""
    lines = section.lines
    start = next((n for n, line in enumerate(lines) if line.strip()), 0)
    if not lines or lines[start].rstrip() != FENCE + "toml":
        return Table(source, {}, section.line, section.line), "\n".join(lines).strip()
    opening = section.line + 1 + start
    for end in range(start + 1, len(lines)):
        if lines[end].rstrip() == FENCE:
            rest = "\n".join(lines[end + 1 :]).strip()
            return source.toml(opening + 1, section.line + end), rest
    raise source.error(opening, "the block has no end", f"close it with a line {FENCE}")


# --- One step --------------------------------------------------------------------------------


def _step(source: Source, section: _Section, servers: int) -> Step:
    table, narrative = _block(source, section)
    if not section.title:
        raise source.error(section.line, "a step without a title", "write it behind the ##")
    if not narrative:
        raise source.error(section.line, "a step without text", "tell what there is to see")
    step = Step(
        title=section.title,
        narrative=narrative,
        scene=_commands(table, "scene", servers),
        goal=_goal(table, servers),
        hints=table.texts("hints"),
        question=_question(table.table("question")),
        solution=_commands(table, "solution", servers),
        leader=ServerId(table.number("leader", 0, 1, servers)) or None,
        task=table.text("task"),
    )
    table.finish()
    if step.goal is not None and not step.solution:
        raise table.error("goal", "has no solution", "add solution = […]: commands that reach it")
    if step.goal is not None and step.task is None:
        raise table.error("goal", "has no task", 'add task = "…": what the reader shall do')
    return step


def _goal(table: Table, servers: int) -> str | None:
    goal = table.text("goal")
    if goal is not None:
        _check_condition(table, "goal", goal, servers, near="goal")
    return goal


def _question(table: Table | None) -> Question | None:
    if table is None:
        return None
    text = table.needed_text("text")
    why = table.needed_text("why")
    choices = table.texts("choices")
    if len(choices) < 2:
        raise table.error("choices", f"{len(choices)} of them", "write two or more")
    answer = table.number("answer", 0, 1, len(choices))
    if answer == 0:
        raise table.error("answer", "is missing", "write the right choice's number, from 1")
    table.finish()
    return Question(text, choices, answer - 1, why)


# --- Commands and conditions -----------------------------------------------------------------


def _rate(front: Table) -> float:
    command = _command(front, "rate", f"rate {front.scalar('rate', '1')}", near="rate")
    if not isinstance(command, commands.Rate) or command.rate == 0:
        raise front.error("rate", "time must run", 'write a number, or a text such as "1/10"')
    return command.rate


def _commands(table: Table, key: str, servers: int) -> tuple[str, ...]:
    """Take commands that the laboratory can carry out on the servers 1 to ``servers``."""
    texts = table.texts(key)
    if len(texts) > MAX_COMMANDS:
        raise table.error(key, f"{len(texts)} commands", f"write at most {MAX_COMMANDS}")
    for text in texts:
        command = _command(table, key, text, near=text)
        if not isinstance(command, _ALLOWED):
            raise table.error(key, f"`{text}` is for a viewer", "command the cluster", near=text)
        if unknown := [server for server in _servers_named(command) if server > servers]:
            right = f"this lesson has the servers 1 to {servers}"
            raise table.error(key, f"`{text}` names server {unknown[0]}", right, near=text)
        if isinstance(command, commands.Expect):
            _check_condition(table, key, command.condition, servers, near=text)
    return texts


def _command(table: Table, key: str, text: str, *, near: str) -> commands.Command:
    try:
        return commands.parse(text)
    except commands.CommandError as error:
        right = f"perhaps `{error.nearest}`"
        raise table.error(key, f"`{text}`: {error.reason}", right, near=near) from error


def _check_condition(table: Table, key: str, text: str, servers: int, *, near: str) -> None:
    """Compile a condition, and judge a cluster that has just begun: it must be able to."""
    view = ClusterView()
    ids = tuple(map(ServerId, range(1, servers + 1)))
    view.apply(Event(1, 0.0, 0.0, ServerId(0), LabStarted("", ids, 0.0, 0.0, 0.0, 0)))
    start = {"start": variables(view)} if key == "goal" else {}
    try:
        Condition(text).holds(view, extra=start)
    except ConditionError as error:
        right = "lessons/README.md lists what a condition can say"
        shown = " ".join(text.split())
        raise table.error(key, f"`{shown}`: {error}", right, near=near) from error


def _servers_named(command: commands.Command) -> Iterator[int]:
    """Yield the servers that a command names by number."""
    for spec in dataclasses.fields(command):
        value = getattr(command, spec.name)
        for group in value if spec.name == "groups" else (value,):
            if isinstance(group, tuple):
                yield from group
