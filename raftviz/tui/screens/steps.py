"""The list of a lesson's steps, to jump to any."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList

from raft.printable import printable
from raftviz.lesson import LessonRun


class StepsScreen(ModalScreen[int | None]):
    """Returns the place of the step that was chosen, None for none."""

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,j", "dismiss", "close")]

    def __init__(self, run: LessonRun) -> None:
        super().__init__()
        self._run = run

    def compose(self) -> ComposeResult:
        """List the steps; those whose goal was reached have a mark."""
        steps = self._run.lesson.steps
        options = [
            Text(
                f"{'✓' if place in self._run.done else ' '} {place + 1:>2}  {printable(step.title)}"
            )
            for place, step in enumerate(steps)
        ]
        choices = OptionList(*options, markup=False)
        choices.border_title = "steps"
        choices.border_subtitle = "Enter goes there · Esc"
        choices.highlighted = self._run.index
        yield choices

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Go to the chosen step."""
        event.stop()
        self.dismiss(event.option_index)
