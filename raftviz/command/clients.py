"""Commands that use the cluster as a client does: put, get, delete."""

from __future__ import annotations

import re
from dataclasses import dataclass

from raft.frames import Consistency
from raftviz.command.spec import CommandSpec, Takes
from raftviz.command.text import Reader, ReadingError, Servers, Word, format_servers, quote

_HOW = {"lease": Consistency.LEASE, "stale": Consistency.STALE}
_AT = re.compile("@")


@dataclass(frozen=True, slots=True)
class Put:
    """``put x 1`` · ``put x 1 @2`` (to that server, leader or not; no redirect)."""

    key: bytes
    value: bytes
    server: Servers | None

    def __str__(self) -> str:
        return f"put {quote(self.key)} {quote(self.value)}{_destination(self.server)}"


@dataclass(frozen=True, slots=True)
class Get:
    """``get x`` · ``get x @2`` · ``get x lease @2`` · ``get x stale @2``."""

    key: bytes
    server: Servers | None
    consistency: Consistency = Consistency.LINEARIZABLE

    def __str__(self) -> str:
        how = "" if self.consistency is Consistency.LINEARIZABLE else f" {self.consistency.name}"
        return f"get {quote(self.key)}{how.lower()}{_destination(self.server)}"


@dataclass(frozen=True, slots=True)
class Delete:
    """``delete x`` · ``delete x @2``."""

    key: bytes
    server: Servers | None

    def __str__(self) -> str:
        return f"delete {quote(self.key)}{_destination(self.server)}"


ClientCommand = Put | Get | Delete


def _destination(server: Servers | None) -> str:
    return "" if server is None else f" @{format_servers(server)}"


def _put(reader: Reader) -> Put:
    key, value = _key(reader), reader.word("a value")
    server = reader.destination()
    if not reader.at_end:
        whole = f"{value.text} {reader.rest()}".encode("utf-8", "replace")
        raise ReadingError(
            value.column,
            "one value (in quotes if it has spaces)",
            fixed=f"put {quote(key.value)} {quote(whole)}",
        )
    return Put(key.value, value.value, server)


def _key(reader: Reader) -> Word:
    if reader.comes(_AT):
        reader.fail("a key (in quotes if it begins with @)")
    return reader.word("a key")


def _get(reader: Reader) -> Get:
    key = _key(reader).value
    found = next((word for word in _HOW if reader.take(word)), None)
    how = _HOW[found] if found else Consistency.LINEARIZABLE
    return Get(key, reader.destination(), how)


SPECS: tuple[CommandSpec[ClientCommand], ...] = (
    CommandSpec(
        "put",
        "put KEY VALUE [@SERVER]",
        "store a value; @SERVER asks that server, leader or not",
        "put x 1",
        Takes.KEY,
        _put,
    ),
    CommandSpec(
        "get",
        "get KEY [lease | stale] [@SERVER]",
        "read a key as of now, or by the leader's lease, or whatever a server has applied",
        "get x @2",
        Takes.KEY,
        _get,
        more=("get x lease", "get x stale @3"),
        words=("lease", "stale"),
    ),
    CommandSpec(
        "delete",
        "delete KEY [@SERVER]",
        "forget a key",
        "delete x",
        Takes.KEY,
        lambda reader: Delete(_key(reader).value, reader.destination()),
    ),
)
