"""What the server asks of a place to keep its persistent state (Figure 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, Index


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a store held when it was opened.

    ``entries[0]`` follows on the snapshot; it has index 1 if there is none.
    """

    hard_state: HardState
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None = None


class StorageError(Exception):
    """The store cannot be used; the message names the file, the place and what is wrong."""


class StorageDamaged(StorageError):  # noqa: N818 (what it is an error of, its base says)
    """The store holds bytes that it did not write, elsewhere than in a torn last record."""


class StorageFull(StorageError):  # noqa: N818
    """There is no room: nothing was stored, and the store is as it was before."""


class LogStore(Protocol):
    """Keeps {term, vote}, the log and the newest snapshot of one server.

    An application may bring its own. The server that it is given to owns it: it calls ``load``
    once, then ``save`` as often as need be, and ``close`` at the end, one after the other.
    ``save`` is called in another thread than the rest, so that a slow disk holds nobody up.
    Whatever any of them raises ends the server; the store is then closed, and loaded anew by
    the next start.

    What the values hold is part of the contract: every field of the hard state, an entry's
    ``term``, ``kind`` and ``data`` (empty data is data), a snapshot's ``index``, ``term``,
    ``data``, ``configuration`` (``Configuration.encode`` and ``decode`` turn that into bytes) and
    ``configuration_index``, terms and indexes up to 2**63 - 1.

    ``raft.testing.conformance`` tests a store for all of this.
    """

    def load(self) -> Recovered:
        """Return what is stored; a new store holds ``HardState()`` and no entries.

        Raises StorageError when it cannot be told for sure: a server that forgets a vote or an
        entry may cost the cluster what it has acknowledged.
        """

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Make it durable: when this returns, a power cut loses nothing of it.

        ``hard_state`` replaces the stored one unless it is None. ``snapshot``, newer than the
        stored one, replaces that and all entries up to its index. ``entries`` are stored from
        ``first_index`` on, without a gap to what is before; whatever was stored at or after
        ``first_index`` is gone, even if there are no entries; with ``first_index`` 0 there are
        none, and the log is untouched. All of it or nothing survives a crash, or the hard state
        alone, and whatever the savings before it stored. Raises StorageFull, after which the
        same save may be tried again, and for anything else StorageError, after which the store
        must not be used.
        """

    def close(self) -> None:
        """Let go of files and locks. A second call does nothing."""
