"""What the core hands out: work to do, and why something was refused."""

from __future__ import annotations

import enum

from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, Index, Message
from raft.core.readonly import ReadState
from raft.core.value import value


@value
class Ready:
    """Work that the core hands out, to be done in this order.

    ``messages`` may leave at once. Then to the disk, in one atomic step: ``hard_state``,
    ``snapshot`` (which replaces all entries up to its index), and ``entries`` from
    ``first_index`` on; what a store has from there on goes, even if there are no entries
    (``first_index`` 0: the log is untouched). Then call ``persisted(number)``, which may be left
    out if there was nothing to store, and send ``messages_after_persist``: they promise what this
    Ready, *and every one before it*, stored.
    If ``restore``, the state machine starts anew from ``snapshot``: call ``applied`` with its
    index. Then apply ``committed_entries`` (the first at ``first_committed``) and call
    ``applied``. ``read_states`` are reads that may be answered when their index is applied.
    """

    number: int
    hard_state: HardState | None
    snapshot: Snapshot | None
    restore: bool
    first_index: Index
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    messages_after_persist: tuple[Message, ...]
    first_committed: Index
    committed_entries: tuple[Entry, ...]
    read_states: tuple[ReadState, ...]


class Refusal(enum.IntEnum):
    """Why a server does not do what it was asked for."""

    NOT_LEADER = 0
    TRANSFERRING = 1
    """Leadership is being handed over; whoever takes over can be asked."""
    BUSY = 2
    """Too much waits to be committed."""
    NO_COMMIT_YET = 3
    """The leader has not committed an entry of its term: it may not change the members (bug
    in the single-server change as first published; raft-dev, 2015)."""
    CHANGE_IN_PROGRESS = 4
    """A change of the members is not committed yet."""
    CONFIGURATION_MOVED = 5
    """The configuration is no longer the one that the change was meant for."""
    IMPOSSIBLE = 6
    """The change, or the target, makes no sense; the detail says why."""
    GIVEN_UP = 7
    """Leadership was not handed over in time, or another server was elected meanwhile."""


@value
class Refused:
    """Nothing was done; ``detail`` says why, for a person."""

    reason: Refusal
    detail: str = ""
