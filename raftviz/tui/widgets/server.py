"""The selected server: all of its state, in the words of the paper's Figure 2."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.style import Style

from raft.core.events import Role, TimerKind, VoteCast
from raft.core.messages import Granted
from raft.printable import printable
from raftviz.model.fault_words import disk_text
from raftviz.model.view import ServerView
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.scene.servers import NO, OPEN, YES, bar, role_mark, role_word, time_left
from raftviz.tui.traffic import refusal, short_refusal
from raftviz.tui.units import milliseconds
from raftviz.tui.widgets.panel import Panel

LABEL = 13
BAR = 16
TIMER = 30
"""Cells of a timer's words and numbers beside its bar."""
MAX_PAIR = 24

Span = tuple[str, Style]
Item = Sequence[Span]


class ServerPanel(Panel):
    """Everything that is known of one server."""

    BORDER_TITLE = "selected server"
    FADES = True

    def draw(self, canvas: Canvas) -> None:
        """Draw the state as labelled lines; what is long runs over several."""
        seen, palette = self.seen, self.seen.palette
        server = seen.view.servers.get(seen.selected) if seen.selected else None
        if server is None:
            canvas.text(1, 0, "no server yet", palette.faint)
            return
        canvas.spans(1, 0, self._headline(server))
        y = 1
        for label, items in self._facts(server):
            y = self._flow(canvas, y, label, items)

    def _headline(self, server: ServerView) -> list[Span]:
        palette = self.seen.palette
        style = palette.term(server.term, bold=True) if server.alive else palette.bad
        where = f"pid {server.pid} · {server.address}" if server.pid else "no process yet"
        how = f" · {server.exit}" if server.exit else ""
        return [
            (f"{role_mark(server)}S{server.id} {role_word(server)}", style),
            (f"   {where}{how}", palette.dim),
        ]

    def _facts(self, server: ServerView) -> Iterable[tuple[str, list[Item]]]:
        """Yield each label with its items."""
        palette = self.seen.palette
        vote = "none" if server.voted_for is None else f"S{server.voted_for}"
        yield (
            "on disk",
            [
                self._fact("currentTerm", str(server.term), palette.term(server.term, bold=True)),
                self._fact("votedFor", vote),
                self._fact("log", _log_text(server)),
            ],
        )
        if machine := self._machine(server):
            yield "machine", machine
        if not server.alive:
            return
        leader = "unknown" if server.leader is None else f"S{server.leader}"
        yield (
            "in memory",
            [
                self._fact("commitIndex", str(server.commit_index)),
                self._fact("lastApplied", str(server.last_applied)),
                self._fact("leader", leader),
                *self._handing_over(server),
            ],
        )
        yield "timer", [self._timer(server)]
        if server.role is not Role.FOLLOWER:
            yield "votes", self._votes(server)
        if server.progress:
            yield "followers", self._followers(server)
        if server.refused is not None and server.refused.term == server.term:
            yield "refused", [self._refused(server.refused, server)]
        yield "key-value", self._pairs(server)

    def _machine(self, server: ServerView) -> list[Item]:
        """Return what is wrong with what it runs on, and which rules it breaks on purpose."""
        palette = self.seen.palette
        wrong = [f"BREAKS {rule} on purpose" for rule in server.broken]
        if server.disk is not None:
            wrong.append(f"its disk {disk_text(server.disk)}")
        if server.clock != 1:
            wrong.append(f"its clock runs ×{server.clock:g}")
        return [[(text, palette.bad)] for text in wrong]

    def _handing_over(self, server: ServerView) -> list[Item]:
        to = server.transferee
        return [] if to is None else [self._fact("hands over to", f"S{to}")]

    def _fact(self, name: str, value: str, style: Style | None = None) -> Item:
        palette = self.seen.palette
        return [(f"{name} ", palette.dim), (value, style or palette.strong)]

    def _timer(self, server: ServerView) -> Item:
        palette = self.seen.palette
        if server.timer_kind is None:
            return [("none", palette.faint)]
        kind = "heartbeat" if server.timer_kind is TimerKind.HEARTBEAT else "election"
        share = time_left(server, self.seen.virtual)
        left = milliseconds(share * server.timer_interval)
        return [
            (f"{kind} ", palette.dim),
            (bar(share, min(max(self._room - TIMER, 4), BAR)), palette.term(server.term)),
            (f"  {left:>7}", palette.strong),
            (f" of {milliseconds(server.timer_interval)}", palette.dim),
        ]

    def _votes(self, server: ServerView) -> list[Item]:
        palette = self.seen.palette
        items: list[Item] = []
        for voter in self.seen.view.servers:
            outcome = server.votes.get(voter)
            if outcome is None:
                items.append([(f"S{voter} ", palette.dim), (OPEN, palette.dim)])
            elif isinstance(outcome, Granted):
                items.append([(f"S{voter} ", palette.dim), (YES, palette.good)])
            else:
                reason = self._sized(refusal(outcome, voter), short_refusal(outcome), 5)
                items.append([(f"S{voter} ", palette.dim), (f"{NO} {reason}", palette.bad)])
        return items

    def _followers(self, server: ServerView) -> list[Item]:
        palette = self.seen.palette
        return [
            [
                (f"S{follower} ", palette.dim),
                (f"match {known.match_index} ", palette.text),
                (f"next {known.next_index}", palette.text),
            ]
            for follower, known in server.progress.items()
        ]

    def _refused(self, cast: VoteCast, server: ServerView) -> Item:
        reason = self._sized(refusal(cast.outcome, server.id), short_refusal(cast.outcome), 22)
        return [(f"did not vote for S{cast.candidate}: {reason}", self.seen.palette.bad)]

    def _sized(self, text: str, short: str, used: int) -> str:
        """Return the short words where there is no room for the others beside ``used`` cells."""
        return text if used + width_of(text) <= self._room else short

    @property
    def _room(self) -> int:
        """The cells of a line behind its label."""
        return self.content_size.width - LABEL

    def _pairs(self, server: ServerView) -> list[Item]:
        palette = self.seen.palette
        pairs: list[Item] = [
            [
                (printable(key, MAX_PAIR), palette.dim),
                ("=", palette.faint),
                (printable(value, MAX_PAIR), palette.strong),
            ]
            for key, value in sorted(server.kv.items())
        ]
        if server.hidden:
            note = f"what entries up to {server.hidden} said is not known"
            return [[(note, palette.faint)], *pairs]
        return pairs or [[("empty", palette.faint)]]

    def _flow(self, canvas: Canvas, y: int, label: str, items: list[Item]) -> int:
        """Draw a label and its items, as many in a row as fit; return the row after them."""
        canvas.text(1, y, label, self.seen.palette.faint)
        x = LABEL
        for item in items:
            if y >= canvas.height:
                break
            width = sum(width_of(text) for text, _ in item)
            if x > LABEL and x + width > canvas.width:
                y, x = y + 1, LABEL
            for text, style in item:
                x = canvas.text(x, y, text, style, width=max(canvas.width - x, 0))
            x += 3
        return y + 1


def _log_text(server: ServerView) -> str:
    behind = f", behind a snapshot up to {server.snapshot[0]}" if server.snapshot else ""
    if not server.log:
        return f"empty{behind}"
    count = len(server.log)
    entries = "1 entry" if count == 1 else f"{count} entries"
    return f"{entries}, the last of term {server.last_term}{behind}"
