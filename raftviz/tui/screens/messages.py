"""The messages in flight, to pick one and say what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import OptionList

from raftviz.model.view import ClusterView, Flight
from raftviz.model.words import message_line
from raftviz.tui.theme import Palette
from raftviz.tui.units import milliseconds

BUTTONS = (
    "[@click=screen.give('deliver')]Enter delivers[/] · [@click=screen.give('drop')]d drops[/] · "
    "[@click=screen.give('duplicate')]c copies[/] · [@click=screen.hold]h holds or releases[/] · "
    "[@click=screen.close]Esc[/]"
)
"""What can be done with the message that is marked: keys, which can be clicked, too."""


class MessagesScreen(ModalScreen[str | None]):
    """Returns the command for the message that was picked, None for none."""

    AUTO_FOCUS = "OptionList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,m,M", "dismiss", "close"),
        Binding("d", "give('drop')", "drop"),
        Binding("c", "give('duplicate')", "copy"),
        Binding("h", "hold", "hold, release"),
    ]

    def __init__(
        self, view: ClusterView, virtual: float, palette: Palette, marked: int | None = None
    ) -> None:
        super().__init__()
        self._flights = in_order(view.flights.values())
        self._marked = next((i for i, f in enumerate(self._flights) if f.message_id == marked), 0)
        self._virtual = virtual
        self._palette = palette

    def compose(self) -> ComposeResult:
        """List the messages, the next one first."""
        choices = OptionList(*map(self._line, self._flights), markup=False)
        choices.border_title = "messages in flight"
        choices.border_subtitle = BUTTONS
        choices.highlighted = self._marked
        yield choices

    def _line(self, flight: Flight) -> Text:
        when = "held" if flight.held else f"in {milliseconds(flight.due - self._virtual)}"
        style = self._palette.frozen if flight.held else self._palette.dim
        line = message_line(flight.message)
        return Text.assemble((f"#{flight.message_id:<5} ", self._palette.key), f"{line}  ").append(
            when, style
        )

    @property
    def _picked(self) -> Flight | None:
        place = self.query_one(OptionList).highlighted
        return None if place is None else self._flights[place]

    def action_close(self) -> None:
        """Leave everything as it is."""
        self.dismiss(None)

    def action_give(self, verb: str) -> None:
        """Do something with the message that is marked."""
        if (flight := self._picked) is not None:
            self.dismiss(f"{verb} #{flight.message_id}")

    def action_hold(self) -> None:
        """Hold the message that is marked, or release it."""
        if (flight := self._picked) is not None:
            self.action_give("release" if flight.held else "hold")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Deliver the message that was chosen."""
        event.stop()
        self.action_give("deliver")


def in_order(flights: Iterable[Flight]) -> list[Flight]:
    """Return messages as they will arrive; those that are held come last."""
    return sorted(flights, key=lambda flight: (flight.held, flight.due, flight.message_id))
