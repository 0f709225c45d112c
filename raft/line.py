"""A client's line to one server: opened when needed, shared by all its requests."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Callable, Sequence

from raft.core.messages import Index, ServerId
from raft.errors import RaftError, RefusedError, RejectedError, UnreachableError
from raft.frames import (
    Caller,
    ClientRequest,
    Consistency,
    Frame,
    FromServer,
    Proposals,
    Propose,
    Queries,
    Read,
    RefusalReason,
    Reply,
    Request,
    Result,
    Results,
)
from raft.transport import Connection, HandshakeError, Identity, connect
from raft.wire import MAX_COLUMN, in_frames

Heard = Callable[[Index], None]
"""Told, with every reply, the index of the newest configuration that the server knows."""


_DEAF = "it does not read what it is sent"

_Waiting = tuple[asyncio.Future[Reply], float]
"""A reply, and the time of the loop until which it is waited for."""


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
        self._leaving: set[Call] = set()
        """Connections that are no longer used, but by what waits on them."""
        self._closed = False

    @property
    def ready(self) -> Call | None:
        """The connection, if it is open."""
        return None if self._call is None or self._call.lost else self._call

    async def open(self) -> Call:
        """Return an open connection. All who ask meanwhile wait for the same attempt.

        Raises RefusedError when the server will not talk to us, else UnreachableError.
        """
        while True:
            if self._closed:
                raise RaftError("the client is closed")
            if (ready := self.ready) is not None:
                return ready
            if (opening := self._opening) is None:
                opening = self._opening = asyncio.create_task(self._open())
                opening.add_done_callback(self._opened)
            await asyncio.wait([opening])
            if not opening.cancelled():
                return opening.result()

    async def _open(self) -> Call:
        call = Call(self._server, self._heard, self._leaving.discard)
        try:
            await call.connect(self._address, self._identity)
        except (HandshakeError, OSError) as error:
            raise unreachable(self._server, self._address, error) from None
        self._call = call
        return call

    def _opened(self, opening: asyncio.Task[Call]) -> None:
        if self._opening is opening:
            self._opening = None
        # Whoever waits for it sees its error; if nobody does any more, nobody needs to.
        if not opening.cancelled():
            opening.exception()

    def _stop_opening(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def move(self, address: str) -> None:
        """Connect to this address from now on."""
        if address != self._address:
            self._address = address
            self._stop_opening()  # whoever waits for it opens it anew
            self.renew()

    def renew(self) -> None:
        """Use a new connection from now on. What waits on the old one goes on waiting."""
        if (call := self.ready) is not None:
            self._leaving.add(call)
            call.close_when_idle()
        self._call = None

    def close(self) -> None:
        """End it for good, and every request on it."""
        self._closed = True
        self._stop_opening()
        for call in (self._call, *self._leaving):
            if call is not None:
                call.close()


def unreachable(
    server: ServerId, address: str, error: HandshakeError | OSError
) -> UnreachableError:
    """Return what it means that ``raft.transport.connect`` failed."""
    if isinstance(error, HandshakeError):
        kind = UnreachableError if error.reason is RefusalReason.BUSY else RefusedError
        return kind(server, f"{address}: refused: {error.detail}")
    return UnreachableError(server, str(error))


class Call:
    """One connection, and the requests on it that wait for their replies.

    Commands and linearizable queries of one iteration of the loop leave together, and all
    requests share one timer.
    """

    def __init__(self, server: ServerId, heard: Heard, gone: Callable[[Call], None]) -> None:
        self.lost = False
        self._gone = gone
        self._server = server
        self._heard = heard
        self._connection: Connection | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._unsent: list[tuple[int, Request]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._leaving = False

    async def connect(self, address: str, identity: Identity) -> None:
        """Connect and prove who we are. Raises what ``raft.transport.connect`` does."""
        self._loop = asyncio.get_running_loop()
        self._connection = await connect(
            address, identity, Caller.CLIENT, self._server, self._receive, self._fail
        )

    async def ask(self, request: Request, patience: float | None = None) -> Reply:
        """Send a request and return its reply.

        Raises UnreachableError or RejectedError when it was not sent, LostError when it was
        and nobody will know what became of it, TimeoutError after ``patience`` (seconds).
        """
        number = next(self._numbers)
        self._send(number, request)
        reply: asyncio.Future[Reply] = self._loop.create_future()
        deadline = math.inf if patience is None else self._loop.time() + patience
        self._waiting[number] = (reply, deadline)
        if self._alarm is None or deadline < self._alarm.when():
            self._set_alarm(deadline)
        try:
            return await reply
        finally:
            del self._waiting[number]
            if self._leaving and not self._waiting:
                self.close()

    def tell(self, request: Request) -> None:
        """Send a request at once, and wait for no reply; it may be lost."""
        assert self._connection is not None
        self._connection.send(ClientRequest(next(self._numbers), request))

    def close_when_idle(self) -> None:
        """Close it as soon as no request waits on it."""
        self._leaving = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close it now; requests that wait raise LostError."""
        if self._connection is not None:
            self._connection.close("the client hung up")

    # --- Out -------------------------------------------------------------------------------------

    def _send(self, number: int, request: Request) -> None:
        assert self._connection is not None
        if isinstance(request, Propose):
            waits = len(request.data) <= MAX_COLUMN
        elif isinstance(request, Read) and request.consistency is Consistency.LINEARIZABLE:
            waits = len(request.query) <= MAX_COLUMN
        else:
            waits = False
        if waits:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append((number, request))
            return
        try:
            sent = self._connection.send(ClientRequest(number, request))
        except ValueError as error:
            raise RejectedError(str(error)) from None
        if not sent:
            raise UnreachableError(self._server, _DEAF)

    def _flush(self) -> None:
        """Send what was asked since the last iteration; one that came alone as it is."""
        unsent, self._unsent = self._unsent, []
        if len(unsent) == 1:
            self._send_late([unsent[0][0]], ClientRequest(*unsent[0]))
            return
        proposals = [(number, body.data) for number, body in unsent if isinstance(body, Propose)]
        queries = [(number, body.query) for number, body in unsent if isinstance(body, Read)]
        for columns, rows in ((Proposals, proposals), (Queries, queries)):
            if rows:
                ids, datas = zip(*rows, strict=True)
                for part in in_frames(datas):
                    self._send_late(ids[part], columns(ids[part], datas[part]))

    def _send_late(self, numbers: Sequence[int], frame: Frame) -> None:
        assert self._connection is not None
        if self._connection.send(frame):
            return
        for number in numbers:
            self._end(number, UnreachableError(self._server, _DEAF))

    # --- In --------------------------------------------------------------------------------------

    def _receive(self, frame: Frame) -> None:
        assert isinstance(frame, FromServer)
        self._heard(frame.configuration)
        if isinstance(frame, Results):
            for number, data in zip(frame.ids, frame.datas, strict=True):
                self._answer(number, Result(data))
        else:
            self._answer(frame.id, frame.body)

    def _answer(self, number: int, reply: Reply) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_result(reply)

    def _end(self, number: int, error: Exception) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting[0].done():
            waiting[0].set_exception(error)

    def _set_alarm(self, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if deadline < math.inf:
            self._alarm = self._loop.call_at(deadline, self._time_out)

    def _time_out(self) -> None:
        """End the requests whose time is over; the alarm rings next for the most urgent one."""
        now, urgent = self._loop.time(), math.inf
        for reply, deadline in self._waiting.values():
            if reply.done():
                continue
            if deadline <= now:
                reply.set_exception(TimeoutError())
            else:
                urgent = min(urgent, deadline)
        self._set_alarm(urgent)

    def _fail(self, reason: str) -> None:
        self.lost = True
        self._set_alarm(math.inf)
        for number in self._waiting:
            self._end(number, LostError(reason))
        self._gone(self)
