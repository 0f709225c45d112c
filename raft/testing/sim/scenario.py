"""What one seed stands for, but for its faults: a cluster, its settings, its load.

Every seed draws its own mix ("swarm testing"): what a cluster with all features on hides, one
with few of them shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.config import Config
from raft.core.messages import ServerId
from raft.testing.sim.chance import Chance

MOST_SERVERS = 7
SHORT, LONG = 4.0, 60.0
"""Simulated seconds of faults: of a seed in the usual tests, and in the long ones."""

MAX_SKEW = 0.05
"""Clocks run at 1 ± this. Two that differ by all of it are within ``Config.clock_drift``."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A cluster before its first event. Times are in seconds."""

    seed: int
    size: int
    seconds: float
    """Faults happen for so long; then everything heals."""
    election_timeout: float
    """The shortest; the longest is twice that, a heartbeat a sixth."""
    delay: float
    jitter: float
    """A message takes ``delay`` to ``delay + jitter``: more jitter, more reordering."""
    disk_delay: float
    """A write takes up to so long. 0: the server waits for it, as the real one does."""
    pre_vote: bool
    check_quorum: bool
    leases: bool
    """Some reads ask nobody; clocks then keep to what leases assume."""
    append_bytes: int
    inflight_messages: int
    uncommitted_bytes: int
    compact_every: int
    """A server takes a snapshot when it has applied so many entries more; 0: only when told."""
    keep_entries: int
    """So many entries stay behind a snapshot."""
    chunk_bytes: int
    clients: int
    think: float
    """A client waits up to so long between two operations."""
    keys: int
    codec: bool
    """Every message is encoded and decoded, as between real servers."""
    durable: bool
    """Servers keep their state in a Wal on a simulated disk; else in memory."""
    pace: float
    """Faults begin so far from each other, on average."""
    sessions: int = 0
    """So many sessions a server remembers (``raft.machine.sessions``), and clients send a
    command again when its answer does not come; 0: commands without sessions, sent once."""
    session_mutant: str | None = None
    """The name of a mutant of the sessions, if they are to be one."""
    operator_mutant: str | None = None
    """The name of a mutant of the people (``raft.testing.sim.operator_mutants``), if any."""
    store: str | None = None
    """The name of a mutant of the Wal (``raft.testing.store_mutants``), if it is to be one."""

    def config(self, server: ServerId, members: tuple[ServerId, ...]) -> Config:
        """Return the core's configuration of one server."""
        return Config(
            server,
            members,
            election_timeout_min=self.election_timeout,
            election_timeout_max=2 * self.election_timeout,
            heartbeat_interval=self.election_timeout / 6,
            pre_vote=self.pre_vote,
            check_quorum=self.check_quorum,
            max_append_bytes=self.append_bytes,
            max_inflight_messages=self.inflight_messages,
            max_uncommitted_bytes=self.uncommitted_bytes,
            snapshot_chunk_bytes=self.chunk_bytes,
        )


def scenario(seed: int, servers: int | None = None, seconds: float = SHORT) -> Scenario:
    """Return what ``seed`` stands for, with the number of servers that is asked for, if any."""
    draw = Chance(seed).stream("scenario")
    choice = draw.choice
    # Every value is drawn, wanted or not, so that an option leaves the others as they are.
    size = choice((1, 2, 3, 3, 3, 4, 5, 5, 5, 6, 7))
    check_quorum = choice((False, True))
    return Scenario(
        seed=seed,
        size=servers or size,
        seconds=seconds,
        election_timeout=choice((0.1, 0.15, 0.3)),
        delay=choice((0.0005, 0.002, 0.01)),
        jitter=choice((0.0, 0.001, 0.005, 0.03)),
        disk_delay=choice((0.0, 0.0, 0.001, 0.01)),
        pre_vote=choice((False, True)),
        check_quorum=check_quorum,
        leases=check_quorum and choice((False, True)),
        append_bytes=choice((1, 200, 100_000)),
        inflight_messages=choice((1, 2, 256)),
        uncommitted_bytes=choice((200, 1_000_000)),
        compact_every=choice((0, 5, 20, 100)),
        keep_entries=choice((0, 0, 3, 20)),
        chunk_bytes=choice((20, 100, 100_000)),
        clients=choice((1, 2, 3, 5)),
        think=choice((0.02, 0.1, 0.3)),
        keys=choice((1, 2, 4)),
        codec=draw.random() < 0.1,
        durable=draw.random() < 0.3,
        pace=choice((0.1, 0.3, 0.6)),
        sessions=choice((0, 0, 0, 2, 100)),
    )
