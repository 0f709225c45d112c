"""A client's line to one server: opened when needed, shared by all its requests."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from raft.core.messages import Index, ServerId
from raft.errors import RaftError, RefusedError, RejectedError, UnreachableError
from raft.frames import Caller, ClientReply, ClientRequest, Frame, RefusalReason, Reply, Request
from raft.transport import Connection, HandshakeError, Identity, connect

Heard = Callable[[Index], None]
"""Told, with every reply, the index of the newest configuration that the server knows."""


class LostError(RaftError):
    """The connection broke after the request was sent and before its reply came."""


class Line:
    """The way to one server. ``open`` it, ``ask`` over what it returns."""

    def __init__(self, server: ServerId, address: str, identity: Identity, heard: Heard) -> None:
        self._server = server
        self._address = address
        self._identity = identity
        self._heard = heard
        self._opening: asyncio.Task[Call] | None = None
        self._call: Call | None = None
        self._closed = False

    async def open(self) -> Call:
        """Return an open connection. All who ask meanwhile wait for the same attempt.

        Raises RefusedError when the server will not talk to us, else UnreachableError.
        """
        if self._closed:
            raise RaftError("the client is closed")
        if self._call is not None and not self._call.lost:
            return self._call
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            # Whoever waits for it sees its error; if nobody does any more, nobody needs to.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Call:
        call = Call(self._server, self._heard)
        try:
            await call.connect(self._address, self._identity)
        except (HandshakeError, OSError) as error:
            raise unreachable(self._server, self._address, error) from None
        except asyncio.CancelledError:
            raise RaftError("the client was closed") from None
        finally:
            self._opening = None
        self._call = call
        return call

    def move(self, address: str) -> None:
        """Connect to this address from now on."""
        if address != self._address:
            self._address = address
            self.renew()

    def renew(self) -> None:
        """Use a new connection from now on. What waits on the old one goes on waiting."""
        if self._call is not None:
            self._call.close_when_idle()
            self._call = None

    def close(self) -> None:
        """End it for good, and every request on it."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._call is not None:
            self._call.close()


def unreachable(
    server: ServerId, address: str, error: HandshakeError | OSError
) -> UnreachableError:
    """Return what it means that ``raft.transport.connect`` failed."""
    match error:
        case HandshakeError():
            kind = UnreachableError if error.reason is RefusalReason.BUSY else RefusedError
            return kind(server, f"{address}: refused: {error.detail}")
        case TimeoutError():
            return UnreachableError(server, str(error))
        case ConnectionRefusedError():
            return UnreachableError(server, f"{address}: nobody listens")
    return UnreachableError(server, f"{address}: {error.strerror or error}")


class Call:
    """One connection, and the requests on it that wait for their replies."""

    def __init__(self, server: ServerId, heard: Heard) -> None:
        self.lost = False
        self._server = server
        self._heard = heard
        self._connection: Connection | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._leaving = False

    async def connect(self, address: str, identity: Identity) -> None:
        """Connect and prove who we are. Raises what ``raft.transport.connect`` does."""
        self._connection = await connect(
            address, identity, Caller.CLIENT, self._server, self._receive, self._fail
        )

    async def ask(self, request: Request) -> Reply:
        """Send a request and return its reply.

        Raises UnreachableError or RejectedError when it was not sent, LostError when it was
        and nobody will know what became of it.
        """
        assert self._connection is not None
        number = next(self._numbers)
        try:
            sent = self._connection.send(ClientRequest(number, request))
        except ValueError as error:
            raise RejectedError(str(error)) from None
        if not sent:
            raise UnreachableError(self._server, "it does not read what it is sent")
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = reply
        try:
            return await reply
        finally:
            del self._waiting[number]
            if self._leaving and not self._waiting:
                self.close()

    def close_when_idle(self) -> None:
        """Close it as soon as no request waits on it."""
        self._leaving = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close it now; requests that wait raise LostError."""
        if self._connection is not None:
            self._connection.close("the client hung up")

    def _receive(self, frame: Frame) -> None:
        assert isinstance(frame, ClientReply)
        self._heard(frame.configuration)
        reply = self._waiting.get(frame.id)
        if reply is not None and not reply.done():
            reply.set_result(frame.body)

    def _fail(self, reason: str) -> None:
        self.lost = True
        for reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(LostError(reason))
