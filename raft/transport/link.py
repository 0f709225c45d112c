"""A server's way to one peer, opened again whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import deque

from raft.core.messages import Message, ServerId
from raft.frames import Caller
from raft.handshake import HandshakeError, Identity
from raft.transport.addresses import parse_address
from raft.transport.calling import connect
from raft.transport.connection import MAX_UNSENT, Connection
from raft.wire import MAX_FRAME, encode

BACKOFF_MIN = 0.050
BACKOFF_MAX = 1.0
"""Real seconds between attempts to reach a peer: doubled each time, each halved at random."""

_BATCH = 64 * 1024

_log = logging.getLogger(__name__)
_random = secrets.SystemRandom()


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

    def flush(self) -> None:
        """Write what waits now, and not when the loop comes round."""
        if self._queue:
            self._pump()

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
            finally:
                # Also when the link is closed: from now on nobody would take them.
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
