"""A register: one value that is read, written, and compared and swapped.

The smallest state machine that is good for something: a lock, a leader's name, a version. Tests
of linearizability are about it. Commands and answers travel as ``schemas/register.capnp`` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft.codec import DecodeError, UnionCodec, load_schema

READ = b""
"""The query: what the register holds."""


@dataclass(frozen=True, slots=True)
class Write:
    """Command: let the register hold ``value``."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Cas:
    """Command: compare and swap; write ``value`` if the register holds ``expected``.

    Answered Done, or with what it Holds instead.
    """

    expected: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Done:
    """The command was carried out."""


@dataclass(frozen=True, slots=True)
class Holds:
    """What the register holds."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Malformed:
    """The command made no sense and changed nothing."""


Command = Write | Cas
Answer = Done | Holds | Malformed

_schema = load_schema("register")
_commands = UnionCodec[Command](_schema.RegisterCommand, Command)
_answers = UnionCodec[Answer](_schema.RegisterAnswer, Answer)


def encode_command(command: Command) -> bytes:
    """Return the bytes to propose."""
    return _commands.encode(command)


def decode_answer(data: bytes) -> Answer:
    """Return the register's answer to a command or query. Raises DecodeError."""
    return _answers.decode(data)


class Register:
    """A ``StateMachine`` that holds one value, at first an empty one."""

    def __init__(self) -> None:
        self._value = b""

    def check(self, command: bytes) -> str | None:
        """Refuse what ``apply`` could not carry out."""
        try:
            _commands.decode(command)
        except DecodeError as error:
            return f"not a command for a register: {error}"
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out a command."""
        try:
            decoded = _commands.decode(command)
        except DecodeError:
            return _answers.encode(Malformed())
        if isinstance(decoded, Cas) and decoded.expected != self._value:
            return _answers.encode(Holds(self._value))
        self._value = decoded.value
        return _answers.encode(Done())

    def query(self, query: bytes) -> bytes:
        """Read the register, whatever the query is."""
        return _answers.encode(Holds(self._value))

    def snapshot(self) -> bytes:
        """Return the value."""
        return self._value

    def restore(self, snapshot: bytes) -> None:
        """Hold the value of a snapshot."""
        self._value = snapshot
