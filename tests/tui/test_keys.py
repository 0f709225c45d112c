"""Every key gives the command that one could have typed, and the screen shows it."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from raft.core.messages import ServerId
from raftviz import commands
from raftviz.model.events import ClockChanged, MessageSent, ServerExited, ServerPaused
from raftviz.tui.explorer import Explorer
from raftviz.tui.keys import KEYS
from tests.raftviz.fake_lab import FakeLab
from tests.tui.harness import NARROW, explorer, lab_of, show, text_of
from tests.tui.scenes import AT, beat, clock, frozen, replication

PLAIN = {
    "k": "kill 2",
    "r": "restart 2",
    "p": "pause 2",
    "i": "isolate 2",
    "h": "heal all",
    "t": "timeout 2",
    "space": "freeze",
    "full_stop": "step",
    "plus": "rate 1/10",
    "equals_sign": "rate 1/10",
    "minus": "rate 1/50",
}
"""What keys mean while S2 leads, nothing is selected by hand, and time runs at 1/20."""


async def press(pilot: Pilot[None], *keys: str) -> None:
    await pilot.press(*keys)
    await show(pilot)


def app_of(pilot: Pilot[None]) -> Explorer:
    assert isinstance(pilot.app, Explorer)
    return pilot.app


@pytest.mark.parametrize(("key", "command"), PLAIN.items())
async def test_a_key_gives_its_command(key: str, command: str) -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, key)
        assert lab.commands == [command]
        assert f": {command}" in text_of(pilot), "the screen does not teach the command"


def test_every_key_that_gives_a_command_is_tested() -> None:
    tested = {key for key in KEYS if PLAIN.keys() & {*key.keys}}
    assert {key for key in KEYS if key.command is not None} == tested


@pytest.mark.parametrize("command", PLAIN.values())
def test_what_keys_give_is_in_the_language(command: str) -> None:
    assert str(commands.parse(command)) == command


async def test_a_number_selects_the_server_that_keys_speak_of() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, "4", "k")
        assert "▶ S4 ◀" in text_of(pilot)
        await press(pilot, "0", "k")
        assert "▶ ★ S2 ◀" in text_of(pilot)
    assert lab.commands == ["kill 4", "kill 2"]


async def test_a_number_of_no_server_is_refused_in_words() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, "9")
        assert "there is no such server" in text_of(pilot)
        await press(pilot, "k")
    assert lab.commands == ["kill 2"], "the selection moved to a server that is not there"


async def test_pause_is_resume_for_a_paused_server() -> None:
    lab = lab_of(replication())
    lab.feed(ServerPaused(ServerId(3)))
    async with explorer(lab) as pilot:
        await press(pilot, "3")
        assert "PAUSED" in text_of(pilot)
        assert "p resume" in text_of(pilot)
        await press(pilot, "p")
    assert lab.commands == ["resume 3"]


async def test_the_space_bar_thaws_what_is_frozen() -> None:
    lab = lab_of(frozen())
    async with explorer(lab) as pilot:
        assert "❄ FROZEN" in text_of(pilot)
        await press(pilot, "space", "full_stop")
    assert lab.commands == ["thaw", "step"]


@pytest.mark.parametrize(("rate", "faster", "slower"), [(1.0, "2", "1/2"), (10.0, "10", "5")])
async def test_rates_go_up_and_down_a_ladder(rate: float, faster: str, slower: str) -> None:
    lab = lab_of([*replication(), (12.34, clock(rate))])
    async with explorer(lab) as pilot:
        await press(pilot, "plus", "minus")
    assert lab.commands == [f"rate {faster}", f"rate {slower}"]


@pytest.mark.parametrize(
    ("keys", "command"), [(("1", "x", "3"), "cut 1 3"), (("1", "X", "3"), "cut 1 -> 3")]
)
async def test_a_link_is_cut_to_the_server_named_next(keys: tuple[str, ...], command: str) -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, *keys[:2])
        assert "cut S1 from" in text_of(pilot)
        await press(pilot, keys[2])
        assert "cut S1 from" not in text_of(pilot)
    assert lab.commands == [command]


async def test_escape_gives_up_a_cut() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, "1", "x", "escape", "3")
        assert "▶ S3 ◀" in text_of(pilot)
    assert lab.commands == []


async def test_any_other_key_gives_up_a_cut() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, "1", "x", "k", "3")
        assert "▶ S3 ◀" in text_of(pilot)
    assert lab.commands == ["kill 1"]


async def test_a_server_has_no_link_to_itself() -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, "1", "x", "1")
        assert "there is no such link" in text_of(pilot)
    assert lab.commands == []


@pytest.mark.parametrize(("key", "text", "command"), [("w", "x 1", "put x 1"), ("g", "x", "get x")])
async def test_writing_and_reading_begin_a_command(key: str, text: str, command: str) -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await press(pilot, key, *("space" if c == " " else c for c in text), "enter")
    assert lab.commands == [command]


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_leaving_needs_no_second_key(key: str) -> None:
    lab = lab_of(replication())
    async with explorer(lab) as pilot:
        await pilot.press(key)
        assert app_of(pilot)._exit
    assert app_of(pilot).return_code == 0


async def test_ctrl_c_leaves_from_the_command_line_and_from_help() -> None:
    for before in ("colon", "question_mark"):
        lab = lab_of(replication())
        async with explorer(lab) as pilot:
            await pilot.press(before, "ctrl+c")
            assert app_of(pilot)._exit, f"after {before}"


async def test_tab_lets_every_panel_have_its_turn_on_a_small_screen() -> None:
    async with explorer(lab_of(replication()), NARROW) as pilot:
        seen = []
        for _ in range(4):
            seen.append(
                next(
                    t
                    for t in ("logs", "what happened", "selected server")
                    if f"─{t}─" in text_of(pilot)
                )
            )
            await press(pilot, "tab")
    assert seen == ["logs", "what happened", "selected server", "logs"]


async def test_arrows_look_at_older_entries_and_come_back() -> None:
    async with explorer(lab_of(replication())) as pilot:
        assert "3 z=7" in text_of(pilot)
        await press(pilot, "left")
        assert "3 z=7" not in text_of(pilot)
        assert "›" in text_of(pilot)
        await press(pilot, "right")
        assert "3 z=7" in text_of(pilot)


async def test_what_happened_scrolls_back_and_says_what_is_newer() -> None:
    lab = lab_of(replication())
    lab.feed(*(ServerPaused(ServerId(1 + n % 5)) for n in range(60)))
    async with explorer(lab) as pilot:
        await press(pilot, "up", "up")
        assert "↓ 2 newer" in text_of(pilot)
        lab.feed(ServerPaused(ServerId(1)))
        await show(pilot)
        assert "↓ 3 newer" in text_of(pilot), "what is read must stand still"
        await press(pilot, "down", "down", "down")
        assert "newer" not in text_of(pilot)


async def test_every_message_is_told_on_demand() -> None:
    lab = lab_of(replication())
    lab.feed(MessageSent(70, beat(2, 4, 3), AT + 0.01), at=AT)
    async with explorer(lab) as pilot:
        assert "heartbeat  " not in text_of(pilot).split("what happened")[1]
        await press(pilot, "v")
        assert "S2 → S4  AppendEntries  term 3, after 8/3, heartbeat" in text_of(pilot)


async def test_light_and_dark() -> None:
    async with explorer(lab_of(replication())) as pilot:
        dark = app_of(pilot).seen.palette.text
        await press(pilot, "l")
        assert app_of(pilot).theme == "raftviz-light"
        assert app_of(pilot).seen.palette.text != dark
        await press(pilot, "l")
        assert app_of(pilot).theme == "raftviz-dark"


async def test_keys_say_what_happened_to_the_command() -> None:
    lab = FakeLab()
    lab = lab_of(replication())
    lab.react("kill 2", ServerExited(ServerId(2), 82, "killed (SIGKILL)", True), answer="S2 killed")
    lab.react("restart 2", ok=False, answer="S2 is not dead")
    async with explorer(lab) as pilot:
        await press(pilot, "k")
        assert ": kill 2  ✓ S2 killed" in text_of(pilot)
        assert "DEAD" in text_of(pilot)
        await press(pilot, "2", "r")
        assert ": restart 2  ✗ S2 is not dead" in text_of(pilot)


async def test_the_clock_runs_by_the_frames_not_by_events() -> None:
    lab = lab_of([*replication(), (12.34, ClockChanged(12.34, -1.0, 0.5))])
    async with explorer(lab) as pilot:
        assert "00:12.840" in text_of(pilot)
