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
    """Keeps {term, vote} and the log. An application may bring its own."""

    def load(self) -> Recovered:
        """Return what is stored. Called once, before any save. Raises StorageError."""

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        """Make it durable: when this returns, a power cut loses nothing of it.

        ``hard_state`` replaces the stored one unless it is None. ``snapshot`` replaces an older
        one and all entries up to its index. ``entries`` are stored from ``first_index`` on;
        whatever was stored at or after ``first_index`` is gone, even if there are no entries;
        with ``first_index`` 0 the log is untouched. All of it or nothing survives a crash, or
        the hard state alone. Raises StorageFull, after which the same save may be tried again,
        and for anything else StorageError, after which the store must not be used.
        """

    def close(self) -> None:
        """Let go of files and locks."""
