"""The viewers of a lab: its Unix socket, and a bounded queue for each who attached.

The socket lies in a directory that only its owner may enter (design §8). A viewer that does
not read is let go: nothing that happens in the cluster ever waits for a screen.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from raft.printable import printable
from raft.wire import DecodeError, FrameSplitter
from raftviz.lab.api import (
    Answer,
    Attach,
    CommandAnswer,
    CommandRequest,
    ViewerFrame,
    decode_frame,
    encode_frame,
)
from raftviz.lab.stream import Stream
from raftviz.model.events import Event, Warned

MAX_UNSENT = 32 * 1024 * 1024
"""A viewer that leaves more than this many bytes unread is let go."""
LATE_SECONDS = 2.0
"""Real seconds that a viewer may be behind before that is said, and ended if it can be."""
WATCHING = "you only watch this laboratory; to give commands, attach to it"
MAX_COMMANDS = 64
"""Commands of one viewer that may be under way at once."""


class Viewers:
    """Everybody who watches a lab.

    ``carry_out`` is what becomes of a command's text; ``late`` is called when one of them has
    fallen behind, ``abandoned`` when the last owner has gone.
    """

    def __init__(
        self,
        carry_out: Callable[[str], Coroutine[Any, Any, Answer]],
        stream: Stream,
        tasks: asyncio.TaskGroup,
        late: Callable[[], None],
        abandoned: Callable[[], object],
    ) -> None:
        self.carry_out = carry_out
        self.late = late
        self.stream = stream
        self.tasks = tasks
        self._abandoned = abandoned
        self._attached: set[_Viewer] = set()
        self._listener: asyncio.Server | None = None

    async def open(self, path: Path) -> None:
        """Listen for viewers. Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_unix_server(lambda: _Viewer(self), str(path))
        self.stream.listener = self.publish

    def publish(self, event: Event) -> None:
        """Send an event to everybody; encoded once, and only if somebody watches."""
        if self._attached:
            raw = encode_frame(event)
            for viewer in self._attached:
                viewer.queue(raw)

    def close(self) -> None:
        """Say goodbye to everybody."""
        if self._listener is not None:
            self._listener.close()
        for viewer in list(self._attached):
            viewer.owner = False  # it leaves us because we leave it
            viewer.close()

    def attached(self, viewer: _Viewer) -> None:
        """From here on this viewer gets every event."""
        self._attached.add(viewer)

    def left(self, viewer: _Viewer) -> None:
        """Forget a viewer. When the last owner has gone, so does the lab."""
        self._attached.discard(viewer)
        if viewer.owner and not any(other.owner for other in self._attached):
            self._abandoned()


class Lag:
    """How far the reader of a connection is behind what is written to it."""

    def __init__(self) -> None:
        self._written = 0
        self._waiting: deque[tuple[int, float]] = deque()
        """For each write that has not left whole: where it ends, and when it was made."""

    def note(self, size: int, unsent: int, now: float) -> float:
        """Note a write of ``size`` bytes after which ``unsent`` ones wait.

        Returns for how many seconds the oldest of those has waited, 0 if none does.
        """
        self._written += size
        self._waiting.append((self._written, now))
        while self._waiting and self._waiting[0][0] <= self._written - unsent:
            self._waiting.popleft()
        return now - self._waiting[0][1] if self._waiting else 0.0


class _Viewer(asyncio.Protocol):
    """One viewer's connection. What is sent within one turn of the loop leaves as one write."""

    def __init__(self, viewers: Viewers) -> None:
        self.owner = False
        self._viewers = viewers
        self._splitter = FrameSplitter()
        self._transport: asyncio.Transport | None = None
        self._is_attached = self._watches = False
        self._outbox: list[bytes] = []
        self._lag = Lag()
        self._is_late = False
        self._commands: set[asyncio.Task[None]] = set()

    # --- In ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for raw in self._splitter.feed(data):
                self._take(decode_frame(raw))
        except DecodeError as error:
            reason = printable(str(error), 200)
            self._viewers.stream.tell(
                Warned(f"a viewer sent something malformed and was let go: {reason}")
            )
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._viewers.left(self)

    def _take(self, frame: ViewerFrame) -> None:
        match frame:
            case Attach() if not self._is_attached:
                self._attach(frame)
            case CommandRequest() if self._is_attached:
                self._begin(frame)
            case _:
                raise DecodeError(f"{type(frame).__name__} has no place here")

    def _attach(self, attach: Attach) -> None:
        self._is_attached = True
        self.owner, self._watches = attach.owner, attach.watching
        for event in self._viewers.stream.view.as_events():
            self.queue(encode_frame(event))
        self._viewers.attached(self)

    def _begin(self, request: CommandRequest) -> None:
        if self._watches:
            self.queue(encode_frame(CommandAnswer(request.id, False, WATCHING)))
            return
        if len(self._commands) >= MAX_COMMANDS:
            text = f"{MAX_COMMANDS} commands are under way; wait for one of them to end"
            self.queue(encode_frame(CommandAnswer(request.id, False, text)))
            return
        task = self._viewers.tasks.create_task(self._answer(request))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _answer(self, request: CommandRequest) -> None:
        answer = await self._viewers.carry_out(request.text)
        self.queue(encode_frame(CommandAnswer(request.id, answer.ok, answer.text)))

    # --- Out ---------------------------------------------------------------------------------

    def queue(self, raw: bytes) -> None:
        """Send a frame at the end of this turn of the loop."""
        if not self._outbox:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outbox.append(raw)

    def _flush(self) -> None:
        raw, self._outbox = b"".join(self._outbox), []
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(raw)
        unsent = self._transport.get_write_buffer_size()
        if unsent > MAX_UNSENT:
            self._transport.abort()
        lag = self._lag.note(len(raw), unsent, time.monotonic())
        if lag > LATE_SECONDS and not self._is_late:
            self._is_late = True
            self._viewers.late()
        elif not unsent:
            self._is_late = False

    def close(self) -> None:
        """Let the viewer go once it has got what is queued for it."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
