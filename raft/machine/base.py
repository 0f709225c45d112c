"""What the log is for: a state machine, the same on every server (§2)."""

from __future__ import annotations

from typing import Protocol


class StateMachine(Protocol):
    """Turns commands into state; an application brings its own.

    It must be deterministic: the same commands in the same order give the same state and the
    same answers on every server, so no clock, no randomness, no order of a set. Commands come
    from clients and may be any bytes, empty ones too: a command that makes no sense is
    answered, not raised. What a method raises ends the server, because it can neither skip a
    committed command nor go on without it.
    """

    def check(self, command: bytes) -> str | None:
        """Say why ``command`` must not enter the log, or None if it may.

        Asked by the leader before it appends. A command that is refused here may reach
        ``apply`` all the same, from a leader that runs another version.
        """

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a committed command, the entry at ``index``, and return the answer."""

    def query(self, query: bytes) -> bytes:
        """Answer from the present state without changing it."""

    def snapshot(self) -> bytes:
        """Return the whole state.

        Called in a thread of its own. Nothing is applied or restored meanwhile, but queries may
        be answered.
        """

    def restore(self, snapshot: bytes) -> None:
        """Replace the whole state by one that ``snapshot`` returned."""
