"""The line above the keys: what was done last and how it went, or what is asked for now."""

from __future__ import annotations

from rich.style import Style

from raftviz import commands
from raftviz.model.events import OperationKind, Outcome
from raftviz.model.view import Flight
from raftviz.tui.canvas import Canvas, clip, width_of
from raftviz.tui.traffic import look_of, next_due
from raftviz.tui.units import milliseconds
from raftviz.tui.widgets.panel import Panel

Span = tuple[str, Style]
KINDS = {
    "RequestVote": "RequestVote",
    "RequestVoteReply": "vote",
    "AppendEntries": "AppendEntries",
    "AppendEntriesReply": "answer",
}


class Status(Panel):
    """One line; the command line lies over it while one types."""

    def draw(self, canvas: Canvas) -> None:
        """Draw what matters most now."""
        seen, palette = self.seen, self.seen.palette
        if seen.typing:
            canvas.text(0, 0, ":", palette.key)
            return
        right = self._next_due() if seen.frozen and not seen.ended else []
        width = sum(width_of(text) for text, _ in right)
        if width + 20 > canvas.width:
            right, width = [], 0
        canvas.spans(canvas.width - width - 1, 0, right)
        room = canvas.width - width - 3
        for text, style in self._news():
            if room > 0:
                canvas.text(1 + canvas.width - width - 3 - room, 0, clip(text, room), style)
            room -= width_of(text)

    def _news(self) -> list[Span]:
        seen, palette = self.seen, self.seen.palette
        if seen.ended is not None:
            return [
                (" the laboratory ended ", palette.fill_bad),
                (f" {seen.ended}", palette.bad),
                (" · q leaves", palette.dim),
            ]
        if seen.aim is not None:
            way = "both ways" if seen.aim.both_ways else "one way"
            text = f" cut S{seen.aim.server} from … "
            return [
                (text, palette.fill_frozen),
                (f" press or click the other server ({way}) · Esc", palette.text),
            ]
        if seen.remark:
            return [(seen.remark, palette.text)]
        if seen.said is None:
            return [("press : for a command, ? for help", palette.faint)]
        return self._said()

    def _said(self) -> list[Span]:
        said, palette = self.seen.said, self.seen.palette
        assert said is not None
        command: Span = (f": {said.text}  ", palette.key)
        if said.answer is None:
            return [command, ("…", palette.dim)]
        if not said.answer.ok:
            return [command, ("✗ ", palette.bad), (said.answer.text, palette.bad)]
        mark = self._mark(said.text)
        in_one_line = said.answer.text.replace("\n", " · ")
        return [command, mark, (f" {in_one_line}", palette.text)]

    def _mark(self, text: str) -> Span:
        """Return how a command went that was carried out: an operation may have failed even so."""
        palette, command = self.seen.palette, commands.parse(text)
        if not isinstance(command, commands.Put | commands.Get | commands.Delete):
            return "✓", palette.good
        kind = OperationKind[type(command).__name__.upper()]
        newest = next(
            (
                operation
                for operation in reversed(self.seen.view.operations)
                if (operation.kind, operation.key) == (kind, command.key)
            ),
            None,
        )
        match newest and newest.outcome:
            case Outcome.OK:
                return "✓", palette.good
            case Outcome.FAILED:
                return "✗", palette.bad
            case Outcome.UNKNOWN:
                return "?", palette.warn
        return "…", palette.dim

    def _next_due(self) -> list[Span]:
        """Return what a step would do: while time is frozen that is the question."""
        seen, palette = self.seen, self.seen.palette
        due = next_due(seen.view)
        if due is None:
            return []
        at, what = due
        when = f" in {milliseconds(at - seen.virtual)}"
        if isinstance(what, Flight):
            message = what.message
            kind = KINDS.get(type(message).__name__, type(message).__name__)
            look = look_of(message, seen.view)
            said = f" {look.face}" if look.label or look.face not in "●○" else ""
            text = f"S{message.src} → S{message.dst} {kind}{said}"
        else:
            text = f"S{what} timer"
        return [(". next: ", palette.dim), (text, palette.frozen), (when, palette.dim)]
