"""The replicated log as the core sees it (§5.3).

Indexes start at 1; index 0 is the place before the first entry and has term 0. The whole log
is in memory here; a store keeps the durable copy (``raft.storage``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raft.core.messages import AppendEntries, Entry, Index, ServerId, Term


class InvariantViolation(Exception):
    """The core is in a state that Raft proves impossible. Stop, and read the dump."""


@dataclass(frozen=True, slots=True)
class HardState:
    """currentTerm and votedFor: one value, because they must reach the disk as one (§5.2)."""

    term: Term = Term(0)
    voted_for: ServerId | None = None
