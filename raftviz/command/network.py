"""Commands on the network: the rules of links, and the shapes that they make."""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.messages import ServerId
from raftviz.command.spec import CommandSpec, Takes, on_servers, read_link
from raftviz.command.text import (
    Reader,
    ReadingError,
    Servers,
    Who,
    format_duration,
    format_link,
    format_servers,
)


@dataclass(frozen=True, slots=True)
class Cut:
    """``cut 1 -> 2`` one way · ``cut 1 2`` both ways: messages on it are lost."""

    a: Servers
    b: Servers
    both_ways: bool

    def __str__(self) -> str:
        return f"cut {format_link(self.a, self.b, self.both_ways)}"


@dataclass(frozen=True, slots=True)
class Heal:
    """``heal 1 -> 2`` · ``heal 1 2`` · ``heal`` (everything: ``a`` and ``b`` are ALL)."""

    a: Servers
    b: Servers
    both_ways: bool

    def __str__(self) -> str:
        everything = self == Heal(Who.ALL, Who.ALL, True)
        return "heal all" if everything else f"heal {format_link(self.a, self.b, self.both_ways)}"


@dataclass(frozen=True, slots=True)
class Partition:
    """``partition 1 2 | 3 4 5``: links between groups are cut, links inside them healed.

    Servers not named form one more group.
    """

    groups: tuple[Servers, ...]

    def __str__(self) -> str:
        return "partition " + " | ".join(map(format_servers, self.groups))


@dataclass(frozen=True, slots=True)
class Isolate:
    """``isolate leader``: cut every link of a server, both ways."""

    servers: Servers

    def __str__(self) -> str:
        return f"isolate {format_servers(self.servers)}"


@dataclass(frozen=True, slots=True)
class Delay:
    """``delay 20ms``: every message takes this long (virtual seconds), on every link."""

    seconds: float

    def __str__(self) -> str:
        return f"delay {format_duration(self.seconds)}"


NetworkCommand = Cut | Heal | Partition | Isolate | Delay


def _heal(reader: Reader) -> Heal:
    if reader.at_end:
        return Heal(Who.ALL, Who.ALL, True)
    return Heal(*read_link(reader, one_side=True))


def _partition(reader: Reader) -> Partition:
    groups: list[Servers] = []
    while True:
        column = reader.column
        group = reader.servers()
        if any(group == other or set(_numbers(group)) & set(_numbers(other)) for other in groups):
            raise ReadingError(column, "servers that are in no other group")
        groups.append(group)
        if not reader.take("|"):
            return Partition(tuple(groups))


def _numbers(servers: Servers) -> tuple[ServerId, ...]:
    return () if isinstance(servers, Who) else servers


SPECS: tuple[CommandSpec[NetworkCommand], ...] = (
    CommandSpec(
        "cut",
        "cut A B | cut A -> B",
        "lose every message between two servers, or those one way only",
        "cut 1 -> 2",
        Takes.SERVERS,
        lambda reader: Cut(*read_link(reader)),
    ),
    CommandSpec(
        "heal",
        "heal [A [B] | A -> B]",
        "undo cuts: all of them, those of a server, or of one link",
        "heal all",
        Takes.SERVERS,
        _heal,
    ),
    CommandSpec(
        "partition",
        "partition SERVERS | SERVERS …",
        "cut every link between the groups; servers not named form one more",
        "partition 1 2 | 3 4 5",
        Takes.SERVERS,
        _partition,
    ),
    CommandSpec(
        "isolate",
        "isolate SERVERS",
        "cut every link of each of these servers, both ways",
        "isolate leader",
        Takes.SERVERS,
        on_servers(Isolate),
    ),
    CommandSpec(
        "delay",
        "delay DURATION",
        "how long every message takes, in the cluster's time",
        "delay 20ms",
        Takes.DURATION,
        lambda reader: Delay(reader.duration()),
    ),
)
