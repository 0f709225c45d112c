"""A lesson's steps on a laboratory without processes: order, judging, and going anywhere."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from raft.core.messages import Index, RequestVote, ServerId, Term
from raftviz.lesson import Lesson, LessonRun, SceneError, Step
from raftviz.lesson import run as engine
from raftviz.model.events import (
    ClockChanged,
    Happening,
    LinkChanged,
    MessageHeld,
    MessageSent,
    ServerExited,
    ServerPaused,
    ServerResumed,
)
from raftviz.model.view import ClusterView
from tests.raftviz.fake_lab import FakeLab, Stream, Told, cluster, entries, server_state, spawned

WHOLE = ["rate 1"]
LOG = entries(1)

PLAIN = Step("Plain", "Nothing to do.")
KILL = Step(
    "Kill",
    "Kill S1.",
    scene=("put x 1", "put y 2"),
    goal="alive < start.alive",
    solution=("kill 1",),
)


def exited(server: int) -> ServerExited:
    return ServerExited(ServerId(server), 80 + server, "killed (SIGKILL)", expected=True)


def restarted(server: int) -> list[Told]:
    follows = server_state(server, term=1, leader=1, log=LOG, commit=1)
    return [spawned(server), (server, follows)]


def states(*, leader: int, term: int) -> list[Told]:
    """All servers follow that leader, whose empty entry they have."""
    told = cluster(3, leader=leader, term=term, log=entries(1, term))
    return [one for one in told if isinstance(one, tuple)]


class Stage:
    """A fake laboratory, its view, and a lesson running on it."""

    def __init__(self, *steps: Step, told: list[Told] | None = None, rate: float = 0.1) -> None:
        self.lab = FakeLab(*(told or cluster(3, leader=1, term=1, log=LOG)))
        self.view = ClusterView()
        self.run = LessonRun(Lesson("test", "Test", 3, rate, steps), self.lab, self.view)
        self.fold = asyncio.Event()
        self.fold.set()
        self.pump = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        while events := await self.lab.next_events():
            await self.fold.wait()
            for event in events:
                self.view.apply(event)
            self.run.view_changed()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let everything happen that waits for nothing."""
        for _ in range(100):
            await asyncio.sleep(0)

    async def tell(self, *told: Told) -> None:
        """Let these happen, and wait until they are seen."""
        self.lab.feed(*told)
        await self.until(lambda: self.view.sequence == self.lab.sequence)
        await self.settle()


@pytest.fixture
async def stages() -> AsyncIterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(*steps: Step, **options: object) -> Stage:
        made.append(Stage(*steps, **options))
        return made[-1]

    yield make
    for stage in made:
        await stage.lab.close()
        await stage.pump


async def test_a_scene_is_set_on_a_whole_cluster_at_real_time(stages) -> None:
    stage = stages(PLAIN, KILL)
    await stage.run.go(1)
    assert stage.lab.commands == [*WHOLE, "put x 1", "put y 2", "rate 1/10"]
    assert stage.run.step is KILL
    assert stage.run.progress == "step 2 of 2"
    assert stage.run.ready


async def test_what_the_reader_broke_is_mended_first(stages) -> None:
    stage = stages(PLAIN)
    await stage.run.go(0)
    stage.lab.commands.clear()
    cut = LinkChanged(ServerId(1), ServerId(2), True, 0.010)
    slow = LinkChanged(ServerId(2), ServerId(3), False, 0.200)
    await stage.tell(exited(2), ServerPaused(ServerId(3)), cut, slow)
    stage.lab.react("resume 3", ServerResumed(ServerId(3)))
    stage.lab.react("restart 2", *restarted(2))
    await stage.run.go(0)
    mending = ["heal all", "delay 10ms", "resume 3", "restart 2"]
    assert stage.lab.commands == ["rate 1", *mending, "rate 1/10"]


@pytest.mark.parametrize(
    ("left", "mending"),
    [
        (LinkChanged(ServerId(1), ServerId(2), False, 0.010, loss=0.1), "heal all"),
        (LinkChanged(ServerId(0), ServerId(2), True, 0.0), "heal all"),
        (MessageHeld(7), "release all"),
    ],
    ids=["a lossy link", "a client's link", "a held message"],
)
async def test_what_the_reader_did_to_the_network_is_undone(
    stages, left: Happening, mending: str
) -> None:
    stage = stages(PLAIN)
    await stage.run.go(0)
    stage.lab.commands.clear()
    vote = RequestVote(ServerId(1), ServerId(2), Term(1), Index(0), Term(0))
    await stage.tell(MessageSent(7, vote, 9.0), left)
    await stage.run.go(0)
    assert stage.lab.commands == ["rate 1", mending, "rate 1/10"]


async def test_the_delay_that_the_laboratory_began_with_is_no_fault(stages) -> None:
    slow = [LinkChanged(ServerId(a), ServerId(3 - a), False, 0.050) for a in (1, 2)]
    stage = stages(PLAIN, told=[*cluster(2, leader=1, term=1, log=LOG), *slow])
    await stage.run.go(0)
    assert stage.lab.commands == [*WHOLE, "rate 1/10"]


@pytest.mark.parametrize("log", [(), LOG], ids=["log behind", "not applied"])
async def test_a_scene_begins_when_all_have_applied_the_same_log(stages, log) -> None:
    stage = stages(PLAIN)
    await stage.tell(exited(2))
    behind = server_state(2, term=1, leader=1, log=log, commit=0)
    stage.lab.react("restart 2", spawned(2), (2, behind))
    going = asyncio.create_task(stage.run.go(0))
    await stage.until(lambda: "restart 2" in stage.lab.commands)
    await stage.settle()
    assert not stage.run.ready
    await stage.tell((2, server_state(2, term=1, leader=1, log=LOG, commit=1)))
    await going
    assert stage.run.ready


async def test_a_leader_that_has_not_begun_its_term_is_waited_for(stages) -> None:
    stage = stages(PLAIN, told=cluster(3, leader=1, term=2, log=LOG))
    going = asyncio.create_task(stage.run.go(0))
    await stage.settle()
    assert stage.lab.commands == ["rate 1"]
    assert not stage.run.ready
    await stage.tell(*states(leader=1, term=2))
    await going


async def test_a_step_says_who_shall_lead(stages) -> None:
    stage = stages(replace(PLAIN, leader=ServerId(2)))
    stage.lab.react("timeout 2", *states(leader=2, term=2))
    await stage.run.go(0)
    assert stage.lab.commands == [*WHOLE, "timeout 2", "rate 1/10"]


async def test_a_server_that_is_never_elected_is_given_up(stages) -> None:
    stage = stages(replace(PLAIN, leader=ServerId(2)))
    with pytest.raises(SceneError, match="step 1 of 1: S2 was not elected"):
        await stage.run.go(0)


async def test_a_scene_that_stops_time_keeps_it_so(stages) -> None:
    stage = stages(replace(PLAIN, scene=("freeze",)))
    await stage.run.go(0)
    assert stage.lab.commands == [*WHOLE, "freeze"]


async def test_a_scene_waits_for_its_condition(stages) -> None:
    stage = stages(replace(PLAIN, scene=("kill 1", "wait alive == 2 within 20s", "heal")))
    going = asyncio.create_task(stage.run.go(0))
    await stage.settle()
    assert stage.lab.commands[-1] == "kill 1"
    await stage.tell(exited(1))
    await going
    assert stage.lab.commands[-2:] == ["heal", "rate 1/10"]


async def test_a_wait_that_fails_names_its_line(stages) -> None:
    stage = stages(replace(PLAIN, scene=("wait alive == 1 within 1ms",)))
    with pytest.raises(SceneError, match="`wait alive == 1 within 1ms` did not come true"):
        await stage.run.go(0)


async def test_a_wait_in_frozen_time_is_refused(stages, monkeypatch) -> None:
    monkeypatch.setattr(engine, "FROZEN_PATIENCE", 0.01)
    stage = stages(replace(PLAIN, scene=("freeze", "wait 1s")))
    stage.lab.react("freeze", ClockChanged(5.0, 0.0, 0.0))
    with pytest.raises(SceneError, match="`wait 1s` waits for ever: time is frozen"):
        await stage.run.go(0)


async def test_a_wait_for_a_time_takes_it(stages) -> None:
    stage = stages(replace(PLAIN, scene=("wait 20ms",)))
    await stage.tell()
    before = asyncio.get_running_loop().time()
    await stage.run.go(0)
    assert asyncio.get_running_loop().time() - before >= 0.02


async def test_a_refused_command_names_itself_and_the_reason(stages) -> None:
    stage = stages(KILL)
    stage.lab.react("put y 2", ok=False, answer="there is no disk")
    with pytest.raises(SceneError, match="step 1 of 1: `put y 2` was refused: there is no disk"):
        await stage.run.go(0)
    assert not stage.run.ready


async def test_a_goal_counts_from_when_its_scene_is_set(stages) -> None:
    dies = replace(KILL, scene=("kill 2", "restart 2"))
    stage = stages(dies)
    stage.lab.react("kill 2", exited(2))
    stage.lab.react("restart 2", *restarted(2))
    await stage.run.go(0)
    assert not stage.run.goal_met
    await stage.tell(exited(2))
    assert stage.run.goal_met
    assert stage.run.done == {0}


async def test_what_the_scene_caused_is_part_of_the_start(stages) -> None:
    """The view may be folded later than the answer comes: the start waits for it."""
    stage = stages(replace(KILL, scene=("kill 2",)))
    stage.lab.react("kill 2", exited(2))
    going = asyncio.create_task(stage.run.go(0))
    await stage.until(lambda: "rate 1" in stage.lab.commands)
    stage.fold.clear()
    await stage.settle()
    assert "rate 1/10" not in stage.lab.commands
    stage.fold.set()
    await going
    assert not stage.run.goal_met


async def test_a_goal_that_was_met_stays_met(stages) -> None:
    stage = stages(KILL)
    await stage.run.go(0)
    await stage.tell(exited(1))
    await stage.tell(*restarted(1))
    assert stage.run.goal_met


async def test_going_again_asks_for_the_goal_again(stages) -> None:
    stage = stages(KILL)
    await stage.run.go(0)
    await stage.tell(exited(2))
    stage.lab.react("restart 2", *restarted(2))
    await stage.run.go(0)
    assert not stage.run.goal_met
    assert stage.run.done == {0}


async def test_a_goal_that_cannot_be_judged_says_so_once(stages) -> None:
    stage = stages(replace(KILL, goal='alive == 2 && leader < "S1"'))
    await stage.run.go(0)
    stage.view.apply(Stream().event(exited(2)))
    with pytest.raises(SceneError, match="cannot be judged"):
        stage.run.view_changed()
    stage.run.view_changed()
    assert not stage.run.goal_met


async def test_the_solution_leads_to_the_goal(stages) -> None:
    stage = stages(KILL)
    await stage.run.go(0)
    stage.lab.react("kill 1", exited(1))
    await stage.run.solve()
    assert stage.run.goal_met


async def test_a_solution_that_solves_nothing_says_so(stages, monkeypatch) -> None:
    monkeypatch.setattr(engine, "FROZEN_PATIENCE", 0.01)
    stage = stages(replace(KILL, scene=("freeze",)))
    stage.lab.react("freeze", ClockChanged(5.0, 0.0, 0.0))
    await stage.run.go(0)
    with pytest.raises(SceneError, match=r"`alive < start\.alive` waits for ever"):
        await stage.run.solve()


async def test_whoever_moves_on_does_not_wait(stages) -> None:
    stage = stages(replace(PLAIN, scene=("wait false within 1000s",)), PLAIN)
    first = asyncio.create_task(stage.run.go(0))
    await stage.until(lambda: len(stage.lab.commands) == len(WHOLE))
    await stage.run.next()
    await first
    assert stage.run.index == 1
    assert stage.run.ready
    assert stage.lab.commands == [*WHOLE, *WHOLE, "rate 1/10"]


async def test_a_reader_who_leaves_stops_the_scene(stages) -> None:
    stage = stages(replace(PLAIN, scene=("wait alive == 2 within 1000s", "kill 1")))
    going = asyncio.create_task(stage.run.go(0))
    await stage.settle()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    await stage.tell(exited(3))
    assert not stage.run.ready
    assert stage.lab.commands == WHOLE


async def test_next_and_back_stop_at_the_ends(stages) -> None:
    stage = stages(PLAIN, KILL)
    await stage.run.back()
    assert stage.run.index == 0
    await stage.run.next()
    commands = list(stage.lab.commands)
    await stage.run.next()
    assert (stage.run.index, stage.lab.commands) == (1, commands)
    await stage.run.back()
    assert stage.run.progress == "step 1 of 2"


async def test_there_are_only_its_own_steps(stages) -> None:
    stage = stages(PLAIN)
    for index in (-1, 1):
        with pytest.raises(IndexError):
            await stage.run.go(index)
