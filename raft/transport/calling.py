"""The caller's side: open a connection, and go through the handshake."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Callable
from typing import get_args

from raft.certificate import Certificate
from raft.core.messages import ServerId
from raft.frames import Caller, Frame, FromServer, Observation, RefusalReason, Refused
from raft.handshake import CallerHandshake, HandshakeError, Identity
from raft.printable import printable
from raft.transport.addresses import parse_address, require_loopback
from raft.transport.connection import HANDSHAKE_SECONDS, Connection
from raft.wire import MAX_FRAME, MAX_OBSERVATION

_ANSWERS: dict[Caller, tuple[type[Frame], ...]] = {
    Caller.PEER: (),
    Caller.CLIENT: get_args(FromServer),
    Caller.OBSERVER: (Observation,),
}


async def connect(
    address: str,
    identity: Identity,
    caller: Caller,
    dst: ServerId,
    on_frame: Callable[[Frame], None],
    on_closed: Callable[[str], None],
) -> Connection:
    """Open a connection to server ``dst`` and go through the handshake.

    A client gets ClientReply and Results frames through ``on_frame``, an observer Observations,
    a peer none. ``on_closed`` is called once, with the reason, if the connection was opened.
    Raises HandshakeError when the server refused, or could not prove itself, or is not on this
    machine and we have no certificate; OSError when it cannot be reached, with the address and
    why in words (TimeoutError: within 3 s); ValueError for a malformed address.
    """
    host, port = parse_address(address)
    if not isinstance(identity.secret, Certificate):
        try:
            host = require_loopback(host)
        except ValueError as error:
            raise HandshakeError(RefusalReason.PROOF, str(error)) from None
    call = _Call(address, identity, caller, dst, on_frame, on_closed)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await _open(call.connection, address, host, port)
            await call.handshake_done()
    except TimeoutError:
        call.give_up()
        raise TimeoutError(f"{address}: no answer within {HANDSHAKE_SECONDS:g} s") from None
    except asyncio.CancelledError:
        call.give_up()
        raise
    return call.connection


async def _open(connection: Connection, address: str, host: str, port: int) -> None:
    try:
        await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
    except OSError as error:
        raise OSError(f"{address}: {_in_words(error)}") from None
    except UnicodeError:  # a name that the resolver cannot write as it must be
        raise OSError(f"{address}: there can be no such host") from None


def _in_words(error: OSError) -> str:
    """Say why nobody can be reached.

    ``asyncio`` says in its own words where it tried to connect, and not why it could not. For a
    name with several addresses (localhost) it quotes the errors of all of them in one.
    """
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    codes = {error.errno} if error.errno else set(map(int, re.findall(r"Errno (\d+)", str(error))))
    nobody = codes == {errno.ECONNREFUSED}
    return "nobody listens" if nobody else ", ".join(map(os.strerror, sorted(codes))) or str(error)


class _Call:
    """What the caller of a connection makes of the frames on it."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        caller: Caller,
        dst: ServerId,
        on_frame: Callable[[Frame], None],
        on_closed: Callable[[str], None],
    ) -> None:
        tls = identity.new_tls(server_side=False)
        self.connection = Connection(self._answer, self._lost, tls=tls)
        self._handshake = CallerHandshake(identity, caller, dst)
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._address = address
        self._caller = caller
        self._dst = dst
        self._on_frame = on_frame
        self._on_closed = on_closed

    async def handshake_done(self) -> None:
        """Go through the handshake. Raises HandshakeError or ConnectionError."""
        self.connection.send(self._handshake.preamble)
        await self._done

    def give_up(self) -> None:
        """Close the connection, however far it came, and tell nobody."""
        self._done.cancel()
        self._on_closed = lambda reason: None
        self.connection.close("the caller gave up")

    def _answer(self, frame: Frame) -> None:
        if self._done.cancelled():
            return  # The caller gives up in this very turn of the loop.
        connection = self.connection
        try:
            proof = self._handshake.receive(frame, connection.subject)
        except HandshakeError as error:
            self._done.set_exception(error)
            connection.close(error.detail)
            return
        if proof is not None:
            connection.send(proof)
        connection.caller, connection.peer = self._caller, self._dst
        connection.receive = self._take
        observes = self._caller is Caller.OBSERVER
        connection.splitter.limit = MAX_OBSERVATION if observes else MAX_FRAME
        self._done.set_result(None)

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, _ANSWERS[self._caller]):
            self._on_frame(frame)
        elif isinstance(frame, Refused):
            self.connection.close(f"refused: {printable(frame.detail, 300)}")
        else:
            self.connection.close(f"a server may not send {type(frame).__name__} here")

    def _lost(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(self._failure(reason))
        elif self.connection.peer is not None:
            self._on_closed(reason)

    def _failure(self, reason: str) -> Exception:
        if self.connection.incompatible:
            return HandshakeError(RefusalReason.PROOF, reason)
        return ConnectionError(f"{self._address}: {reason}")
