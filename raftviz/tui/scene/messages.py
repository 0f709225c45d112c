"""Messages on their way: a face on a coloured ground, a trail behind it, a cross where one died."""

from __future__ import annotations

from rich.style import Style

from raft.core.messages import Message
from raftviz.model.view import Flight
from raftviz.tui.canvas import Canvas, clip, width_of
from raftviz.tui.geometry import LANE, Point
from raftviz.tui.scene.frame import Frame
from raftviz.tui.scene.links import draw_line, middle
from raftviz.tui.theme import Palette
from raftviz.tui.traffic import Ended, Kind, Look, progress

TRAIL = 0.22
"""A trail's length as a share of the way."""
MAX_LABELS = 14
SMALL, WIDE_FACE, NARROW_FACE = 5, 18, 8
"""Cells of a face, where servers are more than ``SMALL`` rows high and where they are not."""
_QUIET = (Kind.BEAT, Kind.BEAT_ANSWER)


def draw_messages(canvas: Canvas, frame: Frame) -> None:
    """Draw what is on its way and what has just ended: trails first, faces over them."""
    flights = [
        (flight, frame.traffic.looks[number])
        for number, flight in frame.view.flights.items()
        if number in frame.traffic.looks and _known(frame, flight.message)
    ]
    ended = [one for one in frame.traffic.ended if _known(frame, one.flight.message)]
    for one in ended:
        _draw_afterglow(canvas, frame, one)
    for flight, look in flights:
        _draw_trail(canvas, frame, flight, look)
    for one in ended:
        _draw_end(canvas, frame, one)
    # The quiet many first, so that what matters lies on top of them.
    for flight, look in sorted(flights, key=lambda item: item[1].kind not in _QUIET):
        _draw_face(canvas, look, frame, _position(frame, flight))
    if frame.followable and len(flights) <= MAX_LABELS:
        for flight, look in flights:
            _draw_label(canvas, look, frame, _position(frame, flight))


def message_at(frame: Frame, column: int, row: int) -> Flight | None:
    """Return the message drawn at a cell, None when there is none."""
    for flight in frame.view.flights.values():
        if _known(frame, flight.message):
            x, y = _position(frame, flight).cell
            if y == row and abs(x - column) <= 2:
                return flight
    return None


def face_style(look: Look, palette: Palette) -> Style:
    """Return the style of a message's face."""
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


def _face_text(look: Look, frame: Frame) -> str:
    """Return what stands on the message: one glyph for a quiet one, a framed face for the rest."""
    if look.kind in _QUIET:
        return look.face
    return f" {clip(look.face, WIDE_FACE if frame.ring.rows > SMALL else NARROW_FACE)} "


def _known(frame: Frame, message: Message) -> bool:
    return message.src in frame.view.servers and message.dst in frame.view.servers


def _path(frame: Frame, message: Message) -> tuple[Point, Point]:
    return frame.ring.path(frame.place(message.src), frame.place(message.dst), LANE)


def _position(frame: Frame, flight: Flight) -> Point:
    start, end = _path(frame, flight.message)
    return start.towards(end, progress(flight, frame.virtual) if frame.moving else 0.5)


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


def _draw_trail(canvas: Canvas, frame: Frame, flight: Flight, look: Look) -> None:
    if not frame.moving:
        return
    start, end = _path(frame, flight.message)
    head = progress(flight, frame.virtual)
    tail = max(head - TRAIL, 0.0)
    draw_line(
        canvas,
        start.towards(end, tail),
        start.towards(end, head),
        _trail_style(look, frame.palette),
        2,
    )


def _draw_afterglow(canvas: Canvas, frame: Frame, ended: Ended) -> None:
    """Draw the way that was travelled; it fades from its beginning.

    Heartbeats come too often for that: theirs stays, so that a leader's links are lit.
    """
    if not frame.moving or ended.dropped is not None:
        return
    start, end = _path(frame, ended.flight.message)
    faded = 0.0 if ended.look.kind in _QUIET else min(max(ended.age(frame.now), 0.0), 1.0)
    style = _trail_style(ended.look, frame.palette)
    draw_line(canvas, start.towards(end, faded), end, style, 3 if ended.look.kind in _QUIET else 2)


def _draw_end(canvas: Canvas, frame: Frame, ended: Ended) -> None:
    start, end = _path(frame, ended.flight.message)
    if ended.dropped is not None:
        _draw_death(canvas, frame, ended, start.towards(end, ended.share))
    elif ended.look.kind not in _QUIET:
        _draw_face(canvas, ended.look, frame, end)


def _draw_death(canvas: Canvas, frame: Frame, ended: Ended, place: Point) -> None:
    """Draw how a lost message bursts, where its link is cut or where it had come to."""
    message = ended.flight.message
    if _is_cut(frame, message):
        place = middle(frame.ring, *sorted((frame.place(message.src), frame.place(message.dst))))
    age = ended.age(frame.now)
    x, y = place.cell
    if age < 0.4:
        canvas.text(x - 1, y, "╲✕╱", frame.palette.bad)
    elif age < 0.7:
        canvas.text(x, y, "✕", frame.palette.bad)
    else:
        canvas.text(x, y, "·", frame.palette.bad)


def _is_cut(frame: Frame, message: Message) -> bool:
    link = frame.view.links.get((message.src, message.dst))
    return link is not None and link.cut


def _draw_face(canvas: Canvas, look: Look, frame: Frame, at: Point) -> None:
    text = _face_text(look, frame)
    x, y = at.cell
    canvas.text(x - width_of(text) // 2, y, text, face_style(look, frame.palette))


def _draw_label(canvas: Canvas, look: Look, frame: Frame, at: Point) -> None:
    """Put what the message says beside it, where nothing else stands."""
    if not look.label:
        return
    x, y = at.cell
    text = f" {look.label}"
    half = (width_of(_face_text(look, frame)) + 1) // 2
    width = width_of(text)
    style = frame.palette.bad if look.kind in (Kind.REFUSE, Kind.MISMATCH) else frame.palette.dim
    for left in (x + half, x - half - width):
        if canvas.is_free(left, y, width) and not _on_server(frame, left, y, width):
            canvas.text(left, y, text, style)
            return


def _on_server(frame: Frame, left: int, y: int, width: int) -> bool:
    places = range(len(frame.ring.centres))
    return any(frame.ring.at(x, y) in places for x in (left, left + width // 2, left + width - 1))
