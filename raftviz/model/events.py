"""The one ordered stream: everything that a viewer of a lab can know (design §7).

What happened inside a server comes as that server told it (``raft.core.events``,
``raft.frames``); the network, the processes, the clock and the commands add their own.
Folding a stream from its beginning gives the state of everything at any moment.
"""

from __future__ import annotations

import enum
from dataclasses import fields

from raft.core.events import CoreEvent
from raft.core.messages import Message, ServerId
from raft.core.value import value
from raft.frames import Consistency, ObservationsLost, ServerState
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
from raftviz.model.link_rules import Distribution, LinkRules

# --- The lab and its clock -------------------------------------------------------------------


@value
class LabStarted:
    """A lab with these servers began. Times are in virtual seconds."""

    cluster: str
    servers: tuple[ServerId, ...]
    election_timeout_min: float
    election_timeout_max: float
    heartbeat_interval: float
    seed: int


@value
class ClockChanged:
    """Virtual time is ``virtual + rate · (monotonic clock − monotonic)`` from here on."""

    virtual: float
    monotonic: float
    rate: float


@value
class CommandGiven:
    """Somebody gave a command, and this is how it went."""

    text: str
    ok: bool
    answer: str


@value
class Warned:
    """Something is wrong with the lab itself, in words."""

    text: str


# --- Processes -------------------------------------------------------------------------------


@value
class ServerSpawned:
    """A server process started and listens at ``address``."""

    server: ServerId
    pid: int
    address: str


@value
class ServerExited:
    """A server process ended. ``how`` in words: "killed (SIGKILL)", "exit status 3: …"."""

    server: ServerId
    pid: int
    how: str
    expected: bool


@value
class ServerPaused:
    """The process was stopped with SIGSTOP: it is alive, holds its connections, does nothing."""

    server: ServerId


@value
class ServerResumed:
    """The process goes on (SIGCONT); to itself no time has passed."""

    server: ServerId


# --- The network -----------------------------------------------------------------------------


class DropReason(enum.IntEnum):
    """Why a message never arrived."""

    LINK_CUT = 0
    SERVER_DOWN = 1
    BY_HAND = 2
    LOSS = 3
    """The link loses a share of its messages, and this was one of them."""
    LINK_RESET = 4
    """The connection that it was on was broken."""


@value
class MessageSent:
    """A message left its sender; it is ``due`` (virtual seconds) at its receiver."""

    message_id: int
    message: Message
    due: float


@value
class MessageDelivered:
    """A message reached its receiver's process."""

    message_id: int


@value
class MessageDropped:
    """A message was lost."""

    message_id: int
    reason: DropReason


@value
class MessageDuplicated:
    """A message is under way once more, as ``copy_id``, due (virtual seconds) at its receiver."""

    message_id: int
    copy_id: int
    due: float


@value
class MessageHeld:
    """A message waits, however long, until it is released, delivered or dropped."""

    message_id: int


@value
class MessageRescheduled:
    """A message arrives at ``due`` (virtual seconds): it was released, or its link got faster."""

    message_id: int
    due: float


@value
class RequestSent:
    """A client's request left for a server, or a reply for the client (the end that is 0).

    Only links between clients and servers that have rules of their own tell of what is on them;
    on the others it takes no time. What becomes of it is told as of a message.
    """

    message_id: int
    src: ServerId
    dst: ServerId
    kind: str
    due: float


@value
class LinkChanged:
    """The rules of one direction of a link from here on (see ``LinkRules``).

    Without ``kind`` they are those of every message, and kinds have none of their own any more;
    with it they are those of this one kind, by the name of the paper.
    """

    src: ServerId
    dst: ServerId
    cut: bool
    delay: float
    stalled: bool = False
    reset: bool = False
    held: bool = False
    jitter: float = 0.0
    distribution: Distribution = Distribution.UNIFORM
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    bandwidth: float = 0.0
    kind: str = ""

    @property
    def rules(self) -> LinkRules:
        """The rules themselves."""
        return LinkRules(*(getattr(self, field.name) for field in fields(LinkRules)))


def link_changed(src: ServerId, dst: ServerId, rules: LinkRules, kind: str = "") -> LinkChanged:
    """Return the event that tells of these rules."""
    told = {field.name: getattr(rules, field.name) for field in fields(LinkRules)}
    return LinkChanged(src, dst, kind=kind, **told)


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


@value
class OperationInvoked:
    """A client sent an operation, to ``server`` (0: to whoever leads).

    ``consistency`` is what a get is content with; writes are always linearizable.
    """

    operation_id: int
    kind: OperationKind
    key: bytes
    value: bytes
    server: ServerId
    consistency: Consistency = Consistency.LINEARIZABLE


@value
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
    | MessageDuplicated
    | MessageHeld
    | MessageRescheduled
    | RequestSent
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


@value
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
