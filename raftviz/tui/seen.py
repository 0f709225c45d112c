"""What a viewer watches: the stream folded into everything that the panels show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from raft.core.events import CommitAdvanced
from raft.core.messages import ServerId, Term
from raft.frames import ServerState
from raftviz import commands
from raftviz.lab.api import Answer
from raftviz.model.events import Event, LabStarted, Warned
from raftviz.model.invariants import Invariants
from raftviz.model.view import ClusterView, ServerView
from raftviz.tui.history import History
from raftviz.tui.theme import DARK, Palette
from raftviz.tui.traffic import Traffic

LATE = 1.0
"""Real seconds: what is drawn later than this after it happened is not the present any more."""


@dataclass(frozen=True, slots=True)
class Said:
    """A command and how it went; no answer yet while it is carried out."""

    text: str
    answer: Answer | None


@dataclass(frozen=True, slots=True)
class Aim:
    """A link is about to be cut: from ``server``, both ways or only what it sends."""

    server: ServerId
    both_ways: bool

    def command(self, other: ServerId) -> str:
        """Return the command that cuts the link to another server."""
        return f"cut {self.server} {'' if self.both_ways else '-> '}{other}"


@dataclass(slots=True)
class Seen:
    """The state of the screen: what the laboratory told, and what the user looks at.

    ``now`` is the frame's moment on the machine's clock.
    """

    view: ClusterView = field(default_factory=ClusterView)
    traffic: Traffic = field(default_factory=Traffic)
    invariants: Invariants = field(default_factory=Invariants)
    history: History = field(default_factory=History)
    palette: Palette = field(default_factory=lambda: Palette.of(DARK))
    now: float = 0.0
    chosen: ServerId | None = None
    """The server that the user selected; without one the leader is."""
    aim: Aim | None = None
    said: Said | None = None
    typing: bool = False
    remark: str = ""
    """What the screen has to say otherwise; the next command takes its place."""
    warning: str = ""
    """The laboratory's last words about itself."""
    ended: str | None = None
    """Why the laboratory is gone."""
    moving: bool = True
    """False where the user wants no animation."""
    last_leader: ServerId | None = None
    committed: list[Term] = field(default_factory=list)
    """The terms of all entries known to be committed, from index 1 on. Every commitIndex may be
    lost with its process, but what was committed once is for ever (Leader Completeness)."""

    behind: float = 0.0
    """How old, in real seconds, the newest event is that was drawn while there were any."""
    _late: float = 0.0

    def fold(self, events: Sequence[Event], now: float) -> None:
        """Take in the events of one frame."""
        self.now = now
        self._watch_delay(events)
        for event in events:
            self.traffic.apply(event, self.view, now)
            self.history.apply(event, self.view)
            self.view.apply(event)
            self._take_commits(event)
            for violation in self.invariants.apply(event, self.view):
                self.history.note(violation)
            if isinstance(event.what, Warned):
                self.warning = event.what.text
        self.history.settle()
        self.traffic.prune(now)
        self.last_leader = self.view.leader or self.last_leader

    def _watch_delay(self, events: Sequence[Event]) -> None:
        """Note how far the picture is behind. It has caught up when nothing late comes any more."""
        delay = self.now - events[-1].monotonic_time if events else 0.0
        if delay > LATE:
            self.behind, self._late = delay, self.now
        elif events or self.now - self._late > LATE:
            self.behind = 0.0

    def _take_commits(self, event: Event) -> None:
        if isinstance(event.what, LabStarted):
            self.committed = []
        elif isinstance(event.what, CommitAdvanced | ServerState):
            server = self.view.servers.get(event.source)
            if server is not None:
                for index in range(len(self.committed) + 1, server.commit_index + 1):
                    entry = server.entry(index)
                    self.committed.append(Term(0) if entry is None else entry.term)

    def is_committed(self, index: int, term: Term) -> bool:
        """Tell whether the entry at ``index``, if it is of ``term``, is known to be committed."""
        return 1 <= index <= len(self.committed) and self.committed[index - 1] == term

    @property
    def moment(self) -> object:
        """All that a picture depends on beside the events: equal moments look the same."""
        fading = self.now if self.traffic.ended else None
        doing = (self.chosen, self.aim, self.said, self.remark, self.typing)
        return self.virtual, fading, doing, self.ended, self.behind, id(self.palette)

    @property
    def virtual(self) -> float:
        """The cluster's time at this frame; it never runs ahead of a laboratory that has gone."""
        return self.view.time if self.ended else self.view.clock.now(self.now)

    @property
    def selected(self) -> ServerId | None:
        """The server that keys speak of: the chosen one, else whoever leads or led last."""
        if self.chosen is not None and self.chosen in self.view.servers:
            return self.chosen
        return self.last_leader or next(iter(self.view.servers), None)

    @property
    def selected_server(self) -> ServerView | None:
        """What is known of the selected server."""
        return self.view.servers.get(self.selected) if self.selected else None

    def completions(self, text: str) -> list[str]:
        """Return what a begun command may become, with the servers and messages there are."""
        servers = tuple(self.view.servers) or commands.DEFAULT_SERVERS
        return commands.complete(text, servers, tuple(self.view.flights))

    @property
    def starting(self) -> bool:
        """Whether no server has been there yet."""
        servers = self.view.servers.values()
        return not any(server.alive or server.exit is not None for server in servers)

    @property
    def frozen(self) -> bool:
        """Whether the cluster's time stands still (before the first word of it, it does not)."""
        return not self.starting and self.view.clock.rate == 0
