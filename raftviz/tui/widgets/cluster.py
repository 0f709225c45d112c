"""The cluster: servers on a ring, links between them, messages on their way."""

from __future__ import annotations

from textual import events
from textual.message import Message

from raft.core.messages import ServerId
from raftviz.model.view import Flight, LinkView
from raftviz.tui.canvas import Canvas
from raftviz.tui.geometry import Ring, ring
from raftviz.tui.scene.frame import Frame
from raftviz.tui.scene.legend import draw_legend
from raftviz.tui.scene.links import draw_links, link_at
from raftviz.tui.scene.messages import draw_faces, draw_trails, message_at, sights
from raftviz.tui.scene.servers import draw_servers
from raftviz.tui.seen import Seen
from raftviz.tui.theme import Palette
from raftviz.tui.widgets.panel import Panel

Layer = tuple[Ring, Palette, dict[tuple[ServerId, ServerId], LinkView], Canvas]


class ClusterPanel(Panel):
    """The picture that moves. What does not, is drawn once and kept."""

    BORDER_TITLE = "cluster"
    FADES = True

    class LinkClicked(Message):
        """The middle of a link was clicked."""

        def __init__(self, one: ServerId, two: ServerId) -> None:
            super().__init__()
            self.one = one
            self.two = two

    class MessageClicked(Message):
        """A message on its way was clicked."""

        def __init__(self, flight: Flight) -> None:
            super().__init__()
            self.flight = flight

    def __init__(self, seen: Seen, *, id: str) -> None:
        super().__init__(seen, id=id)
        self._layer: Layer | None = None

    def draw(self, canvas: Canvas) -> None:
        """Draw the moment over the layer that stays."""
        frame = self._frame(canvas.width, canvas.height)
        canvas.rows = self._static_layer(canvas, frame.ring).copy().rows
        messages = sights(frame)
        draw_trails(canvas, frame, messages)
        if frame.ring.is_round:
            draw_servers(canvas, frame)
        draw_faces(canvas, frame, messages)
        if not frame.ring.is_round:  # there a message would hide who it goes to
            draw_servers(canvas, frame)

    def _frame(self, width: int, height: int) -> Frame:
        seen = self.seen
        return Frame(
            view=seen.view,
            traffic=seen.traffic,
            palette=seen.palette,
            ring=ring(max(len(seen.view.servers), 1), width, height),
            now=seen.now,
            virtual=seen.virtual,
            selected=seen.selected,
            moving=seen.moving,
        )

    def _static_layer(self, canvas: Canvas, where: Ring) -> Canvas:
        seen = self.seen
        if self._layer is not None:
            ring_then, palette, links, layer = self._layer
            same = ring_then == where and palette is seen.palette and links == seen.view.links
            if same and (layer.width, layer.height) == (canvas.width, canvas.height):
                return layer
        layer = Canvas(canvas.width, canvas.height, canvas.ground)
        draw_links(layer, seen.view, where, seen.palette)
        draw_legend(layer, where, seen.palette)
        self._layer = where, seen.palette, dict(seen.view.links), layer
        return layer

    def on_click(self, event: events.Click) -> None:
        """Say what was clicked: a server, a message or a link's middle, in this order."""
        place = event.get_content_offset(self)
        if place is None:
            return
        frame = self._frame(self.content_size.width, self.content_size.height)
        servers = list(self.seen.view.servers)
        at = frame.ring.at(place.x, place.y)
        if at is not None and at < len(servers):
            self.post_message(self.ServerClicked(servers[at]))
        elif (flight := message_at(frame, place.x, place.y)) is not None:
            self.post_message(self.MessageClicked(flight))
        elif (link := link_at(self.seen.view, frame.ring, place.x, place.y)) is not None:
            self.post_message(self.LinkClicked(*link))
