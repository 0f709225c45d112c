"""What the table of commands says about each, and what the reading of several has in common."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from raftviz.command.text import Reader, ReadingError, Servers, Who

Command = TypeVar("Command", covariant=True)


class Scope(enum.Enum):
    """Where a command means something."""

    LAB = "on the cluster"
    VIEWER = "on the screen"
    SCRIPT = "in scripts and lessons"


class Takes(enum.Enum):
    """What a command's arguments are, for their completion."""

    NOTHING = enum.auto()
    SERVERS = enum.auto()
    KEY = enum.auto()
    DURATION = enum.auto()
    RATE = enum.auto()
    TOPIC = enum.auto()
    CONDITION = enum.auto()
    DISK = enum.auto()
    CLOCK = enum.auto()
    RULE = enum.auto()


@dataclass(frozen=True, slots=True)
class CommandSpec(Generic[Command]):
    """One command of the language. ``read`` reads what follows its name.

    What it returns is a frozen dataclass whose ``str`` is the text that is read as the same.
    """

    name: str
    syntax: str
    summary: str
    example: str
    takes: Takes
    read: Callable[[Reader], Command]
    scope: Scope = Scope.LAB
    aliases: tuple[str, ...] = ()


def on_servers(kind: Callable[[Servers], Command]) -> Callable[[Reader], Command]:
    """Read a command that names servers and nothing else."""
    return lambda reader: kind(reader.servers())


def alone(kind: Callable[[], Command]) -> Callable[[Reader], Command]:
    """Read a command that is one word."""
    return lambda reader: kind()


def read_link(reader: Reader, *, one_side: bool = False) -> tuple[Servers, Servers, bool]:
    """Read ``1 -> 2`` (one way) or ``1 2`` (both ways); a side may be several, as ``1,2``.

    With ``one_side`` the other one may be left out and is all servers.
    """
    one_way = reader.has_arrow
    a = reader.servers() if one_way else reader.joined_servers()
    if one_way and not reader.take("->"):
        reader.fail("->")
    if one_side and reader.at_end and not one_way:
        return a, Who.ALL, True
    column = reader.column
    b = reader.servers() if one_way else reader.joined_servers()
    if a == b and not isinstance(a, Who) and len(a) == 1:
        raise ReadingError(column, "another server at the other end")
    return a, b, not one_way
