"""What Raft promises (Figure 3), checked as it happens, over all servers and across crashes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from raft.core.core import Core
from raft.core.events import (
    CommitAdvanced,
    CoreEvent,
    EntriesAppended,
    EntriesTruncated,
    Role,
    RoleChanged,
)
from raft.core.log import HardState
from raft.core.messages import (
    Entry,
    Granted,
    Index,
    Message,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
)
from raft.core.quorum import majority
from raft.core.readonly import ReadState


class SafetyViolation(Exception):  # noqa: N818 - the cluster is wrong, not the caller
    """The servers did, between them, what Raft promises never happens."""


class NoProgress(Exception):  # noqa: N818 - the cluster is stuck, not the caller
    """Nothing is broken any more, and still the cluster elects nobody or commits nothing."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What one server would find after a crash."""

    hard_state: HardState
    entries: tuple[Entry, ...]

    def holds(self, index: Index, entry: Entry) -> bool:
        """Tell whether ``entry`` is stored at ``index``."""
        return index <= len(self.entries) and self.entries[index - 1] == entry


class Safety:
    """The five properties of Figure 3, and what their proofs and §8 rest on.

    Every promise is kept as a fact that may be stated once: who leads a term, what a server
    promised in a term, which entry an index and a term name, which entry is committed at an
    index. A second, different statement raises :class:`SafetyViolation`.
    """

    def __init__(self) -> None:
        self._leader: dict[Term, ServerId] = {}
        self._vote: dict[tuple[ServerId, Term], ServerId] = {}
        self._entry: dict[tuple[Index, Term], tuple[Term, Entry]] = {}
        self._committed: list[tuple[Entry, Term]] = []
        self._role: dict[ServerId, Role] = {}
        self._commit_index: dict[ServerId, Index] = {}
        self._read_floor: dict[int, Index] = {}
        self.reads_answered = 0

    @property
    def committed(self) -> tuple[Entry, ...]:
        """The entries that some server has committed; the first has index 1."""
        return tuple(entry for entry, _ in self._committed)

    def started(self, server: ServerId, disk: Disk) -> None:
        """Note that a server starts, or starts again, from what its disk holds."""
        self._role[server] = Role.FOLLOWER
        self._commit_index[server] = Index(0)
        self._appended(server, Term(0), Index(1), disk.entries)

    def happened(self, core: Core, events: Iterable[CoreEvent], disks: Collection[Disk]) -> None:
        """Check what one server just did; ``disks`` are those of all servers of the cluster."""
        server = core.config.server
        for event in events:
            match event:
                case RoleChanged(role, term):
                    self._role[server] = role
                    if role is Role.LEADER:
                        self._took_the_lead(core, term)
                case EntriesTruncated(from_index) if self._role[server] is Role.LEADER:
                    raise SafetyViolation(
                        f"Leader Append-Only: S{server} leads and removes entries from {from_index}"
                    )
                case EntriesAppended(first_index, entries):
                    before = core.log.term_at(first_index - 1) or Term(0)
                    self._appended(server, before, first_index, entries)
                case CommitAdvanced(index):
                    self._advanced_commit(core, index, disks)
                case _:
                    pass

    def said(self, message: Message) -> None:
        """Check a message that leaves a server: a vote counts from the moment it is told.

        What a server decided but lost in a crash before it told anybody binds nobody.
        """
        match message:
            case RequestVote(src=server, term=term):
                self._voted(server, term, server)
            case RequestVoteReply(src=server, dst=candidate, term=term, outcome=Granted()):
                self._voted(server, term, candidate)
            case _:
                pass

    def applied(self, server: ServerId, first_index: Index, entries: Iterable[Entry]) -> None:
        """Check what a server gives to its state machine."""
        for index, entry in enumerate(entries, first_index):
            if index > len(self._committed):
                raise SafetyViolation(f"S{server} applies entry {index}, which is not committed")
            known, _ = self._committed[index - 1]
            if entry != known:
                raise SafetyViolation(
                    f"State Machine Safety: S{server} applies {_shown(index, entry)} "
                    f"where another server applied {_shown(index, known)}"
                )

    def read_asked(self, context: int) -> None:
        """Note when a read began: it must see all that was committed then."""
        self._read_floor[context] = Index(len(self._committed))

    def read_answered(self, server: ServerId, read: ReadState, last_applied: Index) -> None:
        """Check the index from which a read is answered (§8)."""
        self.reads_answered += 1
        floor = self._read_floor.pop(read.context, None)
        if floor is None:
            raise SafetyViolation(f"S{server} answers read {read.context}, which nobody waits for")
        if read.index < floor:
            raise SafetyViolation(
                f"Linearizability: S{server} answers read {read.context} from index {read.index}, "
                f"but {floor} was committed before the read began"
            )
        if last_applied < read.index:
            raise SafetyViolation(
                f"Linearizability: S{server} answers read {read.context} from index {read.index} "
                f"having applied only {last_applied}"
            )

    # --- One promise each ------------------------------------------------------------------

    def _voted(self, server: ServerId, term: Term, candidate: ServerId) -> None:
        earlier = self._vote.setdefault((server, term), candidate)
        if earlier != candidate:
            raise SafetyViolation(
                f"one vote a term (§5.2): in term {term} S{server} votes for S{candidate} "
                f"after it voted for S{earlier}"
            )

    def _took_the_lead(self, core: Core, term: Term) -> None:
        server = core.config.server
        other = self._leader.setdefault(term, server)
        if other != server:
            raise SafetyViolation(f"Election Safety: S{other} and S{server} both lead term {term}")
        for index, (entry, committed_in) in enumerate(self._committed, 1):
            if committed_in < term and core.log.entries(index, index) != (entry,):
                raise SafetyViolation(
                    f"Leader Completeness: S{server} leads term {term} without "
                    f"{_shown(index, entry)}, which was committed in term {committed_in}"
                )

    def _appended(
        self, server: ServerId, prev_term: Term, first_index: Index, entries: Iterable[Entry]
    ) -> None:
        # By induction over indexes: if index and term name one entry and its predecessor's
        # term, they name one log up to there.
        for index, entry in enumerate(entries, first_index):
            if entry.term < prev_term:
                raise SafetyViolation(
                    f"terms never fall along a log (§5.3): S{server} appends "
                    f"{_shown(index, entry)} after an entry of term {prev_term}"
                )
            key = Index(index), entry.term
            known_prev_term, known = self._entry.setdefault(key, (prev_term, entry))
            if known != entry or known_prev_term != prev_term:
                raise SafetyViolation(
                    f"Log Matching: S{server} has {_shown(index, entry)} after term {prev_term}, "
                    f"another log has {_shown(index, known)} after term {known_prev_term}"
                )
            prev_term = entry.term

    def _advanced_commit(self, core: Core, index: Index, disks: Collection[Disk]) -> None:
        server = core.config.server
        for i in range(self._commit_index[server] + 1, index + 1):
            entry = core.log.entry(i)
            if i > len(self._committed):
                self._must_be_durable(server, Index(i), entry, disks)
                self._committed.append((entry, core.term))
            known, term = self._committed[i - 1]
            if entry != known:
                raise SafetyViolation(
                    f"State Machine Safety: S{server} commits {_shown(i, entry)}, "
                    f"but {_shown(i, known)} was committed in term {term}"
                )
        self._commit_index[server] = index

    def _must_be_durable(
        self, server: ServerId, index: Index, entry: Entry, disks: Collection[Disk]
    ) -> None:
        copies = sum(disk.holds(index, entry) for disk in disks)
        if copies < majority(len(disks)):
            raise SafetyViolation(
                f"a majority stores what is committed (§5.3): S{server} commits "
                f"{_shown(index, entry)}, which is on {copies} of {len(disks)} disks"
            )


def _shown(index: int, entry: Entry) -> str:
    return f"{index}/{entry.term} {entry.data!r}" if entry.data else f"{index}/{entry.term}"
