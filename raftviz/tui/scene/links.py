"""Links between servers: a thin line; where nothing gets through, it is gone, and a mark stands."""

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
CUT, RESET, STALLED, HELD, SHAPED = "✕↯‖≡~"
"""What stands on a link: its messages are lost, its connection is broken, they wait until that is
over, or for somebody's hand; or it is slower, lossier or otherwise not like most others."""
BLOCKED = {CUT, RESET, STALLED, HELD}
STUMP = 0.16
"""How much of a cut link's ends is still drawn."""
MOST_SERVERS = 12
"""With more of them all links would be a grey disk: then only the unusual ones are drawn."""


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
    there, back = mark_of(view, a, b), mark_of(view, b, a)
    start, end = ring.path(i, j)
    x, y = middle(ring, i, j).cell
    if not {there, back} & BLOCKED:
        if there or back or len(view.servers) <= MOST_SERVERS:
            draw_line(canvas, start, end, palette.link, SPACING)
        if there and back:
            canvas.text(x, y, SHAPED, palette.warn)
        elif there or back:
            shaped = (start, end) if there else (end, start)
            canvas.text(x - 1, y, f"{SHAPED}{arrow(*shaped)}", palette.warn)
        return
    draw_line(canvas, start, start.towards(end, STUMP), palette.bad, SPACING)
    draw_line(canvas, end, end.towards(start, STUMP), palette.bad, SPACING)
    if there in BLOCKED and back in BLOCKED:
        both = there if there == back else there + back
        canvas.text(x, y, both, palette.bad_bold)
        return
    blocked = (start, end) if there in BLOCKED else (end, start)
    draw_line(canvas, *blocked, palette.link, 6)
    mark = there if there in BLOCKED else back
    canvas.text(x - 1, y, f"{mark}{arrow(*blocked)}", palette.bad_bold)


def mark_of(view: ClusterView, src: ServerId, dst: ServerId) -> str:
    """Return the mark of a link's rules: how it lets nothing through, or that it is unusual."""
    rules = view.links.get((src, dst))
    if rules is None:
        return ""
    if rules.reset:
        return RESET
    if rules.cut or rules.loss >= 1:
        return CUT
    if rules.stalled:
        return STALLED
    if rules.held:
        return HELD
    return "" if rules == view.usual_link else SHAPED


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
