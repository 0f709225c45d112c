"""Reads the text of a lesson. Whatever is wrong with it is said with its line, before it runs.

A lesson comes from anywhere, so nothing in it is trusted: it names no files, its commands are
those that the laboratory knows, its conditions are compiled and never evaluated as Python,
and a character that a terminal would obey is refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

from raft.printable import printable
from raftviz import commands
from raftviz.lesson.lesson import Lesson, LessonError, Question, Step
from raftviz.model.conditions import Condition, ConditionError

MAX_STEPS = 50
MAX_COMMANDS = 100
MAX_SERVERS = 9
FRONT = "+++"
HEADING = "## "
FENCE = "```"

# A scene waits for an election as a script does; what only a viewer obeys has no place in it.
_ALLOWED = (
    *typing.get_args(commands.LabCommand),
    *typing.get_args(commands.ScriptCommand),
)


def parse(name: str, text: str, file: str) -> Lesson:
    """Return the lesson written in ``text``; ``file`` is named in errors. Raises LessonError."""
    return _Parser(name, text, file).lesson()


@dataclass(slots=True)
class _Section:
    """The lines of one step: its heading stands on line ``line``."""

    title: str
    line: int
    lines: list[str] = field(default_factory=list)


class _Table:
    """A TOML table whose every key must be asked for, so that a misspelt one is found."""

    def __init__(self, parser: _Parser, values: dict[str, Any], first: int, last: int) -> None:
        self._parser = parser
        self._values = values
        self._known: list[str] = []
        self._first = first
        self._last = last

    def line_of(self, text: str) -> int:
        """Return the first line of this table's text that holds ``text``, or its first line."""
        lines = self._parser.lines[self._first - 1 : self._last]
        return next((self._first + n for n, line in enumerate(lines) if text in line), self._first)

    def fail(self, key: str, wrong: str, right: str, *, at: str = "") -> NoReturn:
        self._parser.fail(self.line_of(at or key), f"{key}: {wrong}", right)

    def _take(self, key: str, kind: type | tuple[type, ...], default: Any, right: str) -> Any:
        self._known.append(key)
        value = self._values.get(key, default)
        if key in self._values and (not isinstance(value, kind) or isinstance(value, bool)):
            self.fail(key, f"{value!r} is not {right}", f"write {right}")
        return value

    def text(self, key: str) -> str | None:
        value: str | None = self._take(key, str, None, "a text in quotes")
        if value is not None and not value.strip():
            self.fail(key, "is empty", "write a text, or leave the key out")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        right = f'a list of texts, as {key} = ["…", "…"]'
        values = self._take(key, list, [], right)
        if not all(isinstance(value, str) for value in values):
            self.fail(key, "holds something else than texts", f"write {right}")
        return tuple(values)

    def number(self, key: str, default: int, low: int, high: int) -> int:
        right = f"a whole number from {low} to {high}"
        value: int = self._take(key, int, default, right)
        if not low <= value <= high:
            self.fail(key, f"{value} is not {right}", f"write {right}")
        return value

    def rate(self, key: str) -> float:
        """Take a rate of time: a number, or a text such as "1/10"."""
        value = self._take(key, (int, float, str), 1, 'a number, or a text such as "1/10"')
        command = self.command(key, f"rate {value}", at=key)
        assert isinstance(command, commands.Rate)
        return command.rate

    def table(self, key: str) -> _Table | None:
        values = self._take(key, dict, None, f"a table, as [{key}]")
        return None if values is None else _Table(self._parser, values, self._first, self._last)

    def require(self, key: str, value: str | None, example: str) -> str:
        if value is None:
            self._parser.fail(self._first, f"{key} is missing", f"write {key} = {example}")
        return value

    def command(self, key: str, text: str, *, at: str) -> commands.Command:
        try:
            return commands.parse(text)
        except commands.CommandError as error:
            self.fail(key, str(error), "`raftviz commands` lists all", at=at)

    def commands(self, key: str, servers: int) -> tuple[str, ...]:
        """Take commands that the laboratory can carry out on servers 1 to ``servers``."""
        texts = self.texts(key)
        if len(texts) > MAX_COMMANDS:
            self.fail(key, f"{len(texts)} commands", f"write at most {MAX_COMMANDS}")
        for text in texts:
            command = self.command(key, text, at=text)
            if not isinstance(command, _ALLOWED):
                self.fail(key, f"`{text}` is for a viewer", "use a command of the cluster", at=text)
            for server in _servers_named(command):
                if server > servers:
                    wrong = f"`{text}` names server {server}"
                    self.fail(key, wrong, f"this lesson has the servers 1 to {servers}", at=text)
            if isinstance(command, commands.Expect):
                self.condition(key, command.condition, at=text)
        return texts

    def condition(self, key: str, text: str | None, *, at: str) -> None:
        try:
            if text is not None:
                Condition(text)
        except ConditionError as error:
            self.fail(key, str(error), "lessons/README.md lists what a condition can say", at=at)

    def done(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, 1)
                known = ", ".join(self._known)
                right = f"did you mean {near[0]}?" if near else f"known here: {known}"
                self.fail(key, "is not known", right)


class _Parser:
    """One pass over one file."""

    def __init__(self, name: str, text: str, file: str) -> None:
        self.name = name
        self.file = file
        self.lines = text.split("\n")

    def fail(self, line: int, wrong: str, right: str) -> NoReturn:
        raise LessonError(self.file, line, wrong, right)

    def lesson(self) -> Lesson:
        self._refuse_control_characters()
        front, end = self._front()
        title = front.require("title", front.text("title"), '"…"')
        servers = front.number("servers", 5, 1, MAX_SERVERS)
        rate = front.rate("rate")
        front.done()
        sections = self._sections(end)
        if not 1 <= len(sections) <= MAX_STEPS:
            wrong = f"{len(sections)} steps"
            self.fail(end, wrong, f"write 1 to {MAX_STEPS}, each under a line `## its title`")
        steps = tuple(self._step(section, servers) for section in sections)
        return Lesson(self.name, title, servers, rate, steps)

    def _refuse_control_characters(self) -> None:
        for number, line in enumerate(self.lines, 1):
            if (shown := printable(line)) != line:
                self.fail(number, f"an invisible or control character: {shown[:60]}", "remove it")

    def _toml(self, first: int, last: int) -> _Table:
        """Read the lines from ``first`` to ``last`` as TOML; errors keep the file's lines."""
        block = "\n".join(self.lines[first - 1 : last])
        try:
            # The empty lines before it make TOML count as the file does.
            values = tomllib.loads("\n" * (first - 1) + block)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else last
            self.fail(line, f"not TOML: {error}", "see lessons/README.md for the format")
        return _Table(self, values, first, max(first, last))

    def _front(self) -> tuple[_Table, int]:
        """Return the front part's table and the number of the line that closes it."""
        if self.lines[0].rstrip() != FRONT:
            self.fail(1, f"begins with {self.lines[0][:40]!r}", f"the first line must be {FRONT}")
        for number, line in enumerate(self.lines[1:], 2):
            if line.rstrip() == FRONT:
                return self._toml(2, number - 1), number
        self.fail(1, "the front part has no end", f"close it with a line {FRONT}")

    def _sections(self, front_end: int) -> list[_Section]:
        sections: list[_Section] = []
        fenced = False
        for number, line in enumerate(self.lines[front_end:], front_end + 1):
            fenced ^= line.startswith(FENCE)
            if line.startswith(HEADING) and not fenced:
                sections.append(_Section(line[len(HEADING) :].strip(), number))
            elif sections:
                sections[-1].lines.append(line)
            elif line.strip():
                self.fail(number, "text before the first step", "begin with a line `## its title`")
        return sections

    def _step(self, section: _Section, servers: int) -> Step:
        table, narrative = self._block(section)
        if not section.title:
            self.fail(section.line, "a step without a title", "write it behind the ##")
        if not narrative:
            self.fail(section.line, "a step without text", "say below it what the reader shall see")
        goal = table.text("goal")
        table.condition("goal", goal, at="goal")
        step = Step(
            title=section.title,
            narrative=narrative,
            scene=table.commands("scene", servers),
            goal=goal,
            hints=table.texts("hints"),
            question=self._question(table.table("question")),
            solution=table.commands("solution", servers),
        )
        if goal is not None and not step.solution:
            table.fail("goal", "has no solution", "add solution = […]: commands that reach it")
        table.done()
        return step

    def _block(self, section: _Section) -> tuple[_Table, str]:
        """Return the table of the block right under the heading (or none), and the rest."""
        lines = section.lines
        start = next((n for n, line in enumerate(lines) if line.strip()), len(lines))
        if start == len(lines) or lines[start].rstrip() != FENCE + "toml":
            return _Table(self, {}, section.line, section.line), "\n".join(lines).strip()
        first = section.line + start + 2
        for end in range(start + 1, len(lines)):
            if lines[end].rstrip() == FENCE:
                return self._toml(first, section.line + end), "\n".join(lines[end + 1 :]).strip()
        self.fail(first - 1, "the block has no end", f"close it with a line {FENCE}")

    def _question(self, table: _Table | None) -> Question | None:
        if table is None:
            return None
        text = table.require("text", table.text("text"), '"…?"')
        why = table.require("why", table.text("why"), '"…"')
        choices = table.texts("choices")
        if len(choices) < 2:
            table.fail("choices", f"{len(choices)} given", "write two or more")
        answer = table.number("answer", 0, 1, len(choices))
        table.done()
        return Question(text, choices, answer - 1, why)


def _servers_named(command: commands.Command) -> Iterator[int]:
    """Yield the servers that a command names by number."""
    for spec in dataclasses.fields(command):
        value = getattr(command, spec.name)
        groups = value if spec.name == "groups" else (value,)
        for group in groups:
            if isinstance(group, tuple):
                yield from group
