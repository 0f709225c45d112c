"""The top of the screen: who is alive, who leads, what time it is, and whether Raft is safe."""

from __future__ import annotations

from rich.style import Style

from raftviz.model.words import clock_text
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.units import rate_text
from raftviz.tui.widgets.panel import Panel

Span = tuple[str, Style]
GAP = 2


class Header(Panel):
    """One row, or two where there is room for the names of the safety properties."""

    def draw(self, canvas: Canvas) -> None:
        """Draw the state of the whole cluster; where there is no room, what matters least goes."""
        palette = self.seen.palette
        for y in range(canvas.height):
            canvas.text(0, y, " " * canvas.width, palette.fill_panel)
        name, alive, term, leader = self._state()
        marks, time, rate = self._marks(), self._time(), self._rate()
        by_weight = [rate, term, leader, alive, time, marks, name]
        if canvas.height > 1:
            by_weight.remove(marks)  # the second row says it in words
            canvas.spans(1, 1, self._properties())
        room, shown = canvas.width - 2, []
        for item in by_weight:
            if item and _width(item) + GAP <= room:
                shown.append(item)
                room -= _width(item) + GAP
        x = 1
        for item in (name, alive, term, leader):
            if item in shown:
                x = canvas.spans(x, 0, item) + GAP
        x = canvas.width - 1
        for item in (rate, time, marks):
            if item in shown:
                x -= _width(item)
                canvas.spans(x, 0, item)
                x -= GAP

    def _state(self) -> tuple[list[Span], list[Span], list[Span], list[Span]]:
        """Return the program's name, how many servers live, the term, and who leads."""
        palette, view = self.seen.palette, self.seen.view
        name: list[Span] = [("raftviz", palette.fill_key)]
        if not view.servers:
            return name, [("starting the servers …", palette.fill_panel)], [], []
        alive = sum(server.alive for server in view.servers.values())
        leader = "no leader" if view.leader is None else f"★ leader S{view.leader}"
        return (
            name,
            [(f"{alive}/{len(view.servers)} alive", palette.fill_panel)],
            [(f" term {view.term} ", palette.fill_term(view.term))],
            [(leader, palette.fill_panel)],
        )

    def _time(self) -> list[Span]:
        return [(clock_text(self.seen.virtual), self.seen.palette.fill_panel)]

    def _rate(self) -> list[Span]:
        seen, palette = self.seen, self.seen.palette
        if seen.ended is not None:
            return [(" ■ ENDED ", palette.fill_bad)]
        if seen.frozen:
            return [(" ❄ FROZEN ", palette.fill_frozen)]
        return [(f" ▶ {rate_text(seen.view.clock.rate)} ", palette.fill_accent)]

    def _properties(self) -> list[Span]:
        """Return Figure 3's properties by name, each with whether it held so far."""
        palette = self.seen.palette
        spans: list[Span] = [("safety ", palette.fill_panel)]
        for property_, violation in self.seen.invariants.status.items():
            if violation is None:
                spans += [("✓ ", palette.panel_good), (f"{property_.value}  ", palette.fill_panel)]
            else:
                since = clock_text(violation.time)
                text = f" ✗ {property_.value}: broken at {since} "
                spans += [(text, palette.fill_bad), ("  ", palette.fill_panel)]
        return spans

    def _marks(self) -> list[Span]:
        palette = self.seen.palette
        marks = [
            ("✓", palette.panel_good) if violation is None else ("✗", palette.fill_bad)
            for violation in self.seen.invariants.status.values()
        ]
        return [("safety ", palette.fill_panel), *marks]


def _width(spans: list[Span]) -> int:
    return sum(width_of(text) for text, _ in spans)
