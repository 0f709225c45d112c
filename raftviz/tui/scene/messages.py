"""Messages on their way: a face on a coloured ground, a trail behind it, a cross where one died."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.style import Style

from raft.core.messages import Message
from raftviz.model.view import Flight
from raftviz.tui.canvas import Canvas, clip, width_of
from raftviz.tui.geometry import LANE, Point
from raftviz.tui.scene.frame import Frame
from raftviz.tui.scene.links import STALLED, draw_line, middle
from raftviz.tui.theme import Palette
from raftviz.tui.traffic import Ended, Kind, Look, progress

TRAIL = 0.22
"""A trail's length as a share of the way."""
MAX_LABELS = 14
SMALL = 5
WIDE_FACE, NARROW_FACE, TINY = 18, 8, 3
"""Cells of a face, where servers are more than ``SMALL`` rows high, where they are not, and where
they are only cards."""
PUSH, PUSHES = 0.06, (0, 1, 2, 3, 4, 5, -1, -2, -3)
"""Where a face is tried, in steps of a share of the way: first away from the nearest server."""
_QUIET = (Kind.BEAT, Kind.BEAT_ANSWER)
_NO = (Kind.REFUSE, Kind.MISMATCH)

Cell = tuple[int, int]
"""(column, row)."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A message as it is seen now: on the way from ``start`` to ``end``, ``share`` of it behind."""

    flight: Flight
    look: Look
    face: str
    start: Point
    end: Point
    share: float
    lead: float = 0.0
    """How far its face is drawn ahead of the place it has reached, as a share of the way."""

    @property
    def place(self) -> Point:
        """The place it has reached."""
        return self.start.towards(self.end, self.share)

    @property
    def seen(self) -> float:
        """The share of the way at which its face is drawn."""
        return self.share + self.lead

    @property
    def cells(self) -> list[Cell]:
        """The cells of its face."""
        x, y, width = self.box
        return [(x + cell, y) for cell in range(width)]

    @property
    def box(self) -> tuple[int, int, int]:
        """The (column, row, width) of its face.

        A face leaves with its near edge and arrives with its far one, so that it never covers
        the servers at the ends.
        """
        x, y = self.start.towards(self.end, self.seen).cell
        width = width_of(self.face)
        length = abs(self.end.x - self.start.x) + abs(self.end.y - self.start.y) or 1.0
        lean = (self.seen - 0.5) * (self.end.x - self.start.x) / length
        return x - round((width - 1) * (0.5 + lean)), y, width


def sights(frame: Frame) -> list[Sight]:
    """Return the messages on their way; the quiet many first, so that others lie over them."""
    found = [
        _sight(frame, flight, look, progress(flight, frame.virtual) if frame.moving else 0.5)
        for number, flight in frame.view.flights.items()
        if (look := frame.traffic.looks.get(number)) and _known(frame, flight.message)
    ]
    quiet = [sight for sight in found if sight.look.kind in _QUIET]
    return quiet + _apart(frame, [sight for sight in found if sight.look.kind not in _QUIET])


def _apart(frame: Frame, found: list[Sight]) -> list[Sight]:
    """Let no face hide a part of another or of a server: half a word says nothing.

    Near a server, where ways meet, a face goes ahead or stays behind to where there is room;
    where there is none its glyph alone is drawn.
    """
    taken: set[Cell] = set()
    placed = []
    for sight in found:
        away = PUSH if sight.share < 0.5 else -PUSH
        tries = (replace(sight, lead=away * n) for n in PUSHES)
        within = (one for one in tries if 0 <= one.seen <= 1)
        free = (one for one in within if not any(_taken(frame, taken, cell) for cell in one.cells))
        chosen = next(free, replace(sight, face=sight.look.kind.value))
        taken.update(chosen.cells)
        placed.append(chosen)
    return placed


def _taken(frame: Frame, taken: set[Cell], cell: Cell) -> bool:
    return cell in taken or frame.ring.covers(*cell)


def message_at(frame: Frame, column: int, row: int) -> Flight | None:
    """Return the message whose face is drawn at a cell, None when there is none."""
    for sight in reversed(sights(frame)):
        x, y, width = sight.box
        if y == row and x <= column < x + width:
            return sight.flight
    return None


def draw_trails(canvas: Canvas, frame: Frame, moving: list[Sight]) -> None:
    """Draw the ways that messages have come; what has arrived fades from its beginning."""
    if not frame.moving:
        return
    for ended, sight in _ended(frame):
        if ended.dropped is None:
            _draw_afterglow(canvas, frame, ended, sight)
    for sight in moving:
        tail = sight.start.towards(sight.end, max(sight.share - TRAIL, 0.0))
        draw_line(canvas, tail, sight.place, _trail_style(sight.look, frame.palette), 2)


def draw_faces(canvas: Canvas, frame: Frame, moving: list[Sight]) -> None:
    """Draw the messages themselves, and what they say where time runs slowly enough to read it."""
    taken = {cell for sight in moving for cell in sight.cells}
    for ended, sight in _ended(frame):
        if ended.dropped is not None:
            _draw_death(canvas, frame, ended, sight)
        elif sight.look.kind not in _QUIET and taken.isdisjoint(sight.cells):
            taken.update(sight.cells)
            _draw_face(canvas, frame, sight)
    for sight in moving:
        _draw_face(canvas, frame, sight)
    if frame.followable and frame.ring.is_round and len(moving) <= MAX_LABELS:
        for sight in moving:
            _draw_label(canvas, frame, sight)


def _sight(frame: Frame, flight: Flight, look: Look, share: float) -> Sight:
    message = flight.message
    start, end = frame.ring.path(frame.place(message.src), frame.place(message.dst), LANE)
    face = _face(look, frame)
    return Sight(flight, look, f"{STALLED}{face}" if flight.held else face, start, end, share)


def _ended(frame: Frame) -> Iterator[tuple[Ended, Sight]]:
    for ended in frame.traffic.ended:
        if _known(frame, ended.flight.message):
            yield ended, _sight(frame, ended.flight, ended.look, ended.share)


def _known(frame: Frame, message: Message) -> bool:
    return message.src in frame.view.servers and message.dst in frame.view.servers


def _face(look: Look, frame: Frame) -> str:
    """Return what stands on the message: one glyph for a quiet one, a framed face for the rest."""
    if look.kind in _QUIET:
        return look.face
    width = WIDE_FACE if frame.ring.rows > SMALL else NARROW_FACE if frame.ring.is_round else TINY
    if width == TINY and width_of(look.face) > width:
        return look.kind.value  # of a word that is cut so short nothing could be read
    return f" {clip(look.face, width)} "


def _face_style(look: Look, palette: Palette) -> Style:
    match look.kind:
        case Kind.BEAT:
            return palette.term(look.term, bold=True)
        case Kind.BEAT_ANSWER:
            return palette.dim
        case Kind.ASK:
            return palette.fill_ask
        case Kind.GRANT | Kind.STORED:
            return palette.fill_good
        case Kind.REFUSE | Kind.MISMATCH:
            return palette.fill_bad
    return palette.fill_term(look.term)


def _trail_style(look: Look, palette: Palette) -> Style:
    match look.kind:
        case Kind.GRANT | Kind.STORED:
            return palette.good
        case Kind.REFUSE | Kind.MISMATCH:
            return palette.bad
        case Kind.ASK:
            return palette.text
        case Kind.BEAT_ANSWER:
            return palette.faint
    return palette.term(look.term)


def _draw_afterglow(canvas: Canvas, frame: Frame, ended: Ended, sight: Sight) -> None:
    """Heartbeats come too often to fade: theirs stays, so that a leader's links are lit."""
    quiet = sight.look.kind in _QUIET
    faded = 0.0 if quiet else min(max(ended.age(frame.now), 0.0), 1.0)
    start = sight.start.towards(sight.end, faded)
    draw_line(canvas, start, sight.end, _trail_style(sight.look, frame.palette), 3 if quiet else 2)


def _draw_death(canvas: Canvas, frame: Frame, ended: Ended, sight: Sight) -> None:
    """Draw how a lost message bursts, where its link is cut or where it had come to."""
    message = sight.flight.message
    place = sight.place
    link = frame.view.links.get((message.src, message.dst))
    if link is not None and link.blocked:
        place = middle(frame.ring, *sorted((frame.place(message.src), frame.place(message.dst))))
    x, y = place.cell
    age = ended.age(frame.now)
    if age < 0.4:
        canvas.text(x - 1, y, "╲✕╱", frame.palette.bad_bold)
    else:
        canvas.text(x, y, "✕" if age < 0.7 else "·", frame.palette.bad)


def _draw_face(canvas: Canvas, frame: Frame, sight: Sight) -> None:
    x, y, _ = sight.box
    style = _face_style(sight.look, frame.palette)
    canvas.text(x, y, sight.face, frame.palette.fill_frozen if sight.flight.held else style)


def _draw_label(canvas: Canvas, frame: Frame, sight: Sight) -> None:
    """Put what the message says beside it, where nothing else stands."""
    if not sight.look.label:
        return
    x, y, face = sight.box
    text = f" {sight.look.label}"
    width = width_of(text)
    style = frame.palette.bad if sight.look.kind in _NO else frame.palette.dim
    for left in (x + face, x - width):
        on_server = any(frame.ring.at(left + cell, y) is not None for cell in range(width))
        if not on_server and canvas.is_free(left, y, width):
            canvas.text(left, y, text, style)
            return
