"""Carries out what a person does to the cluster's membership, and to who leads it.

A new server is a process before it is a member, and a member that leaves is a process until
that is committed. Only the beginning of such a command has its turn among others; the change
itself goes on beside them, so that one can cut a link in the middle of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from math import inf
from typing import Any

from raft.core.events import ConfigurationChanged
from raft.core.messages import ServerId
from raft.errors import OutcomeUnknownError, RaftError
from raftviz import commands as cmd
from raftviz.lab.api import MAX_SERVERS
from raftviz.lab.parts import Parts
from raftviz.lab.supervisor import ServerStartError
from raftviz.lab.who import RefusedError, names, resolve
from raftviz.model.events import ServerAdded, ServerRemoved

CHANGE_SECONDS = 30.0
"""Seconds of the cluster's time in which a change must be done; where that runs fast, real ones."""


class OnMembers:
    """The commands on members."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._raft = parts.raft
        self._cluster = parts.cluster
        self._gone: set[ServerId] = set()
        """Numbers that no server may have again: others remember what they promised."""

    async def carry_out(self, command: cmd.MemberCommand) -> Awaitable[str]:
        """Begin it; what is returned waits for its end. Raises RefusedError, ServerStartError."""
        if self._parts.time.frozen:
            raise RefusedError("time stands still, and members change by messages; thaw it first")
        match command:
            case cmd.Add(server, learner):
                await self._start(server)
                return self._add(server, learner=learner)
            case cmd.Replace(old, new):
                leaving = self._member(old)
                await self._start(new)
                return self._replace(leaving, new)
            case cmd.Remove(servers):
                server = self._member(servers)
                self._keep_a_voter(server)
                return self._remove(server)
            case cmd.Promote(servers):
                return self._promote(self._member(servers))
            case cmd.Demote(servers):
                return self._demote(self._member(servers))
            case cmd.Transfer(servers):
                return self._transfer(self._member(servers))

    # --- What is known -------------------------------------------------------------------------

    @property
    def _configuration(self) -> ConfigurationChanged:
        return self._parts.view.configuration

    def _member(self, servers: cmd.Servers) -> ServerId:
        server, *others = resolve(servers, self._parts.view)
        if others:
            raise RefusedError(f"one server at a time, not {names((server, *others))}")
        known = self._configuration
        if server not in (*known.voters, *known.outgoing, *known.learners):
            raise RefusedError(f"S{server} is no member of the cluster")
        return server

    def _keep_a_voter(self, leaving: ServerId) -> None:
        if self._configuration.voters == (leaving,):
            raise RefusedError(f"S{leaving} is the last voter")

    async def _in_time(self, change: Coroutine[Any, Any, object]) -> None:
        """Wait for a change, whose own time is unlimited. Raises RaftError.

        It is the cluster's time that is up: slow motion takes none of it, and frozen time nothing.
        """
        time = self._parts.time
        end = time.clock.now() + CHANGE_SECONDS * max(1.0, time.clock.rate)
        under_way, late = asyncio.ensure_future(change), asyncio.ensure_future(time.until(end))
        try:
            await asyncio.wait((under_way, late), return_when=asyncio.FIRST_COMPLETED)
            if not under_way.done():
                raise OutcomeUnknownError(f"it is not done after {CHANGE_SECONDS:g} s")
            await under_way
        finally:
            under_way.cancel()
            late.cancel()

    # --- Servers that come ---------------------------------------------------------------------

    async def _start(self, server: ServerId) -> None:
        """Let the lab have one more server, which waits to be called."""
        if server in self._parts.view.servers:
            raise RefusedError(f"there is an S{server} already")
        if server in self._gone:
            raise RefusedError(f"there was an S{server}; a new server needs a new number")
        if len(self._parts.view.servers) >= MAX_SERVERS:
            raise RefusedError(f"a lab has at most {MAX_SERVERS} servers")
        if self._parts.view.leader is None:
            raise RefusedError("nobody leads at the moment, and only a leader changes the members")
        self._parts.stream.tell(ServerAdded(server))
        await self._parts.fabric.join(server)
        try:
            await self._cluster.start_joining(server)
        except ServerStartError:
            self._forget(server)
            raise

    async def _add(self, server: ServerId, *, learner: bool) -> str:
        address = self._parts.fabric.ports[server]
        try:
            await self._in_time(self._raft.add_learner(server, address, inf))
        except RaftError as error:
            return await self._not_added(server, error)
        if learner:
            return f"S{server} is a learner: it gets the log, and has no vote"
        try:
            await self._in_time(self._raft.add(server, address, inf))
        except RaftError as error:
            return f"S{server} is a learner, and not sure to be a voter: {error}"
        return f"S{server} is a voter now"

    async def _not_added(self, server: ServerId, error: RaftError) -> str:
        """Undo the start of a server, unless it may have become a member."""
        if isinstance(error, OutcomeUnknownError):
            return f"it is not known whether S{server} is a member: {error}"
        await self._end(server)
        raise RefusedError(f"S{server} did not join: {error}")

    async def _replace(self, old: ServerId, new: ServerId) -> str:
        added = await self._add(new, learner=False)
        if new not in self._configuration.voters:
            return f"{added}; S{old} stays"
        return f"{added}; {await self._remove(old)}"

    # --- Servers that go -----------------------------------------------------------------------

    async def _remove(self, server: ServerId) -> str:
        try:
            await self._in_time(self._raft.remove(server, inf))
        except OutcomeUnknownError as error:
            return f"it is not known whether S{server} is a member: {error}"
        except RaftError as error:
            raise RefusedError(f"S{server} stays: {error}") from error
        await self._end(server)
        return f"S{server} has left the cluster, and its process has ended"

    async def _end(self, server: ServerId) -> None:
        self._gone.add(server)
        await self._cluster.kill_all([server])
        self._forget(server)

    def _forget(self, server: ServerId) -> None:
        self._parts.fabric.leave(server)
        self._parts.stream.tell(ServerRemoved(server))

    # --- Votes ---------------------------------------------------------------------------------

    def _promote(self, server: ServerId) -> Coroutine[Any, Any, str]:
        if server in self._configuration.voters:
            raise RefusedError(f"S{server} has a vote already")
        return self._change(self._raft.promote(server, inf), f"S{server} is a voter now")

    def _demote(self, server: ServerId) -> Coroutine[Any, Any, str]:
        known = self._configuration
        if server in known.learners:
            raise RefusedError(f"S{server} is a learner already")
        self._keep_a_voter(server)
        change = self._raft.demote(server, inf)
        return self._change(change, f"S{server} is a learner now: it gets the log, and has no vote")

    def _transfer(self, server: ServerId) -> Coroutine[Any, Any, str]:
        if server == self._parts.view.leader:
            raise RefusedError(f"S{server} leads already")
        change = self._raft.transfer_leadership(server, inf)
        return self._change(change, f"S{server} leads now")

    async def _change(self, change: Coroutine[Any, Any, object], done: str) -> str:
        try:
            await self._in_time(change)
        except OutcomeUnknownError as error:
            return f"the outcome is unknown: {error}"
        except RaftError as error:
            raise RefusedError(str(error)) from error
        return done
