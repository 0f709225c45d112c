"""Colours: a dark and a light theme, and the styles that the panels draw with.

The colours of terms derive from Okabe and Ito's palette, which people with any kind of colour
blindness can tell apart; each theme has its own set, because those that shine on black vanish
on white. Every colour that carries text has a contrast of at least 4.5 on its background
(a test computes it). Colour never stands alone: roles have shapes and words, terms have
numbers, messages have glyphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rich.color import Color
from rich.style import Style
from textual.theme import Theme

TERM_COLOURS = 6

DARK = Theme(
    name="raftviz-dark",
    dark=True,
    primary="#7CC4F5",
    secondary="#B9A7FF",
    accent="#F0E442",
    foreground="#E6E9EF",
    background="#0D1016",
    surface="#0D1016",
    panel="#171C26",
    success="#35C99A",
    warning="#F2B033",
    error="#FF8066",
    variables={
        "rv-dim": "#98A2B3",
        "rv-faint": "#7D879A",
        "rv-line": "#3A4456",
        "rv-link": "#56627A",
        "rv-ink": "#0D1016",
        "rv-frozen": "#A5ECFF",
        "rv-term-1": "#5DB8F0",
        "rv-term-2": "#F0A52B",
        "rv-term-3": "#B3A0FF",
        "rv-term-4": "#E8DE52",
        "rv-term-5": "#35C99A",
        "rv-term-6": "#EE95C4",
        "block-cursor-background": "#7CC4F5",
        "block-cursor-foreground": "#0D1016",
        "footer-background": "#171C26",
    },
)

LIGHT = Theme(
    name="raftviz-light",
    dark=False,
    primary="#0A5F99",
    secondary="#5B3FB8",
    accent="#7A5A00",
    foreground="#1A1E27",
    background="#FCFCFA",
    surface="#FCFCFA",
    panel="#ECEEF1",
    success="#006B4A",
    warning="#7D5300",
    error="#B03010",
    variables={
        "rv-dim": "#4C5566",
        "rv-faint": "#626B7B",
        "rv-line": "#AEB6C2",
        "rv-link": "#B4BCC9",
        "rv-ink": "#FCFCFA",
        "rv-frozen": "#00596E",
        "rv-term-1": "#0064A4",
        "rv-term-2": "#8A5500",
        "rv-term-3": "#5F45BD",
        "rv-term-4": "#686000",
        "rv-term-5": "#006B4A",
        "rv-term-6": "#9A3571",
        "block-cursor-background": "#0A5F99",
        "block-cursor-foreground": "#FCFCFA",
        "footer-background": "#ECEEF1",
    },
)

THEMES = (DARK, LIGHT)
_NAMED = ("primary", "foreground", "background", "panel", "success", "warning", "error")


def _named(theme: Theme) -> dict[str, str]:
    values = {name: getattr(theme, name) for name in _NAMED}
    return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Palette:
    """The styles of one theme. Made once when the theme changes; every style is one object.

    That matters: a canvas row becomes segments by comparing styles by identity.
    """

    variables: Mapping[str, str]

    @classmethod
    def of(cls, theme: Theme) -> Palette:
        """Return a theme's styles; what a foreign theme does not say comes from ours."""
        ours = DARK if theme.dark else LIGHT
        return cls({**_named(ours), **ours.variables, **_named(theme), **theme.variables})

    def _ink(self, name: str, *, bold: bool = False, on: str = "background") -> Style:
        ink, ground = Color.parse(self.variables[name]), Color.parse(self.variables[on])
        return Style(color=ink, bgcolor=ground, bold=bold)

    @cached_property
    def text(self) -> Style:
        """Ordinary text."""
        return self._ink("foreground")

    @cached_property
    def strong(self) -> Style:
        """What matters most."""
        return self._ink("foreground", bold=True)

    @cached_property
    def dim(self) -> Style:
        """Labels."""
        return self._ink("rv-dim")

    @cached_property
    def faint(self) -> Style:
        """Remarks one may overlook."""
        return self._ink("rv-faint")

    @cached_property
    def line(self) -> Style:
        """Borders and rulers, never text."""
        return self._ink("rv-line")

    @cached_property
    def link(self) -> Style:
        """Links between servers, never text."""
        return self._ink("rv-link")

    @cached_property
    def key(self) -> Style:
        """A key to press."""
        return self._ink("primary", bold=True)

    @cached_property
    def good(self) -> Style:
        """Yes: granted, stored, holds."""
        return self._ink("success")

    @cached_property
    def bad(self) -> Style:
        """No: refused, lost, dead, violated."""
        return self._ink("error")

    @cached_property
    def bad_bold(self) -> Style:
        """A no that a whole room must see."""
        return self._ink("error", bold=True)

    @cached_property
    def warn(self) -> Style:
        """Attention: paused, unknown."""
        return self._ink("warning")

    @cached_property
    def frozen(self) -> Style:
        """Time stands still."""
        return self._ink("rv-frozen")

    @cached_property
    def fill_good(self) -> Style:
        """A filled shape that says yes."""
        return self._ink("rv-ink", bold=True, on="success")

    @cached_property
    def fill_bad(self) -> Style:
        """A filled shape that says no."""
        return self._ink("rv-ink", bold=True, on="error")

    @cached_property
    def fill_ask(self) -> Style:
        """A filled shape that asks."""
        return self._ink("rv-ink", bold=True, on="foreground")

    @cached_property
    def fill_frozen(self) -> Style:
        """A filled shape: time stands still."""
        return self._ink("rv-ink", bold=True, on="rv-frozen")

    @cached_property
    def fill_accent(self) -> Style:
        """A filled shape: time runs."""
        return self._ink("rv-ink", bold=True, on="primary")

    @cached_property
    def fill_panel(self) -> Style:
        """A raised surface: buttons."""
        return self._ink("foreground", on="panel")

    @cached_property
    def fill_faint(self) -> Style:
        """What was so once, on a raised surface."""
        return self._ink("rv-dim", on="panel")

    @cached_property
    def panel_good(self) -> Style:
        """A yes on a raised surface."""
        return self._ink("success", bold=True, on="panel")

    @cached_property
    def fill_error(self) -> Style:
        """A mistake on a raised surface."""
        return self._ink("error", on="panel")

    @cached_property
    def fill_key(self) -> Style:
        """A key to press, on a raised surface."""
        return self._ink("primary", bold=True, on="panel")

    @cached_property
    def _terms(self) -> tuple[Style, ...]:
        return tuple(self._ink(f"rv-term-{n + 1}") for n in range(TERM_COLOURS))

    @cached_property
    def _bold_terms(self) -> tuple[Style, ...]:
        return tuple(self._ink(f"rv-term-{n + 1}", bold=True) for n in range(TERM_COLOURS))

    @cached_property
    def _filled_terms(self) -> tuple[Style, ...]:
        names = (f"rv-term-{n + 1}" for n in range(TERM_COLOURS))
        return tuple(self._ink("rv-ink", bold=True, on=name) for name in names)

    def term(self, term: int, *, bold: bool = False) -> Style:
        """Return the colour of a term; term 0, before any election, has none."""
        if term == 0:
            return self.dim
        return (self._bold_terms if bold else self._terms)[(term - 1) % TERM_COLOURS]

    def fill_term(self, term: int) -> Style:
        """Return the style of text on a surface in the term's colour."""
        return self._filled_terms[(term - 1) % TERM_COLOURS] if term else self.fill_panel
