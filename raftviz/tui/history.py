"""What happened, as lines of words: the newest last, and not too many."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

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
from raft.core.messages import Granted
from raftviz.model.events import (
    CommandGiven,
    Event,
    Happening,
    LinkChanged,
    MessageDropped,
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
class Line:
    """One thing that happened at ``at`` (virtual seconds); ``term`` colours what has one."""

    sequence: int
    at: float
    tone: Tone
    term: int
    text: str


@dataclass(slots=True)
class History:
    """Two lists: what is worth a look, and everything."""

    notable: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))
    everything: deque[Line] = field(default_factory=lambda: deque(maxlen=MAX_LINES))

    def apply(self, event: Event, view: ClusterView) -> None:
        """Take note of an event; the view must not have seen it yet."""
        server = view.servers.get(event.source)
        term = getattr(event.what, "term", None) or (server.term if server else 0)
        line = Line(
            event.sequence, event.virtual_time, tone_of(event.what), term, describe(event, view)
        )
        self.everything.append(line)
        if noteworthy(event, view):
            self.notable.append(line)

    def note(self, event: Event, violation: Violation) -> None:
        """Take note that a safety property broke with an event."""
        text = f"{violation.property.value} is broken: {violation.text}"
        line = Line(event.sequence, violation.time, Tone.BAD, 0, text)
        self.everything.append(line)
        self.notable.append(line)

    def lines(self, *, all_of_it: bool) -> deque[Line]:
        """Return the lines, oldest first."""
        return self.everything if all_of_it else self.notable


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
