"""Commands on who belongs to the cluster, and who leads it."""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.messages import ServerId
from raftviz.command.spec import CommandSpec, Takes
from raftviz.command.text import Reader, ReadingError, Servers, Who, format_servers

_NEW = "the number of a new server"


@dataclass(frozen=True, slots=True)
class Add:
    """``add 6``: start a server and let it join, with a vote once it has the log.

    With ``learner`` (``add 6 as learner``) it gets no vote.
    """

    server: ServerId
    learner: bool = False

    def __str__(self) -> str:
        return f"add {self.server}{' as learner' if self.learner else ''}"


@dataclass(frozen=True, slots=True)
class OnMember:
    """A command that is its name and one server."""

    server: Servers

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {format_servers(self.server)}"


@dataclass(frozen=True, slots=True)
class Promote(OnMember):
    """``promote 6``: give a learner a vote."""


@dataclass(frozen=True, slots=True)
class Demote(OnMember):
    """``demote 3``: take a server's vote away; it gets the log all the same."""


@dataclass(frozen=True, slots=True)
class Remove(OnMember):
    """``remove 3`` · ``remove leader``: out of the cluster, and then end its process."""


@dataclass(frozen=True, slots=True)
class Replace:
    """``replace 3 6``: add the new server, and when it has a vote remove the old one."""

    old: Servers
    new: ServerId

    def __str__(self) -> str:
        return f"replace {format_servers(self.old)} {self.new}"


@dataclass(frozen=True, slots=True)
class Transfer(OnMember):
    """``transfer 4``: let another server lead."""


MemberCommand = Add | Promote | Demote | Remove | Replace | Transfer


def added(command: object) -> ServerId | None:
    """Return the server that a command adds to the lab, if it does."""
    match command:
        case Add(server) | Replace(new=server):
            return server
    return None


def _new_server(reader: Reader) -> ServerId:
    column = reader.column
    found = reader.one_server()
    if isinstance(found, Who):
        raise ReadingError(column, _NEW)
    return found[0]


def _add(reader: Reader) -> Add:
    server = _new_server(reader)
    if not reader.take("as"):
        return Add(server)
    if not reader.take("learner"):
        reader.fail("learner", ("learner",))
    return Add(server, learner=True)


SPECS: tuple[CommandSpec[MemberCommand], ...] = (
    CommandSpec(
        "add",
        "add SERVER [as learner]",
        "start one more server and let it join, with a vote once it has the log",
        "add 6",
        Takes.SERVERS,
        _add,
        more=("add 6 as learner",),
    ),
    CommandSpec(
        "promote",
        "promote SERVER",
        "give a learner a vote",
        "promote 6",
        Takes.SERVERS,
        lambda reader: Promote(reader.one_server()),
    ),
    CommandSpec(
        "demote",
        "demote SERVER",
        "make a voter a learner, which gets the log and has no vote",
        "demote 3",
        Takes.SERVERS,
        lambda reader: Demote(reader.one_server()),
    ),
    CommandSpec(
        "remove",
        "remove SERVER",
        "take a server out of the cluster, and end it once that is committed",
        "remove 3",
        Takes.SERVERS,
        lambda reader: Remove(reader.one_server()),
    ),
    CommandSpec(
        "replace",
        "replace OLD NEW",
        "add a new server, and remove an old one once the new one has a vote",
        "replace 3 6",
        Takes.SERVERS,
        lambda reader: Replace(reader.one_server(), _new_server(reader)),
    ),
    CommandSpec(
        "transfer",
        "transfer SERVER",
        "let another server lead (thesis §3.10)",
        "transfer 4",
        Takes.SERVERS,
        lambda reader: Transfer(reader.one_server()),
    ),
)
