from __future__ import annotations

import asyncio
import io
import json
import subprocess
import sys

import pytest

from raft.core.events import EntriesAppended, Role, RoleChanged, RoleReason
from raft.core.messages import Index, ServerId, Term
from raftviz.headless import FAILED, PASSED, Headless, Transcript
from raftviz.model.events import ClockChanged, RuleBroken, RuleMended, ServerExited, Warned
from raftviz.script import read_script
from tests.raftviz.fake_lab import FakeLab, Told, cluster, entries, server_state

FIVE = cluster(5, leader=2, term=3)


def leads(server: int, term: int) -> Told:
    return server, server_state(server, role=Role.LEADER, term=term)


def killed(server: int) -> ServerExited:
    return ServerExited(ServerId(server), 80 + server, "killed (SIGKILL)", expected=True)


class Play:
    """A script on a fake laboratory, and what came of it."""

    def __init__(self, script: str, *told: Told) -> None:
        self.lab = FakeLab(*(told or FIVE))
        self.words = io.StringIO()
        self.events = io.StringIO()
        transcript = Transcript(self.words, self.events)
        self.headless = Headless(self.lab, read_script(script.encode(), 5), transcript)

    async def run(self) -> int:
        async with asyncio.timeout(60):
            return await self.headless.play()

    @property
    def rows(self) -> list[str]:
        """The transcript without its times."""
        return [row.partition("  ")[2] for row in self.words.getvalue().splitlines()]


async def test_commands_go_to_the_lab_in_order_and_their_answers_are_shown() -> None:
    play = Play("kill 2 # now\nput x 1\nwait leader == 0")
    play.lab.react("kill 2 # now", killed(2), answer="S2 killed")
    assert await play.run() == PASSED
    assert play.lab.commands == ["kill 2 # now", "put x 1"]
    assert play.rows[:2] == ["line 1  kill 2 # now  →  S2 killed", "line 2  put x 1  →  done"]
    assert play.rows[2].startswith("line 3  wait leader == 0  →  holds after 0 ms")
    assert play.rows[3].startswith("passed · safety ✓ election ✓ append-only ")


async def test_an_answer_of_several_lines_is_shown_line_by_line() -> None:
    play = Play("links")
    play.lab.react("links", answer="S1 → S2  all: cut\nevery other link: 10 ms")
    assert await play.run() == PASSED
    assert play.rows[:3] == ["line 1  links", "  S1 → S2  all: cut", "  every other link: 10 ms"]


async def test_every_line_says_that_a_rule_is_broken_on_purpose_as_long_as_it_is() -> None:
    play = Play("break vote-twice in 2\nput x 1\nmend\nput x 2\nbreak gaps-accepted in 3")
    play.lab.react("break vote-twice in 2", RuleBroken(ServerId(2), "vote-twice"))
    play.lab.react("mend", RuleMended(ServerId(2), "vote-twice"))
    play.lab.react("break gaps-accepted in 3", RuleBroken(ServerId(3), "gaps-accepted"))
    assert await play.run() == PASSED
    assert [row for row in play.rows if "line" in row] == [
        "!broken! line 1  break vote-twice in 2  →  done",
        "!broken! line 2  put x 1  →  done",
        "line 3  mend  →  done",
        "line 4  put x 2  →  done",
        "!broken! line 5  break gaps-accepted in 3  →  done",
    ]
    assert "S2 breaks a rule of Raft on purpose from here on: vote-twice" in play.rows[0]
    assert play.rows[-1].endswith(" · BROKEN ON PURPOSE: gaps-accepted in S3")
    lines = [json.loads(line) for line in play.events.getvalue().splitlines()]
    broken = [line.get("broken") for line in lines if line["event"]["type"] == "CommandGiven"]
    assert broken == [
        *({"S2": ["vote-twice"]}, {"S2": ["vote-twice"]}, None, None),
        {"S3": ["gaps-accepted"]},
    ]


async def test_an_expectation_sees_what_the_command_before_it_caused() -> None:
    play = Play("kill leader\nexpect !s2.alive\nexpect leader == 0")
    play.lab.react("kill leader", killed(2))
    assert await play.run() == PASSED


async def test_nothing_is_judged_before_the_laboratory_has_told_of_itself() -> None:
    play = Play("expect leader == 2", Warned("the disk is slow"))
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    play.lab.feed(*FIVE)
    assert await playing == PASSED


async def test_a_failed_expectation_ends_the_play_and_says_what_was_seen() -> None:
    play = Play("expect leader == 2\nexpect leader == 4 && term > 2\nkill 1")
    assert await play.run() == FAILED
    assert play.rows == [
        "line 1  expect leader == 2  →  holds",
        "line 2  expect leader == 4 && term > 2  →  FAILED",
        "  expected: leader == 4 && term > 2",
        "  seen: leader = 2, term = 3",
        "FAILED · safety ✓ election ✓ append-only ✓ matching ✓ completeness ✓ machine",
    ]
    assert play.lab.commands == []


async def test_a_refused_command_ends_the_play() -> None:
    play = Play("restart 2\nkill 1")
    play.lab.react("restart 2", ok=False, answer="S2 is not dead")
    assert await play.run() == FAILED
    assert play.rows[0] == "line 1  restart 2  →  REFUSED: S2 is not dead"
    assert play.lab.commands == ["restart 2"]


async def test_an_expectation_waits_for_its_time() -> None:
    play = Play("expect leader == 4 within 60s")
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    play.lab.feed(leads(4, 4))
    assert await playing == PASSED
    assert "holds after" in play.rows[0]


async def test_an_expectation_waits_no_longer_than_its_time() -> None:
    play = Play("expect leader == 4 within 20ms")
    assert await play.run() == FAILED
    assert play.rows[1:3] == ["  expected within 20ms: leader == 4", "  seen: leader = 2"]


async def test_what_held_for_one_event_only_was_seen() -> None:
    """Events come in batches; a condition is judged after each single one."""
    play = Play("expect leader == 4 within 60s")
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    steps_down = RoleChanged(Role.FOLLOWER, Term(5), RoleReason.HIGHER_TERM)
    play.lab.feed(leads(4, 4), (4, steps_down))
    assert await playing == PASSED


async def test_time_is_the_clusters_time() -> None:
    """An hour of the cluster's time passes at once, at a rate that no laboratory has."""
    fast: list[Told] = [*FIVE, ClockChanged(0.0, 0.0, 1e9)]
    play = Play("wait 3600s\nexpect leader == 4 within 3600s", *fast)
    assert await play.run() == FAILED
    assert play.rows[0] == "line 1  wait 3600s"


@pytest.mark.parametrize("script", ["wait 20ms", "expect leader == 4 within 20ms"])
async def test_frozen_time_hangs_no_script(script: str) -> None:
    play = Play(script, *FIVE, ClockChanged(1.0, 0.0, 0.0))
    assert await play.run() == (PASSED if script.startswith("wait") else FAILED)


async def test_slow_time_is_waited_for_longer() -> None:
    """20 s at a rate of 1/1000 are hours; only the event that comes can end the wait."""
    play = Play("expect leader == 4 within 20s", *FIVE, ClockChanged(1.0, 0.0, 0.001))
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    assert not playing.done()
    play.lab.feed(leads(4, 4))
    assert await playing == PASSED


async def test_a_clock_that_changes_while_a_script_waits() -> None:
    play = Play("wait 3600s", *FIVE, ClockChanged(1.0, 0.0, 0.001))
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    play.lab.feed(ClockChanged(1.0, 0.0, 1e9))
    assert await playing == PASSED


@pytest.mark.parametrize("within", ["", " within 60s"])
async def test_a_condition_that_turns_out_senseless_fails_with_the_reason(within: str) -> None:
    play = Play(f"put x 1\nexpect s1.log[0].term > 'x'{within}")
    play.lab.react("put x 1", (1, EntriesAppended(Index(1), entries(3))))
    assert await play.run() == FAILED
    assert "FAILED: column 1: this puts together what does not fit" in play.rows[1]


async def test_broken_safety_fails_a_script_whose_expectations_hold() -> None:
    play = Play("timeout 4\nexpect leader != 0")
    play.lab.react("timeout 4", leads(4, 3))
    assert await play.run() == FAILED
    assert "Election Safety is violated: S2 and S4 both lead term 3" in play.rows
    assert play.rows[-1].startswith("FAILED · safety ✗ election ✓ append-only")


async def test_what_is_wrong_with_the_lab_is_said() -> None:
    crash = ServerExited(ServerId(3), 83, "exit status 3: the disk is full", expected=False)
    play = Play("expect alive == 4", *FIVE, Warned("a viewer was let go"), crash, killed(5))
    assert await play.run() == FAILED
    assert play.rows[:2] == [
        "warning: a viewer was let go",
        "S3 died by itself: exit status 3: the disk is full",
    ]


async def test_a_lab_that_ends_fails_the_script() -> None:
    play = Play("wait leader == 4 within 3600s")
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    play.lab.end()
    assert await playing == FAILED
    assert play.rows == ["the laboratory ended by itself"]


async def test_every_event_is_one_line_of_json() -> None:
    play = Play("kill 2")
    play.lab.react("kill 2", killed(2))
    await play.run()
    events = [json.loads(row) for row in play.events.getvalue().splitlines()]
    assert [event["sequence"] for event in events] == list(range(1, len(FIVE) + 3))
    assert [event["event"]["type"] for event in events[-2:]] == ["ServerExited", "CommandGiven"]


async def test_foreign_text_is_obeyed_by_no_terminal() -> None:
    play = Play("get x")
    play.lab.react("get x", answer="\x1b]0;title\x07")
    await play.run()
    assert "\x1b" not in play.words.getvalue()
    assert r"\x1b]0;title\x07" in play.words.getvalue()


async def test_an_interrupted_play_leaves_nothing_running() -> None:
    play = Play("wait 3600s")
    playing = asyncio.create_task(play.run())
    await play.lab.all_read()
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert len(asyncio.all_tasks()) == 1


async def test_a_reader_that_went_away_ends_the_play() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    lab = FakeLab(*FIVE)
    headless = Headless(lab, read_script(b"wait 3600s", 5), Transcript(io.StringIO(), Gone()))
    with pytest.raises(BrokenPipeError):
        await headless.play()


def test_headless_code_never_loads_textual() -> None:
    """Playing a script too, which loads more than the import of the module."""
    code = (
        "import asyncio, io, sys\n"
        "from raftviz.headless import Headless, Transcript\n"
        "from raftviz.script import read_script\n"
        "from tests.raftviz.fake_lab import FakeLab, cluster\n"
        "async def play():\n"
        "    lab = FakeLab(*cluster(5, leader=2, term=3))\n"
        "    lines = read_script(b'kill 1\\nexpect leader == 2 within 9s', 5)\n"
        "    return await Headless(lab, lines, Transcript(io.StringIO())).play()\n"
        "assert asyncio.run(play()) == 0\n"
        "import raftviz.cli, raftviz.script\n"
        "assert 'cel' in sys.modules\n"
        "assert 'textual' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
