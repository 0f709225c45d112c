"""What a server knows from the start."""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.messages import ServerId

_AT_LEAST_ONE = (
    "max_append_bytes",
    "max_inflight_messages",
    "max_inflight_bytes",
    "max_uncommitted_bytes",
    "snapshot_chunk_bytes",
)


@dataclass(frozen=True, slots=True)
class Config:
    """How one server takes part. Times are in seconds.

    ``members`` are the voters of the cluster at its very beginning; once the log or a snapshot
    holds a configuration, that one counts. Empty: the server joins a cluster that exists, and
    waits for its leader to call. Election timeouts are drawn anew for each wait; heartbeats
    must be much more frequent (§5.6).

    Raises ValueError for a configuration that cannot work.
    """

    server: ServerId
    members: tuple[ServerId, ...]
    election_timeout_min: float = 0.150
    election_timeout_max: float = 0.300
    heartbeat_interval: float = 0.050
    addresses: tuple[tuple[ServerId, str], ...] = ()
    """Addresses of the first members, for servers that join later."""
    pre_vote: bool = False
    """Ask whether an election can be won before starting one (thesis §9.6)."""
    check_quorum: bool = False
    """A leader that no majority answers steps down; voters that hear from a leader elect no
    other (§6; thesis §4.2.3, §6.2). Lease reads need it."""
    max_append_bytes: int = 256 * 1024
    """An AppendEntries carries as many entries as fit in this many bytes, but at least one."""
    max_inflight_messages: int = 256
    """Appends to one follower that may be out and not acknowledged."""
    max_inflight_bytes: int = 4 * 1024 * 1024
    """Bytes of entries in them."""
    max_uncommitted_bytes: int = 32 * 1024 * 1024
    """A leader takes no more proposals while this many bytes of entries wait to be committed."""
    snapshot_chunk_bytes: int = 64 * 1024
    """An InstallSnapshot carries this much of the snapshot."""
    clock_drift: float = 0.1
    """How much faster one server's clock may run than another's, as a fraction (lease reads)."""

    def __post_init__(self) -> None:
        """Judge the values against each other."""
        if self.members and self.server not in self.members:
            raise ValueError(f"server {self.server} is not among the members {self.members}")
        if len(set(self.members)) != len(self.members) or min((*self.members, 1)) < 1:
            raise ValueError(f"members must be distinct numbers from 1, not {self.members}")
        if not 0 < self.heartbeat_interval < self.election_timeout_min:
            raise ValueError(
                f"heartbeats every {self.heartbeat_interval} s must be more frequent than "
                f"election timeouts of {self.election_timeout_min} s"
            )
        if self.election_timeout_min > self.election_timeout_max:
            raise ValueError(
                f"the shortest election timeout, {self.election_timeout_min} s, "
                f"is longer than the longest, {self.election_timeout_max} s"
            )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.clock_drift < 1:
            raise ValueError(f"clock_drift is a fraction, from 0 to 1, not {self.clock_drift}")

    @property
    def patience(self) -> int:
        """For how many whole milliseconds a server that heard a leader lets nobody else be elected.

        0 without ``check_quorum``. Rounded down: a leader's lease rests on it.
        """
        return int(self.election_timeout_min * 1000) if self.check_quorum else 0

    @property
    def heartbeat_warning(self) -> str | None:
        """Say what is wrong with heartbeats that are too rare, None if nothing is (§5.6)."""
        interval, shortest = self.heartbeat_interval * 1000, self.election_timeout_min * 1000
        if round(3 * interval, 3) <= round(shortest, 3):
            return None
        return (
            f"heartbeats every {interval:g} ms are too rare for election timeouts from "
            f"{shortest:g} ms: when one or two are lost or late a leader is unseated; at least "
            f"three in that time (every {shortest / 3:.3g} ms, or timeouts from {3 * interval:g} "
            "ms) keep elections rare"
        )

    def timing_warning(self, broadcast_time: float) -> str | None:
        """Say what is wrong with broadcastTime ≪ electionTimeout (§5.6), None if nothing is.

        ``broadcast_time`` is how long a request to all servers and their answers take.
        """
        if self.election_timeout_min < 10 * broadcast_time:
            return (
                f"election timeouts from {self.election_timeout_min * 1000:g} ms are too short for "
                f"a broadcast time of {broadcast_time * 1000:g} ms: at least ten times as much "
                f"({broadcast_time * 10_000:g} ms) keeps elections rare"
            )
        spread = self.election_timeout_max - self.election_timeout_min
        if spread < broadcast_time:
            return (
                f"election timeouts are drawn from only {spread * 1000:g} ms, less than the "
                f"broadcast time of {broadcast_time * 1000:g} ms: votes will often split"
            )
        return None
