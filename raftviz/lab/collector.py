"""What the servers tell, gathered into the one stream (design §7).

Each live server has one observer connection from the lab: its observations come in by it, in
the server's order and with the server's times, and the lab's controls go out by it.
"""

from __future__ import annotations

import asyncio
import itertools
import time

from raft.core.messages import ServerId
from raft.frames import Barrier, BarrierReached, Caller, Control, Frame, Observation, ServerState
from raft.printable import printable
from raft.transport import Connection, Identity, connect
from raftviz.lab.machine import ServerClock
from raftviz.lab.stream import Stream
from raftviz.model.events import Warned

STATE_SECONDS = 20.0
"""Real seconds that a server has to tell its state."""
LATE_SECONDS = 2.0
"""Real seconds between what happens in a server and its being heard, from which that is said."""


class Observer:
    """The lab's connection to one process of one server."""

    def __init__(self, server: ServerId, stream: Stream, clock: ServerClock) -> None:
        self.closed = asyncio.Event()
        """The connection is over: the server has told all that it will ever tell."""
        self._server = server
        self._stream = stream
        self._clock = clock
        self._connection: Connection | None = None
        self._attached = asyncio.Event()
        self.reason = ""
        """Why the connection is over."""
        self.silent = False
        """It was asked something, and that was given up; it has not answered since."""
        self.heard = time.monotonic()
        """When it told anything the last time, by the machine's clock."""
        self._is_late = False
        self._tokens = itertools.count(1)
        self._barriers: dict[int, asyncio.Future[int | None]] = {}

    async def attach(self, address: str, identity: Identity, *settings: Control) -> None:
        """Connect, give the server its settings, and wait until its whole state is in the stream.

        Raises OSError (TimeoutError: it does not tell its state) or HandshakeError.
        """
        try:
            self._connection = await connect(
                address, identity, Caller.OBSERVER, self._server, self._take, self._lost
            )
        except BaseException:
            self.closed.set()
            raise
        for setting in settings:
            self.send(setting)
        try:
            async with asyncio.timeout(STATE_SECONDS):
                await self._attached.wait()
        except TimeoutError:
            raise TimeoutError(f"no word of its state in {STATE_SECONDS:g} s") from None
        if self.closed.is_set():
            raise ConnectionError(
                f"S{self._server} closed its observer's connection: {self.reason}"
            )

    def send(self, control: Control) -> None:
        """Ask the server for something; in vain if the connection is over."""
        if self._connection is not None:
            self._connection.send(control)

    async def barrier(self, received: int) -> int | None:
        """Wait until the server has digested ``received`` messages from its peers.

        Returns how many it has sent so far, None if its connection is over.
        """
        if self.closed.is_set():
            return None
        token = next(self._tokens)
        reached: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._barriers[token] = reached
        self.send(Barrier(token, received))
        try:
            return await reached
        except asyncio.CancelledError:
            self.silent = True
            raise
        finally:
            self._barriers.pop(token, None)

    def _take(self, frame: Frame) -> None:
        assert isinstance(frame, Observation)
        what = frame.event
        self.heard = time.monotonic()
        if isinstance(what, BarrierReached):
            self.silent = False
            if (reached := self._barriers.get(what.token)) is not None and not reached.done():
                reached.set_result(what.sent)
            return
        self._note_lag(self.heard - frame.monotonic_time)
        at = self._clock.to_cluster(frame.virtual_time)
        what = self._clock.translated(what)
        self._stream.tell_of(self._server, at, frame.monotonic_time, what)
        if isinstance(what, ServerState):
            self._attached.set()

    def _note_lag(self, seconds: float) -> None:
        """Warn once if the server tells more than there is time to hear, until that is over."""
        if seconds > LATE_SECONDS and not self._is_late:
            self._is_late = True
            text = f"S{self._server} tells more than can be heard: {seconds:.0f} s wait unheard"
            self._stream.tell(Warned(text))
        elif seconds < LATE_SECONDS / 2:
            self._is_late = False

    def _lost(self, reason: str) -> None:
        self.reason = printable(reason, 300)
        self.closed.set()
        self._attached.set()
        for reached in self._barriers.values():
            if not reached.done():
                reached.set_result(None)
