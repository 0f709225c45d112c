"""Exactly-once commands: sessions around any state machine (thesis §6.3).

A client whose answer was lost cannot know whether its command took effect. In a session it
simply sends the command again, with the same number, and the state machine remembers what it
answered::

    client                              log                     machine
    OpenSession        ──▶  17  OpenSession                     session 17
    Perform 17 #1 x=1  ──▶  18  Perform 17 #1 x=1               x=1, answer kept
           (the answer is lost)
    Perform 17 #1 x=1  ──▶  21  Perform 17 #1 x=1               the same answer, nothing done
    Perform 17 #2 x=2, has the answers before #2  ──▶  22       x=2, answer of #1 forgotten

All that decides is in the log or in the snapshot, so every server decides alike: a session's
id is the index of the entry that opened it, and when there are too many sessions, or too many
bytes of kept answers, the session expires whose last use lies furthest back in the log. An
expired session is never opened again behind the client's back: its retries would be new
commands then. They are answered :class:`UnknownSession`, and the client must decide.

Commands without a session still work, as they are. ``schemas/sessions.capnp`` has the bytes.
Requests and answers are not Cap'n Proto: every server takes each of them apart, and four numbers
in fixed places cost a fortieth of what a frame does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from raft.codec import DecodeError, RecordCodec, load_schema
from raft.core.value import value
from raft.machine.base import StateMachine

MARK = b"session\n"
"""What a request to the sessions begins with. A plain command must not."""

MAX_SESSIONS = 1000
MAX_KEPT_BYTES = 16 * 1024 * 1024
MAX_UNANSWERED = 1024
"""So many commands of one session may be under way at once."""

KEPT_OVERHEAD = 64
"""A kept answer counts as so many bytes more: empty ones take memory, too."""

# --- Requests and answers --------------------------------------------------------------------


@value
class OpenSession:
    """Open a session. A retry opens another one; nobody uses the first, and it expires."""


@value
class KeepSession:
    """Do nothing but use the session, so that others expire before it."""

    session: int


@value
class CloseSession:
    """Forget the session."""

    session: int


@value
class Perform:
    """Carry ``command`` out, unless it was before.

    ``sequence`` counts the session's commands from 1; they need not arrive in order. The
    client has the answers of all before ``first_unanswered`` and will not ask for them again.
    """

    session: int
    sequence: int
    first_unanswered: int
    command: bytes


SessionRequest = OpenSession | KeepSession | CloseSession | Perform


@value
class SessionOpened:
    """The session's id, for all that follows."""

    session: int


@value
class SessionKept:
    """The session is there."""


@value
class SessionClosed:
    """The session is gone."""


@value
class Performed:
    """What the state machine answered when it carried the command out, now or before."""

    answer: bytes


@value
class UnknownSession:
    """Nothing was done: the session has expired, was closed, or never was.

    Whether a command that is being retried was carried out before is not known any more.
    """


@value
class AnswerForgotten:
    """Nothing was done now: the client has said that it has this command's answer."""


@value
class MalformedRequest:
    """Nothing was done: the request makes no sense."""


SessionAnswer = (
    SessionOpened
    | SessionKept
    | SessionClosed
    | Performed
    | UnknownSession
    | AnswerForgotten
    | MalformedRequest
)


@dataclass(frozen=True, slots=True)
class _KeptAnswer:
    sequence: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class _SessionState:
    session: int
    first_unanswered: int
    answers: tuple[_KeptAnswer, ...]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    sessions: tuple[_SessionState, ...]
    machine: bytes


_snapshots = RecordCodec(load_schema("sessions").SessionsSnapshot, _Snapshot)

_HEAD = struct.Struct("<8sBQQQ")
"""MARK, kind, session, sequence, first unanswered; a command follows, if it is to be performed."""
_HEAD_SIZE = _HEAD.size
_unpack = struct.Struct("<8xBQQQ").unpack_from
_NUMBER = struct.Struct("<Q")
_OPEN, _KEEP, _CLOSE, _PERFORM = range(4)
_OPENED, _KEPT, _CLOSED, _PERFORMED, _UNKNOWN, _FORGOTTEN, _MALFORMED = range(7)
_PERFORMED_MARK = bytes([_PERFORMED])
_PLAIN_ANSWERS: dict[SessionAnswer, int] = {
    SessionKept(): _KEPT,
    SessionClosed(): _CLOSED,
    UnknownSession(): _UNKNOWN,
    AnswerForgotten(): _FORGOTTEN,
    MalformedRequest(): _MALFORMED,
}
_PLAIN_ANSWERS_BY_KIND = {kind: answer for answer, kind in _PLAIN_ANSWERS.items()}


def is_session_request(command: bytes) -> bool:
    """Tell whether a command is meant for the sessions, rather than for the machine inside."""
    return command.startswith(MARK)


def encode_request(request: SessionRequest) -> bytes:
    """Return the bytes to propose."""
    match request:
        case Perform():
            numbers = request.session, request.sequence, request.first_unanswered
            return _HEAD.pack(MARK, _PERFORM, *numbers) + request.command
        case OpenSession():
            return _HEAD.pack(MARK, _OPEN, 0, 0, 0)
        case KeepSession(session):
            return _HEAD.pack(MARK, _KEEP, session, 0, 0)
        case CloseSession(session):
            return _HEAD.pack(MARK, _CLOSE, session, 0, 0)


def decode_request(command: bytes) -> SessionRequest:
    """Return the request that a command is. Raises DecodeError."""
    if len(command) < _HEAD_SIZE or not command.startswith(MARK):
        raise DecodeError("not a session's request")
    kind, session, sequence, first_unanswered = _unpack(command)
    if kind == _PERFORM:
        return Perform(session, sequence, first_unanswered, command[_HEAD_SIZE:])
    if len(command) == _HEAD_SIZE and sequence == first_unanswered == 0:
        if kind == _OPEN and session == 0:
            return OpenSession()
        if kind == _KEEP:
            return KeepSession(session)
        if kind == _CLOSE:
            return CloseSession(session)
    raise DecodeError(f"malformed request of kind {kind}")


def _encode_answer(answer: SessionAnswer) -> bytes:
    if isinstance(answer, Performed):
        return _PERFORMED_MARK + answer.answer
    if isinstance(answer, SessionOpened):
        return bytes([_OPENED]) + _NUMBER.pack(answer.session)
    return bytes([_PLAIN_ANSWERS[answer]])


def decode_answer(data: bytes) -> SessionAnswer:
    """Return the answer to a request. Raises DecodeError."""
    if data.startswith(_PERFORMED_MARK):
        return Performed(data[1:])
    if len(data) == 1 + _NUMBER.size and data[0] == _OPENED:
        return SessionOpened(_NUMBER.unpack_from(data, 1)[0])
    if len(data) == 1 and data[0] in _PLAIN_ANSWERS_BY_KIND:
        return _PLAIN_ANSWERS_BY_KIND[data[0]]
    raise DecodeError(f"{len(data)} bytes are not the answer to a session's request")


class Numbering:
    """The client's half of a session: numbers commands, and knows which have no answer yet.

    To retry, send the same :class:`Perform` again.
    """

    def __init__(self, session: int) -> None:
        self.session = session
        self.first_unanswered = 1
        """The answers of all commands before this one have arrived."""
        self._last = 0
        self._unanswered: set[int] = set()

    @property
    def unanswered(self) -> int:
        """How many commands have no answer yet; at most MAX_UNANSWERED are accepted."""
        return self._last + 1 - self.first_unanswered

    def number(self, command: bytes) -> Perform:
        """Return the next command of the session."""
        self._last += 1
        self._unanswered.add(self._last)
        return Perform(self.session, self._last, self.first_unanswered, command)

    def answered(self, perform: Perform) -> None:
        """Note that a command's answer is there, or that nobody will ask for it any more.

        A command that was given up may still be carried out, until one with a higher
        ``first_unanswered`` was.
        """
        self._unanswered.discard(perform.sequence)
        while self.first_unanswered <= self._last and (
            self.first_unanswered not in self._unanswered
        ):
            self.first_unanswered += 1


# --- The state machine -----------------------------------------------------------------------


@dataclass(slots=True)
class _Session:
    """Invariant: every kept answer's number is at least ``first_unanswered``."""

    first_unanswered: int = 1
    answers: dict[int, bytes] = field(default_factory=dict)

    def forget_before(self, first_unanswered: int) -> int:
        """Forget answers that the client has; return how many bytes that frees."""
        if first_unanswered <= self.first_unanswered:
            return 0
        # One by one if they are few: a client has the answers before this one most of the time.
        passed: Iterable[int] = range(self.first_unanswered, first_unanswered)
        if first_unanswered - self.first_unanswered > len(self.answers):
            passed = [sequence for sequence in self.answers if sequence < first_unanswered]
        self.first_unanswered = first_unanswered
        freed = 0
        for sequence in passed:
            if (answer := self.answers.pop(sequence, None)) is not None:
                freed += _cost(answer)
        return freed

    @property
    def kept_bytes(self) -> int:
        return sum(map(_cost, self.answers.values()))


def _cost(answer: bytes) -> int:
    return len(answer) + KEPT_OVERHEAD


class Sessions:
    """A ``StateMachine`` that carries out the commands of another one, at most once if wanted.

    The limits decide which sessions expire, so they must be the same on all servers of a
    cluster, always.
    """

    def __init__(
        self,
        machine: StateMachine,
        max_sessions: int = MAX_SESSIONS,
        max_kept_bytes: int = MAX_KEPT_BYTES,
    ) -> None:
        self._machine = machine
        self._max_sessions = max_sessions
        self._max_kept_bytes = max_kept_bytes
        self._sessions: dict[int, _Session] = {}
        """By id, in the order of their last use."""
        self._kept_bytes = 0

    @property
    def open_sessions(self) -> int:
        """How many sessions it remembers."""
        return len(self._sessions)

    def check(self, command: bytes) -> str | None:
        """Refuse what makes no sense, and what the machine inside refuses."""
        if not is_session_request(command):
            return self._machine.check(command)
        try:
            request = decode_request(command)
        except DecodeError as error:
            return f"not a session's request: {error}"
        if not isinstance(request, Perform):
            return None
        if not 0 < request.first_unanswered <= request.sequence:
            return (
                f"command {request.sequence} of a session cannot come with "
                f"{request.first_unanswered} as the first unanswered one"
            )
        if request.sequence - request.first_unanswered >= MAX_UNANSWERED:
            return f"a session may have at most {MAX_UNANSWERED} commands without an answer"
        return self._machine.check(request.command)

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a request to the sessions, or a plain command."""
        if not is_session_request(command):
            return self._machine.apply(index, command)
        try:
            request = decode_request(command)
        except DecodeError:
            return _encode_answer(MalformedRequest())
        return _encode_answer(self._carry_out(index, request))

    def _carry_out(self, index: int, request: SessionRequest) -> SessionAnswer:
        if isinstance(request, OpenSession):
            self._sessions[index] = _Session()
            self._expire()
            return SessionOpened(index)
        session = self._use(request.session)
        if session is None:
            return UnknownSession()
        if isinstance(request, Perform):
            return self._perform(index, session, request)
        if isinstance(request, CloseSession):
            self._forget(request.session)
            return SessionClosed()
        return SessionKept()

    def _perform(self, index: int, session: _Session, request: Perform) -> SessionAnswer:
        if request.first_unanswered > session.first_unanswered:
            self._kept_bytes -= session.forget_before(request.first_unanswered)
        if request.sequence < session.first_unanswered:
            return AnswerForgotten()
        answer = self._kept_answer(session, request)
        if answer is None:
            answer = self._machine.apply(index, request.command)
            session.answers[request.sequence] = answer
            self._kept_bytes += _cost(answer)
            self._expire()
        return Performed(answer)

    def _kept_answer(self, session: _Session, request: Perform) -> bytes | None:
        return session.answers.get(request.sequence)

    def _use(self, number: int) -> _Session | None:
        session = self._sessions.pop(number, None)
        if session is not None:
            self._sessions[number] = session
        return session

    def _expire(self) -> None:
        """Let sessions expire until the others are within the limits, the one in use last."""
        while len(self._sessions) > self._max_sessions or self._kept_bytes > self._max_kept_bytes:
            self._forget(next(iter(self._sessions)))

    def _forget(self, number: int) -> None:
        self._kept_bytes -= self._sessions.pop(number).kept_bytes

    def query(self, query: bytes) -> bytes:
        """Answer from the state of the machine inside."""
        return self._machine.query(query)

    def snapshot(self) -> bytes:
        """Return the state of the machine inside and all sessions, in the order of their use."""
        return _snapshots.encode(_Snapshot(self._states(), self._machine.snapshot()))

    def _states(self) -> tuple[_SessionState, ...]:
        return tuple(
            _SessionState(
                number,
                session.first_unanswered,
                tuple(_KeptAnswer(*kept) for kept in sorted(session.answers.items())),
            )
            for number, session in self._sessions.items()
        )

    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot of a machine with sessions. Raises DecodeError."""
        restored = _snapshots.decode(snapshot)
        self._machine.restore(restored.machine)
        self._sessions = {
            state.session: _Session(
                state.first_unanswered, {kept.sequence: kept.answer for kept in state.answers}
            )
            for state in restored.sessions
        }
        self._kept_bytes = sum(session.kept_bytes for session in self._sessions.values())
