"""What a leader knows of one follower (Figure 2, volatile state on leaders).

::

            a refusal, or a new leader
      ┌────────────────────────────────────┐
      ▼                                    │
    PROBE ──────── an acknowledgement ──▶ REPLICATE
    one append at a time,                 appends follow each other without
    nextIndex waits for the answer        waiting; nextIndex runs ahead
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from raft.core.messages import Index


class ProgressState(enum.Enum):
    """How a leader sends to a follower."""

    PROBE = "probe"
    """It does not know where the logs part: one append at a time."""
    REPLICATE = "replicate"
    """It knows that the follower keeps up: appends are sent ahead of their answers."""


@dataclass(slots=True)
class Progress:
    """nextIndex and matchIndex of one follower.

    Invariant: 0 ≤ match_index < next_index; match_index never falls while one leader leads.
    """

    next_index: Index
    match_index: Index = Index(0)
    state: ProgressState = ProgressState.PROBE
    round: int = 0
    """The newest broadcast of this leader that the follower has answered."""
    waiting: bool = False
    """PROBE only: an append is out and not answered; heartbeats try again."""

    def may_send(self, last_index: Index) -> bool:
        """Tell whether there are entries to send and nothing to wait for."""
        return self.next_index <= last_index and not self.waiting

    def sent(self, last_index: Index) -> None:
        """Note that entries up to ``last_index`` went out."""
        if self.state is ProgressState.PROBE:
            self.waiting = True
        else:
            self.next_index = max(self.next_index, Index(last_index + 1))

    def acknowledged(self, match_index: Index) -> None:
        """Note that the logs agree up to ``match_index``; an older answer changes nothing.

        Acknowledgements may arrive late, twice and out of order: both indexes only rise. A probe
        is answered by one that reaches the place where it looked, and by no other.
        """
        if match_index >= self.next_index - 1:
            self.state = ProgressState.REPLICATE
            self.waiting = False
        self.match_index = max(self.match_index, match_index)
        self.next_index = max(self.next_index, Index(match_index + 1))

    def refused(self, prev_log_index: Index, retry_from: Index) -> bool:
        """Go back to ``retry_from`` because ``prev_log_index`` did not match.

        Returns False, and changes nothing, for a refusal of an older request: one that an
        acknowledgement contradicts, or that is not the probe now out.
        """
        # Up to matchIndex the logs are equal: a follower that refuses now has more than that, and
        # what it conflicts in begins behind it. Else it refused before it acknowledged.
        if min(prev_log_index, retry_from) <= self.match_index:
            return False
        if self.state is ProgressState.PROBE and prev_log_index != self.next_index - 1:
            return False
        self.next_index = min(retry_from, prev_log_index)
        self.state = ProgressState.PROBE
        self.waiting = False
        return True
