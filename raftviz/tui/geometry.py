"""Where servers stand and how messages travel between them: arithmetic in braille dots.

A character cell is two dots wide and four high, which makes dots about square, so circles
look round. Angles run clockwise from the top, as on a clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

DOTS_X, DOTS_Y = 2, 4
LANE = 3.0
"""Messages keep to the right of their link by this many dots, as on a road."""
CARD_WIDTH, CARD_ROWS = 10, 2
"""Cells of a server where there is no room for circles, only for two lines of text."""

Box = tuple[int, int, int, int]
"""(left, top, width, height) in cells."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place, in dots."""

    x: float
    y: float

    def towards(self, other: Point, share: float) -> Point:
        """Return the point ``share`` (0 … 1) of the way to ``other``."""
        return Point(self.x + (other.x - self.x) * share, self.y + (other.y - self.y) * share)

    @property
    def cell(self) -> tuple[int, int]:
        """The (column, row) of the cell it lies in."""
        return math.floor(self.x / DOTS_X), math.floor(self.y / DOTS_Y)


@dataclass(frozen=True, slots=True)
class Ring:
    """Servers on an ellipse, each a circle ``rows`` cells high (or two lines of text)."""

    centres: tuple[Point, ...]
    rows: int

    @property
    def is_round(self) -> bool:
        """Whether servers are circles, not two lines of text."""
        return self.rows > CARD_ROWS

    @property
    def shortest_link(self) -> float:
        """The length of the shortest link, in dots."""
        places = range(len(self.centres))
        return min(
            (math.dist(*map(_xy, self.path(i, j))) for i in places for j in places if i < j),
            default=math.inf,
        )

    @property
    def columns(self) -> int:
        """A circle's width in cells."""
        return self.rows * 2 if self.is_round else CARD_WIDTH

    @property
    def radius(self) -> float:
        """A circle's radius in dots."""
        return self.rows * DOTS_Y / 2

    def box(self, place: int) -> Box:
        """Return (left, top, width, height) in cells of the server at ``place``."""
        centre = self.centres[place]
        left = round(centre.x / DOTS_X - self.columns / 2)
        top = round(centre.y / DOTS_Y - self.rows / 2)
        return left, top, self.columns, self.rows

    def at(self, column: int, row: int) -> int | None:
        """Return the place of the server drawn at a cell, None when there is none."""
        for place in range(len(self.centres)):
            left, top, width, height = self.box(place)
            if left <= column < left + width and top <= row < top + height:
                return place
        return None

    def covers(self, column: int, row: int) -> bool:
        """Tell whether a server is drawn at a cell: of a circle's box, only the circle."""
        place = self.at(column, row)
        if place is None or not self.is_round:
            return place is not None
        left, top, _, height = self.box(place)
        first, end = disc(height)[row - top]
        return first <= column - left < end

    def path(self, src: int, dst: int, lane: float = 0.0) -> tuple[Point, Point]:
        """Return where the way from one server to another leaves the first and meets the other.

        ``lane`` shifts it to the traveller's right, in dots.
        """
        a, b = self.centres[src], self.centres[dst]
        length = math.hypot(b.x - a.x, b.y - a.y)
        if length == 0:
            return a, b
        ux, uy = (b.x - a.x) / length, (b.y - a.y) / length
        right = Point(-uy * lane, ux * lane)
        gap = self._reach(ux, uy) + 2.0
        start = Point(a.x + ux * gap + right.x, a.y + uy * gap + right.y)
        end = Point(b.x - ux * gap + right.x, b.y - uy * gap + right.y)
        return start, end

    def _reach(self, ux: float, uy: float) -> float:
        """Return how far a server's shape reaches in a direction."""
        if self.is_round:
            return self.radius
        half_width, half_height = self.columns * DOTS_X / 2, self.rows * DOTS_Y / 2
        return min(
            half_width / abs(ux) if ux else math.inf, half_height / abs(uy) if uy else math.inf
        )


def _xy(point: Point) -> tuple[float, float]:
    return point.x, point.y


SIZES = (11, 9, 7, 5)
"""Heights of a server's circle in cells: the largest that fits is taken."""
SHAPES = ((1.25, 1.0), (1.6, 1.0), (2.0, 1.0), (2.8, 1.3), (4.0, 1.6), (6.0, 1.6))
"""How much wider than high the ring may be, and how far it is drawn in above and below; the
roundest is taken in which all links can be seen."""
CLEAR, HARDLY = 30.0, 12.0
"""Dots of the shortest link: so long is good, and shorter than the other is too short."""


@lru_cache(maxsize=32)
def ring(count: int, width: int, height: int) -> Ring:
    """Place ``count`` servers in ``width`` × ``height`` cells, as large as they fit."""
    for rows in SIZES:
        rings = [_ring(count, width, height, rows, *shape) for shape in SHAPES]
        fitting = [one for one in rings if _fits(one, width, height)]
        if fitting:
            clear = (one for one in fitting if one.shortest_link >= CLEAR)
            best = max(fitting, key=lambda one: one.shortest_link)
            found = next(clear, best)
            if found.shortest_link >= HARDLY:
                return found
    cards = (
        _ring(count, width, height, rows, SHAPES[-1][0], pull)
        for rows in range(CARD_ROWS, 0, -1)
        for pull in (1.6, 1.3, 1.0, 0.8)
    )
    last = _ring(count, width, height, 1, SHAPES[-1][0], 1.0)
    return next((one for one in cards if _fits(one, width, height)), last)


def _ring(count: int, width: int, height: int, rows: int, shape: float, pull: float) -> Ring:
    columns = rows * 2 if rows > CARD_ROWS else CARD_WIDTH
    radius_y = max((height - rows) / 2, 0) * DOTS_Y
    radius_x = min(max((width - columns - 1) / 2, 0) * DOTS_X, radius_y * shape)
    angles = [2 * math.pi * place / count for place in range(count)]
    deepest = max(1 - math.cos(angle) for angle in angles)
    # A ring of an odd number does not reach the bottom of its circle: stretch it until it does.
    stretch = 2 / deepest if count > 1 else 0.0
    middle = width * DOTS_X / 2
    top = rows * DOTS_Y / 2 if count > 1 else height * DOTS_Y / 2
    return Ring(
        tuple(
            Point(
                middle + radius_x * math.copysign(abs(math.sin(angle)) ** pull, math.sin(angle)),
                top + radius_y * stretch * (1 - math.cos(angle)),
            )
            for angle in angles
        ),
        rows,
    )


def _fits(ring: Ring, width: int, height: int) -> bool:
    if ring.rows > height or ring.columns > width:
        return False
    boxes = [ring.box(place) for place in range(len(ring.centres))]
    return all(not _too_close(one, two) for i, one in enumerate(boxes) for two in boxes[i + 1 :])


def _too_close(one: Box, two: Box) -> bool:
    """Tell whether two boxes come closer than a message needs to be seen between them."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = one, two
    margin_x, margin_y = (6, 1) if h1 > SIZES[-1] else (2, 0) if h1 > CARD_ROWS else (0, 0)
    return (
        x1 < x2 + w2 + margin_x
        and x2 < x1 + w1 + margin_x
        and y1 < y2 + h2 + margin_y
        and y2 < y1 + h1 + margin_y
    )


@dataclass(frozen=True, slots=True)
class Arc:
    """One cell of a circle: the dots in it and the angle at which it lies (0 … 1 of a turn)."""

    column: int
    row: int
    mask: int
    turn: float


@lru_cache(maxsize=64)
def circle(rows: int, inset: float, thickness: float) -> tuple[Arc, ...]:
    """Return the cells of a circle ``rows`` high, ``inset`` dots smaller, so many dots thick."""
    size = rows * DOTS_Y
    middle = (size - 1) / 2
    outer = size / 2 - inset
    masks: dict[tuple[int, int], int] = {}
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    for y in range(size):
        for x in range(size):
            distance = math.hypot(x - middle, y - middle)
            if outer - thickness <= distance + 0.25 < outer:
                cell = (x // DOTS_X, y // DOTS_Y)
                masks[cell] = masks.get(cell, 0) | bits[y % DOTS_Y][x % DOTS_X]
    return tuple(
        Arc(column, row, mask, _turn(column + 0.5, row + 0.5, rows))
        for (column, row), mask in sorted(masks.items(), key=lambda item: (item[0][1], item[0][0]))
    )


@lru_cache(maxsize=16)
def disc(rows: int) -> tuple[tuple[int, int], ...]:
    """Return which cells, from first to before last, a filled circle covers in each row."""
    columns: dict[int, list[int]] = {}
    for arc in circle(rows, 0, rows * DOTS_Y):
        columns.setdefault(arc.row, []).append(arc.column)
    return tuple((min(columns[row]), max(columns[row]) + 1) for row in range(rows))


def _turn(column: float, row: float, rows: int) -> float:
    """Return the angle of a cell as a share of a turn, clockwise from the top."""
    middle = rows * DOTS_Y / 2
    return math.atan2(column * DOTS_X - middle, middle - row * DOTS_Y) / (2 * math.pi) % 1.0
