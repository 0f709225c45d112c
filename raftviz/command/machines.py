"""Commands on the machines below the servers: their power, their disks, their clocks."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, OnServers, Takes, on_servers
from raftviz.command.text import (
    Reader,
    ReadingError,
    Servers,
    format_duration,
    format_rate,
    format_servers,
    read_rate,
)

DISK_WORDS = ("slow", "full", "failsync", "tear", "ok", "flip", "wipe")
FILES = ("log", "vote", "snapshot")
FASTEST, SLOWEST = 10.0, 0.1


class DiskFault(enum.Enum):
    """What can be wrong with a disk, and is said in one word."""

    FULL = "full"
    FAIL_SYNC = "failsync"
    TEAR = "tear"
    NONE = "ok"
    WIPE = "wipe"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Slow:
    """Each fsync takes so much longer (virtual seconds)."""

    delay: float

    def __str__(self) -> str:
        return f"slow {format_duration(self.delay)}"


@dataclass(frozen=True, slots=True)
class Flip:
    """A bit flips in one of a dead server's files: in that byte, or (None) in the middle."""

    file: str
    offset: int | None

    def __str__(self) -> str:
        return f"flip {self.file}" if self.offset is None else f"flip {self.file} #{self.offset}"


@dataclass(frozen=True, slots=True)
class Power(OnServers):
    """``power 3``: cut the power of a server's machine."""


@dataclass(frozen=True, slots=True)
class Disk:
    """``disk 3 slow 50ms`` · ``disk 3 full`` · ``disk 3 flip vote #120`` · ``disk 3 ok``."""

    servers: Servers
    fault: DiskFault | Slow | Flip

    def __str__(self) -> str:
        return f"disk {format_servers(self.servers)} {self.fault}"


@dataclass(frozen=True, slots=True)
class Clock:
    """``clock 3 x1.5`` · ``clock 3 x1/2`` · ``clock 3 ok``: how fast a server's clock runs."""

    servers: Servers
    factor: float

    def __str__(self) -> str:
        factor = "ok" if self.factor == 1 else f"x{format_rate(self.factor)}"
        return f"clock {format_servers(self.servers)} {factor}"


MachineCommand = Power | Disk | Clock

_FAULTS = {fault.value: fault for fault in DiskFault}
_OFFSET = re.compile(r"#([0-9]{1,9})")
_CLOCK = f"ok, or how fast it runs (x1.5, x1/2: from {SLOWEST:g} to {FASTEST:g})"


def _disk(reader: Reader) -> Disk:
    servers = reader.servers_then()
    column = reader.column
    word = reader.word(" or ".join(DISK_WORDS)).text.lower()
    if word == "slow":
        return Disk(servers, Slow(reader.duration()))
    if word == "flip":
        return Disk(servers, _flip(reader))
    if word not in _FAULTS:
        raise ReadingError(column, f"{', '.join(DISK_WORDS[:-1])} or wipe", DISK_WORDS)
    return Disk(servers, _FAULTS[word])


def _flip(reader: Reader) -> Flip:
    column = reader.column
    file = reader.word("log, vote or snapshot").text.lower()
    if file not in FILES:
        raise ReadingError(column, "log, vote or snapshot", FILES)
    if reader.at_end:
        return Flip(file, None)
    column = reader.column
    match = _OFFSET.fullmatch(reader.word("the number of a byte (#120)").text)
    if match is None:
        raise ReadingError(column, "the number of a byte (#120)")
    return Flip(file, int(match[1]))


def _clock(reader: Reader) -> Clock:
    servers = reader.servers_then()
    column = reader.column
    word = reader.word(_CLOCK).text.lower()
    if word == "ok":
        return Clock(servers, 1.0)
    factor = read_rate(word[1:]) if word[:1] in ("x", "×") else None
    if factor is None or not SLOWEST <= factor <= FASTEST:
        raise ReadingError(column, _CLOCK, ("ok",))
    return Clock(servers, factor)


SPECS: tuple[CommandSpec[MachineCommand], ...] = (
    CommandSpec(
        "power",
        "power SERVERS",
        "cut the power: what is not synced is lost, as it is not by a kill",
        "power leader",
        Takes.SERVERS,
        on_servers(Power),
    ),
    CommandSpec(
        "disk",
        "disk SERVERS FAULT",
        "what a disk does: slow 50ms, full, failsync, tear, ok; when dead: flip FILE, wipe",
        "disk 3 slow 50ms",
        Takes.DISK,
        _disk,
        more=("disk leader full", "disk 3 flip log #120", "disk all ok"),
    ),
    CommandSpec(
        "clock",
        "clock SERVERS xRATE | ok",
        "let servers' clocks run fast or slow beside the cluster's",
        "clock 3 x1.5",
        Takes.CLOCK,
        _clock,
        more=("clock 3 ok",),
    ),
)
