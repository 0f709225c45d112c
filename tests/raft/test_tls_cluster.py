"""Whole clusters under TLS: used from the command line and from Python, renewed, and flooded."""

from __future__ import annotations

import resource
import socket
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from raft.certificate import Certificate, Role
from raft.client import Raft
from raft.core.config import Config
from raft.core.messages import ServerId
from raft.machine.kv import Done, KeyValue, Put, decode_answer, encode_command
from raft.member import Member
from raft.server import ServerConfig
from raft.storage.memory import MemoryStore
from raft.tls import Tls
from raft.transport import parse_address
from tests.raft.certificates import Certs, calling
from tests.raft.cluster import NAME, RealCluster, eventually, free_addresses, run

MIB = 1024 * 1024


class EncryptedCluster(RealCluster):
    """Servers that have certificates, made by ``raft certs``, and no secret."""

    @classmethod
    async def make(cls, directory: Path, size: int = 3, *options: str) -> EncryptedCluster:
        certs = str(directory / "certs")
        made = await run(
            *("certs", "make", certs, "--cluster", NAME),
            *("--server", f"1..{size + 1}", "--client", "alice"),
        )
        assert made.status == 0, made.err
        return cls(directory, size, options)

    def __init__(self, directory: Path, size: int, options: tuple[str, ...]) -> None:
        super().__init__(directory, size, options)
        self.certs = directory / "certs"
        alice = self.certs / "client-alice.pem"
        self.proof = Certificate(alice)
        self.raft = Raft(self.addresses, NAME, self.proof)
        self.environment["RAFT_CERTIFICATE"] = str(alice)
        del self.environment["RAFT_SECRET_FILE"], self.environment["RAFT_CLUSTER"]

    def _own(self, server: ServerId) -> list[str]:
        return ["--certificate", str(self.certs / f"server-{server}.pem")]


async def test_it_elects_replicates_and_grows_and_strangers_are_told_why_not(
    tmp_path: Path,
) -> None:
    async with await EncryptedCluster.make(tmp_path) as cluster:
        assert (await cluster.command("put", "greeting", "hello")).status == 0
        assert (await cluster.command("get", "greeting")).out == b"hello"
        await cluster.put(b"x", b"1")
        old = await cluster.leader()
        await cluster.kill(old.server)
        await cluster.put(b"x", b"2")
        await cluster.start(old.server)
        four = ServerId(4)
        added = await cluster.command("add", "4", await cluster.start_new(four))
        assert added.status == 0, added.err
        assert await cluster.get(b"x") == b"2"

        async def has_all() -> bool:
            statuses = await cluster.statuses()
            return len({s.last_applied for s in statuses.values()}) == 1 and len(statuses) == 4

        await eventually(has_all, "all four have applied the same")
        await refuses_strangers(cluster)


async def refuses_strangers(cluster: EncryptedCluster) -> None:
    others = Certs(cluster.directory / "others", NAME)
    stranger = await cluster.command(
        "get", "x", "--certificate", str(others.file(Role.CLIENT, "alice"))
    )
    assert stranger.status == 1
    assert "its certificate is not of this cluster" in stranger.err
    plain = await cluster.command(
        "get", "x", "--cluster", NAME, "--secret-file", str(cluster.secret_file)
    )
    assert plain.status == 1
    assert "the other end speaks TLS, so this one needs a certificate" in plain.err
    other = await cluster.command("get", "x", "--cluster", "other")
    assert other.status == 2
    assert "client alice of cluster 'test', and this is a client of cluster 'ot" in other.err


async def test_embedded_servers(tmp_path: Path) -> None:
    """Each is a client of the others, too, and has one certificate for both."""
    certs = Certs(tmp_path / "certs", NAME)
    ids = tuple(map(ServerId, (1, 2, 3)))
    addresses = dict(zip(ids, free_addresses(3), strict=True))
    async with AsyncExitStack() as running:
        members = [
            await running.enter_async_context(
                Member(
                    ServerConfig(
                        Config(id, ids, addresses=tuple(addresses.items())),
                        NAME,
                        certs.server(id),
                        addresses[id],
                    ),
                    MemoryStore(),
                    KeyValue(),
                )
            )
            for id in ids
        ]
        for number, member in enumerate(members):
            answer = await member.propose(encode_command(Put(b"x", b"%d" % number)), timeout=30)
            assert decode_answer(answer) == Done()


async def test_it_survives_the_renewal_of_all_certificates(tmp_path: Path) -> None:
    async with await EncryptedCluster.make(tmp_path) as cluster:
        await cluster.put(b"x", b"1")
        leader = await cluster.leader()
        renewed = await run("certs", "renew", str(cluster.certs), "--days", "700")
        assert renewed.status == 0, renewed.err
        assert await cluster.get(b"x") == b"1"
        assert (await cluster.leader()).term == leader.term, "open connections stay"
        # Now every connection is made anew, between old processes that never were restarted.
        await cluster.kill(leader.server)
        await cluster.put(b"x", b"2")
        await cluster.start(leader.server)
        assert (await cluster.command("get", "x")).out == b"2"
        for server in set(cluster.addresses) - {leader.server}:
            assert "the certificate is now one until" in cluster.log(server)
        alice = str(cluster.certs / "client-alice.pem")
        assert (await run("certs", "renew", str(cluster.certs), alice, "--days", "20")).status == 0
        warned = await cluster.command("get", "x")
        assert (warned.status, warned.out) == (0, b"2")
        assert warned.err.startswith(f"{alice}: the certificate ends on 20")


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FLOOD = 2_000
AT_ONCE = 90
"""The kernel lets 100 wait to be accepted, and makes others wait a second to try again."""


def flood(addresses: Iterable[str], each: int, hello: bytes, callers: ExitStack) -> None:
    """Open connections as fast as they are accepted, and keep our end of them open."""
    for address in addresses:
        opened: list[socket.socket] = []
        for number in range(each):
            caller = callers.enter_context(socket.create_connection(parse_address(address)))
            caller.sendall(hello)
            opened.append(caller)
            if number >= AT_ONCE:
                wait_until_closed(opened[number - AT_ONCE])


def wait_until_closed(caller: socket.socket) -> None:
    with suppress(ConnectionResetError):
        while caller.recv(4096):
            pass


async def test_a_flood_of_connections(tmp_path: Path, many_files: None) -> None:
    """It causes no election, takes little memory and gives it back, and all are served again.

    Half of the callers say nothing, and half begin with TLS.
    """
    hello = Tls(calling(), server_side=False).outgoing()
    patient = ("--election-timeout", "1s..2s", "--heartbeat", "100ms")
    async with await EncryptedCluster.make(tmp_path, 3, *patient) as cluster:
        await cluster.put(b"x", b"1")
        leader = await cluster.leader()
        processes = [psutil.Process(process.pid) for process in cluster.processes.values()]
        before = [process.memory_info().rss for process in processes]

        def grown() -> int:
            now = [process.memory_info().rss for process in processes]
            return max(after - first for first, after in zip(before, now, strict=True))

        with ExitStack() as callers:
            for first in (b"", hello):
                flood(cluster.addresses.values(), FLOOD // 6 + 1, first, callers)
            assert await cluster.get(b"x") == b"1"
            assert grown() < 64 * MIB
        await cluster.put(b"x", b"2")
        assert (await cluster.command("get", "x")).out == b"2"
        assert (await cluster.leader()).term == leader.term
        assert grown() < 16 * MIB
