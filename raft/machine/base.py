"""What the log is for: a state machine, the same on every server (§2)."""

from __future__ import annotations

from typing import Protocol

MAX_COMMAND_BYTES = 128 * 1024
"""A longer command is refused before it enters the log."""

MAX_ANSWER_BYTES = 512 * 1024
"""A longer answer, to a command or a query, is not sent: who asked gets an error instead.

Of an answer to a command in a session, one byte is the session's.
"""


def too_long(command: bytes) -> str | None:
    """Say that a command is over the limit, None if it is not."""
    if len(command) <= MAX_COMMAND_BYTES:
        return None
    return f"the command has {len(command)} bytes; at most {MAX_COMMAND_BYTES} are taken"


class StateMachineError(Exception):
    """A server's state machine failed, and the server with it; the cause is what it raised.

    ``index`` is the entry that it failed on, and ``size`` how many bytes the command has; None
    if it was not applying one.
    """

    def __init__(self, what: str, index: int | None = None, size: int | None = None) -> None:
        super().__init__(what)
        self.index = index
        self.size = size


class StateMachine(Protocol):
    """Turns commands into state; an application brings its own.

    It must be deterministic: the same commands in the same order give the same state and the
    same answers on every server, so no clock, no randomness, no order of a set. Commands come
    from clients and may be any bytes, empty ones too: a command that makes no sense is
    answered, not raised. What a method raises ends the server with a StateMachineError, because
    it can neither skip a committed command nor go on without it. Answers have at most
    MAX_ANSWER_BYTES: longer ones do not reach who asked, though a command is carried out.

    All methods are called in the thread of the server's event loop, one at a time, and hold it
    up while they run; ``snapshot`` alone has a thread of its own. ``restore`` comes first if
    there is a snapshot, and again whenever a leader sends a newer one.

    ``raft.testing.conformance`` tests a machine for all of this.
    """

    def check(self, command: bytes) -> str | None:
        """Say why ``command`` must not enter the log, or None if it may (the default).

        Asked by the leader before it appends: it must not change the state. What is refused
        here may reach ``apply`` all the same, from a leader that runs another version; and
        what is let through may find another state when it is applied.
        """
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a committed command, the entry at ``index``, and return the answer.

        Indexes rise, with gaps where an entry is no command. After a restart the entries since
        the last snapshot are applied again, to the state that it restored.
        """

    def query(self, query: bytes) -> bytes:
        """Answer from the present state without changing it; any bytes are answered."""

    def snapshot(self) -> bytes:
        """Return the whole state: all that answers and further commands depend on.

        Called in a thread of its own. Nothing is applied or restored meanwhile, but queries may
        be answered, and commands checked.
        """

    def restore(self, snapshot: bytes) -> None:
        """Replace the whole state, whatever it is, by one that ``snapshot`` returned.

        It may be the snapshot of another server, and of an older version of the program.
        """
