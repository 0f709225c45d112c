"""Whole servers on one loop: what a slow disk, a slow snapshot or a lost message cannot stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from raft.applying import SnapshotPolicy
from raft.client import Raft
from raft.core.core import Config
from raft.core.events import Role, RoleChanged, RoleReason, TimerArmed
from raft.core.log import HardState, Snapshot
from raft.core.membership import AddLearner, Remove
from raft.core.messages import (
    AppendEntries,
    Entry,
    Index,
    Message,
    ReadIndexReply,
    ServerId,
    TimeoutNow,
)
from raft.core.ready import Refusal
from raft.errors import (
    DECLINED,
    BusyError,
    ConfigurationMovedError,
    DeclinedError,
    GivenUpError,
    NotLeaderError,
    OutcomeUnknownError,
    TransferringError,
)
from raft.frames import (
    Barrier,
    BarrierReached,
    Caller,
    ChangeMembers,
    Consistency,
    FireTimer,
    Frame,
    MembersQuery,
    Observation,
    ObservedEvent,
    TransferLeadership,
)
from raft.handshake import Identity
from raft.machine.base import StateMachineError
from raft.reads import Reads
from raft.server import Server, ServerConfig
from raft.storage.memory import MemoryStore
from raft.transport import connect
from tests.raft.cluster import free_addresses

SECRET = b"s" * 32
CLUSTER = "test"
ONE = ServerId(1)


class Gate:
    """Something that other threads pass through, unless it is shut."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.reached = threading.Event()

    def shut(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def __call__(self) -> None:
        self.reached.set()
        assert self._open.wait(20)


class Store(MemoryStore):
    """A disk that can be made to stall."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        self.gate()
        super().save(hard_state, first_index, entries, snapshot)


class Journal:
    """A state machine that remembers its commands, and can be slow to make a snapshot."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.gate = Gate()
        self.snapshots = 0

    def check(self, command: bytes) -> str | None:
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        self.commands.append(command)
        return b"%d" % len(self.commands)

    def query(self, query: bytes) -> bytes:
        return b",".join(self.commands)

    def snapshot(self) -> bytes:
        self.gate()
        self.snapshots += 1
        return b",".join(self.commands)

    def restore(self, snapshot: bytes) -> None:
        self.commands = snapshot.split(b",") if snapshot else []


class Seat:
    """One server of a small cluster."""

    def __init__(self, config: ServerConfig) -> None:
        self.store, self.machine = Store(), Journal()
        self.server = Server(config, self.store, self.machine)
        self.seen: list[ObservedEvent] = []
        self.closed: list[str] = []
        self._changed = asyncio.Event()

    @property
    def id(self) -> ServerId:
        return self.server.core.config.server

    async def start(self) -> None:
        address = await self.server.start()
        self.running = asyncio.ensure_future(self.server.run())
        self.observer = await connect(
            address,
            Identity(CLUSTER, None, SECRET),
            Caller.OBSERVER,
            self.id,
            self._see,
            self._lost,
        )

    def _see(self, frame: Frame) -> None:
        assert isinstance(frame, Observation)
        self.seen.append(frame.event)
        self._changed.set()

    def _lost(self, reason: str) -> None:
        self.closed.append(reason)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def heartbeats(self, count: int) -> None:
        """Wait until the timer was armed so many times more: by heartbeats, sent or heard."""
        goal = len(self._armed()) + count
        await self.until(lambda: len(self._armed()) >= goal)

    def _armed(self) -> list[ObservedEvent]:
        return [event for event in self.seen if isinstance(event, TimerArmed)]


class Small:
    """Servers on one loop, and a handle for all of them."""

    def __init__(self, seats: dict[ServerId, Seat], raft: Raft) -> None:
        self.seats = seats
        self.raft = raft

    @property
    def leader(self) -> Seat:
        leading = [s for s in self.seats.values() if s.server.core.role is Role.LEADER]
        return max(leading, key=lambda seat: seat.server.core.term)

    @property
    def followers(self) -> list[Seat]:
        leader = self.leader
        return [seat for seat in self.seats.values() if seat is not leader]


@asynccontextmanager
async def small(
    size: int = 3, *, attended: bool = False, **options: object
) -> AsyncIterator[Small]:
    ids = tuple(ServerId(number) for number in range(1, size + 1))
    addresses = dict(zip(ids, free_addresses(size), strict=True))
    policy = options.pop("snapshots", SnapshotPolicy(0, 0))
    assert isinstance(policy, SnapshotPolicy)
    seats = {
        me: Seat(
            ServerConfig(
                core=Config(
                    me,
                    ids,
                    addresses=tuple(addresses.items()),
                    **{"pre_vote": True, "check_quorum": True, **options},  # type: ignore[arg-type]
                ),
                cluster=CLUSTER,
                secret=SECRET,
                listen=addresses[me],
                peers={other: at for other, at in addresses.items() if other != me},
                snapshots=policy,
                attended=attended,
            )
        )
        for me in ids
    }
    await asyncio.gather(*(seat.start() for seat in seats.values()))
    try:
        async with Raft(addresses, CLUSTER, SECRET, sessions=False) as raft:
            if not attended:
                await raft.propose(b"first", timeout=20)
                for seat in seats.values():
                    await seat.until(lambda core=seat.server.core: core.last_applied == 2)  # type: ignore[misc]
            yield Small(seats, raft)
    finally:
        for seat in seats.values():
            seat.store.gate.open()
            seat.machine.gate.open()
            seat.server.stop()
            with suppress(StateMachineError):
                await seat.running


# --- Disks -----------------------------------------------------------------------------------


async def test_bug_50_a_stalled_disk_costs_a_leader_neither_leadership_nor_progress() -> None:
    """Slow fsync starves heartbeats: here they leave in time, and a majority's disks are enough."""
    async with small() as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        term = leader.server.core.term
        leader.store.gate.shut()
        assert await cluster.raft.propose(b"second", timeout=20) == b"2"
        assert await asyncio.to_thread(leader.store.gate.reached.wait, 20)
        await follower.heartbeats(20)
        assert cluster.leader is leader
        assert leader.server.core.term == follower.server.core.term == term
        assert leader.server._saver.busy, "its own disk has not answered once"


async def test_a_followers_stalled_disk_holds_up_nobody_else() -> None:
    async with small() as cluster:
        leader, slow = cluster.leader, cluster.followers[0]
        await leader.until(lambda: leader.server.core.progress[slow.id].match_index == 2)
        slow.store.gate.shut()
        assert await cluster.raft.propose(b"second", timeout=20) == b"2"
        await slow.heartbeats(20)
        assert cluster.leader is leader
        assert slow.server.core.log.last_index == leader.server.core.log.last_index
        assert leader.server.core.progress[slow.id].match_index == 2, "nothing new is acknowledged"
        slow.store.gate.open()
        await leader.until(lambda: leader.server.core.progress[slow.id].match_index == 3)


async def test_without_a_majoritys_disks_nothing_is_acknowledged() -> None:
    async with small() as cluster:
        for follower in cluster.followers:
            follower.store.gate.shut()
        with pytest.raises(OutcomeUnknownError):
            await cluster.raft.propose(b"second", timeout=0.2)
        assert all(seat.machine.commands == [b"first"] for seat in cluster.seats.values())


async def test_a_vote_waits_for_the_disk() -> None:
    async with small(1, attended=True) as cluster:
        seat = cluster.seats[ONE]
        seat.store.gate.shut()
        seat.observer.send(FireTimer())
        await seat.until(lambda: seat.server.core.role is not Role.FOLLOWER)
        await asyncio.get_running_loop().run_in_executor(None, seat.store.gate.reached.wait, 20)
        assert seat.server.core.role is Role.CANDIDATE
        seat.store.gate.open()
        await seat.until(lambda: seat.server.core.role is Role.LEADER)


async def test_a_barrier_waits_for_the_disk() -> None:
    async with small(1, attended=True) as cluster:
        seat = cluster.seats[ONE]
        seat.store.gate.shut()
        seat.observer.send(FireTimer())
        await seat.until(lambda: seat.server.core.role is not Role.FOLLOWER)
        seat.observer.send(Barrier(7, 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await seat.until(lambda: BarrierReached(7, 0) in seat.seen)
        seat.store.gate.open()
        await seat.until(lambda: BarrierReached(7, 0) in seat.seen)
        assert seat.server.core.last_applied == 1, "all that follows is done, too"


# --- Snapshots -------------------------------------------------------------------------------


async def test_bug_51_a_snapshot_is_taken_beside_appends_and_no_trigger_is_lost() -> None:
    """Building a snapshot blocks appends; what is due meanwhile is forgotten."""
    async with small(1, snapshots=SnapshotPolicy(entries=5)) as cluster:
        seat = cluster.seats[ONE]
        core = seat.server.core
        seat.machine.gate.shut()
        writes = [asyncio.ensure_future(cluster.raft.propose(b"%d" % n)) for n in range(4)]
        await asyncio.get_running_loop().run_in_executor(None, seat.machine.gate.reached.wait, 20)
        more = [asyncio.ensure_future(cluster.raft.propose(b"%d" % n)) for n in range(4, 12)]
        await seat.until(lambda: core.commit_index == core.log.last_index >= 14)
        await seat.heartbeats(3)
        held_at = core.last_applied
        assert 5 <= held_at < core.commit_index, "it shows one moment: nothing is applied"
        assert core.snapshot is None
        seat.machine.gate.open()
        assert len(await asyncio.gather(*writes, *more)) == 12
        await seat.until(lambda: core.snapshot is not None and core.snapshot.index >= held_at + 5)
        assert seat.machine.snapshots >= 2
        assert core.log.first_index > 1


async def test_what_is_due_by_bytes() -> None:
    async with small(1, snapshots=SnapshotPolicy(entries=0, bytes=1000)) as cluster:
        core = cluster.seats[ONE].server.core
        for _ in range(9):
            await cluster.raft.propose(bytes(100))
        assert core.snapshot is None
        for _ in range(2):
            await cluster.raft.propose(bytes(100))
        await cluster.seats[ONE].until(lambda: core.snapshot is not None)


async def test_a_snapshot_that_was_asked_for_is_on_disk_when_that_is_answered() -> None:
    async with small(1) as cluster:
        seat = cluster.seats[ONE]
        assert await cluster.raft.snapshot(ONE) == 2
        stored = seat.store.load().snapshot
        assert stored is not None
        assert stored.index == 2
        assert await cluster.raft.snapshot(ONE) == 2, "there is nothing new"
        assert seat.machine.snapshots == 1
        await cluster.raft.propose(b"more")
        assert await cluster.raft.snapshot() == 3


async def test_an_error_of_a_snapshot_ends_the_server_visibly() -> None:
    async with small(1) as cluster:
        seat = cluster.seats[ONE]

        def fail() -> bytes:
            raise ValueError("the state cannot be written down")

        seat.machine.snapshot = fail  # type: ignore[method-assign]
        asking = asyncio.ensure_future(cluster.raft.snapshot(ONE))
        with pytest.raises(StateMachineError, match="when its snapshot was taken: ValueError: the"):
            await seat.running
        with pytest.raises(OutcomeUnknownError):
            await asking


# --- Reads -----------------------------------------------------------------------------------


async def test_bug_33_a_read_whose_answer_is_lost_is_asked_again() -> None:
    async with small() as cluster:
        follower = cluster.followers[0]
        take, lost = follower.server.peer_message, []

        def lose_the_first(message: Message) -> None:
            if isinstance(message, ReadIndexReply) and not lost:
                lost.append(message)
            else:
                take(message)

        follower.server.peer_message = lose_the_first  # type: ignore[method-assign]
        assert await cluster.raft.read(b"", 20, follower.id) == b"first"
        assert lost


async def test_reads_of_one_turn_are_one_question() -> None:
    async with small() as cluster:
        follower = cluster.followers[0]
        asked = []
        ask = follower.server.core.read_index

        def count(context: int, now: float) -> bool:
            asked.append(context)
            return ask(context, now)

        follower.server.core.read_index = count  # type: ignore[method-assign]
        reads = [cluster.raft.read(b"", 20, follower.id) for _ in range(50)]
        assert await asyncio.gather(*reads) == [b"first"] * 50
        assert len(asked) < 10


async def test_bug_32_contexts_of_two_lives_do_not_meet() -> None:
    async with small(1) as cluster:
        core = cluster.seats[ONE].server.core
        assert Reads(core)._context != Reads(core)._context


async def test_a_read_waits_until_what_it_must_see_is_applied() -> None:
    async with small(1) as cluster:
        seat = cluster.seats[ONE]
        seat.machine.gate.shut()
        snapshot = asyncio.ensure_future(cluster.raft.snapshot(ONE))
        await asyncio.get_running_loop().run_in_executor(None, seat.machine.gate.reached.wait, 20)
        write = asyncio.ensure_future(cluster.raft.propose(b"second"))
        await seat.until(lambda: seat.server.core.commit_index == 3)
        read = asyncio.ensure_future(cluster.raft.read(b""))
        await seat.heartbeats(3)
        assert await cluster.raft.read(b"", consistency=Consistency.STALE) == b"first"
        assert not read.done()
        seat.machine.gate.open()
        assert await read == b"first,second"
        assert (await write, await snapshot) == (b"2", 2)


async def test_reads_are_turned_away_when_too_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with small() as cluster:
        monkeypatch.setattr("raft.requests.MAX_WAITING", 0)
        with pytest.raises(BusyError, match="0 reads may wait"):
            await cluster.raft.read(b"", 0.2)
        assert await cluster.raft.read(b"", 1.0, consistency=Consistency.STALE) == b"first"


async def test_the_reads_of_a_client_that_has_gone_are_forgotten() -> None:
    async with small(check_quorum=False) as cluster:
        leader = cluster.leader
        for follower in cluster.followers:
            follower.server.peer_message = lambda message: None  # type: ignore[method-assign]
        reading = asyncio.ensure_future(cluster.raft.read(b"", 20, leader.id))
        await leader.until(lambda: len(leader.server._requests.reads) == 1)
        reading.cancel()
        cluster.raft.close()
        await leader.until(lambda: len(leader.server._requests.reads) == 0)


# --- Leadership and members ------------------------------------------------------------------


async def test_a_heartbeat_that_was_read_after_a_pause_counts_before_the_timer_that_is_over() -> (
    None
):
    """Bug 54: both are there when the process goes on."""
    async with small() as cluster:
        leader, follower = cluster.leader, cluster.followers[0]
        term = follower.server.core.term
        beat = AppendEntries(
            *(leader.id, follower.id, term, Index(2), term, ()),
            leader_commit=Index(2),
        )
        follower.server.peer_message(beat)
        follower.server._fire_timer()
        assert follower.server.core.role is Role.FOLLOWER
        follower.server._turn()
        follower.server._fire_timer()
        assert follower.server.core.role is Role.PRE_CANDIDATE, "and now it is due"


async def test_a_transfer_that_does_not_succeed_is_given_up_and_commands_wait_for_that() -> None:
    async with small() as cluster:
        leader, target = cluster.leader, cluster.followers[0]
        take = target.server.peer_message

        def deaf(message: Message) -> None:
            if not isinstance(message, TimeoutNow):
                take(message)

        target.server.peer_message = deaf  # type: ignore[method-assign]
        transfer = asyncio.ensure_future(cluster.raft.transfer_leadership(target.id))
        await leader.until(lambda: leader.server.core.transferee == target.id)
        with pytest.raises(TransferringError):
            await cluster.raft.propose(b"now", 1.0, leader.id)
        assert await cluster.raft.propose(b"later") == b"2"
        with pytest.raises(GivenUpError, match=f"S{target.id} did not take over in time"):
            await transfer
        assert cluster.leader is leader


async def test_a_leader_that_leaves_hands_over_and_answers_its_clients_first() -> None:
    async with small() as cluster:
        leader, followers = cluster.leader, cluster.followers
        writes = [asyncio.ensure_future(cluster.raft.propose(b"%d" % n)) for n in range(20)]
        await leader.until(lambda: leader.server.core.log.last_index > 2)
        leader.server.leave()
        await asyncio.wait_for(leader.running, 20)
        assert all(isinstance(answer, bytes) for answer in await asyncio.gather(*writes))
        told = [event for follower in followers for event in follower.seen]
        asked_to = [
            e for e in told if isinstance(e, RoleChanged) and e.reason is RoleReason.TRANSFER
        ]
        assert len(asked_to) == 1
        assert len(set(cluster.leader.machine.commands)) == len(cluster.leader.machine.commands)


async def test_a_leader_leaves_when_nobody_takes_over_all_the_same() -> None:
    async with small() as cluster:
        leader, followers = cluster.leader, cluster.followers
        for follower in followers:
            follower.server.peer_message = lambda message: None  # type: ignore[method-assign]
        leader.server.leave()
        assert leader.server.core.transferee is not None, "it tries to hand over first"
        await asyncio.wait_for(leader.running, 20)
        told = [event for follower in followers for event in follower.seen]
        assert not any(isinstance(e, RoleChanged) and e.role is Role.LEADER for e in told)


async def test_a_leader_leaves_by_the_transfer_that_is_under_way() -> None:
    async with small() as cluster:
        leader, target = cluster.leader, max(cluster.followers, key=lambda seat: seat.id)
        target.store.gate.shut()  # so that the other one would be the better choice
        await cluster.raft.propose(b"second", timeout=20)
        server = leader.server
        assert server.core.transfer_leadership(target.id, server.clock.now()) is None
        server.leave()
        assert not server._ended.done()
        target.store.gate.open()
        await asyncio.wait_for(leader.running, 20)
        await target.until(lambda: cluster.leader is target)


async def test_told_to_leave_twice_a_server_stops_at_once() -> None:
    async with small() as cluster:
        leader = cluster.leader
        leader.server.leave()
        assert not leader.running.done()
        leader.server.leave()
        await asyncio.wait_for(leader.running, 20)


async def test_a_change_is_made_only_to_the_members_that_were_looked_at() -> None:
    async with small() as cluster:
        address = cluster.raft.servers[ONE]
        before = await cluster.raft.members()
        assert (before.index, before.committed, before.voters) == (0, True, (1, 2, 3))
        assert {known.server: known.address for known in before.addresses} == cluster.raft.servers
        assert before.leader == cluster.leader.id
        changed = await cluster.raft.change_membership(
            [AddLearner(ServerId(9), address)], expected_index=before.index
        )
        assert (changed.learners, changed.committed) == ((9,), True)
        with pytest.raises(ConfigurationMovedError, match="index 3, not of 0") as moved:
            await cluster.raft.change_membership([Remove(ServerId(9))], expected_index=before.index)
        assert moved.value.__notes__ == ["look at the members again before you change them"]
        assert moved.value.reason is Refusal.CONFIGURATION_MOVED
        gone = await cluster.raft.remove(ServerId(9))
        assert gone.learners == ()


async def test_a_server_that_is_told_to_forget_its_leader() -> None:
    async with small() as cluster:
        follower = cluster.followers[0]
        status = await cluster.raft.forget_leader(follower.id)
        assert status.leader is None
        await follower.until(lambda: follower.server.core.leader is not None)


async def test_only_the_leader_says_who_the_members_are_and_changes_them() -> None:
    async with small() as cluster:
        follower = cluster.followers[0]
        asker = cluster.raft._asker
        for request in (
            MembersQuery(),
            ChangeMembers((Remove(ONE),), False, Index(0)),
            TransferLeadership(None),
        ):
            with pytest.raises(NotLeaderError) as refused:
                await asker.ask(request, 5.0, follower.id)
            assert refused.value.leader == cluster.leader.id


async def test_round_trips_that_are_too_long_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with small() as cluster:
        leader = cluster.leader
        take, loop = leader.server.peer_message, asyncio.get_running_loop()

        def late(message: Message) -> None:
            loop.call_later(0.04, take, message)

        leader.server.peer_message = late  # type: ignore[method-assign]
        await leader.until(lambda: "are too short for a broadcast time of" in caplog.text)
    (warned,) = {(r.name, r.levelname) for r in caplog.records if "are too short" in r.message}
    assert warned == ("raft.server", "WARNING")


# --- Those who watch -------------------------------------------------------------------------


async def test_a_state_that_is_too_large_to_tell_costs_an_observer_not_the_server() -> None:
    async with small(1) as cluster:
        seat = cluster.seats[ONE]
        for connection in seat.server._observers._lost:
            connection.send_limit = 200
        await cluster.raft.propose(bytes(500))
        await seat.until(lambda: bool(seat.closed))
        assert await cluster.raft.propose(b"more") == b"3"


def test_every_refusal_has_an_error_that_says_what_to_do() -> None:
    assert set(DECLINED) == set(Refusal) - {Refusal.NOT_LEADER}
    assert len(set(DECLINED.values())) == len(DECLINED)
    for reason, kind in DECLINED.items():
        error = kind(ONE, reason, "why")
        assert isinstance(error, DeclinedError)
        assert str(error).startswith("server 1: why")
        assert kind.advice or reason is Refusal.IMPOSSIBLE
