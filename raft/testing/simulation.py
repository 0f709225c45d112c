"""A random life of a cluster: one seed, one history, every promise checked after every step.

Messages are lost, repeated, delayed and overtaken, servers crash and restart, disks are slow and
report in any order, the network falls apart, members come and go, logs are compacted, leaders hand
over, clients write and read, all in an order that the seed decides. Then the faults end, and the
cluster must come to rest: that is the second half of what Raft promises.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from random import Random

from raft.core.events import Role
from raft.core.membership import AddLearner, AddVoter, Change, Demote, Remove
from raft.core.messages import ServerId
from raft.core.ready import Refused
from raft.core.rules import Rules
from raft.testing.network import Flight, Happening, Network
from raft.testing.safety import NoProgress
from raft.testing.words import happening_line

CALM_STEP = 0.005
"""Seconds that pass between two rounds of deliveries when the faults are over."""

CALM_STEPS = 2000
"""So many rounds, 10 s, must be enough to elect a leader and to repair all logs."""

MOST_IN_FLIGHT = 100
"""Older messages than these many are lost, as in a full queue."""

MOST_SERVERS = 7
"""So many servers there are at most, members and former members."""


class Simulation:
    """The history of ``size`` servers that ``seed`` stands for.

    What is raised in it carries a note with the seed, the step and what happened last.
    """

    def __init__(self, seed: int, size: int, rules: Rules | None = None) -> None:
        self._seed = seed
        self._random = Random(seed)  # noqa: S311 - a seed must give the same history
        choose = self._random.choice
        self.network = Network(
            size,
            rules,
            seed,
            max_append_bytes=choose((1, 100, 10_000)),
            max_inflight_messages=choose((1, 3, 256)),
            max_uncommitted_bytes=choose((200, 10_000)),
            snapshot_chunk_bytes=choose((10, 10_000)),
            pre_vote=choose((False, True)),
            check_quorum=choose((False, True)),
        )
        self._step = 0
        self._last: deque[Happening] = deque(maxlen=20)
        usual: dict[Callable[[], None], float] = {
            self._deliver_oldest: 80,
            self._pass_time: 12,
            self._propose: 5,
            self._read: 3,
            self._read_by_lease: 2,
            self._restart: 2,
            self._complete_saves: 3,
            self._compact: 1,
            self._heal: 1,
        }
        faults: dict[Callable[[], None], float] = {
            self._deliver_any: 5,
            self._drop: 1,
            self._duplicate: 2,
            self._slow_down_disk: 1,
            self._crash: 0.4,
            self._cut: 0.4,
            self._time_out: 0.3,
            self._change_members: 1.5,
            self._transfer: 0.3,
        }
        # Every history has its own mix: what many faults at once hide, a few of them show.
        self._weights = usual | {
            fault: weight * self._random.choice((0, 1, 4)) for fault, weight in faults.items()
        }

    def run(self, steps: int) -> None:
        """Do so many random steps. Raises SafetyViolation or InvariantViolation."""
        actions = list(self._weights)
        for action in self._random.choices(actions, list(self._weights.values()), k=steps):
            self._do(action)

    def recover(self) -> None:
        """End all faults. Raises NoProgress unless all members apply a new command in time.

        Servers that are no members any more are switched off when that is certain.
        """
        self._do(self._end_faults)
        wanted: tuple[int, int] | None = None
        for _ in range(CALM_STEPS):
            self._do(self._calm)
            leader = self.network.leader
            if leader is None:
                continue
            core = self.network.cores[leader]
            if core.configuration_index > core.commit_index:
                continue
            self._switch_off(set(self.network.cores) - set(core.configuration.members))
            if wanted is None or wanted[1] != core.term:
                index = self.network.propose(leader, b"last")
                if isinstance(index, Refused):
                    continue
                wanted = (index, core.term)
            if all(c.last_applied >= wanted[0] for c in self.network.cores.values()):
                return
        error = NoProgress(f"no command gets through within {CALM_STEP * CALM_STEPS} s")
        error.add_note(self._story())
        raise error

    def _do(self, action: Callable[[], None]) -> None:
        self._step += 1
        try:
            action()
        except Exception as error:
            self._last.extend(self.network.take_trace())
            error.add_note(self._story())
            raise
        self._last.extend(self.network.take_trace())

    def _story(self) -> str:
        lines = [f"seed {self._seed}, step {self._step}; what happened last:"]
        lines += [line for h in self._last if (line := happening_line(h)) is not None]
        return "\n  ".join(lines)

    # --- What can happen -----------------------------------------------------------------------

    def _deliver_oldest(self) -> None:
        flights = self.network.in_flight
        if len(flights) > MOST_IN_FLIGHT:
            self.network.drop(flights[0])
        if flights:
            self.network.deliver(flights[0])

    def _deliver_any(self) -> None:
        self._with_any_flight(self.network.deliver)

    def _drop(self) -> None:
        self._with_any_flight(self.network.drop)

    def _duplicate(self) -> None:
        self._with_any_flight(self.network.duplicate)

    def _with_any_flight(self, act: Callable[[Flight], object]) -> None:
        if self.network.in_flight:
            act(self._random.choice(self.network.in_flight))

    def _pass_time(self) -> None:
        self.network.advance(self._random.uniform(0.0, 0.030))

    def _time_out(self) -> None:
        self.network.fire(self._random.choice(list(self.network.cores)))

    def _propose(self) -> None:
        self.network.propose(self._running(), b"%d" % self._step)

    def _read(self) -> None:
        self.network.read(self._random.choice((self._running(), *self.network.cores)))

    def _read_by_lease(self) -> None:
        self.network.lease_read(self._running())

    def _compact(self) -> None:
        keep = self._random.choice((0, 0, 3))
        self.network.compact(self._random.choice(list(self.network.cores)), keep)

    def _transfer(self) -> None:
        self.network.transfer(self._running(), self._random.choice((None, *self.network.servers)))

    def _change_members(self) -> None:
        """Ask for one to three changes; most are legal."""
        leader = self._running()
        configuration = self.network.cores[leader].configuration
        everybody = [ServerId(number + 1) for number in range(MOST_SERVERS)]
        changes: list[Change] = []
        for server in self._random.sample(everybody, self._random.choice((1, 1, 2, 3))):
            if server in configuration.voters:
                changes.append(self._random.choice((Remove, Demote))(server))
            elif server in configuration.learners:
                changes.append(self._random.choice((AddVoter, AddVoter, Remove))(server))
            else:
                changes.append(self._random.choice((AddVoter, AddLearner))(server))
                if self.network.cores[leader].role is Role.LEADER:
                    self.network.join(server)
        self.network.change(leader, changes)

    def _running(self) -> ServerId:
        # Mostly one that believes it leads, be it right or not: others take no requests.
        cores = self.network.cores
        leading = [server for server, core in cores.items() if core.progress]
        return self._random.choice(leading or list(cores))

    def _crash(self) -> None:
        if len(self.network.cores) > 1:
            self.network.crash(self._random.choice(list(self.network.cores)))

    def _restart(self) -> None:
        down = [s for s in self.network.servers if s not in self.network.cores]
        if down:
            self.network.restart(self._random.choice(down))

    def _slow_down_disk(self) -> None:
        self.network.slow.add(self._random.choice(self.network.servers))

    def _complete_saves(self) -> None:
        slow = [
            s for s in self.network.servers if s in self.network.slow & self.network.cores.keys()
        ]
        if slow:
            server = self._random.choice(slow)
            self.network.slow.discard(server)
            self.network.save(server, self._random.choice((None, self._random)))

    def _cut(self) -> None:
        """Part the servers in two, at times only one way."""
        servers = self.network.servers
        side = set(self._random.sample(servers, self._random.randrange(1, len(servers))))
        both_ways = self._random.random() < 0.7
        self.network.cut = {
            (a, b)
            for a in servers
            for b in servers
            if (a in side and b not in side) or (both_ways and a not in side and b in side)
        }

    def _heal(self) -> None:
        self.network.cut.clear()

    def _end_faults(self) -> None:
        self.network.cut.clear()
        self.network.slow.clear()
        for server in self.network.servers:
            if server in self.network.cores:
                self.network.save(server)
            else:
                self.network.restart(server)

    def _switch_off(self, servers: Iterable[ServerId]) -> None:
        for server in servers:
            self.network.crash(server)

    def _calm(self) -> None:
        self.network.advance(CALM_STEP)
        self.network.settle()
