"""``Raft``: the handle by which an application uses a cluster.

A command is sent again only while it is certain that it had no effect: the server could not
be reached, or says that it did not append it. As soon as a command may be in a log and the
answer does not come, its outcome is unknown (§8), and the application is told so. A query
changes nothing, so it is asked again wherever it may be answered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

from raft.core.messages import ServerId
from raft.errors import (
    NoLeaderError,
    NotLeaderError,
    OutcomeUnknownError,
    RaftError,
    RefusedError,
    RejectedError,
    UnreachableError,
)
from raft.frames import (
    NotLeader,
    OutcomeUnknown,
    Propose,
    Read,
    Rejected,
    Result,
    Status,
    StatusQuery,
)
from raft.line import Line, LostError, Reply
from raft.transport import Identity, parse_address

PATIENCE = 1.0
"""Real seconds to wait for one server, to connect or to answer a query, before the next is asked.

Doubled each round. A paused server lets one connect, but it proves and answers nothing.
"""

PAUSE_MIN = 0.050
PAUSE_MAX = 0.5
"""Real seconds between two rounds through all servers: an election takes its time."""


class Raft:
    """A client of one cluster; any number of requests may be under way at once.

    ``servers`` maps every server's id to ``HOST:PORT``; requests find the leader among them.
    Use it as ``async with Raft(servers, cluster, secret) as raft``. Raises ValueError for an
    address, a cluster's name or a secret that cannot be one. Timeouts are in real seconds;
    with None a request waits as long as it takes, with an ``asyncio.Timeout`` (not yet entered)
    until whoever made it lets it expire.
    """

    def __init__(self, servers: Mapping[ServerId, str], cluster: str, secret: bytes) -> None:
        if not servers:
            raise ValueError("a cluster has at least one server")
        for address in servers.values():
            parse_address(address)
        self.servers = dict(servers)
        identity = Identity(cluster, None, secret)
        self._lines = {server: Line(server, servers[server], identity) for server in servers}
        self._order = list(servers)
        self._leader: ServerId | None = None

    async def __aenter__(self) -> Raft:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Requests under way end as if their servers had gone."""
        for line in self._lines.values():
            line.close()

    def moved(self, server: ServerId, address: str) -> None:
        """Reach a server at ``HOST:PORT`` from now on. Raises ValueError."""
        parse_address(address)
        self._line(server).move(address)
        self.servers[server] = address

    async def propose(
        self,
        command: bytes,
        timeout: float | asyncio.Timeout | None = 5.0,  # noqa: ASYNC109 - its end decides the outcome
        server: ServerId | None = None,
    ) -> bytes:
        """Replicate and apply a command; return what the state machine answered.

        With ``server`` that one is asked, once, whether it leads or not. Raises
        OutcomeUnknownError, RejectedError, and if nothing was done NoLeaderError or
        RefusedError (NotLeaderError or UnreachableError if ``server`` was given).
        """
        return await self._request(_Request(Propose(command)), timeout, server)

    async def read(
        self,
        query: bytes,
        timeout: float | asyncio.Timeout | None = 5.0,  # noqa: ASYNC109
        server: ServerId | None = None,
    ) -> bytes:
        """Return the state machine's answer to a query, linearizable (§8).

        It reflects every command that was acknowledged before the call. ``server`` and errors
        are those of :meth:`propose`, but the outcome is never unknown.
        """
        return await self._request(_Request(Read(query)), timeout, server)

    async def status(
        self,
        server: ServerId,
        timeout: float | None = 5.0,  # noqa: ASYNC109
    ) -> Status:
        """Return one server's state in numbers. Raises UnreachableError or RefusedError."""
        line = self._line(server)
        try:
            async with asyncio.timeout(timeout):
                reply = await (await line.open()).ask(StatusQuery())
        except TimeoutError:
            line.renew()
            raise UnreachableError(server, f"no answer within {timeout:g} s") from None
        except LostError as error:
            raise UnreachableError(server, str(error)) from None
        if not isinstance(reply, Status):
            raise UnreachableError(server, f"answered with {type(reply).__name__}")
        return reply

    # --- One request -----------------------------------------------------------------------------

    async def _request(
        self,
        request: _Request,
        timeout: float | asyncio.Timeout | None,  # noqa: ASYNC109
        server: ServerId | None,
    ) -> bytes:
        limit = timeout if isinstance(timeout, asyncio.Timeout) else asyncio.timeout(timeout)
        try:
            async with limit:
                if server is None:
                    return await self._ask_leader(request)
                answer = await self._ask(server, request)
        except TimeoutError:
            waited_for = request.sent_to
            if waited_for is not None:
                self._distrust(waited_for)
            within = "in time" if isinstance(timeout, asyncio.Timeout) else f"within {timeout:g} s"
            raise request.out_of_time(within, server) from None
        if isinstance(answer, NotLeader):
            raise NotLeaderError(server, answer.leader)
        return answer

    async def _ask_leader(self, request: _Request) -> bytes:
        """Ask server after server, round after round, until one answers as the leader."""
        rounds = _rounds()
        while True:
            patience, pause = next(rounds)
            answer = await self._ask_around(request, patience)
            if answer is not None:
                return answer
            await asyncio.sleep(pause)

    async def _ask_around(self, request: _Request, patience: float) -> bytes | None:
        """Ask every server at most once, going where the last one pointed."""
        left = list(self._order)
        hint = self._leader
        refusals: list[RefusedError] = []
        while left:
            server = hint if hint in left else left[0]
            left.remove(server)
            hint = None
            try:
                answer = await self._ask(server, request, patience)
            except UnreachableError as error:
                self._distrust(server)
                request.sent_to = None
                request.heard[server] = str(error)
                if isinstance(error, RefusedError):
                    refusals.append(error)
                continue
            if not isinstance(answer, NotLeader):
                self._leader = server
                return answer
            request.answered = True
            request.heard[server] = str(NotLeaderError(server, answer.leader))
            hint = answer.leader
        if refusals and not request.answered:
            raise refusals[0]  # nobody else is there, and it will not change its mind
        return None

    async def _ask(
        self, server: ServerId, request: _Request, patience: float | None = None
    ) -> bytes | NotLeader:
        """Ask one server. Raises UnreachableError if the request may be sent elsewhere."""
        try:
            async with asyncio.timeout(patience):
                call = await self._line(server).open()
        except TimeoutError:
            raise UnreachableError(server, f"no connection within {patience:g} s") from None
        request.sent_to = server
        try:
            async with asyncio.timeout(patience if request.is_query else None):
                reply = await call.ask(request.body)
        except TimeoutError:
            raise UnreachableError(server, f"no answer within {patience:g} s") from None
        except LostError as error:
            raise request.unanswered(server, str(error)) from None
        request.sent_to = None
        return _judge(server, reply)

    def _line(self, server: ServerId) -> Line:
        if server not in self._lines:
            raise ValueError(f"there is no server {server} in this cluster")
        return self._lines[server]

    def _distrust(self, server: ServerId) -> None:
        """Ask this server last, over a new connection: if it is paused, it cannot open one."""
        self._order.remove(server)
        self._order.append(server)
        self._lines[server].renew()
        if self._leader == server:
            self._leader = None


@dataclass(slots=True)
class _Request:
    """What is asked, and what became of it so far."""

    body: Propose | Read
    sent_to: ServerId | None = None
    """The server that may be working on it."""
    answered: bool = False
    """Some server talked to us."""
    heard: dict[ServerId, str] = field(default_factory=dict)

    @property
    def is_query(self) -> bool:
        return isinstance(self.body, Read)

    def unanswered(self, server: ServerId, reason: str) -> RaftError:
        if self.is_query:
            return UnreachableError(server, reason)
        return OutcomeUnknownError(f"server {server} took the command and did not answer: {reason}")

    def out_of_time(self, when: str, only: ServerId | None) -> RaftError:
        if self.sent_to is not None:
            lost = self.unanswered(self.sent_to, f"no answer {when}")
            if only is not None or not self.is_query:
                return lost
            self.heard[self.sent_to] = str(lost)
        elif only is not None:
            return UnreachableError(only, f"no connection {when}")
        heard = "; ".join(self.heard.values()) or "no server answered"
        return NoLeaderError(f"no leader answered {when}: {heard}")


def _judge(server: ServerId, reply: Reply) -> bytes | NotLeader:
    match reply:
        case Result(data):
            return data
        case NotLeader():
            return reply
        case Rejected(detail):
            raise RejectedError(detail)
        case OutcomeUnknown(detail):
            raise OutcomeUnknownError(f"server {server}: {detail}")
        case Status():
            raise OutcomeUnknownError(f"server {server} answered something else")


def _rounds() -> Iterator[tuple[float, float]]:
    """Yield the patience with one server, and the pause after a round: longer and longer."""
    patience, pause = PATIENCE, PAUSE_MIN
    while True:
        # Clients that failed together shall not come back together.
        yield patience, pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        patience, pause = patience * 2, min(pause * 2, PAUSE_MAX)
