"""What happened, as lines of words: the newest last, and not too many."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field, replace

from raft.core.events import (
    CommitAdvanced,
    ConfigurationChanged,
    EntriesTruncated,
    LeaderChanged,
    LogCompacted,
    PreVoteCast,
    PreVoteReceived,
    Role,
    RoleChanged,
    SnapshotInstalled,
    TermChanged,
    TransferChanged,
    VoteCast,
    VoteReceived,
)
from raft.core.messages import Granted, Message, ServerId
from raftviz.model.events import (
    CommandGiven,
    Event,
    Happening,
    LinkChanged,
    MessageDropped,
    MessageSent,
    OperationReturned,
    Outcome,
    ServerExited,
    ServerPaused,
    Warned,
)
from raftviz.model.invariants import Violation
from raftviz.model.view import ClusterView
from raftviz.model.words import describe, noteworthy

MAX_LINES = 2000
TOGETHER = 0.005
"""Virtual seconds within which a server sends one round of equal messages."""
LOOK_BACK = 12
"""So many lines back a message may find its round."""


class Tone(enum.Enum):
    """How a line is coloured; its glyph says the same without colour."""

    PLAIN = "·"
    LEADS = "★"
    CAMPAIGNS = "◇"
    GOOD = "✓"
    BAD = "✗"
    GIVEN = " "
    CHANGED = "~"


@dataclass(frozen=True, slots=True)
class Round:
    """A message that one server sends to several; all else that it says is the same to each."""

    message: Message
    """To the first of them."""
    receivers: tuple[ServerId, ...]

    @property
    def way(self) -> str:
        """Who sends it to whom, as a line of words begins."""
        return f"S{self.message.src} → {' '.join(f'S{server}' for server in self.receivers)}  "

    def joins(self, other: Round) -> bool:
        """Tell whether this message, to one receiver, is another of the same round."""
        mine, first = self.message, other.message
        return (
            type(mine) is type(first)
            and mine.src == first.src
            and mine.dst not in other.receivers
            and replace(mine, dst=first.dst) == first
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened at ``at`` (virtual seconds); ``term`` colours what has one."""

    sequence: int
    """Counts the lines, in the order in which they stand."""
    at: float
    tone: Tone
    term: int
    text: str
    round: Round | None = None

    def with_receiver_of(self, other: Line) -> Line | None:
        """Return this line with the other's receiver, None if that does not belong to it."""
        mine, new = self.round, other.round
        if mine is None or new is None or other.at - self.at > TOGETHER or not new.joins(mine):
            return None
        if other.text.replace(new.way, mine.way, 1) != self.text:
            return None  # one was sent, the other lost
        both = Round(mine.message, (*mine.receivers, *new.receivers))
        return replace(self, text=self.text.replace(mine.way, both.way, 1), round=both)


@dataclass(slots=True)
class History:
    """Two lists: what is worth a look, and everything. ``settle`` ends each batch of events."""

    notable: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    everything: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    _batch: list[tuple[Line, bool]] = field(default_factory=list)
    _count: int = 0
    _said: dict[tuple[type, ServerId, ServerId], str] = field(default_factory=dict)
    """What was noted last of each way and what befell it, as sent or lost."""

    def apply(self, event: Event, view: ClusterView) -> None:
        """Take note of an event; the view must not have seen it yet."""
        server, what = view.servers.get(event.source), event.what
        term = getattr(what, "term", None) or (server.term if server else 0)
        line = Line(
            0, event.virtual_time, tone_of(what), term, describe(event, view), _round(what, view)
        )
        self._batch.append((line, noteworthy(event, view) and not self._is_repeated(what, line)))

    def _is_repeated(self, what: Happening, line: Line) -> bool:
        """Tell whether a server says again, or loses, what it did the last time.

        With every heartbeat a leader repeats what was not acknowledged: while a server is down
        or cut off nothing else would be seen.
        """
        if line.round is None:
            return False
        message = line.round.message
        way = (type(what), message.src, message.dst)
        before, self._said[way] = self._said.get(way), line.text
        return before == line.text

    def note(self, violation: Violation) -> None:
        """Take note that a safety property broke."""
        text = f"{violation.property.value} is broken: {violation.text}"
        self._batch.append((Line(0, violation.time, Tone.BAD, 0, text), True))

    def settle(self) -> None:
        """Put the batch behind the lines that stand, in the order in which it happened.

        Servers tell over ways of their own, so what two of them tell may arrive the other way
        round. What happened at one moment keeps the order of the stream: causes come first.
        """
        for line, notable in sorted(self._batch, key=lambda noted: noted[0].at):
            self._count += 1
            numbered = replace(line, sequence=self._count)
            _add(self.everything, numbered)
            if notable:
                _add(self.notable, numbered)
        self._batch.clear()

    def lines(self, *, all_of_it: bool) -> deque[Line]:
        """Return the lines, oldest first."""
        return self.everything if all_of_it else self.notable


def _round(what: Happening, view: ClusterView) -> Round | None:
    match what:
        case MessageSent(message=message):
            return Round(message, (message.dst,))
        case MessageDropped(message_id):
            flight = view.flight(message_id)
            return Round(flight.message, (flight.message.dst,)) if flight else None
    return None


def _add(lines: deque[Line], line: Line) -> None:
    """Add a line; a message to one receiver more is a word more in the line of its round."""
    if line.round is not None:
        for back in range(1, min(LOOK_BACK, len(lines)) + 1):
            if (longer := lines[-back].with_receiver_of(line)) is not None:
                lines[-back] = longer
                return
    lines.append(line)


def tone_of(what: Happening) -> Tone:
    """Decide how a line about this is coloured."""
    match what:
        case RoleChanged(role=Role.LEADER) | LeaderChanged():
            return Tone.LEADS
        case RoleChanged(role=Role.CANDIDATE | Role.PRE_CANDIDATE):
            return Tone.CAMPAIGNS
        case (
            VoteCast(outcome=outcome)
            | VoteReceived(outcome=outcome)
            | PreVoteCast(outcome=outcome)
            | PreVoteReceived(outcome=outcome)
        ):
            return Tone.GOOD if isinstance(outcome, Granted) else Tone.BAD
        case CommitAdvanced() | OperationReturned(outcome=Outcome.OK):
            return Tone.GOOD
        case EntriesTruncated() | ServerExited() | MessageDropped() | OperationReturned():
            return Tone.BAD
        case CommandGiven(ok=True):
            return Tone.GIVEN
        case CommandGiven() | Warned():
            return Tone.BAD
        case LinkChanged() | ServerPaused() | TermChanged():
            return Tone.CHANGED
        case ConfigurationChanged() | LogCompacted() | SnapshotInstalled() | TransferChanged():
            return Tone.CHANGED
    return Tone.PLAIN
