"""The arithmetic of majorities: pure functions of numbers and sets (§5.2, §5.4.2)."""

from __future__ import annotations

from collections.abc import Collection, Iterable


def majority(size: int) -> int:
    """Return how many of ``size`` servers make a majority: any two majorities share a server."""
    return size // 2 + 1


def is_quorum(members: Collection[int], agreeing: Iterable[int], quorum: int) -> bool:
    """Tell whether at least ``quorum`` of the members agree; others do not count."""
    return len(set(agreeing) & set(members)) >= quorum


def quorum_index(match_indexes: Collection[int], quorum: int) -> int:
    """Return the highest index that at least ``quorum`` of the servers have reached."""
    return sorted(match_indexes, reverse=True)[quorum - 1]
