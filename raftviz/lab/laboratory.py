"""A whole laboratory, from its first server's start to its last one's end."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from raft.client import Raft
from raft.clock import VirtualClock
from raft.core.messages import ServerId
from raft.frames import SetClock
from raft.transport import Identity
from raftviz.lab.api import LabOptions
from raftviz.lab.cluster import Cluster
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.fabric import Fabric
from raftviz.lab.operations import Operations
from raftviz.lab.parts import Parts
from raftviz.lab.run_directory import RunDirectory
from raftviz.lab.session import Session
from raftviz.lab.stepper import Stepper
from raftviz.lab.stream import Stream
from raftviz.lab.supervisor import CLUSTER, Supervisor
from raftviz.lab.viewers import Viewers
from raftviz.model.events import ClockChanged, LabStarted, LinkChanged, Warned


class Laboratory:
    """The parts of one lab, put together."""

    def __init__(self, options: LabOptions, run: RunDirectory) -> None:
        self._options = options
        self._run = run
        self._servers = tuple(map(ServerId, range(1, options.servers + 1)))
        self._seed = secrets.randbits(31) if options.seed is None else options.seed
        clock = VirtualClock(rate=0.0)
        self._time = ClusterTime(clock)
        self._stream = Stream(clock)
        self._fabric = Fabric(self._servers, options.delay, clock, self._stream.tell, self._seed)

    async def live(self, ready: Callable[[], None], abandoned: Callable[[], object]) -> None:
        """Run until cancelled, and stop every server before returning.

        ``ready`` is called when viewers can attach, ``abandoned`` when the last owner among
        them has gone. Raises ServerStartError if a server does not come up, and OSError if
        viewers cannot attach.
        """
        async with asyncio.TaskGroup() as tasks:
            identity = Identity(CLUSTER, None, self._run.secret)
            supervisor = Supervisor(self._options, self._seed, self._run)
            cluster = Cluster(supervisor, self._fabric, self._stream, self._time, identity, tasks)
            try:
                await self._start(cluster)
                async with Raft(
                    self._fabric.ports, CLUSTER, self._run.secret, sessions=False
                ) as raft:
                    operations = Operations(raft, self._time, self._stream, tasks)
                    session = Session(self._parts(cluster, raft, operations, tasks))
                    viewers = Viewers(
                        session.carry_out, self._stream, tasks, self._slow_down, abandoned
                    )
                    await viewers.open(self._run.socket)
                    ready()
                    try:
                        await asyncio.get_running_loop().create_future()
                    finally:
                        viewers.close()
            finally:
                await cluster.close()
                self._fabric.close()

    async def _start(self, cluster: Cluster) -> None:
        """Start all servers, and let time run once they are connected to each other.

        Time begins for all of them at 0 together: what follows from a seed is the same
        however fast the processes came up.
        """
        self._time.when_set = lambda setting: self._clock_set(setting, cluster)
        self._tell_beginning()
        await self._fabric.open()
        await cluster.start_all(self._servers)
        self._time.run(self._options.rate)

    def _parts(
        self, cluster: Cluster, raft: Raft, operations: Operations, tasks: asyncio.TaskGroup
    ) -> Parts:
        return Parts(
            self._stream,
            self._time,
            self._fabric,
            cluster,
            raft,
            operations,
            Stepper(self._time, self._fabric, cluster, self._stream),
            tasks,
            connect=lambda: Raft(self._fabric.ports, CLUSTER, self._run.secret),
        )

    def _tell_beginning(self) -> None:
        options, setting = self._options, self._time.setting
        low, high = options.election_timeout
        self._stream.tell(
            LabStarted(CLUSTER, self._servers, low, high, options.heartbeat, self._seed)
        )
        self._stream.tell(ClockChanged(setting.virtual, setting.monotonic, setting.rate))
        for link in self._fabric.server_links:
            self._stream.tell(LinkChanged(*link, cut=False, delay=options.delay))

    def _slow_down(self) -> None:
        """Let a viewer that is behind catch up: what it commands has to wait its turn, too."""
        text = "a viewer is seconds behind what happens"
        if self._time.clock.rate > 1:
            self._time.run(1.0)
            text += "; time runs at ×1 from now on"
        self._stream.tell(Warned(text))

    def _clock_set(self, setting: SetClock, cluster: Cluster) -> None:
        cluster.set_clocks(setting)
        self._fabric.traffic.clock_changed()
        self._stream.tell(ClockChanged(setting.virtual, setting.monotonic, setting.rate))
