"""The parts of a running lab that commands are carried out on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from raft.client import Raft
from raftviz.lab.cluster import Cluster
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.fabric import Fabric
from raftviz.lab.operations import Operations
from raftviz.lab.stepper import Stepper
from raftviz.lab.stream import Stream
from raftviz.model.view import ClusterView


@dataclass(frozen=True, slots=True)
class Parts:
    """What every family of commands may use; each lab has one of them."""

    stream: Stream
    time: ClusterTime
    fabric: Fabric
    cluster: Cluster
    raft: Raft
    """The lab's own client of the cluster."""
    operations: Operations
    stepper: Stepper
    tasks: asyncio.TaskGroup
    """Where what goes on beside commands belongs."""
    connect: Callable[[], Raft]
    """Makes another client of the cluster, with a session of its own."""

    @property
    def view(self) -> ClusterView:
        """What is known of the lab at this moment."""
        return self.stream.view
