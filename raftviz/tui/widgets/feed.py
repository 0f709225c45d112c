"""What happened, in plain words, the newest at the bottom."""

from __future__ import annotations

from textwrap import wrap

from rich.style import Style
from textual import events

from raftviz.model.words import clock_text
from raftviz.tui.canvas import Canvas
from raftviz.tui.history import Line, Tone
from raftviz.tui.seen import Seen
from raftviz.tui.widgets.panel import Panel

TEXT = 13
"""The column in which the words begin, behind the time and the line's sign."""


class Feed(Panel):
    """The lines of the history; it follows the newest until one scrolls back."""

    BORDER_TITLE = "what happened"

    def __init__(self, seen: Seen, *, id: str) -> None:
        super().__init__(seen, id=id)
        self.all_of_it = False
        self._held: int | None = None
        """The sequence number of the line at the bottom while one looks back."""

    def toggle(self) -> None:
        """Show every message, or only what is worth a look."""
        self.all_of_it = not self.all_of_it
        self.repaint()

    def scroll(self, lines: int) -> None:
        """Move back (positive) or towards the newest line, which is then followed."""
        shown = [line.sequence for line in self.seen.history.lines(all_of_it=self.all_of_it)]
        if not shown:
            return
        bottom = self._bottom(shown) - lines
        bottom = max(bottom, min(self.content_size.height, len(shown)) - 1)
        self._held = None if bottom >= len(shown) - 1 else shown[bottom]
        self.repaint()

    def _bottom(self, shown: list[int]) -> int:
        """Return the place of the line at the bottom."""
        if self._held is None:
            return len(shown) - 1
        held = self._held
        return next((i for i, number in enumerate(shown) if number >= held), len(shown) - 1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Look back."""
        self.scroll(3)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Look at what is newer."""
        self.scroll(-3)

    def draw(self, canvas: Canvas) -> None:
        """Draw as many lines as there are rows; what is long runs over several."""
        lines = self.seen.history.lines(all_of_it=self.all_of_it)
        newest = len(lines) - 1
        bottom = newest if self._held is None else self._bottom([line.sequence for line in lines])
        rows: list[tuple[Line, str, bool]] = []
        for place in range(bottom, -1, -1):
            parts = wrap(lines[place].text, max(canvas.width - TEXT - 1, 10)) or [""]
            rows += [(lines[place], part, n == 0) for n, part in reversed([*enumerate(parts)])]
            if len(rows) >= canvas.height:
                break
        for y, (line, text, is_first) in enumerate(reversed(rows[: canvas.height])):
            self._draw_row(canvas, y, line, text, is_first)
        if bottom < newest:
            note = f" ↓ {newest - bottom} newer "
            canvas.text(
                canvas.width - len(note), canvas.height - 1, note, self.seen.palette.fill_key
            )

    def _draw_row(self, canvas: Canvas, y: int, line: Line, text: str, is_first: bool) -> None:
        palette = self.seen.palette
        if is_first:
            canvas.text(1, y, clock_text(line.at), palette.faint)
            canvas.text(TEXT - 2, y, line.tone.value, self._mark_style(line))
        canvas.text(TEXT, y, text, self._text_style(line), width=canvas.width - TEXT)

    def _mark_style(self, line: Line) -> Style:
        palette = self.seen.palette
        styles = {
            Tone.LEADS: palette.term(line.term, bold=True),
            Tone.CAMPAIGNS: palette.term(line.term, bold=True),
            Tone.GOOD: palette.good,
            Tone.BAD: palette.bad,
            Tone.GIVEN: palette.key,
            Tone.CHANGED: palette.warn,
        }
        return styles.get(line.tone, palette.faint)

    def _text_style(self, line: Line) -> Style:
        palette = self.seen.palette
        if line.tone in (Tone.LEADS, Tone.CAMPAIGNS):
            return palette.term(line.term, bold=True)
        return palette.strong if line.tone is Tone.GIVEN else palette.text
