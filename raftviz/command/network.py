"""Commands on the network: the rules of links, and the shapes that they make."""

from __future__ import annotations

import re
from dataclasses import dataclass

from raft.core.messages import ServerId
from raftviz.command.spec import (
    CommandSpec,
    Links,
    OnLinks,
    OnServers,
    ShareOfLinks,
    Takes,
    alone,
    everywhere,
    on_servers,
    read_links,
)
from raftviz.command.text import (
    Reader,
    ReadingError,
    Servers,
    Who,
    format_bandwidth,
    format_duration,
    format_servers,
)
from raftviz.model.link_rules import Distribution

_LIKE_DURATION = re.compile(r"[0-9.]+([a-zA-Z]|\s*(#|$))")
SHARES = ("1%", "10%", "50%", "100%")
_DISTRIBUTIONS = {distribution.name.lower(): distribution for distribution in Distribution}

# --- How nothing gets through ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut(OnLinks):
    """``cut 1 -> 2`` one way · ``cut 1 2`` both ways: messages on it are lost."""


@dataclass(frozen=True, slots=True)
class Stall(OnLinks):
    """``stall 1 -> 2``: messages wait until the link is healed, and arrive late."""


@dataclass(frozen=True, slots=True)
class Reset(OnLinks):
    """``reset 1 2``: break the connection, and let none come about until the link is healed."""


@dataclass(frozen=True, slots=True)
class Heal(OnLinks):
    """``heal 1 -> 2`` · ``heal 1 2`` · ``heal`` (everything)."""


# --- Shapes ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Partition:
    """``partition 1 2 | 3 4 5``: links between groups are cut, links inside them healed.

    Servers not named form one more group. The client belongs to none unless it is named.
    """

    groups: tuple[Servers, ...]

    def __str__(self) -> str:
        return "partition " + " | ".join(map(format_servers, self.groups))


@dataclass(frozen=True, slots=True)
class Isolate(OnServers):
    """``isolate leader``: cut every link between a server and the others, both ways."""


@dataclass(frozen=True, slots=True)
class Ring:
    """``ring``: each server keeps its links to two neighbours only. ``ring 1 3 5 2 4``."""

    servers: Servers

    def __str__(self) -> str:
        return "ring" if self.servers is Who.ALL else f"ring {format_servers(self.servers)}"


@dataclass(frozen=True, slots=True)
class Bridge:
    """``bridge 3 between 1 2 | 4 5``: two sides that only the server between them can reach."""

    servers: Servers
    one: Servers
    other: Servers

    def __str__(self) -> str:
        sides = f"{format_servers(self.one)} | {format_servers(self.other)}"
        return f"bridge {format_servers(self.servers)} between {sides}"


# --- What messages go through ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delay:
    """``delay 20ms`` (every link, from now on) · ``delay 1 2 200ms ±50ms normal``."""

    links: Links
    seconds: float
    jitter: float = 0.0
    distribution: Distribution = Distribution.UNIFORM

    def __str__(self) -> str:
        plain = self.links == everywhere()
        shape = self.distribution
        return " ".join(
            [
                "delay",
                *([] if plain else [str(self.links)]),
                format_duration(self.seconds),
                *([f"±{format_duration(self.jitter)}"] if self.jitter else []),
                *([shape.name.lower()] if self.jitter and shape else []),
            ]
        )


@dataclass(frozen=True, slots=True)
class Loss(ShareOfLinks):
    """``loss all 10%`` · ``loss AppendEntries 2 -> 3 50%``: this share of messages is lost."""


@dataclass(frozen=True, slots=True)
class Reorder(ShareOfLinks):
    """``reorder 1 2 20%``: later messages may overtake this share."""


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """``bandwidth 1 -> 2 10kB/s``: bytes in a second of the cluster's time (0: no limit)."""

    links: Links
    bytes: float

    def __str__(self) -> str:
        return f"bandwidth {self.links} {format_bandwidth(self.bytes)}"


@dataclass(frozen=True, slots=True)
class ShowLinks:
    """``links``: what is in force, one line a link that has rules."""

    def __str__(self) -> str:
        return "links"


NetworkCommand = (
    Cut
    | Stall
    | Reset
    | Heal
    | Partition
    | Isolate
    | Ring
    | Bridge
    | Delay
    | Loss
    | Reorder
    | Bandwidth
    | ShowLinks
)

# --- Reading -----------------------------------------------------------------------------------


def _reset(reader: Reader) -> Reset:
    column, links = reader.column, read_links(reader)
    if links.kind:
        raise ReadingError(column, "a link (a connection breaks for messages of every kind)")
    return Reset(links)


def _heal(reader: Reader) -> Heal:
    return Heal(everywhere() if reader.at_end else read_links(reader, one_side=True))


def _groups(reader: Reader) -> tuple[Servers, ...]:
    groups: list[Servers] = []
    while True:
        column = reader.column
        group = reader.end_of_link()
        if any(group == other or set(_numbers(group)) & set(_numbers(other)) for other in groups):
            raise ReadingError(column, "servers that are in no other group")
        groups.append(group)
        if not reader.take("|"):
            return tuple(groups)


def _numbers(servers: Servers) -> tuple[ServerId, ...]:
    return () if isinstance(servers, Who) else servers


def _ring(reader: Reader) -> Ring:
    return Ring(Who.ALL if reader.at_end else reader.servers())


def _bridge(reader: Reader) -> Bridge:
    middle = reader.one_server()
    if not reader.take("between"):
        reader.fail("between", ("between",))
    column = reader.column
    groups = _groups(reader)
    if len(groups) != 2 or any(set(_numbers(middle)) & set(_numbers(side)) for side in groups):
        raise ReadingError(column, "two other sides (1 2 | 4 5)")
    return Bridge(middle, *groups)


def _delay(reader: Reader) -> Delay:
    plain = reader.comes(_LIKE_DURATION)
    links = everywhere() if plain else read_links(reader, one_side=True, last=False)
    seconds, jitter = reader.duration(), reader.jitter()
    distribution = Distribution.UNIFORM
    if jitter and not reader.at_end:
        distribution = reader.choice(_DISTRIBUTIONS, "uniform, normal or exponential")
    return Delay(links, seconds, jitter, distribution)


def _ruled(reader: Reader) -> Links:
    return read_links(reader, one_side=True, last=False)


SPECS: tuple[CommandSpec[NetworkCommand], ...] = (
    CommandSpec(
        "cut",
        "cut [KIND] A B | cut [KIND] A -> B",
        "lose every message between two servers, or those one way only",
        "cut 1 -> 2",
        Takes.LINKS,
        lambda reader: Cut(read_links(reader)),
        more=("cut client 1", "cut AppendEntries 1 2", "cut all"),
    ),
    CommandSpec(
        "stall",
        "stall [KIND] A B | stall [KIND] A -> B",
        "let messages wait until it is healed; they arrive late, as TCP's do",
        "stall 1 -> 2",
        Takes.LINKS,
        lambda reader: Stall(read_links(reader)),
    ),
    CommandSpec(
        "reset",
        "reset A B | reset A -> B",
        "break the connection and all that is on it; none comes about until it is healed",
        "reset 1 2",
        Takes.LINKS,
        _reset,
    ),
    CommandSpec(
        "heal",
        "heal [KIND] [A [B] | A -> B]",
        "end the rules of links: of all, of those of a server, or of one link",
        "heal all",
        Takes.LINKS,
        _heal,
        more=("heal 1 -> 2", "heal client"),
    ),
    CommandSpec(
        "partition",
        "partition SERVERS | SERVERS …",
        "cut every link between the groups; servers not named form one more",
        "partition 1 2 | 3 4 5",
        Takes.LINKS,
        lambda reader: Partition(_groups(reader)),
        more=("partition client 1 2 | 3 4 5",),
    ),
    CommandSpec(
        "isolate",
        "isolate SERVERS",
        "cut every link of each of these servers to the others, both ways",
        "isolate leader",
        Takes.SERVERS,
        on_servers(Isolate),
    ),
    CommandSpec(
        "ring",
        "ring [SERVERS]",
        "leave each server the links to its two neighbours only, in this order",
        "ring",
        Takes.SERVERS,
        _ring,
        more=("ring 1 3 5 2 4",),
    ),
    CommandSpec(
        "bridge",
        "bridge SERVER between SERVERS | SERVERS",
        "cut two sides off each other; one server sees both",
        "bridge 3 between 1 2 | 4 5",
        Takes.SERVERS,
        _bridge,
        words=("between",),
    ),
    CommandSpec(
        "delay",
        "delay [[KIND] A [B] | A -> B] DURATION [±DURATION [uniform | normal | exponential]]",
        "how long messages take, in the cluster's time",
        "delay 20ms",
        Takes.LINKS,
        _delay,
        more=("delay 1 2 200ms ±50ms", "delay AppendEntries 1 -> 2 50ms ±20ms exponential"),
        words=("20ms", "50ms", "200ms", *_DISTRIBUTIONS),
    ),
    CommandSpec(
        "loss",
        "loss [KIND] A [B] | A -> B SHARE",
        "lose a share of the messages",
        "loss all 10%",
        Takes.LINKS,
        lambda reader: Loss(_ruled(reader), reader.share()),
        more=("loss AppendEntries 2 -> 3 50%",),
        words=SHARES,
    ),
    CommandSpec(
        "reorder",
        "reorder [KIND] A [B] | A -> B SHARE",
        "let a share of the messages come up to 100 ms later, and be overtaken",
        "reorder all 20%",
        Takes.LINKS,
        lambda reader: Reorder(_ruled(reader), reader.share()),
        words=SHARES,
    ),
    CommandSpec(
        "bandwidth",
        "bandwidth [KIND] A [B] | A -> B BYTES",
        "how many bytes pass in a second of the cluster's time",
        "bandwidth 1 -> 2 10kB/s",
        Takes.LINKS,
        lambda reader: Bandwidth(_ruled(reader), reader.bandwidth()),
        more=("bandwidth all unlimited",),
        words=("10kB/s", "100kB/s", "1MB/s", "unlimited"),
    ),
    CommandSpec(
        "links",
        "links",
        "list the rules of links that are in force",
        "links",
        Takes.NOTHING,
        alone(ShowLinks),
    ),
)
