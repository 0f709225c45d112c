"""The laboratory itself: commands in, events out.

Commands that change the lab are carried out one after the other. What takes its time (an
operation of a client) only begins in its turn, and goes on beside others. Whatever a command
does is in the stream before its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from raftviz import commands as cmd
from raftviz.lab.api import Answer
from raftviz.lab.on_clients import OnClients
from raftviz.lab.on_goings_on import OnChaos, OnLoad
from raftviz.lab.on_machines import OnMachines
from raftviz.lab.on_members import OnMembers
from raftviz.lab.on_messages import OnMessages
from raftviz.lab.on_network import OnNetwork
from raftviz.lab.on_rules import OnRules
from raftviz.lab.on_servers import OnServers
from raftviz.lab.on_time import OnTime
from raftviz.lab.parts import Parts
from raftviz.lab.supervisor import ServerStartError
from raftviz.lab.who import RefusedError
from raftviz.model.events import CommandGiven

MAX_SHOWN_TEXT = 2000
"""Characters of a command that the stream repeats."""


class Session:
    """Hands each command to the family that it belongs to, and tells how it went."""

    def __init__(self, parts: Parts) -> None:
        self._stream = parts.stream
        self._servers = OnServers(parts)
        self._machines = OnMachines(parts)
        self._rules = OnRules(parts)
        self._members = OnMembers(parts)
        self._network = OnNetwork(parts)
        self._messages = OnMessages(parts)
        self._clients = OnClients(parts)
        self._load = OnLoad(parts)
        self._chaos = OnChaos(parts, self.carry_out)
        self._time = OnTime(parts)
        self._turn = asyncio.Lock()

    async def carry_out(self, text: str) -> Answer:
        """Carry out one command in the command language and say how it went."""
        try:
            answer = Answer(True, await self._obey(cmd.parse(text)))
        except (cmd.CommandError, RefusedError, ServerStartError) as error:
            answer = Answer(False, str(error))
        self._stream.tell(CommandGiven(text[:MAX_SHOWN_TEXT], answer.ok, answer.text))
        return answer

    async def _obey(self, command: cmd.Command) -> str:
        async with self._turn:
            done = await self._begin(command)
        return done if isinstance(done, str) else await done

    async def _begin(self, command: cmd.Command) -> str | Awaitable[str]:
        """Carry a command out, or as much of it as must not happen beside others."""
        if isinstance(command, cmd.ServerCommand):
            return await self._servers.carry_out(command)
        if isinstance(command, cmd.MachineCommand):
            return await self._machines.carry_out(command)
        if isinstance(command, cmd.RuleCommand):
            return await self._rules.carry_out(command)
        if isinstance(command, cmd.MemberCommand):
            return await self._members.carry_out(command)
        if isinstance(command, cmd.NetworkCommand):
            return await self._network.carry_out(command)
        if isinstance(command, cmd.MessageCommand):
            return await self._messages.carry_out(command)
        if isinstance(command, cmd.ClientCommand):
            return self._clients.carry_out(command)
        if isinstance(command, cmd.LoadCommand):
            return await self._load.carry_out(command)
        if isinstance(command, cmd.ChaosCommand):
            return self._chaos.carry_out(command)
        if isinstance(command, cmd.TimeCommand):
            return await self._time.carry_out(command)
        name = str(command).split()[0]
        raise RefusedError(f"{name} is for viewers and scripts, not for the laboratory")
