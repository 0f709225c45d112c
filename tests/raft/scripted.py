"""Servers that answer by a script, for the client's handle to talk to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from raft.client import Raft
from raft.core.events import Role
from raft.core.messages import Index, Message, ServerId, Term
from raft.frames import (
    ClientReply,
    ClientRequest,
    Control,
    FromClient,
    Proposals,
    Propose,
    Queries,
    Read,
    Reply,
    Request,
    Status,
)
from raft.transport import Connection, Identity, Listener

CLUSTER = "test"
SECRET = b"s" * 32
ONE, TWO, THREE = ServerId(1), ServerId(2), ServerId(3)

Script = Callable[[ClientRequest, Connection], Reply | None]


def status(server: ServerId) -> Status:
    return Status(
        *(server, Role.FOLLOWER, Term(1), None, None, Index(0), Term(0), Index(0), Index(0)),
        *(Index(0), Index(0), (ONE, TWO), (), ()),
    )


def says(reply: Reply) -> Script:
    return lambda request, connection: reply


def silent(request: ClientRequest, connection: Connection) -> None:
    """Take a request and never answer, like a server that is paused in the middle of it."""


def hangs_up(request: ClientRequest, connection: Connection) -> None:
    connection.close("crashed")


def one_by_one(request: FromClient) -> Iterator[ClientRequest]:
    match request:
        case ClientRequest():
            yield request
        case Proposals(ids, commands):
            yield from (
                ClientRequest(*row) for row in zip(ids, map(Propose, commands), strict=True)
            )
        case Queries(ids, queries):
            yield from (ClientRequest(*row) for row in zip(ids, map(Read, queries), strict=True))


class Scripted:
    """A server that is all transport: what it answers is up to ``script``."""

    def __init__(self, server: ServerId, script: Script, secret: bytes = SECRET) -> None:
        self.server = server
        self.script = script
        self.requests: list[ClientRequest] = []
        self.connections: set[Connection] = set()
        self.observers: set[Connection] = set()
        self.asked = asyncio.Event()
        self._listener = Listener(Identity(CLUSTER, server, secret), self)

    async def start(self) -> str:
        return await self._listener.start("127.0.0.1:0")

    def stop(self) -> None:
        self._listener.close()

    @property
    def bodies(self) -> list[Request]:
        return [request.body for request in self.requests]

    def client_request(self, connection: Connection, request: FromClient) -> None:
        for each in one_by_one(request):
            self._answer(connection, each)

    def _answer(self, connection: Connection, request: ClientRequest) -> None:
        self.requests.append(request)
        self.connections.add(connection)
        self.asked.set()
        reply = self.script(request, connection)
        if reply is not None:
            connection.send(ClientReply(request.id, reply))

    def connection_lost(self, connection: Connection) -> None:
        self.observers.discard(connection)

    def observer_attached(self, connection: Connection) -> None:
        self.observers.add(connection)

    def peer_attached(self, peer: ServerId, address: str) -> None: ...
    def peer_lost(self, peer: ServerId) -> None: ...
    def peer_message(self, message: Message) -> None: ...
    def control(self, connection: Connection, control: Control) -> None: ...


@asynccontextmanager
async def cluster(
    *servers: Scripted, secret: bytes = SECRET, sessions: bool = False
) -> AsyncIterator[Raft]:
    addresses = {server.server: await server.start() for server in servers}
    try:
        async with Raft(addresses, CLUSTER, secret, sessions=sessions) as raft:
            yield raft
    finally:
        for server in servers:
            server.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
