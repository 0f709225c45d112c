"""Fixtures for tests of the library."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from raft import asking
from tests.raft.cluster import RealCluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RealCluster]:
    """Three real servers, started; killed at the end, and no traceback in what they wrote."""
    async with RealCluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[RealCluster]:
    """One real server that needs no other, for what takes no majority to show."""
    async with RealCluster(tmp_path, 1) as cluster:
        yield cluster


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client give up a server quickly."""
    monkeypatch.setattr(asking, "PATIENCE", 0.05)


@pytest.fixture
async def cleanup() -> AsyncIterator[contextlib.AsyncExitStack]:
    """Take what is to be closed; at the end of the test all of it is, and every task over."""
    async with contextlib.AsyncExitStack() as stack:
        yield stack
    # Closing takes one more turn of the loop, and every transport says when it is closed.
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


@pytest.fixture
def mute() -> Iterator[str]:
    """Listen like a paused process: the kernel accepts connections, and nobody reads them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
