"""Fixtures for tests of the library."""

from __future__ import annotations

from collections.abc import AsyncIterator
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
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client give up a server quickly."""
    monkeypatch.setattr(asking, "PATIENCE", 0.05)
