"""One direction between two ends: its rules, its dice, and what they make of each message."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from raftviz.model.events import DropReason
from raftviz.model.link_rules import Distribution, LinkRules

REORDER_SECONDS = 0.1
"""Virtual seconds that a message comes later, at most, when others may overtake it."""


class Link:
    """The rules of one direction, for every message and for kinds that have their own.

    The dice are the link's own: what they show follows from the seed and from what was sent
    here, whatever else goes on elsewhere.
    """

    def __init__(self, normal: LinkRules, seed: str) -> None:
        self.normal = normal
        """The rules when nothing is wrong."""
        self.rules = normal
        self.by_kind: dict[str, LinkRules] = {}
        self._dice = random.Random(seed)  # noqa: S311 - chance, not secrecy
        self._last_due: dict[str, float] = {}
        self._free_at = 0.0

    @property
    def is_normal(self) -> bool:
        """Nothing is wrong with it."""
        return self.rules == self.normal and not self.by_kind

    def of(self, kind: str) -> LinkRules:
        """Return the rules for a kind of messages."""
        return self.by_kind.get(kind, self.rules) if self.by_kind else self.rules

    def change(self, kind: str = "", **changes: Any) -> bool:
        """Change rules, for all messages or for a kind; return whether that changed anything.

        What is said of all messages holds for the kinds with rules of their own, too.
        """
        before = self.rules, dict(self.by_kind)
        if kind:
            self.by_kind[kind] = replace(self.of(kind), **changes)
        else:
            self.rules = replace(self.rules, **changes)
            self.by_kind = {own: replace(r, **changes) for own, r in self.by_kind.items()}
        self.by_kind = {own: rules for own, rules in self.by_kind.items() if rules != self.rules}
        return (self.rules, self.by_kind) != before

    def heal(self, kind: str = "") -> bool:
        """Make it normal again, for all messages or for a kind; return whether that was news."""
        before = self.rules, dict(self.by_kind)
        if kind:
            self.by_kind = {**self.by_kind, kind: self.normal}
            self.by_kind = {own: r for own, r in self.by_kind.items() if r != self.rules}
        else:
            self.rules, self.by_kind = self.normal, {}
        return (self.rules, self.by_kind) != before

    def arrivals(self, kind: str, size: int, now: float) -> list[float] | DropReason:
        """Decide on a message: when it arrives, once or twice, or why never."""
        rules = self.of(kind)
        if rules.reset:
            return DropReason.LINK_RESET
        if rules.cut:
            return DropReason.LINK_CUT
        if rules.loss and self._dice.random() < rules.loss:
            return DropReason.LOSS
        due = self._due(rules, kind, size, now)
        if rules.duplication and self._dice.random() < rules.duplication:
            return [due, max(due, now + self._delay(rules))]
        return [due]

    def _due(self, rules: LinkRules, kind: str, size: int, now: float) -> float:
        if rules.bandwidth:
            self._free_at = now = max(now, self._free_at) + size / rules.bandwidth
        due = now + self._delay(rules)
        if rules.reordering and self._dice.random() < rules.reordering:
            return due + REORDER_SECONDS * self._dice.random()
        # In order, as on a connection; a kind with rules of its own is as on one of its own.
        queue = kind if kind in self.by_kind else ""
        self._last_due[queue] = due = max(due, self._last_due.get(queue, 0.0))
        return due

    def _delay(self, rules: LinkRules) -> float:
        if not rules.jitter:
            return rules.delay
        match rules.distribution:
            case Distribution.UNIFORM:
                drawn = self._dice.uniform(-rules.jitter, rules.jitter)
            case Distribution.NORMAL:
                drawn = self._dice.gauss(0.0, rules.jitter)
            case Distribution.EXPONENTIAL:
                drawn = self._dice.expovariate(1 / rules.jitter)
        return max(0.0, rules.delay + drawn)

    def hasten(self, latest: float) -> None:
        """Forget that messages were to arrive later than ``latest``: they no longer do."""
        self._last_due = {kind: min(due, latest) for kind, due in self._last_due.items()}
        self._free_at = min(self._free_at, latest)
