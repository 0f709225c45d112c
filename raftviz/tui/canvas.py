"""A grid of character cells with braille dots beneath: the one way onto this screen.

Everything the panels show is drawn with a ``Canvas``, so its ``text`` is the one gate that
foreign text must pass: it goes through ``raft.printable`` there and nothing ever parses it.
A canvas becomes ``Strip`` objects, one a row; ``Painted`` remembers the last picture and
tells which rows changed, because rows that did not are free.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from raft.printable import printable

BRAILLE = 0x2800
_FIRST_BRAILLE, _LAST_BRAILLE = chr(BRAILLE), chr(BRAILLE + 0xFF)
_DOT = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of the dot at [y][x] of a braille character, two wide and four high."""

GAP = 12
"""So few unchanged cells between changed ones are cheaper sent again than skipped."""

Row = tuple[list[str], list[Style]]


@lru_cache(maxsize=8192)
def glyphs(text: str) -> tuple[tuple[str, int], ...]:
    """Split text into what stands in one place, with its width in cells (1 or 2).

    Marks of width zero stay with the character they sit on.
    """
    parts: list[tuple[str, int]] = []
    for character in printable(text):
        width = cell_len(character)
        if width == 0 and parts:
            parts[-1] = (parts[-1][0] + character, parts[-1][1])
        else:
            parts.append((character, max(width, 1)))
    return tuple(parts)


def width_of(text: str) -> int:
    """Return how many cells ``text`` takes once it is drawn."""
    if text.isascii() and text.isprintable():
        return len(text)
    return sum(width for _, width in glyphs(text))


def clip(text: str, width: int) -> str:
    """Shorten ``text`` to ``width`` cells; an ellipsis stands for what is left out."""
    if width_of(text) <= width:
        return text
    taken, used = [], 0
    for glyph, cells in glyphs(text):
        if used + cells > width - 1:
            break
        taken.append(glyph)
        used += cells
    return "".join(taken) + "…" if width > 0 else ""


class Canvas:
    """Cells of one character and one style each. Whatever lies outside is not drawn."""

    __slots__ = ("ground", "height", "rows", "width")

    def __init__(self, width: int, height: int, ground: Style) -> None:
        self.width = width
        self.height = height
        self.ground = ground
        self.rows: list[Row] = [([" "] * width, [ground] * width) for _ in range(height)]

    def copy(self) -> Canvas:
        """Return a canvas with the same cells, for drawing over a layer that stays."""
        twin = object.__new__(Canvas)
        twin.width, twin.height, twin.ground = self.width, self.height, self.ground
        twin.rows = [(chars[:], styles[:]) for chars, styles in self.rows]
        return twin

    def text(self, x: int, y: int, text: str, style: Style, width: int | None = None) -> int:
        """Draw ``text`` from (x, y), shortened to ``width`` cells; return where it ended."""
        if width is not None:
            text = clip(text, width)
        if not 0 <= y < self.height:
            return x + width_of(text)
        if text.isascii() and text.isprintable():
            return self._plain(x, y, text, style)
        chars, styles = self.rows[y]
        for glyph, cells in glyphs(text):
            if x >= 0 and x + cells <= self.width:
                self._free(chars, x, x + cells)
                chars[x] = glyph
                styles[x] = style
                if cells == 2:
                    chars[x + 1] = ""
                    styles[x + 1] = style
            x += cells
        return x

    def _plain(self, x: int, y: int, text: str, style: Style) -> int:
        """Draw text of which every character is one cell: most text, and so the fast way."""
        start, end = max(x, 0), min(x + len(text), self.width)
        if start < end:
            chars, styles = self.rows[y]
            self._free(chars, start, end)
            chars[start:end] = text[start - x : end - x]
            styles[start:end] = [style] * (end - start)
        return x + len(text)

    def _free(self, chars: list[str], start: int, end: int) -> None:
        """Blank the other half of a wide character that is about to lose one half."""
        if chars[start] == "" and start > 0:
            chars[start - 1] = " "
        if end < self.width and chars[end] == "":
            chars[end] = " "

    def spans(self, x: int, y: int, spans: Iterable[tuple[str, Style]]) -> int:
        """Draw pieces of text one after the other; return where they ended."""
        for text, style in spans:
            x = self.text(x, y, text, style)
        return x

    def dot(self, x: int, y: int, style: Style) -> None:
        """Set one braille dot; (x, y) counts dots, two a cell across and four down."""
        column, row = x >> 1, y >> 2
        if 0 <= column < self.width and 0 <= row < self.height:
            self.braille(column, row, _DOT[y & 3][x & 1], style)

    def braille(self, column: int, row: int, mask: int, style: Style) -> None:
        """Add dots to a cell. Text that is already there stays."""
        if not (0 <= column < self.width and 0 <= row < self.height):
            return
        chars, styles = self.rows[row]
        there = chars[column]
        if there == " ":
            chars[column] = chr(BRAILLE | mask)
        elif _FIRST_BRAILLE <= there <= _LAST_BRAILLE:
            chars[column] = chr(ord(there) | mask)
        else:
            return
        styles[column] = style

    def fade(self, ink: Style, filled: Style) -> None:
        """Take the colours away: ``filled`` is for cells that have a ground of their own."""
        for _, styles in self.rows:
            styles[:] = [ink if s.bgcolor == self.ground.bgcolor else filled for s in styles]

    def is_free(self, x: int, y: int, width: int) -> bool:
        """Tell whether these cells lie inside and hold no text (lines may run through them)."""
        if not (0 <= y < self.height and x >= 0 and x + width <= self.width):
            return False
        return all(
            char == " " or _FIRST_BRAILLE <= char <= _LAST_BRAILLE
            for char in self.rows[y][0][x : x + width]
        )

    def strip(self, y: int) -> Strip:
        """Return row ``y`` as segments, one for each run of one style.

        A blank joins the run before it when their grounds are equal: nobody sees its ink.
        """
        chars, styles = self.rows[y]
        segments: list[Segment] = []
        start, current = 0, styles[0] if styles else self.ground
        for x, style in enumerate(styles):
            if style is current or (chars[x] == " " and style.bgcolor == current.bgcolor):
                continue
            segments.append(Segment("".join(chars[start:x]), current))
            start, current = x, style
        segments.append(Segment("".join(chars[start:]), current))
        return Strip(segments, self.width)


@dataclass(frozen=True, slots=True)
class Change:
    """The part of row ``y`` that differs from the last picture: cells ``start`` to ``end``."""

    y: int
    start: int
    end: int


class Painted:
    """The picture that is on the screen now, and its rows as strips."""

    __slots__ = ("_canvas", "strips")

    def __init__(self) -> None:
        self._canvas = Canvas(0, 0, Style.null())
        self.strips: list[Strip] = []

    def show(self, canvas: Canvas) -> list[Change]:
        """Take over a new picture; return what differs from the last one."""
        before, self._canvas = self._canvas, canvas
        if (canvas.width, canvas.height) != (before.width, before.height):
            self.strips = [canvas.strip(y) for y in range(canvas.height)]
            return [Change(y, 0, canvas.width) for y in range(canvas.height)]
        changes: list[Change] = []
        for y, (row, old) in enumerate(zip(canvas.rows, before.rows, strict=True)):
            if row != old:
                self.strips[y] = canvas.strip(y)
                changes += _changes(y, row, old)
        return changes


def _changes(y: int, row: Row, old: Row) -> list[Change]:
    """Find the parts of a row that differ; few bytes matter over a slow line.

    Equal styles are one object, except those of an earlier theme: then more is drawn, not less.
    """
    changes: list[Change] = []
    start = end = -1
    for x, (char, style, was, wore) in enumerate(zip(*row, *old, strict=True)):
        if char == was and style is wore:
            continue
        if start >= 0 and x - end > GAP:
            changes.append(Change(y, start, end))
            start = x
        elif start < 0:
            start = x
        end = x + 1
    return [*changes, Change(y, start, end)] if start >= 0 else changes
