"""Which cases of a test are run every time."""

from collections.abc import Iterable
from typing import Any

import pytest


def few(cases: Iterable[Any], count: int) -> list[Any]:
    """Return the first ``count`` cases as they are, and the others for the slow run."""
    return [
        pytest.param(case, marks=() if number < count else pytest.mark.slow)
        for number, case in enumerate(cases)
    ]
