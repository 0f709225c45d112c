"""The network of a lab: which messages arrive, when, and why the others do not."""

import asyncio
import socket
import time

import pytest

from raft.clock import VirtualClock
from raft.core.messages import AppendEntries, Entry, RequestVote
from raft.frames import (
    PROTOCOL_VERSION,
    Caller,
    ClientRequest,
    Preamble,
    Proof,
    StatusQuery,
    Welcome,
)
from raft.wire import FrameSplitter, decode, encode
from raftviz.lab.fabric import Fabric
from raftviz.model.events import (
    DropReason,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageSent,
    Warned,
)


class End(asyncio.Protocol):
    """One end of a connection: keeps the frames that arrive, and None when it is closed."""

    def __init__(self):
        self.frames = asyncio.Queue()
        self.splitter = FrameSplitter()
        self.closed = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for raw in self.splitter.feed(data):
            self.keep(decode(raw))

    def keep(self, frame):
        self.frames.put_nowait(frame)

    def connection_lost(self, exc):
        self.frames.put_nowait(None)
        self.closed.set()

    def say(self, *frames):
        self.transport.write(b"".join(map(encode, frames)))

    async def take(self):
        async with asyncio.timeout(5):
            return await self.frames.get()


class ServerEnd(End):
    """Stands for a server that is called: it answers every Preamble."""

    def keep(self, frame):
        super().keep(frame)
        if isinstance(frame, Preamble):
            self.say(WELCOME)


class Net:
    """A fabric between stand-ins, with a clock that a test moves, and what it told."""

    def __init__(self):
        self.clock = VirtualClock(rate=0.0)
        self.told = []
        self.fabric = Fabric((1, 2, 3), 0.010, self.clock, self._tell)
        self._news = asyncio.Event()
        self._listeners = []
        self._ends = []

    def _tell(self, what):
        self.told.append(what)
        self._news.set()

    def of(self, kind):
        return [what for what in self.told if isinstance(what, kind)]

    async def sent(self, count):
        await self.until(lambda: len(self.of(MessageSent)) >= count)

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():
                self._news.clear()
                await self._news.wait()

    def run_from(self, virtual, rate):
        self.clock.set(virtual, time.monotonic(), rate)
        self.fabric.traffic.clock_changed()

    async def server(self, server):
        """Start a server and return the queue of the connections made to it."""
        accepted = asyncio.Queue()

        def accept():
            accepted.put_nowait(self._keep(ServerEnd()))
            return self._ends[-1]

        loop = asyncio.get_running_loop()
        listener = await loop.create_server(accept, "127.0.0.1", 0)
        self._listeners.append(listener)
        host, port = listener.sockets[0].getsockname()
        self.fabric.server_starting(server)
        self.fabric.server_up(server, f"{host}:{port}")
        return accepted

    async def dial(self, dst):
        host, port = self.fabric.ports[dst].split(":")
        loop = asyncio.get_running_loop()
        _, end = await loop.create_connection(lambda: self._keep(End()), host, int(port))
        return end

    async def link(self, src, dst, accepted):
        """Connect two servers and return both ends after the handshake."""
        caller = await self.dial(dst)
        caller.say(preamble(src, dst))
        assert await caller.take() == WELCOME
        caller.say(PROOF)
        callee = accepted.get_nowait()
        assert await callee.take() == preamble(src, dst)
        assert await callee.take() == PROOF
        return caller, callee

    def _keep(self, end):
        self._ends.append(end)
        return end

    async def close(self):
        self.fabric.close()
        for listener in self._listeners:
            listener.close()
        for end in self._ends:
            end.transport.abort()
            await end.closed.wait()
        await asyncio.sleep(0)


WELCOME = Welcome(b"n" * 32, b"p" * 32)
PROOF = Proof(b"q" * 32)


def preamble(src, dst, caller=Caller.PEER):
    return Preamble(PROTOCOL_VERSION, "c", caller, src, dst, b"n" * 32)


def vote(src, dst, term):
    return RequestVote(src, dst, term, 0, 0)


@pytest.fixture
async def net():
    net = Net()
    await net.fabric.open()
    yield net
    await net.close()


async def test_the_handshake_passes_unchanged_though_time_stands_still(net):
    await net.link(1, 2, await net.server(2))
    assert net.told == []


async def test_a_message_is_announced_when_sent_and_arrives_when_due(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    message = AppendEntries(1, 2, 3, 0, 0, (), 0)
    caller.say(message)
    await net.sent(1)
    assert net.told == [MessageSent(1, message, 0.010)]
    net.run_from(0.0, rate=1.0)
    assert await callee.take() == message
    assert net.told[1:] == [MessageDelivered(1)]
    assert net.clock.now() >= 0.010
    assert net.fabric.received[1] == net.fabric.delivered[2] == 1


async def test_what_can_be_read_together_with_a_message_is_told_before_it(net):
    caller, _ = await net.link(1, 2, await net.server(2))
    server, lab = socket.socketpair()
    loop = asyncio.get_running_loop()
    with server, lab:
        lab.setblocking(False)
        loop.add_reader(lab, lambda: net.told.append(lab.recv(100)))
        caller.say(vote(1, 2, term=1))
        server.send(b"the cause")  # later, and so its place in the loop's turn comes later, too
        await net.sent(1)
        loop.remove_reader(lab)
    assert [type(what) for what in net.told] == [bytes, MessageSent]


async def test_frozen_time_delivers_nothing_even_if_it_is_due(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    caller.say(vote(1, 2, term=1))
    await net.sent(1)
    net.run_from(9.0, rate=0.0)
    caller.say(vote(1, 2, term=2))
    await net.sent(2)
    assert net.of(MessageDelivered) == []
    assert callee.frames.empty()


async def test_messages_of_a_link_stay_in_order_when_its_delay_shrinks(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    caller.say(vote(1, 2, term=1))
    await net.sent(1)
    assert net.fabric.rule((1, 2), delay=0.001)
    caller.say(vote(1, 2, term=2))
    await net.sent(2)
    net.run_from(0.0, rate=10.0)
    assert [(await callee.take()).term for _ in range(2)] == [1, 2]


async def test_a_shorter_delay_hastens_what_is_on_the_link_and_keeps_its_order(net):
    assert net.fabric.rule((1, 2), delay=5.0)
    caller, callee = await net.link(1, 2, await net.server(2))
    caller.say(vote(1, 2, term=1))
    await net.sent(1)
    net.run_from(1.0, rate=0.0)
    caller.say(vote(1, 2, term=2))
    await net.sent(2)
    assert net.fabric.rule((1, 2), delay=0.001)
    assert net.fabric.traffic.next_due().due == 1.001
    caller.say(vote(1, 2, term=3))
    await net.sent(3)
    assert net.of(MessageSent)[-1].due == 1.001
    net.run_from(1.0, rate=1.0)
    assert [(await callee.take()).term for _ in range(3)] == [1, 2, 3]
    assert net.clock.now() < 5.0


async def test_a_longer_delay_leaves_what_is_on_the_link_as_it_was(net):
    caller, _ = await net.link(1, 2, await net.server(2))
    caller.say(vote(1, 2, term=1))
    await net.sent(1)
    assert net.fabric.rule((1, 2), delay=5.0)
    assert net.fabric.traffic.next_due().due == 0.010


async def test_a_cut_loses_what_is_on_the_link_and_what_comes_later_in_one_direction(net):
    there, _ = await net.link(1, 2, await net.server(2))
    back, one = await net.link(2, 1, await net.server(1))
    there.say(vote(1, 2, term=1))
    await net.sent(1)
    assert net.fabric.rule((1, 2), cut=True)
    there.say(vote(1, 2, term=2))
    back.say(vote(2, 1, term=3))
    await net.sent(3)
    net.run_from(0.0, rate=1.0)
    assert (await one.take()).term == 3
    lost = {sent.message_id for sent in net.of(MessageSent) if sent.message.src == 1}
    assert {dropped.message_id for dropped in net.of(MessageDropped)} == lost
    assert {dropped.reason for dropped in net.of(MessageDropped)} == {DropReason.LINK_CUT}
    assert LinkChanged(1, 2, True, 0.010) in net.told


async def test_a_healed_link_carries_again_and_an_unchanged_rule_is_no_news(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    assert net.fabric.rule((1, 2), cut=True)
    assert not net.fabric.rule((1, 2), cut=True)
    assert net.fabric.rule((1, 2), cut=False)
    assert len(net.of(LinkChanged)) == 2
    caller.say(vote(1, 2, term=7))
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 7


async def test_messages_due_together_go_by_source_however_they_came_in(net):
    accepted = await net.server(2)
    three, _ = await net.link(3, 2, accepted)
    one, _ = await net.link(1, 2, accepted)
    three.say(vote(3, 2, term=1))
    await net.sent(1)
    one.say(vote(1, 2, term=1))
    await net.sent(2)
    due = net.fabric.traffic.next_due()
    assert (due.src, due.message_id) == (1, 2)
    net.fabric.traffic.deliver(due)
    assert net.of(MessageDelivered) == [MessageDelivered(2)]
    assert net.fabric.traffic.next_due().src == 3


async def test_a_destination_that_dies_loses_what_was_on_its_way_and_its_callers_redial(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    caller.say(vote(1, 2, term=1))
    await net.sent(1)
    net.fabric.server_down(2)
    callee.transport.abort()
    assert await caller.take() is None
    assert net.told[1:] == [MessageDropped(1, DropReason.SERVER_DOWN)]


async def test_a_caller_of_a_dead_server_must_dial_again(net):
    await net.server(2)
    net.fabric.server_down(2)
    caller = await net.dial(2)
    caller.say(preamble(1, 2))
    assert await caller.take() is None


async def test_a_caller_of_a_starting_server_reaches_it_as_soon_as_it_is_up(net):
    net.fabric.server_starting(2)
    patient, gone = await net.dial(2), await net.dial(2)
    patient.say(preamble(1, 2))
    gone.say(preamble(3, 2))
    gone.transport.close()
    await gone.closed.wait()
    listener = await asyncio.get_running_loop().create_server(
        lambda: net._keep(ServerEnd()), "127.0.0.1", 0
    )
    net._listeners.append(listener)
    net.fabric.server_up(2, f"127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    assert await patient.take() == WELCOME


async def test_a_server_that_does_not_come_up_sends_its_callers_away(net):
    net.fabric.server_starting(2)
    caller = await net.dial(2)
    caller.say(preamble(1, 2))
    await asyncio.sleep(0)
    net.fabric.server_down(2)
    assert await caller.take() is None


async def test_what_a_dead_source_sent_still_arrives(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    caller.say(vote(1, 2, term=5))
    caller.transport.close()
    await net.sent(1)
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 5
    assert await callee.take() is None, "and then its connection ends"


async def test_a_server_that_reads_nothing_loses_messages_and_holds_up_nobody(net):
    to_deaf, deaf = await net.link(1, 3, await net.server(3))
    to_two, two = await net.link(1, 2, await net.server(2))
    deaf.transport.pause_reading()
    net.run_from(0.0, rate=10.0)
    chunk = Entry(1, data=b"x" * 400_000)
    for _ in range(60):
        count = len(net.told)
        to_deaf.say(AppendEntries(1, 3, 1, 0, 0, (chunk,), 0))
        await net.until(lambda count=count: len(net.told) >= count + 2)
    assert {dropped.reason for dropped in net.of(MessageDropped)} == {DropReason.SERVER_DOWN}
    to_two.say(vote(1, 2, term=1))
    assert (await two.take()).term == 1


async def test_what_is_in_flight_is_bounded_by_reading_no_further(net):
    caller, callee = await net.link(1, 2, await net.server(2))
    message = AppendEntries(1, 2, 1, 0, 0, (Entry(1, data=b"x" * 900_000),), 0)
    for _ in range(60):
        caller.say(message)
    await net.sent(18)
    assert caller.transport.get_write_buffer_size() > 0
    net.run_from(0.0, rate=10.0)
    await net.sent(60)
    assert await callee.take() == message


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(vote(1, 2, term=1), id="no preamble"),
        pytest.param(preamble(0, 2, Caller.OBSERVER), id="an observer"),
        pytest.param(preamble(0, 2), id="a server without a number"),
        pytest.param(preamble(9, 2), id="an unknown server"),
        pytest.param(preamble(2, 2), id="itself"),
        pytest.param(preamble(1, 3), id="who wants another"),
    ],
)
async def test_a_wrong_caller_is_shown_the_door(net, frame):
    accepted = await net.server(2)
    stranger = await net.dial(2)
    stranger.say(frame)
    assert await stranger.take() is None
    assert len(net.of(Warned)) == 1
    assert accepted.empty()


async def test_a_caller_of_a_server_that_leaves_is_closed_without_a_word(net):
    caller = await net.dial(2)
    while not net.fabric._passages:
        await asyncio.sleep(0)
    net.fabric.leave(2)
    caller.say(preamble(0, 2, Caller.CLIENT))
    assert await caller.take() is None
    assert net.of(Warned) == []


async def test_a_caller_that_does_not_wait_for_its_answer_is_shown_the_door(net):
    stranger = await net.dial(2)
    stranger.say(preamble(1, 2), PROOF)
    assert await stranger.take() is None
    assert len(net.of(Warned)) == 1


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff" * 64, id="no frame"),
        pytest.param(encode(WELCOME)[:-8] + b"\xff" * 8, id="no handshake again"),
        pytest.param(encode(vote(3, 2, term=1)), id="another source"),
        pytest.param(encode(vote(1, 3, term=1)), id="another destination"),
        pytest.param(encode(ClientRequest(1, StatusQuery())), id="a client's frame"),
    ],
)
async def test_malformed_bytes_close_one_connection_and_the_network_goes_on(net, raw):
    accepted = await net.server(2)
    bad, _ = await net.link(1, 2, accepted)
    good, callee = await net.link(3, 2, accepted)
    bad.transport.write(raw)
    assert await bad.take() is None
    assert len(net.of(Warned)) == 1
    assert net.of(MessageSent) == []
    good.say(vote(3, 2, term=4))
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 4


async def test_all_linked_waits_for_the_last_link(net):
    accepted = {server: await net.server(server) for server in (1, 2, 3)}
    waiting = asyncio.ensure_future(net.fabric.all_linked((1, 2, 3)))
    for src, dst in net.fabric.server_links:
        assert not waiting.done()
        await net.link(src, dst, accepted[dst])
    async with asyncio.timeout(5):
        await waiting
