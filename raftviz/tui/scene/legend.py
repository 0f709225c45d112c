"""What the shapes mean, in the corners that the ring leaves free."""

from __future__ import annotations

from rich.style import Style

from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.geometry import Ring
from raftviz.tui.scene.links import CUT, HELD, RESET, SHAPED, STALLED
from raftviz.tui.theme import Palette

Row = list[tuple[str, Style]]


def message_rows(palette: Palette) -> list[Row]:
    """Return the legend of messages."""
    return [
        [(" ? ", palette.fill_ask), (" asks for a vote", palette.faint)],
        [
            (" + ", palette.fill_good),
            (" votes yes  ", palette.faint),
            (" − ", palette.fill_bad),
            (" no", palette.faint),
        ],
        [
            (" ● ", palette.term(1, bold=True)),
            (" heartbeat  ", palette.faint),
            (" ○ ", palette.dim),
            (" answer", palette.faint),
        ],
        [(" x=1 ", palette.fill_term(1)), (" new entries", palette.faint)],
        [
            (" ✓ ", palette.fill_good),
            (" stored  ", palette.faint),
            (" ✗ ", palette.fill_bad),
            (" refused", palette.faint),
        ],
    ]


def server_rows(palette: Palette) -> list[Row]:
    """Return the legend of servers."""
    return [
        [("★ ", palette.strong), ("leader: double rim", palette.faint)],
        [("◇ ", palette.strong), ("candidate: dashes", palette.faint)],
        [("◔ ", palette.strong), ("rim: its timer", palette.faint)],
        [
            ("✕ ", palette.bad),
            ("dead  ", palette.faint),
            ("‖ ", palette.warn),
            ("paused", palette.faint),
        ],
        [("   ", palette.text), ("colour: the term", palette.faint)],
    ]


def link_rows(palette: Palette) -> list[Row]:
    """Return the legend of links, and of what waits on them."""
    return [
        [(f"{CUT} ", palette.bad), ("cut: messages are lost", palette.faint)],
        [(f"{RESET} ", palette.bad), ("reset: the connection is broken", palette.faint)],
        [(f"{STALLED} ", palette.bad), ("stalled: messages wait until it heals", palette.faint)],
        [(f"{HELD} ", palette.bad), ("held: messages wait for release", palette.faint)],
        [(f"{SHAPED} ", palette.warn), ("slower, lossier … than the others", palette.faint)],
        [(f"{STALLED}● ", palette.fill_frozen), (" a message that is held", palette.faint)],
    ]


def draw_legend(canvas: Canvas, ring: Ring, palette: Palette) -> None:
    """Draw the legend where it covers no server and no link; leave out what finds no room."""
    left, right = message_rows(palette), server_rows(palette)
    _draw(canvas, ring, left, 1)
    _draw(canvas, ring, right, canvas.width - _width(right) - 1)


def _width(rows: list[Row]) -> int:
    return max(sum(width_of(text) for text, _ in row) for row in rows)


def _draw(canvas: Canvas, ring: Ring, rows: list[Row], x: int) -> None:
    width = _width(rows)
    blank = all(
        char == " " for chars, _ in canvas.rows[: len(rows)] for char in chars[x : x + width]
    )
    covers = any(
        ring.at(column, row) is not None
        for row in range(len(rows) + 1)
        for column in range(x - 1, x + width + 2)
    )
    if x < 0 or len(rows) > canvas.height or not blank or covers:
        return
    for y, row in enumerate(rows):
        canvas.spans(x, y, row)
