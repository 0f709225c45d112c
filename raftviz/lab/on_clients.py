"""Carries out what a person does as a client: put, get, delete."""

from __future__ import annotations

from collections.abc import Awaitable

from raft.core.messages import ServerId
from raftviz import commands as cmd
from raftviz.lab.operations import Operation
from raftviz.lab.parts import Parts
from raftviz.lab.who import RefusedError, names, resolve
from raftviz.model.events import OperationKind


class OnClients:
    """The commands that are operations on the cluster's keys."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def carry_out(self, command: cmd.ClientCommand) -> Awaitable[str]:
        """Send an operation off; what is returned waits for its end. Raises RefusedError."""
        operations = self._parts.operations
        return operations.outcome(operations.begin(self._operation(command)))

    def _operation(self, command: cmd.ClientCommand) -> Operation:
        server = None if command.server is None else self._one(command.server)
        match command:
            case cmd.Put(key, value):
                return Operation(OperationKind.PUT, key, value, server)
            case cmd.Get(key, consistency=how):
                return Operation(OperationKind.GET, key, server=server, consistency=how)
            case cmd.Delete(key):
                return Operation(OperationKind.DELETE, key, server=server)

    def _one(self, servers: cmd.Servers) -> ServerId:
        chosen = resolve(servers, self._parts.view)
        if len(chosen) > 1:
            raise RefusedError(f"an operation goes to one server, not to {names(chosen)}")
        return chosen[0]
