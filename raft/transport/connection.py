"""One end of a connection: frames in and out, and how much of them may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import cast

from raft.certificate import Subject
from raft.core.messages import ServerId
from raft.frames import Caller, Frame, RefusalReason, Refused
from raft.tls import Tls, TlsError, looks_like_tls
from raft.transport.addresses import format_address
from raft.wire import MAX_FRAME, DecodeError, FrameSplitter, decode, encode

HANDSHAKE_SECONDS = 3.0
"""Real seconds until a caller must have proved itself, and until a server must have answered."""

HANDSHAKE_FRAME = 4096
"""Bytes of the largest frame that is read from somebody who has proved nothing yet."""

MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that may wait for one end of a connection to read them."""

_ROOM = 64 * 1024  # what is read at once

GOODBYE = "the other end closed the connection"
"""Why a connection is gone that nobody broke."""


class Connection(asyncio.BufferedProtocol):
    """One end of a TCP connection that carries frames.

    ``receive`` is called with every frame that arrives, ``lost`` once with the reason when the
    connection is gone. Frames sent within one iteration of the loop leave together, under
    ``tls`` once that has proved to both ends who the other one is.
    """

    caller: Caller | None = None
    """Who called, once it is proven."""
    peer: ServerId | None = None
    """The server at the other end, once it is proven."""
    subject: Subject | None = None
    """Whom the certificate of the other end names, once TLS has proved it."""
    incompatible = False
    """It came to its end because of TLS: one end does not speak it, or trust the other."""

    def __init__(
        self,
        receive: Callable[[Frame], None],
        lost: Callable[[str], None],
        made: Callable[[], None] | None = None,
        tls: Tls | None = None,
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
        self._tls = tls
        self._silent = True
        self._room = bytearray()
        self._transport: asyncio.Transport | None = None
        self._batch: list[bytes] = []
        self._batch_size = 0
        self._reason: str | None = None
        self.address = ""
        self.host = ""
        """Where the other end is, with its port and without."""

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
        if self._transport is None or self.closing:
            return
        if self._tls is None:
            self._transport.writelines(frames)
        else:
            self._transport.write(self._tls.encrypt(b"".join(frames)))

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
        if self._tls is not None and not self._tls.established:
            return
        batch, self._batch, self._batch_size = self._batch, [], 0
        if batch:
            self.write(batch)

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # Those of other event loops are no subclass, only alike.
        self._transport = transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.host, self.address = (name[0], format_address(*name[:2])) if name else ("?", "?")
        if self._tls is not None:
            transport.write(self._tls.outgoing())
        if self._made is not None:
            self._made()

    def get_buffer(self, sizehint: int) -> bytearray:
        """Lend the loop room to read into.

        Else it would get new memory at every read, for far more than there mostly is to read.
        """
        if not self._room:
            self._room = bytearray(_ROOM)
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on every frame that these bytes complete."""
        data: bytes | memoryview = memoryview(self._room)[:nbytes]
        if self._tls is not None:
            data = self._decrypt(self._tls, data)
        elif self._silent and looks_like_tls(data):
            self._refuse_tls()
            return
        self._silent = False
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

    def _decrypt(self, tls: Tls, data: bytes | memoryview) -> bytes:
        """Return what these bytes say; answer them as far as TLS itself wants an answer."""
        assert self._transport is not None
        plain = b""
        try:
            plain = tls.receive(data)
            if tls.established and self.subject is None:
                self.subject = Subject.of(tls.names())
                self._flush()
        except (TlsError, ValueError) as error:
            self.incompatible = True
            self._transport.write(tls.outgoing())
            self.close(str(error))
        else:
            self._transport.write(tls.outgoing())
        return plain

    def _refuse_tls(self) -> None:
        self.incompatible = True
        # Whatever this says, it is no TLS: that is what the other end learns from it.
        self.send(Refused(RefusalReason.EXPECTED_PREAMBLE, "TLS is not spoken here"))
        self.close("the other end speaks TLS, so this one needs a certificate, too")

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
            words = error.strerror if isinstance(error, OSError) else None
            self._reason = words or (str(error) if error else GOODBYE)
        # TLS holds far more memory than Python's collector knows of: let go of it now.
        self._transport = self._tls = None
        self._lost(self._reason)
