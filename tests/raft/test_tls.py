"""Encrypted connections: who may come in by his certificate, and who is told why not."""

import asyncio
import dataclasses
import logging
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from raft import certs as making
from raft.certificate import Role, Subject
from raft.core.events import TermChanged
from raft.core.messages import AppendEntries, Entry
from raft.frames import (
    Barrier,
    Caller,
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
from raft.tls import Tls, TlsError
from raft.transport import (
    HandshakeError,
    Identity,
    PeerLink,
    connect,
    format_address,
    parse_address,
)
from raft.transport.connection import HANDSHAKE_FRAME, MAX_UNSENT
from raft.transport.listener import MAX_UNPROVEN
from raft.wire import MAX_FRAME, FrameSplitter, decode, encode
from tests.raft.certificates import DAY, Certs, calling, now
from tests.raft.site import News, Recorder

CLUSTER = "test"
HEARTBEAT = AppendEntries(2, 1, 3, 9, 2, (), 8, 77)
PREAMBLE = Preamble(1, CLUSTER, Caller.PEER, 2, 1, b"")


class Site(Recorder):
    """It answers its clients with whom it takes them for."""

    def __init__(self, secret, server=1):
        super().__init__(Identity(CLUSTER, server, secret))

    def answer(self, connection):
        return str(connection.subject)


class End(asyncio.Protocol, News):
    """A bare end of a connection that says whatever a test wants, under TLS or not."""

    def __init__(self, context=None):
        News.__init__(self)
        self.frames, self.closed, self.error, self.heard = [], False, None, b""
        self.tls = None if context is None else Tls(context, server_side=False)
        self.splitter = FrameSplitter()

    def connection_made(self, transport):
        self.transport = transport
        self.pass_on()

    def pass_on(self):
        if self.tls is not None:
            self.transport.write(self.tls.outgoing())
        self.happened()

    def data_received(self, data):
        self.heard += data
        try:
            plain = self.tls.receive(data) if self.tls is not None else b""
            self.frames += map(decode, self.splitter.feed(plain))
        except TlsError as error:
            self.error = str(error)
        self.pass_on()

    def connection_lost(self, exc):
        self.closed = True
        self.happened()

    def say(self, *frames):
        """Send frames, or bytes in the place of them, in one piece."""
        data = b"".join(f if isinstance(f, bytes) else encode(f) for f in frames)
        self.transport.write(self.tls.encrypt(data))

    async def established(self):
        await self.until(lambda: self.tls.established)
        return self

    async def refusal(self):
        await self.until(lambda: self.closed)
        (refused,) = self.frames
        assert isinstance(refused, Refused)
        return refused


@pytest.fixture
def certs(tmp_path):
    return Certs(tmp_path / "certs")


@pytest.fixture
def others(tmp_path):
    """Another cluster of the same name."""
    return Certs(tmp_path / "others")


@pytest.fixture
async def site(certs, cleanup):
    site = Site(certs.server(1))
    cleanup.callback(site.listener.close)
    return await site.start()


@pytest.fixture
def dial(cleanup):
    async def dial(site, context=None):
        host, port = parse_address(site.address)
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(lambda: End(context), host, port)
        cleanup.callback(end.transport.abort)
        return end

    return dial


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO)
    return caplog


async def call(site, certificate, caller=Caller.CLIENT, dst=1, heard=print):
    return await connect(
        site.address, Identity(CLUSTER, None, certificate), caller, dst, heard, print
    )


async def is_served(site, certificate):
    replies = asyncio.Queue()
    connection = await call(site, certificate, heard=replies.put_nowait)
    connection.send(ClientRequest(42, StatusQuery()))
    async with asyncio.timeout(10):
        reply = await replies.get()
    connection.close("enough")
    return reply == ClientReply(42, Rejected(str(certificate.subject)))


class TestWhoComesIn:
    async def test_a_peer_a_client_and_an_observer(self, site, certs, cleanup):
        peer = PeerLink(Identity(CLUSTER, 2, certs.server(2)), 1, site.address)
        peer.start()
        cleanup.callback(peer.close)
        peer.send(HEARTBEAT)
        await site.until(lambda: site.messages)
        assert (site.attached, site.messages) == ([2], [HEARTBEAT])
        assert await is_served(site, certs.client())
        seen = asyncio.Queue()
        observer = await call(site, certs.observer(), Caller.OBSERVER, heard=seen.put_nowait)
        cleanup.callback(observer.close, "enough")
        observer.send(Barrier(7, 0))
        await site.until(lambda: site.controls)
        site.observers[0].send(Observation(1.0, 2.0, TermChanged(3)))
        async with asyncio.timeout(10):
            assert await seen.get() == Observation(1.0, 2.0, TermChanged(3))
        ends = [connection._tls._end for connection in site.connections]
        assert {end.version() for end in ends} == {"TLSv1.3"}

    async def test_an_application_beside_a_server_is_a_client_and_an_observer(
        self, site, certs, cleanup
    ):
        assert await is_served(site, certs.server(2))
        observer = await call(site, certs.server(2), Caller.OBSERVER)
        cleanup.callback(observer.close, "enough")
        await site.until(lambda: site.observers)

    async def test_nothing_on_the_way_can_be_read(self, site, certs, dial):
        end = await (await dial(site, calling(certs.server(2).path))).established()
        secret = dataclasses.replace(HEARTBEAT, entries=(Entry(1, data=b"a spy reads this"),))
        written = []
        write, end.transport.write = end.transport.write, written.append
        end.say(PREAMBLE, secret)
        sent = b"".join(written)
        assert b"a spy reads this" in encode(secret)
        assert b"a spy reads this" not in sent
        write(sent)
        await site.until(lambda: site.messages == [secret])
        assert CLUSTER.encode() not in end.heard

    async def test_any_address_may_be_listened_on(self, certs, cleanup):
        site = Site(certs.server(1))
        cleanup.callback(site.listener.close)
        await site.start("0.0.0.0:0")
        site.address = site.address.replace("0.0.0.0", "127.0.0.1")
        assert await is_served(site, certs.client())


def no_subject(authority, *uris):
    """What the CA could have signed, but does not name one member of a cluster."""
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority._certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now() - DAY)
        .not_valid_after(now() + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
    )
    return making._pem(key, builder.sign(authority._key, hashes.SHA256()))


@pytest.fixture
def forge(certs, others, tmp_path):
    """Write a file that proves nothing, and return its path."""

    def forge(how):
        path = tmp_path / "forged.pem"
        server = Subject(CLUSTER, Role.SERVER, "2")
        match how:
            case "expired":
                return certs.file(Role.SERVER, 2, days=1, begins=now() - 2 * DAY)
            case "not valid yet":
                return certs.file(Role.SERVER, 2, days=3, begins=now() + DAY)
            case "another cluster of that name":
                return others.file(Role.SERVER, 2)
            case "self-signed":
                key = ec.generate_private_key(ec.SECP256R1())
                name = making._name(server)
                builder = making._builder(server, key, 1).issuer_name(name)
                path.write_bytes(making._pem(key, builder.sign(key, hashes.SHA256())))
            case "signed by a client":
                file = certs.file(Role.CLIENT, "mallory")
                path.write_bytes(making.Authority.read(file).issue(server))
            case "two names":
                uris = [Subject(CLUSTER, Role.SERVER, name).uri for name in "23"]
                path.write_bytes(no_subject(certs.authority, *uris))
            case "no name":
                path.write_bytes(no_subject(certs.authority, "https://example.org/"))
            case "the CA itself":
                path.write_bytes(certs.authority.pem())
        return path

    return forge


class TestWhoDoesNot:
    @pytest.mark.parametrize(
        ("how", "logged", "told"),
        [
            ("expired", "does not count: certificate has expired", "our certificate has expired"),
            ("not valid yet", "certificate is not yet valid", "is not valid yet, or never"),
            ("another cluster of that name", "is not of this cluster", "not of its cluster"),
            ("self-signed", "is not of this cluster", "not of its cluster"),
            ("signed by a client", "is not of this cluster", "not of its cluster"),
            ("two names", "and no member of a cluster", None),
            ("no name", "names https://example.org/, and no member of a cluster", None),
            ("the CA itself", "unsuitable certificate purpose", "for another purpose"),
        ],
    )
    async def test_a_certificate_that_proves_nothing(
        self, site, certs, dial, forge, log, how, logged, told
    ):
        """In TLS 1.3 a caller takes the handshake for done before its certificate is judged."""
        end = await dial(site, calling(forge(how)))
        await end.until(lambda: end.tls.established or end.closed)
        end.say(PREAMBLE, HEARTBEAT)
        await end.until(lambda: end.closed)
        assert (site.attached, site.messages, end.frames) == ([], [], [])
        assert logged in log.text
        assert told is None or told in end.error
        assert await is_served(site, certs.client())

    async def test_no_certificate(self, site, dial, log):
        end = await dial(site, calling())
        await end.until(lambda: end.closed)
        assert "it shows no certificate" in log.text
        assert end.error == "the other end refuses the connection: it wants a certificate"

    @pytest.mark.parametrize(
        ("role", "name", "change", "claim"),
        [
            (Role.SERVER, 3, {}, "server 3 of cluster 'test', and calls as server 2"),
            (Role.CLIENT, 2, {}, "client 2 of cluster 'test', and calls as server 2"),
            (Role.CLIENT, "a", {"caller": Caller.OBSERVER, "src": 0}, "and calls as observer"),
            (Role.OBSERVER, "a", {"caller": Caller.CLIENT, "src": 0}, "and calls as client"),
            (Role.OBSERVER, 2, {}, "observer 2 of cluster 'test', and calls as server 2"),
        ],
    )
    async def test_whoever_claims_more_than_his_certificate(
        self, site, certs, dial, role, name, change, claim
    ):
        end = await (await dial(site, calling(certs.file(role, name)))).established()
        end.say(dataclasses.replace(PREAMBLE, **change), HEARTBEAT)
        refusal = await end.refusal()
        assert refusal.reason is RefusalReason.PROOF
        assert claim in refusal.detail
        assert (site.attached, site.observers, site.messages) == ([], [], [])

    @pytest.mark.parametrize("caller", [Caller.PEER, Caller.CLIENT])
    async def test_another_cluster_that_the_same_ca_has_signed(self, site, certs, dial, caller):
        path = certs.file(Role.SERVER, 2)
        path.write_bytes(certs.authority.issue(Subject("other", Role.SERVER, "2")))
        end = await (await dial(site, calling(path))).established()
        end.say(dataclasses.replace(PREAMBLE, caller=caller))
        assert "server 2 of cluster 'other', and calls as" in (await end.refusal()).detail

    @pytest.mark.parametrize(
        ("first", "reason"),
        [
            (HEARTBEAT, RefusalReason.EXPECTED_PREAMBLE),
            (Proof(b""), RefusalReason.EXPECTED_PREAMBLE),
            (dataclasses.replace(PREAMBLE, nonce=bytes(32)), RefusalReason.EXPECTED_PREAMBLE),
            (dataclasses.replace(PREAMBLE, version=2), RefusalReason.VERSION),
            (dataclasses.replace(PREAMBLE, cluster="other"), RefusalReason.CLUSTER),
            (dataclasses.replace(PREAMBLE, dst=3), RefusalReason.WRONG_SERVER),
            (dataclasses.replace(PREAMBLE, src=1), RefusalReason.UNKNOWN_PEER),
        ],
    )
    async def test_a_first_frame_that_does_not_fit(self, site, certs, dial, first, reason):
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(first)
        assert (await end.refusal()).reason is reason

    async def test_tls_1_2(self, site, certs, dial, log):
        context = calling(certs.file(Role.SERVER, 2))
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        end = await dial(site, context)
        await end.until(lambda: end.closed)
        assert "it does not speak our version of TLS" in end.error
        assert "unsupported protocol" in log.text

    async def test_whoever_has_no_tls(self, site, log):
        with pytest.raises(HandshakeError, match="the other end speaks TLS, so this one needs"):
            await connect(
                site.address, Identity(CLUSTER, None, bytes(32)), Caller.CLIENT, 1, print, print
            )
        assert "the other end does not speak TLS" in log.text

    async def test_tls_where_there_is_none(self, certs, cleanup, log):
        site = Site(bytes(32))
        cleanup.callback(site.listener.close)
        await site.start()
        with pytest.raises(HandshakeError, match="the other end does not speak TLS"):
            await call(site, certs.client())
        assert "the other end speaks TLS, so this one needs a certificate, too" in log.text


class TestWhomACallerBelieves:
    """A caller says nothing but its Preamble to whom it did not mean."""

    async def refused(self, site, certificate, dst=1):
        with pytest.raises(HandshakeError) as caught:
            await call(site, certificate, dst=dst)
        assert caught.value.reason is RefusalReason.PROOF
        return str(caught.value)

    async def test_another_server_of_the_cluster(self, site, certs):
        words = await self.refused(site, certs.client(), dst=2)
        assert words == (
            "whoever answers has the certificate of server 1 of cluster 'test', "
            "not of server 2 of cluster 'test'"
        )

    async def test_a_server_of_another_cluster(self, site, others):
        words = await self.refused(site, others.client())
        assert "its certificate is not of this cluster" in words

    @pytest.fixture
    def listen(self, cleanup):
        """Somebody at an address who shows this certificate and welcomes everybody."""

        async def listen(path):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(path)

            class Stranger(asyncio.Protocol):
                def connection_made(self, transport):
                    transport.write(encode(Welcome(b"", b"")))

            loop = asyncio.get_running_loop()
            server = await loop.create_server(Stranger, "127.0.0.1", 0, ssl=context)
            cleanup.callback(server.close)
            Stranger.address = format_address(*server.sockets[0].getsockname())
            return Stranger

        return listen

    @pytest.mark.parametrize(
        ("how", "words"),
        [
            ("expired", "certificate has expired"),
            ("self-signed", "is not of this cluster"),
            ("another cluster of that name", "is not of this cluster"),
            ("signed by a client", "is not of this cluster"),
            ("no name", "no member of a cluster"),
        ],
    )
    async def test_a_certificate_that_proves_nothing(self, listen, certs, forge, how, words):
        stranger = await listen(forge(how))
        assert words in await self.refused(stranger, certs.client(), dst=2)

    @pytest.mark.parametrize("role", [Role.CLIENT, Role.OBSERVER])
    async def test_a_client_that_plays_the_server(self, listen, certs, role):
        stranger = await listen(certs.file(role, "2"))
        words = await self.refused(stranger, certs.client(), dst=2)
        assert words.endswith("unsuitable certificate purpose")


SILENT = [0, 1, 5, 100]
"""Bytes of a caller's first flight, after which it says nothing."""


class TestPatience:
    """The deadline and the limits count from the moment that a connection is accepted."""

    @pytest.fixture
    def hasty(self, monkeypatch):
        monkeypatch.setattr("raft.transport.listener.HANDSHAKE_SECONDS", 0.05)
        yield
        monkeypatch.undo()

    @pytest.fixture
    def dumb(self, site, dial):
        """Connect without TLS; what a caller would have said first comes with it."""

        async def dumb():
            hello = Tls(calling(), server_side=False).outgoing()
            return await dial(site), hello

        return dumb

    @pytest.mark.parametrize("said", SILENT)
    async def test_silence_before_tls_and_within(self, dumb, site, certs, hasty, log, said):
        end, hello = await dumb()
        end.transport.write(hello[:said])
        await end.until(lambda: end.closed)
        assert "no handshake within" in log.text
        assert site.connections == []

    async def test_silence_after_the_servers_answer(self, dumb, site, hasty, log):
        end, hello = await dumb()
        end.transport.write(hello)
        await end.until(lambda: end.closed)
        assert end.heard, "TLS had begun"
        assert "no handshake within" in log.text

    @pytest.mark.parametrize("said", [b"", encode(PREAMBLE)[:-1]], ids=["nothing", "half"])
    async def test_silence_under_tls(self, site, certs, dial, hasty, log, said):
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(said)
        await end.until(lambda: end.closed)
        assert "no handshake within" in log.text

    async def test_a_byte_now_and_then_before_tls(self, site, dial, hasty, log):
        """Of a first record that is as long as can be."""
        end = await dial(site)
        end.transport.write(b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc")
        async with asyncio.timeout(10):
            while not end.closed:
                end.transport.write(b"\x03")
                await asyncio.sleep(0)
        assert "no handshake within" in log.text

    async def test_a_byte_now_and_then_under_tls(self, site, certs, dial, hasty, log):
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(bytes(4) + (HANDSHAKE_FRAME // 8 - 1).to_bytes(4, "little"))
        async with asyncio.timeout(10):
            while not end.closed:
                end.say(b"\xff")
                await asyncio.sleep(0)
        assert "no handshake within" in log.text

    async def test_slow_but_in_time(self, site, certs, dial):
        """Byte by byte, both before TLS is up and after."""
        end = await dial(site, calling(certs.file(Role.SERVER, 2)))
        write = end.transport.write

        def drip(data):
            for byte in data:
                write(bytes([byte]))

        end.transport.write = drip
        await end.established()
        for byte in encode(PREAMBLE) + encode(HEARTBEAT):
            end.say(bytes([byte]))
            await asyncio.sleep(0)
        await site.until(lambda: site.messages)
        assert (site.attached, site.messages) == ([2], [HEARTBEAT])

    async def test_a_silent_server(self, certs, cleanup, monkeypatch):
        class Silent(asyncio.Protocol):
            pass

        loop = asyncio.get_running_loop()
        server = await loop.create_server(Silent, "127.0.0.1", 0)
        cleanup.callback(server.close)
        Silent.address = format_address(*server.sockets[0].getsockname())
        monkeypatch.setattr("raft.transport.calling.HANDSHAKE_SECONDS", 0.05)
        with pytest.raises(TimeoutError, match=r"no answer within 0\.05 s"):
            await call(Silent, certs.client())

    @pytest.mark.parametrize("begun", [False, True])
    async def test_of_too_many_the_oldest_is_closed(self, dumb, site, certs, begun):
        """A caller that has not even begun TLS takes one of the few places, too."""
        ends = []
        for _ in range(MAX_UNPROVEN + 1):
            end, hello = await dumb()
            if begun:
                end.transport.write(hello)
            ends.append(end)
        await ends[0].until(lambda: ends[0].closed)
        assert [end.closed for end in ends[1:]] == [False] * MAX_UNPROVEN
        assert len(site.connections) == MAX_UNPROVEN
        assert await is_served(site, certs.client())


class TestHostileBytes:
    JUNK = (b"\xff" * 64, bytes(64), encode(HEARTBEAT)[:8] + b"\xff" * 88)

    async def gone(self, site, certs, end, log, words):
        await end.until(lambda: end.closed)
        assert words in log.text
        assert site.messages == []
        assert await is_served(site, certs.client())

    @pytest.mark.parametrize("after", [False, True])
    @pytest.mark.parametrize("junk", JUNK, ids=["ones", "zeros", "ones in a frame"])
    async def test_malformed_frames(self, site, certs, dial, log, junk, after):
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(*[PREAMBLE] * after, junk)
        await self.gone(site, certs, end, log, "unreadable frame")

    @pytest.mark.parametrize(("after", "limit"), [(False, HANDSHAKE_FRAME), (True, MAX_FRAME)])
    async def test_a_frame_over_the_limit(self, site, certs, dial, log, after, limit):
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(*[PREAMBLE] * after, bytes(4) + (limit // 8).to_bytes(4, "little"))
        await self.gone(site, certs, end, log, f"over the limit of {limit}")

    @pytest.mark.parametrize("flipped", [0, 3, 7, -1])
    async def test_what_is_changed_on_the_way(self, site, certs, dial, log, flipped):
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(PREAMBLE)
        await site.until(lambda: site.attached == [2])
        record = bytearray(end.tls.encrypt(encode(HEARTBEAT)))
        record[flipped] ^= 1
        end.transport.write(bytes(record))
        end.transport.write_eof()
        await site.until(lambda: site.gone == [2])
        assert site.messages == []
        assert await is_served(site, certs.client())

    async def test_bytes_that_only_begin_like_tls(self, site, certs, dial, log):
        end = await dial(site)
        end.transport.write(b"\x16\x03\x01\x40\x00" + b"\xff" * 0x4000)
        await self.gone(site, certs, end, log, "TLS failed")

    async def test_a_cut_is_told_like_any_end(self, site, certs, dial):
        """Frames are whole or not at all, so TLS's own goodbye would say nothing more."""
        end = await (await dial(site, calling(certs.file(Role.SERVER, 2)))).established()
        end.say(PREAMBLE, HEARTBEAT, encode(HEARTBEAT)[:-1])
        end.transport.write_eof()
        await site.until(lambda: site.gone == [2])
        assert site.messages == [HEARTBEAT]


class TestManyBytes:
    @pytest.fixture
    async def peer(self, site, certs, cleanup):
        peer = PeerLink(Identity(CLUSTER, 2, certs.server(2)), 1, site.address)
        peer.start()
        cleanup.callback(peer.close)
        await site.until(lambda: site.attached)
        async with asyncio.timeout(10):
            while not peer.connected:
                await asyncio.sleep(0)
        return peer

    async def test_what_is_sent_in_one_turn_leaves_in_one_record(self, site, peer):
        transport = peer._connection._transport
        pieces, write = [], transport.write

        def spy(data):
            pieces.append(bytes(data))
            write(data)

        transport.write = spy
        for _ in range(10):
            peer.send(HEARTBEAT)
        await site.until(lambda: len(site.messages) == 10)
        (record,) = [piece for piece in pieces if piece]
        assert int.from_bytes(record[3:5], "big") == len(record) - 5, "one header, for all of it"

    async def test_large_frames_arrive_whole_and_in_order(self, site, peer):
        entries = (Entry(3, data=bytes(range(256)) * 3_900),)
        messages = [AppendEntries(2, 1, 3, 9, 2, entries, 8, number) for number in range(7)]
        for message in messages:
            peer.send(message)
            await asyncio.sleep(0)
        await site.until(lambda: len(site.messages) == 7)
        assert site.messages == messages

    async def test_a_peer_that_does_not_read_keeps_bounded_bytes(self, site, peer):
        (there,) = site.connections
        there._transport.pause_reading()
        entries = (Entry(3, data=bytes(100_000)),)
        for number in range(400):
            peer.send(AppendEntries(2, 1, 3, 9, 2, entries, 8, number))
            await asyncio.sleep(0)
            assert peer._queue_size <= MAX_UNSENT
        assert peer._connection.unsent <= 2 * (64 * 1024 + 110_000), "these are lost no more"
        there._transport.resume_reading()
        await site.until(lambda: site.messages and site.messages[-1].round == 399)
        rounds = [message.round for message in site.messages]
        assert rounds == sorted(set(rounds))
        assert len(rounds) < 400

    async def test_what_was_said_before_the_end_is_heard(self, site, peer):
        peer.send(HEARTBEAT)
        await asyncio.sleep(0)
        peer.close()
        await site.until(lambda: site.gone == [2])
        assert site.messages == [HEARTBEAT]


class TestRenewal:
    async def test_the_next_connection_shows_the_new_certificate(self, certs, cleanup, log):
        mine = certs.server(1)
        site = Site(mine)
        cleanup.callback(site.listener.close)
        await site.start()
        client = certs.client()
        old = await call(site, client)
        cleanup.callback(old.close, "enough")
        before = mine.until
        certs.file(Role.SERVER, 1, days=200)
        assert mine.until == before, "not yet: nobody has called"
        assert await is_served(site, client)
        assert mine.until - before > 100 * DAY
        assert "the certificate is now one until" in log.text
        assert not old.closing, "it was made with the old one, and stays"

    async def test_a_callers_too(self, site, certs):
        client = certs.client()
        before = client.until
        certs.file(Role.CLIENT, "alice", days=200)
        assert await is_served(site, client)
        assert client.until - before > 100 * DAY

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda path, certs: path.unlink(), "No such file"),
            (lambda path, certs: path.write_text("half a fi"), "there should be a certificate"),
            (lambda path, certs: path.chmod(0o640) or path.touch(), "others may use this file"),
            (
                lambda path, certs: path.write_bytes(certs.file(Role.SERVER, 2).read_bytes()),
                "the certificate is that of server 2 of cluster 'test'",
            ),
            (
                lambda path, certs: certs.file(Role.SERVER, 1, days=1, begins=now() - 2 * DAY),
                "certificate has expired",
            ),
        ],
        ids=["gone", "half", "open", "another's", "expired"],
    )
    async def test_one_that_is_of_no_use_is_not_taken(self, site, certs, log, spoil, words):
        client = certs.client()
        path = certs.directory / "server-1.pem"
        spoil(path, certs)
        for _ in range(2):
            assert await is_served(site, client)
        complaints = [r for r in log.records if "stays as it is" in r.getMessage()]
        assert len(complaints) == 1, "said once, not at every call"
        assert words in complaints[0].getMessage()
        certs.file(Role.SERVER, 1, days=200)
        assert await is_served(site, client)
        assert "the certificate is now one until" in log.text

    async def test_the_end_that_comes_near_is_told_once_a_day(
        self, certs, cleanup, log, monkeypatch
    ):
        site = Site(certs.server(1, days=29))
        cleanup.callback(site.listener.close)
        await site.start()
        client = certs.client()
        assert log.text.count("the certificate ends on") == 1
        assert await is_served(site, client)
        assert log.text.count("the certificate ends on") == 1
        site.listener._identity.secret._reminded -= 86401
        assert await is_served(site, client)
        assert log.text.count("the certificate ends on") == 2

    async def test_a_long_life_is_no_news(self, site, certs, log):
        assert await is_served(site, certs.client())
        assert "the certificate ends" not in log.text
