"""Whatever bytes arrive, a server neither dies nor hangs nor grows, and serves the next caller."""

import asyncio
import json
import random
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import get_args

import psutil
import pytest

from raft.core.messages import Message
from raft.frames import Caller, ClientReply, ClientRequest, Status, StatusQuery
from raft.handshake import CallerHandshake
from raft.transport import Identity, connect, format_address, parse_address
from raft.wire import DecodeError, FrameSplitter, decode, encode
from tests.raft.samples import SAMPLES

SECRET = b"hostile frames know this secret!"
CLUSTER = "hostile"
PATIENCE = 20.0
"""Real seconds after which a server that says nothing counts as hanging."""


# --- Bytes nobody should send ----------------------------------------------------------------

VALID = tuple(map(encode, SAMPLES))
NASTY_WORDS = (
    bytes(8),
    b"\xff" * 8,
    b"\xfc\xff\xff\xff\xff\xff\xff\xff",  # a struct pointer back to itself
    b"\x01\x00\x00\x00\xf8\xff\xff\xff",  # a list of 2^29 - 1 elements of no size
    b"\x01\x00\x00\x00\xff\xff\xff\xff",  # a list of structs, as long as can be
    b"\x02\x00\x00\x00\x00\x00\x00\x00",  # a far pointer into our only segment
    b"\x06\x00\x00\x00\xff\xff\xff\xff",  # a double far pointer into a segment that is not there
    b"\x03\x00\x00\x00\x00\x00\x00\x00",  # a capability
)


def mutated(rng: random.Random, source: bytes) -> bytes:
    """Damage a frame somewhere, in one of the ways that damage happens or is done."""
    data = bytearray(source)
    match rng.randrange(8):
        case 0 | 1:
            for _ in range(rng.randint(1, 4)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 2:
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        case 3:
            at = rng.randrange(8, len(data), 8)
            data[at : at + 8] = rng.choice(NASTY_WORDS)
        case 4:
            del data[rng.randrange(len(data)) :]
        case 5:
            data = _headed(data[8 : rng.randrange(8, len(data) + 1, 8)])
        case 6:
            other = rng.choice(VALID)
            data = _headed(data[8 : rng.randrange(8, len(data), 8)] + other[8:])
        case 7:
            words = [bytes(data[at : at + 8]) for at in range(8, len(data), 8)]
            rng.shuffle(words)
            data = _headed(b"".join(words))
    return bytes(data)


def made_up(rng: random.Random) -> bytes:
    """Random bytes, with a good header or without one."""
    data = rng.randbytes(8 * rng.randint(1, 24))
    return _headed(data) if rng.random() < 0.7 else data


def _headed(body: bytes | bytearray) -> bytes:
    return bytes(4) + (len(body) // 8).to_bytes(4, "little") + body


def hostile(rng: random.Random) -> Iterator[bytes]:
    while True:
        yield made_up(rng) if rng.random() < 0.2 else mutated(rng, rng.choice(VALID))


def goes_on(frame: bytes, caller: Caller | None) -> bool:
    """Whether a caller that sent this may send more: it is a frame of its own, however odd."""
    try:
        if FrameSplitter().feed(frame) != [frame]:
            return False
        decoded = decode(frame)
    except DecodeError:
        return False
    if caller is Caller.PEER:
        # A server that has proved itself is believed what it says in its own name.
        return isinstance(decoded, get_args(Message)) and (decoded.src, decoded.dst) == (2, 1)
    return caller is Caller.CLIENT and isinstance(decoded, ClientRequest)


# --- The server process ----------------------------------------------------------------------


@pytest.fixture
def served(tmp_path):
    """A real server of a cluster whose other two are not there."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        absent = format_address(*nobody.getsockname())
    command = [sys.executable, "-m", "raft", "serve", "--id", "1", "--cluster", CLUSTER]
    command += ["--listen", "127.0.0.1:0", "--peer", f"2={absent}", "--peer", f"3={absent}"]
    command += ["--data", tmp_path / "data", "--secret-file", secret]
    with (
        open(tmp_path / "log", "w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            yield Served(process, json.loads(process.stdout.readline())["address"])
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


@dataclass
class Served:
    process: subprocess.Popen
    address: str

    @property
    def resident(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    async def is_well(self) -> bool:
        """It lives, and serves a well-formed caller."""
        assert self.process.poll() is None, "the server died"
        replies: asyncio.Queue = asyncio.Queue()
        async with asyncio.timeout(PATIENCE):
            connection = await connect(
                self.address,
                Identity(CLUSTER, None, SECRET),
                Caller.CLIENT,
                1,
                replies.put_nowait,
                lambda reason: None,
            )
            connection.send(ClientRequest(5, StatusQuery()))
            reply = await replies.get()
        connection.close("enough")
        return isinstance(reply, ClientReply) and isinstance(reply.body, Status)


class Hostile:
    """One connection that ends in a frame after which a server must close it."""

    def __init__(self, address: str, caller: Caller | None, frames: list[bytes]) -> None:
        self.socket = socket.create_connection(parse_address(address), timeout=PATIENCE)
        self.frames = frames
        self.handshake: CallerHandshake | None = None
        if caller is not None:
            server = 2 if caller is Caller.PEER else None
            self.handshake = CallerHandshake(Identity(CLUSTER, server, SECRET), caller, 1)
            self.socket.sendall(encode(self.handshake.preamble))

    def attack(self) -> None:
        proof = b""
        if self.handshake is not None:
            proof = encode(self.handshake.receive(decode(self.socket.recv(4096))))
        try:
            self.socket.sendall(b"".join((proof, *self.frames)))
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed already

    def is_closed(self) -> None:
        """Wait until the server closes the connection. Raises TimeoutError if it hangs."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass
        self.socket.close()


AT_ONCE = 24


def attack(address: str, caller: Caller | None, batches: Iterable[list[bytes]]) -> None:
    """Send every batch through a connection of its own, some connections at once."""
    batches = iter(batches)
    while some := list(islice(batches, AT_ONCE)):
        connections = [Hostile(address, caller, frames) for frames in some]
        for connection in connections:
            connection.attack()
        for connection in connections:
            connection.is_closed()


# --- The tests -------------------------------------------------------------------------------

UNPROVEN, PEER, OBSERVER, CLIENT = 9_000, 4_000, 2_000, 5_000
REQUESTS_EACH = 16


async def test_a_hundred_thousand_hostile_frames_against_a_live_server(served):
    """Mutated and random, before the handshake and after it, as each kind of caller."""
    rng = random.Random(20)
    requests = [encode(sample) for sample in SAMPLES if isinstance(sample, ClientRequest)]
    odd = (mutated(rng, rng.choice(requests)) for _ in iter(int, 1))
    odd_requests = (frame for frame in odd if goes_on(frame, Caller.CLIENT))

    async def storm(caller: Caller | None, connections: int, requests_each: int = 0) -> None:
        fatal = (frame for frame in hostile(rng) if not goes_on(frame, caller))
        batches = ([*islice(odd_requests, requests_each), next(fatal)] for _ in range(connections))
        attack(served.address, caller, batches)
        assert await served.is_well()

    await storm(None, 300)
    await storm(Caller.CLIENT, 100, REQUESTS_EACH)
    resident = served.resident
    await storm(None, UNPROVEN)
    await storm(Caller.PEER, PEER)
    await storm(Caller.OBSERVER, OBSERVER)
    await storm(Caller.CLIENT, CLIENT, REQUESTS_EACH)
    assert UNPROVEN + PEER + OBSERVER + CLIENT * (1 + REQUESTS_EACH) >= 100_000
    assert served.resident - resident < 16 * 1024 * 1024
