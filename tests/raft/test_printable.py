"""Nothing that a terminal obeys, hides or cannot know passes the sanitiser."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raft.printable import MAX_MARKS, printable

ANY_TEXT = st.text(st.characters(exclude_categories=()))
NASTY = st.text(
    st.sampled_from(
        "ab\\ \x00\x07\x1b\x7f\x85\x9b\u0301\u200e\u202e\u2066\u2028\ud800\ue000\ufe0f…◌"
    )
)
FORBIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def is_safe(text: str) -> bool:
    return all(unicodedata.category(character) not in FORBIDDEN_CATEGORIES for character in text)


@given(ANY_TEXT | NASTY | st.binary(), st.none() | st.integers(0, 30))
@example("\x1b]52;c;cGF5bG9hZA==\x1b\\", None)
@example(b"\x9b31m", 3)
def test_nothing_obeyed_survives(value: str | bytes, limit: int | None) -> None:
    shown = printable(value, limit)
    assert is_safe(shown)
    shown.encode("utf-8")


@given(NASTY | ANY_TEXT | st.binary(), st.none() | st.integers(0, 30))
def test_twice_is_once(value: str | bytes, limit: int | None) -> None:
    once = printable(value, limit)
    assert printable(once, limit) == once


@given(NASTY | ANY_TEXT, st.integers(0, 30))
def test_the_limit_holds_and_what_was_cut_is_marked(value: str, limit: int) -> None:
    whole, short = printable(value), printable(value, limit)
    assert len(short) <= limit
    if len(whole) <= limit:
        assert short == whole
    elif limit > 0:
        assert short.endswith("…")
        assert whole.startswith(short[:-1])


@pytest.mark.parametrize("plane", range(17))
def test_every_character_there_is(plane: int) -> None:
    whole_plane = "".join(map(chr, range(plane * 0x10000, (plane + 1) * 0x10000)))
    assert is_safe(printable(whole_plane))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x=1", "x=1"),
        ("", ""),
        ("ключ 鍵 מפתח é", "ключ 鍵 מפתח é"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x7f\x85\x9b", r"\x7f\x85\x9b"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u200bb\u061c\u2029", r"a\u200bb\u061c\u2029"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("hangul\u3164filler", r"hangul\u3164filler"),
        (b"\xff\xfe", r"\xff\xfe"),
        ("é".encode(), "é"),
        ("[bold]not markup[/]", "[bold]not markup[/]"),
        ("\u0301x", "◌\u0301x"),
    ],
)
def test_by_example(value: str | bytes, shown: str) -> None:
    assert printable(value) == shown


def test_marks_piled_high_are_capped() -> None:
    assert printable("z" + "\u0301" * 500 + "!") == "z" + "\u0301" * MAX_MARKS + "…!"


def test_a_cut_never_leaves_half_of_an_escaped_form() -> None:
    assert printable("ab\x1bcd", 5) == "ab…"
    assert printable("ab\x1bcd", 7) == r"ab\x1b…"
    assert printable("ab\x1bcd", 8) == r"ab\x1bcd"
