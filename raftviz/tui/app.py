"""Starts the explorer and ends it, with everything that belongs to it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raft.printable import printable
from raftviz.lab.api import LabClient, LabError, LabOptions

if TYPE_CHECKING:
    from raftviz.lesson import Lesson
    from raftviz.tui.explorer import Explorer

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(options: LabOptions, lesson: str | None = None) -> int:
    """Show a laboratory on this terminal until the user leaves; return the exit status.

    With a lesson the laboratory has the lesson's servers. All processes that were started are
    gone on return, however the explorer ended.
    """
    found = None
    if lesson is not None:
        from raftviz.lesson import LessonError, load

        try:
            found = load(lesson)
        except LessonError as error:
            print(printable(str(error)), file=sys.stderr)
            return 2
        options = replace(options, servers=found.servers)
    return asyncio.run(_explore(LabClient.spawn(options), found))


def attach(socket: Path, *, watching: bool = False) -> int:
    """Show a laboratory that somebody else started, as ``run`` does; it goes on without us."""
    return asyncio.run(_explore(LabClient.attach(socket, watching=watching), None))


async def _explore(start: Coroutine[Any, Any, LabClient], lesson: Lesson | None) -> int:
    lab = asyncio.create_task(start)
    # Its process starts before the screen is loaded: both take a while, and at the same time.
    await asyncio.sleep(0)
    from raftviz.tui.explorer import Explorer
    from raftviz.tui.pace import Pace

    explorer = Explorer(lab, lesson, pace=Pace())
    try:
        with _ended_by_signals(explorer):
            await explorer.run_async()
    finally:
        await _close(lab)
    if explorer.seen.ended is not None:
        print(f"the laboratory ended: {printable(explorer.seen.ended)}", file=sys.stderr)
    return explorer.return_code or 0


async def _close(lab: asyncio.Task[LabClient]) -> None:
    """Close the laboratory, also one that has not quite started or could not."""
    with suppress(LabError):
        await (await lab).close()


@contextmanager
def _ended_by_signals(explorer: Explorer) -> Iterator[None]:
    """Let signals end the explorer as its user would: the terminal is put in order again."""
    loop = asyncio.get_running_loop()
    for number in ENDING:
        loop.add_signal_handler(number, explorer.end)
    try:
        yield
    finally:
        for number in ENDING:
            loop.remove_signal_handler(number)
