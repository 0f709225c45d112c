"""Servers: a circle whose shape is the role, whose colour is the term, whose rim is the timer.

A follower's rim is its election timer: the thick part is the time that is left, it shrinks
clockwise and jumps back to full with each heartbeat. A candidate's rim is dashed (also that of
one which only asks whether it could win), a leader's double, a dead server's dotted with a
cross in it.
"""

from __future__ import annotations

from rich.style import Style

from raft.core.events import Role
from raft.core.messages import Granted
from raftviz.model.fault_words import disk_mark
from raftviz.model.view import ServerView
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.geometry import Box, circle, disc
from raftviz.tui.scene.frame import Frame
from raftviz.tui.traffic import Kind, short_refusal
from raftviz.tui.units import milliseconds

ROLE_WORDS = {
    Role.FOLLOWER: "follower",
    Role.PRE_CANDIDATE: "PRE-VOTE",
    Role.CANDIDATE: "CANDIDATE",
    Role.LEADER: "LEADER",
}
ROLE_MARKS = {
    Role.FOLLOWER: "",
    Role.PRE_CANDIDATE: "◇ ",
    Role.CANDIDATE: "◇ ",
    Role.LEADER: "★ ",
}
CAMPAIGNING = (Role.PRE_CANDIDATE, Role.CANDIDATE)
YES, NO, OPEN = Kind.GRANT.value, Kind.REFUSE.value, "·"
"""A vote that was granted, refused, or has not been heard of."""
DASHES = 12
EIGHTHS = " ▏▎▍▌▋▊▉"

Line = list[tuple[str, Style]]


def draw_servers(canvas: Canvas, frame: Frame) -> None:
    """Draw every server over whatever is there."""
    for place, server in enumerate(frame.view.servers.values()):
        box = frame.ring.box(place)
        if frame.ring.is_round:
            _draw_circle(canvas, frame, server, box)
        else:
            _draw_card(canvas, frame, server, box)


def time_left(server: ServerView, virtual: float) -> float:
    """Return how much of the server's timer is left, from 1 (just armed) to 0 (due)."""
    if not server.alive or server.timer_kind is None or server.timer_interval <= 0:
        return 0.0
    return min(max((server.timer_deadline - virtual) / server.timer_interval, 0.0), 1.0)


def bar(share: float, width: int) -> str:
    """Return a bar ``width`` cells wide, filled to ``share``, in steps of an eighth of a cell."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[part] if part else "")).ljust(width, "·")


def role_word(server: ServerView) -> str:
    """Return what the server is, in one word; capitals are for what a room must see."""
    if not server.alive:
        return "starting" if server.exit is None else "DEAD"
    if server.paused:
        return "PAUSED"
    return "learner" if server.id in server.configuration.learners else ROLE_WORDS[server.role]


def role_mark(server: ServerView) -> str:
    """Return the shape that stands for what the server is, with a blank behind it."""
    if not server.alive:
        return "" if server.exit is None else "✕ "
    return "‖ " if server.paused else ROLE_MARKS[server.role]


def server_style(frame: Frame, server: ServerView, *, bold: bool = False) -> Style:
    """Return the colour of a server: its term's, unless it is dead."""
    return frame.palette.term(server.term, bold=bold) if server.alive else frame.palette.faint


# --- The rim -----------------------------------------------------------------------------------


def _draw_circle(canvas: Canvas, frame: Frame, server: ServerView, box: Box) -> None:
    left, top, width, height = box
    _clear(canvas, box)
    bright, pale = server_style(frame, server), frame.palette.link
    if not server.alive:
        _rim(canvas, box, 0, 1, pale, dashes=height * 4)
    elif server.role is Role.LEADER:
        _rim(canvas, box, 0, 1.2, bright)
        _rim(canvas, box, 2.6, 1.2, bright)
    elif server.paused:
        _rim(canvas, box, 0, 1, frame.palette.warn, dashes=height * 2)
    else:
        left_share = time_left(server, frame.virtual)
        dashes = DASHES if server.role in CAMPAIGNING else 0
        _rim(canvas, box, 0.6, 1, pale, dashes=dashes)
        _rim(canvas, box, 0, 2.4 if height > 5 else 1.6, bright, until=left_share, dashes=dashes)
    lines = _lines(frame, server, height)
    first = top + (height - len(lines)) // 2
    for y, line in enumerate(lines, first):
        _centred(canvas, left, y, width, line)


def _clear(canvas: Canvas, box: Box) -> None:
    """Take away the links beneath a circle."""
    left, top, _, height = box
    for row, (first, last) in enumerate(disc(height)):
        canvas.text(left + first, top + row, " " * (last - first), canvas.ground)


def _rim(
    canvas: Canvas,
    box: Box,
    inset: float,
    thickness: float,
    style: Style,
    until: float = 1.0,
    dashes: int = 0,
) -> None:
    left, top, _, height = box
    for arc in circle(height, inset, thickness):
        if arc.turn <= until and (dashes == 0 or int(arc.turn * dashes * 2) % 2 == 0):
            canvas.braille(left + arc.column, top + arc.row, arc.mask, style)


# --- The words -----------------------------------------------------------------------------------


def _lines(frame: Frame, server: ServerView, height: int) -> list[Line]:
    """Return what stands inside a circle, the most important first to stay."""
    palette = frame.palette
    style = server_style(frame, server, bold=True)
    name: Line = [(f"{role_mark(server)}S{server.id}", style if server.alive else palette.dim)]
    if server.id == frame.selected:
        name = [("▶ ", palette.key), *name, (" ◀", palette.key)]
    role: Line = [(role_word(server), _role_style(frame, server))]
    term: Line = [(f"term {server.term}", style)]
    wrong = _wrong(frame, server)
    if height <= 5:
        return [name, role, wrong or _tally(frame, server) or term]
    if height <= 7:
        return [name, role, term, wrong or _tally(frame, server) or _vote(frame, server)]
    lines = [name, role, term, _tally(frame, server) or _vote(frame, server)]
    return [*lines, wrong or _last_refusal(frame, server) or _remaining(frame, server)]


def marks(server: ServerView) -> list[str]:
    """Return what is wrong with a server's machine, and whether it breaks rules on purpose."""
    found = ["BROKEN"] if server.broken else []
    if server.disk is not None:
        found.append(disk_mark(server.disk))
    if server.clock != 1:
        found.append(f"clock ×{server.clock:g}")
    return found


def _wrong(frame: Frame, server: ServerView) -> Line:
    """Return one thing that is wrong: the first, and that there are more."""
    found = marks(server)
    if not found:
        return []
    more = f" +{len(found) - 1}" if len(found) > 1 else ""
    return [(found[0] + more, frame.palette.bad)]


def _role_style(frame: Frame, server: ServerView) -> Style:
    if not server.alive:
        return frame.palette.dim if server.exit is None else frame.palette.bad
    if server.paused:
        return frame.palette.warn
    if server.role is Role.FOLLOWER:
        return frame.palette.dim
    return server_style(frame, server, bold=True)


def _vote(frame: Frame, server: ServerView) -> Line:
    vote = "–" if server.voted_for is None else f"S{server.voted_for}"
    return [("voted ", frame.palette.dim), (vote, frame.palette.text)]


def _tally(frame: Frame, server: ServerView) -> Line:
    """Return a candidate's votes, with the signs that the messages bear which bring them."""
    if not server.alive or server.role not in CAMPAIGNING:
        return []
    palette = frame.palette
    granted = sum(isinstance(vote, Granted) for vote in server.votes.values())
    refused = len(server.votes) - granted
    members = len(server.configuration.voters) or len(frame.view.servers)
    waiting = members - granted - refused
    return [
        (YES * granted, palette.good),
        (NO * refused, palette.bad),
        (OPEN * waiting, palette.dim),
        (f" {granted}/{members // 2 + 1}", palette.text),
    ]


def _remaining(frame: Frame, server: ServerView) -> Line:
    """Return the time that is left, as a number where it stands still long enough to be read."""
    runs = server.alive and not server.paused and server.timer_kind is not None
    if not runs or not frame.followable:
        return []
    return [(milliseconds(server.timer_deadline - frame.virtual), frame.palette.dim)]


def _last_refusal(frame: Frame, server: ServerView) -> Line:
    """Return who refused a candidate its vote last, and why."""
    if not server.alive or server.role is not Role.CANDIDATE:
        return []
    for voter, outcome in reversed(server.votes.items()):
        if not isinstance(outcome, Granted):
            return [(f"{NO} S{voter} {short_refusal(outcome)}", frame.palette.bad)]
    return []


def _centred(canvas: Canvas, left: int, y: int, width: int, line: Line) -> None:
    length = sum(width_of(text) for text, _ in line)
    canvas.spans(left + (width - length) // 2, y, line)


# --- Where there is no room for circles ----------------------------------------------------------


def _draw_card(canvas: Canvas, frame: Frame, server: ServerView, box: Box) -> None:
    """Draw a server as two lines: who it is, and its timer, its votes or its state."""
    left, top, width, height = box
    for y in range(top, top + height):
        canvas.text(left, y, " " * width, canvas.ground)
    palette, style = frame.palette, server_style(frame, server, bold=True)
    chosen = ("▶", palette.key) if server.id == frame.selected else (" ", palette.text)
    wrong = ("!", palette.bad) if marks(server) else ("", palette.text)
    who = (f"{role_mark(server)}S{server.id} t{server.term}", style)
    canvas.spans(left, top, [chosen, who, wrong])
    if not server.alive or server.paused or server.role is Role.LEADER:
        second: Line = [(role_word(server), _role_style(frame, server))]
    else:
        timer: Line = [(bar(time_left(server, frame.virtual), width - 2), style)]
        second = _tally(frame, server) or timer
    if height > 1:
        canvas.spans(left + 1, top + 1, second)
