"""A TOML table of a lesson, read key by key; whatever is wrong is said with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass
from typing import Any

from raftviz.lesson.lesson import LessonError


@dataclass(frozen=True, slots=True)
class Source:
    """The lines of a lesson file, with its name for errors. Lines count from 1."""

    file: str
    lines: tuple[str, ...]

    def error(self, line: int, wrong: str, right: str) -> LessonError:
        """Return the error to raise for something on ``line``."""
        return LessonError(self.file, line, wrong, right)

    def line_of(self, text: str, first: int, last: int) -> int:
        """Return the first line from ``first`` to ``last`` that holds ``text``, else ``first``."""
        found = (n for n in range(first, last + 1) if text in self.lines[n - 1])
        return next(found, first)

    def toml(self, first: int, last: int) -> Table:
        """Read the lines from ``first`` to ``last``. Raises LessonError."""
        # The empty lines before the text make TOML's errors count as the file does.
        text = "\n" * (first - 1) + "\n".join(self.lines[first - 1 : last])
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"line (\d+)", str(error))
            line = int(found[1]) if found else last
            raise self.error(
                line, f"not TOML: {error}", "lessons/README.md has examples"
            ) from error
        return Table(self, values, first, max(first, last))


class Table:
    """Gives out values of the right type, and remembers which keys it was asked for.

    All methods raise LessonError. A key that is not there gives None or nothing.
    """

    def __init__(self, source: Source, values: dict[str, Any], first: int, last: int) -> None:
        self._source = source
        self._values = values
        self._first = first
        self._last = last
        self._asked: list[str] = []

    def error(self, key: str, wrong: str, right: str, *, near: str = "") -> LessonError:
        """Return the error to raise for ``key``; ``near`` is a text on the line to blame."""
        line = self._source.line_of(near or key, self._first, self._last)
        return self._source.error(line, f"{key}: {wrong}", right)

    def _take(self, key: str, kinds: tuple[type, ...], right: str) -> Any:
        self._asked.append(key)
        value = self._values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
            raise self.error(key, f"{value!r} is of the wrong kind", f"write {right}")
        return value

    def text(self, key: str) -> str | None:
        """Take a text that is not empty."""
        value: str | None = self._take(key, (str,), "a text in quotes")
        if value is not None and not value.strip():
            raise self.error(key, "is empty", "write a text, or leave the key out")
        return value

    def needed_text(self, key: str) -> str:
        """Take a text that must be there."""
        value = self.text(key)
        if value is None:
            raise self._source.error(self._first, f"{key} is missing", f'write {key} = "…"')
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of texts."""
        right = f'a list of texts: {key} = ["…", "…"]'
        values = self._take(key, (list,), right) or []
        for value in values:
            if not isinstance(value, str):
                raise self.error(key, f"{value!r} is not a text", f"write {right}")
        return tuple(values)

    def number(self, key: str, default: int, low: int, high: int) -> int:
        """Take a whole number from ``low`` to ``high``."""
        right = f"a whole number from {low} to {high}"
        value = self._take(key, (int,), right)
        if value is None:
            return default
        if not low <= value <= high:
            raise self.error(key, f"{value} is out of range", f"write {right}")
        return int(value)

    def scalar(self, key: str, default: str) -> str:
        """Take a number or a text, as text."""
        value = self._take(key, (int, float, str), "a number, or a text in quotes")
        return default if value is None else str(value)

    def table(self, key: str) -> Table | None:
        """Take a table inside this one."""
        values = self._take(key, (dict,), f"a table under a line [{key}]")
        if values is None:
            return None
        first = self._source.line_of(f"[{key}]", self._first, self._last)
        return Table(self._source, values, first, self._last)

    def finish(self) -> None:
        """Refuse keys that nobody asked for: they are misspelt."""
        for key in self._values:
            if key not in self._asked:
                close = difflib.get_close_matches(key, self._asked, 1)
                right = f"did you mean {close[0]}?" if close else "known: " + ", ".join(self._asked)
                raise self.error(key, "nothing is called so", right)
