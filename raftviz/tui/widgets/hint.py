"""What stands above the command line while one types: how to go on, or what is wrong and where."""

from __future__ import annotations

import textwrap

from rich.style import Style

from raftviz import commands
from raftviz.commands import CommandError
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.seen import Seen
from raftviz.tui.widgets.panel import Panel

Span = tuple[str, Style]
PROMPT = 2
MAX_COMPLETIONS = 40


class Hint(Panel):
    """Lines above the command line; the last may point down at a column of it."""

    def __init__(self, seen: Seen, *, id: str) -> None:
        super().__init__(seen, id=id)
        self._text = ""
        self._error: CommandError | None = None

    def say(self, text: str, error: CommandError | None) -> None:
        """Speak of what is being typed now."""
        self._text, self._error = text, error
        self.repaint()

    def rows(self, width: int) -> int:
        """Return how many rows are needed on a terminal so wide."""
        return len(self._lines(width))

    def draw(self, canvas: Canvas) -> None:
        """Draw the lines on a raised ground."""
        for y, line in enumerate(self._lines(canvas.width)):
            canvas.text(0, y, " " * canvas.width, self.seen.palette.fill_panel)
            canvas.spans(0, y, line)

    def _lines(self, width: int) -> list[list[Span]]:
        return self._mistake(width) if self._error else self._way_on(width)

    def _mistake(self, width: int) -> list[list[Span]]:
        """Return what is wrong, what would be right, and a pointer at the place."""
        palette, error = self.seen.palette, self._error
        assert error is not None
        lines = [
            [(f"  {line}", palette.fill_error)]
            for line in textwrap.wrap(f"✗ {error.reason}", max(width - 4, 10))
        ]
        lines.append(
            [
                ("  nearest: ", palette.fill_panel),
                (error.nearest, palette.fill_key),
                ("  (Tab takes it)", palette.fill_panel),
            ]
        )
        column = PROMPT + width_of(error.text[: error.column - 1])
        if column < width:
            lines.append([(" " * column + "▼", palette.fill_error)])
        return lines

    def _way_on(self, width: int) -> list[list[Span]]:
        """Return the syntax of the command that was begun, and what could come next."""
        palette = self.seen.palette
        words = self._text.split()
        spec = next((s for s in commands.TABLE if words and s.name == words[0].lower()), None)
        found = self.seen.completions(self._text)[:MAX_COMPLETIONS]
        lines: list[list[Span]] = []
        if spec is not None:
            summary = f"  {spec.summary} · for example {spec.example}"
            lines.append([(f"  {spec.syntax}", palette.fill_key), (summary, palette.fill_panel)])
        if found:
            names = "  ".join(text.split()[-1] if text.split() else text for text in found)
            rows = textwrap.wrap(names, max(width - 4, 10))[:2]
            lines += [[(f"  {row}", palette.fill_panel)] for row in rows]
        return lines or [
            [("  Enter gives the command · Tab completes · ↑ history · Esc", palette.fill_panel)]
        ]
