"""The pieces that the picture is made of: canvas, geometry, colours, pace."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.model.events import Event, LinkChanged
from raftviz.model.view import ClusterView
from raftviz.tui.canvas import Canvas, Change, Painted, clip, width_of
from raftviz.tui.geometry import CARD_ROWS, circle, ring
from raftviz.tui.pace import FASTEST, SLOWEST, Pace
from raftviz.tui.scene.links import MOST_SERVERS, arrow, draw_links
from raftviz.tui.scene.servers import bar
from raftviz.tui.theme import DARK, LIGHT, TERM_COLOURS, Palette
from raftviz.tui.units import milliseconds, rate_text
from tests.raftviz.fake_lab import cluster

GROUND, INK = Style(color="#ffffff"), Style(color="#ff0000")


def canvas_text(canvas: Canvas) -> list[str]:
    return [canvas.strip(y).text for y in range(canvas.height)]


@given(st.text(), st.integers(-30, 30), st.integers(-2, 4))
def test_any_text_anywhere_keeps_the_canvas_whole(text: str, x: int, y: int) -> None:
    canvas = Canvas(20, 3, GROUND)
    canvas.text(2, 1, "漢字 wide 漢字", INK)
    canvas.text(x, y, text, INK)
    for row in range(3):
        strip = canvas.strip(row)
        assert cell_len(strip.text) == 20
        assert printable(strip.text) == strip.text


@given(st.text(), st.integers(0, 30))
def test_what_is_clipped_fits(text: str, width: int) -> None:
    assert width_of(clip(text, width)) <= width
    assert clip(text, width_of(text)) == text


def test_half_of_a_wide_character_is_never_left() -> None:
    canvas = Canvas(6, 1, GROUND)
    canvas.text(0, 0, "漢字", INK)
    canvas.text(1, 0, "x", INK)
    assert canvas_text(canvas) == [" x字  "]
    canvas.text(2, 0, "y", INK)
    assert canvas_text(canvas) == [" xy   "]


def test_dots_share_a_cell_and_never_cover_text() -> None:
    canvas = Canvas(2, 1, GROUND)
    canvas.text(1, 0, "x", INK)
    for x, y in ((0, 0), (1, 3), (2, 0), (9, 9), (-1, 0)):
        canvas.dot(x, y, INK)
    assert canvas_text(canvas) == [chr(0x2800 | 0x01 | 0x80) + "x"]


def test_only_what_changed_is_told() -> None:
    painted = Painted()
    first, second = Canvas(60, 2, GROUND), Canvas(60, 2, GROUND)
    assert painted.show(first) == [Change(0, 0, 60), Change(1, 0, 60)]
    second.text(3, 1, "ab", INK)
    second.text(40, 1, "c", INK)
    assert painted.show(second) == [Change(1, 3, 5), Change(1, 40, 41)]
    assert painted.strips[1].text[3:5] == "ab"
    assert painted.show(second.copy()) == []
    third = second.copy()
    third.text(40, 1, "c", GROUND)
    assert painted.show(third) == [Change(1, 40, 41)], "a colour is a change, too"


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("size", [(84, 42), (80, 12), (44, 12), (40, 8), (160, 60), (36, 12)])
def test_servers_stand_inside_and_apart(count: int, size: tuple[int, int]) -> None:
    found = ring(count, *size)
    boxes = [found.box(place) for place in range(count)]
    cells = {(x + i, y + j) for x, y, w, h in boxes for i in range(w) for j in range(h)}
    assert len(cells) == sum(w * h for _, _, w, h in boxes), "two servers overlap"
    assert all(0 <= x < size[0] and 0 <= y < size[1] for x, y in cells)
    for place, (x, y, w, h) in enumerate(boxes):
        assert found.at(x + w // 2, y + h // 2) == place
    assert found.at(-1, -1) is None


def test_five_servers_are_circles_at_the_sizes_that_count() -> None:
    assert ring(5, 84, 42).rows >= 9
    assert ring(5, 80, 12).rows > CARD_ROWS


def test_messages_keep_to_their_side_of_the_road() -> None:
    found = ring(5, 84, 42)
    there, back = found.path(0, 2, 3.0), found.path(2, 0, 3.0)
    gap = math.dist((there[0].x, there[0].y), (back[1].x, back[1].y))
    assert gap == pytest.approx(6.0)


def test_a_rim_begins_at_the_top_and_runs_clockwise() -> None:
    arcs = circle(9, 0, 2)
    top = min(arcs, key=lambda arc: (arc.row, abs(arc.column - 9)))
    assert min(top.turn, 1 - top.turn) < 0.05
    right = max((arc for arc in arcs if arc.row == 4), key=lambda arc: arc.column)
    assert right.turn == pytest.approx(0.25, abs=0.01)


def test_of_many_links_only_those_are_drawn_that_are_not_as_usual() -> None:
    assert len(drawn(MOST_SERVERS)) > 500
    assert not drawn(MOST_SERVERS + 1)
    shaped = drawn(MOST_SERVERS + 1, LinkChanged(ServerId(1), ServerId(6), False, 0.5))
    cut = drawn(MOST_SERVERS + 1, LinkChanged(ServerId(1), ServerId(6), True, 0.0))
    assert len(shaped) > len(cut) > 1, "a line with its mark; its ends with theirs"


def drawn(count: int, *rules: LinkChanged) -> set[tuple[int, int]]:
    """Return the cells that the links between so many servers take."""
    view = ClusterView()
    usual = [told for told in cluster(count) if not isinstance(told, tuple)]
    for number, what in enumerate([*usual, *rules], 1):
        view.apply(Event(number, 0.0, 0.0, 0, what))
    canvas = Canvas(120, 50, GROUND)
    draw_links(canvas, view, ring(count, 120, 50), Palette.of(DARK))
    rows = enumerate(canvas_text(canvas))
    return {(x, y) for y, row in rows for x, cell in enumerate(row) if cell != " "}


def test_arrows_point_where_a_message_cannot_go() -> None:
    found = ring(4, 84, 42)  # S1 above, S2 to the right, S3 below, S4 to the left
    assert [arrow(*found.path(*way)) for way in ((0, 2), (2, 0), (3, 1), (1, 3))] == list("↓↑→←")


@pytest.mark.parametrize(("share", "text"), [(0, "····"), (0.5, "██··"), (1, "████"), (2, "████")])
def test_bars(share: float, text: str) -> None:
    assert bar(share, 4) == text


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_every_text_can_be_read(theme: object) -> None:
    palette = Palette.of(theme)  # type: ignore[arg-type]
    not_text = {"line", "link"}
    names = [n for n, v in vars(Palette).items() if hasattr(v, "func") and n not in not_text]
    styles = {n: getattr(palette, n) for n in names if not n.startswith("_")}
    for term in range(TERM_COLOURS + 1):
        styles[f"term {term}"] = palette.term(term)
        styles[f"fill {term}"] = palette.fill_term(term)
    assert len(styles) > 20
    for name, style in styles.items():
        ink, ground = style.color.get_truecolor().hex, style.bgcolor.get_truecolor().hex
        assert contrast(ink, ground) >= 4.5, name


@pytest.mark.parametrize("theme", [DARK, LIGHT], ids=lambda theme: theme.name)
def test_neighbouring_terms_differ(theme: object) -> None:
    palette = Palette.of(theme)  # type: ignore[arg-type]
    for term in range(1, TERM_COLOURS + 1):
        assert palette.term(term) != palette.term(term + 1)
    assert palette.term(1) is palette.term(1 + TERM_COLOURS)


def test_the_pace_gives_way_to_a_busy_processor_and_comes_back() -> None:
    now, spent = 0.0, 0.0
    pace = Pace(clock=lambda: now, cost=lambda: spent)
    assert pace.frame() == FASTEST
    for _ in range(10):
        now, spent = now + 1.1, spent + 0.9
        slow = pace.frame()
    assert slow == SLOWEST
    for _ in range(10):
        now, spent = now + 1.1, spent + 0.1
        fast = pace.frame()
    assert fast == FASTEST


@pytest.mark.parametrize(
    ("rate", "text"), [(1, "×1"), (0.05, "×1/20"), (0.5, "×1/2"), (10, "×10"), (0.3, "×0.3")]
)
def test_rates_read_well(rate: float, text: str) -> None:
    assert rate_text(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.1504, "150 ms"), (0.0034, "3.4 ms"), (0, "0 ms"), (-1, "0 ms")]
)
def test_milliseconds_read_well(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text
