"""The commands of the one language, as values. ``raftviz.commands`` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass

from raftviz.command_text import Servers


@dataclass(frozen=True, slots=True)
class Kill:
    """``kill 2`` · ``kill leader``: SIGKILL."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Restart:
    """``restart 2`` · ``restart all``: start a dead server again on its own data."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Pause:
    """``pause leader``: SIGSTOP."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Resume:
    """``resume 2``: SIGCONT."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Cut:
    """``cut 1 -> 2`` one way · ``cut 1 2`` both ways: messages on it are lost."""

    a: Servers
    b: Servers
    both_ways: bool


@dataclass(frozen=True, slots=True)
class Heal:
    """``heal 1 -> 2`` · ``heal 1 2`` · ``heal`` (everything: ``a`` and ``b`` are ALL)."""

    a: Servers
    b: Servers
    both_ways: bool


@dataclass(frozen=True, slots=True)
class Partition:
    """``partition 1 2 | 3 4 5``: links between groups are cut, links inside them healed.

    Servers not named form one more group.
    """

    groups: tuple[Servers, ...]


@dataclass(frozen=True, slots=True)
class Isolate:
    """``isolate leader``: cut every link of a server, both ways."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Delay:
    """``delay 20ms``: every message takes this long (virtual seconds), on every link."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Put:
    """``put x 1`` · ``put x 1 @2`` (to that server, leader or not; no redirect)."""

    key: bytes
    value: bytes
    server: Servers | None


@dataclass(frozen=True, slots=True)
class Get:
    """``get x`` · ``get x @2``."""

    key: bytes
    server: Servers | None


@dataclass(frozen=True, slots=True)
class Delete:
    """``delete x`` · ``delete x @2``."""

    key: bytes
    server: Servers | None


@dataclass(frozen=True, slots=True)
class Timeout:
    """``timeout 3``: the server starts an election now."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Rate:
    """``rate 1/20`` · ``rate 1`` · ``rate 0``: how fast the cluster's time runs (0 … 10)."""

    rate: float


@dataclass(frozen=True, slots=True)
class Freeze:
    """``freeze``: time stands still; nothing arrives, no timer fires."""


@dataclass(frozen=True, slots=True)
class Thaw:
    """``thaw``: time runs again at the rate it had before it was frozen."""


@dataclass(frozen=True, slots=True)
class Step:
    """``step`` · ``step 5``: while frozen, on to the next due thing: one message or one timer."""

    count: int


@dataclass(frozen=True, slots=True)
class Select:
    """``select 2``: the server whose state is shown (a viewer's own command)."""

    servers: Servers


@dataclass(frozen=True, slots=True)
class Help:
    """``help`` · ``help cut`` (a viewer's own command)."""

    topic: str


@dataclass(frozen=True, slots=True)
class Quit:
    """``quit``: stop all servers and leave (a viewer's own command)."""


@dataclass(frozen=True, slots=True)
class Wait:
    """``wait 2s`` (cluster time; a script's own command)."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Expect:
    """``expect CONDITION [within 5s]`` · ``wait CONDITION [within 5s]`` (a script's own command).

    ``expect`` without ``within`` judges now; ``wait`` without it waits up to 30 s. The
    condition is a CEL expression over the ClusterView (``raftviz.model.conditions``).
    """

    condition: str
    within: float


LabCommand = (
    Kill
    | Restart
    | Pause
    | Resume
    | Cut
    | Heal
    | Partition
    | Isolate
    | Delay
    | Put
    | Get
    | Delete
    | Timeout
    | Rate
    | Freeze
    | Thaw
    | Step
)
ViewerCommand = Select | Help | Quit
ScriptCommand = Wait | Expect
Command = LabCommand | ViewerCommand | ScriptCommand
