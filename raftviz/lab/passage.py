"""One connection to a server, of another server or of a client, through the fabric.

The handshake goes through unchanged and undelayed in both directions: the two ends prove
themselves to each other, and the fabric needs no secret. After it every frame from a server is
a message between peers, every one from a client a request, and every one back to it a reply;
the fabric decides when and whether it arrives.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from raft.core.messages import Message, ServerId
from raft.frames import Caller, Preamble
from raft.printable import printable
from raft.wire import DecodeError, FrameSplitter, decode
from raftviz.model.link_rules import CLIENT, LinkId

if TYPE_CHECKING:
    from raftviz.lab.fabric import Fabric

HANDSHAKE_FRAMES = 2
"""Preamble and Proof: what a caller says before its first message."""
PREAMBLE_SECONDS = 5.0
"""Real seconds that a caller has to say whom it wants; the rest is between it and the server."""
MAX_UNSENT = 4 * 1024 * 1024
"""A server that leaves this many bytes unread (it is paused) loses what comes after them."""
MAX_ON_THE_WAY = 16 * 1024 * 1024
"""With this many bytes in flight the fabric reads no more from the caller, which then queues."""


class _MalformedError(Exception):
    """What arrived on a port is not what a server of this lab would send."""


class Passage(asyncio.Protocol):
    """The caller's side: reads frames, passes the handshake on, gives messages to the fabric."""

    def __init__(self, fabric: Fabric, dst: ServerId) -> None:
        self.dst = dst
        self.src: ServerId | None = None
        self._fabric = fabric
        self._splitter = FrameSplitter()
        self._caller: asyncio.Transport | None = None
        self._callee: asyncio.Transport | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._preamble = b""
        self._handshake_left = HANDSHAKE_FRAMES
        self._replies = FrameSplitter()
        self._welcomed = False
        self._in_flight = 0
        self._on_the_way = 0

    @property
    def is_linked(self) -> bool:
        """Both ends are there and have said all that the handshake asks of the caller."""
        both_there = self._caller is not None and self._callee is not None
        return both_there and not self._handshake_left

    @property
    def is_client(self) -> bool:
        """A client called."""
        return self.src == CLIENT

    @property
    def links(self) -> list[LinkId]:
        """The links that it is the connection of: a client's is that of both directions."""
        if self.src is None:
            return []
        there = (self.src, self.dst)
        return [there, (self.dst, self.src)] if self.is_client else [there]

    # --- The caller --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        assert isinstance(transport, asyncio.Transport)
        self._caller = transport
        if not self._fabric.admit(self):
            transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(
            PREAMBLE_SECONDS, self._reject, f"no Preamble within {PREAMBLE_SECONDS:g} s"
        )

    def data_received(self, data: bytes) -> None:
        """Take in whole frames; a malformed one closes this connection and no other."""
        try:
            for raw in self._splitter.feed(data):
                self._take(raw)
        except (_MalformedError, DecodeError) as error:
            self._reject(str(error))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stay until what the source sent before it went has arrived."""
        self._caller = None
        if self._deadline is not None:
            self._deadline.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
        self._leave_when_empty()

    def abort(self) -> None:
        """Break both ends at once."""
        for end in (self._caller, self._callee):
            if end is not None:
                end.abort()

    def _reject(self, reason: str) -> None:
        who = "somebody" if self.src is None else "a client" if self.is_client else f"S{self.src}"
        self._fabric.warn(
            f"a connection of {who} to the port of S{self.dst} was closed: {printable(reason, 200)}"
        )
        self.abort()

    # --- Frames ------------------------------------------------------------------------------

    def _take(self, raw: bytes) -> None:
        if self.src is None:
            self._meet(raw)
        elif self._callee is None:
            raise _MalformedError("it goes on before its Preamble is answered")
        elif self._handshake_left:
            self._pass_handshake(self._callee, raw)
        elif self.is_client:
            self.carries_more(raw)
            self._fabric.relay(self, raw, back=False)
        else:
            self._carry(self.src, raw)

    def _meet(self, raw: bytes) -> None:
        """Learn from the Preamble who calls, and dial the server that it wants."""
        assert self._deadline is not None
        preamble = decode(raw)
        if not isinstance(preamble, Preamble) or preamble.caller is Caller.OBSERVER:
            raise _MalformedError("it must begin with the Preamble of a peer or a client")
        src = CLIENT if preamble.caller is Caller.CLIENT else preamble.src
        is_himself = (src == CLIENT) == (preamble.caller is Caller.CLIENT)
        known = (src, self.dst) in self._fabric.links
        if not is_himself or not known or preamble.dst != self.dst:
            raise _MalformedError(f"no link leads from {src} to {preamble.dst} here")
        self._deadline.cancel()
        self.src = src
        self._preamble = raw
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        """Connect to the server itself; while it is down its callers must dial again."""
        address = await self._fabric.address(self)
        if address is None:
            self.abort()
            return
        host, _, port = address.rpartition(":")
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: _Callee(self), host, int(port)
            )
        except OSError:
            self.abort()

    def _pass_handshake(self, callee: asyncio.Transport, raw: bytes) -> None:
        callee.write(raw)
        self._handshake_left -= 1
        if not self._handshake_left:
            self._fabric.linked()

    def _carry(self, src: ServerId, raw: bytes) -> None:
        message = decode(raw)
        if not isinstance(message, Message):
            raise _MalformedError(f"{type(message).__name__} is not a message between servers")
        if (message.src, message.dst) != (src, self.dst):
            raise _MalformedError(
                f"a message from {message.src} to {message.dst} is not of this link"
            )
        self.carries_more(raw)
        self._fabric.carry(self, message, raw)

    def carries_more(self, raw: bytes, *, back: bool = False) -> None:
        """Note that one more frame is on its way."""
        self._in_flight += 1
        if not back:
            self._on_the_way += len(raw)
        if self._on_the_way > MAX_ON_THE_WAY and self._caller is not None:
            self._caller.pause_reading()

    # --- The destination ---------------------------------------------------------------------

    def reached(self, callee: asyncio.Transport) -> None:
        """Let the caller speak to the destination's process, which is at the other end now."""
        self._callee = callee
        if self._caller is None:
            callee.abort()
        else:
            self._pass_handshake(callee, self._preamble)

    def answered(self, data: bytes) -> None:
        """Send the destination's half of the handshake back as it is, and then its replies."""
        if not self.is_client:
            if self._caller is not None:
                self._caller.write(data)
            return
        try:
            for raw in self._replies.feed(data):
                self._reply(raw)
        except DecodeError as error:
            self._reject(str(error))

    def _reply(self, raw: bytes) -> None:
        if self._welcomed:
            self.carries_more(raw, back=True)
            self._fabric.relay(self, raw, back=True)
        elif self._caller is not None:
            self._welcomed = True
            self._caller.write(raw)

    def lost(self) -> None:
        """Lose what was on its way to a destination that is gone; the caller must dial again."""
        self._callee = None
        self._fabric.broken(self)
        if self._caller is None:
            self._fabric.closed(self)
        elif self.is_client:
            self._caller.close()  # what it was told last still reaches it
        else:
            self._caller.abort()

    def deliver(self, raw: bytes, *, back: bool = False) -> bool:
        """Hand a frame to its destination; False: it does not take it."""
        end = self._caller if back else self._callee
        takes_it = (
            end is not None and not end.is_closing() and end.get_write_buffer_size() <= MAX_UNSENT
        )
        if end is not None and takes_it:
            end.write(raw)
        return takes_it

    def forget(self, raw: bytes, *, back: bool = False) -> None:
        """Note that a frame of this passage is no longer on its way."""
        self._in_flight -= 1
        if not back:
            self._on_the_way -= len(raw)
        if self._caller is None:
            self._leave_when_empty()
        elif self._on_the_way <= MAX_ON_THE_WAY:
            self._caller.resume_reading()

    def _leave_when_empty(self) -> None:
        if self._in_flight:
            return
        if self._callee is not None:
            self._callee.close()
        else:
            self._fabric.closed(self)


class _Callee(asyncio.Protocol):
    """The destination's side of a passage."""

    def __init__(self, passage: Passage) -> None:
        self._passage = passage

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._passage.reached(transport)

    def data_received(self, data: bytes) -> None:
        self._passage.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._passage.lost()
