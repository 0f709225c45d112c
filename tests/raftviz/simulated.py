"""The stream of a random but real run: cores in memory, with crashes, losses, cuts and pauses.

Half of the runs have pre-votes and check-quorum. Snapshots are taken, leadership is handed over,
and voters become learners and voters again.
"""

from __future__ import annotations

from random import Random

from raft.core.events import ConfigurationChanged
from raft.core.membership import AddVoter, Demote
from raft.core.messages import Message, ServerId
from raft.core.readonly import ReadState
from raft.core.rules import Rules
from raft.frames import FollowerProgress, ServerState
from raft.machine.kv import Delete, Put, encode_command
from raft.testing.network import Flight, Happening, Network
from raftviz.model.events import (
    DropReason,
    Event,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    ServerExited,
    ServerPaused,
    ServerResumed,
)
from tests.raftviz.fake_lab import Stream, Told, spawned, started


class NoJudge:
    """Takes the place of the network's own judge, which would stop a wrong run."""

    def __getattr__(self, name: str) -> object:
        return lambda *args: None


class SimulatedLab:
    """Tells what happens in a network of cores as a laboratory tells it."""

    def __init__(self, size: int, seed: int, rules: Rules | None = None) -> None:
        self.random = Random(seed)
        careful = seed % 2 == 0
        self.network = Network(size, rules, seed, pre_vote=careful, check_quorum=careful)
        if rules is not None:
            self.network.safety = NoJudge()  # type: ignore[assignment]
        self.events: list[Event] = []
        self.paused: set[ServerId] = set()
        self._stream = Stream()
        self._ids: dict[int, int] = {}
        self._flights: list[Flight] = []
        self._messages = 0
        self._operations = 0
        self._tell(started(size, seed))
        self.network.take_trace()
        for server in self.network.servers:
            self._spawned(server)

    def run(self, steps: int) -> list[Event]:
        """Do ``steps`` random things and return the stream from its beginning."""
        actions = (
            [self.deliver] * 70
            + [self.fire] * 3
            + [self.propose] * 6
            + [self.drop] * 2
            + [self.toggle_link, self.crash_or_restart, self.pause_or_resume]
            + [self.compact, self.read, self.transfer, self.change_members]
        )
        for _ in range(steps):
            self.random.choice(actions)()
        return self.events

    def deliver(self) -> None:
        flights = [f for f in self.network.in_flight if f.message.dst not in self.paused]
        if not flights:
            return
        flight = self.random.choice(flights[:6])  # somewhat out of order
        message = flight.message
        if message.dst not in self.network.cores:
            self._tell(MessageDropped(self._id(flight), DropReason.SERVER_DOWN))
        elif (message.src, message.dst) in self.network.cut:
            self._tell(MessageDropped(self._id(flight), DropReason.LINK_CUT))
        else:
            self._tell(MessageDelivered(self._id(flight)))
        self.network.deliver(flight)
        self._tell_trace()

    def drop(self) -> None:
        if self.network.in_flight:
            flight = self.random.choice(self.network.in_flight)
            self._tell(MessageDropped(self._id(flight), DropReason.BY_HAND))
            self.network.drop(flight)

    def fire(self) -> None:
        running = [s for s in self.network.cores if s not in self.paused]
        if running:
            leader = self.network.leader  # its timer is the shortest, so it fires most often
            leads = leader in running and self.random.random() < 0.8
            self.network.fire(leader if leader and leads else self.random.choice(running))
            self._tell_trace()

    def propose(self) -> None:
        leader = self.network.leader
        if leader is None or leader in self.paused:
            return
        self._operations += 1
        key, value = self.random.choice([b"x", b"y", b"\xff\x1b["]), str(self._operations).encode()
        kind = self.random.choice([OperationKind.PUT, OperationKind.DELETE])
        command = Put(key, value) if kind is OperationKind.PUT else Delete(key)
        self._tell(OperationInvoked(self._operations, kind, key, value, ServerId(0)))
        self.network.propose(leader, encode_command(command))
        self._tell_trace()
        if self.random.random() < 0.8:
            outcome = self.random.choice(list(Outcome))
            self._tell(OperationReturned(self._operations, outcome, False, b"", "why"))

    def compact(self) -> None:
        running = [s for s in self.network.cores if s not in self.paused]
        if running:
            self.network.compact(self.random.choice(running), self.random.choice([0, 2]))
            self._tell_trace()

    def read(self) -> None:
        running = [s for s in self.network.cores if s not in self.paused]
        if running:
            self.network.read(self.random.choice(running))
            self._tell_trace()

    def transfer(self) -> None:
        leader = self.network.leader
        if leader is not None and leader not in self.paused:
            self.network.transfer(leader, self.random.choice([None, *self.network.servers]))
            self._tell_trace()

    def change_members(self) -> None:
        leader = self.network.leader
        if leader is not None and leader not in self.paused:
            server = self.random.choice(self.network.servers)
            voter = server in self.network.cores[leader].configuration.voters
            self.network.change(leader, [Demote(server) if voter else AddVoter(server)])
            self._tell_trace()

    def toggle_link(self) -> None:
        src, dst = self.random.sample(self.network.servers, 2)
        self.network.cut ^= {(src, dst)}
        self._tell(LinkChanged(src, dst, (src, dst) in self.network.cut, 0.01))

    def crash_or_restart(self) -> None:
        server = self.random.choice(self.network.servers)
        if server in self.network.cores:
            self.network.crash(server)
            self.paused.discard(server)
            self._tell(ServerExited(server, 80 + server, "killed (SIGKILL)", expected=True))
        else:
            self.network.restart(server)
            self.network.take_trace()
            self._spawned(server)

    def pause_or_resume(self) -> None:
        server = self.random.choice(self.network.servers)
        if server in self.paused:
            self.paused.discard(server)
            self._tell(ServerResumed(server))
        elif server in self.network.cores:
            self.paused.add(server)
            self._tell(ServerPaused(server))

    def state(self, server: ServerId) -> ServerState:
        """What a running server would tell of itself now."""
        core = self.network.cores[server]
        return ServerState(
            server=server,
            pid=80 + server,
            address=f"127.0.0.1:{4000 + server}",
            role=core.role,
            term=core.term,
            voted_for=core.voted_for,
            leader=core.leader,
            first_index=core.log.first_index,
            entries=core.log.entries(core.log.first_index, core.log.last_index),
            commit_index=core.commit_index,
            last_applied=core.last_applied,
            votes=tuple(sorted(core.votes)),
            progress=tuple(
                FollowerProgress(peer, p.next_index, p.match_index)
                for peer, p in core.progress.items()
            ),
            timer_kind=core.timer_kind,
            timer_deadline=core.deadline,
            timer_interval=core.timer_interval,
            snapshot_term=core.log.prev_term,
            configuration=ConfigurationChanged(
                core.configuration_index,
                core.configuration.voters,
                core.configuration.outgoing,
                core.configuration.learners,
            ),
        )

    def _spawned(self, server: ServerId) -> None:
        self._tell(spawned(server), (server, self.state(server)))
        self._tell_trace()

    def _tell_trace(self) -> None:
        for happening in self.network.take_trace():
            self._tell_happening(happening)

    def _tell_happening(self, happening: Happening) -> None:
        if isinstance(happening.what, Message):
            self._messages += 1
            flight = next(
                f
                for f in self.network.in_flight
                if f.message is happening.what and id(f) not in self._ids
            )
            self._ids[id(flight)] = self._messages
            self._flights.append(flight)  # keeps id() its own
            self._tell(MessageSent(self._messages, flight.message, self.network.now + 0.01))
        elif not isinstance(happening.what, ReadState):
            self._tell((happening.server, happening.what))

    def _id(self, flight: Flight) -> int:
        return self._ids[id(flight)]

    def _tell(self, *told: Told) -> None:
        self.events += self._stream.events(*told, at=self.network.now)
