"""TCP between servers, and from clients and observers to servers.

Nothing here waits for anybody: a connection that cannot be written to keeps a bounded number
of bytes and then loses frames, whole ones, while every other connection goes on. A paused
process holds its connections and even accepts new ones, so that a peer is alive is only ever
known from what it says, never from its connection.

Bytes that cannot be understood, and frames that the proven caller may not send, close that
one connection with a logged reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol, get_args

from raft.core.messages import Message, ServerId
from raft.frames import (
    Caller,
    ClientReply,
    ClientRequest,
    Control,
    Frame,
    Observation,
    Preamble,
    RefusalReason,
    Refused,
)
from raft.handshake import CallerHandshake, HandshakeError, Identity, ServerHandshake
from raft.printable import printable
from raft.wire import MAX_FRAME, MAX_OBSERVATION, DecodeError, FrameSplitter, decode, encode

__all__ = [
    "Connection",
    "Handlers",
    "HandshakeError",
    "Identity",
    "Listener",
    "PeerLink",
    "connect",
    "format_address",
    "parse_address",
]

HANDSHAKE_SECONDS = 3.0
"""Real seconds until a caller must have proved itself, and until a server must have answered."""

HANDSHAKE_FRAME = 4096
"""Bytes of the largest frame that is read from somebody who has proved nothing yet."""

MAX_UNPROVEN = 32
"""Connections in the handshake; one more, and the oldest of them is closed."""

MAX_CALLERS = 64
"""Clients, observers, and peers, that one server hears at once; of each peer one connection."""

MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that may wait for one end of a connection to read them."""

BACKOFF_MIN = 0.050
BACKOFF_MAX = 1.0
"""Real seconds between attempts to reach a peer: doubled each time, each halved at random."""

_BATCH = 64 * 1024
_GOODBYE = "the other end closed the connection"

_log = logging.getLogger(__name__)
_random = secrets.SystemRandom()


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT``. Raises ValueError with what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address: HOST:PORT is, such as 127.0.0.1:7001")
    return host.removeprefix("[").removesuffix("]"), int(port)


def format_address(host: str, port: int) -> str:
    """Return what ``parse_address`` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _require_loopback(host: str) -> str:
    """Without TLS everybody on the way could read and forge everything."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(
        f"cannot listen on {host!r}: connections are not encrypted, so only loopback "
        "addresses are allowed (127.0.0.1 or ::1)"
    )


# --- One connection --------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """One end of a TCP connection that carries frames.

    ``receive`` is called with every frame that arrives, ``lost`` once with the reason when the
    connection is gone. Frames sent within one iteration of the loop leave together.
    """

    caller: Caller | None = None
    """Who called, once it is proven."""
    peer: ServerId | None = None
    """The server at the other end, once it is proven."""

    def __init__(
        self,
        receive: Callable[[Frame], None],
        lost: Callable[[str], None],
        made: Callable[[], None] | None = None,
    ) -> None:
        self.receive = receive
        self.splitter = FrameSplitter(HANDSHAKE_FRAME)
        self.send_limit = MAX_FRAME
        self.writable: Callable[[], None] | None = None
        """Called when ``paused`` ends."""
        self.paused = False
        """The other end reads too slowly for now."""
        self._lost = lost
        self._made = made
        self._transport: asyncio.Transport | None = None
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._reason: str | None = None
        self.address = ""
        """Where the other end is."""

    def send(self, frame: Frame | bytes) -> bool:
        """Send a frame, encoded or not; False when it was not, and never will be.

        That is when the connection is closing, or the other end has left over 8 MiB unread.
        Raises ValueError for a frame that the other end would refuse for its size.
        """
        if self._transport is None or self.closing or self.unsent > MAX_UNSENT:
            return False
        data = frame if isinstance(frame, bytes) else encode(frame)
        if len(data) > self.send_limit:
            raise ValueError(f"a frame of {len(data)} bytes is over the limit of {self.send_limit}")
        if not self._batch:
            asyncio.get_running_loop().call_soon(self._flush)
        self._batch.append(data)
        self._batch_size += len(data)
        return True

    def write(self, frames: Iterable[bytes]) -> None:
        """Hand frames to the operating system at once, whoever reads them or not."""
        if self._transport is not None and not self.closing:
            self._transport.writelines(frames)

    def close(self, reason: str) -> None:
        """Close the connection. What the other end does not take now, it never gets."""
        if self.closing:
            return
        self._flush()
        self._reason = reason
        if self._transport is not None:
            self._transport.close()
            if self._transport.get_write_buffer_size():
                self._transport.abort()

    @property
    def closing(self) -> bool:
        """The connection is closed, or about to be."""
        return self._reason is not None

    @property
    def unsent(self) -> int:
        """Bytes that the operating system has not taken yet."""
        waiting = self._transport.get_write_buffer_size() if self._transport else 0
        return waiting + self._batch_size

    def _flush(self) -> None:
        batch, self._batch, self._batch_size = self._batch, [], 0
        if batch:
            self.write(batch)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("peername")
        self.address = format_address(name[0], name[1]) if name else "?"
        if self._made is not None:
            self._made()

    def data_received(self, data: bytes) -> None:
        """Hand on every frame that these bytes complete."""
        self.splitter.push(data)
        while not self.closing:
            try:
                frame = self.splitter.next_frame()
                message = None if frame is None else decode(frame)
            except DecodeError as error:
                self.close(f"unreadable frame: {error}")
                return
            if message is None:
                return
            self.receive(message)

    def pause_writing(self) -> None:
        """Note that the other end reads too slowly."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self.paused = False
        if self.writable is not None:
            self.writable()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the owner why."""
        if self._reason is None:
            self._reason = str(error) if error else _GOODBYE
        self._transport = None
        self._lost(self._reason)


# --- The server's side -----------------------------------------------------------------------


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

    def client_request(self, connection: Connection, request: ClientRequest) -> None:
        """Answer with one ClientReply through ``connection``, now or later."""

    def observer_attached(self, connection: Connection) -> None:
        """Send a ServerState now, and Observations from then on."""

    def control(self, connection: Connection, control: Control) -> None:
        """Do what an observer asks."""

    def connection_lost(self, connection: Connection) -> None:
        """Forget a client or an observer: its connection is gone."""


class Listener:
    """The one TCP port of a server: handshakes, limits, and who may say what."""

    def __init__(self, identity: Identity, handlers: Handlers) -> None:
        self.peer_messages_received = 0
        """Peer messages handed to ``peer_message`` so far."""
        self._identity = identity
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._unproven: dict[Connection, asyncio.TimerHandle] = {}
        self._callers: set[Connection] = set()
        self._peer_connections: dict[ServerId, Connection] = {}

    async def start(self, address: str) -> str:
        """Listen at ``host:port``, and return it; port 0 becomes the free one that was taken.

        Raises ValueError for an address that is not loopback, OSError when it cannot be had.
        """
        host, port = parse_address(address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, _require_loopback(host), port)
        name = self._server.sockets[0].getsockname()
        return format_address(name[0], name[1])

    def close(self) -> None:
        """Stop listening and close every connection; what was sent still leaves."""
        if self._server is not None:
            self._server.close()
        for connection in [*self._unproven, *self._callers, *self._peer_connections.values()]:
            connection.close("the server stops")

    def _accept(self) -> Connection:
        handshake = ServerHandshake(self._identity)
        connection = Connection(
            receive=lambda frame: self._prove(connection, handshake, frame),
            lost=lambda reason: self._forget(connection, reason),
            made=lambda: self._await_proof(connection),
        )
        return connection

    def _await_proof(self, connection: Connection) -> None:
        # Closing the oldest rather than refusing the newest: an honest handshake takes
        # milliseconds, so whoever floods the server closes mostly its own connections.
        if len(self._unproven) >= MAX_UNPROVEN:
            next(iter(self._unproven)).close("too many callers that have proved nothing")
        self._unproven[connection] = asyncio.get_running_loop().call_later(
            HANDSHAKE_SECONDS, connection.close, f"no handshake within {HANDSHAKE_SECONDS:g} s"
        )

    def _prove(self, connection: Connection, handshake: ServerHandshake, frame: Frame) -> None:
        try:
            welcome = handshake.receive(frame)
            assert handshake.preamble is not None
            self._require_room(handshake.preamble)
        except HandshakeError as refusal:
            connection.send(Refused(refusal.reason, refusal.detail))
            connection.close(f"refused: {refusal.detail}")
            return
        if welcome is not None:
            connection.send(welcome)
        else:
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
        if isinstance(frame, ClientRequest):
            self._handlers.client_request(connection, frame)
        else:
            connection.close(f"a client may not send {type(frame).__name__}")

    def _from_observer(self, connection: Connection, frame: Frame) -> None:
        if isinstance(frame, get_args(Control)):
            self._handlers.control(connection, frame)
        else:
            connection.close(f"an observer may not send {type(frame).__name__}")

    def _forget(self, connection: Connection, reason: str) -> None:
        who = "unproven caller" if connection.caller is None else connection.caller.name.lower()
        is_news = connection.caller is not Caller.CLIENT or reason != _GOODBYE
        level = logging.INFO if is_news else logging.DEBUG
        _log.log(level, "%s %s: connection closed: %s", who, connection.address, reason)
        if connection in self._unproven:
            self._unproven.pop(connection).cancel()
        elif connection in self._callers:
            self._callers.remove(connection)
            self._handlers.connection_lost(connection)
        elif connection.peer and self._peer_connections.get(connection.peer) is connection:
            del self._peer_connections[connection.peer]
            self._handlers.peer_lost(connection.peer)


# --- The caller's side -----------------------------------------------------------------------

_ANSWERS: dict[Caller, tuple[type[Frame], ...]] = {
    Caller.PEER: (),
    Caller.CLIENT: (ClientReply,),
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

    A client gets ClientReply frames through ``on_frame``, an observer Observations, a peer
    none. ``on_closed`` is called once, with the reason, if the connection was opened.
    Raises HandshakeError when the server refused, or could not prove itself; OSError when it
    cannot be reached (TimeoutError: within 3 s); ValueError for a malformed address.
    """
    host, port = parse_address(address)
    call = _Call(address, identity, caller, dst, on_frame, on_closed)
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await asyncio.get_running_loop().create_connection(lambda: call.connection, host, port)
            await call.handshake_done()
    except TimeoutError:
        call.give_up()
        raise TimeoutError(f"{address}: no answer within {HANDSHAKE_SECONDS:g} s") from None
    except asyncio.CancelledError:
        call.give_up()
        raise
    return call.connection


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
        self.connection = Connection(self._answer, self._lost)
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
        connection = self.connection
        try:
            connection.send(self._handshake.receive(frame))
        except HandshakeError as error:
            self._done.set_exception(error)
            connection.close(error.detail)
            return
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
            self._done.set_exception(ConnectionError(f"{self._address}: {reason}"))
        elif self.connection.peer is not None:
            self._on_closed(reason)


class PeerLink:
    """The way to one peer, opened again whenever it is lost, until ``close``.

    A message waits while the link is being opened, or while the peer reads too slowly, up to
    8 MiB in all; then the oldest are lost. When an attempt fails, and between attempts, messages
    are lost at once: a server that comes back is not flooded with what is long out of date, and
    Raft sends everything again that still matters (§5.3). Raises ValueError for a malformed
    address.
    """

    def __init__(self, identity: Identity, dst: ServerId, address: str) -> None:
        parse_address(address)
        self._identity = identity
        self._dst = dst
        self._address = address
        self._connection: Connection | None = None
        self._opening = True
        self._queue: deque[bytes] = deque()
        self._queue_size = 0
        self._pump_scheduled = False
        self._written = 0
        self._awake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to call the peer."""
        self._task = asyncio.get_running_loop().create_task(self._keep_open())
        self._task.add_done_callback(_report_bug)

    def close(self) -> None:
        """Close the link for good."""
        if self._task is not None:
            self._task.cancel()

    @property
    def connected(self) -> bool:
        """The peer has proved itself on an open connection."""
        return self._connection is not None

    @property
    def messages_sent(self) -> int:
        """Messages that went out so far, or wait only for an open connection to take them."""
        return self._written + (len(self._queue) if self.connected else 0)

    def send(self, message: Message | bytes) -> bool:
        """Send a message, encoded or not; False when it is lost for want of a connection.

        Raises ValueError for a message that the peer would refuse for its size.
        """
        if self._connection is None and not self._opening:
            return False
        data = message if isinstance(message, bytes) else encode(message)
        if len(data) > MAX_FRAME:
            raise ValueError(f"a message of {len(data)} bytes is over the limit of {MAX_FRAME}")
        self._queue.append(data)
        self._queue_size += len(data)
        while self._queue_size > MAX_UNSENT:
            self._queue_size -= len(self._queue.popleft())
        if not self._pump_scheduled:
            self._pump_scheduled = True
            asyncio.get_running_loop().call_soon(self._pump)
        return True

    def wake(self) -> None:
        """Try again now: the peer gave a sign of life."""
        if self._connection is None:
            self._awake.set()

    async def _keep_open(self) -> None:
        backoff, complaint = BACKOFF_MIN, ""
        while True:
            self._opening = True
            try:
                reason = await self._be_connected()
                backoff = BACKOFF_MIN
            except (OSError, HandshakeError) as error:
                reason = str(error)
                backoff = min(2 * backoff, BACKOFF_MAX)
            self._opening = False
            self._queue.clear()
            self._queue_size = 0
            if reason != complaint:
                _log.info("link to server %s: %s", self._dst, reason)
                complaint = reason
            await self._rest(backoff * _random.uniform(0.5, 1.0))

    async def _be_connected(self) -> str:
        """Open the connection, and return why it was lost. Raises as ``connect`` does."""
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_closed(reason: str) -> None:
            self._connection = None
            if not lost.done():
                lost.set_result(reason)

        connection = await connect(
            self._address,
            self._identity,
            Caller.PEER,
            self._dst,
            on_frame=lambda frame: None,
            on_closed=on_closed,
        )
        try:
            connection.writable = self._pump
            self._connection = connection
            self._pump()
            return await lost
        finally:
            self._connection = None
            connection.close("the link is closed")

    async def _rest(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        self._awake.clear()

    def _pump(self) -> None:
        """Write as much as the connection takes; its own buffer stays small."""
        self._pump_scheduled = False
        while self._queue and self._connection is not None and not self._connection.paused:
            batch: list[bytes] = []
            size = 0
            while self._queue and size < _BATCH:
                batch.append(self._queue.popleft())
                size += len(batch[-1])
            self._connection.write(batch)
            self._queue_size -= size
            self._written += len(batch)


def _report_bug(task: asyncio.Task[None]) -> None:
    """Raise what ended a task that never ends into the loop's exception handler."""
    if not task.cancelled():
        task.result()
