"""The client's handle in a session: commands go out until they are answered, and count once."""

from __future__ import annotations

import asyncio

import pytest

from raft.errors import NoLeaderError, OutcomeUnknownError, RaftError, RejectedError
from raft.frames import (
    ClientReply,
    ClientRequest,
    NotLeader,
    OutcomeUnknown,
    Propose,
    Reply,
    Result,
)
from raft.machine.sessions import OpenSession, Sessions, encode_request
from raft.transport import Connection
from tests.raft.scripted import ONE, TWO, Scripted, cluster, hangs_up, says, silent, until


class Machine:
    """A state machine with sessions that scripted servers share, as if they had replicated it."""

    def __init__(self, max_sessions: int = 10) -> None:
        self.journal: list[bytes] = []
        self.sessions = Sessions(self, max_sessions)
        self.index = 0

    def check(self, command: bytes) -> str | None:
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        self.journal.append(command)
        return b"answer to " + command

    def query(self, query: bytes) -> bytes:
        return b""

    def snapshot(self) -> bytes:
        return b""

    def restore(self, snapshot: bytes) -> None: ...

    def carry_out(self, request: ClientRequest) -> Result:
        assert isinstance(request.body, Propose)
        self.index += 1
        return Result(self.sessions.apply(self.index, request.body.data))

    def answers(self, request: ClientRequest, connection: Connection) -> Reply:
        return self.carry_out(request)

    def answer_is_lost(self, request: ClientRequest, connection: Connection) -> None:
        self.carry_out(request)
        connection.close("crashed")

    def open_another(self) -> None:
        """Let somebody else open a session; with room for one, all others expire."""
        self.index += 1
        self.sessions.apply(self.index, encode_request(OpenSession()))


async def test_bug_44_a_command_whose_answer_is_lost_is_sent_again_and_carried_out_once() -> None:
    """Retry applied twice; without sessions the client does not retry at all."""
    machine = Machine()
    one, two = Scripted(ONE, machine.answers), Scripted(TWO, machine.answers)
    async with cluster(one, two, sessions=True) as raft:
        assert await raft.propose(b"a") == b"answer to a"
        one.script = machine.answer_is_lost
        assert await raft.propose(b"b") == b"answer to b"
    assert machine.journal == [b"a", b"b"]
    assert one.bodies[-1] == two.bodies[-1], "it is the very same request"


@pytest.mark.parametrize("reply", [OutcomeUnknown("deposed"), NotLeader(TWO), None])
async def test_whatever_a_server_says_the_command_goes_to_the_next(
    reply: Reply | None, impatient: None
) -> None:
    machine = Machine()
    one, two = Scripted(ONE, machine.answers), Scripted(TWO, machine.answers)
    async with cluster(one, two, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = says(reply) if reply else silent
        assert await raft.propose(b"b") == b"answer to b"
    assert machine.journal == [b"a", b"b"]


async def test_one_session_serves_all_commands() -> None:
    machine = Machine()
    async with cluster(Scripted(ONE, machine.answers), sessions=True) as raft:
        commands = [b"%d" % number for number in range(100)]
        answers = await asyncio.gather(*map(raft.propose, commands))
    assert answers == [b"answer to " + command for command in commands]
    assert machine.index == 101, "one entry opens the session"


async def test_a_session_is_closed_with_the_handle() -> None:
    machine = Machine()
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        raft.close()
        await until(lambda: machine.sessions.open_sessions == 0)
        raft.close()
    assert len(one.requests) == 3, "once"


async def test_closing_waits_for_nobody_and_opens_nothing() -> None:
    machine = Machine()
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a", server=ONE)
    assert len(one.requests) == 1
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = hangs_up
        with pytest.raises(OutcomeUnknownError):
            await raft.propose(b"b", timeout=0.2)
    assert machine.sessions.open_sessions == 1, "nobody leads who could be told: it expires"


async def test_no_more_commands_are_under_way_than_a_session_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raft.session.MAX_UNANSWERED", 4)
    machine, most = Machine(), 0
    held: list[tuple[ClientRequest, Connection]] = []

    def hold(request: ClientRequest, connection: Connection) -> None:
        nonlocal most
        held.append((request, connection))
        most = max(most, len(held))
        asyncio.get_running_loop().call_later(0.001, answer_one)

    def answer_one() -> None:
        request, connection = held.pop(0)
        connection.send(ClientReply(request.id, machine.carry_out(request)))

    async with cluster(Scripted(ONE, hold), sessions=True) as raft:
        await asyncio.gather(*(raft.propose(b"%d" % number) for number in range(50)))
    assert len(machine.journal) == 50
    assert 1 < most <= 4


async def test_a_cancelled_command_leaves_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raft.session.MAX_UNANSWERED", 1)
    machine = Machine()
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = silent
        given_up = asyncio.create_task(raft.propose(b"b"))
        await until(lambda: len(one.requests) == 3)
        one.script = machine.answers
        waiting = asyncio.create_task(raft.propose(b"c"))
        given_up.cancel()
        assert await waiting == b"answer to c"


async def test_an_expired_session_is_replaced_when_that_is_safe() -> None:
    machine = Machine(max_sessions=1)
    async with cluster(Scripted(ONE, machine.answers), sessions=True) as raft:
        await raft.propose(b"a")
        machine.open_another()
        assert await raft.propose(b"b") == b"answer to b"
    assert machine.journal == [b"a", b"b"]


async def test_who_waits_for_room_in_a_session_that_expires_gets_it_in_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raft.session.MAX_UNANSWERED", 1)
    machine = Machine(max_sessions=1)
    held: list[tuple[ClientRequest, Connection]] = []
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        machine.open_another()
        one.script = lambda request, connection: held.append((request, connection))
        expiring = asyncio.create_task(raft.propose(b"b"))
        waiting = asyncio.create_task(raft.propose(b"c"))
        await until(lambda: bool(held))
        one.script = machine.answers
        (request, connection), *none = held
        connection.send(ClientReply(request.id, machine.carry_out(request)))
        assert await waiting == b"answer to c"
        assert await expiring == b"answer to b"
    assert not none
    assert sorted(machine.journal) == [b"a", b"b", b"c"]


async def test_who_waits_for_room_when_the_client_is_closed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raft.session.MAX_UNANSWERED", 1)
    machine = Machine()
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = silent
        sent = asyncio.create_task(raft.propose(b"b", timeout=None))
        waiting = asyncio.create_task(raft.propose(b"c", timeout=None))
        await until(lambda: len(one.requests) == 3)
        raft.close()
        with pytest.raises(RaftError, match="the client is closed") as failure:
            await waiting
        assert not isinstance(failure.value, OutcomeUnknownError), "it was never sent"
        with pytest.raises(OutcomeUnknownError):
            await sent
    assert machine.journal == [b"a"]


async def test_a_session_that_expired_with_the_answer_leaves_the_outcome_unknown() -> None:
    machine = Machine(max_sessions=1)
    one = Scripted(ONE, machine.answers)

    def expires(request: ClientRequest, connection: Connection) -> None:
        machine.answer_is_lost(request, connection)
        machine.open_another()
        one.script = machine.answers

    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = expires
        with pytest.raises(OutcomeUnknownError, match="the session has expired"):
            await raft.propose(b"b")
        assert await raft.propose(b"c") == b"answer to c"
    assert machine.journal == [b"a", b"b", b"c"]


async def test_out_of_time_it_is_unknown_only_if_it_was_sent() -> None:
    machine = Machine()
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = says(NotLeader(None))
        with pytest.raises(NoLeaderError):
            await raft.propose(b"b", timeout=0.2)
        one.script = hangs_up
        with pytest.raises(OutcomeUnknownError, match=r"may have been carried out; within 0.2 s"):
            await raft.propose(b"c", timeout=0.2)


async def test_what_is_certain_when_the_client_is_closed() -> None:
    machine = Machine()
    one = Scripted(ONE, machine.answers)
    async with cluster(one, sessions=True) as raft:
        await raft.propose(b"a")
        one.script = silent
        asking = asyncio.create_task(raft.propose(b"b", timeout=None))
        await until(lambda: len(one.requests) == 3)
        raft.close()
        with pytest.raises(OutcomeUnknownError, match="the client is closed"):
            await asking


async def test_a_session_is_opened_again_when_nobody_answered() -> None:
    machine = Machine()
    one = Scripted(ONE, machine.answer_is_lost)
    async with cluster(one, sessions=True) as raft:
        with pytest.raises(NoLeaderError, match="server 1: "):
            await raft.propose(b"a", timeout=0.2)
        one.script = machine.answers
        assert await raft.propose(b"a") == b"answer to a"
    assert machine.journal == [b"a"]


async def test_servers_without_sessions_are_noticed() -> None:
    async with cluster(Scripted(ONE, says(Result(b"what?"))), sessions=True) as raft:
        with pytest.raises(RejectedError, match="these servers have no sessions"):
            await raft.propose(b"a")
