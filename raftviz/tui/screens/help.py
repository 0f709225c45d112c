"""Help, made from the table of keys and the table of commands."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from raft.printable import printable
from raftviz import commands
from raftviz.tui.keys import Key
from raftviz.tui.scene.legend import link_rows, message_rows, server_rows
from raftviz.tui.theme import Palette

KEY_WIDTH, SYNTAX_WIDTH = 8, 32


class HelpScreen(ModalScreen[None]):
    """All keys, all commands and all signs; or what can be said about one topic."""

    AUTO_FOCUS = "VerticalScroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,enter", "dismiss", "close"),
        Binding("up,k", "scroll(-1)", show=False),
        Binding("down,j", "scroll(1)", show=False),
    ]

    def __init__(self, keys: Iterable[Key], palette: Palette, topic: str = "") -> None:
        super().__init__()
        self._keys = tuple(keys)
        self._palette = palette
        self._topic = topic

    def compose(self) -> ComposeResult:
        """Show one long text that scrolls."""
        body = VerticalScroll(Static(Text("\n").join(self._lines()), markup=False))
        body.border_title = "help"
        body.border_subtitle = "Esc closes"
        yield body

    def action_scroll(self, lines: int) -> None:
        """Scroll by lines."""
        self.query_one(VerticalScroll).scroll_relative(y=lines, animate=False)

    def on_click(self) -> None:
        """Close: a click anywhere is the mouse's Escape."""
        self.dismiss()

    def _lines(self) -> Iterator[Text]:
        if self._topic:
            lines = commands.help_text(self._topic).splitlines()
            yield from (Text(printable(line), self._palette.text) for line in lines)
            return
        yield self._heading("keys (each gives the command that could be typed, too)")
        for key in self._keys:
            yield self._pair(key.shown, key.help, KEY_WIDTH)
        for scope in commands.Scope:
            yield self._heading(f"commands {scope.value}")
            for spec in (spec for spec in commands.TABLE if spec.scope is scope):
                yield self._pair(spec.syntax, spec.summary, SYNTAX_WIDTH)
        yield self._heading("servers, messages and links")
        palette = self._palette
        rows = [*server_rows(palette), *message_rows(palette), *link_rows(palette)]
        yield from (Text.assemble("  ", *row) for row in rows)
        yield self._heading("in the logs")
        yield Text("  solid: committed · ░hatched░: may still vanish · – a leader's no-op")
        yield Text(
            "  ◆ commitIndex · ◇ lastApplied · ▲ matchIndex · ▷ nextIndex (as the leader sees it)"
        )

    def _heading(self, text: str) -> Text:
        return Text(f"\n{text}", self._palette.key)

    def _pair(self, left: str, right: str, width: int) -> Text:
        style: Style = self._palette.strong
        if len(left) >= width:  # then it has a line of its own
            left += "\n" + " " * (width + 2)
        return Text.assemble((f"  {left:<{width}}", style), (right, self._palette.text))
