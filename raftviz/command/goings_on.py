"""Commands on what goes on by itself: a load of clients, and faults at random."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from decimal import Decimal

from raftviz.command.spec import CommandSpec, Takes
from raftviz.command.text import Reader, ReadingError, format_duration

MAX_LOAD, MAX_CLIENTS, MAX_KEYS, MAX_SESSIONS = 5000.0, 500, 10_000, 50
MAX_SIZE = 16384
CHAOS_EVERY = 2.0
"""Seconds of the cluster's time between two faults unless it is said."""
MAX_SEED = 999_999_999


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of the operations in percent; together they are 100."""

    put: int = 50
    get: int = 50
    delete: int = 0

    def __str__(self) -> str:
        shares = (("put", self.put), ("get", self.get), ("delete", self.delete))
        return " ".join(f"{kind} {share}%" for kind, share in shares if share)


@dataclass(frozen=True, slots=True)
class Load:
    """``load 200/s`` · ``load 8 clients put 90% get 10% keys 5 sessions 2``.

    With ``rate`` operations begin so often in a second of the cluster's time, whatever becomes
    of them; else each of ``clients`` begins its next one when the last has ended. Writes go
    through ``sessions``, which carry them out once however often they are sent; without any
    they are sent once.
    """

    rate: float = 0.0
    clients: int = 0
    mix: Mix = Mix()
    keys: int = 10
    sessions: int = 0
    size: int = 0
    """Bytes that a value is made up to; 0: as few as tell it from all others."""

    def __str__(self) -> str:
        who = f"{self.clients} clients" if self.clients else _per_second(self.rate)
        sessions = f" sessions {self.sessions}" if self.sessions else ""
        size = f" size {self.size}" if self.size else ""
        return f"load {who} {self.mix} keys {self.keys}{sessions}{size}"


@dataclass(frozen=True, slots=True)
class LoadOff:
    """``load off``."""

    def __str__(self) -> str:
        return "load off"


@dataclass(frozen=True, slots=True)
class ChaosOn:
    """``chaos on`` · ``chaos on seed 7 kinds kill partition every 2s``; no kinds: all."""

    seed: int | None = None
    kinds: tuple[str, ...] = ()
    every: float = CHAOS_EVERY

    def __str__(self) -> str:
        seed = "" if self.seed is None else f" seed {self.seed}"
        kinds = f" kinds {' '.join(self.kinds)}" if self.kinds else ""
        return f"chaos on{seed}{kinds} every {format_duration(self.every)}"


@dataclass(frozen=True, slots=True)
class ChaosOff:
    """``chaos off``: no more faults, and those that chaos made are healed."""

    def __str__(self) -> str:
        return "chaos off"


def _per_second(rate: float) -> str:
    return f"{Decimal(repr(rate)):f}".removesuffix(".0") + "/s"


LoadCommand = Load | LoadOff
ChaosCommand = ChaosOn | ChaosOff

CHAOS_KINDS = (
    *("kill", "power", "pause", "timeout", "disk", "clock", "partition", "isolate"),
    *("cut", "stall", "reset", "loss", "delay", "duplicate", "reorder"),
)
"""What ``kinds`` can name, each after the command that does it."""

_RATE = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,6})?)/s")
_SHARE = re.compile(r"([0-9]{1,3})%")
_LOAD = "how much (200/s, 8 clients), or off"
_LOAD_MORE = "put, get or delete with a share (put 90%), keys, sessions or size with a number"


def _load(reader: Reader) -> Load | LoadOff:
    column = reader.column
    word = reader.word(_LOAD).text.lower()
    if word == "off":
        return LoadOff()
    if (match := _RATE.fullmatch(word)) is not None and 0 < float(match[1]) <= MAX_LOAD:
        load = Load(rate=float(match[1]))
    elif word.isascii() and word.isdigit() and 1 <= int(word) <= MAX_CLIENTS:
        if not reader.take("clients") and not reader.take("client"):
            reader.fail("clients", ("clients",))
        load = Load(clients=int(word))
    else:
        raise ReadingError(column, f"{_LOAD}: up to {MAX_LOAD:g}/s or {MAX_CLIENTS} clients")
    return _load_details(load, reader)


def _load_details(load: Load, reader: Reader) -> Load:
    shares: dict[str, int] = {}
    first = reader.column
    while not reader.at_end:
        column = reader.column
        word = reader.word(_LOAD_MORE).text.lower()
        if word in ("put", "get", "delete"):
            shares[word] = _share(reader)
        elif word == "keys":
            load = replace(load, keys=reader.count(MAX_KEYS))
        elif word == "sessions":
            load = replace(load, sessions=reader.count(MAX_SESSIONS))
        elif word == "size":
            load = replace(load, size=reader.count(MAX_SIZE))
        else:
            words = ("put", "get", "delete", "keys", "sessions", "size")
            raise ReadingError(column, _LOAD_MORE, words)
    if not shares:
        return load
    if sum(shares.values()) != 100:
        raise ReadingError(first, "shares that add up to 100%")
    return replace(load, mix=Mix(**{"put": 0, "get": 0, "delete": 0, **shares}))


def _share(reader: Reader) -> int:
    column = reader.column
    match = _SHARE.fullmatch(reader.word("a share (50%)").text)
    if match is None or int(match[1]) > 100:
        raise ReadingError(column, "a share (50%)")
    return int(match[1])


def _chaos(reader: Reader) -> ChaosOn | ChaosOff:
    if reader.take("off"):
        return ChaosOff()
    if not reader.take("on"):
        reader.fail("on or off", ("on", "off"))
    chaos = ChaosOn()
    while not reader.at_end:
        if reader.take("seed"):
            chaos = replace(chaos, seed=reader.count(MAX_SEED))
        elif reader.take("every"):
            chaos = replace(chaos, every=_pause(reader))
        elif reader.take("kinds"):
            chaos = replace(chaos, kinds=_kinds(reader))
        else:
            reader.fail("seed, kinds or every", ("seed", "kinds", "every"))
    return chaos


def _pause(reader: Reader) -> float:
    column = reader.column
    seconds = reader.duration()
    if seconds < 0.01:
        raise ReadingError(column, "a duration of 10ms or more")
    return seconds


def _kinds(reader: Reader) -> tuple[str, ...]:
    found: list[str] = []
    while (kind := next(filter(reader.take, CHAOS_KINDS), None)) is not None:
        found.append(kind)
        reader.take(",")
    if not found:
        reader.fail(f"kinds of faults ({', '.join(CHAOS_KINDS)})", CHAOS_KINDS)
    return tuple(dict.fromkeys(found))


LOAD_SPECS: tuple[CommandSpec[LoadCommand], ...] = (
    CommandSpec(
        "load",
        "load RATE/s | COUNT clients | off",
        "let clients work: [put 90% get 10%] [keys 10] [sessions 5] [size 100]",
        "load 200/s",
        Takes.LOAD,
        _load,
        more=("load 8 clients put 90% get 10% keys 5 sessions 2", "load off"),
    ),
)
CHAOS_SPECS: tuple[CommandSpec[ChaosCommand], ...] = (
    CommandSpec(
        "chaos",
        "chaos on | off",
        "faults at random, which a seed decides: [seed 7] [kinds kill cut] [every 2s]",
        "chaos on seed 7",
        Takes.CHAOS,
        _chaos,
        more=("chaos on kinds kill partition every 500ms", "chaos off"),
    ),
)
