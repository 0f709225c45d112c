"""The frames on a connection that are not messages between peers.

A connection opens with a handshake in which both ends prove that they know the cluster's
secret, and neither sends it (design §8)::

    caller → server   Preamble   version, cluster, who calls, whom it wants, a fresh nonce
    server → caller   Welcome    its own nonce, its proof over both        (or Refused)
    caller → server   Proof      the caller's proof over both              (or Refused comes back)

A caller may send its first frames right behind its Proof. After the handshake a *peer*
connection carries the caller's messages one way (answers travel on the callee's own
connection); a *client* connection carries requests and replies; an *observer* connection
carries observations to the caller and controls to the server.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raft.core.events import CoreEvent, Role, TimerKind
from raft.core.messages import Entry, Index, Message, ServerId, Term

PROTOCOL_VERSION = 1


# --- Handshake -------------------------------------------------------------------------------


class Caller(enum.IntEnum):
    """Who opened the connection."""

    PEER = 0
    CLIENT = 1
    OBSERVER = 2


class RefusalReason(enum.IntEnum):
    """Why a server closed a connection in the handshake."""

    VERSION = 0
    """The caller speaks another version of the protocol."""
    CLUSTER = 1
    """The caller belongs to another cluster."""
    WRONG_SERVER = 2
    """The caller wants another server than the one it reached."""
    UNKNOWN_PEER = 3
    """The caller claims to be a server that is not in this cluster."""
    PROOF = 4
    """The caller could not prove that it knows the cluster's secret."""
    BUSY = 5
    """Too many connections are open."""
    EXPECTED_PREAMBLE = 6
    """The first frame was not a Preamble, or the second not a Proof."""


@dataclass(frozen=True, slots=True)
class Preamble:
    """The first frame of a connection: who calls (``src``: 0 unless a peer), and whom it wants."""

    version: int
    cluster: str
    caller: Caller
    src: ServerId
    dst: ServerId
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server's half of the handshake."""

    nonce: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Proof:
    """The caller's half of the handshake."""

    proof: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The server does not want this connection; it closes right after."""

    reason: RefusalReason
    detail: str


# --- Clients ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Propose:
    """Replicate a command, apply it, and return what the state machine answered."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Read:
    """Answer a query from state at least as new as every write acknowledged before (§8)."""

    query: bytes


@dataclass(frozen=True, slots=True)
class StatusQuery:
    """Ask this server, leader or not, for its Status."""


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A client's request; the reply repeats ``id``."""

    id: int
    body: Propose | Read | StatusQuery


@dataclass(frozen=True, slots=True)
class Result:
    """The state machine's answer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class NotLeader:
    """Nothing was done; ``leader`` is who leads as far as this server knows."""

    leader: ServerId | None


@dataclass(frozen=True, slots=True)
class OutcomeUnknown:
    """The server lost leadership: the command may still take effect, or never."""

    detail: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was done, and asking again will not help; ``detail`` says what was wrong."""

    detail: str


@dataclass(frozen=True, slots=True)
class Status:
    """One server's state in numbers."""

    server: ServerId
    role: Role
    term: Term
    voted_for: ServerId | None
    leader: ServerId | None
    last_index: Index
    last_term: Term
    commit_index: Index
    last_applied: Index


@dataclass(frozen=True, slots=True)
class ClientReply:
    """The answer to the ClientRequest with the same ``id``."""

    id: int
    body: Result | NotLeader | OutcomeUnknown | Rejected | Status


# --- Observers -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FollowerProgress:
    """nextIndex and matchIndex of one follower (Figure 2, leaders' volatile state)."""

    follower: ServerId
    next_index: Index
    match_index: Index


@dataclass(frozen=True, slots=True)
class ServerState:
    """All of a server's state: the first observation, and again after some were lost.

    ``entries`` starts at index ``first_index``. ``votes`` are the voters that granted a
    candidate their vote. ``timer_deadline`` is in virtual seconds (0 with no timer armed).
    """

    server: ServerId
    pid: int
    address: str
    role: Role
    term: Term
    voted_for: ServerId | None
    leader: ServerId | None
    first_index: Index
    entries: tuple[Entry, ...]
    commit_index: Index
    last_applied: Index
    votes: tuple[ServerId, ...]
    progress: tuple[FollowerProgress, ...]
    timer_kind: TimerKind
    timer_deadline: float
    timer_interval: float


@dataclass(frozen=True, slots=True)
class ObservationsLost:
    """The observer read too slowly: ``count`` observations were dropped; a ServerState follows."""

    count: int


@dataclass(frozen=True, slots=True)
class BarrierReached:
    """Answer to Barrier: all that was asked is done; ``sent`` peer messages went out so far."""

    token: int
    sent: int


ObservedEvent = CoreEvent | ServerState | ObservationsLost | BarrierReached


@dataclass(frozen=True, slots=True)
class Observation:
    """Something that happened in the server, with its virtual and monotonic time in seconds."""

    virtual_time: float
    monotonic_time: float
    event: ObservedEvent


# --- Control, from an observer to the server --------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetClock:
    """Virtual time becomes ``virtual + rate · (monotonic clock − monotonic)`` (design §6)."""

    virtual: float
    monotonic: float
    rate: float


@dataclass(frozen=True, slots=True)
class FireTimer:
    """Let the armed timer fire now, whatever its deadline: one step of frozen time."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """Start an election now, as if the election timer had fired. A leader ignores it."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """Answer once ``received`` peer messages, counted since the process started, are digested."""

    token: int
    received: int


Control = SetClock | FireTimer | Campaign | Barrier

Frame = (
    Preamble
    | Welcome
    | Proof
    | Refused
    | Message
    | ClientRequest
    | ClientReply
    | Observation
    | SetClock
    | FireTimer
    | Campaign
    | Barrier
)
