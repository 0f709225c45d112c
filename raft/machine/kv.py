"""Keys and values: the state machine that ``raft serve`` runs.

Commands, queries and answers travel as ``schemas/kv.capnp`` defines them.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft.machine.sessions import (
    CloseSession,
    KeepSession,
    OpenSession,
    Perform,
    decode_request,
    is_session_request,
)
from raft.printable import printable
from raft.wire import DecodeError, RecordCodec, UnionCodec, load_schema

MAX_KEY_BYTES = 1024
MAX_VALUE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Put:
    """Command: store ``value`` under ``key``."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Command: forget ``key``; no matter whether it was there."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Get:
    """Query: what ``key`` holds."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The command was carried out."""


@dataclass(frozen=True, slots=True)
class Value:
    """What a key holds; ``value`` is empty when nothing was ``found``."""

    found: bool
    value: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """The command or query made no sense and changed nothing."""

    detail: str


@dataclass(frozen=True, slots=True)
class _Snapshot:
    pairs: tuple[Put, ...]


class TooLongError(ValueError):
    """A key or a value has more bytes than a server would take."""


Command = Put | Delete
Answer = Done | Value | Malformed

_schema = load_schema("kv")
_commands = UnionCodec[Command](_schema.KvCommand, Command)
_queries = RecordCodec(_schema.KvQuery, Get)
_answers = UnionCodec[Answer](_schema.KvAnswer, Answer)
_snapshots = RecordCodec(_schema.KvSnapshot, _Snapshot)

_DONE = _answers.encode(Done())
_NO_COMMAND = "(not a command)"


def encode_command(command: Command) -> bytes:
    """Return the bytes to propose. Raises TooLongError."""
    if too_long := _too_long(command):
        raise TooLongError(too_long)
    return _commands.encode(command)


def decode_command(data: bytes) -> Command:
    """Return the command in an entry's data. Raises DecodeError."""
    return _commands.decode(data)


def encode_query(query: Get) -> bytes:
    """Return the bytes to read with. Raises TooLongError."""
    if too_long := _too_long(query):
        raise TooLongError(too_long)
    return _queries.encode(query)


def decode_answer(data: bytes) -> Answer:
    """Return the machine's answer to a command or query. Raises DecodeError."""
    return _answers.decode(data)


def describe(data: bytes) -> str:
    """Return a command in a few printable characters: ``x=1`` · ``del x`` · ``open session``.

    In a session it says the same as without one.
    """
    if not is_session_request(data):
        return _describe_plain(data)
    try:
        request = decode_request(data)
    except DecodeError:
        return _NO_COMMAND
    match request:
        case Perform():
            return _describe_plain(request.command)
        case OpenSession():
            return "open session"
        case KeepSession(session):
            return f"keep session {session}"
        case CloseSession(session):
            return f"close session {session}"


def _describe_plain(data: bytes) -> str:
    try:
        command = decode_command(data)
    except DecodeError:
        return _NO_COMMAND if data else "(empty)"
    match command:
        case Put(key, value):
            return f"{printable(key)}={printable(value)}"
        case Delete(key):
            return f"del {printable(key)}"


def _too_long(request: Command | Get) -> str | None:
    if len(request.key) > MAX_KEY_BYTES:
        return f"the key has {len(request.key)} bytes; at most {MAX_KEY_BYTES} are allowed"
    if isinstance(request, Put) and len(request.value) > MAX_VALUE_BYTES:
        return f"the value has {len(request.value)} bytes; at most {MAX_VALUE_BYTES} are allowed"
    return None


class KeyValue:
    """A ``StateMachine`` that maps keys to values, both any bytes."""

    def __init__(self, values: dict[bytes, bytes] | None = None) -> None:
        """Begin with these values, and keep all in that same dict; by default in a new one."""
        self._values = {} if values is None else values

    def check(self, command: bytes) -> str | None:
        """Refuse what ``apply`` could not carry out, and keys and values that are too long."""
        try:
            return _too_long(decode_command(command))
        except DecodeError as error:
            return f"not a key-value command: {error}"

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a Put or Delete. Anything else changes nothing and is answered Malformed."""
        try:
            decoded = decode_command(command)
        except DecodeError:
            return _answers.encode(Malformed("not a key-value command"))
        match decoded:
            case Put(key, value):
                self._values[key] = value
            case Delete(key):
                self._values.pop(key, None)
        return _DONE

    def query(self, query: bytes) -> bytes:
        """Answer a Get."""
        try:
            key = _queries.decode(query).key
        except DecodeError:
            return _answers.encode(Malformed("not a key-value query"))
        value = self._values.get(key)
        return _answers.encode(Value(value is not None, value or b""))

    def snapshot(self) -> bytes:
        """Return all pairs, in the order of their keys: equal states give equal bytes."""
        pairs = (Put(key, value) for key, value in sorted(self._values.items()))
        return _snapshots.encode(_Snapshot(tuple(pairs)))

    def restore(self, snapshot: bytes) -> None:
        """Take over the pairs of a snapshot. Raises DecodeError."""
        pairs = _snapshots.decode(snapshot).pairs
        self._values.clear()
        self._values.update((pair.key, pair.value) for pair in pairs)
