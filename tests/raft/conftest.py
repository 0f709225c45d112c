"""Fixtures for tests of the library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.raft.cluster import RealCluster


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[RealCluster]:
    """Three real servers, started; killed at the end, and no traceback in what they wrote."""
    async with RealCluster(tmp_path) as cluster:
        yield cluster
