"""The one ordered stream: everything that a viewer of a lab can know (design §7).

What happened inside a server comes as that server told it (``raft.core.events``,
``raft.frames``); the network, the processes, the clock and the commands add their own.
Folding a stream from its beginning gives the state of everything at any moment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raft.core.events import CoreEvent
from raft.core.messages import Message, ServerId
from raft.frames import ObservationsLost, ServerState
from raftviz.model.faults import ChaosChanged as ChaosChanged
from raftviz.model.faults import DiskChanged as DiskChanged
from raftviz.model.faults import DiskDamaged as DiskDamaged
from raftviz.model.faults import LoadChanged as LoadChanged
from raftviz.model.faults import LoadMeasured as LoadMeasured
from raftviz.model.faults import PowerCut as PowerCut
from raftviz.model.faults import RuleBroken as RuleBroken
from raftviz.model.faults import RuleMended as RuleMended
from raftviz.model.faults import ServerAdded as ServerAdded
from raftviz.model.faults import ServerClockChanged as ServerClockChanged
from raftviz.model.faults import ServerRemoved as ServerRemoved

# --- The lab and its clock -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabStarted:
    """A lab with these servers began. Times are in virtual seconds."""

    cluster: str
    servers: tuple[ServerId, ...]
    election_timeout_min: float
    election_timeout_max: float
    heartbeat_interval: float
    seed: int


@dataclass(frozen=True, slots=True)
class ClockChanged:
    """Virtual time is ``virtual + rate · (monotonic clock − monotonic)`` from here on."""

    virtual: float
    monotonic: float
    rate: float


@dataclass(frozen=True, slots=True)
class CommandGiven:
    """Somebody gave a command, and this is how it went."""

    text: str
    ok: bool
    answer: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is wrong with the lab itself, in words."""

    text: str


# --- Processes -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServerSpawned:
    """A server process started and listens at ``address``."""

    server: ServerId
    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class ServerExited:
    """A server process ended. ``how`` in words: "killed (SIGKILL)", "exit status 3: …"."""

    server: ServerId
    pid: int
    how: str
    expected: bool


@dataclass(frozen=True, slots=True)
class ServerPaused:
    """The process was stopped with SIGSTOP: it is alive, holds its connections, does nothing."""

    server: ServerId


@dataclass(frozen=True, slots=True)
class ServerResumed:
    """The process goes on (SIGCONT); to itself no time has passed."""

    server: ServerId


# --- The network -----------------------------------------------------------------------------


class DropReason(enum.IntEnum):
    """Why a message never arrived."""

    LINK_CUT = 0
    SERVER_DOWN = 1
    BY_HAND = 2


@dataclass(frozen=True, slots=True)
class MessageSent:
    """A message left its sender; it is ``due`` (virtual seconds) at its receiver."""

    message_id: int
    message: Message
    due: float


@dataclass(frozen=True, slots=True)
class MessageDelivered:
    """A message reached its receiver's process."""

    message_id: int


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """A message was lost."""

    message_id: int
    reason: DropReason


@dataclass(frozen=True, slots=True)
class LinkChanged:
    """The rules of one direction of a link from here on; ``delay`` is in virtual seconds.

    What is on the link now arrives ``delay`` from now at the latest.
    """

    src: ServerId
    dst: ServerId
    cut: bool
    delay: float


# --- Clients of the lab ----------------------------------------------------------------------


class OperationKind(enum.IntEnum):
    """What a client asked of the key-value machine."""

    PUT = 0
    GET = 1
    DELETE = 2


class Outcome(enum.IntEnum):
    """How an operation ended."""

    OK = 0
    FAILED = 1
    """It certainly had no effect."""
    UNKNOWN = 2
    """It may have taken effect, may still, or never."""


@dataclass(frozen=True, slots=True)
class OperationInvoked:
    """A client sent an operation, to ``server`` (0: to whoever leads)."""

    operation_id: int
    kind: OperationKind
    key: bytes
    value: bytes
    server: ServerId


@dataclass(frozen=True, slots=True)
class OperationReturned:
    """An operation ended; ``value`` is what a get found, ``found`` whether the key was there."""

    operation_id: int
    outcome: Outcome
    found: bool
    value: bytes
    detail: str


Happening = (
    LabStarted
    | ClockChanged
    | CommandGiven
    | Warned
    | ServerSpawned
    | ServerExited
    | ServerPaused
    | ServerResumed
    | MessageSent
    | MessageDelivered
    | MessageDropped
    | LinkChanged
    | OperationInvoked
    | OperationReturned
    | DiskChanged
    | DiskDamaged
    | PowerCut
    | ServerClockChanged
    | RuleBroken
    | RuleMended
    | ServerAdded
    | ServerRemoved
    | LoadChanged
    | LoadMeasured
    | ChaosChanged
    | CoreEvent
    | ServerState
    | ObservationsLost
)


@dataclass(frozen=True, slots=True)
class Event:
    """One happening in its place in the stream.

    ``sequence`` counts from 1 without gaps. ``source`` is the server that told it, 0 for the
    lab. Times are in seconds: ``virtual_time`` of the cluster's clock, ``monotonic_time`` of
    the machine's.
    """

    sequence: int
    virtual_time: float
    monotonic_time: float
    source: ServerId
    what: Happening
