"""The bottom line: the keys that matter most, each also a button."""

from __future__ import annotations

from textual import events

from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.keys import HELP_ONLY, KEYS, LESSON_KEYS, Key
from raftviz.tui.seen import Seen
from raftviz.tui.widgets.panel import Panel


class KeysLine(Panel):
    """As many keys as fit, by rank; in the order of their table."""

    def __init__(self, seen: Seen, *, id: str, lesson: bool) -> None:
        super().__init__(seen, id=id)
        self._keys = (*(LESSON_KEYS if lesson else ()), *KEYS)
        self._places: list[tuple[int, int, str]] = []

    def draw(self, canvas: Canvas) -> None:
        """Draw each key and what it does."""
        palette = self.seen.palette
        canvas.text(0, 0, " " * canvas.width, palette.fill_panel)
        self._places = []
        gap = 2 if canvas.width >= 100 else 1
        x = 1
        for key in self._fitting(canvas.width - 1, gap):
            end = canvas.text(x, 0, key.shown, palette.fill_key)
            end = canvas.text(end, 0, f" {self._label(key)}", palette.fill_panel)
            self._places.append((x, end, key.name))
            x = end + gap

    def _label(self, key: Key) -> str:
        """Return what the key does now, for those that go to and fro."""
        seen = self.seen
        server = seen.view.servers.get(seen.selected) if seen.selected else None
        if key.name == "pause" and server is not None and server.paused:
            return "resume"
        if key.name == "freeze" and seen.view.clock.rate == 0 and seen.view.servers:
            return "thaw"
        return key.label

    def _fitting(self, width: int, gap: int) -> list[Key]:
        chosen: list[Key] = []
        for key in sorted(self._keys, key=self._rank):
            if key.rank == HELP_ONLY:
                break
            needed = width_of(key.shown) + 1 + width_of(self._label(key)) + gap
            if needed <= width:
                width -= needed
                chosen.append(key)
        return [key for key in self._keys if key in chosen]

    def _rank(self, key: Key) -> int:
        """Return when the key gives way: messages can be picked in frozen time, and only then."""
        return 1 if key.name == "messages" and self.seen.frozen else key.rank

    def on_click(self, event: events.Click) -> None:
        """Press the key that was clicked."""
        for start, end, name in self._places:
            if start <= event.x < end:
                self.post_message(self.Pressed(name))
