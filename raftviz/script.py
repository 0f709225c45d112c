"""Scripts: files of commands, read whole and judged before anything is started."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.command.members import added
from raftviz.command.text import MAX_ECHO
from raftviz.commands import (
    Command,
    CommandError,
    Expect,
    Links,
    Run,
    StepUntil,
    ViewerCommand,
    is_blank,
    parse,
)
from raftviz.model.conditions import Condition, ConditionError
from raftviz.model.events import Event, LabStarted, ServerAdded
from raftviz.model.link_rules import CLIENT
from raftviz.model.view import ClusterView

MAX_BYTES = 1024 * 1024
MAX_FIRST_LINE = 1000
MAX_PROBLEMS = 10
"""Problems of one script that are told at once."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a script that says something; ``condition`` is that of an Expect."""

    number: int
    text: str
    command: Command
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a script, at a line and column (both from 1)."""

    line: int
    column: int
    reason: str
    nearest: str = ""
    """The nearest right command, if there is one."""
    text: str = ""
    """The line itself."""

    def shown(self, name: str) -> str:
        """Return it for a person, safe to print, with a mark under the place."""
        before = self._before()
        rows = [f"{printable(name)}:{self.line}:{self.column}: {printable(self.reason)}"]
        if self.text:
            rows += [f"    {before}{printable(self.text[self.column - 1 :], MAX_ECHO)}"]
            rows += [f"    {' ' * len(before)}^"]
        if self.nearest:
            rows += [f"  try: {printable(self.nearest, MAX_ECHO)}"]
        return "\n".join(rows)

    def _before(self) -> str:
        """Return what stands before the place, or the end of it."""
        before = self.text[: self.column - 1]
        if len(before) > MAX_ECHO:
            return f"…{printable(before[-MAX_ECHO // 2 :])}"
        return printable(before)


class ScriptError(Exception):
    """A script that cannot be used; nothing of it was carried out."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = problems

    def shown(self, name: str) -> str:
        """Return all that is wrong for a person, safe to print."""
        rows = [problem.shown(name) for problem in self.problems[:MAX_PROBLEMS]]
        if left := self.problems[MAX_PROBLEMS:]:
            rows.append(f"and {len(left)} more")
        return "\n".join(rows)


_RUN_BY = re.compile(rb"#![^\n]*\braftviz +run\b([^\n]*)")


def options(raw: bytes) -> list[str]:
    """Return the options of the laboratory that a script's first line asks for.

    It is the line that makes the file executable: ``#!/usr/bin/env -S raftviz run --servers 7``.
    Raises ScriptError if the words of that line cannot be told from each other.
    """
    match = _RUN_BY.match(raw[:MAX_FIRST_LINE])
    try:
        return shlex.split(match[1].decode("utf-8", "replace")) if match else []
    except ValueError as error:
        raise ScriptError([Problem(1, 1, f"its options cannot be read: {error}")]) from None


def read_script(raw: bytes, servers: int) -> list[Line]:
    """Return the lines of a script for a cluster of ``servers``. Raises ScriptError."""
    if len(raw) > MAX_BYTES:
        raise ScriptError([Problem(1, 1, f"a script has at most {MAX_BYTES} bytes")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ScriptError([Problem(line, 1, "this is not UTF-8")]) from None
    sample = _sample(servers)
    lines: list[Line] = []
    problems: list[Problem] = []
    for number, row in enumerate(text.split("\n"), 1):
        if not is_blank(row):
            try:
                lines.append(_read_line(number, row.rstrip("\r"), sample))
            except ScriptError as error:
                problems += error.problems
    if not problems and not lines:
        problems.append(Problem(1, 1, "there is no command in it", "wait leader != 0"))
    if problems:
        raise ScriptError(problems)
    return lines


def _sample(servers: int) -> ClusterView:
    """Return a cluster of which nothing is known but its size, to try conditions on."""
    view = ClusterView()
    ids = tuple(map(ServerId, range(1, servers + 1)))
    view.apply(Event(1, 0.0, 0.0, ServerId(0), LabStarted("", ids, 0.0, 0.0, 0.0, 0)))
    return view


def _read_line(number: int, text: str, sample: ClusterView) -> Line:
    def unusable(column: int, reason: str, nearest: str = "") -> ScriptError:
        return ScriptError([Problem(number, column, reason, nearest, text)])

    try:
        command = parse(text)
    except CommandError as error:
        raise unusable(error.column, error.reason, error.nearest) from None
    first = len(text) - len(text.lstrip()) + 1
    if isinstance(command, ViewerCommand):
        raise unusable(first, f"{text.split()[0]} is for a person before a screen")
    if (new := added(command)) is not None:
        sample.apply(Event(1, 0.0, 0.0, ServerId(0), ServerAdded(new)))
    for server in _servers_named(command):
        if server not in sample.servers:
            place = re.search(rf"\b[sS]?0*{server}\b", text)
            reason = f"there is no S{server} in a cluster of {len(sample.servers)}"
            raise unusable(place.start() + 1 if place else first, reason)
    if not isinstance(command, Expect | Run | StepUntil):
        return Line(number, text.strip(), command)
    try:
        condition = Condition(command.condition)
        condition.holds(sample)
    except ConditionError as error:
        raise unusable(text.index(command.condition) + error.column, error.reason) from None
    return Line(number, text.strip(), command, condition)


def _servers_named(command: Command) -> Iterator[ServerId]:
    """Yield the servers that a command names by number, in whichever of its fields."""
    values = [getattr(command, field.name) for field in dataclasses.fields(command)]
    for value in values:
        if isinstance(value, Links):
            values += [value.a, value.b]
        elif isinstance(value, tuple):
            values += [part for part in value if isinstance(part, tuple)]
            numbers = (ServerId(part) for part in value if isinstance(part, int))
            yield from (number for number in numbers if number != CLIENT)
