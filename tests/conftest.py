"""What all tests share: properties without a stopwatch, and no process left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import settings

# The machine is shared: how long an example took says nothing about the code.
settings.register_profile("raftviz", deadline=None, print_blob=True)
settings.load_profile("raftviz")

# Hundreds of processes are started, most of them servers: each would compile the same again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.fixture(scope="session", autouse=True)
def no_process_left_behind() -> Iterator[None]:
    """Whatever the tests started is gone when they end."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    _, alive = psutil.wait_procs(left, timeout=5)
    assert alive == [], f"still running: {[process.cmdline() for process in alive]}"
