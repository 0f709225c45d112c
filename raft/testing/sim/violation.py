"""What is raised when a promise is broken."""

from __future__ import annotations

from raft.testing.safety import SafetyViolation


class Violation(SafetyViolation):
    """A promise is broken; ``invariant`` names it."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant = invariant
