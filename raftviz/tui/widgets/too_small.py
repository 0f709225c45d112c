"""What stands on a terminal on which nothing useful fits."""

from __future__ import annotations

from raftviz.tui.arrangement import MIN_HEIGHT, MIN_WIDTH
from raftviz.tui.canvas import Canvas
from raftviz.tui.widgets.panel import Panel


class TooSmall(Panel):
    """Asks for more room; the laboratory goes on."""

    def draw(self, canvas: Canvas) -> None:
        """Say how much room is needed."""
        width, height = self.app.size
        palette = self.seen.palette
        canvas.text(0, 0, "raftviz needs", palette.strong)
        canvas.text(0, 1, f"{MIN_WIDTH}×{MIN_HEIGHT} cells;", palette.strong)
        canvas.text(0, 2, f"here are {width}×{height}.", palette.dim)
        canvas.text(0, 3, "q leaves", palette.faint)
