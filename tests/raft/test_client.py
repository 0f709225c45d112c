"""The client's handle against servers that answer by a script: what it retries, and what never."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from raft.client import Raft
from raft.core.membership import Remove
from raft.core.messages import ServerId
from raft.errors import (
    NoLeaderError,
    NotLeaderError,
    OutcomeUnknownError,
    RefusedError,
    RejectedError,
    UnknownServerError,
    UnreachableError,
)
from raft.frames import (
    ClientReply,
    ClientRequest,
    NotLeader,
    OutcomeUnknown,
    Propose,
    Read,
    Rejected,
    Reply,
    Result,
)
from raft.machine.base import MAX_COMMAND_BYTES
from raft.transport import Connection, calling, format_address
from tests.raft.scripted import (
    CLUSTER,
    ONE,
    SECRET,
    THREE,
    TWO,
    Script,
    Scripted,
    cluster,
    hangs_up,
    says,
    silent,
    status,
)

Ask = Callable[[Raft], Awaitable[bytes]]
BOTH = pytest.mark.parametrize(
    "ask", [lambda raft: raft.propose(b"c"), lambda raft: raft.read(b"q")], ids=["propose", "read"]
)


# --- Finding the leader ----------------------------------------------------------------------


@BOTH
async def test_a_hint_is_followed_by_id(ask: Ask) -> None:
    one, two = Scripted(ONE, says(NotLeader(THREE))), Scripted(TWO, says(NotLeader(None)))
    three = Scripted(THREE, says(Result(b"done")))
    async with cluster(one, two, three) as raft:
        assert await ask(raft) == b"done"
        assert len(one.requests) == 1
        assert two.requests == []
        assert await ask(raft) == b"done"
        assert len(one.requests) == 1, "the leader is remembered"


@BOTH
async def test_while_nobody_leads_it_waits(ask: Ask) -> None:
    def elected_at_last(request: ClientRequest, connection: Connection) -> Reply:
        return NotLeader(None) if len(one.requests) < 4 else Result(b"done")

    one, two = Scripted(ONE, elected_at_last), Scripted(TWO, says(NotLeader(None)))
    async with cluster(one, two) as raft:
        assert await ask(raft) == b"done"
        assert len(two.requests) == 3


@BOTH
async def test_a_hint_to_a_dead_or_unknown_leader_is_no_dead_end(ask: Ask) -> None:
    def elected_at_last(request: ClientRequest, connection: Connection) -> Reply:
        hint = NotLeader(ONE if len(two.requests) % 2 else ServerId(9))
        return hint if len(two.requests) < 4 else Result(b"done")

    one, two = Scripted(ONE, says(NotLeader(None))), Scripted(TWO, elected_at_last)
    async with cluster(one, two) as raft:
        one.stop()
        assert await ask(raft) == b"done"


@BOTH
async def test_two_servers_that_point_at_each_other_do_not_trap_it(ask: Ask) -> None:
    one, two = Scripted(ONE, says(NotLeader(TWO))), Scripted(TWO, says(NotLeader(ONE)))
    three = Scripted(THREE, says(Result(b"done")))
    async with cluster(one, two, three) as raft:
        assert await ask(raft) == b"done"
        assert len(one.requests) == len(two.requests) == 1


@BOTH
async def test_a_deposed_leader_is_left(ask: Ask) -> None:
    one, two = Scripted(ONE, says(Result(b"first"))), Scripted(TWO, says(NotLeader(ONE)))
    async with cluster(one, two) as raft:
        assert await ask(raft) == b"first"
        one.script, two.script = says(NotLeader(TWO)), says(Result(b"second"))
        assert await ask(raft) == b"second"


@BOTH
async def test_a_server_that_accepts_but_says_nothing_is_passed_over(
    ask: Ask, mute: str, impatient: None
) -> None:
    two = Scripted(TWO, says(Result(b"done")))
    servers = {ONE: mute, TWO: await two.start()}
    async with Raft(servers, CLUSTER, SECRET, sessions=False) as raft:
        assert await ask(raft) == b"done"
    two.stop()


async def test_without_a_leader_it_says_what_each_server_said() -> None:
    one, two = Scripted(ONE, says(NotLeader(None))), Scripted(TWO, says(NotLeader(ONE)))
    async with cluster(one, two) as raft:
        with pytest.raises(NoLeaderError) as caught:
            await raft.propose(b"c", timeout=0.3)
    assert "within 0.3 s" in str(caught.value)
    assert "server 1 does not lead; it knows of no leader" in str(caught.value)
    assert "server 2 does not lead; it says that server 1 leads" in str(caught.value)


async def test_without_any_server_nothing_was_done() -> None:
    one = Scripted(ONE, says(Result(b"")))
    address = await one.start()
    one.stop()
    async with Raft({ONE: address}, CLUSTER, SECRET, sessions=False) as raft:
        with pytest.raises(NoLeaderError, match=r"server 1: 127\.0\.0\.1:\d+: "):
            await raft.propose(b"c", timeout=0.3)


# --- What is never done twice ----------------------------------------------------------------


@pytest.mark.parametrize("script", [hangs_up, says(OutcomeUnknown("deposed")), says(status(ONE))])
async def test_bug_44_a_command_that_may_be_in_a_log_is_not_sent_again(script: Script) -> None:
    """A retry applied twice: the client is told, and the application decides."""
    one, two = Scripted(ONE, script), Scripted(TWO, script)
    async with cluster(one, two) as raft:
        with pytest.raises(OutcomeUnknownError, match="server 1"):
            await raft.propose(b"c")
    assert len(one.requests) + len(two.requests) == 1


async def test_a_command_without_an_answer_in_time_is_unknown_and_the_next_goes_elsewhere() -> None:
    one, two = Scripted(ONE, says(Result(b"led"))), Scripted(TWO, says(Result(b"done")))
    async with cluster(one, two) as raft:
        assert await raft.propose(b"b") == b"led"
        one.script = silent
        with pytest.raises(OutcomeUnknownError, match=r"server 1 .*within 0.1 s"):
            await raft.propose(b"c", timeout=0.1)
        assert two.requests == []
        assert await raft.propose(b"d") == b"done"
    assert one.bodies == [Propose(b"b"), Propose(b"c")]


async def test_a_command_that_never_left_is_not_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads too slowly: the transport takes no more for it."""
    send = Connection.send
    monkeypatch.setattr(
        Connection,
        "send",
        lambda self, frame: not isinstance(frame, ClientRequest) and send(self, frame),
    )
    one = Scripted(ONE, says(Result(b"")))
    async with cluster(one) as raft:
        with pytest.raises(NoLeaderError, match="it does not read what it is sent"):
            await raft.propose(b"c", timeout=0.2)
    assert one.requests == []


async def test_a_query_is_asked_again_when_the_connection_breaks() -> None:
    one, two = Scripted(ONE, hangs_up), Scripted(TWO, says(Result(b"done")))
    async with cluster(one, two) as raft:
        assert await raft.read(b"q") == b"done"
    assert one.bodies == two.bodies == [Read(b"q")]


async def test_a_query_without_an_answer_is_asked_elsewhere(impatient: None) -> None:
    one, two = Scripted(ONE, silent), Scripted(TWO, says(Result(b"done")))
    async with cluster(one, two) as raft:
        assert await raft.read(b"q") == b"done"


@pytest.mark.parametrize("script", [silent, hangs_up])
async def test_a_query_is_never_unknown(script: Script, impatient: None) -> None:
    async with cluster(Scripted(ONE, script)) as raft:
        with pytest.raises(NoLeaderError, match="server 1: "):
            await raft.read(b"q", timeout=0.2)


async def test_a_rejected_command_is_not_tried_elsewhere() -> None:
    one, two = Scripted(ONE, says(Rejected("too long"))), Scripted(TWO, says(Result(b"")))
    async with cluster(one, two) as raft:
        with pytest.raises(RejectedError, match="too long"):
            await raft.propose(b"c")
    assert two.requests == []


async def test_what_is_too_long_is_refused_here() -> None:
    one = Scripted(ONE, says(Result(b"")))
    async with cluster(one) as raft:
        with pytest.raises(RejectedError, match="has 131073 bytes; at most 131072 are taken"):
            await raft.propose(bytes(MAX_COMMAND_BYTES + 1))
        with pytest.raises(RejectedError, match="over the limit"):
            await raft.read(bytes(2 << 20))
        assert not one.requests
        assert await raft.propose(bytes(MAX_COMMAND_BYTES)) == b"", "the connection goes on"


@pytest.mark.parametrize("data", [bytearray(b"c"), memoryview(b"c")])
async def test_other_kinds_of_bytes_are_taken_as_they_are_when_asked(
    data: bytearray | memoryview,
) -> None:
    one = Scripted(ONE, says(Result(b"done")))
    async with cluster(one) as raft:
        asked = (raft.propose(data), raft.propose(b"c"), raft.read(data), raft.read(b"c"))
        assert await asyncio.gather(*asked) == [b"done"] * 4
    assert sorted(one.bodies, key=repr) == [Propose(b"c")] * 2 + [Read(b"c")] * 2


@pytest.mark.parametrize("data", ["text", None, 5, [1]])
@pytest.mark.parametrize("sessions", [False, True])
async def test_what_is_no_bytes_fails_alone(sessions: bool, data: bytes) -> None:
    async with cluster(Scripted(ONE, says(Result(b"done"))), sessions=sessions) as raft:
        asked = (raft.propose(data), raft.read(data), raft.read(b"q"))
        command, query, neighbour = await asyncio.gather(*asked, return_exceptions=True)
    for error, what in ((command, "a command"), (query, "a query")):
        assert isinstance(error, TypeError)
        assert str(error) == f"{what} is bytes, not {type(data).__name__}"
    assert neighbour == b"done"


async def test_a_server_that_is_said_to_lead_is_asked_first() -> None:
    one, two = Scripted(ONE, silent), Scripted(TWO, says(Result(b"done")))
    async with cluster(one, two) as raft:
        raft.prefer(TWO)
        assert await raft.propose(b"c") == b"done"
        assert not one.requests
        with pytest.raises(UnknownServerError, match="no server 3"):
            raft.prefer(THREE)


# --- One server by name ----------------------------------------------------------------------


@pytest.mark.parametrize("leader", [TWO, None])
async def test_a_pinned_request_goes_nowhere_else(leader: ServerId | None) -> None:
    one, two = Scripted(ONE, says(NotLeader(leader))), Scripted(TWO, says(Result(b"")))
    async with cluster(one, two) as raft:
        with pytest.raises(NotLeaderError) as caught:
            await raft.propose(b"c", server=ONE)
        assert (caught.value.server, caught.value.leader) == (ONE, leader)
        with pytest.raises(NotLeaderError):
            await raft.read(b"q", server=ONE)
        assert await raft.propose(b"c", server=TWO) == b""
    assert len(one.requests) == 2
    assert len(two.requests) == 1


async def test_a_pinned_request_out_of_time() -> None:
    async with cluster(Scripted(ONE, silent)) as raft:
        with pytest.raises(OutcomeUnknownError, match=r"within 0.1 s"):
            await raft.propose(b"c", timeout=0.1, server=ONE)
        with pytest.raises(UnreachableError, match=r"no answer within 0.1 s"):
            await raft.read(b"q", timeout=0.1, server=ONE)


async def test_a_caller_may_end_the_wait_itself() -> None:
    one = Scripted(ONE, silent)
    async with cluster(one) as raft:
        limit = asyncio.timeout(None)
        command = asyncio.create_task(raft.propose(b"c", timeout=limit))
        await asyncio.wait_for(one.asked.wait(), 5)
        limit.reschedule(asyncio.get_running_loop().time())
        with pytest.raises(OutcomeUnknownError, match="no answer in time"):
            await command


async def test_a_server_that_moved_is_asked_at_its_new_address() -> None:
    old, new = Scripted(ONE, says(Result(b"old"))), Scripted(ONE, says(Result(b"new")))
    async with cluster(old) as raft:
        assert await raft.propose(b"c") == b"old"
        address = await new.start()
        raft.moved(ONE, address)
        assert raft.servers == {ONE: address}
        assert await raft.propose(b"c") == b"new"
        with pytest.raises(ValueError, match="'nowhere' is not an address"):
            raft.moved(ONE, "nowhere")
    new.stop()


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10])
async def test_a_server_that_moves_while_it_is_called_is_called_at_its_new_address(
    turns: int, mute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calling, "HANDSHAKE_SECONDS", 600.0)
    new = Scripted(ONE, says(Result(b"new")))
    address = await new.start()
    async with Raft({ONE: mute}, CLUSTER, SECRET, sessions=False) as raft:
        asking = asyncio.create_task(raft.read(b"q", timeout=None))
        for _ in range(turns):
            await asyncio.sleep(0)
        raft.moved(ONE, address)
        assert await asyncio.wait_for(asking, 10) == b"new"
    new.stop()


async def test_a_pinned_request_to_a_dead_server_fails_at_once() -> None:
    one = Scripted(ONE, silent)
    async with cluster(one) as raft:
        one.stop()
        with pytest.raises(UnreachableError):
            await raft.propose(b"c", timeout=None, server=ONE)


async def test_status_is_every_servers_own() -> None:
    one, two = Scripted(ONE, says(status(ONE))), Scripted(TWO, silent)
    async with cluster(one, two) as raft:
        assert await raft.status(ONE) == status(ONE)
        with pytest.raises(UnreachableError, match=r"server 2: no answer within 0.1 s"):
            await raft.status(TWO, timeout=0.1)
        two.script = hangs_up
        with pytest.raises(UnreachableError, match="server 2: "):
            await raft.status(TWO)
        two.script = says(Result(b""))
        with pytest.raises(UnreachableError, match="answered with Result"):
            await raft.status(TWO)


async def test_a_server_that_does_not_exist() -> None:
    async with cluster(Scripted(ONE, silent), Scripted(TWO, silent)) as raft:
        for ask in (
            lambda: raft.status(ServerId(7)),
            lambda: raft.wait(lambda status: True, server=ServerId(7)),
            lambda: anext(raft.events(ServerId(7))),
            lambda: raft.snapshot(ServerId(7)),
            lambda: raft.propose(b"c", server=ServerId(7)),
        ):
            with pytest.raises(UnknownServerError, match="there are 1, 2"):
                await ask()


@pytest.mark.parametrize("number", [0, -4, 2**63, "1"])
async def test_what_is_no_servers_number(number: int) -> None:
    server = ServerId(number)
    with pytest.raises(ValueError, match=f"{number!r} is no server's number: one from 1 on is"):
        Raft({server: "127.0.0.1:1"}, CLUSTER, SECRET)
    async with cluster(Scripted(ONE, silent)) as raft:
        for call in (raft.transfer_leadership(server), raft.change_membership([Remove(server)])):
            with pytest.raises(ValueError, match="is no server's number"):
                await call


# --- Who talks to whom -----------------------------------------------------------------------


async def test_who_is_no_server_of_ours_is_named_once() -> None:
    async def say_hello(reader: object, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        writer.close()

    other = await asyncio.start_server(say_hello, "127.0.0.1", 0)
    address = format_address(*other.sockets[0].getsockname())
    async with other, Raft({ONE: address}, CLUSTER, SECRET) as raft:
        with pytest.raises(UnreachableError, match=f"^server 1: {address}: unreadable frame"):
            await raft.status(ONE)


async def test_without_a_certificate_nobody_is_called_on_another_machine() -> None:
    """Whoever is on the way could read and forge all that is said."""
    async with Raft({ONE: "192.0.2.1:7001"}, CLUSTER, SECRET) as raft:
        with pytest.raises(RefusedError, match=r"'192.0.2.1' is not on this machine"):
            await raft.propose(b"c")


@BOTH
async def test_bug_52_another_secret_or_cluster_is_refused_with_the_reason(ask: Ask) -> None:
    """Two clusters talk: neither the secret nor the name fits."""
    one = Scripted(ONE, says(Result(b"")))
    async with cluster(one, secret=b"x" * 32) as raft:
        with pytest.raises(RefusedError, match="could not prove that it knows the secret"):
            await ask(raft)
        address = raft.servers[ONE]
        async with Raft({ONE: address}, "other", SECRET, sessions=False) as other:
            with pytest.raises(RefusedError, match="'test', the caller to 'other'"):
                await ask(other)
        async with Raft({TWO: address}, CLUSTER, SECRET, sessions=False) as other:
            with pytest.raises(RefusedError, match="this is server 1, the caller wants 2"):
                await ask(other)
    assert one.requests == []


@BOTH
async def test_one_stranger_among_the_addresses_does_not_stop_it(ask: Ask) -> None:
    """A dead server's port may be somebody else's by now."""
    stranger = Scripted(ONE, says(Result(b"forged")), secret=b"x" * 32)
    two = Scripted(TWO, lambda *_: Result(b"done") if len(two.requests) > 1 else NotLeader(ONE))
    async with cluster(stranger, two) as raft:
        assert await ask(raft) == b"done"
    assert stranger.requests == []


@pytest.mark.parametrize(
    ("servers", "name", "secret"),
    [
        ({}, CLUSTER, SECRET),
        ({1: "nowhere"}, CLUSTER, SECRET),
        ({1: "127.0.0.1:1"}, "", SECRET),
        ({1: "127.0.0.1:1"}, CLUSTER, b"short"),
    ],
)
def test_what_cannot_be_a_cluster(servers: dict[int, str], name: str, secret: bytes) -> None:
    with pytest.raises(ValueError):
        Raft({ServerId(server): address for server, address in servers.items()}, name, secret)


# --- Many requests at once -------------------------------------------------------------------


async def test_requests_share_a_connection_and_replies_come_in_any_order() -> None:
    held: list[tuple[ClientRequest, Connection]] = []

    def hold(request: ClientRequest, connection: Connection) -> None:
        held.append((request, connection))
        if len(held) == 50:
            for request, connection in reversed(held):
                assert isinstance(request.body, Propose)
                connection.send(ClientReply(request.id, Result(b"re " + request.body.data)))

    one = Scripted(ONE, hold)
    async with cluster(one) as raft:
        answers = await asyncio.gather(*(raft.propose(b"%d" % n) for n in range(50)))
    assert answers == [b"re %d" % n for n in range(50)]
    assert len(one.connections) == 1


async def test_a_cancelled_request_leaves_the_others_alone() -> None:
    one = Scripted(ONE, silent)
    async with cluster(one) as raft:
        given_up = asyncio.create_task(raft.propose(b"a"))
        await asyncio.wait_for(one.asked.wait(), 5)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        # Its reply comes after all, and is nobody's.
        (connection,), (late,) = one.connections, one.requests
        connection.send(ClientReply(late.id, Result(b"late")))
        one.script = says(Result(b"mine"))
        assert await raft.propose(b"b") == b"mine"
        assert len(one.connections) == 1


async def test_a_second_reply_is_nobodys() -> None:
    def twice(request: ClientRequest, connection: Connection) -> Reply:
        connection.send(ClientReply(request.id, Result(b"first")))
        return Result(b"second")

    one = Scripted(ONE, twice)
    async with cluster(one) as raft:
        assert [await raft.propose(b"c") for _ in range(3)] == [b"first"] * 3
    assert len(one.connections) == 1


async def test_after_a_silence_the_server_is_asked_over_a_new_connection() -> None:
    """If it is paused it cannot open one, and nothing is entrusted to it."""
    one = Scripted(ONE, silent)
    async with cluster(one) as raft:
        with pytest.raises(OutcomeUnknownError):
            await raft.propose(b"c", timeout=0.1)
        one.script = says(Result(b"done"))
        assert await raft.propose(b"d") == b"done"
    assert len(one.connections) == 2


async def test_a_silent_server_does_not_hold_up_who_waits_on_it(impatient: None) -> None:
    """One query gives up a server; what waits on the old connection still gets its answer."""
    held: list[tuple[ClientRequest, Connection]] = []

    def hold(request: ClientRequest, connection: Connection) -> None:
        held.append((request, connection))

    one, two = Scripted(ONE, hold), Scripted(TWO, says(Result(b"two")))
    async with cluster(one, two) as raft:
        command = asyncio.create_task(raft.propose(b"c"))
        await asyncio.wait_for(one.asked.wait(), 5)
        assert await raft.read(b"q") == b"two"
        request, connection = held[0]
        connection.send(ClientReply(request.id, Result(b"one")))
        assert await command == b"one"


async def test_who_is_cancelled_while_connecting_leaves_the_attempt_to_the_others() -> None:
    one = Scripted(ONE, says(Result(b"done")))
    async with cluster(one) as raft:
        given_up, waiting = (asyncio.create_task(raft.read(b"q")) for _ in range(2))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert await waiting == b"done"
    assert len(one.connections) == 1
