"""Whatever bytes arrive, a server neither dies nor hangs nor grows, and serves the next caller."""

import asyncio
import contextlib
import functools
import json
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import get_args

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.certificate import Certificate, Role, Subject
from raft.codec import load_schema
from raft.core.messages import Message
from raft.frames import (
    Caller,
    ClientReply,
    ClientRequest,
    FollowerProgress,
    Frame,
    Propose,
    Read,
    Status,
    StatusQuery,
)
from raft.handshake import CallerHandshake
from raft.tls import Tls
from raft.transport import Identity, connect, parse_address
from raft.wire import DecodeError, FrameSplitter, decode, encode
from tests.raft.certificates import Certs
from tests.raft.cluster import free_addresses
from tests.raft.samples import SAMPLES

SCHEMAS = Path(__file__).parents[2] / "schemas"
SECRET = b"hostile frames know this secret!"
CLUSTER = "hostile"
ONE = Subject(CLUSTER, Role.SERVER, "1")
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


def scribbled(rng: random.Random, source: bytes) -> bytes:
    """Flip bits behind the root pointer: many of these still are frames."""
    data = bytearray(source)
    for _ in range(rng.randint(1, 3)):
        data[rng.randrange(16, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


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
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    with serving(tmp_path, "--secret-file", secret) as (process, address):
        yield Served(process, address)


@pytest.fixture
def encrypted(tmp_path):
    certs = Certs(tmp_path / "certs", CLUSTER)
    certificate = certs.file(Role.SERVER, 1)
    with serving(tmp_path, "--certificate", certificate) as (process, address):
        yield Served(process, address, certs)


@contextlib.contextmanager
def serving(tmp_path, *proof):
    """A real server of a cluster whose other two are not there."""
    second, third = free_addresses(2)
    command = [sys.executable, "-m", "raft", "serve", "--id", "1", "--cluster", CLUSTER]
    command += ["--listen", "127.0.0.1:0", "--peer", f"2={second}", "--peer", f"3={third}"]
    command += ["--data", tmp_path / "data", *proof]
    with (
        open(tmp_path / "log", "w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


@dataclass
class Served:
    process: subprocess.Popen
    address: str
    certs: Certs | None = None

    @property
    def resident(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def identity(self, caller: Caller) -> Identity:
        server = 2 if caller is Caller.PEER else None
        return Identity(CLUSTER, server, self.certificates[caller] if self.certs else SECRET)

    @functools.cached_property
    def certificates(self) -> dict[Caller, Certificate]:
        certs = self.certs
        return {
            Caller.PEER: certs.server(2),
            Caller.CLIENT: certs.client(),
            Caller.OBSERVER: certs.observer(),
        }

    async def is_well(self) -> bool:
        """It lives, and serves a well-formed caller."""
        assert self.process.poll() is None, "the server died"
        replies: asyncio.Queue = asyncio.Queue()
        async with asyncio.timeout(PATIENCE):
            connection = await connect(
                self.address,
                self.identity(Caller.CLIENT),
                Caller.CLIENT,
                1,
                replies.put_nowait,
                lambda reason: None,
            )
            connection.send(ClientRequest(5, StatusQuery()))
            reply = await replies.get()
        connection.close("enough")
        return isinstance(reply, ClientReply) and isinstance(reply.body, Status)

    def attack(self, caller: Caller | None, batches: Iterable[list[bytes]]) -> None:
        """Send every batch through a connection of its own, some connections at once."""
        batches = iter(batches)
        while some := list(islice(batches, AT_ONCE)):
            connections = [Hostile(self, caller, frames) for frames in some]
            for connection in connections:
                connection.attack()
            for connection in connections:
                connection.is_closed()


AT_ONCE = 24


class Hostile:
    """One connection that ends in a frame after which a server must close it."""

    def __init__(self, served: Served, caller: Caller | None, frames: list[bytes]) -> None:
        self.socket = socket.create_connection(parse_address(served.address), timeout=PATIENCE)
        self.frames = frames
        self.handshake: CallerHandshake | None = None
        if served.certs is not None:
            # Whoever is no caller yet has at least a certificate, or TLS would be his end.
            certificate = served.certificates[Caller.CLIENT if caller is None else caller]
            self.socket = certificate._contents.calling.wrap_socket(self.socket)
        if caller is not None:
            self.handshake = CallerHandshake(served.identity(caller), caller, 1)
            self.socket.sendall(encode(self.handshake.preamble))

    def attack(self) -> None:
        proof = []
        if self.handshake is not None:
            welcome = decode(FrameSplitter().feed(self.socket.recv(4096))[0])
            answer = self.handshake.receive(welcome, ONE)
            proof = [encode(answer)] if answer else []
        try:
            self.socket.sendall(b"".join((*proof, *self.frames)))
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


# --- The tests -------------------------------------------------------------------------------

REQUESTS_EACH = 29


def batches(
    rng: random.Random, caller: Caller | None, connections: int, requests_each: int = 0
) -> Iterator[list[bytes]]:
    """Yield what to send over each connection: a client's odd requests, and one fatal frame."""
    requests = [encode(ClientRequest(7, kind(rng.randbytes(96)))) for kind in (Propose, Read)]
    odd = (scribbled(rng, rng.choice(requests)) for _ in iter(int, 1))
    odd_requests = (frame for frame in odd if goes_on(frame, Caller.CLIENT))
    fatal = (frame for frame in hostile(rng) if not goes_on(frame, caller))
    for _ in range(connections):
        yield [*islice(odd_requests, requests_each), next(fatal)]


async def storm(served: Served, rng: random.Random, scale: int) -> int:
    """Send hostile frames as each kind of caller; return how many."""

    async def send(caller: Caller | None, connections: int, requests_each: int = 0) -> int:
        served.attack(caller, batches(rng, caller, connections, requests_each))
        assert await served.is_well()
        return connections * (1 + requests_each)

    await send(None, scale // 3)
    await send(Caller.CLIENT, scale // 10, REQUESTS_EACH)
    resident = served.resident
    sent = await send(None, 6 * scale)
    sent += await send(Caller.PEER, 3 * scale)
    sent += await send(Caller.OBSERVER, scale)
    sent += await send(Caller.CLIENT, 3 * scale, REQUESTS_EACH)
    assert served.resident - resident < 16 * 1024 * 1024
    return sent


async def test_hostile_frames_against_a_live_server(served):
    """Mutated and random, before the handshake and after it, as each kind of caller."""
    assert await storm(served, random.Random(19), 200) >= 20_000


@pytest.mark.slow
async def test_a_hundred_thousand_hostile_frames_against_a_live_server(served):
    assert await storm(served, random.Random(20), 1_000) >= 100_000


async def test_hostile_frames_under_tls(encrypted):
    assert await storm(encrypted, random.Random(21), 30) >= 3_000


async def test_hostile_bytes_in_the_place_of_tls(encrypted):
    """Plain frames, and mutations of what a caller's TLS would say first."""
    rng = random.Random(22)
    context = encrypted.certificates[Caller.CLIENT]._contents.calling
    for number in range(1_000):
        hello = bytearray(Tls(context, server_side=False).outgoing())
        for _ in range(rng.randint(1, 4)):
            hello[rng.randrange(len(hello))] ^= 1 << rng.randrange(8)
        with socket.create_connection(parse_address(encrypted.address), PATIENCE) as caller:
            caller.sendall(hello if number % 2 else next(hostile(rng)))
            caller.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while caller.recv(65536):
                    pass
    assert await encrypted.is_well()


@pytest.mark.slow
def test_a_million_hostile_frames_are_read_or_refused():
    """Those that reach no socket in the tests above: each is a frame, or a DecodeError."""
    rng = random.Random(23)
    resident = None
    for number, frame in enumerate(islice(hostile(rng), 1_000_000)):
        try:
            for whole in FrameSplitter().feed(frame):
                assert isinstance(decode(whole), get_args(Frame))
        except DecodeError:
            pass
        if number == 100_000:
            resident = psutil.Process().memory_info().rss
    assert psutil.Process().memory_info().rss - resident < 16 * 1024 * 1024


@pytest.mark.slow
async def test_a_hundred_thousand_hostile_frames_under_tls(encrypted):
    assert await storm(encrypted, random.Random(24), 1_000) >= 100_000


@given(st.randoms(use_true_random=False))
def test_decoding_gives_a_frame_or_a_decode_error(rng):
    frame = next(hostile(rng))
    with contextlib.suppress(DecodeError):
        assert isinstance(decode(frame), get_args(Frame))


# --- What makes pycapnp abort the process ----------------------------------------------------

TRAPS = r"""
import sys
import capnp
from raft.core.messages import AppendEntries, Entry
from raft.wire import DecodeError, FrameSplitter, decode, encode, load_schema

def refused(data):
    for read in (decode, FrameSplitter().feed):
        try:
            if not read(data):
                continue    # the splitter waits for the rest
        except DecodeError:
            continue
        return False
    return True

# A packed message whose header claims several segments.
packed = bytes.fromhex("010701030100010103110180ff68656c6c7f20776f0064726c64")
assert refused(packed), "packed"
assert refused(packed[:24]), "packed, a whole number of words"

# Messages of two segments, cut off anywhere.
envelope = load_schema("raft").Envelope.new_message(num_first_segment_words=64)
entries = envelope.init("appendEntries").init("entries")
entries.terms, entries.kinds = [1] * 100, [1] * 100
entries.datas = [bytes(64)] * 100
several = envelope.to_bytes()
assert several[0] > 0, "this trap needs several segments"
for end in range(0, len(several) + 1, 8):
    assert refused(several[:end]), end

# Pointers that lead out of the message: total_size and as_builder would abort.
whole = encode(AppendEntries(1, 2, 3, 4, 5, (Entry(6, data=b"data"),), 7, 8))
for at in range(8, len(whole), 8):
    for word in (b"\xff" * 8, b"\xfc" + b"\xff" * 7, b"\x01\0\0\0" + b"\xff" * 4):
        damaged = whole[:at] + word + whole[at + 8:]
        try:
            decode(damaged)    # what lies in a number is no damage
        except DecodeError:
            pass

# The same schema from a second place.
folder = sys.argv[1]
second = capnp.load(folder + "/raft.capnp", imports=[folder])
assert second.Envelope is not load_schema("raft").Envelope
print("alive")
"""


def test_no_input_that_aborts_pycapnp_aborts_us(tmp_path):
    """SIGABRT cannot be caught, so this runs in a process of its own."""
    shutil.copytree(SCHEMAS, tmp_path / "schemas")
    done = subprocess.run(
        [sys.executable, "-c", TRAPS, tmp_path / "schemas"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


class TestAmplification:
    """A few bytes that stand for millions of values are refused, not built."""

    def test_a_list_of_a_million_empty_structs(self):
        """Under the library's own limits a hundred bytes of these cost 12 s."""
        builder = load_schema("raft").Envelope.new_message()
        server_state = builder.init("observation").init("event").init("serverState")
        server_state.init("configuration")
        server_state.init("progress", 1)
        frame = bytearray(builder.to_bytes())
        # The tag word of an inline composite list: its elements, and their size.
        tag = frame.index((1 << 2).to_bytes(4, "little") + b"\3\0\0\0")
        assert decode(bytes(frame)).event.progress == (FollowerProgress(0, 0, 0),)
        frame[tag : tag + 8] = (1_000_000 << 2).to_bytes(8, "little")
        with pytest.raises(DecodeError, match="limit"):
            decode(bytes(frame))

    @pytest.mark.parametrize("count", [1_000, 1_000_000, 2**29 - 1])
    def test_a_list_of_a_million_voids(self, count):
        builder = load_schema("raft").Envelope.new_message()
        server_state = builder.init("observation").init("event").init("serverState")
        server_state.init("configuration")
        server_state.votes = [7]
        frame = bytearray(builder.to_bytes())
        pointer = frame.index(((1 << 3) | 5).to_bytes(4, "little"), 16)
        assert decode(bytes(frame)).event.votes == (7,)
        frame[pointer : pointer + 4] = (count << 3).to_bytes(4, "little")
        with pytest.raises(DecodeError):
            decode(bytes(frame))

    def test_one_text_that_many_pointers_share(self):
        builder = load_schema("raft").Envelope.new_message()
        entries = builder.init("appendEntries").init("entries")
        entries.terms, entries.kinds = [1] * 200, [1] * 200
        entries.datas = [b"x" * 8000] + [b""] * 199
        frame = bytearray(builder.copy(num_first_segment_words=4096).to_bytes())
        assert frame[:4] == bytes(4)
        first = frame.index((8000 << 3 | 2).to_bytes(4, "little")) - 4
        offset = int.from_bytes(frame[first : first + 4], "little") >> 2
        for at in range(1, 200):
            pointer = (offset - at) << 2 | 1
            frame[first + 8 * at : first + 8 * at + 4] = pointer.to_bytes(4, "little")
            frame[first + 8 * at + 4 : first + 8 * at + 8] = frame[first + 4 : first + 8]
        with pytest.raises(DecodeError, match="limit"):
            decode(bytes(frame))
