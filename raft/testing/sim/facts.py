"""What is known of simulated servers, and what a broken promise is.

:class:`Facts` is what is known of one server, from what it told of itself, independently of
what its core believes.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field

from raft.core.events import Role
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, Index, ServerId, Term
from raft.core.value import value
from raft.storage.base import LogStore
from raft.testing.safety import SafetyViolation
from raft.testing.sim.chains import EMPTY, Prefix


class Violation(SafetyViolation):
    """A promise is broken; ``invariant`` names it."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant


@value
class Save:
    """What a store is asked to keep."""

    hard_state: HardState | None
    first_index: Index
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None

    def to(self, store: LogStore) -> None:
        """Do it. Raises StorageError."""
        store.save(self.hard_state, self.first_index, self.entries, self.snapshot)


class Harm(enum.Enum):
    """What happened to a disk that no disk may do."""

    NONE = enum.auto()
    """Crashes and power cuts at most."""
    NOTICED = enum.auto()
    """A bit flipped: a store must refuse, or find what was there."""
    UNNOTICED = enum.auto()
    """What is lost may look as if it had never been synced: a store may find an older state."""


@dataclass(slots=True)
class Facts:
    """What one server has told of itself. Lists of prefixes are by index, from 0."""

    server: ServerId
    chain: list[Prefix] = field(default_factory=lambda: [EMPTY])
    """Its log, since the beginning of time: what it compacted away included."""
    durable: list[Prefix] = field(default_factory=lambda: [EMPTY])
    """Its log as it would be found after a crash."""
    hard_state: HardState = field(default_factory=HardState)
    """On its disk."""
    configurations: list[tuple[Index, Configuration]] = field(default_factory=list)
    term: Term = Term(0)
    role: Role = Role.FOLLOWER
    commit: Index = Index(0)
    applied: Index = Index(0)
    reads: dict[int, Index] = field(default_factory=dict)
    patient: bool = False
    """When it was asked for a vote last, it had another leader."""
    sent_back: Counter[tuple[ServerId, Term]] = field(default_factory=Counter)
    """How often a follower sent it back in a term that it led."""
    transfer_ended_at: Index | None = None
    """Where its log ended when it gave up to hand over leadership; None while it does so."""

    @property
    def configuration(self) -> Configuration:
        """The configuration that counts: the latest in the log."""
        return self.configurations[-1][1]

    def may_count(self, commit: Index) -> list[Configuration]:
        """Return the configurations that may count when entries behind ``commit`` are lost."""
        later = sum(index > commit for index, _ in self.configurations)
        return [configuration for _, configuration in self.configurations[-later - 1 :]]
