"""The frames on a connection that are not messages between peers.

A connection opens with a handshake in which both ends prove that they know the cluster's
secret, and neither sends it::

    caller → server   Preamble   version, cluster, who calls, whom it wants, a fresh nonce
    server → caller   Welcome    its own nonce, its proof over both        (or Refused)
    caller → server   Proof      the caller's proof over both              (or Refused comes back)

Where TLS has proved both ends by their certificates, nonce and proof are empty, and the Welcome
is the end of it. A caller may send its first frames right behind its Proof.

After the handshake a *peer* connection carries the caller's messages one way (answers travel on
the callee's own connection); a *client* connection carries requests and replies; an *observer*
connection carries observations to the caller and controls to the server.
"""

from __future__ import annotations

import enum

from raft.core.events import ConfigurationChanged, CoreEvent, Role, TimerKind
from raft.core.membership import Change
from raft.core.messages import Entry, Index, Message, ServerId, Term
from raft.core.ready import Refusal
from raft.core.value import value

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
    """The caller claims to be no server, or to be the one that it called."""
    PROOF = 4
    """The caller could not prove that it knows the cluster's secret, or is whom it says it is."""
    BUSY = 5
    """Too many connections are open."""
    EXPECTED_PREAMBLE = 6
    """The first frame was not a Preamble, or the second not a Proof."""


@value
class Preamble:
    """The first frame of a connection: who calls (``src``: 0 unless a server), and whom it wants.

    ``address`` is where a peer listens itself, empty if it does not say.
    """

    version: int
    cluster: str
    caller: Caller
    src: ServerId
    dst: ServerId
    nonce: bytes
    address: str = ""


@value
class Welcome:
    """The server's half of the handshake."""

    nonce: bytes
    proof: bytes


@value
class Proof:
    """The caller's half of the handshake."""

    proof: bytes


@value
class Refused:
    """The server does not want this connection; it closes right after."""

    reason: RefusalReason
    detail: str


# --- What clients ask ------------------------------------------------------------------------


@value
class Propose:
    """Replicate a command, apply it, and return what the state machine answered."""

    data: bytes


class Consistency(enum.IntEnum):
    """How new the state must be that answers a query."""

    LINEARIZABLE = 0
    """It has every write that was acknowledged before the query (§8)."""
    LEASE = 1
    """The same, as long as no server's clock runs much faster than another's (thesis §6.4.1)."""
    STALE = 2
    """It is whatever the server that was asked has applied: perhaps long out of date."""


@value
class Read:
    """Answer a query from the state machine, without an entry in the log."""

    query: bytes
    consistency: Consistency = Consistency.LINEARIZABLE


@value
class StatusQuery:
    """Ask this server, leader or not, for its Status."""


@value
class MembersQuery:
    """Ask the leader for the Members of the cluster."""


@value
class ChangeMembers:
    """Change who belongs to the cluster: all of it, or nothing.

    With ``compare`` only if the configuration is still the one at ``expected_index``. Answered
    with Members when the change is committed.
    """

    changes: tuple[Change, ...]
    compare: bool
    expected_index: Index


@value
class TransferLeadership:
    """Hand leadership to ``to``, or (None) to the voter that has most of the log."""

    to: ServerId | None


@value
class TakeSnapshot:
    """Let a snapshot stand for the log as far as it is applied, on this server."""


@value
class ForgetLeader:
    """Stop holding to a leader that is known to be gone; answered with Status."""


Request = (
    Propose
    | Read
    | StatusQuery
    | MembersQuery
    | ChangeMembers
    | TransferLeadership
    | TakeSnapshot
    | ForgetLeader
)


@value
class ClientRequest:
    """A client's request; the reply repeats ``id``."""

    id: int
    body: Request


def _require_as_many(ids: tuple[int, ...], datas: tuple[bytes, ...]) -> None:
    if len(ids) != len(datas):
        raise ValueError(f"{len(ids)} ids cannot belong to {len(datas)} byte strings")


@value
class Proposals:
    """Many commands in one frame: what Propose says, for each id and the command beside it."""

    ids: tuple[int, ...]
    commands: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Raise ValueError if the columns differ in length."""
        _require_as_many(self.ids, self.commands)


@value
class Queries:
    """Many queries in one frame: what Read says, linearizable, for each id and its query."""

    ids: tuple[int, ...]
    queries: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Raise ValueError if the columns differ in length."""
        _require_as_many(self.ids, self.queries)


FromClient = ClientRequest | Proposals | Queries

# --- What clients are answered ---------------------------------------------------------------


@value
class Result:
    """The state machine's answer."""

    data: bytes


@value
class AnswerTooLong:
    """The query was answered, or the command carried out, and the answer has ``size`` bytes."""

    size: int


@value
class NotLeader:
    """Nothing was done; ``leader`` is who leads as far as this server knows, and where."""

    leader: ServerId | None
    address: str = ""


@value
class OutcomeUnknown:
    """The server lost leadership: the command may still take effect, or never."""

    detail: str


@value
class Rejected:
    """Nothing was done, and asking again will not help; ``detail`` says what was wrong."""

    detail: str


@value
class Declined:
    """Nothing was done, for ``reason``; ``detail`` says it for a person."""

    reason: Refusal
    detail: str


@value
class Status:
    """One server's state in numbers.

    ``snapshot_index`` is 0 without a snapshot. The members are those of the newest
    configuration in its log, which need not be committed. A server that is ``recovering`` lost
    entries, and does not vote until it has got them back (``raft.core.recovering``).
    """

    server: ServerId
    role: Role
    term: Term
    voted_for: ServerId | None
    leader: ServerId | None
    last_index: Index
    last_term: Term
    commit_index: Index
    last_applied: Index
    snapshot_index: Index
    configuration_index: Index
    voters: tuple[ServerId, ...]
    outgoing: tuple[ServerId, ...]
    learners: tuple[ServerId, ...]
    recovering: bool = False


@value
class Address:
    """Where a server listens."""

    server: ServerId
    address: str


@value
class FollowerProgress:
    """nextIndex and matchIndex of one follower (Figure 2, leaders' volatile state)."""

    follower: ServerId
    next_index: Index
    match_index: Index


@value
class Members:
    """Who belongs to the cluster, by the configuration at ``index`` of the log (0: from the start).

    Until it is ``committed`` another leader may replace it, by another one at the same index.
    ``outgoing`` are the old voters while the configuration is joint (§6). ``progress`` is what
    ``leader`` knows of the others, whose logs should come up to ``last_index``.
    """

    index: Index
    committed: bool
    voters: tuple[ServerId, ...]
    outgoing: tuple[ServerId, ...]
    learners: tuple[ServerId, ...]
    addresses: tuple[Address, ...]
    progress: tuple[FollowerProgress, ...]
    last_index: Index
    leader: ServerId | None


@value
class Transferred:
    """Leadership was handed over; ``leader`` leads now."""

    leader: ServerId


@value
class SnapshotTaken:
    """A snapshot stands for the entries up to ``index`` (0: nothing is applied yet)."""

    index: Index


Reply = (
    Result
    | NotLeader
    | OutcomeUnknown
    | Rejected
    | Declined
    | Status
    | Members
    | Transferred
    | SnapshotTaken
    | AnswerTooLong
)


@value
class ClientReply:
    """The answer to the ClientRequest with the same ``id``.

    ``configuration`` is the index of the newest configuration that the server knows.
    """

    id: int
    body: Reply
    configuration: Index = Index(0)


@value
class Results:
    """The state machine's answers to what came in Proposals and Queries, by their ids.

    Whatever else becomes of one of them is told in a ClientReply of its own.
    """

    ids: tuple[int, ...]
    datas: tuple[bytes, ...]
    configuration: Index = Index(0)

    def __post_init__(self) -> None:
        """Raise ValueError if the columns differ in length."""
        _require_as_many(self.ids, self.datas)


FromServer = ClientReply | Results

# --- Observers -------------------------------------------------------------------------------


@value
class ServerState:
    """All of a server's state: the first observation, and again after some were lost.

    ``entries`` starts at index ``first_index``; of a long log it is the end. ``votes`` are the
    voters that granted a candidate their vote. ``timer_deadline`` is in virtual seconds (0 with
    no timer armed). ``snapshot_term`` is the term of the last entry before ``first_index``, 0 if
    there is none.
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
    snapshot_term: Term
    configuration: ConfigurationChanged


@value
class ObservationsLost:
    """The observer read too slowly: ``count`` observations were dropped; a ServerState follows."""

    count: int


@value
class BarrierReached:
    """Answer to Barrier: all that was asked is done; ``sent`` peer messages went out so far."""

    token: int
    sent: int


ObservedEvent = CoreEvent | ServerState | ObservationsLost | BarrierReached


@value
class Observation:
    """Something that happened in the server, with its virtual and monotonic time in seconds."""

    virtual_time: float
    monotonic_time: float
    event: ObservedEvent


# --- Control, from an observer to the server --------------------------------------------------


@value
class SetClock:
    """Virtual time becomes ``virtual + rate · (monotonic clock − monotonic)`` (design §6)."""

    virtual: float
    monotonic: float
    rate: float


@value
class FireTimer:
    """Let the armed timer fire now, whatever its deadline: one step of frozen time."""


@value
class Campaign:
    """Start an election now, as if the election timer had fired. A leader ignores it."""


@value
class Barrier:
    """Answer once ``received`` peer messages, counted since the process started, are digested."""

    token: int
    received: int


@value
class SetDisk:
    """Let the disk fail like this from here on (``raft.storage.faulty``); ``delay`` is virtual.

    A sync takes ``delay`` seconds more; no file grows on a ``full`` disk; ``fail_sync`` is the
    fate of the next sync, ``tear`` that of the next write, and of the server.
    """

    delay: float
    full: bool
    fail_sync: bool
    tear: bool


@value
class CutPower:
    """Lose at once what is not synced, and end without a word."""


Control = SetClock | FireTimer | Campaign | Barrier | SetDisk | CutPower

Frame = (
    Preamble
    | Welcome
    | Proof
    | Refused
    | Message
    | ClientRequest
    | ClientReply
    | Proposals
    | Queries
    | Results
    | Observation
    | SetClock
    | FireTimer
    | Campaign
    | Barrier
    | SetDisk
    | CutPower
)
