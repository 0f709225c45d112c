"""The top of the screen: who is alive, who leads, what time it is, and whether Raft is safe."""

from __future__ import annotations

from rich.style import Style

from raftviz.model.fault_words import broken_text, load_text
from raftviz.model.words import clock_text
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.units import rate_text
from raftviz.tui.widgets.panel import Panel

Span = tuple[str, Style]
GAP = 2
WIDE = 120
"""Cells from which on there is room for all words."""


class Header(Panel):
    """One row, or two where there is room for the names of the safety properties."""

    def draw(self, canvas: Canvas) -> None:
        """Draw the state of the whole cluster; where there is no room, what matters least goes."""
        palette = self.seen.palette
        for y in range(canvas.height):
            canvas.text(0, y, " " * canvas.width, palette.fill_panel)
        name, alive, term, leader = self._state()
        marks, time, rate, behind = self._marks(), self._time(), self._rate(), self._behind()
        broken, goings_on = self._broken(canvas.width), self._goings_on(canvas.width)
        by_weight = [rate, broken, behind, term, leader, alive, marks, time, goings_on, name]
        if canvas.height > 1:
            by_weight.remove(marks)  # the second row says it in words
            if not self.seen.starting:
                x = canvas.spans(1, 1, self._properties())
                rules = self._rules()
                if x + _width(rules) < canvas.width:
                    canvas.spans(canvas.width - 1 - _width(rules), 1, rules)
        room, shown = canvas.width - 2, []
        for item in by_weight:
            if item and _width(item) + GAP <= room:
                shown.append(item)
                room -= _width(item) + GAP
        x = 1
        for item in (name, broken, alive, term, leader):
            if item in shown:
                x = canvas.spans(x, 0, item) + GAP
        x = canvas.width - 1
        for item in (rate, behind, time, marks, goings_on):
            if item in shown:
                x -= _width(item)
                canvas.spans(x, 0, item)
                x -= GAP

    def _state(self) -> tuple[list[Span], list[Span], list[Span], list[Span]]:
        """Return the program's name, how many servers live, the term, and who leads."""
        seen, palette = self.seen, self.seen.palette
        name: list[Span] = [("raftviz", palette.fill_key)]
        if seen.starting:
            return name, [], [], []
        view, ended = seen.view, seen.ended is not None
        plain = palette.fill_faint if ended else palette.fill_panel
        alive = f"{sum(s.alive for s in view.servers.values())}/{len(view.servers)} alive"
        term = plain if ended else palette.fill_term(view.term)
        return (
            name,
            [(f"last known: {alive}" if ended else alive, plain)],
            [(f" term {view.term} ", term)],
            [(self._leader(), plain)],
        )

    def _leader(self) -> str:
        """Return who leads; a leader that has missed a newer term leads its own only."""
        view = self.seen.view
        if view.leader is None:
            return "no leader"
        term = view.servers[view.leader].term
        return f"★ leader S{view.leader}" + (f" (term {term})" if term != view.term else "")

    def _time(self) -> list[Span]:
        if self.seen.starting:
            return []
        return [(clock_text(self.seen.virtual), self.seen.palette.fill_panel)]

    def _rate(self) -> list[Span]:
        seen, palette = self.seen, self.seen.palette
        if seen.ended is not None:
            return [(" ■ ENDED ", palette.fill_bad)]
        if seen.starting:
            return [("starting the servers …", palette.fill_panel)]
        if seen.frozen:
            return [(" ❄ FROZEN ", palette.fill_frozen)]
        return [(f" ▶ {rate_text(seen.view.clock.rate)} ", palette.fill_accent)]

    def _behind(self) -> list[Span]:
        """Return how old the picture is, where that is not the present any more."""
        seen = self.seen
        if seen.behind == 0 or seen.ended is not None:
            return []
        return [(f" behind by {seen.behind:.0f} s ", seen.palette.fill_bad)]

    def _broken(self, width: int) -> list[Span]:
        """Say that this cluster breaks rules on purpose, whatever else there is room for."""
        if not self.seen.view.broken:
            return []
        text = " BROKEN ON PURPOSE " if width >= WIDE else " BROKEN "
        return [(text, self.seen.palette.fill_bad)]

    def _rules(self) -> list[Span]:
        """Return the rules that are broken, and where."""
        broken = self.seen.view.broken
        return [(f" {broken_text(broken)} ", self.seen.palette.fill_bad)] if broken else []

    def _goings_on(self, width: int) -> list[Span]:
        """Return how the load goes, and whether there is chaos."""
        view, palette = self.seen.view, self.seen.palette
        spans: list[Span] = []
        if view.chaos:
            spans.append((" chaos ", palette.fill_bad))
        if view.measured is not None:
            text = load_text(view.measured)
            text = f"load {text}" if width >= WIDE else text.split()[0]
            spans.append((f" {text} ", palette.fill_accent))
        elif view.load and width >= WIDE:
            spans.append((f" {view.load} ", palette.fill_accent))
        return spans

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
        if self.seen.starting:
            return []
        palette = self.seen.palette
        marks = [
            ("✓", palette.panel_good) if violation is None else ("✗", palette.fill_bad)
            for violation in self.seen.invariants.status.values()
        ]
        return [("safety ", palette.fill_panel), *marks]


def _width(spans: list[Span]) -> int:
    return sum(width_of(text) for text, _ in spans)
