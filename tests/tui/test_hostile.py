"""Keys, values and words from anywhere reach the screen as letters, never as orders."""

from __future__ import annotations

import unicodedata

import pytest
from textual.pilot import Pilot

from raft.core.events import Applied, CommitAdvanced, EntriesAppended
from raft.core.messages import AppendEntries, Entry, EntryKind, Index, ServerId, Term
from raft.machine.kv import Put, encode_command
from raftviz.lesson import Lesson, Question, Step
from raftviz.model.events import (
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    ServerExited,
    Warned,
)
from tests.raftviz.fake_lab import FakeLab
from tests.tui.harness import NARROW, WIDE, explorer, lab_of, show, text_of
from tests.tui.scenes import AT, replication

HOSTILE = [
    b"\x1b]52;c;aGk=\x1b\\",
    b"\x1b[2J\x1b[H",
    b"\x00\x07\x08\x7f\r\n\t",
    "\x9b31m\x90q\x9c".encode(),
    "‮evil‬⁦⁩".encode(),
    "​﻿ᅟㅤ".encode(),
    b"[@click=app.exit()]click[/]",
    b"[bold red]x[/bold]",
    b"[/]",
    b"\\[",
    b"\xff\xfe\xc3",
    "漢字がはみ出す".encode(),
    ("e" + "́" * 50).encode(),
    b"A" * 5000,
]
each = pytest.mark.parametrize("evil", HOSTILE, ids=lambda evil: ascii(evil[:12]))
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def assert_clean(pilot: Pilot[None]) -> None:
    """No rendered segment holds a character that a terminal would obey, or an action."""
    screen = pilot.app.screen
    for strip in screen._compositor.render_strips(screen.size):
        for segment in strip:
            assert segment.control is None
            bad = [c for c in segment.text if unicodedata.category(c) in UNSAFE]
            assert not bad, f"{segment.text!r}"
            if segment.style is not None:
                assert "@click" not in segment.style.meta
        assert strip.cell_length == screen.size.width, f"{strip.text!r}"


def poisoned() -> FakeLab:
    lab = lab_of(replication())
    for number, evil in enumerate(HOSTILE):
        short = evil[:100]
        entry = Entry(Term(3), EntryKind.COMMAND, encode_command(Put(short, evil)))
        raw = Entry(Term(3), EntryKind.COMMAND, evil)
        index = Index(9 + 2 * number)
        send = AppendEntries(ServerId(2), ServerId(3), Term(3), index, Term(3), (entry,), index)
        words = evil.decode("utf-8", "surrogateescape")
        lab.feed(
            (2, EntriesAppended(index, (entry, raw))),
            (2, CommitAdvanced(Index(index + 1))),
            (2, Applied(Index(index + 1))),
            MessageSent(100 + number, send, AT + 0.002 * number),
            OperationInvoked(100 + number, OperationKind.GET, short, b"", ServerId(0)),
            OperationReturned(100 + number, Outcome.OK, True, evil, words),
            Warned(words),
        )
    return lab


@pytest.mark.parametrize("size", [WIDE, NARROW, (40, 12)])
async def test_nothing_hostile_reaches_the_terminal(size: tuple[int, int]) -> None:
    async with explorer(poisoned(), size) as pilot:
        assert_clean(pilot)
        for key in ("v", "tab", "tab", "tab", "left", "left", "up", "1", "2"):
            await pilot.press(key)
            await show(pilot)
            assert_clean(pilot)


@each
async def test_answers_are_letters(evil: bytes) -> None:
    words = evil.decode("utf-8", "surrogateescape")
    lab = lab_of(replication())
    lab.react("kill 2", ServerExited(ServerId(2), 82, words, False), answer=words)
    lab.react("kill 2", ok=False, answer=words)
    async with explorer(lab) as pilot:
        for _ in range(2):
            await pilot.press("2", "k")
            await show(pilot)
            assert_clean(pilot)
        lab.feed(Warned(words))
        lab.end()
        await show(pilot)
        assert "the laboratory ended" in text_of(pilot)
        assert_clean(pilot)


@each
async def test_what_is_pasted_into_the_command_line_is_letters(evil: bytes) -> None:
    words = evil.decode("utf-8", "surrogateescape")
    async with explorer(lab_of(replication())) as pilot:
        await pilot.press("colon")
        pilot.app.stage.line.value = f"put {words} {words}"  # type: ignore[attr-defined]
        for keys in ((), ("enter",)):
            await pilot.press(*keys)
            await show(pilot)
            assert_clean(pilot)


@each
async def test_lessons_are_letters(evil: bytes) -> None:
    words = evil.decode("utf-8", "surrogateescape")
    question = Question(words, (words, "right"), 1, words)
    steps = (
        Step(words, f"{words}\n\n# {words}\n\n- `{words}`", hints=(words,), question=question),
    )
    lesson = Lesson("evil", words, 5, 1.0, steps)
    async with explorer(lab_of(replication()), WIDE, lesson) as pilot:
        for key in ("m", "A", "j", "escape"):
            await pilot.press(key)
            await show(pilot)
            assert_clean(pilot)
    assert not pilot.app._exit or pilot.app.return_code in (None, 0)


async def test_markup_in_a_key_is_shown_as_it_is() -> None:
    evil = b"[@click=app.exit()]x[/]"
    lab = lab_of(replication())
    entry = Entry(Term(3), EntryKind.COMMAND, encode_command(Put(evil, b"[bold]")))
    lab.feed((2, EntriesAppended(Index(9), (entry,))), (2, Applied(Index(9))))
    async with explorer(lab) as pilot:
        assert f"{evil.decode()}=[bold]" in text_of(pilot)
        assert_clean(pilot)
