"""Those who watch a server, and never slow it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from raft.core.core import Core
from raft.core.events import ConfigurationChanged, CoreEvent
from raft.core.messages import Index, Term
from raft.frames import (
    FollowerProgress,
    Observation,
    ObservationsLost,
    ObservedEvent,
    ServerState,
)
from raft.transport import Connection
from raft.wire import MAX_OBSERVATION, encode

ENTRY_BYTES = 32
"""What an entry takes in a frame beside its data, or less."""

STATE_BYTES = MAX_OBSERVATION // 2
"""So much of the log is shown to a new observer: the newest entries, for a frame has an end."""


def server_state(core: Core, address: str) -> ServerState:
    """Return all of the state of a server that listens at ``address``, but of its log the end."""
    configuration = core.configuration
    first = _first_shown(core)
    return ServerState(
        server=core.config.server,
        pid=os.getpid(),
        address=address,
        role=core.role,
        term=core.term,
        voted_for=core.voted_for,
        leader=core.leader,
        first_index=first,
        entries=core.log.entries(first, core.log.last_index),
        commit_index=core.commit_index,
        last_applied=core.last_applied,
        votes=tuple(sorted(core.votes)),
        progress=tuple(
            FollowerProgress(peer, known.next_index, known.match_index)
            for peer, known in core.progress.items()
        ),
        timer_kind=core.timer_kind,
        timer_deadline=core.deadline,
        timer_interval=core.timer_interval,
        snapshot_term=core.log.term_at(first - 1) or Term(0),
        configuration=ConfigurationChanged(
            core.configuration_index,
            configuration.voters,
            configuration.outgoing,
            configuration.learners,
        ),
    )


def _first_shown(core: Core) -> Index:
    index, left = core.log.last_index + 1, STATE_BYTES
    while index > core.log.first_index:
        left -= ENTRY_BYTES + len(core.log.entry(Index(index - 1)).data)
        if left < 0:
            break
        index -= 1
    return Index(index)


class Observers:
    """Those who watch one server.

    One that reads too slowly misses something, is told how much, and gets the whole state again.
    """

    def __init__(self, state: Callable[[], ServerState]) -> None:
        self._state = state
        self._lost: dict[Connection, int] = {}

    def __len__(self) -> int:
        return len(self._lost)

    def add(self, connection: Connection, virtual_time: float) -> None:
        """Show a new observer the whole state, and everything that happens from now on."""
        self._lost[connection] = 0
        self.answer(connection, self._state(), virtual_time)

    def remove(self, connection: Connection) -> None:
        """Forget one that has gone."""
        self._lost.pop(connection, None)

    def answer(self, connection: Connection, event: ObservedEvent, virtual_time: float) -> bool:
        """Tell one observer something; False if it is lost on it."""
        observation = Observation(virtual_time, time.monotonic(), event)
        return self._send(connection, encode(observation))

    def publish(self, events: Iterable[CoreEvent], virtual_time: float) -> None:
        """Tell all observers what happened."""
        if not events or not self._lost:
            return
        now = time.monotonic()
        frames = [encode(Observation(virtual_time, now, event)) for event in events]
        for connection, lost in list(self._lost.items()):
            if lost and not self._catch_up(connection, lost, virtual_time):
                self._lost[connection] += len(frames)
                continue
            if lost:
                # The whole state, just sent, already tells of these events.
                self._lost[connection] = 0
                continue
            for position, frame in enumerate(frames):
                if not self._send(connection, frame):
                    self._lost[connection] = len(frames) - position
                    break

    def _catch_up(self, connection: Connection, lost: int, virtual_time: float) -> bool:
        return self.answer(connection, ObservationsLost(lost), virtual_time) and self.answer(
            connection, self._state(), virtual_time
        )

    def _send(self, connection: Connection, frame: bytes) -> bool:
        try:
            return connection.send(frame)
        except ValueError as error:
            # The log has outgrown what fits into one observation. That is the observer's loss.
            connection.close(f"it cannot be told: {error}")
            return False
