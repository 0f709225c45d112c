"""The server's view of an application's state machine: what fails in it is named, and fatal.

A machine that raises on a committed command raises on every server, and again after every
restart. Whoever has to repair that must learn which entry it was, and that nothing skips it.
"""

from __future__ import annotations

import contextlib
from asyncio import CancelledError
from collections.abc import Iterator

from raft.machine.base import StateMachine, StateMachineError, too_long

_FAILURE = (Exception, CancelledError)
"""What a machine may raise. One that waits for a future could be cancelled in the middle: that
would pass for the loop's own business, and the command for one that was carried out."""

_REASON = 1000
"""Characters of a refusal that reach whoever proposed."""

ADVICE = (
    "it is committed, so no server may skip it, and each fails there again when it starts: "
    "repair the state machine, on all servers alike, and start them again"
)


class Guarded:
    """A ``StateMachine`` around an application's own; all it raises is StateMachineError."""

    def __init__(self, machine: StateMachine) -> None:
        self._machine = machine

    def check(self, command: bytes) -> str | None:
        """Refuse what is too long, and what the machine refuses."""
        if (refusal := too_long(command)) is not None:
            return refusal
        # Without a context manager, here and in what follows: this is done for every entry.
        try:
            refusal = self._machine.check(command)
            if refusal is not None and not isinstance(refusal, str):
                raise _wrong("check", "a str or None", refusal)
        except _FAILURE as error:
            what = f"when it checked a command of {len(command)} bytes"
            raise StateMachineError(_said(what, error)) from error
        return refusal and refusal[:_REASON]

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a command."""
        try:
            answer = self._machine.apply(index, command)
            if not isinstance(answer, bytes):
                raise _wrong("apply", "bytes", answer)
        except _FAILURE as error:
            size = len(command)
            what = f"on entry {index}, a command of {size} bytes"
            raise StateMachineError(f"{_said(what, error)}; {ADVICE}", index, size) from error
        return answer

    def query(self, query: bytes) -> bytes:
        """Answer a query."""
        try:
            answer = self._machine.query(query)
            if not isinstance(answer, bytes):
                raise _wrong("query", "bytes", answer)
        except _FAILURE as error:
            what = f"on a query of {len(query)} bytes"
            raise StateMachineError(_said(what, error)) from error
        return answer

    def snapshot(self) -> bytes:
        """Return the machine's state."""
        with _failures("when its snapshot was taken"):
            state = self._machine.snapshot()
            if not isinstance(state, bytes):
                raise _wrong("snapshot", "bytes", state)
            return state

    def restore(self, snapshot: bytes) -> None:
        """Let the machine take over a state."""
        with _failures(f"when it was to restore a snapshot of {len(snapshot)} bytes"):
            self._machine.restore(snapshot)


@contextlib.contextmanager
def _failures(what: str) -> Iterator[None]:
    try:
        yield
    except _FAILURE as error:
        raise StateMachineError(_said(what, error)) from error


def _said(what: str, error: BaseException) -> str:
    return f"the state machine failed {what}: {type(error).__name__}: {error}"


def _wrong(method: str, wanted: str, value: object) -> TypeError:
    return TypeError(f"{method} must return {wanted}, not {type(value).__name__}")
