"""What TLS costs a connection: to open it, to send a request and get its reply, and to move bytes.

    python -m tests.bench.links [--rounds 2000]

One process has both ends, so each number is what both pay together. Plain and encrypted take turns,
so that whatever else the machine does, it does to both.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from raft.certificate import Certificate, Role
from raft.certs import Authority, make
from raft.core.messages import AppendEntries, Entry, Index, Message, ServerId, Term
from raft.frames import Caller, ClientReply, ClientRequest, Control, Frame, Rejected, StatusQuery
from raft.transport import Connection, Identity, Listener, PeerLink, connect
from tests.bench.machine import describe, quantile

CLUSTER = "bench"
ME, PEER = ServerId(1), ServerId(2)
TURNS = 20
CONNECTIONS = 10
MESSAGES = 200

Secret = bytes | Certificate


class Site:
    """A server that answers every request at once, and counts the messages of its peer."""

    def __init__(self, secret: Secret) -> None:
        self.received = 0
        self.wanted = 0
        self.all_there = asyncio.Event()
        self.attached = asyncio.Event()
        self._listener = Listener(Identity(CLUSTER, ME, secret), self)

    async def start(self) -> str:
        return await self._listener.start("127.0.0.1:0")

    def close(self) -> None:
        self._listener.close()

    def client_request(self, connection: Connection, request: ClientRequest) -> None:
        connection.send(ClientReply(request.id, Rejected("a bench")))

    def peer_attached(self, peer: ServerId, address: str) -> None:
        self.attached.set()

    def peer_message(self, message: Message) -> None:
        self.received += 1
        if self.received == self.wanted:
            self.all_there.set()

    def peer_lost(self, peer: ServerId) -> None: ...
    def observer_attached(self, connection: Connection) -> None: ...
    def control(self, connection: Connection, control: Control) -> None: ...
    def connection_lost(self, connection: Connection) -> None: ...


class Way:
    """One way to the server: with this proof at either end."""

    def __init__(self, server: Secret, peer: Secret, client: Secret) -> None:
        self._site = Site(server)
        self._peer = peer
        self._client = Identity(CLUSTER, None, client)
        self._connection: Connection | None = None
        self._replied: asyncio.Future[None] | None = None

    async def start(self) -> None:
        self._address = await self._site.start()
        self._connection = await self._connect()
        self._link = PeerLink(Identity(CLUSTER, PEER, self._peer), ME, self._address)
        self._link.start()
        await self._site.attached.wait()

    def close(self) -> None:
        assert self._connection is not None
        self._connection.close("enough")
        self._link.close()
        self._site.close()

    def _hear(self, frame: Frame) -> None:
        assert self._replied is not None
        self._replied.set_result(None)

    async def _connect(self) -> Connection:
        return await connect(
            self._address, self._client, Caller.CLIENT, ME, self._hear, lambda reason: None
        )

    async def open_connections(self, rounds: int) -> None:
        for _ in range(rounds):
            (await self._connect()).close("enough")

    async def ask(self, rounds: int) -> None:
        assert self._connection is not None
        for number in range(rounds):
            self._replied = asyncio.get_running_loop().create_future()
            self._connection.send(ClientRequest(number, StatusQuery()))
            await self._replied

    async def send(self, rounds: int, size: int) -> None:
        """Send so many messages of one entry, up to 4 MiB of them at once."""
        entries = (Entry(Term(1), data=secrets.token_bytes(size)),)
        message = AppendEntries(PEER, ME, Term(1), Index(0), Term(0), entries, Index(0), round=0)
        at_once = min(rounds, 4 * 2**20 // (size + 200))
        for _ in range(0, rounds, at_once):
            self._site.all_there.clear()
            self._site.wanted = self._site.received + at_once
            for _ in range(at_once):
                self._link.send(message)
            await self._site.all_there.wait()


async def compare(
    ways: dict[str, Way], what: str, rounds: int, work: Callable[[Way], Awaitable[None]]
) -> None:
    """Let the ways take turns, and print what one round takes on each."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cost = dict.fromkeys(ways, 0.0)
    for _ in range(TURNS):
        for name, way in ways.items():
            began, used = time.perf_counter(), time.process_time()
            await work(way)
            cost[name] += (time.process_time() - used) / rounds / TURNS
            wall[name].append((time.perf_counter() - began) / rounds)
    median = {name: quantile(sorted(times), 0.5) for name, times in wall.items()}
    figures = [
        f"{name} {median[name] * 1e6:7.0f} µs ({cost[name] * 1e6:6.0f} µs of CPU)" for name in ways
    ]
    plain, encrypted = cost.values()
    print(f"{what:42} {'   '.join(figures)}   × {encrypted / plain:.2f}")


async def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority.new(CLUSTER)
        who = [(Role.SERVER, "1"), (Role.SERVER, "2"), (Role.CLIENT, "bench")]
        certificates = map(Certificate, make(Path(directory), authority, who, days=60))
        secret = secrets.token_bytes(32)
        ways = {"plain": Way(secret, secret, secret), "TLS": Way(*certificates)}
        for way in ways.values():
            await way.start()
        print(describe())
        print("median of 20 turns; CPU is that of both ends together, and so is the ratio")
        await compare(
            ways, "open a connection", CONNECTIONS, lambda way: way.open_connections(CONNECTIONS)
        )
        await compare(ways, "request and reply", rounds, lambda way: way.ask(rounds))
        for size in (0, 1_000, 10_000, 250_000):
            await compare(
                ways,
                f"a message of {size:,} bytes among many",
                MESSAGES,
                lambda way, size=size: way.send(MESSAGES, size),  # type: ignore[misc]
            )
        for way in ways.values():
            way.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=500, help="requests in one turn")
    asyncio.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
