"""What transcripts have for a state machine: it counts, behind sessions (thesis §6.3).

A transcript is a conversation of cores. What a server's state machine answered follows from the
entries that it committed, so it is worked out when it is asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from raft.core.core import Core
from raft.core.messages import EntryKind
from raft.machine.sessions import (
    AnswerForgotten,
    OpenSession,
    Perform,
    Performed,
    SessionOpened,
    Sessions,
    UnknownSession,
    decode_answer,
    decode_request,
    encode_request,
    is_session_request,
)
from raft.printable import printable

MOST_SESSIONS = 2


class Tally:
    """A ``StateMachine`` that counts how often each command was carried out."""

    def __init__(self) -> None:
        self._times = Counter[bytes]()

    def check(self, command: bytes) -> str | None:
        """Refuse nothing."""
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        """Count a command; answer how often it was carried out now."""
        self._times[command] += 1
        return b"%d" % self._times[command]

    def query(self, query: bytes) -> bytes:
        """Answer how often a command was carried out."""
        return b"%d" % self._times[query]

    def snapshot(self) -> bytes:
        """Return all counts."""
        return repr(sorted(self._times.items())).encode()

    def restore(self, snapshot: bytes) -> None:
        """Refuse: transcripts work the state out from the log."""
        raise ValueError("a tally is worked out from the log")


def open_session() -> bytes:
    """Return the command that opens a session."""
    return encode_request(OpenSession())


def perform(session: int, number: int, command: str) -> bytes:
    """Return the command that asks for another one in a session, for the first time or again."""
    return encode_request(Perform(session, number, 1, command.encode()))


def answers(core: Core) -> Iterator[str]:
    """Tell what a server's state machine answered to each command that is committed."""
    machine = Sessions(Tally(), MOST_SESSIONS)
    for index, entry in enumerate(core.log.entries(1, core.commit_index), 1):
        if entry.kind is EntryKind.COMMAND:
            answer = machine.apply(index, entry.data)
            if is_session_request(entry.data):
                yield f"{index}: {_asked(entry.data)}: {_said(answer)}"
            else:
                yield f"{index}: {printable(entry.data)}: {_times(answer)}"


def _asked(command: bytes) -> str:
    match decode_request(command):
        case Perform(session, number, _, inner):
            return f"command {number} of session {session}, {printable(inner)}"
        case _:
            return "a new session"


def _times(times: bytes) -> str:
    return "carried out once" if times == b"1" else f"carried out {printable(times)} times"


def _said(answer: bytes) -> str:
    match decode_answer(answer):
        case SessionOpened(session):
            return f"it is session {session}"
        case Performed(times):
            return _times(times)
        case UnknownSession():
            return "there is no such session"
        case AnswerForgotten():
            return "its answer is forgotten"
        case other:
            return str(other)
