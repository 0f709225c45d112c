"""The top of the screen: who is alive, who leads, what time it is, and whether Raft is safe."""

from __future__ import annotations

from rich.style import Style

from raftviz.model.words import clock_text
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.units import rate_text
from raftviz.tui.widgets.panel import Panel

Span = tuple[str, Style]


class Header(Panel):
    """One row, or two where there is room for the names of the safety properties."""

    def draw(self, canvas: Canvas) -> None:
        """Draw the state of the whole cluster, the most important at the left."""
        palette = self.seen.palette
        for y in range(canvas.height):
            canvas.text(0, y, " " * canvas.width, palette.fill_panel)
        right = self._clock()
        room = canvas.width - 2 - _width(right)
        name: Span = ("raftviz", palette.fill_key)
        shown = []
        for span in [*self._state(), name]:
            if room >= width_of(span[0]) + 2:
                shown.append(span)
                room -= width_of(span[0]) + 2
        x = 1
        for span in sorted(shown, key=lambda span: span is not name):
            x = canvas.text(x, 0, *span) + 2
        if canvas.height == 1 and room > _width(self._marks()):
            right = [*self._marks(), *right]
        canvas.spans(canvas.width - _width(right) - 1, 0, right)
        if canvas.height > 1:
            canvas.spans(1, 1, self._properties())

    def _state(self) -> list[Span]:
        seen, palette = self.seen, self.seen.palette
        view = seen.view
        if not view.servers:
            return [("starting the servers …", palette.fill_panel)]
        alive = sum(server.alive for server in view.servers.values())
        spans = [(f"{alive}/{len(view.servers)} alive", palette.fill_panel)]
        spans.append((f" term {view.term} ", palette.fill_term(view.term)))
        leader = "no leader" if view.leader is None else f"★ leader S{view.leader}"
        spans.append((leader, palette.fill_panel))
        return spans

    def _clock(self) -> list[Span]:
        seen, palette = self.seen, self.seen.palette
        time = (f" {clock_text(seen.virtual)} ", palette.fill_panel)
        if seen.ended is not None:
            return [time, (" ■ ENDED ", palette.fill_bad)]
        if seen.frozen:
            return [time, (" ❄ FROZEN ", palette.fill_frozen)]
        return [time, (f" ▶ {rate_text(seen.view.clock.rate)} ", palette.fill_accent)]

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
