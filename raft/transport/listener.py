"""The server's side: who may come in, how many, and who may say what."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from functools import partial
from typing import Protocol, get_args

from raft.certificate import Certificate
from raft.core.messages import Message, ServerId
from raft.frames import (
    Caller,
    Control,
    Frame,
    FromClient,
    Preamble,
    RefusalReason,
    Refused,
)
from raft.handshake import HandshakeError, Identity, ServerHandshake
from raft.transport.addresses import format_address, parse_address, require_loopback
from raft.transport.connection import GOODBYE, HANDSHAKE_SECONDS, Connection
from raft.transport.strangers import Strangers
from raft.wire import MAX_FRAME, MAX_OBSERVATION

MAX_UNPROVEN = 32
"""Connections in the handshake; one more, and one of them is closed."""

MAX_CALLERS = 64
"""Clients, observers, and peers, that one server hears at once; of each peer one connection."""

_STOPS = "the server stops"

_log = logging.getLogger(__name__)


class Handlers(Protocol):
    """What a server does with what arrives. An exception that leaves these is a bug.

    It closes the one connection that it happened on and reaches the loop's exception handler.
    """

    def peer_attached(self, peer: ServerId, address: str) -> None:
        """Note that a peer opened its connection to us: it is up, so ``PeerLink.wake`` its link.

        ``address`` is where it says that it listens: not checked, empty if it does not say.
        """

    def peer_lost(self, peer: ServerId) -> None:
        """Note that a peer's connection to us is gone."""

    def peer_message(self, message: Message) -> None:
        """Take a message to this server; it is from the peer that it names."""

    def client_request(self, connection: Connection, request: FromClient) -> None:
        """Answer each of the requests once, through ``connection``, now or later."""

    def observer_attached(self, connection: Connection) -> None:
        """Send a ServerState now, and Observations from then on."""

    def control(self, connection: Connection, control: Control) -> None:
        """Do what an observer asks."""

    def connection_lost(self, connection: Connection) -> None:
        """Forget a client or an observer: its connection is gone."""


async def require_free(address: str, secret: bytes | Certificate) -> None:
    """See whether one could listen at ``host:port``. Raises what ``Listener.start`` would."""
    loop = asyncio.get_running_loop()
    probe = await loop.create_server(
        asyncio.Protocol, *_place(address, secret), start_serving=False
    )
    probe.close()


def _place(address: str, secret: bytes | Certificate) -> tuple[str, int]:
    host, port = parse_address(address)
    return host if isinstance(secret, Certificate) else require_loopback(host), port


class Listener:
    """The one TCP port of a server: handshakes, limits, and who may say what."""

    def __init__(self, identity: Identity, handlers: Handlers) -> None:
        self.peer_messages_received = 0
        """Peer messages handed to ``peer_message`` so far."""
        self._identity = identity
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._closed = False
        self._unproven: dict[Connection, asyncio.TimerHandle] = {}
        self._strangers = Strangers()
        self._callers: set[Connection] = set()
        self._peer_connections: dict[ServerId, Connection] = {}

    async def start(self, address: str) -> str:
        """Listen at ``host:port``, and return it; port 0 becomes the free one that was taken.

        Without a certificate the address must be a loopback one. Raises ValueError if it is not,
        OSError when it cannot be had.
        """
        host, port = _place(address, self._identity.secret)
        if isinstance(self._identity.secret, Certificate):
            self._identity.secret.remind()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, host, port, start_serving=False)
        try:
            await self._server.start_serving()
        except BaseException:
            self.close()
            raise
        name = self._server.sockets[0].getsockname()
        return format_address(name[0], name[1])

    def close(self) -> None:
        """Stop listening and close every connection; what was sent still leaves."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        for connection in [*self._unproven, *self._callers, *self._peer_connections.values()]:
            connection.close(_STOPS)

    def _accept(self) -> Connection:
        handshake = ServerHandshake(self._identity)
        connection = Connection(
            receive=lambda frame: self._prove(connection, handshake, frame),
            lost=lambda reason: self._forget(connection, reason),
            made=lambda: self._await_proof(connection),
            tls=self._identity.new_tls(server_side=True),
        )
        return connection

    def _await_proof(self, connection: Connection) -> None:
        if self._closed:
            # It was accepted before; the loop tells of it a turn later.
            connection.close(_STOPS)
            return
        if len(self._unproven) >= MAX_UNPROVEN:
            # Gone from here at once: many may come in one turn of the loop.
            victim = self._least_trusted()
            self._unproven.pop(victim).cancel()
            victim.close("too many callers that have proved nothing")
        self._unproven[connection] = asyncio.get_running_loop().call_later(
            HANDSHAKE_SECONDS, connection.close, f"no handshake within {HANDSHAKE_SECONDS:g} s"
        )

    def _least_trusted(self) -> Connection:
        """Return the oldest unproven connection from wherever most of them come.

        An honest handshake takes milliseconds, so whoever floods the server closes its own
        connections, and not those of others.
        """
        hosts = Counter(connection.host for connection in self._unproven)
        ((busiest, _),) = hosts.most_common(1)
        return next(connection for connection in self._unproven if connection.host == busiest)

    def _prove(self, connection: Connection, handshake: ServerHandshake, frame: Frame) -> None:
        try:
            welcome = handshake.receive(frame, connection.subject)
            assert handshake.preamble is not None
            self._require_room(handshake.preamble)
        except HandshakeError as refusal:
            connection.send(Refused(refusal.reason, refusal.detail))
            connection.close(f"refused: {refusal.detail}")
            return
        if welcome is not None:
            connection.send(welcome)
        if handshake.complete:
            self._admit(connection, handshake.preamble)

    def _require_room(self, preamble: Preamble) -> None:
        caller = preamble.caller
        if caller is Caller.PEER:
            others = self._peer_connections.keys() - {preamble.src}
            full = len(others) >= MAX_CALLERS
        else:
            full = sum(connection.caller is caller for connection in self._callers) >= MAX_CALLERS
        if full:
            raise HandshakeError(
                RefusalReason.BUSY, f"{MAX_CALLERS} {caller.name.lower()}s are connected already"
            )

    def _admit(self, connection: Connection, preamble: Preamble) -> None:
        self._unproven.pop(connection).cancel()
        connection.caller = caller = preamble.caller
        connection.splitter.limit = MAX_FRAME
        if caller is Caller.PEER:
            self._admit_peer(connection, preamble)
            return
        self._callers.add(connection)
        if caller is Caller.CLIENT:
            connection.receive = partial(self._from_client, connection)
        else:
            connection.send_limit = MAX_OBSERVATION
            connection.receive = partial(self._from_observer, connection)
            self._handlers.observer_attached(connection)

    def _admit_peer(self, connection: Connection, preamble: Preamble) -> None:
        src = preamble.src
        # The old connection of a peer that calls anew may never be closed from its side.
        if src in self._peer_connections:
            self._peer_connections[src].close(f"server {src} opened a new connection")
        connection.peer = src
        connection.receive = partial(self._from_peer, connection)
        self._peer_connections[src] = connection
        self._handlers.peer_attached(src, preamble.address)

    def _from_peer(self, connection: Connection, frame: Frame) -> None:
        if not isinstance(frame, get_args(Message)):
            connection.close(f"a peer may not send {type(frame).__name__}")
        elif frame.src != connection.peer or frame.dst != self._identity.server:
            connection.close(
                f"server {connection.peer} sent a message from {frame.src} to {frame.dst}"
            )
        else:
            self.peer_messages_received += 1
            self._handlers.peer_message(frame)

    def _from_client(self, connection: Connection, frame: Frame) -> None:
        if isinstance(frame, FromClient):
            self._handlers.client_request(connection, frame)
        else:
            connection.close(f"a client may not send {type(frame).__name__}")

    def _from_observer(self, connection: Connection, frame: Frame) -> None:
        if isinstance(frame, get_args(Control)):
            self._handlers.control(connection, frame)
        else:
            connection.close(f"an observer may not send {type(frame).__name__}")

    def _forget(self, connection: Connection, reason: str) -> None:
        self._log_end(connection, reason)
        if connection in self._unproven:
            self._unproven.pop(connection).cancel()
        elif connection in self._callers:
            self._callers.remove(connection)
            self._handlers.connection_lost(connection)
        elif connection.peer and self._peer_connections.get(connection.peer) is connection:
            del self._peer_connections[connection.peer]
            self._handlers.peer_lost(connection.peer)

    def _log_end(self, connection: Connection, reason: str) -> None:
        who = connection.address
        if connection.subject is not None:
            who = f"{connection.subject}, {who}"
        caller = connection.caller
        if caller is None:
            self._strangers.closed(who, reason)
        else:
            is_news = caller is not Caller.CLIENT or reason != GOODBYE
            level = logging.INFO if is_news else logging.DEBUG
            _log.log(level, "%s %s: connection closed: %s", caller.name.lower(), who, reason)
