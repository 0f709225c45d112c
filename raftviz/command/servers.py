"""Commands on processes: kill, stop, restart, pause, resume, time out."""

from __future__ import annotations

from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, OnServers, Takes, on_servers


@dataclass(frozen=True, slots=True)
class Kill(OnServers):
    """``kill 2`` · ``kill leader``: SIGKILL."""


@dataclass(frozen=True, slots=True)
class Restart(OnServers):
    """``restart 2`` · ``restart all``: start a dead server again on its own data."""


@dataclass(frozen=True, slots=True)
class Pause(OnServers):
    """``pause leader``: SIGSTOP."""


@dataclass(frozen=True, slots=True)
class Resume(OnServers):
    """``resume 2``: SIGCONT."""


@dataclass(frozen=True, slots=True)
class Timeout(OnServers):
    """``timeout 3``: the server starts an election now."""


@dataclass(frozen=True, slots=True)
class Stop(OnServers):
    """``stop leader``: SIGTERM; a leader lets another one take over first."""


ServerCommand = Kill | Stop | Restart | Pause | Resume | Timeout

SPECS: tuple[CommandSpec[ServerCommand], ...] = (
    CommandSpec(
        "kill",
        "kill SERVERS",
        "end server processes at once (SIGKILL)",
        "kill leader",
        Takes.SERVERS,
        on_servers(Kill),
    ),
    CommandSpec(
        "stop",
        "stop SERVERS",
        "ask server processes to end (SIGTERM): a leader hands over first",
        "stop leader",
        Takes.SERVERS,
        on_servers(Stop),
    ),
    CommandSpec(
        "restart",
        "restart SERVERS",
        "start dead servers again, each on its own data",
        "restart all",
        Takes.SERVERS,
        on_servers(Restart),
    ),
    CommandSpec(
        "pause",
        "pause SERVERS",
        "stop processes where they are (SIGSTOP); their connections stay open",
        "pause 2",
        Takes.SERVERS,
        on_servers(Pause),
    ),
    CommandSpec(
        "resume",
        "resume SERVERS",
        "let paused processes go on (SIGCONT)",
        "resume 2",
        Takes.SERVERS,
        on_servers(Resume),
    ),
    CommandSpec(
        "timeout",
        "timeout SERVERS",
        "let election timers run out now",
        "timeout 3",
        Takes.SERVERS,
        on_servers(Timeout),
        aliases=("time out",),
    ),
)
