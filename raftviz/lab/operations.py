"""Puts, gets and deletes that people give to the lab, as clients of the cluster (§8).

They go through the fabric as what servers say to each other does: there are links between the
clients and each server, which take no time unless somebody gives them rules. An operation has
5 seconds of the cluster's time, however slowly that runs.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass

from raft.client import Raft
from raft.core.events import Role
from raft.core.messages import ServerId
from raft.errors import NotLeaderError, OutcomeUnknownError, RaftError
from raft.frames import Consistency
from raft.machine.kv import (
    Answer,
    Delete,
    Done,
    Failed,
    Get,
    Malformed,
    Number,
    Pairs,
    Put,
    Value,
    decode_answer,
    encode_command,
    encode_query,
)
from raft.printable import printable
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.stream import LAB, Stream
from raftviz.lab.who import RefusedError
from raftviz.model.events import OperationInvoked, OperationKind, OperationReturned, Outcome

OPERATION_SECONDS = 5.0
"""Seconds of the cluster's time after which an operation is given up."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a client asks: of ``server``, leader or not, or (None) of whoever leads."""

    kind: OperationKind
    key: bytes
    value: bytes = b""
    server: ServerId | None = None
    consistency: Consistency = Consistency.LINEARIZABLE

    @property
    def is_write(self) -> bool:
        """It becomes an entry of the log."""
        return self.kind is not OperationKind.GET


@dataclass(frozen=True, slots=True)
class _Begun:
    """An operation under way; ``was_leader`` if it was sent to one server, which led then."""

    number: int
    operation: Operation
    request: bytes
    raft: Raft
    was_leader: bool
    then: Callable[[OperationReturned], None]


class Operations:
    """All operations of a lab; any number may be under way at once."""

    def __init__(
        self, raft: Raft, time: ClusterTime, stream: Stream, tasks: asyncio.TaskGroup
    ) -> None:
        self._raft = raft
        self._time = time
        self._stream = stream
        self._tasks = tasks
        self._ids = itertools.count(1)

    def begin(
        self,
        operation: Operation,
        raft: Raft | None = None,
        then: Callable[[OperationReturned], None] = lambda returned: None,
    ) -> asyncio.Task[str]:
        """Send an operation off, by ``raft`` if it is given, and call ``then`` when it ended.

        The task returns in words how. Raises RefusedError.
        """
        try:
            request = _encode(operation)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        number = next(self._ids)
        was_leader = self._leads(operation.server)
        kind, server = operation.kind, operation.server or LAB
        key, value, how = operation.key, operation.value, operation.consistency
        self._stream.tell(OperationInvoked(number, kind, key, value, server, how))
        begun = _Begun(number, operation, request, raft or self._raft, was_leader, then)
        return self._tasks.create_task(self._perform(begun))

    def _leads(self, server: ServerId | None) -> bool:
        return server is not None and self._stream.view.servers[server].role is Role.LEADER

    async def outcome(self, task: asyncio.Task[str]) -> str:
        """Return how an operation ended; ``pending`` if time stands still before that."""
        frozen = asyncio.ensure_future(self._time.until_frozen())
        await asyncio.wait({task, frozen}, return_when=asyncio.FIRST_COMPLETED)
        frozen.cancel()
        return task.result() if task.done() else "pending: time stands still"

    async def _perform(self, begun: _Begun) -> str:
        number, operation = begun.number, begun.operation
        try:
            reply = await self._ask(begun)
        except RaftError as error:
            unknown = isinstance(error, OutcomeUnknownError)
            outcome = Outcome.UNKNOWN if unknown else Outcome.FAILED
            detail = printable(str(error))
            if isinstance(error, NotLeaderError) and begun.was_leader and operation.is_write:
                # It took the command as the leader, and says only now that it leads no longer.
                detail = "another leader's entry was committed in its place"
            returned = OperationReturned(number, outcome, False, b"", detail)
        else:
            returned = _returned(number, decode_answer(reply))
        self._stream.tell(returned)
        begun.then(returned)
        return _in_words(operation, returned)

    async def _ask(self, begun: _Begun) -> bytes:
        raft, operation = begun.raft, begun.operation
        if operation.server is None and (leader := self._stream.view.leader) is not None:
            # The lab sees all servers: a client alone might still ask one that was replaced.
            raft.prefer(leader)
        limit = asyncio.timeout(None)
        late = asyncio.ensure_future(self._expire(limit))
        try:
            if operation.kind is OperationKind.GET:
                return await raft.read(
                    begun.request, limit, operation.server, operation.consistency
                )
            return await raft.propose(begun.request, limit, operation.server)
        finally:
            late.cancel()

    async def _expire(self, limit: asyncio.Timeout) -> None:
        await self._time.until(self._time.clock.now() + OPERATION_SECONDS)
        limit.reschedule(asyncio.get_running_loop().time())


def _encode(operation: Operation) -> bytes:
    match operation.kind:
        case OperationKind.GET:
            return encode_query(Get(operation.key))
        case OperationKind.PUT:
            return encode_command(Put(operation.key, operation.value))
        case OperationKind.DELETE:
            return encode_command(Delete(operation.key))


def _returned(number: int, answer: Answer) -> OperationReturned:
    match answer:
        case Value(found, value):
            return OperationReturned(number, Outcome.OK, found, value, "")
        case Done():
            return OperationReturned(number, Outcome.OK, False, b"", "")
        case Malformed(detail) | Failed(detail):
            return OperationReturned(number, Outcome.FAILED, False, b"", printable(detail))
        case Number() | Pairs():
            detail = f"the answer is to something else: {type(answer).__name__}"
            return OperationReturned(number, Outcome.FAILED, False, b"", detail)


def _in_words(operation: Operation, returned: OperationReturned) -> str:
    key, value = printable(operation.key, 80), printable(operation.value, 80)
    if returned.outcome is Outcome.FAILED:
        return f"nothing was done: {returned.detail}"
    if returned.outcome is Outcome.UNKNOWN:
        return f"the outcome is unknown: {returned.detail}"
    match operation.kind:
        case OperationKind.PUT:
            return f"{key} = {value} is stored"
        case OperationKind.DELETE:
            return f"{key} is deleted"
        case OperationKind.GET:
            found = printable(returned.value, 80)
            return f"{key} is {found}" if returned.found else f"there is no {key}"
