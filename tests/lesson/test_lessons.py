"""Every lesson is played to its end on real servers, and every step is reached from anywhere."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from raft.core.messages import AppendEntriesReply, Mismatch
from raftviz import lesson
from raftviz.lab.api import LabClient, LabOptions
from raftviz.lesson import LessonRun
from raftviz.model.events import Event, MessageSent
from raftviz.model.view import ClusterView


@asynccontextmanager
async def reading(
    name: str, saw: Callable[[Event], None] = lambda event: None
) -> AsyncIterator[LessonRun]:
    """A lesson on a laboratory of its own; ``saw`` is told every event."""
    read = lesson.load(name)
    lab = await LabClient.spawn(LabOptions(servers=read.servers))
    view = ClusterView()
    run = LessonRun(read, lab, view)

    async def fold() -> None:
        while events := await lab.next_events():
            for event in events:
                view.apply(event)
                saw(event)
            run.view_changed()

    folding = asyncio.create_task(fold())
    try:
        yield run
    finally:
        await lab.close()
        await folding


@pytest.mark.parametrize("name", lesson.names())
async def test_a_lesson_is_played_to_its_end(name: str) -> None:
    async with reading(name) as run:
        for index, step in enumerate(run.lesson.steps):
            await run.go(index)
            assert not run.goal_met, f"{step.title}: reached before anybody did anything"
            await run.solve()
        assert run.done == set(range(len(run.lesson.steps)))


@pytest.mark.slow
@pytest.mark.parametrize("name", lesson.names())
async def test_any_step_can_follow_any_other(name: str) -> None:
    """Each step is left as its scene made it: servers dead or paused, links cut, time frozen."""
    async with reading(name) as run:
        last = len(run.lesson.steps) - 1
        await run.go(last)
        while run.index > 0:
            await run.back()
            assert run.ready
        jumps = random.Random(7)
        for _ in range(5):
            left_early = asyncio.create_task(run.go(jumps.randint(0, last)))
            await asyncio.sleep(0)
            await run.go(jumps.randint(0, last))
            await left_early
            assert run.ready
        await run.solve()
        assert run.goal_met


async def test_one_refusal_is_enough_as_the_lesson_says() -> None:
    refused: list[Mismatch] = []

    def saw(event: Event) -> None:
        reply = event.what.message if isinstance(event.what, MessageSent) else None
        if isinstance(reply, AppendEntriesReply) and isinstance(reply.outcome, Mismatch):
            refused.append(reply.outcome)

    async with reading("replication", saw) as run:
        titles = [step.title for step in run.lesson.steps]
        await run.go(titles.index("One refusal for a whole term"))
        refused.clear()
        await run.solve()
    # The same refusal again would be the answer to a heartbeat that was already under way.
    assert len({(refusal.prev_log_index, refusal.first_index) for refusal in refused}) == 1
