"""Messages as the eye needs them: what each one says, and those that have just ended.

The view forgets a message the moment it arrives; at real-time rate that is after a fifth of a
frame. So the last ones are kept for a moment, for their trail, their arrival or their death.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Granted,
    InstallSnapshot,
    InstallSnapshotReply,
    LeaderAlive,
    LogBehind,
    Message,
    Mismatch,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    ServerId,
    StaleTerm,
    TimeoutNow,
    VoteOutcome,
)
from raft.printable import printable
from raftviz.model.events import (
    DropReason,
    Event,
    MessageDelivered,
    MessageDropped,
    MessageSent,
)
from raftviz.model.machine import command_text
from raftviz.model.view import ClusterView, Flight

BLINK, GLANCE, LOOK = 0.15, 0.35, 0.8
"""Real seconds for which a message is seen after it ended: a heartbeat, one whose way could be
followed with the eye, and one whose way could not."""
SLOW = 0.2
"""At this rate of time and below the eye can follow single messages."""
MAX_ENDED = 400
FACE_LIMIT = 14
"""Characters of a command that travel with its message."""


class Kind(enum.Enum):
    """What a message is to the eye."""

    ASK = "?"
    GRANT = "+"
    REFUSE = "−"
    BEAT = "●"
    BEAT_ANSWER = "○"
    ENTRIES = "▪"
    STORED = "✓"
    MISMATCH = "✗"


@dataclass(frozen=True, slots=True)
class Look:
    """How a message is drawn: its kind, what stands on it, and what may stand beside it."""

    kind: Kind
    face: str
    label: str
    term: int


def refusal(outcome: VoteOutcome, voter: ServerId | None = None) -> str:
    """Say in a few words why ``voter`` refused its vote; nothing for a granted one."""
    match outcome:
        case AlreadyVoted(candidate):
            return f"had voted for {'itself' if candidate == voter else f'S{candidate}'}"
        case LogBehind():
            return "its log was newer"
        case LeaderAlive():
            return "has a leader"
        case StaleTerm():
            return "was in a newer term"
    return ""


def short_refusal(outcome: VoteOutcome) -> str:
    """Say in two words why a vote was refused: inside a circle there is no room for more."""
    match outcome:
        case AlreadyVoted(candidate):
            return f"voted S{candidate}"
        case LogBehind():
            return "newer log"
        case StaleTerm():
            return "newer term"
    return ""


def look_of(message: Message, view: ClusterView) -> Look:
    """Decide how a message looks, when it is sent."""
    match message:
        case RequestVote():
            return Look(Kind.ASK, "?", "vote for me", message.term)
        case RequestVoteReply(outcome=Granted()):
            return Look(Kind.GRANT, "+", "yes", message.term)
        case RequestVoteReply(outcome=AlreadyVoted() as outcome):
            return Look(Kind.REFUSE, "−", refusal(outcome, message.src), message.term)
        case RequestVoteReply():
            return Look(Kind.REFUSE, "−", short_refusal(message.outcome), message.term)
        case AppendEntries(entries=()):
            return Look(Kind.BEAT, "●", "", message.term)
        case AppendEntries():
            return _entries(message)
        case AppendEntriesReply():
            return _append_answer(message, view)
        case InstallSnapshot():
            return Look(Kind.ENTRIES, "snapshot", f"up to {message.last_index}", message.term)
        case InstallSnapshotReply(installed=True):
            return Look(Kind.STORED, "✓", f"has {message.last_index}", message.term)
        case InstallSnapshotReply():
            return Look(Kind.BEAT_ANSWER, "○", "", message.term)
    return _question(message)


def _question(
    message: RequestPreVote | RequestPreVoteReply | TimeoutNow | ReadIndex | ReadIndexReply,
) -> Look:
    match message:
        case RequestPreVote():
            return Look(Kind.ASK, "?", "would you vote for me", message.term)
        case RequestPreVoteReply(outcome=Granted()):
            return Look(Kind.GRANT, "+", "I would", message.term)
        case RequestPreVoteReply():
            return Look(Kind.REFUSE, "−", refusal(message.outcome, message.src), message.term)
        case TimeoutNow():
            return Look(Kind.ASK, "!", "take over", message.term)
        case ReadIndex():
            return Look(Kind.ASK, "?", "a read", message.term)
        case ReadIndexReply(index=index):
            return Look(Kind.GRANT, "+", f"up to {index}", message.term)


def _entries(message: AppendEntries) -> Look:
    first = message.entries[0]
    face = printable(command_text(first), FACE_LIMIT)
    if len(message.entries) > 1:
        face = f"{face} +{len(message.entries) - 1}"
    after = f"after {message.prev_log_index}/{message.prev_log_term}"
    return Look(Kind.ENTRIES, face, after, first.term)


def _append_answer(message: AppendEntriesReply, view: ClusterView) -> Look:
    match message.outcome:
        case Appended(match_index):
            leader = view.servers.get(message.dst)
            known = leader.progress.get(message.src) if leader else None
            if known is not None and known.match_index >= match_index:
                return Look(Kind.BEAT_ANSWER, "○", "", message.term)
            return Look(Kind.STORED, "✓", f"has {match_index}", message.term)
        case Mismatch(prev_log_index=index):
            return Look(Kind.MISMATCH, "✗", f"no such entry {index}", message.term)
    return Look(Kind.MISMATCH, "✗", "old term", message.term)


@dataclass(frozen=True, slots=True)
class Ended:
    """A message that arrived, or (``dropped``) did not, at ``at`` on the machine's clock."""

    flight: Flight
    look: Look
    at: float
    dropped: DropReason | None
    share: float
    """How far it had come (0 … 1)."""
    afterglow: float
    """Real seconds for which it is still seen."""

    def age(self, now: float) -> float:
        """How much of its afterglow is over (0 … 1 and beyond)."""
        return (now - self.at) / self.afterglow


@dataclass(slots=True)
class Traffic:
    """Folds the stream beside the view; feed it each event *before* the view."""

    looks: dict[int, Look] = field(default_factory=dict)
    ended: list[Ended] = field(default_factory=list)

    def apply(self, event: Event, view: ClusterView, now: float) -> None:
        """Take note of an event; ``now`` is the frame's time on the machine's clock."""
        match event.what:
            case MessageSent(message_id, message):
                self.looks[message_id] = look_of(message, view)
            case MessageDelivered(message_id):
                self._end(message_id, view, now, None, event.virtual_time)
            case MessageDropped(message_id, reason):
                self._end(message_id, view, now, reason, event.virtual_time)

    def _end(
        self, number: int, view: ClusterView, now: float, reason: DropReason | None, virtual: float
    ) -> None:
        look, flight = self.looks.pop(number, None), view.flights.get(number)
        if look is not None and flight is not None:
            share = 1.0 if reason is None else progress(flight, virtual)
            glow = afterglow(look, view.clock.rate)
            self.ended.append(Ended(flight, look, now, reason, share, glow))

    def prune(self, now: float) -> None:
        """Forget what is no longer seen."""
        self.ended = [one for one in self.ended if one.age(now) < 1][-MAX_ENDED:]


def afterglow(look: Look, rate: float) -> float:
    """Return for how many real seconds a message that has ended is still seen."""
    if look.kind in (Kind.BEAT, Kind.BEAT_ANSWER):
        return BLINK
    return GLANCE if 0 < rate <= SLOW else LOOK


def progress(flight: Flight, virtual: float) -> float:
    """Return how far a message has come at a virtual time, from 0 to 1 (it may wait there).

    One that is held waits half-way, where all can see it.
    """
    duration, most = flight.due - flight.sent, 0.5 if flight.held else 1.0
    if duration <= 0:
        return most
    return min(max((virtual - flight.sent) / duration, 0.0), most)


def next_due(view: ClusterView) -> tuple[float, Flight | ServerId] | None:
    """Return what a step would do next and when it is due, None when nothing ever is."""
    due: list[tuple[float, Flight | ServerId]] = [
        (flight.due, flight) for flight in view.flights.values() if not flight.held
    ]
    due += [
        (server.timer_deadline, server.id)
        for server in view.servers.values()
        if server.alive and not server.paused and server.timer_kind is not None
    ]
    return min(due, key=lambda item: item[0]) if due else None
