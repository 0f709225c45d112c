"""Keys and values: the state machine that ``raft serve`` runs.

Commands, queries and answers travel as ``schemas/kv.capnp`` defines them.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from raft.core.value import value as value_class
from raft.machine.moulds import Mould
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
MAX_SCAN_BYTES = 256 * 1024
"""Bytes of the pairs in the answer to a Scan; beyond that one asks for more."""

_PAIR = 16
"""Bytes that a pair takes in an answer beside its key and its value, which end whole words."""


@value_class
class Put:
    """Command: store ``value`` under ``key``."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Delete:
    """Command: forget ``key``; no matter whether it was there."""

    key: bytes


@value_class
class Value:
    """What a key holds; ``value`` is empty when nothing was ``found``."""

    found: bool
    value: bytes


NOTHING = Value(False, b"")
"""What a key holds that is not there."""


@dataclass(frozen=True, slots=True)
class Cas:
    """Command: compare and swap; store ``value`` if ``key`` holds what is ``expected``.

    Answered Done, or with the Value that it holds instead.
    """

    key: bytes
    expected: Value
    value: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """Command: put ``value`` behind what ``key`` holds; answered with the Number of bytes then.

    A key that is not there holds none. Failed if the value would be too long.
    """

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Increment:
    """Command: add ``amount``, which may be negative; answered with the new Number.

    The value is the number in decimal digits; a key that is not there holds 0. Failed if it
    holds no such number, or if the sum needs more than 64 bits.
    """

    key: bytes
    amount: int = 1


@dataclass(frozen=True, slots=True)
class Get:
    """Query: what ``key`` holds."""

    key: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """Query: the Pairs whose keys begin with ``prefix``, in the order of their keys.

    Only keys from ``start`` on, ``limit`` of them (0: as many as fit in MAX_SCAN_BYTES).
    """

    prefix: bytes = b""
    start: bytes = b""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Done:
    """The command was carried out."""


@dataclass(frozen=True, slots=True)
class Number:
    """The command was carried out, and this is what came out."""

    number: int


@dataclass(frozen=True, slots=True)
class Pairs:
    """What a Scan found; ``more``: there are others behind the last one."""

    pairs: tuple[Put, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """What the key holds does not allow the command, which changed nothing."""

    detail: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """The command or query made no sense and changed nothing."""

    detail: str


@value_class
class _Query:
    """Either query, as it travels."""

    key: bytes
    scan: bool = False
    start: bytes = b""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    pairs: tuple[Put, ...]


class TooLongError(ValueError):
    """A key, a value or a number has more bytes than a server would take."""


Command = Put | Delete | Cas | Append | Increment
Query = Get | Scan
Answer = Done | Value | Number | Pairs | Failed | Malformed

_schema = load_schema("kv")
_commands = UnionCodec[Command](_schema.KvCommand, Command)
_queries = RecordCodec(_schema.KvQuery, _Query)
_answers = UnionCodec[Answer](_schema.KvAnswer, Answer)
_snapshots = RecordCodec(_schema.KvSnapshot, _Snapshot)

_puts = Mould(_commands.encode(Put(b"key", b"value")), b"key", b"value")
_gets = Mould(_queries.encode(_Query(b"key", start=b"start")), b"key", b"start")
_values = Mould(_answers.encode(Value(True, b"value")), b"value")

_DONE = _answers.encode(Done())
_NO_COMMAND = "(not a command)"


def encode_command(command: Command) -> bytes:
    """Return the bytes to propose. Raises TooLongError."""
    if too_long := _too_long(command):
        raise TooLongError(too_long)
    if isinstance(command, Put):
        return _puts.fill(command.key, command.value)
    return _commands.encode(command)


def decode_command(data: bytes) -> Command:
    """Return the command in an entry's data. Raises DecodeError."""
    put = _puts.strings(data)
    return _commands.decode(data) if put is None else Put(*put)


def encode_query(query: Query) -> bytes:
    """Return the bytes to read with. Raises TooLongError."""
    match query:
        case Get(key):
            asked = _Query(key)
        case Scan(prefix, start, limit):
            asked = _Query(prefix, True, start, limit)
    if too_long := _too_long_key(asked.key):
        raise TooLongError(too_long)
    if isinstance(query, Get):
        return _gets.fill(query.key, b"")
    return _queries.encode(asked)


def _decode_query(data: bytes) -> _Query:
    get = _gets.strings(data)
    return _queries.decode(data) if get is None else _Query(get[0], start=get[1])


def decode_answer(data: bytes) -> Answer:
    """Return the machine's answer to a command or query. Raises DecodeError."""
    value = _values.strings(data)
    return _answers.decode(data) if value is None else Value(True, value[0])


def describe(data: bytes) -> str:
    """Return a command in a few printable characters: ``x=1`` · ``del x`` · ``open session``.

    Others are ``x=2 if 1``, ``x=1 if new``, ``x+=tail`` and ``x+5``.

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
    key = printable(command.key)
    match command:
        case Put(value=value):
            return f"{key}={printable(value)}"
        case Delete():
            return f"del {key}"
        case Cas(expected=expected, value=value):
            condition = printable(expected.value) if expected.found else "new"
            return f"{key}={printable(value)} if {condition}"
        case Append(value=value):
            return f"{key}+={printable(value)}"
        case Increment(amount=amount):
            return f"{key}{amount:+d}"


def _too_long(command: Command) -> str | None:
    if isinstance(command, Put | Cas | Append):
        return _too_long_put(command.key, command.value)
    if too_long := _too_long_key(command.key):
        return too_long
    if isinstance(command, Increment) and not _fits(command.amount):
        return f"{command.amount} needs more than 64 bits"
    return None


def _too_long_put(key: bytes, value: bytes) -> str | None:
    if len(value) > MAX_VALUE_BYTES:
        return f"the value has {len(value)} bytes; at most {MAX_VALUE_BYTES} are allowed"
    return _too_long_key(key)


def _too_long_key(key: bytes) -> str | None:
    if len(key) > MAX_KEY_BYTES:
        return f"the key has {len(key)} bytes; at most {MAX_KEY_BYTES} are allowed"
    return None


# --- What commands do ------------------------------------------------------------------------

_NUMBER = re.compile(rb"-?[0-9]{1,19}")


def _fits(number: int) -> bool:
    return -(2**63) <= number < 2**63


def carry_out(values: dict[bytes, bytes], command: Command) -> Answer:
    """Do to ``values`` what a command says, and return the answer."""
    match command:
        case Put(key, value):
            values[key] = value
        case Delete(key):
            values.pop(key, None)
        case Cas(key, expected, value):
            held = _held(values, key)
            if held != expected:
                return held
            values[key] = value
        case Append(key, value):
            longer = values.get(key, b"") + value
            if len(longer) > MAX_VALUE_BYTES:
                return Failed(f"the value would have more than {MAX_VALUE_BYTES} bytes")
            values[key] = longer
            return Number(len(longer))
        case Increment(key, amount):
            return _increment(values, key, amount)
    return Done()


def _held(values: dict[bytes, bytes], key: bytes) -> Value:
    value = values.get(key)
    return NOTHING if value is None else Value(True, value)


def _increment(values: dict[bytes, bytes], key: bytes, amount: int) -> Answer:
    held = values.get(key, b"0")
    if _NUMBER.fullmatch(held) is None:
        return Failed("the value is no number in decimal digits")
    number = int(held) + amount
    if not _fits(number):
        return Failed("the sum needs more than 64 bits")
    values[key] = b"%d" % number
    return Number(number)


class KeyValue:
    """A ``StateMachine`` that maps keys to values, both any bytes."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._sorted: list[bytes] | None = None
        """The keys in their order, None if that is to be found out when it is next needed."""

    def check(self, command: bytes) -> str | None:
        """Refuse what ``apply`` could not carry out, and keys and values that are too long."""
        put = _puts.strings(command)
        if put is not None:
            return _too_long_put(*put)
        try:
            return _too_long(decode_command(command))
        except DecodeError as error:
            return f"not a key-value command: {error}"

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a command. What is none changes nothing and is answered Malformed."""
        put = _puts.strings(command)
        if put is not None:
            key, value = put
            if key not in self._values:
                self._sorted = None
            self._values[key] = value
            return _DONE
        try:
            decoded = decode_command(command)
        except DecodeError:
            return _answers.encode(Malformed("not a key-value command"))
        count = len(self._values)
        answer = carry_out(self._values, decoded)
        if len(self._values) != count:  # a command changes one key at most
            self._sorted = None
        return _DONE if isinstance(answer, Done) else _answers.encode(answer)

    def query(self, query: bytes) -> bytes:
        """Answer a Get or a Scan."""
        try:
            asked = _decode_query(query)
        except DecodeError:
            return _answers.encode(Malformed("not a key-value query"))
        if asked.scan:
            return _answers.encode(self._scan(asked))
        value = self._values.get(asked.key)
        return _answers.encode(NOTHING) if value is None else _values.fill(value)

    def _scan(self, asked: _Query) -> Pairs:
        pairs: list[Put] = []
        size = 0
        for key in self._keys(asked):
            value = self._values[key]
            size += _PAIR + _whole_words(key) + _whole_words(value)
            if len(pairs) == (asked.limit or -1) or (pairs and size > MAX_SCAN_BYTES):
                return Pairs(tuple(pairs), more=True)
            pairs.append(Put(key, value))
        return Pairs(tuple(pairs), more=False)

    def _keys(self, asked: _Query) -> Iterator[bytes]:
        """Yield the keys that a Scan asks for."""
        if self._sorted is None:
            self._sorted = sorted(self._values)
        first = bisect_left(self._sorted, max(asked.key, asked.start))
        for key in islice(self._sorted, first, None):
            if not key.startswith(asked.key):
                return
            yield key

    def snapshot(self) -> bytes:
        """Return all pairs, in the order of their keys: equal states give equal bytes."""
        pairs = (Put(key, value) for key, value in sorted(self._values.items()))
        return _snapshots.encode(_Snapshot(tuple(pairs)))

    def restore(self, snapshot: bytes) -> None:
        """Take over the pairs of a snapshot. Raises DecodeError."""
        pairs = _snapshots.decode(snapshot).pairs
        self._values = {pair.key: pair.value for pair in pairs}
        self._sorted = None


def _whole_words(data: bytes) -> int:
    return (len(data) + 7) // 8 * 8
