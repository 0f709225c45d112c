"""What the table of commands says about each, and what the reading of several has in common."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from raftviz.command.text import (
    Reader,
    ReadingError,
    Servers,
    Who,
    format_link,
    format_servers,
    format_share,
)

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
    LINKS = enum.auto()
    MESSAGES = enum.auto()
    KEY = enum.auto()
    DURATION = enum.auto()
    RATE = enum.auto()
    STEP = enum.auto()
    RUN = enum.auto()
    TOPIC = enum.auto()
    CONDITION = enum.auto()
    DISK = enum.auto()
    CLOCK = enum.auto()
    RULE = enum.auto()
    LOAD = enum.auto()
    CHAOS = enum.auto()


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
    more: tuple[str, ...] = ()
    """Further examples."""
    words: tuple[str, ...] = ()
    """What else its completion suggests."""

    @property
    def examples(self) -> tuple[str, ...]:
        """All examples."""
        return self.example, *self.more


@dataclass(frozen=True, slots=True)
class OneWord:
    """A command that is its name."""

    def __str__(self) -> str:
        return type(self).__name__.lower()


@dataclass(frozen=True, slots=True)
class OnServers:
    """A command that is its name and servers."""

    servers: Servers

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {format_servers(self.servers)}"


def on_servers(kind: Callable[[Servers], Command]) -> Callable[[Reader], Command]:
    """Read a command that names servers and nothing else."""
    return lambda reader: kind(reader.servers())


def alone(kind: Callable[[], Command]) -> Callable[[Reader], Command]:
    """Read a command that is one word."""
    return lambda reader: kind()


@dataclass(frozen=True, slots=True)
class Links:
    """Links between servers, ``a`` to ``b`` or both ways: all messages there, or one kind."""

    a: Servers
    b: Servers
    both_ways: bool
    kind: str = ""

    def __str__(self) -> str:
        kind = f"{self.kind} " if self.kind else ""
        if self.everywhere:
            return self.kind or "all"
        return f"{kind}{format_link(self.a, self.b, self.both_ways)}"

    @property
    def everywhere(self) -> bool:
        """All links are meant."""
        return self.a is Who.ALL and self.b is Who.ALL and self.both_ways


@dataclass(frozen=True, slots=True)
class OnLinks:
    """A command that is its name and links."""

    links: Links

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.links}"


@dataclass(frozen=True, slots=True)
class ShareOfLinks:
    """A command that is its name, links, and a share of the messages there."""

    links: Links
    share: float

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.links} {format_share(self.share)}"


def everywhere(kind: str = "") -> Links:
    """Return all links."""
    return Links(Who.ALL, Who.ALL, True, kind)


def read_links(reader: Reader, *, one_side: bool = False, last: bool = True) -> Links:
    """Read ``1 -> 2`` (one way) or ``1 2`` (both ways), perhaps after a kind of messages.

    A side may be several, as ``1,2``. After ``all`` the other one may be left out, after a kind
    both, and with ``one_side`` it may always: it is all servers then. A value follows unless
    these are the ``last`` words.
    """
    kind = reader.kind()
    if kind and (reader.at_end or (one_side and not reader.has_server)):
        return everywhere(kind)
    one_way = reader.has_arrow
    a = reader.end_of_link(joined=not one_way)
    if one_way and not reader.take("->"):
        reader.fail("->")
    alone = not one_way and (reader.at_end if last else not reader.has_server)
    if alone and (one_side or a is Who.ALL):
        return Links(a, Who.ALL, True, kind)
    column = reader.column
    b = reader.end_of_link(joined=not one_way, last=last)
    if a == b and not isinstance(a, Who) and len(a) == 1:
        raise ReadingError(column, "another server at the other end")
    return Links(a, b, not one_way, kind)
