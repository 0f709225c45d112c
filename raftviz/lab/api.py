"""How a viewer talks to a laboratory: commands in, the one event stream out (design §3).

The laboratory is a process of its own. Whoever starts it holds its standard input; when that
closes, however its holder ended, the laboratory stops every server and leaves. Viewers attach
to its Unix socket and exchange ``ViewerFrame`` messages of ``schemas/lab.capnp``. One ordered
socket carries events and answers, so an answer never overtakes what its command caused.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Protocol

from raft.printable import printable
from raft.wire import MAX_OBSERVATION, DecodeError, FrameSplitter, UnionCodec, load_schema
from raftviz.model.events import Event

MAX_SERVERS = 25
MAX_RATE = 10.0
MAX_UNREAD_EVENTS = 100_000
"""A client whose owner leaves this many events unread stops reading from the laboratory."""
START_SECONDS = 90.0
STOP_SECONDS = 5.0


class LabError(Exception):
    """The laboratory could not be started or reached; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class LabOptions:
    """What a laboratory starts with. Durations are in seconds of the cluster's time.

    ``rate`` is how fast that time runs (0 starts frozen). ``seed`` fixes every server's
    timeouts (None: drawn afresh). ``directory`` keeps the servers' data (None: thrown away).
    Raises ValueError for what cannot work.
    """

    servers: int = 5
    rate: float = 1.0
    delay: float = 0.010
    election_timeout: tuple[float, float] = (0.150, 0.300)
    heartbeat: float = 0.050
    seed: int | None = None
    directory: Path | None = None
    pre_vote: bool = False
    """Servers ask whether they can win an election before they start one (thesis §9.6)."""
    check_quorum: bool = False
    """Leaders that no majority answers step down; who hears from a leader elects no other."""
    one_entry: bool = False
    """An AppendEntries carries one entry at most, as the paper's figures are drawn."""

    def __post_init__(self) -> None:
        """Check what a person may have chosen."""
        low, high = self.election_timeout
        if not 1 <= self.servers <= MAX_SERVERS:
            raise ValueError(f"a lab has 1 to {MAX_SERVERS} servers, not {self.servers}")
        if not 0 <= self.rate <= MAX_RATE:
            raise ValueError(f"time can run at rates from 0 to {MAX_RATE:g}, not {self.rate:g}")
        if not 0 <= self.delay < math.inf:
            raise ValueError(f"a message cannot take {self.delay:g} s")
        if not 0 < self.heartbeat < low <= high < math.inf:
            raise ValueError(
                f"heartbeats every {self.heartbeat:g} s and election timeouts from {low:g} to "
                f"{high:g} s do not fit: each must be longer than the one before it"
            )

    def to_json(self) -> str:
        """Return them as one line of text."""
        plain = asdict(self)
        plain["directory"] = None if self.directory is None else str(self.directory.absolute())
        return json.dumps(plain)

    @classmethod
    def from_json(cls, line: str | bytes) -> LabOptions:
        """Read what ``to_json`` wrote. Raises ValueError."""
        try:
            plain = json.loads(line)
            low, high = plain.pop("election_timeout")
            directory = plain.pop("directory")
            path = None if directory is None else Path(directory)
            return cls(election_timeout=(low, high), directory=path, **plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not the options of a laboratory: {error}") from None


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command went, in words. Not ``ok``: it was refused and changed nothing.

    Whoever folded the stream up to the event ``sequence`` has seen all that it caused.
    """

    ok: bool
    text: str
    sequence: int = 0


class Lab(Protocol):
    """A laboratory as its viewers see it."""

    async def command(self, text: str) -> Answer:
        """Carry out one command; return when its effect and its events are there."""

    async def next_events(self) -> list[Event]:
        """Return all events since the last call, at least one; none: the laboratory ended."""

    async def close(self) -> None:
        """Leave; the laboratory that was started for this viewer ends with all its servers."""


# --- Frames between viewer and laboratory (schemas/lab.capnp: ViewerFrame) -------------------


@dataclass(frozen=True, slots=True)
class Attach:
    """A viewer's first frame. The laboratory ends when its last ``owner`` has gone.

    One that is only ``watching`` gives no commands.
    """

    owner: bool
    watching: bool = False


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """A command in the one language; the answer repeats ``id``."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """The answer to the CommandRequest with the same ``id``."""

    id: int
    ok: bool
    text: str


ViewerFrame = Attach | CommandRequest | CommandAnswer | Event


VIEWER_FRAMES: UnionCodec[ViewerFrame] = UnionCodec(load_schema("lab").ViewerFrame, ViewerFrame)

encode_frame = VIEWER_FRAMES.encode
decode_frame = VIEWER_FRAMES.decode


# --- The client ------------------------------------------------------------------------------


@dataclass(slots=True)
class _LabProcess:
    """The laboratory's process and what it wrote to its standard error."""

    process: asyncio.subprocess.Process
    errors: IO[bytes]

    async def address(self) -> Path:
        """Wait for the one line that names the socket. Raises LabError."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = await self.process.stdout.readline()
            return Path(json.loads(line)["socket"])
        except TimeoutError:
            reason = f"it said nothing for {START_SECONDS:g} s"
        except (ValueError, KeyError, TypeError):
            reason = self.last_words() or "it ended without a word"
        raise LabError(f"the laboratory did not start: {reason}")

    def last_words(self) -> str:
        """Return the last line of its standard error, made safe to show."""
        descriptor = self.errors.fileno()
        size = os.fstat(descriptor).st_size
        end = os.pread(descriptor, 4096, max(0, size - 4096))  # the offset is the process's
        return printable(end.strip().split(b"\n")[-1], 500)

    async def epitaph(self) -> str:
        """Say why it ended without being asked to, once it has."""
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            return "the laboratory does not answer"
        words = self.last_words() if self.process.returncode else ""
        return f"the laboratory ended: {words}" if words else "the laboratory ended"

    async def stop(self) -> None:
        """Let go of its standard input, which ends it, and wait until it is gone."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self.process.wait()
        except TimeoutError:
            # Its servers end by themselves: their standard input closes with it.
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGKILL)
            await self.process.wait()
        self.errors.close()


@dataclass(slots=True, eq=False)
class _Connection(asyncio.Protocol):
    """The viewer's end of the socket: sorts what arrives into events and answers."""

    events: list[Event] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    pending: dict[int, asyncio.Future[Answer | None]] = field(default_factory=dict)
    """Answers that are awaited; None when the laboratory ended before it gave them."""
    sequence: int = 0
    ended: bool = False
    transport: asyncio.Transport | None = None
    splitter: FrameSplitter = field(default_factory=lambda: FrameSplitter(MAX_OBSERVATION))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for raw in self.splitter.feed(data):
                self._take(decode_frame(raw))
        except DecodeError:  # whatever is at the other end, it is no laboratory of ours
            assert self.transport is not None
            self.transport.abort()
        self.arrived.set()
        self.regulate()

    def _take(self, frame: ViewerFrame) -> None:
        if isinstance(frame, Event):
            self.events.append(frame)
            self.sequence = frame.sequence
        elif isinstance(frame, CommandAnswer):
            self._answered(frame.id, Answer(frame.ok, frame.text, self.sequence))

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.arrived.set()
        for number in list(self.pending):
            self._answered(number, None)

    def _answered(self, number: int, answer: Answer | None) -> None:
        waiting = self.pending.pop(number, None)
        if waiting is not None and not waiting.done():  # done: nobody waits for it any more
            waiting.set_result(answer)

    def send(self, frame: ViewerFrame) -> None:
        assert self.transport is not None
        self.transport.write(encode_frame(frame))

    def regulate(self) -> None:
        """Read no further while too much lies unread, unless an answer is awaited behind it."""
        if self.transport is None or self.ended:
            return
        if len(self.events) < MAX_UNREAD_EVENTS or self.pending:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()


class LabClient:
    """A laboratory over its socket: the real ``Lab``."""

    # -P: a file named like a module in the user's directory is not ours to import.
    COMMAND = (sys.executable, "-P", "-m", "raftviz.lab")

    def __init__(self, socket: Path, connection: _Connection, process: _LabProcess | None) -> None:
        self.socket = socket
        """Where other viewers can attach, too."""
        self._connection = connection
        self._process = process
        self._ids = itertools.count(1)

    @classmethod
    async def spawn(cls, options: LabOptions) -> LabClient:
        """Start a laboratory and attach to it as its owner. Raises LabError."""
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process runs)
        process = await asyncio.create_subprocess_exec(
            *cls.COMMAND,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            process_group=0,  # the terminal's Ctrl-C is the viewer's affair
        )
        lab = _LabProcess(process, errors)
        assert process.stdin is not None
        process.stdin.write(options.to_json().encode() + b"\n")
        try:
            return await cls._connect(await lab.address(), Attach(owner=True), lab)
        except BaseException:
            await lab.stop()
            raise

    @classmethod
    async def attach(cls, socket: Path, *, watching: bool = False) -> LabClient:
        """Attach to a laboratory that somebody else started. Raises LabError.

        Commands of one that is only ``watching`` are refused.
        """
        return await cls._connect(socket, Attach(owner=False, watching=watching), None)

    @classmethod
    async def _connect(cls, socket: Path, attach: Attach, lab: _LabProcess | None) -> LabClient:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(_Connection, str(socket))
        except OSError as error:
            reason = error.strerror or error
            raise LabError(f"no laboratory answers at {socket}: {reason}") from error
        connection.send(attach)
        return cls(socket, connection, lab)

    async def command(self, text: str) -> Answer:
        """Carry out one command; return when its effect and its events are there."""
        connection = self._connection
        if connection.ended:
            return await self._no_answer()
        number = next(self._ids)
        waiting: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        connection.pending[number] = waiting
        connection.regulate()
        connection.send(CommandRequest(number, text))
        try:
            return await waiting or await self._no_answer()
        finally:
            connection.pending.pop(number, None)

    async def _no_answer(self) -> Answer:
        process = self._process
        return Answer(False, await process.epitaph() if process else "the laboratory ended")

    async def next_events(self) -> list[Event]:
        """Return all events since the last call, at least one; none: the laboratory ended."""
        connection = self._connection
        while not connection.events and not connection.ended:
            connection.arrived.clear()
            await connection.arrived.wait()
        events, connection.events = connection.events, []
        connection.regulate()
        return events

    async def close(self) -> None:
        """Leave. The laboratory that was spawned here is gone, with its servers, on return."""
        if self._connection.transport is not None:
            self._connection.transport.close()
        if self._process is not None:
            process, self._process = self._process, None
            await process.stop()
