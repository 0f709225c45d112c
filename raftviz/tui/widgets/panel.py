"""A panel: a rectangle drawn with a canvas, of which only changed rows go to the terminal."""

from __future__ import annotations

from typing import ClassVar

from textual.events import Resize
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from raft.core.messages import ServerId
from raftviz.tui.canvas import Canvas, Painted
from raftviz.tui.seen import Seen


class Panel(Widget):
    """A widget whose whole content is what ``draw`` puts on a canvas."""

    ALLOW_SELECT = False
    FADES: ClassVar[bool] = False
    """Whether it shows the present, so that its colours go when the laboratory has gone."""

    class ServerClicked(Message):
        """A server was clicked."""

        def __init__(self, server: ServerId) -> None:
            super().__init__()
            self.server = server

    class Pressed(Message):
        """Something was clicked that stands for a key (``raftviz.tui.keys``)."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, seen: Seen, *, id: str) -> None:
        super().__init__(id=id)
        self.seen = seen
        self._painted = Painted()

    def draw(self, canvas: Canvas) -> None:
        """Draw the content of this moment; a panel of no kind has none."""

    def repaint(self) -> None:
        """Draw, and let the rows that changed be sent."""
        width, height = self.content_size
        if not self.display or width <= 0 or height <= 0:
            return
        canvas = Canvas(width, height, self.seen.palette.text)
        self.draw(canvas)
        if self.FADES and self.seen.ended is not None:
            canvas.fade(self.seen.palette.faint, self.seen.palette.fill_faint)
        changes = self._painted.show(canvas)
        if changes:
            self.refresh(*(Region(c.start, c.y, c.end - c.start, 1) for c in changes))

    def on_resize(self, event: Resize) -> None:
        """Fill the new size at once."""
        self.repaint()

    def render_line(self, y: int) -> Strip:
        """Return a row as it was last drawn."""
        strips = self._painted.strips
        if y < len(strips):
            return strips[y]
        # With a style even where nothing was drawn yet: without colours the toolkit needs one.
        return Strip.blank(self.content_size.width, self.seen.palette.text)
