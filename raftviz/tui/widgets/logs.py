"""The logs: one row a server, one cell an entry, and how far each has come.

Committed entries are solid blocks, wherever they are and for ever; entries that may still vanish
are hatched; dots stand where a snapshot stands for the entries. Beneath a row stand the marks: how
far the server knows the log to be committed and has applied it, and what the leader believes of it
(matchIndex, nextIndex).
"""

from __future__ import annotations

from rich.style import Style
from textual import events

from raft.core.events import Role
from raft.core.messages import Entry, EntryKind
from raftviz.model.machine import command_text
from raftviz.model.view import ServerView
from raftviz.tui.canvas import Canvas, clip, width_of
from raftviz.tui.scene.servers import role_mark
from raftviz.tui.seen import Seen
from raftviz.tui.widgets.panel import Panel

NAME, NUMBERS, FEW_NUMBERS = 6, 17, 11
SPACIOUS = 60
WIDEST, NARROWEST = 10, 8
COMMIT, APPLIED, MATCH, NEXT = "◆", "◇", "▲", "▷"
COMPACTED = "·"


class LogsPanel(Panel):
    """The logs of all servers, from the newest entries back; arrow keys and the wheel scroll."""

    BORDER_TITLE = "logs"
    FADES = True

    def __init__(self, seen: Seen, *, id: str) -> None:
        super().__init__(seen, id=id)
        self.back = 0
        """How many entries the right edge is behind the newest; 0 follows it."""

    def scroll(self, entries: int) -> None:
        """Move to older (positive) or newer entries."""
        longest = max((server.last_index for server in self.seen.view.servers.values()), default=0)
        self.back = min(max(self.back + entries, 0), max(longest - 1, 0))
        self.repaint()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Show older entries."""
        self.scroll(1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Show newer entries."""
        self.scroll(-1)

    def on_click(self, event: events.Click) -> None:
        """Select the server whose row it is."""
        at = event.get_content_offset(self)
        servers = list(self.seen.view.servers)
        row = -1 if at is None else (at.y - 1) // self._rows_each(self.content_size.height)
        if 0 <= row < len(servers):
            self.post_message(self.ServerClicked(servers[row]))

    # --- Drawing -----------------------------------------------------------------------------

    def _rows_each(self, height: int) -> int:
        """Return how many rows a server has: two where there is room for its marks."""
        return 2 if height >= 2 * len(self.seen.view.servers) + 1 else 1

    def draw(self, canvas: Canvas) -> None:
        """Draw the index, the rows, and what the signs mean."""
        servers = list(self.seen.view.servers.values())
        rows = self._rows_each(canvas.height)
        numbers = NUMBERS if canvas.width >= SPACIOUS else FEW_NUMBERS
        room = canvas.width - NAME - (numbers if rows == 1 else 0)
        longest = max((server.last_index for server in servers), default=0)
        width = WIDEST if room >= 6 * WIDEST else NARROWEST
        shown = max(room // width, 1)
        first = max(longest - self.back - shown, 0) + 1
        self._draw_index(canvas, first, shown, width, longest)
        for place, server in enumerate(servers):
            y = 1 + place * rows
            self._draw_name(canvas, y, server)
            self._draw_entries(canvas, y, server, first, shown, width)
            if rows == 2:
                self._draw_marks(canvas, y + 1, server, first, shown, width)
            else:
                self._draw_numbers(canvas, y, server, numbers)
        if canvas.height > len(servers) * rows + 1:
            self._draw_legend(canvas)

    def _draw_index(self, canvas: Canvas, first: int, shown: int, width: int, longest: int) -> None:
        palette = self.seen.palette
        if first > 1:
            canvas.text(NAME - 2, 0, "‹", palette.key)
        for place in range(shown):
            canvas.text(
                NAME + place * width, 0, f"{first + place}".center(width - 1), palette.faint
            )
        if first + shown <= longest:
            canvas.text(NAME + shown * width - 1, 0, "›", palette.key)

    def _draw_name(self, canvas: Canvas, y: int, server: ServerView) -> None:
        palette = self.seen.palette
        chosen = server.id == self.seen.selected
        canvas.text(0, y, "▶" if chosen else " ", palette.key)
        style = palette.term(server.term, bold=True) if server.alive else palette.faint
        canvas.text(1, y, f"S{server.id} {role_mark(server).strip()}", style)

    def _draw_entries(
        self, canvas: Canvas, y: int, server: ServerView, first: int, shown: int, width: int
    ) -> None:
        for place in range(shown):
            x = NAME + place * width
            if first + place < server.first_index:
                canvas.text(x, y, COMPACTED * (width - 1), self.seen.palette.faint)
                continue
            entry = server.entry(first + place)
            if entry is None:
                return
            committed = self.seen.is_committed(first + place, entry.term)
            self._draw_cell(canvas, x, y, entry, committed, width - 1)

    def _draw_cell(
        self, canvas: Canvas, x: int, y: int, entry: Entry, committed: bool, width: int
    ) -> None:
        palette = self.seen.palette
        text = f"{entry.term} {_command(entry)}"
        if committed:
            style = palette.fill_term(entry.term)
            body = clip(text, width - 1)
            canvas.text(x, y, f" {body}{' ' * (width - 1 - width_of(body))}", style)
            return
        style = palette.term(entry.term)
        body = clip(text, width - 2)
        canvas.text(x, y, f"░{body}{'░' * (width - 1 - width_of(body))}", style)

    def _draw_marks(
        self, canvas: Canvas, y: int, server: ServerView, first: int, shown: int, width: int
    ) -> None:
        """Draw the marks beneath the entries they speak of."""
        for place in range(shown):
            marks = self._marks_at(server, first + place)
            x = NAME + place * width + 1
            for mark, word, style in marks:
                text = mark + word if len(marks) == 1 and width > len(word) + 1 else mark
                x = canvas.text(x, y, text, style)

    def _marks_at(self, server: ServerView, index: int) -> list[tuple[str, str, Style]]:
        palette = self.seen.palette
        marks = []
        if server.alive and server.commit_index == index:
            marks.append((COMMIT, "commit", palette.good))
        if server.alive and server.last_applied == index != server.commit_index:
            marks.append((APPLIED, "applied", palette.good))
        known = self._progress(server)
        if known is not None and known[0] == index:
            marks.append((MATCH, "match", palette.text))
        if known is not None and known[1] == index:
            marks.append((NEXT, "next", palette.dim))
        return marks

    def _progress(self, server: ServerView) -> tuple[int, int] | None:
        """Return (matchIndex, nextIndex) that the leader keeps of a server."""
        leader = self.seen.view.leader
        if leader is None:
            return None
        known = self.seen.view.servers[leader].progress.get(server.id)
        return None if known is None else (known.match_index, known.next_index)

    def _draw_numbers(self, canvas: Canvas, y: int, server: ServerView, width: int) -> None:
        if not server.alive:
            return
        palette = self.seen.palette
        blank = " " if width == NUMBERS else ""
        spans = [(f"{COMMIT}{server.commit_index}{blank}", palette.good)]
        known = self._progress(server)
        if known is not None:
            spans.append((f"{MATCH}{known[0]}{blank}", palette.text))
            spans.append((f"{NEXT}{known[1]}", palette.dim))
        elif server.role is Role.LEADER:
            spans.append((f"{blank}leader", palette.dim))
        canvas.spans(canvas.width - width + 1, y, spans)

    def _draw_legend(self, canvas: Canvas) -> None:
        """Draw what the signs mean; where there is no room, first the blanks go, then the words."""
        palette, y = self.seen.palette, canvas.height - 1
        cells = [(" committed ", palette.fill_panel), ("░not yet░", palette.dim)]
        marks = [
            (COMMIT, "commit", palette.good),
            (APPLIED, "applied", palette.good),
            (MATCH, "match", palette.text),
            (NEXT, "next", palette.dim),
        ]
        words = sum(len(mark + word) + 1 for mark, word, _ in marks)
        x = NAME if NAME + 22 + words <= canvas.width else 0
        for text, style in cells if x + 22 + words <= canvas.width else ():
            x = canvas.text(x, y, text, style) + 1
        for mark, word, style in marks:
            if x + len(mark + word) <= canvas.width:
                x = canvas.text(x, y, mark, style)
                x = canvas.text(x, y, word, palette.faint) + 1


def _command(entry: Entry) -> str:
    return "–" if entry.kind is EntryKind.NOOP else command_text(entry)
