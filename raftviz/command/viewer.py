"""Commands that a viewer carries out itself: select, help, quit."""

from __future__ import annotations

from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, OneWord, OnServers, Scope, Takes, alone
from raftviz.command.text import Reader


@dataclass(frozen=True, slots=True)
class Select(OnServers):
    """``select 2``: the server whose state is shown."""


@dataclass(frozen=True, slots=True)
class Help:
    """``help`` · ``help cut``."""

    topic: str

    def __str__(self) -> str:
        return f"help {self.topic}".strip()


@dataclass(frozen=True, slots=True)
class Quit(OneWord):
    """``quit``: stop all servers and leave."""


ViewerCommand = Select | Help | Quit


def _help(reader: Reader) -> Help:
    return Help(" ".join(reader.rest().lower().split()))


SPECS: tuple[CommandSpec[ViewerCommand], ...] = (
    CommandSpec(
        "select",
        "select SERVER",
        "show the whole state of a server",
        "select leader",
        Takes.SERVERS,
        lambda reader: Select(reader.one_server()),
        Scope.VIEWER,
    ),
    CommandSpec(
        "help",
        "help [COMMAND | conditions]",
        "what can be said, and how",
        "help partition",
        Takes.TOPIC,
        _help,
        Scope.VIEWER,
        aliases=("?",),
    ),
    CommandSpec(
        "quit",
        "quit",
        "stop all servers and leave",
        "quit",
        Takes.NOTHING,
        alone(Quit),
        Scope.VIEWER,
        aliases=("exit",),
    ),
)
