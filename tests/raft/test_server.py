"""One process, whole servers: core, store, transport and clock together on one loop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from raft import observers
from raft.core.core import Config, Core
from raft.core.events import CommitAdvanced, EntriesAppended, Role, RoleChanged, TimerArmed
from raft.core.log import HardState, InvariantViolation
from raft.core.membership import MAX_CONFIGURATION_BYTES, AddLearner
from raft.core.messages import Entry, EntryKind, Index, InstallSnapshot, ServerId, Term
from raft.core.ready import Refusal
from raft.core.rules import Rules
from raft.frames import (
    Barrier,
    BarrierReached,
    Caller,
    Campaign,
    ChangeMembers,
    ClientReply,
    ClientRequest,
    Declined,
    FireTimer,
    Frame,
    FromClient,
    FromServer,
    NotLeader,
    Observation,
    ObservationsLost,
    ObservedEvent,
    Proposals,
    Propose,
    Queries,
    Read,
    Rejected,
    Reply,
    Request,
    Result,
    Results,
    ServerState,
    SetClock,
    Status,
    StatusQuery,
)
from raft.machine.base import StateMachineError
from raft.server import MAX_COMMAND_BYTES, MAX_PAYLOAD, Server, ServerConfig
from raft.storage.memory import MemoryStore
from raft.transport import Connection, Identity, connect
from raft.wire import MAX_FRAME, encode

SECRET = b"s" * 32
CLUSTER = "test"
ONE, TWO = ServerId(1), ServerId(2)


class Journal:
    """A state machine that remembers its commands."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def check(self, data: bytes) -> str | None:
        return None

    def apply(self, index: int, data: bytes) -> bytes:
        if data == b"poison":
            raise RuntimeError("the state machine cannot go on")
        self.commands.append(data)
        return b"%d" % index

    def query(self, data: bytes) -> bytes:
        return b",".join(self.commands)

    def snapshot(self) -> bytes:
        return b""

    def restore(self, data: bytes) -> None:
        self.commands = []


class Seat:
    """One server of the test's cluster, and what its observer saw."""

    def __init__(self, server: Server, address: str) -> None:
        self.server = server
        self.address = address
        self.running = asyncio.ensure_future(server.run())
        self.seen: list[ObservedEvent] = []
        self._changed = asyncio.Event()
        self.observer: Connection | None = None
        self.gone = asyncio.Event()

    async def observe(self) -> None:
        me = self.server.core.config.server
        self.observer = await connect(
            self.address,
            Identity(CLUSTER, None, SECRET),
            Caller.OBSERVER,
            me,
            self._see,
            lambda reason: self.gone.set(),
        )

    def _see(self, frame: Frame) -> None:
        assert isinstance(frame, Observation)
        self.seen.append(frame.event)
        self._changed.set()

    async def until(self, wanted: Callable[[ObservedEvent], bool]) -> ObservedEvent:
        async with asyncio.timeout(20):
            while not any(map(wanted, self.seen)):
                self._changed.clear()
                await self._changed.wait()
        return next(filter(wanted, self.seen))

    async def ask(self, body: Request) -> Reply:
        (reply,) = await self.send(ClientRequest(7, body))
        assert isinstance(reply, ClientReply)
        assert reply.id == 7
        return reply.body

    async def ask_many(self, frame: Proposals | Queries) -> dict[int, Reply]:
        """Return what each id is answered, in whatever frames."""
        answers: dict[int, Reply] = {}
        for reply in await self.send(frame):
            if isinstance(reply, Results):
                answers |= dict(zip(reply.ids, map(Result, reply.datas), strict=True))
            else:
                answers[reply.id] = reply.body
        return answers

    async def send(self, frame: FromClient) -> list[FromServer]:
        """Send a frame and return the frames that answer all of its requests."""
        replies: asyncio.Queue[Frame] = asyncio.Queue()
        me = self.server.core.config.server
        connection = await connect(
            self.address,
            Identity(CLUSTER, None, SECRET),
            Caller.CLIENT,
            me,
            replies.put_nowait,
            lambda reason: None,
        )
        connection.send(frame)
        unanswered = 1 if isinstance(frame, ClientRequest) else len(frame.ids)
        frames: list[FromServer] = []
        async with asyncio.timeout(20):
            while unanswered:
                reply = await replies.get()
                assert isinstance(reply, FromServer)
                frames.append(reply)
                unanswered -= len(reply.ids) if isinstance(reply, Results) else 1
        connection.close("done")
        return frames


@asynccontextmanager
async def seat(
    *,
    attended: bool = False,
    members: tuple[int, ...] = (1,),
    rules: Rules | None = None,
    entries: tuple[Entry, ...] = (),
    heartbeat_interval: float = 0.050,
) -> AsyncIterator[Seat]:
    ids = tuple(map(ServerId, members))
    config = ServerConfig(
        core=Config(ServerId(1), ids, heartbeat_interval=heartbeat_interval),
        cluster=CLUSTER,
        secret=SECRET,
        listen="127.0.0.1:0",
        peers={ServerId(m): "127.0.0.1:9" for m in members if m != 1},
        seed=1,
        attended=attended,
    )
    server = Server(
        config, MemoryStore(HardState(Term(1)) if entries else None, entries), Journal(), rules
    )
    place = Seat(server, await server.start())
    await place.observe()
    try:
        yield place
    finally:
        server.stop()
        with suppress(StateMachineError, InvariantViolation):
            await place.running


def is_leader(event: ObservedEvent) -> bool:
    state_says = isinstance(event, ServerState) and event.role is Role.LEADER
    return state_says or (isinstance(event, RoleChanged) and event.role is Role.LEADER)


@pytest.mark.parametrize(("interval", "told"), [(0.050, False), (0.140, True)])
async def test_heartbeats_that_are_too_rare_are_logged(
    interval: float, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async with seat(heartbeat_interval=interval):
        assert ("heartbeats every 140 ms are too rare" in caplog.text) is told


async def test_a_server_alone_elects_itself_and_serves() -> None:
    async with seat() as one:
        await one.until(is_leader)
        assert await one.ask(Propose(b"a")) == Result(b"2")
        assert await one.ask(Read(b"")) == Result(b"a")
        status = await one.ask(StatusQuery())
        assert isinstance(status, Status)
        assert (status.role, status.leader, status.last_index) == (Role.LEADER, 1, 2)


async def test_bug_49_an_empty_command_is_a_command() -> None:
    async with seat() as one:
        await one.until(is_leader)
        assert await one.ask(Propose(b"")) == Result(b"2")
        assert await one.ask(Propose(b"b")) == Result(b"3")


async def test_bug_49_an_error_of_the_state_machine_ends_the_server_visibly() -> None:
    async with seat() as one:
        await one.until(is_leader)
        asking = asyncio.ensure_future(one.ask(Propose(b"poison")))
        with pytest.raises(StateMachineError) as failure:
            await one.running
        assert (failure.value.index, failure.value.size) == (2, 6)
        assert str(failure.value).startswith(
            "the state machine failed on entry 2, a command of 6 bytes: "
            "RuntimeError: the state machine cannot go on; it is committed"
        )
        assert one.server.core.last_applied == 1
        asking.cancel()


async def test_a_command_over_the_limit_is_refused_before_it_enters_the_log() -> None:
    async with seat() as one:
        await one.until(is_leader)
        reply = await one.ask(Propose(bytes(MAX_COMMAND_BYTES + 1)))
        assert isinstance(reply, Rejected)
        assert str(MAX_COMMAND_BYTES) in reply.detail
        assert one.server.core.log.last_index == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ([AddLearner(TWO, "h" * 600_000 + ":7001")], "a host has at most 255"),
        ([AddLearner(TWO, "\x01" * 300_000)], "a host has at most 255"),
        (
            [AddLearner(ServerId(n), f"{'x.' * 120}:7001") for n in range(2, 700)],
            f"at most {MAX_CONFIGURATION_BYTES} are taken",
        ),
    ],
    ids=["host", "no port", "many"],
)
async def test_what_no_message_could_carry_never_enters_the_log(
    changes: list[AddLearner], why: str
) -> None:
    async with seat() as one:
        await one.until(is_leader)
        await one.until(lambda e: isinstance(e, CommitAdvanced))
        reply = await one.ask(ChangeMembers(tuple(changes), False, Index(0)))
        assert isinstance(reply, Declined)
        assert reply.reason is Refusal.IMPOSSIBLE
        assert why in reply.detail
        assert len(reply.detail) < 1000
        assert one.server.core.log.last_index == 1


def test_the_longest_configuration_fits_into_a_message_with_a_piece_of_a_snapshot() -> None:
    ids = (ONE, TWO, Term(1), Index(1), Term(1))
    configuration, piece = bytes(MAX_CONFIGURATION_BYTES), bytes(MAX_PAYLOAD)
    message = InstallSnapshot(*ids, configuration, 2**32, 0, 0, piece, 1, Index(1))
    assert len(encode(message)) < MAX_FRAME


def test_a_server_does_not_begin_with_what_no_message_could_carry() -> None:
    core = Config(ONE, (ONE,), addresses=((ONE, "h" * MAX_CONFIGURATION_BYTES),))
    with pytest.raises(ValueError, match=f"at most {MAX_CONFIGURATION_BYTES} are taken"):
        ServerConfig(core, CLUSTER, SECRET)


async def test_many_commands_are_appended_together_and_answered_together() -> None:
    async with seat() as one:
        await one.until(is_leader)
        ids = tuple(range(100, 200))
        commands = tuple(b"%d" % number for number in ids)
        (reply,) = await one.send(Proposals(ids, commands))
        assert reply == Results(ids, tuple(b"%d" % index for index in range(2, 102)))
        appended = [e for e in one.seen if isinstance(e, EntriesAppended)]
        assert [len(each.entries) for each in appended] == [1, 100]
        (reply,) = await one.send(Queries((7, 8), (b"", b"")))
        assert reply == Results((7, 8), (b",".join(commands),) * 2)


async def test_of_many_commands_those_that_make_no_sense_are_refused_alone() -> None:
    async with seat() as one:
        await one.until(is_leader)
        answers = await one.ask_many(
            Proposals((5, 6, 7), (b"a", bytes(MAX_COMMAND_BYTES + 1), b"c"))
        )
        assert (answers[5], answers[7]) == (Result(b"2"), Result(b"3"))
        assert isinstance(answers[6], Rejected)


async def test_many_results_that_do_not_fit_in_a_frame_come_in_several() -> None:
    async with seat() as one:
        await one.until(is_leader)
        await one.ask(Propose(bytes(100_000)))
        frames = await one.send(Queries(tuple(range(20)), (b"",) * 20))
        results = [frame for frame in frames if isinstance(frame, Results)]
        assert [id_ for frame in results for id_ in frame.ids] == list(range(20))
        assert {data for frame in results for data in frame.datas} == {bytes(100_000)}


async def test_many_requests_to_a_server_that_does_not_lead() -> None:
    async with seat(attended=True, members=(1, 2, 3)) as one:
        nobody = {3: NotLeader(None), 4: NotLeader(None)}
        assert await one.ask_many(Proposals((3, 4), (b"a", b"b"))) == nobody
        assert await one.ask_many(Queries((3, 4), (b"", b""))) == nobody


async def test_no_requests_are_no_error() -> None:
    async with seat() as one:
        await one.until(is_leader)
        assert await one.send(Proposals((), ())) == await one.send(Queries((), ())) == []
        assert await one.ask(Propose(b"a")) == Result(b"2")


@pytest.mark.parametrize(("room", "first"), [(9999, 1), (284, 9), (283, 10), (9, 11)])
def test_of_a_log_that_does_not_fit_in_a_frame_an_observer_is_shown_the_end(
    room: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "STATE_BYTES", room)
    terms = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)
    entries = tuple(Entry(Term(term), EntryKind.COMMAND, bytes(110)) for term in terms)
    core = Core(Config(ONE, (ONE,)), HardState(Term(3)), entries, random.Random(1), 0.0)
    state = observers.server_state(core, "here")
    assert state.first_index == first
    assert state.entries == entries[first - 1 :]
    assert state.snapshot_term == (0, *terms)[first - 1]


async def test_a_follower_sends_clients_to_the_leader_it_knows() -> None:
    async with seat(attended=True, members=(1, 2, 3)) as one:
        assert await one.ask(Propose(b"a")) == NotLeader(None)
        assert await one.ask(Read(b"")) == NotLeader(None)


async def test_an_attended_server_stands_still_until_its_clock_is_set() -> None:
    async with seat(attended=True) as one:
        state = await one.until(lambda e: isinstance(e, ServerState))
        assert isinstance(state, ServerState)
        assert (state.role, state.term) == (Role.FOLLOWER, 0)
        assert one.server.clock.now() == 0
        assert one.server._timer is None, "no timer is armed while time is frozen"
        loop = asyncio.get_running_loop()
        assert one.observer is not None
        one.observer.send(SetClock(0.0, loop.time(), 10.0))
        await one.until(is_leader)


async def test_a_server_that_is_not_attended_takes_no_controls() -> None:
    async with seat(members=(1, 2, 3)) as one:
        assert one.observer is not None
        one.observer.send(SetClock(0.0, 0.0, 0.0))
        async with asyncio.timeout(20):
            await one.gone.wait()
        assert one.server.clock.rate == 1.0


async def test_a_fired_timer_and_an_asked_election_need_no_time() -> None:
    async with seat(attended=True, members=(1, 2, 3)) as one:
        assert one.observer is not None
        one.observer.send(FireTimer())
        await one.until(lambda e: isinstance(e, RoleChanged) and e.term == 1)
        one.observer.send(Campaign())
        await one.until(lambda e: isinstance(e, RoleChanged) and e.term == 2)


async def test_a_barrier_answers_only_when_enough_was_received() -> None:
    async with seat(attended=True, members=(1, 2)) as one:
        assert one.observer is not None
        one.observer.send(Barrier(token=4, received=1))
        one.observer.send(Barrier(token=5, received=0))
        await one.until(lambda e: e == BarrierReached(5, 0))
        assert BarrierReached(4, 0) not in one.seen


async def test_an_observer_that_reads_too_slowly_gets_the_whole_state_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with seat(attended=True, members=(1, 2, 3)) as one:
        await one.until(lambda e: isinstance(e, ServerState))
        (serving,) = one.server._observers._lost
        with monkeypatch.context() as full:
            full.setattr(type(serving), "send", lambda self, frame: False)
            one.server._guarded(one.server._campaign)
            one.server._turn()
        one.seen.clear()
        one.server._guarded(one.server._campaign)
        one.server._turn()
        lost = await one.until(lambda e: isinstance(e, ObservationsLost))
        assert isinstance(lost, ObservationsLost)
        assert lost.count > 0
        state = await one.until(lambda e: isinstance(e, ServerState))
        assert isinstance(state, ServerState)
        assert state.term == 2
        one.server._guarded(one.server._campaign)
        one.server._turn()
        await one.until(lambda e: isinstance(e, RoleChanged) and e.term == 3)


async def test_recovered_entries_are_applied_once_the_no_op_of_a_new_term_commits() -> None:
    entries = (Entry(Term(1), data=b"x"),)
    async with seat(entries=entries) as one:
        await one.until(is_leader)
        assert await one.ask(Read(b"")) == Result(b"x")


async def test_an_impossible_state_ends_the_server_with_a_dump() -> None:
    class CommitNothing(Rules):
        def next_term(self, current_term: Term) -> Term:
            return current_term

    async with seat(rules=CommitNothing()) as one:
        with pytest.raises(InvariantViolation, match="terms only grow"):
            await one.running


async def test_every_append_is_observed_with_its_contents() -> None:
    async with seat() as one:
        await one.until(is_leader)
        await one.ask(Propose(b"seen"))
        await one.until(lambda e: isinstance(e, EntriesAppended) and e.entries[0].data == b"seen")
        armed = await one.until(lambda e: isinstance(e, TimerArmed))
        assert isinstance(armed, TimerArmed)
        assert armed.deadline > 0
        assert one.server.core.log.entry(Index(2)).data == b"seen"
