"""All panels, and the place of each at the terminal's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.geometry import Region, Size
from textual.widget import Widget

from raftviz.tui.arrangement import TABS, arrange, turns
from raftviz.tui.seen import Seen
from raftviz.tui.widgets.cluster import ClusterPanel
from raftviz.tui.widgets.command_line import CommandLine
from raftviz.tui.widgets.feed import Feed
from raftviz.tui.widgets.header import Header
from raftviz.tui.widgets.hint import Hint
from raftviz.tui.widgets.keys_line import KeysLine
from raftviz.tui.widgets.logs import LogsPanel
from raftviz.tui.widgets.panel import Panel
from raftviz.tui.widgets.server import ServerPanel
from raftviz.tui.widgets.status import Status
from raftviz.tui.widgets.too_small import TooSmall

if TYPE_CHECKING:
    from raftviz.lesson import Lesson
    from raftviz.tui.widgets.lesson import LessonPanel

FROZEN_TITLE = "cluster · ❄ time stands still"
ENDED_TITLE = "cluster · last known"


class Stage:
    """What stands on the screen. Each panel's id is its name in ``arrange``."""

    def __init__(self, seen: Seen, lesson: Lesson | None) -> None:
        self.seen = seen
        self.tab = TABS[0]
        self._title = ClusterPanel.BORDER_TITLE
        self.cluster = ClusterPanel(seen, id="cluster")
        self.logs = LogsPanel(seen, id="logs")
        self.feed = Feed(seen, id="feed")
        self.lesson = _lesson_panel(seen, lesson) if lesson else None
        self.hint = Hint(seen, id="hint")
        self.line = CommandLine(seen.completions, id="line")
        self.too_small = TooSmall(seen, id="too-small")
        self._panels: list[Panel | LessonPanel] = [
            Header(seen, id="header"),
            self.cluster,
            self.logs,
            self.feed,
            ServerPanel(seen, id="server"),
            Status(seen, id="status"),
            KeysLine(seen, id="keys", lesson=lesson is not None),
        ]
        if self.lesson is not None:
            self._panels.append(self.lesson)
        self.hint.display = self.line.display = False

    @property
    def widgets(self) -> list[Widget]:
        """All widgets, those that lie over others last."""
        return [*self._panels, self.too_small, self.hint, self.line]

    def repaint(self) -> None:
        """Draw the moment."""
        ended = self.seen.ended is not None and not self.seen.starting
        frozen = self.seen.frozen and not ended
        title = ENDED_TITLE if ended else FROZEN_TITLE if frozen else ClusterPanel.BORDER_TITLE
        if title != self._title:
            self._title = self.cluster.border_title = title
            self.cluster.screen.set_class(frozen, "frozen")
        for panel in self._panels:
            panel.repaint()

    def next_tab(self, size: Size) -> None:
        """Let the next panel have the room that they share."""
        order = turns(size.width, self.lesson is not None)
        here = order.index(self.tab) if self.tab in order else 0
        self.tab = order[(here + 1) % len(order)]
        self.arrange(size)

    def arrange(self, size: Size) -> None:
        """Put every panel in its place on a terminal of this size."""
        servers = max(len(self.seen.view.servers), 1)
        found = arrange(*size, self.tab, self.lesson is not None, servers)
        regions = {} if found is None else found.regions
        self.too_small.display = found is None
        _place(self.too_small, Region(0, 0, *size))
        for panel in self._panels:
            region = regions.get(panel.id or "")
            panel.display = region is not None
            if region is not None:
                _place(panel, region)
        screen = self.cluster.screen
        screen.set_class(found is not None and found.framed, "framed")
        screen.set_class(found is not None and not found.framed, "ruled")
        self.arrange_line(size)

    def arrange_line(self, size: Size) -> None:
        """Put the command line over the status, and what is said about it above."""
        rows = min(self.hint.rows(size.width), max(size.height - 3, 0))
        _place(self.line, Region(2, size.height - 2, size.width - 2, 1))
        _place(self.hint, Region(0, size.height - 2 - rows, size.width, rows))
        self.hint.display = self.line.display and rows > 0


def _lesson_panel(seen: Seen, lesson: Lesson) -> LessonPanel:
    # What reads Markdown takes long to load, and only lessons need it.
    from raftviz.tui.widgets.lesson import LessonPanel

    return LessonPanel(seen, lesson, id="lesson")


def _place(widget: Widget, region: Region) -> None:
    widget.styles.offset = (region.x, region.y)
    widget.styles.width = region.width
    widget.styles.height = region.height
