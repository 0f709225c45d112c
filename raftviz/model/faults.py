"""What is done to servers, and asked of the cluster, by somebody who tries Raft out.

Part of the one stream (``raftviz.model.events``). A server's disk, its clock and the rules that
it breaks are properties of the machine: they outlast its processes.
"""

from __future__ import annotations

from raft.core.messages import ServerId
from raft.core.value import value

# --- Disks, clocks, rules --------------------------------------------------------------------


@value
class DiskChanged:
    """How a server's disk fails from here on; ``delay`` is in virtual seconds for each sync.

    On a ``full`` disk no file grows. ``fails_sync`` is the fate of the next sync, ``tears``
    that of the next write: the power fails in the middle of it.
    """

    server: ServerId
    delay: float = 0.0
    full: bool = False
    fails_sync: bool = False
    tears: bool = False

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong with it."""
        return not (self.delay or self.full or self.fails_sync or self.tears)


@value
class DiskDamaged:
    """Something happened to what a dead server has on its disk; ``what`` says it in words."""

    server: ServerId
    what: str


@value
class PowerCut:
    """A server's power is cut: what it has not synced is lost with its process."""

    server: ServerId


@value
class ServerClockChanged:
    """A server's clock runs ``factor`` times as fast as the cluster's from here on."""

    server: ServerId
    factor: float


@value
class RuleBroken:
    """A server breaks a rule on purpose (``raft.testing.catalogue``) from its next start on."""

    server: ServerId
    rule: str


@value
class RuleMended:
    """A server keeps a rule again from its next start on."""

    server: ServerId
    rule: str


# --- Servers that come and go ----------------------------------------------------------------


@value
class ServerAdded:
    """The lab has one more server; who belongs to the cluster is the configuration's affair."""

    server: ServerId


@value
class ServerRemoved:
    """The lab has one server less: it left the cluster, and its process has ended."""

    server: ServerId


# --- What goes on by itself ------------------------------------------------------------------


@value
class LoadChanged:
    """Clients of the lab's own work on the cluster as this command says; empty: none do."""

    text: str


@value
class LoadMeasured:
    """How the load's operations went that ended within the last ``seconds`` (virtual ones).

    The latencies, in virtual seconds, are those of the ``ok`` ones; 0 if there were none.
    ``waiting`` are still under way.
    """

    seconds: float
    ok: int
    failed: int
    unknown: int
    waiting: int
    p50: float
    p90: float
    p99: float


@value
class ChaosChanged:
    """Faults come at random, as this command says; empty: no more."""

    text: str


OfServer = DiskChanged | DiskDamaged | PowerCut | ServerClockChanged | RuleBroken | RuleMended
OfLab = ServerAdded | ServerRemoved | LoadChanged | LoadMeasured | ChaosChanged
