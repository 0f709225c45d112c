"""Links between servers: a thin line; where it is cut, the line is gone and a cross stands."""

from __future__ import annotations

import itertools
import math

from rich.style import Style

from raft.core.messages import ServerId
from raftviz.model.view import ClusterView
from raftviz.tui.canvas import Canvas
from raftviz.tui.geometry import Point, Ring
from raftviz.tui.theme import Palette

ARROWS = "→↘↓↙←↖↑↗"
SPACING = 2
STUMP = 0.16
"""How much of a cut link's ends is still drawn."""


def draw_links(canvas: Canvas, view: ClusterView, ring: Ring, palette: Palette) -> None:
    """Draw every link; the canvas is the layer that stays until a link changes."""
    for one, two in itertools.combinations(enumerate(view.servers), 2):
        _draw_link(canvas, view, ring, palette, one, two)


def link_at(
    view: ClusterView, ring: Ring, column: int, row: int
) -> tuple[ServerId, ServerId] | None:
    """Return the link whose middle is at a cell or beside it, None when there is none."""
    for (i, one), (j, two) in itertools.combinations(enumerate(view.servers), 2):
        x, y = middle(ring, i, j).cell
        if abs(x - column) <= 1 and y == row:
            return one, two
    return None


def middle(ring: Ring, one: int, two: int) -> Point:
    """Return where a link's mark stands: in its middle, moved off the crossings of an even ring."""
    start, end = ring.path(one, two)
    count = len(ring.centres)
    opposite = count % 2 == 0 and abs(one - two) * 2 == count
    return start.towards(end, 0.36 if opposite else 0.5)


def _draw_link(
    canvas: Canvas,
    view: ClusterView,
    ring: Ring,
    palette: Palette,
    one: tuple[int, ServerId],
    two: tuple[int, ServerId],
) -> None:
    (i, a), (j, b) = one, two
    there, back = _is_cut(view, a, b), _is_cut(view, b, a)
    start, end = ring.path(i, j)
    if not there and not back:
        draw_line(canvas, start, end, palette.link, SPACING)
        return
    draw_line(canvas, start, start.towards(end, STUMP), palette.bad, SPACING)
    draw_line(canvas, end, end.towards(start, STUMP), palette.bad, SPACING)
    x, y = middle(ring, i, j).cell
    if there and back:
        canvas.text(x, y, "✕", palette.bad_bold)
        return
    blocked = (start, end) if there else (end, start)
    draw_line(canvas, *blocked, palette.link, 6)
    canvas.text(x - 1, y, f"✕{arrow(*blocked)}", palette.bad_bold)


def _is_cut(view: ClusterView, src: ServerId, dst: ServerId) -> bool:
    link = view.links.get((src, dst))
    return link is not None and link.cut


def arrow(start: Point, end: Point) -> str:
    """Return the arrow that points from one place to another."""
    turn = math.atan2(end.y - start.y, end.x - start.x) / (2 * math.pi)
    return ARROWS[round(turn * 8) % 8]


def draw_line(canvas: Canvas, start: Point, end: Point, style: Style, every: int = 1) -> None:
    """Draw a line of dots, ``every`` so many dots apart."""
    width, height = end.x - start.x, end.y - start.y
    count = max(int(math.hypot(width, height) / every), 1)
    for step in range(count + 1):
        share = step / count
        canvas.dot(math.floor(start.x + width * share), math.floor(start.y + height * share), style)
