"""The machine that a server runs on: what outlasts its processes, and can be out of order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from raft.core.events import TimerArmed
from raft.core.messages import ServerId
from raft.frames import ObservedEvent, ServerState, SetClock, SetDisk
from raftviz.model.events import DiskChanged

_Told = TypeVar("_Told", bound=ObservedEvent)


class ServerClock:
    """How a server's clock goes beside the cluster's.

    ``own = own0 + factor · (cluster − cluster0)``: it never jumps, so a clock that ran fast for
    a while stays ahead. That is why nobody may compare two servers' clocks, only wait by one.
    """

    def __init__(self) -> None:
        self.factor = 1.0
        self._cluster = self._own = 0.0

    def run(self, factor: float, now: float) -> None:
        """Run ``factor`` times as fast as the cluster's clock from ``now`` on, by that one."""
        self._cluster, self._own = now, self._to_own(now)
        self.factor = factor

    def setting(self, cluster: SetClock) -> SetClock:
        """Return how to set the server's clock when the cluster's is set like this."""
        return SetClock(
            self._to_own(cluster.virtual), cluster.monotonic, cluster.rate * self.factor
        )

    def translated(self, what: _Told) -> _Told:
        """Return what the server told with all its times by the cluster's clock."""
        if isinstance(what, TimerArmed):
            deadline, interval = self.to_cluster(what.deadline), what.interval / self.factor
            return replace(what, deadline=deadline, interval=interval)
        if isinstance(what, ServerState):
            deadline = self.to_cluster(what.timer_deadline) if what.timer_deadline else 0.0
            interval = what.timer_interval / self.factor
            return replace(what, timer_deadline=deadline, timer_interval=interval)
        return what

    def to_cluster(self, own: float) -> float:
        """Return what the cluster's clock shows when this one shows ``own``."""
        return self._cluster + (own - self._own) / self.factor

    def _to_own(self, cluster: float) -> float:
        return self._own + self.factor * (cluster - self._cluster)


@dataclass(slots=True)
class Machine:
    """One server's machine."""

    server: ServerId
    clock: ServerClock = field(default_factory=ServerClock)
    disk: DiskChanged = field(init=False)
    broken: tuple[str, ...] = ()
    """The rules that its server breaks on purpose."""

    def __post_init__(self) -> None:
        """Begin with a disk that is in order."""
        self.disk = DiskChanged(self.server)

    @property
    def disk_setting(self) -> SetDisk:
        """How to tell its server what the disk does."""
        disk = self.disk
        return SetDisk(disk.delay, disk.full, disk.fails_sync, disk.tears)

    def restarted(self) -> bool:
        """Take note that its server's process has ended; True if that changed the disk.

        What waits for the next write or sync of a process ends with it.
        """
        before = self.disk
        self.disk = replace(before, fails_sync=False, tears=False)
        return self.disk != before
