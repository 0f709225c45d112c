"""Connections: who may come in, what they may say, and that nobody makes another one wait."""

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from raft.core.events import TermChanged
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    RequestVote,
)
from raft.frames import (
    Barrier,
    Caller,
    Campaign,
    ClientReply,
    ClientRequest,
    Observation,
    Preamble,
    Proof,
    RefusalReason,
    Refused,
    Rejected,
    StatusQuery,
    Welcome,
)
from raft.handshake import CallerHandshake, ServerHandshake
from raft.transport import (
    Connection,
    HandshakeError,
    Identity,
    PeerLink,
    connect,
    format_address,
    parse_address,
)
from raft.transport.calling import _open
from raft.transport.connection import HANDSHAKE_FRAME, MAX_UNSENT
from raft.transport.listener import MAX_UNPROVEN
from raft.wire import MAX_FRAME, FrameSplitter, decode, encode
from tests.raft.samples import SAMPLES
from tests.raft.site import News, Recorder

SCHEMAS = Path(__file__).parents[2] / "schemas"
SECRET = b"a secret that only the cluster knows"
CLUSTER = "test"
HEARTBEAT = AppendEntries(2, 1, 3, 9, 2, (), 8, 77)


def identity(server=None, cluster=CLUSTER, secret=SECRET):
    return Identity(cluster, server, secret)


class Site(Recorder):
    def __init__(self, server=1, **kind):
        super().__init__(identity(server, **kind))


class End(asyncio.Protocol, News):
    """A bare end of a connection that says whatever a test wants."""

    def __init__(self):
        News.__init__(self)
        self.frames = []
        self.chunks = []
        self.closed = False
        self.splitter = FrameSplitter()

    def connection_made(self, transport):
        self.transport = transport
        self.happened()

    def data_received(self, data):
        self.chunks.append(data)
        self.frames += map(decode, self.splitter.feed(data))
        self.happened()

    def connection_lost(self, exc):
        self.closed = True
        self.happened()

    def say(self, *frames):
        self.transport.write(b"".join(f if isinstance(f, bytes) else encode(f) for f in frames))

    async def prove(self, caller=Caller.PEER, src=2, dst=1, then=()):
        """Go through the caller's handshake, with more frames right behind it."""
        handshake = CallerHandshake(identity(src), caller, dst)
        self.say(handshake.preamble)
        await self.until(lambda: self.frames)
        self.say(handshake.receive(self.frames.pop(0)), *then)
        return self

    async def refusal(self):
        await self.until(lambda: self.closed)
        assert [type(frame) for frame in self.frames[-1:]] == [Refused]
        return self.frames[-1]


@pytest.fixture
async def site(cleanup):
    site = Site()
    cleanup.callback(site.listener.close)
    return await site.start()


@pytest.fixture
def dial(cleanup):
    async def dial(site):
        host, port = parse_address(site.address)
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(End, host, port)
        cleanup.callback(end.transport.abort)
        return end

    return dial


@pytest.fixture
def link(cleanup):
    def link(site, src=2, dst=1):
        link = PeerLink(identity(src), dst, site.address)
        link.start()
        cleanup.callback(link.close)
        return link

    return link


async def is_served(site):
    """Whether the next caller still is."""
    replies = asyncio.Queue()
    connection = await connect(
        site.address, identity(), Caller.CLIENT, 1, replies.put_nowait, lambda reason: None
    )
    connection.send(ClientRequest(42, StatusQuery()))
    async with asyncio.timeout(10):
        reply = await replies.get()
    connection.close("enough")
    return reply == ClientReply(42, Rejected("only a test"))


class TestHandshake:
    PREAMBLE = Preamble(1, CLUSTER, Caller.PEER, 2, 1, bytes(32))

    @pytest.mark.parametrize(
        ("change", "reason", "words"),
        [
            ({"version": 2}, RefusalReason.VERSION, "speaks version 1, the caller 2"),
            ({"cluster": "other"}, RefusalReason.CLUSTER, "'test', the caller to 'other'"),
            ({"dst": 3}, RefusalReason.WRONG_SERVER, "this is server 1, the caller wants 3"),
            ({"dst": 0}, RefusalReason.WRONG_SERVER, "wants 0"),
            ({"src": 1}, RefusalReason.UNKNOWN_PEER, "server 1 cannot be a peer"),
            ({"src": 0}, RefusalReason.UNKNOWN_PEER, "server 0 cannot be a peer"),
            ({"nonce": b""}, RefusalReason.EXPECTED_PREAMBLE, "nonce of 32 bytes"),
            ({"nonce": bytes(33)}, RefusalReason.EXPECTED_PREAMBLE, "nonce of 32 bytes"),
        ],
    )
    async def test_a_preamble_that_does_not_fit(self, site, dial, change, reason, words):
        """Bug 52: servers of two clusters talk, or a message reaches the wrong server."""
        end = await dial(site)
        end.say(dataclasses.replace(self.PREAMBLE, **change))
        refusal = await end.refusal()
        assert refusal.reason is reason
        assert words in refusal.detail
        assert len(end.frames) == 1, "somebody refused learns no proof"
        assert await is_served(site)

    @pytest.mark.parametrize(
        "first", [f for f in SAMPLES if not isinstance(f, Preamble)], ids=lambda f: type(f).__name__
    )
    async def test_a_first_frame_that_is_no_preamble(self, site, dial, first):
        end = await dial(site)
        end.say(first)
        assert (await end.refusal()).reason is RefusalReason.EXPECTED_PREAMBLE
        assert (site.messages, site.requests, site.controls) == ([], [], [])

    @pytest.mark.parametrize("second", [PREAMBLE, HEARTBEAT, Campaign()])
    async def test_a_second_frame_that_is_no_proof(self, site, dial, second):
        end = await dial(site)
        end.say(self.PREAMBLE, second)
        assert (await end.refusal()).reason is RefusalReason.EXPECTED_PREAMBLE
        assert site.messages == []

    @pytest.mark.parametrize("proof", [b"", bytes(32), bytes(31), bytes(33)])
    async def test_a_proof_made_without_the_secret(self, site, dial, proof):
        end = await dial(site)
        end.say(self.PREAMBLE, Proof(proof), HEARTBEAT)
        assert (await end.refusal()).reason is RefusalReason.PROOF
        assert site.messages == []
        assert site.attached == []

    async def test_the_servers_own_proof_handed_back(self, site, dial):
        end = await dial(site)
        end.say(self.PREAMBLE)
        await end.until(lambda: end.frames)
        end.say(Proof(end.frames[0].proof))
        assert (await end.refusal()).reason is RefusalReason.PROOF

    async def test_a_handshake_played_again(self, site, dial):
        handshake = CallerHandshake(identity(2), Caller.PEER, 1)
        honest = await dial(site)
        honest.say(handshake.preamble)
        await honest.until(lambda: honest.frames)
        proof = handshake.receive(honest.frames[0])
        honest.say(proof)
        await site.until(lambda: site.attached == [2])
        again = await dial(site)
        again.say(handshake.preamble, proof)
        assert (await again.refusal()).reason is RefusalReason.PROOF

    @pytest.mark.parametrize("change", [{"caller": Caller.OBSERVER}, {"src": 3}, {"dst": 3}])
    def test_a_proof_is_for_one_caller_and_one_server(self, change):
        """What an honest caller proved to server 1 opens nothing else."""
        handshake = CallerHandshake(identity(2), Caller.PEER, 1)
        other = ServerHandshake(identity(change.get("dst", 1)))
        welcome = other.receive(dataclasses.replace(handshake.preamble, **change))
        with pytest.raises(HandshakeError, match="could not prove"):
            handshake.receive(welcome)

    async def test_frames_right_behind_the_proof_are_taken(self, site, dial):
        entries = (Entry(3, data=bytes(HANDSHAKE_FRAME)),)
        large = dataclasses.replace(HEARTBEAT, entries=entries)
        await (await dial(site)).prove(then=[HEARTBEAT, large])
        await site.until(lambda: len(site.messages) == 2)
        assert site.messages == [HEARTBEAT, large]

    async def test_byte_by_byte(self, site, dial):
        end = await dial(site)
        handshake = CallerHandshake(identity(2), Caller.PEER, 1)
        for byte in encode(handshake.preamble):
            end.say(bytes([byte]))
            await asyncio.sleep(0)
        await end.until(lambda: end.frames)
        end.say(handshake.receive(end.frames[0]), HEARTBEAT)
        await site.until(lambda: site.messages)
        assert (site.attached, site.messages) == ([2], [HEARTBEAT])

    @pytest.mark.parametrize("said", [b"", b"\0", encode(PREAMBLE)[:-1], encode(PREAMBLE)], ids=len)
    async def test_whoever_does_not_prove_himself_in_time_is_closed(
        self, site, dial, said, monkeypatch, caplog
    ):
        caplog.set_level(logging.INFO)
        monkeypatch.setattr("raft.transport.listener.HANDSHAKE_SECONDS", 0.05)
        end = await dial(site)
        end.say(said)
        await end.until(lambda: end.closed)
        assert "no handshake within" in caplog.text
        monkeypatch.undo()
        assert await is_served(site)

    async def test_the_deadline_is_for_the_whole_handshake(self, site, dial, monkeypatch, caplog):
        """A byte now and then does not keep a connection open."""
        caplog.set_level(logging.INFO)
        monkeypatch.setattr("raft.transport.listener.HANDSHAKE_SECONDS", 0.05)
        end = await dial(site)
        end.say(bytes(4) + (HANDSHAKE_FRAME // 8 - 1).to_bytes(4, "little"))
        async with asyncio.timeout(10):
            while not end.closed:
                end.say(b"\xff")
                await asyncio.sleep(0)
        assert "no handshake within" in caplog.text

    async def test_whoever_was_accepted_as_the_server_stopped_is_not_heard(self, monkeypatch):
        """The loop accepts a connection first, and a turn later it tells of it."""
        site = Site()
        accept = site.listener._accept

        def accept_and_stop():
            asyncio.get_running_loop().call_soon(site.listener.close)
            return accept()

        monkeypatch.setattr(site.listener, "_accept", accept_and_stop)
        await site.start()
        with pytest.raises(ConnectionError):
            await connect(site.address, identity(2), Caller.PEER, 1, print, print)
        assert site.attached == []

    async def test_nobody_unproven_makes_the_server_keep_a_large_frame(self, site, dial, caplog):
        caplog.set_level(logging.INFO)
        end = await dial(site)
        size = HANDSHAKE_FRAME // 8
        end.say(bytes(4) + size.to_bytes(4, "little"))
        await end.until(lambda: end.closed)
        assert f"over the limit of {HANDSHAKE_FRAME}" in caplog.text

    async def test_of_too_many_unproven_callers_the_oldest_is_closed(self, site, dial):
        ends = [await dial(site) for _ in range(MAX_UNPROVEN + 1)]
        await ends[0].until(lambda: ends[0].closed)
        assert [end.closed for end in ends[1:]] == [False] * MAX_UNPROVEN
        assert await is_served(site)

    async def test_of_many_that_come_at_once_only_so_many_stay(self, site, cleanup, caplog):
        """All are accepted in one turn of the loop, and closed ones need another to be gone."""
        caplog.set_level(logging.INFO)
        too_many = 2 * MAX_UNPROVEN
        callers = [
            socket.create_connection(parse_address(site.address))
            for _ in range(MAX_UNPROVEN + too_many)
        ]
        for caller in callers:
            cleanup.callback(caller.close)
            caller.setblocking(False)

        def closed(caller):
            with contextlib.suppress(BlockingIOError):
                return caller.recv(1) == b""

        async with asyncio.timeout(10):
            while sum(map(bool, map(closed, callers))) < too_many:
                await asyncio.sleep(0)
        assert "no handshake within" not in caplog.text
        assert await is_served(site)

    async def test_whoever_floods_closes_his_own_connections(self, site, dial):
        loop = asyncio.get_running_loop()
        host, port = parse_address(site.address)
        _, honest = await loop.create_connection(End, host, port, local_addr=("127.0.0.2", 0))
        ends = [await dial(site) for _ in range(3 * MAX_UNPROVEN)]
        await ends[0].until(lambda: ends[0].closed)
        handshake = CallerHandshake(identity(2), Caller.PEER, 1)
        honest.say(handshake.preamble)
        await honest.until(lambda: honest.frames)
        honest.say(handshake.receive(honest.frames[0]), HEARTBEAT)
        await site.until(lambda: site.messages)
        assert site.messages == [HEARTBEAT]
        assert not honest.closed
        honest.transport.close()

    async def test_whoever_floods_does_not_fill_the_log(self, site, dial, caplog, monkeypatch):
        caplog.set_level(logging.INFO)
        monkeypatch.setattr("raft.transport.strangers.MOST_LINES", 3)
        for _ in range(8):
            end = await dial(site)
            end.say(bytes(8 * 5))
            await end.until(lambda end=end: end.closed)
        assert caplog.text.count("unproven caller 127.0.0.1") == 3
        monkeypatch.setattr("raft.transport.strangers.WINDOW_SECONDS", 0.0)
        end = await dial(site)
        end.say(bytes(8 * 5))
        await end.until(lambda: end.closed)
        assert "5 more connections of unproven callers were closed" in caplog.text
        assert caplog.text.count("unproven caller 127.0.0.1") == 4

    async def test_too_many_clients_are_told_that_the_server_is_busy(
        self, site, dial, cleanup, monkeypatch
    ):
        monkeypatch.setattr("raft.transport.listener.MAX_CALLERS", 2)
        for caller in (Caller.CLIENT, Caller.OBSERVER):
            for _ in range(2):
                await (await dial(site)).prove(caller, src=None)
        await site.until(lambda: len(site.observers) == 2)
        for caller in (Caller.CLIENT, Caller.OBSERVER):
            with pytest.raises(HandshakeError, match=r"2 .*s are connected already") as caught:
                await connect(site.address, identity(), caller, 1, print, print)
            assert caught.value.reason is RefusalReason.BUSY
        await (await dial(site)).prove(Caller.PEER, src=2)
        await site.until(lambda: site.attached == [2])

    def test_the_example_in_the_description_of_the_protocol(self, monkeypatch):
        text = (SCHEMAS / "README.md").read_text()
        nonces = [bytes(range(32)), bytes(range(32, 64))]
        monkeypatch.setattr("secrets.token_bytes", lambda size: nonces.pop(0))
        caller = CallerHandshake(Identity("demo", 1, b"0123456789abcdef"), Caller.PEER, 2)
        server = ServerHandshake(Identity("demo", 2, b"0123456789abcdef"))
        welcome = server.receive(caller.preamble)
        assert f"server  {welcome.proof.hex()}" in text
        assert f"caller  {caller.receive(welcome).proof.hex()}" in text

    def test_an_identity_that_cannot_be_one(self):
        with pytest.raises(ValueError, match="at least 16"):
            Identity("c", 1, b"short")
        for name in ("", "x" * 201, "ü" * 101):
            with pytest.raises(ValueError, match="1 to 200 bytes"):
                Identity(name, 1, SECRET)

    def test_the_secret_is_not_shown(self):
        assert "secret that only" not in repr(identity(1))


class TestCalling:
    """``connect`` says clearly why there is no connection."""

    async def refused(self, site, who, dst=1):
        with pytest.raises(HandshakeError) as caught:
            await connect(site.address, who, Caller.CLIENT, dst, print, print)
        return caught.value

    async def test_another_cluster(self, site):
        """Bug 52, between clusters that happen to share a secret."""
        error = await self.refused(site, identity(cluster="other"))
        assert error.reason is RefusalReason.CLUSTER
        assert "'test'" in str(error)

    async def test_another_secret(self, site):
        """Bug 52, between clusters that happen to share a name: neither proves itself."""
        error = await self.refused(site, identity(secret=bytes(32)))
        assert error.reason is RefusalReason.PROOF
        assert "server 1 could not prove" in str(error)

    async def test_another_server(self, site):
        error = await self.refused(site, identity(), dst=2)
        assert error.reason is RefusalReason.WRONG_SERVER

    async def test_what_a_stranger_writes_is_made_printable(self, stranger):
        stranger.answer = encode(Refused(RefusalReason.BUSY, "\x1b]0;owned\x07"))
        error = await self.refused(stranger, identity())
        assert str(error) == r"\x1b]0;owned\x07"

    @pytest.fixture
    async def stranger(self, cleanup):
        """Somebody at the address who is no server of ours."""

        class Stranger(End):
            answer = b""
            called = left = False
            news = News()

            def connection_made(self, transport):
                super().connection_made(transport)
                cleanup.callback(transport.abort)

            def connection_lost(self, exc):
                Stranger.left = True
                Stranger.news.happened()

            def data_received(self, data):
                Stranger.called = True
                Stranger.news.happened()
                if Stranger.answer is None:
                    self.transport.close()
                else:
                    self.transport.write(Stranger.answer)

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Stranger, "127.0.0.1", 0)
        cleanup.callback(server.close)
        Stranger.address = format_address(*server.sockets[0].getsockname())
        return Stranger

    async def test_a_server_without_the_secret(self, stranger):
        stranger.answer = encode(Welcome(bytes(32), bytes(32)))
        error = await self.refused(stranger, identity())
        assert error.reason is RefusalReason.PROOF

    @pytest.mark.parametrize("answer", [Campaign(), Welcome(b"", b""), HEARTBEAT])
    async def test_another_protocol(self, stranger, answer):
        stranger.answer = encode(answer)
        error = await self.refused(stranger, identity())
        assert "does not speak this protocol" in str(error)

    @pytest.mark.parametrize(
        ("answer", "words"),
        [
            (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unreadable frame"),
            (None, "closed the connection"),
        ],
    )
    async def test_no_frames_at_all(self, stranger, answer, words):
        stranger.answer = answer
        with pytest.raises(ConnectionError, match=words):
            await connect(stranger.address, identity(), Caller.CLIENT, 1, print, print)

    async def test_silence(self, stranger, monkeypatch):
        monkeypatch.setattr("raft.transport.calling.HANDSHAKE_SECONDS", 0.05)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            await connect(stranger.address, identity(), Caller.CLIENT, 1, print, print)

        await stranger.news.until(lambda: stranger.left)

    async def test_nobody_there(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = format_address(*taken.getsockname())
        with pytest.raises(OSError, match=f"^{address}: nobody listens$"):
            await connect(address, identity(), Caller.CLIENT, 1, print, print)

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (
                OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
                        "[Errno 111] Connect call failed ('127.0.0.1', 1)"),
                "nobody listens",
            ),
            (OSError(113, "Connect call failed ('192.0.2.1', 1)"), "No route to host"),
            (
                OSError("Multiple exceptions: [Errno 113] Connect call failed ('192.0.2.1', 1), "
                        "[Errno 101] Connect call failed ('2001:db8::1', 1, 0, 0)"),
                "Network is unreachable, No route to host",
            ),
            (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        ],
    )  # fmt: skip
    async def test_what_the_system_says_is_told_in_words(self, monkeypatch, error, words):
        async def fail(*_):
            raise error

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", fail, raising=False)
        with pytest.raises(OSError, match=f"^127.0.0.1:1: {words}$"):
            await connect("127.0.0.1:1", identity(), Caller.CLIENT, 1, print, print)

    async def test_a_connection_that_was_reset_says_so_in_words(self):
        reasons = []
        Connection(print, reasons.append).connection_lost(ConnectionResetError(104, "Reset"))
        assert reasons == ["Reset"]

    async def test_giving_up_leaves_no_connection(self, stranger):
        task = asyncio.create_task(
            connect(stranger.address, identity(), Caller.CLIENT, 1, print, print)
        )
        await stranger.news.until(lambda: stranger.called)
        task.cancel()
        await stranger.news.until(lambda: stranger.left)
        assert task.cancelled()

    async def test_an_answer_in_the_turn_in_which_the_caller_gives_up(self, stranger, monkeypatch):
        loop = asyncio.get_running_loop()
        reported = []
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        stranger.answer = encode(Refused(RefusalReason.BUSY, "too late"))
        answer = stranger.data_received

        def answer_and_let_give_up(end, data):
            # The loop's next turn begins with what is called soon, and then reads the answer.
            answer(end, data)
            loop.call_soon(task.cancel)

        monkeypatch.setattr(stranger, "data_received", answer_and_let_give_up)
        task = asyncio.create_task(
            connect(stranger.address, identity(), Caller.CLIENT, 1, print, print)
        )
        await stranger.news.until(lambda: stranger.left)
        assert task.cancelled()
        assert reported == []


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "parts"),
        [
            ("127.0.0.1:7001", ("127.0.0.1", 7001)),
            ("[::1]:7001", ("::1", 7001)),
            ("localhost:0", ("localhost", 0)),
            ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
            ("a-b.under_score.example.:1", ("a-b.under_score.example.", 1)),
            ("bücher.example:1", ("bücher.example", 1)),
            (f"{'x' * 63}.example:1", (f"{'x' * 63}.example", 1)),
        ],
    )
    def test_there_and_back(self, text, parts):
        assert parse_address(text) == parts
        assert format_address(*parts) == text

    @pytest.mark.parametrize(
        "host",
        [
            *("a..b", ".", ".a", "x" * 64, f"{'ü' * 63}", "a b", "a/b", "a\0", "\udcff", "\u2028"),
            *("::1", "[::1", "::1]", "[127.0.0.1]", "[here]", "[:::]", "[::1%a b]"),
            "127.0.0.1:1,2=127.0.0.1",
        ],
    )
    def test_no_host(self, host):
        with pytest.raises(ValueError, match="is not an address: there can be no host"):
            parse_address(f"{host}:7001")

    def test_too_long_to_be_quoted(self):
        with pytest.raises(ValueError, match=r"^an address of 261 characters: a host has at most"):
            parse_address("h" * 256 + ":7001")

    async def test_a_name_that_the_resolver_refuses_is_not_reached(self, monkeypatch):
        async def refuse(*_, **__):
            raise UnicodeEncodeError("idna", "h", 0, 1, "label too long")

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", refuse)
        with pytest.raises(OSError, match=r"localhost\.example:1: there can be no such host"):
            await _open(
                Connection(lambda frame: None, lambda reason: None),
                *("localhost.example:1", "h", 1),
            )

    @pytest.mark.parametrize("text", ["", "7001", ":7001", "host:", "host:x", "h:+1", f"h:{10**9}"])
    def test_no_address(self, text):
        with pytest.raises(ValueError, match="is not an address: HOST:PORT is"):
            parse_address(text)

    @pytest.mark.parametrize("port", ["65536", "-1"])
    def test_a_port_that_cannot_be_is_named(self, port):
        with pytest.raises(ValueError, match=f"'h:{port}': there is no port {port}: 1 to 65535"):
            parse_address(f"h:{port}")

    @pytest.mark.parametrize(
        "address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0", "[2001:db8::1]:0"]
    )
    async def test_only_loopback_is_listened_on(self, address):
        with pytest.raises(ValueError, match="only loopback addresses"):
            await Site().start(address)

    @pytest.mark.parametrize("address", ["192.0.2.1:7001", "example.org:7001"])
    async def test_only_loopback_is_called(self, address):
        me = Identity("c", None, SECRET)
        with pytest.raises(HandshakeError, match="only loopback addresses"):
            await connect(address, me, Caller.CLIENT, 1, on_frame=print, on_closed=print)

    @pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0", "127.1.2.3:0"])
    async def test_loopback(self, cleanup, address):
        site = Site()
        cleanup.callback(site.listener.close)
        assert await is_served(await site.start(address))


class TestWhatCallersMaySay:
    async def closed(self, site, end, caplog, words):
        await end.until(lambda: end.closed)
        assert words in caplog.text
        assert (site.messages, site.requests, site.controls) == ([], [], [])
        assert await is_served(site)

    @pytest.mark.parametrize(
        "message",
        [
            dataclasses.replace(HEARTBEAT, src=3),
            dataclasses.replace(HEARTBEAT, dst=3),
            RequestVote(1, 1, 9, 0, 0),
            AppendEntriesReply(0, 1, 3, Appended(9), 7),
        ],
    )
    async def test_a_peer_speaks_for_itself_and_to_us(self, site, dial, message, caplog):
        caplog.set_level(logging.INFO)
        end = await (await dial(site)).prove(src=2, then=[message, HEARTBEAT])
        await self.closed(
            site, end, caplog, f"server 2 sent a message from {message.src} to {message.dst}"
        )

    @pytest.mark.parametrize(
        ("caller", "frame", "words"),
        [
            (Caller.PEER, ClientRequest(1, StatusQuery()), "a peer may not send ClientRequest"),
            (Caller.PEER, Campaign(), "a peer may not send Campaign"),
            (Caller.CLIENT, HEARTBEAT, "a client may not send AppendEntries"),
            (Caller.CLIENT, Barrier(1, 0), "a client may not send Barrier"),
            (Caller.OBSERVER, HEARTBEAT, "an observer may not send AppendEntries"),
            (Caller.OBSERVER, Proof(b""), "an observer may not send Proof"),
        ],
    )
    async def test_each_only_its_own_frames(self, site, dial, caller, frame, words, caplog):
        caplog.set_level(logging.INFO)
        src = 2 if caller is Caller.PEER else None
        end = await (await dial(site)).prove(caller, src, then=[frame])
        await self.closed(site, end, caplog, words)

    @pytest.mark.parametrize("caller", Caller)
    @pytest.mark.parametrize(
        "junk",
        [b"\xff" * 64, bytes(64), encode(HEARTBEAT)[:8] + b"\xff" * 88],
        ids=["ones", "zeros", "ones in a frame"],
    )
    async def test_malformed_bytes(self, site, dial, caller, junk, caplog):
        """Bug 47: what cannot be understood closes its connection, and nothing else."""
        caplog.set_level(logging.INFO)
        src = 2 if caller is Caller.PEER else None
        end = await (await dial(site)).prove(caller, src, then=[junk])
        await self.closed(site, end, caplog, "unreadable frame")

    async def test_a_handler_that_raises(self, site, dial):
        """Bug 47: an exception in a message's handler kills the loop that reads messages."""
        loop = asyncio.get_running_loop()
        reported = []
        loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))

        def fail(message):
            raise ZeroDivisionError

        site.on_message = fail
        end = await (await dial(site)).prove(src=2, then=[HEARTBEAT, HEARTBEAT])
        await end.until(lambda: end.closed)
        assert [type(error) for error in reported] == [ZeroDivisionError]
        assert site.messages == [HEARTBEAT], "the second came over a connection that is cut"
        site.on_message = None
        await (await dial(site)).prove(src=3, then=[dataclasses.replace(HEARTBEAT, src=3)])
        await site.until(lambda: len(site.messages) == 2)
        assert await is_served(site)

    async def test_a_frame_over_the_limit(self, site, dial, caplog):
        caplog.set_level(logging.INFO)
        header = bytes(4) + (MAX_FRAME // 8).to_bytes(4, "little")
        end = await (await dial(site)).prove(src=2, then=[header])
        await self.closed(site, end, caplog, f"over the limit of {MAX_FRAME}")

    async def test_the_goodbye_of_a_client_is_no_news(self, site, caplog):
        caplog.set_level(logging.DEBUG)
        assert await is_served(site)
        await site.until(lambda: site.lost)
        levels = [r.levelname for r in caplog.records if "connection closed" in r.getMessage()]
        assert levels == ["DEBUG"]

    async def test_a_server_may_only_answer(self, site, cleanup):
        closed = asyncio.get_running_loop().create_future()
        connection = await connect(
            site.address, identity(), Caller.OBSERVER, 1, print, closed.set_result
        )
        cleanup.callback(connection.close, "enough")
        await site.until(lambda: site.observers)
        site.observers[0].send(HEARTBEAT)
        async with asyncio.timeout(10):
            assert await closed == "a server may not send AppendEntries here"

    async def test_a_peer_that_calls_anew_replaces_its_old_connection(self, site, dial):
        old = await (await dial(site)).prove(src=2)
        new = await (await dial(site)).prove(src=2, then=[HEARTBEAT])
        await old.until(lambda: old.closed)
        await site.until(lambda: site.messages)
        assert not new.closed


def state_with(entries):
    """What an observer is told of a log."""
    state = next(f for f in SAMPLES if isinstance(f, Observation))
    return dataclasses.replace(state, event=dataclasses.replace(state.event, entries=entries))


class TestObserver:
    async def test_observations_go_one_way_and_controls_the_other(self, site, cleanup):
        seen = asyncio.Queue()
        connection = await connect(
            site.address, identity(), Caller.OBSERVER, 1, seen.put_nowait, print
        )
        cleanup.callback(connection.close, "enough")
        connection.send(Barrier(7, 0))
        await site.until(lambda: site.controls)
        assert site.controls == [Barrier(7, 0)]
        observation = Observation(1.0, 2.0, TermChanged(3))
        assert site.observers[0].send(observation)
        async with asyncio.timeout(10):
            assert await seen.get() == observation

    async def test_one_that_reads_nothing_is_told_no_more_and_holds_a_bounded_memory(
        self, site, dial
    ):
        end = await (await dial(site)).prove(Caller.OBSERVER, src=None)
        await site.until(lambda: site.observers)
        end.transport.pause_reading()
        frame = encode(state_with((Entry(1, data=bytes(8 * 1024)),)))
        observer = site.observers[0]
        accepted = 0
        while observer.send(frame):
            accepted += 1
            assert observer.unsent <= MAX_UNSENT + len(frame)
            if not accepted % 100:
                await asyncio.sleep(0)
        assert observer.unsent > MAX_UNSENT
        end.transport.resume_reading()
        await end.until(lambda: len(end.frames) == accepted)
        assert observer.send(frame), "it reads again"

    async def test_a_frame_of_any_size_passes_when_nothing_waits(self, site, cleanup):
        """The state that follows lost observations is larger than the bound."""
        seen = asyncio.Queue()
        connection = await connect(
            site.address, identity(), Caller.OBSERVER, 1, seen.put_nowait, print
        )
        cleanup.callback(connection.close, "enough")
        large = state_with((Entry(1, data=bytes(64 * 1024)),) * 160)
        await site.until(lambda: site.observers)
        assert site.observers[0].send(large)
        async with asyncio.timeout(10):
            assert await seen.get() == large

    async def test_its_end_is_told(self, site, dial):
        end = await (await dial(site)).prove(Caller.OBSERVER, src=None)
        await site.until(lambda: site.observers)
        end.transport.close()
        await site.until(lambda: site.lost)
        assert site.lost == site.observers
        assert not site.observers[0].send(Observation(1.0, 2.0, TermChanged(3)))


class TestPeerLink:
    async def test_messages_arrive_in_order_and_are_counted(self, site, link):
        two = link(site)
        messages = [dataclasses.replace(HEARTBEAT, round=n) for n in range(1000)]
        for message in messages:
            assert two.send(message)
        await site.until(lambda: len(site.messages) == 1000)
        assert site.messages == messages
        assert two.messages_sent == site.listener.peer_messages_received == 1000
        assert site.attached == [2]

    async def test_any_server_of_the_cluster_is_heard_and_says_where_it_is(self, site, cleanup):
        """A server may lag behind the configuration in which a caller joined (thesis §4.1)."""
        stranger = dataclasses.replace(identity(77), address="127.0.0.1:7077")
        two = PeerLink(stranger, 1, site.address)
        two.start()
        cleanup.callback(two.close)
        await site.until(lambda: site.attached)
        assert site.addresses == {77: "127.0.0.1:7077"}

    async def test_nobody_but_a_peer_says_where_it_is(self):
        someone = dataclasses.replace(identity(), address="127.0.0.1:7077")
        assert CallerHandshake(someone, Caller.CLIENT, 1).preamble.address == ""

    async def test_the_end_of_a_peers_connection_is_told_unless_it_has_a_newer_one(
        self, site, dial
    ):
        first = await (await dial(site)).prove()
        await site.until(lambda: site.attached == [2])
        second = await (await dial(site)).prove()
        await site.until(lambda: site.attached == [2, 2])
        await first.until(lambda: first.closed)
        assert site.gone == []
        second.transport.close()
        await site.until(lambda: site.gone == [2])

    async def test_peers_are_counted_like_all_callers(self, site, dial, monkeypatch):
        monkeypatch.setattr("raft.transport.listener.MAX_CALLERS", 2)
        for src in (2, 3):
            await (await dial(site)).prove(src=src)
        await site.until(lambda: site.attached == [2, 3])
        full = await dial(site)
        full.say(CallerHandshake(identity(4), Caller.PEER, 1).preamble)
        refusal = await full.refusal()
        assert (refusal.reason, refusal.detail) == (
            RefusalReason.BUSY,
            "2 peers are connected already",
        )
        await (await dial(site)).prove(src=3)
        await site.until(lambda: site.attached == [2, 3, 3])

    async def test_what_is_sent_in_one_turn_leaves_in_one_piece(self, site, link, monkeypatch):
        pieces = []
        write = Connection.write

        def spy(connection, frames):
            pieces.append(list(frames))
            write(connection, pieces[-1])

        two = link(site)
        await until_connected(two)
        monkeypatch.setattr(Connection, "write", spy)
        for _ in range(10):
            two.send(HEARTBEAT)
        await site.until(lambda: len(site.messages) == 10)
        assert pieces == [[encode(HEARTBEAT)] * 10]

    async def test_what_is_flushed_is_written_at_once(self, site, link, monkeypatch):
        two = link(site)
        await until_connected(two)
        written = []
        monkeypatch.setattr(two._connection, "write", written.extend)
        two.send(HEARTBEAT)
        assert written == []
        two.flush()
        assert written == [encode(HEARTBEAT)]
        two.flush()
        assert len(written) == 1

    async def test_what_waits_for_a_connection_is_not_counted_as_sent(self, site, link):
        two = link(site)
        assert two.send(HEARTBEAT)
        assert two.messages_sent == 0
        await site.until(lambda: site.messages)
        assert two.messages_sent == 1

    async def test_it_comes_back_after_the_other_end_restarted(self, site, link, cleanup):
        two = link(site)
        two.send(HEARTBEAT)
        await site.until(lambda: site.messages)
        site.listener.close()
        await until_not_connected(two)
        again = Site()
        cleanup.callback(again.listener.close)
        await again.start(site.address)
        await again.until(lambda: again.attached == [2])
        await until_connected(two)
        two.send(HEARTBEAT)
        await again.until(lambda: again.messages)
        assert two.messages_sent == 2

    async def test_messages_to_a_dead_peer_are_lost_not_kept(self, site, link, monkeypatch):
        """Long out of date, they would flood a server that comes back."""
        monkeypatch.setattr("raft.transport.link.BACKOFF_MIN", 3600.0)
        monkeypatch.setattr("raft.transport.link.BACKOFF_MAX", 3600.0)
        two = link(site)
        await until_connected(two)
        site.listener.close()
        await until_not_connected(two)
        await until_lost(two)
        assert two.messages_sent == 0

        again = Site()
        await again.start(site.address)
        two.wake()
        await again.until(lambda: again.attached == [2])
        await until_connected(two)
        two.send(dataclasses.replace(HEARTBEAT, round=1234))
        await again.until(lambda: again.messages)
        assert [message.round for message in again.messages] == [1234]
        again.listener.close()

    async def test_the_backoff_grows_to_a_second_and_varies(self, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = format_address(*taken.getsockname())
        rests = []
        link = PeerLink(identity(2), 1, address)

        async def rest(seconds):
            rests.append(seconds)
            if len(rests) == 12:
                link.close()
            await asyncio.sleep(0)

        monkeypatch.setattr(link, "_rest", rest)
        link.start()
        with contextlib.suppress(asyncio.CancelledError):
            await link._task
        limits = [min(0.1 * 2**n, 1.0) for n in range(12)]
        assert all(limit / 2 <= rest <= limit for rest, limit in zip(rests, limits, strict=True))
        assert len(set(rests)) == 12

    async def test_a_paused_peer_keeps_bounded_bytes_of_the_newest_whole_frames(
        self, listening_end, link
    ):
        two = link(listening_end)
        end = await listening_end.connection()
        await until_connected(two)
        end.transport.pause_reading()
        entries = (Entry(3, data=bytes(100_000)),)
        for number in range(400):
            message = AppendEntries(2, 1, 3, 9, 2, entries, 8, number)
            assert two.send(message)
            await asyncio.sleep(0)
            assert two._queue_size <= MAX_UNSENT
        frame_size = len(encode(message))
        waiting = two._connection.unsent
        assert waiting <= 2 * (64 * 1024 + frame_size), "the rest could no longer be dropped"
        end.transport.resume_reading()
        await end.until(lambda: end.frames and end.frames[-1].round == 399)
        rounds = [frame.round for frame in end.frames]
        assert rounds == sorted(set(rounds)), "in order, none twice"
        assert len(rounds) < 400
        newest = MAX_UNSENT // frame_size
        assert rounds[-newest:] == list(range(400 - newest, 400))
        assert two.messages_sent == len(rounds)

    async def test_a_paused_peer_does_not_hold_up_another(self, listening_end, site, link):
        paused, other = link(listening_end), link(site, src=3)
        end = await listening_end.connection()
        await until_connected(paused)
        end.transport.pause_reading()
        entries = (Entry(3, data=bytes(500_000)),)
        for number in range(40):
            paused.send(AppendEntries(2, 1, 3, 9, 2, entries, 8, number))
            other.send(AppendEntries(3, 1, 3, 9, 2, (), 8, number))
            await site.until(lambda seen=number: len(site.messages) > seen)
        assert paused._queue_size > 0, "this peer was not paused"
        assert end.frames[-1:] != [AppendEntries(2, 1, 3, 9, 2, entries, 8, 39)]

    async def test_a_message_that_the_peer_would_refuse_is_not_sent(self, site, link):
        two = link(site)
        with pytest.raises(ValueError, match=f"over the limit of {MAX_FRAME}"):
            two.send(dataclasses.replace(HEARTBEAT, entries=(Entry(1, data=bytes(MAX_FRAME)),)))

    async def test_a_peer_of_another_cluster_is_not_talked_to(self, cleanup, caplog, link):
        """Bug 52."""
        caplog.set_level(logging.INFO)
        other = Site(cluster="other")
        cleanup.callback(other.listener.close)
        two = link(await other.start())
        await until_lost(two)
        assert "this server belongs to cluster 'other', the caller to 'test'" in caplog.text
        assert other.messages == []
        assert two.messages_sent == 0

    async def test_a_peer_that_talks_back_is_cut(self, listening_end, link, caplog):
        caplog.set_level(logging.INFO)
        two = link(listening_end)
        end = await listening_end.connection()
        await until_connected(two)
        end.say(HEARTBEAT)
        await end.until(lambda: end.closed)
        await until_lost(two)
        assert "link to server 1: a server may not send AppendEntries here" in caplog.text

    async def test_closing_closes_the_connection(self, listening_end, link):
        two = link(listening_end)
        end = await listening_end.connection()
        await until_connected(two)
        two.close()
        await end.until(lambda: end.closed)
        assert not two.connected
        assert not two.send(HEARTBEAT)

    async def test_no_waiting_for_more_to_send(self, listening_end, link):
        """TCP_NODELAY: a heartbeat leaves when it is sent."""
        two = link(listening_end)
        await listening_end.connection()
        await until_connected(two)
        sock = two._connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    @pytest.mark.skipif(shutil.which("capnp") is None, reason="the capnp tool is not installed")
    async def test_a_captured_connection_is_read_by_the_stock_tool(self, listening_end, link):
        two = link(listening_end)
        end = await listening_end.connection()
        two.send(HEARTBEAT)
        two.send(RequestVote(2, 1, 4, 9, 3))
        await end.until(lambda: len(end.frames) == 2)
        text = subprocess.run(
            ["capnp", "decode", "--short", SCHEMAS / "raft.capnp", "Envelope"],
            input=end.captured(),
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.decode()
        assert [line.split(" = ")[0] for line in text.splitlines()] == [
            "(preamble",
            "(proof",
            "(appendEntries",
            "(requestVote",
        ]


async def until_connected(link):
    async with asyncio.timeout(10):
        while not link.connected:
            await asyncio.sleep(0)


async def until_lost(link):
    """Send until the link says that a message is lost."""
    async with asyncio.timeout(10):
        while link.send(HEARTBEAT):
            await asyncio.sleep(0)


async def until_not_connected(link):
    async with asyncio.timeout(10):
        while link.connected:
            await asyncio.sleep(0)


class ServerEnd(End):
    """A server's end that can stop reading."""

    def __init__(self, accepted):
        super().__init__()
        self.handshake = ServerHandshake(identity(1))
        self.accepted = accepted
        self.all_chunks = []

    def data_received(self, data):
        self.all_chunks.append(data)
        super().data_received(data)
        while self.frames and not self.handshake.complete:
            welcome = self.handshake.receive(self.frames.pop(0))
            if welcome is not None:
                self.say(welcome)
            else:
                self.accepted.put_nowait(self)

    def captured(self):
        return b"".join(self.all_chunks)


@pytest.fixture
async def listening_end(cleanup):
    class ListeningEnd:
        def __init__(self):
            self.accepted = asyncio.Queue()

        async def connection(self):
            async with asyncio.timeout(10):
                end = await self.accepted.get()
            cleanup.callback(end.transport.abort)
            return end

    there = ListeningEnd()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: ServerEnd(there.accepted), "127.0.0.1", 0)
    cleanup.callback(server.close)
    there.address = format_address(*server.sockets[0].getsockname())
    return there


OUT_OF_FILES = """
import asyncio, errno, resource, socket
from raft.frames import Caller
from raft.transport import Identity, Listener, connect, parse_address

SECRET = bytes(32)

class Nothing:
    def __getattr__(self, name):
        return lambda *arguments: None

async def main():
    failed = asyncio.Event()

    def report(loop, context):
        if getattr(context["exception"], "errno", None) == errno.EMFILE:
            failed.set()

    asyncio.get_running_loop().set_exception_handler(report)
    listener = Listener(Identity("test", 1, SECRET), Nothing())
    address = await listener.start("127.0.0.1:0")
    # These fit into the backlog, but what is accepted not into the table of open files.
    callers = [socket.create_connection(parse_address(address)) for _ in range(4)]
    open_files = max(caller.fileno() for caller in callers) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files + 2, open_files + 2))
    await failed.wait()
    for caller in callers:
        caller.close()
    await connect(address, Identity("test", None, SECRET), Caller.CLIENT, 1, print, print)
    print("served")

asyncio.run(main())
"""


def test_running_out_of_open_files_stops_nobody_for_good():
    """EMFILE on accept: once files are free again, callers are served."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_FILES], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.returncode) == ("served\n", 0), done.stderr
