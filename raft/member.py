"""``Member``: a server of a cluster inside of an application, and the handle on its cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from raft.asking import Limit
from raft.client import Raft
from raft.core.messages import ServerId
from raft.errors import NotInTimeError, RaftError, UnreachableError
from raft.frames import Status
from raft.machine.base import StateMachine
from raft.server import Server, ServerConfig
from raft.storage.base import LogStore
from raft.watching import Event

_log = logging.getLogger(__name__)


class Member(Raft):
    """A server of a cluster in this process, which is a :class:`Raft` handle on it as well.

    ``async with Member(config, store, machine) as raft`` runs the server while its block runs.
    Requests may be made at once: they find whoever leads, this server or another. ``status``,
    ``wait`` and ``events`` are about this server if no other is named. At the end of the block
    a leader hands its leadership over, and the store is closed: a Member has one block. ``close``
    only ends requests; the server serves until the block ends.

    If the server cannot go on, the block is cancelled and raises what made it fail:
    StateMachineError, StorageError or InvariantViolation; with ``run`` one may wait for that.
    The constructor raises StorageError and StateMachineError, too: it loads the store and
    restores the snapshot. Entering the block raises OSError if the address cannot be listened at.

    ``machine.apply`` runs in this event loop. It cannot call this handle: what is proposed
    there could only be applied after it has returned.
    """

    id: ServerId

    def __init__(self, config: ServerConfig, store: LogStore, machine: StateMachine) -> None:
        self.id = config.core.server
        self._store = store
        known = {**dict(config.core.addresses), **config.peers, self.id: config.listen}
        try:
            super().__init__(known, config.cluster, config.secret)
            self._server = Server(config, store, machine)
        except BaseException:
            store.close()
            raise
        self._running: asyncio.Task[None] | None = None
        self._block: asyncio.Task[object] | None = None
        self._interrupted = False

    @property
    def address(self) -> str:
        """Where this server listens."""
        return self.servers[self.id]

    async def __aenter__(self) -> Member:
        if self._running is not None:
            raise RaftError(f"server {self.id} has its block: make a new Member for another one")
        try:
            self.moved(self.id, await self._server.start())
        except BaseException:
            self._store.close()
            raise
        self._block = asyncio.current_task()
        self._running = asyncio.create_task(self._server.run())
        self._running.add_done_callback(self._ended)
        return self

    def _ended(self, running: asyncio.Task[None]) -> None:
        """Let the block end, too, if the server did by itself."""
        failure = None if running.cancelled() else running.exception()
        if failure is not None:
            _log.critical("server %d cannot go on: %s", self.id, failure)
            if self._block is not None:
                self._interrupted = self._block.cancel()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        block, self._block = self._block, None
        running = self._started()
        self.close()
        if not running.done():
            self._server.leave()
        try:
            await asyncio.wait([running])
        finally:
            self._server.stop()
        failure = None if running.cancelled() else running.exception()
        if failure is not None:
            if self._interrupted and block is not None:
                block.uncancel()
            raise failure from failure.__cause__

    async def run(self) -> None:
        """Do nothing but serve, until cancelled; raises what made the server unable to go on."""
        await asyncio.shield(self._started())

    def _started(self) -> asyncio.Task[None]:
        if self._running is None:
            raise UnreachableError(self.id, "it serves from the beginning of its block on")
        return self._running

    async def status(
        self,
        server: ServerId | None = None,
        timeout: Limit = 5.0,  # noqa: ASYNC109
    ) -> Status:
        """Return the state of this server, or of another, in numbers."""
        if server in (None, self.id):
            return self._status()
        return await super().status(server, timeout)

    def _status(self) -> Status:
        if self._started().done():
            raise UnreachableError(self.id, "it has stopped")
        return self._server.status()

    async def wait(
        self,
        condition: Callable[[Status], bool],
        timeout: float | None = 30.0,  # noqa: ASYNC109
        server: ServerId | None = None,
    ) -> Status:
        """Wait until the status of this server, or of another, is as wanted; return it.

        Of this server the status is looked at whenever something happens.
        """
        if server not in (None, self.id):
            return await super().wait(condition, timeout, server)
        events = self._server.watchers.add()
        try:
            async with asyncio.timeout(timeout):
                while not condition(status := self._status()):
                    await events.something()
                    events.skip()
        except TimeoutError:
            raise NotInTimeError(timeout, status) from None
        except StopAsyncIteration:
            raise UnreachableError(self.id, "it has stopped") from None
        return status

    def events(self, server: ServerId | None = None) -> AsyncIterator[Event]:
        """Return what happens in this server from the call on, or in another; see :class:`Raft`.

        It ends when this server stops.
        """
        if server in (None, self.id):
            return self._server.watchers.add()
        return super().events(server)
