"""Who is asked, and how often: a client's requests on their way to whoever can answer them.

A command is sent again only while it is certain that it had no effect: the server could not
be reached, or says that it did not append it. As soon as a command may be in a log and the
answer does not come, its outcome is unknown (§8), and the application is told so. A query
changes nothing, so it is asked again wherever it may be answered; and so is a command with a
number by which the servers know that they have it already (``raft.session``).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field

from raft.core.messages import Index, ServerId
from raft.errors import (
    DECLINED,
    DeclinedError,
    NoLeaderError,
    NotLeaderError,
    OutcomeUnknownError,
    RaftError,
    RefusedError,
    RejectedError,
    UnknownServerError,
    UnreachableError,
)
from raft.frames import (
    AnswerTooLong,
    ChangeMembers,
    Declined,
    ForgetLeader,
    Members,
    MembersQuery,
    NotLeader,
    OutcomeUnknown,
    Propose,
    Read,
    Rejected,
    Reply,
    Request,
    Result,
    SnapshotTaken,
    Status,
    StatusQuery,
    TakeSnapshot,
    TransferLeadership,
    Transferred,
)
from raft.line import Line, LostError
from raft.machine.base import MAX_ANSWER_BYTES
from raft.transport import Identity, parse_address

PATIENCE = 1.0
"""Real seconds to wait for one server, to connect or to answer a query, before the next is asked.

Doubled each round. A paused server lets one connect, but it proves and answers nothing.
"""

PAUSE_MIN = 0.050
PAUSE_MAX = 0.5
"""Real seconds between two rounds through all servers: an election takes its time."""

LEARN_SECONDS = 5.0
"""Real seconds in which a newer configuration is found out, or else with a later reply."""

Limit = float | asyncio.Timeout | None
"""How long a request may take, in real seconds: see ``raft.client.Raft``."""

_ANSWERS: dict[type[Request], type[Reply]] = {
    Propose: Result,
    Read: Result,
    StatusQuery: Status,
    MembersQuery: Members,
    ChangeMembers: Members,
    TransferLeadership: Transferred,
    TakeSnapshot: SnapshotTaken,
    ForgetLeader: Status,
}


class Asker:
    """Asks the servers of one cluster. Raises ValueError for what cannot be an address.

    ``servers`` are those to begin with; members that join are learned from the cluster.
    """

    def __init__(self, servers: Mapping[ServerId, str], identity: Identity) -> None:
        self.servers: dict[ServerId, str] = {}
        self._identity = identity
        self._lines: dict[ServerId, Line] = {}
        self._order: list[ServerId] = []
        self.leader: ServerId | None = None
        """Who answered last, and so leads in all likelihood."""
        self._configuration = Index(0)
        self._learning: asyncio.Task[None] | None = None
        for server, address in servers.items():
            parse_address(address)
            self._add(server, address)

    def close(self) -> None:
        """Close all connections. Requests under way end as if their servers had gone."""
        if self._learning is not None:
            self._learning.cancel()
        for line in self._lines.values():
            line.close()

    def address(self, server: ServerId) -> str:
        """Return where a server is. Raises UnknownServerError."""
        self._line(server)
        return self.servers[server]

    def move(self, server: ServerId, address: str) -> None:
        """Reach a server at ``HOST:PORT`` from now on. Raises ValueError, UnknownServerError."""
        parse_address(address)
        self._line(server).move(address)
        self.servers[server] = address

    def prefer(self, server: ServerId) -> None:
        """Ask this server first, until another one is known to lead. Raises UnknownServerError."""
        self._line(server)
        self.leader = server

    async def ask(self, body: Request, timeout: Limit, server: ServerId | None = None) -> Reply:  # noqa: ASYNC109 - its end decides the outcome
        """Return the answer to a request: of ``server``, asked once, or of whoever can give it.

        The answer has the type that belongs to the request. Raises RaftError of every kind.
        """
        request = Asked(body)
        if server is None:
            return await self.ask_cluster(request, timeout, asyncio.get_running_loop().time())
        async with self.limited(request, timeout, server):
            return await self._ask_only(server, request)

    async def ask_leader(self, body: Request, timeout: Limit) -> Reply:  # noqa: ASYNC109
        """Find out who leads, and return the answer of that server, asked once: all in time."""
        request = Asked(MembersQuery())
        async with self.limited(request, timeout):
            members = await self.search(request)
            assert isinstance(members, Members)
            assert self.leader is not None
            self.learn(members)
            request.body = body
            return await self._ask_only(self.leader, request)

    async def _ask_only(self, server: ServerId, request: Asked) -> Reply:
        answer = await self._ask_one(server, request)
        if isinstance(answer, NotLeader):
            raise NotLeaderError(server, answer.leader)
        return answer

    @contextlib.asynccontextmanager
    async def limited(
        self,
        request: Asked,
        timeout: Limit,  # noqa: ASYNC109
        server: ServerId | None = None,
        began: float | None = None,
    ) -> AsyncIterator[None]:
        """Give a request its time, and say what is certain of it when it fails.

        Of a ``timeout`` in seconds some is gone if it ``began`` before, by the loop's clock.
        """
        if isinstance(timeout, asyncio.Timeout):
            limit, within = timeout, "in time"
        elif timeout is None:
            limit, within = asyncio.timeout(None), ""
        else:
            now = asyncio.get_running_loop().time()
            limit = asyncio.timeout_at((now if began is None else began) + timeout)
            within = f"within {timeout:g} s"
        try:
            async with limit:
                yield
        except TimeoutError:
            if request.sent_to is not None:
                self._distrust(request.sent_to)
            raise request.out_of_time(within, server) from None
        except RaftError as error:
            if request.unsure and not isinstance(error, OutcomeUnknownError):
                raise OutcomeUnknownError(f"it may have been carried out; then: {error}") from None
            raise

    def tell(self, request: Request) -> None:
        """Send a request to whoever led last, if that is possible now, and wait for no reply."""
        line = None if self.leader is None else self._lines.get(self.leader)
        if line is not None and line.ready is not None:
            line.ready.tell(request)

    # --- One request -----------------------------------------------------------------------------

    async def ask_cluster(self, request: Asked, timeout: Limit, began: float) -> Reply:  # noqa: ASYNC109
        """Return the answer of whoever can give it. Raises RaftError of every kind.

        Nearly every request ends with the first answer of whoever led last, and takes no timer
        of its own for that. Its time began at ``began``, by the loop's clock.
        """
        server = self.leader
        line = None if server is None else self._lines.get(server)
        call = None if line is None else line.ready
        if server is not None and call is not None and not isinstance(timeout, asyncio.Timeout):
            request.sent_to = server
            patience = request.patience(timeout)
            try:
                reply = await call.ask(request.body, patience)
            except TimeoutError:
                self._missed(server, request, LostError(f"no answer within {patience:g} s"))
            except (UnreachableError, LostError) as error:
                self._missed(server, request, error)
            else:
                request.sent_to = None
                if isinstance(reply, Result):
                    return reply
                if self._is_final(server, request, reply):
                    return reply
        async with self.limited(request, timeout, began=began):
            return await self.search(request)

    def _missed(self, server: ServerId, request: Asked, error: RaftError) -> None:
        """Note that there was no answer. Raises OutcomeUnknownError if nobody else may be asked."""
        self._distrust(server)
        if not isinstance(error, UnreachableError):
            lost = request.unanswered(server, str(error))
            if not isinstance(lost, UnreachableError):
                raise lost from None
        request.sent_to = None
        request.heard[server] = str(error)

    def _is_final(self, server: ServerId, request: Asked, reply: Reply) -> bool:
        """Tell whether a reply ends a request. Raises what it says, unless that may pass."""
        try:
            reply = _judge(server, request, reply)
        except DeclinedError as error:
            request.answered, request.declined = True, error
            if not error.passes:
                raise
            return False
        except UnreachableError as error:
            self._missed(server, request, error)
            return False
        if isinstance(reply, NotLeader):
            request.answered = True
            self.leader = reply.leader
            if reply.leader is not None:
                self._add(reply.leader, reply.address)
            return False
        return True

    async def search(self, request: Asked) -> Reply:
        """Ask server after server, round after round, until one can answer."""
        rounds = _rounds()
        while True:
            patience, pause = next(rounds)
            answer = await self._ask_around(request, patience)
            if answer is not None:
                return answer
            await asyncio.sleep(pause)

    async def _ask_around(self, request: Asked, patience: float) -> Reply | None:
        """Ask every server at most once, going where the last one pointed."""
        left = list(self._order)
        hint = self.leader
        refusals: list[RefusedError] = []
        while left:
            server = hint if hint in left else left[0]
            left.remove(server)
            hint = None
            try:
                answer = await self._ask_one(server, request, patience)
            except UnreachableError as error:
                self._distrust(server)
                request.sent_to = None
                request.heard[server] = str(error)
                if isinstance(error, RefusedError):
                    refusals.append(error)
                continue
            except DeclinedError as error:
                request.answered, request.declined = True, error
                if not error.passes:
                    raise
                return None
            if not isinstance(answer, NotLeader):
                self.leader = server
                return answer
            request.answered, request.declined = True, None
            request.heard[server] = str(NotLeaderError(server, answer.leader))
            hint = answer.leader
            if hint is not None and self._add(hint, answer.address):
                left.append(hint)
        if refusals and not request.answered:
            raise refusals[0]  # nobody else is there, and it will not change its mind
        return None

    async def _ask_one(
        self, server: ServerId, request: Asked, patience: float | None = None
    ) -> Reply:
        """Ask one server. Raises UnreachableError if the request may be sent elsewhere."""
        line = self._line(server)
        call = line.ready
        if call is None:
            try:
                async with asyncio.timeout(patience):
                    call = await line.open()
            except TimeoutError:
                raise UnreachableError(server, f"no connection within {patience:g} s") from None
        request.sent_to = server
        try:
            reply = await call.ask(request.body, patience if request.may_go_elsewhere else None)
        except TimeoutError:
            raise request.unanswered(server, f"no answer within {patience:g} s") from None
        except LostError as error:
            raise request.unanswered(server, str(error)) from None
        request.sent_to = None
        return _judge(server, request, reply)

    def _line(self, server: ServerId) -> Line:
        if server not in self._lines:
            raise UnknownServerError(server, self._lines)
        return self._lines[server]

    def _distrust(self, server: ServerId) -> None:
        """Ask this server last, over a new connection: if it is paused, it cannot open one."""
        self._order.remove(server)
        self._order.append(server)
        self._lines[server].renew()
        if self.leader == server:
            self.leader = None

    # --- Servers that come and go ----------------------------------------------------------------

    def _add(self, server: ServerId, address: str) -> bool:
        """Get to know a server; False: it is known, or nobody says where it is."""
        try:
            parse_address(address)
        except ValueError:
            return False
        if server in self._lines:
            return False
        self.servers[server] = address
        self._lines[server] = Line(server, address, self._identity, self._heard)
        self._order.append(server)
        return True

    def _heard(self, configuration: Index) -> None:
        """Find out who the members are when a reply tells of a newer configuration."""
        if configuration > self._configuration and self._learning is None:
            self._learning = asyncio.create_task(self._learn())

    async def _learn(self) -> None:
        try:
            # In vain, it is tried again with the next reply: nobody waits for this.
            with contextlib.suppress(RaftError):
                members = await self.ask(MembersQuery(), LEARN_SECONDS)
                assert isinstance(members, Members)
                self.learn(members)
        finally:
            self._learning = None

    def learn(self, members: Members) -> None:
        """Get to know these members, and ask them before any other server."""
        for known in members.addresses:
            self._add(known.server, known.address)
        there = {*members.voters, *members.outgoing, *members.learners}
        self._order.sort(key=lambda server: server not in there)
        if members.committed:
            self._configuration = max(self._configuration, members.index)


@dataclass(slots=True)
class Asked:
    """What is asked, and what became of it so far."""

    body: Request
    numbered: bool = False
    """It is a command that is carried out once, however often it is sent."""
    unsure: bool = False
    """It was sent, and may have taken effect without an answer."""
    sent_to: ServerId | None = None
    """The server that may be working on it."""
    answered: bool = False
    """Some server talked to us."""
    declined: DeclinedError | None = None
    """The last answer, if it was a refusal that may pass."""
    heard: dict[ServerId, str] = field(default_factory=dict)

    @property
    def is_query(self) -> bool:
        """It changes nothing."""
        return isinstance(self.body, Read | StatusQuery | MembersQuery)

    @property
    def may_go_elsewhere(self) -> bool:
        """It may be sent again although an answer to it is missing."""
        return self.numbered or self.is_query

    def patience(self, timeout: float | None) -> float | None:
        """Return for how many seconds to wait for the first answer."""
        if not self.may_go_elsewhere:
            return timeout
        return PATIENCE if timeout is None or timeout > PATIENCE else timeout

    def unanswered(self, server: ServerId, reason: str) -> RaftError:
        """Note that a server may have worked on it; return the error for that."""
        self.unsure = not self.is_query
        if self.may_go_elsewhere:
            return UnreachableError(server, reason)
        what = "the command" if isinstance(self.body, Propose) else "the request"
        return OutcomeUnknownError(f"server {server} took {what} and did not answer: {reason}")

    def out_of_time(self, when: str, only: ServerId | None) -> RaftError:
        """Return the error for a request whose time is up."""
        if self.sent_to is not None:
            lost = self.unanswered(self.sent_to, f"no answer {when}")
            if only is not None or not self.may_go_elsewhere:
                return lost
            self.heard[self.sent_to] = str(lost)
        elif only is not None:
            return UnreachableError(only, f"no connection {when}")
        heard = "; ".join(self.heard.values()) or "no server answered"
        if self.unsure:
            return OutcomeUnknownError(f"the command may have been carried out; {when}: {heard}")
        return self.declined or NoLeaderError(f"no leader answered {when}: {heard}")


def _judge(server: ServerId, request: Asked, reply: Reply) -> Reply:
    match reply:
        case NotLeader():
            return reply
        case Rejected(detail):
            raise RejectedError(detail)
        case Declined(reason, detail):
            raise DECLINED.get(reason, DeclinedError)(server, reason, detail)
        case AnswerTooLong(size):
            raise _too_long(request, size)
        case OutcomeUnknown(detail) if request.numbered:
            raise request.unanswered(server, detail)
        case OutcomeUnknown(detail):
            raise OutcomeUnknownError(f"server {server}: {detail}")
    if not isinstance(reply, _ANSWERS[type(request.body)]):
        raise request.unanswered(server, f"it answered with {type(reply).__name__}")
    return reply


def _too_long(request: Asked, size: int) -> RaftError:
    said = f"the answer has {size} bytes, and at most {MAX_ANSWER_BYTES} are sent"
    if isinstance(request.body, Propose):
        return OutcomeUnknownError(f"the command was carried out, but {said}")
    return RejectedError(said)


def _rounds() -> Iterator[tuple[float, float]]:
    """Yield the patience with one server, and the pause after a round: longer and longer."""
    patience, pause = PATIENCE, PAUSE_MIN
    while True:
        # Clients that failed together shall not come back together.
        yield patience, pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        patience, pause = patience * 2, min(pause * 2, PAUSE_MAX)
