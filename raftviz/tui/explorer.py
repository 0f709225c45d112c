"""The explorer: a laboratory on the screen. Events become frames here, and keys find hands."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.widgets import OptionList

from raft.core.messages import ServerId
from raftviz.lab.api import Lab, LabError
from raftviz.model.events import Event
from raftviz.tui.hands import Hands
from raftviz.tui.keys import KEYS, LESSON_KEYS
from raftviz.tui.pace import Pace
from raftviz.tui.seen import Seen
from raftviz.tui.stage import Stage
from raftviz.tui.theme import DARK, THEMES, Palette
from raftviz.tui.widgets.cluster import ClusterPanel
from raftviz.tui.widgets.command_line import CommandLine
from raftviz.tui.widgets.panel import Panel

if TYPE_CHECKING:
    from raftviz.lesson import Lesson
    from raftviz.tui.widgets.lesson import LessonPanel

EVENTS_A_FRAME = 5000
"""More than this at once waits for the next frame, so that keys are still heard."""
CHOICES = "abcdef"
"""The keys that answer a lesson's question, also as capitals; no other key is one of them."""
LINE_KEYS = ("command", "put", "get")
"""The keys that open the command line."""

_OF_LESSONS = {key.name for key in LESSON_KEYS}


def _bindings() -> list[BindingType]:
    # Tab would else go to Textual's own way of moving between widgets. And the line must be open
    # before the next key is looked at: what is typed quickly or pasted behind a colon would else
    # be taken for keys, and kill a server.
    first = ("tab", *LINE_KEYS)
    named = [
        Binding(",".join(key.keys), f"press('{key.name}')", show=False, priority=key.name in first)
        for key in (*LESSON_KEYS, *KEYS)
        if key.keys
    ]
    servers = [Binding(str(n), f"point_at({n})", show=False) for n in range(1, 10)]
    choices = [
        Binding(f"{key},{key.upper()}", f"choose({place})", show=False)
        for place, key in enumerate(CHOICES)
    ]
    return [
        *named,
        *servers,
        *choices,
        Binding("ctrl+c,ctrl+q", "press('quit')", show=False, priority=True),
    ]


class Explorer(App[None]):
    """The whole screen. ``return_code`` is the program's exit status.

    ``lab`` is awaited once the first picture stands. ``now`` is the machine's monotonic clock;
    without a ``pace`` nothing is drawn until somebody calls ``frame``.
    """

    CSS_PATH = Path(__file__).with_name("explorer.tcss")
    TITLE = "raftviz"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    BINDINGS: ClassVar[list[BindingType]] = _bindings()

    def __init__(
        self,
        lab: Awaitable[Lab],
        lesson: Lesson | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
        pace: Pace | None = None,
    ) -> None:
        super().__init__()
        self.seen = Seen(moving=self.animation_level != "none")
        self.stage = Stage(self.seen, lesson)
        self.hands = Hands(self)
        self._lab = lab
        self._now = now
        self._pace = pace
        self._unread: list[Event] = []
        self._drawn: object = None
        for theme in THEMES:
            self.register_theme(theme)
        wanted = os.environ.get("TEXTUAL_THEME", "")
        self.theme = wanted if wanted in self.available_themes else DARK.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Give any other theme the colours that only ours have."""
        return dict(DARK.variables)

    def compose(self) -> ComposeResult:
        """Yield all panels; the stage knows where they stand."""
        yield from self.stage.widgets

    def on_mount(self) -> None:
        """Show the first picture and wait for the laboratory."""
        self.theme_changed_signal.subscribe(self, lambda _: self._take_colours())
        self._take_colours()
        self.stage.arrange(self.size)
        self.run_worker(self._attend())
        if self._pace is not None:
            self._tick(self._pace)

    def _take_colours(self) -> None:
        self.seen.palette = Palette.of(self.current_theme)
        self.stage.repaint()

    def on_resize(self, event: Resize) -> None:
        """Find new places."""
        self.stage.arrange(event.size)

    # --- The laboratory and its frames -------------------------------------------------------

    async def _attend(self) -> None:
        """Collect what the laboratory tells, until it ends."""
        try:
            self.hands.lab = lab = await self._lab
        except LabError as error:
            self._end(str(error))
            return
        while events := await lab.next_events():
            self._unread += events
            if self.stage.lesson is not None:
                self.stage.lesson.start(lab)
        self._end(None)

    def _end(self, why: str | None) -> None:
        """Keep the last picture and say why nothing moves any more."""
        while self._unread:
            self.frame()
        self.seen.ended = why or self.seen.warning or "it ended by itself"
        self.frame()

    def end(self) -> None:
        """Leave; the exit status tells whether the laboratory was there to the last."""
        self.exit(return_code=0 if self.seen.ended is None else 1)

    def _tick(self, pace: Pace) -> None:
        self.frame()
        self.set_timer(pace.frame(), partial(self._tick, pace))

    def frame(self) -> None:
        """Fold what has arrived and draw the moment: one batch of events a frame."""
        seen, known = self.seen, len(self.seen.view.servers)
        events, self._unread = self._unread[:EVENTS_A_FRAME], self._unread[EVENTS_A_FRAME:]
        seen.fold(events, self._now())
        if events and self.stage.lesson is not None:
            self.stage.lesson.view_changed()
        if len(seen.view.servers) != known:
            self.stage.arrange(self.size)
        if events or seen.moment != self._drawn:
            self._drawn = seen.moment
            self.stage.repaint()
        elif self.stage.lesson is not None:
            self.stage.lesson.repaint()  # a scene may be set without an event

    # --- Keys and clicks ---------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Let the keys that open the command line be letters while it, or help, is open.

        And a lesson's keys mean something in lessons only.
        """
        if action == "press" and parameters[0] in _OF_LESSONS and self.stage.lesson is None:
            return False
        opens = action == "press" and parameters[0] in LINE_KEYS
        return not (opens and (self.seen.typing or len(self.screen_stack) > 1))

    def action_press(self, name: str) -> None:
        """Do what a key does."""
        self.hands.press(name)

    def action_point_at(self, number: int) -> None:
        """Do what a server's number does."""
        self.hands.point_at(ServerId(number))

    def action_choose(self, place: int) -> None:
        """Answer a lesson's question."""
        if self.stage.lesson is not None:
            self.stage.lesson.answer(place)

    def on_panel_server_clicked(self, event: Panel.ServerClicked) -> None:
        """Do what its number does."""
        self.hands.point_at(event.server)

    def on_panel_pressed(self, event: Panel.Pressed) -> None:
        """Do what the key does that was clicked."""
        self.hands.press(event.name)

    def on_cluster_panel_link_clicked(self, event: ClusterPanel.LinkClicked) -> None:
        """Cut the link, or heal it."""
        self.hands.toggle_link(event.one, event.two)

    def on_cluster_panel_message_clicked(self, event: ClusterPanel.MessageClicked) -> None:
        """Let the user pick what becomes of it, or while time runs say what it says."""
        self.hands.point_at_message(event.flight)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Answer a lesson's question."""
        self.action_choose(event.option_index)

    def on_lesson_panel_failed(self, event: LessonPanel.Failed) -> None:
        """Say that a scene could not be set."""
        self.seen.remark = event.text

    # --- The command line --------------------------------------------------------------------

    def open_line(self, text: str) -> None:
        """Let the user type a command that begins with ``text``."""
        self.seen.typing = self.stage.line.display = True
        self.stage.line.open(text)

    def _close_line(self) -> None:
        self.seen.typing = self.stage.line.display = False
        self.screen.set_focus(None)
        self.stage.arrange_line(self.size)

    def on_command_line_edited(self, event: CommandLine.Edited) -> None:
        """Say how to go on, or what is wrong."""
        self.stage.hint.say(event.text, event.error)
        self.stage.arrange_line(self.size)

    def on_command_line_closed(self) -> None:
        """Let the keys be keys again."""
        self._close_line()

    def on_command_line_given(self, event: CommandLine.Given) -> None:
        """Carry out what was typed."""
        self._close_line()
        self.hands.give(event.text)
