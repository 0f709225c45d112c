"""The library on other event loops than Python's own."""

from __future__ import annotations

import asyncio
import sys

import pytest

from raft.frames import Result
from raft.loops import new_event_loop
from tests.raft.scripted import ONE, Scripted, cluster, says


async def ask() -> bytes:
    async with cluster(Scripted(ONE, says(Result(b"done")))) as raft:
        answers = await asyncio.gather(*(raft.propose(b"c") for _ in range(3)))
    assert set(answers) == {b"done"}
    return answers[0]


def test_without_uvloop_it_is_pythons_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert isinstance(runner.get_loop(), asyncio.BaseEventLoop)
        assert runner.run(ask()) == b"done"


def test_connections_work_on_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert isinstance(runner.get_loop(), uvloop.Loop)
        assert runner.run(ask()) == b"done"
