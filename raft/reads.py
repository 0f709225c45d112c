"""Queries without an entry in the log: what may answer them, and when (§8; thesis §6.4).

All linearizable reads that reach a server within one turn of its loop are one question to the
leader. A leader asks itself; a follower sends ReadIndex, and asks again if no answer comes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from raft.core.core import Core
from raft.core.events import Role
from raft.core.messages import Index, ServerId, Term
from raft.core.readonly import ReadState

MAX_WAITING = 10_000
"""Reads that one server lets wait; more are turned away."""

Answer = Callable[[], None]
"""Answers a read from the present state."""
Refuse = Callable[[], None]
"""Tells whoever reads to ask another server."""


@dataclass(frozen=True, slots=True, eq=False)
class WaitingRead:
    """A read that is not answered yet; ``owner`` is whoever waits for it.

    It may stand for a ``count`` of them that came together.
    """

    owner: object
    answer: Answer
    refuse: Refuse
    count: int = 1


@dataclass(slots=True)
class _Question:
    """One question to the leader of ``term``, for all of ``reads``."""

    term: Term
    leader: ServerId | None
    asked_at: float
    patience: float
    """Seconds after which it is taken for lost."""
    reads: list[WaitingRead] = field(default_factory=list)


class Reads:
    """The reads of one server that wait: to be asked for, for the leader, for the state machine."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._new: list[WaitingRead] = []
        self._questions: dict[int, _Question] = {}
        self._confirmed: list[tuple[Index, WaitingRead]] = []
        # No answer to a question of a process before this one may meet one of ours.
        self._context = secrets.randbits(64)

    def __len__(self) -> int:
        confirmed = sum(read.count for _, read in self._confirmed)
        return _count(self._new) + confirmed + self._asked

    @property
    def _asked(self) -> int:
        return sum(_count(question.reads) for question in self._questions.values())

    def begin(self, read: WaitingRead) -> None:
        """Let a linearizable read wait for the index at which it is up to date."""
        self._new.append(read)

    def begin_at(self, index: Index, read: WaitingRead) -> None:
        """Let a read wait until ``index`` is applied."""
        self._confirmed.append((index, read))

    def ask(self, now: float) -> None:
        """Ask the leader for what is new, and again for what may be lost.

        A question is lost with its leader. A follower's may be lost on the way as well: what
        gets no answer for an election timeout is asked anew, together with newer reads and as
        another question, because for those an answer to the old one would be out of date. Each
        time it is waited for twice as long: the answers may just be slow.
        """
        core = self._core
        patience = core.config.election_timeout_min
        for context, question in list(self._questions.items()):
            moved = (question.term, question.leader) != (core.term, core.leader)
            late = now - question.asked_at >= question.patience
            if moved or (late and core.role is not Role.LEADER):
                self._new += self._questions.pop(context).reads
                if not moved:
                    patience = max(patience, 2 * question.patience)
        if not self._new:
            return
        reads, self._new = self._new, []
        self._context = (self._context + 1) % 2**64
        if core.read_index(self._context, now):
            question = _Question(core.term, core.leader, now, patience, reads)
            self._questions[self._context] = question
        else:
            _refuse(reads)

    def confirm(self, states: Iterable[ReadState]) -> None:
        """Take in the leader's answers."""
        for state in states:
            question = self._questions.pop(state.context, None)
            if question is not None:
                self._confirmed += [(state.index, read) for read in question.reads]

    def answer(self) -> None:
        """Answer the reads whose index is applied."""
        applied, waiting = self._core.last_applied, []
        for index, read in self._confirmed:
            if index <= applied:
                read.answer()
            else:
                waiting.append((index, read))
        self._confirmed = waiting

    def forget(self, owner: object) -> None:
        """Drop the reads of somebody who has gone."""
        self._new = [read for read in self._new if read.owner is not owner]
        self._confirmed = [one for one in self._confirmed if one[1].owner is not owner]
        for question in self._questions.values():
            question.reads = [read for read in question.reads if read.owner is not owner]

    def close(self) -> None:
        """Refuse everything that waits."""
        _refuse(self._new)
        _refuse(read for _, read in self._confirmed)
        for question in self._questions.values():
            _refuse(question.reads)
        self._new, self._confirmed, self._questions = [], [], {}


def _count(reads: Iterable[WaitingRead]) -> int:
    return sum(read.count for read in reads)


def _refuse(reads: Iterable[WaitingRead]) -> None:
    for read in reads:
        read.refuse()
