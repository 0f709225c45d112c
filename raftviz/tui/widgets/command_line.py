"""The ``:`` line: types any command, completes it, remembers it, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

from textual import events
from textual.message import Message
from textual.suggester import Suggester
from textual.widgets import Input

from raft.printable import printable
from raftviz import commands
from raftviz.command.text import MAX_LENGTH
from raftviz.commands import CommandError

MAX_HISTORY = 200


class CommandLine(Input):
    """One line of text. It is empty and out of sight until it is opened."""

    class Given(Message):
        """A right command was entered."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Closed(Message):
        """The line was left without a command."""

    class Edited(Message):
        """What the line says changed; ``error`` is set when Enter found something wrong."""

        def __init__(self, text: str, error: CommandError | None) -> None:
            super().__init__()
            self.text = text
            self.error = error

    def __init__(self, completions: Callable[[str], list[str]], *, id: str) -> None:
        super().__init__(
            id=id,
            compact=True,
            max_length=MAX_LENGTH,
            suggester=_Completer(completions),
            select_on_focus=False,
        )
        self._completions = completions
        self._history: list[str] = []
        self._place = 0
        self._draft = ""

    def open(self, text: str = "") -> None:
        """Show the line with ``text`` already in it."""
        self._place = len(self._history)
        self.value = text
        self.cursor_position = len(text)
        self.screen.set_focus(self)  # at once; focus() waits for its turn

    def validate_value(self, value: str) -> str:
        """Let nothing into the line that a terminal would obey: somebody may paste anything."""
        return printable(value)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell what is being typed, so that help and completions can be shown."""
        event.stop()
        self.post_message(self.Edited(event.value, None))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the command, or say what is wrong with it and stay open."""
        event.stop()
        text = event.value.strip()
        if not text:
            self.post_message(self.Closed())
            return
        try:
            commands.parse(event.value)
        except CommandError as error:
            self.post_message(self.Edited(event.value, error))
            return
        self._remember(text)
        self.post_message(self.Given(text))

    def _remember(self, text: str) -> None:
        if text in self._history:
            self._history.remove(text)
        self._history = [*self._history, text][-MAX_HISTORY:]

    async def on_key(self, event: events.Key) -> None:
        """Leave with Escape, walk through what was typed before."""
        match event.key:
            case "escape":
                self.post_message(self.Closed())
            case "up":
                self._walk(-1)
            case "down":
                self._walk(1)
            case _:
                return
        event.stop()
        event.prevent_default()

    def _walk(self, by: int) -> None:
        if self._place == len(self._history):
            self._draft = self.value
        self._place = min(max(self._place + by, 0), len(self._history))
        self.value = [*self._history, self._draft][self._place]
        self.cursor_position = len(self.value)

    def complete(self) -> None:
        """Take what all completions have in common, or the only one; else the nearest right one."""
        found = self._completions(self.value)
        if found:
            self.value = _common(found) if _common(found) != self.value else found[0]
        else:
            try:
                commands.parse(self.value)
            except CommandError as error:
                self.value = error.nearest
        self.cursor_position = len(self.value)


class _Completer(Suggester):
    """Shows the likeliest completion in grey behind the cursor."""

    def __init__(self, completions: Callable[[str], list[str]]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._completions = completions

    async def get_suggestion(self, value: str) -> str | None:
        found = self._completions(value) if value else []
        return found[0] if found else None


def _common(texts: list[str]) -> str:
    shortest = min(texts, key=len)
    for length in range(len(shortest), 0, -1):
        if all(text.startswith(shortest[:length]) for text in texts):
            return shortest[:length]
    return ""
