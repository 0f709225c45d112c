"""The arithmetic of majorities: pure functions of numbers and sets (§5.2, §5.4.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

Number = TypeVar("Number", int, float)


def majority(size: int) -> int:
    """Return how many of ``size`` servers make a majority: any two majorities share a server."""
    return size // 2 + 1


def is_quorum(members: Collection[int], agreeing: Iterable[int], quorum: int) -> bool:
    """Tell whether at least ``quorum`` of the members agree; others do not count."""
    return len(set(agreeing) & set(members)) >= quorum


def quorum_value(values: Collection[Number], quorum: int) -> Number:
    """Return the highest value that at least ``quorum`` of the values reach."""
    return sorted(values, reverse=True)[quorum - 1]
