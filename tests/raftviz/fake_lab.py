"""A laboratory without processes: it records commands, answers by a script, tells what it is fed.

::

    lab = FakeLab(*cluster(servers=5, leader=2, term=3))
    lab.react("kill 2", ServerExited(...), answer="S2 is dead")
    lab.feed((3, RoleChanged(Role.CANDIDATE, Term(4), RoleReason.ELECTION_TIMEOUT)))
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence

from raft.core.events import ConfigurationChanged, Role, TimerKind
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.frames import FollowerProgress, ServerState
from raftviz.lab.api import Answer
from raftviz.model.events import (
    ClockChanged,
    CommandGiven,
    Event,
    Happening,
    LabStarted,
    LinkChanged,
    ServerSpawned,
)

Told = Happening | tuple[int, Happening]
"""What to feed: a happening of the lab's own, or with the number of the server that tells it."""


def started(servers: int = 5, seed: int = 7) -> LabStarted:
    ids = tuple(map(ServerId, range(1, servers + 1)))
    return LabStarted("test", ids, 0.150, 0.300, 0.050, seed)


def spawned(server: int, pid: int | None = None) -> ServerSpawned:
    return ServerSpawned(ServerId(server), pid or 80 + server, f"127.0.0.1:{4000 + server}")


def entries(*terms: int, data: bytes = b"") -> tuple[Entry, ...]:
    """Entries of these terms; without ``data`` they are no-ops."""
    kind = EntryKind.COMMAND if data else EntryKind.NOOP
    return tuple(Entry(Term(term), kind, data) for term in terms)


def server_state(
    server: int,
    *,
    role: Role = Role.FOLLOWER,
    term: int = 0,
    voted_for: int | None = None,
    leader: int | None = None,
    log: Sequence[Entry] = (),
    commit: int = 0,
    applied: int | None = None,
    votes: Sequence[int] = (),
    peers: Sequence[int] = (),
    deadline: float = 0.2,
    behind: tuple[int, int] = (0, 0),
) -> ServerState:
    """A whole state; ``peers`` are the followers whose progress a leader knows.

    ``behind`` is the index and the term of the entry that the log follows on.
    """
    is_leader = role is Role.LEADER
    return ServerState(
        server=ServerId(server),
        pid=80 + server,
        address=f"127.0.0.1:{4000 + server}",
        role=role,
        term=Term(term),
        voted_for=None if voted_for is None else ServerId(voted_for),
        leader=None if leader is None else ServerId(leader),
        first_index=Index(behind[0] + 1),
        entries=tuple(log),
        commit_index=Index(commit),
        last_applied=Index(commit if applied is None else applied),
        votes=tuple(map(ServerId, votes)),
        progress=tuple(
            FollowerProgress(ServerId(peer), Index(len(log) + 1), Index(len(log))) for peer in peers
        ),
        timer_kind=TimerKind.HEARTBEAT if is_leader else TimerKind.ELECTION,
        timer_deadline=deadline,
        timer_interval=0.050 if is_leader else 0.200,
        snapshot_term=Term(behind[1]),
        configuration=ConfigurationChanged(Index(0), (), (), ()),
    )


def cluster(
    servers: int = 5,
    *,
    leader: int | None = None,
    term: int = 0,
    log: Sequence[Entry] = (),
    commit: int | None = None,
    rate: float = 1.0,
) -> list[Told]:
    """The beginning of a stream: all servers run and have ``log``, ``leader`` leads ``term``.

    Without a leader they are followers that wait for their first election.
    """
    ids = range(1, servers + 1)
    told: list[Told] = [started(servers), ClockChanged(0.0, time.monotonic(), rate)]
    told += [
        LinkChanged(ServerId(a), ServerId(b), False, 0.010) for a in ids for b in ids if a != b
    ]
    for server in ids:
        leads = server == leader
        told.append(spawned(server))
        state = server_state(
            server,
            role=Role.LEADER if leads else Role.FOLLOWER,
            term=term,
            voted_for=leader,
            leader=leader,
            log=log,
            commit=len(log) if commit is None else commit,
            votes=list(ids)[: servers // 2 + 1] if leads else (),
            peers=[peer for peer in ids if peer != server] if leads else (),
        )
        told.append((server, state))
    return told


class Stream:
    """Numbers and dates happenings as a laboratory does."""

    def __init__(self) -> None:
        self.sequence = 0
        self.time = 0.0

    def event(self, told: Told, at: float | None = None) -> Event:
        """The next event; ``at`` is its virtual time, or that of the event before it."""
        source, what = told if isinstance(told, tuple) else (0, told)
        self.sequence += 1
        self.time = self.time if at is None else at
        return Event(self.sequence, self.time, time.monotonic(), ServerId(source), what)

    def events(self, *told: Told, at: float | None = None) -> list[Event]:
        return [self.event(one, at) for one in told]


class FakeLab:
    """The ``Lab`` protocol of ``raftviz.lab.api``, played by a test."""

    def __init__(self, *told: Told) -> None:
        self.commands: list[str] = []
        """Every command that was given, in order."""
        self.closed = False
        self._stream = Stream()
        self._script: dict[str, deque[tuple[Answer, tuple[Told, ...]]]] = defaultdict(deque)
        self._unread: list[Event] = []
        self._arrived = asyncio.Event()
        self._wanted = asyncio.Event()
        self._ended = False
        self.feed(*told)

    @property
    def sequence(self) -> int:
        """The number of the newest event that happened."""
        return self._stream.sequence

    def feed(self, *told: Told, at: float | None = None) -> None:
        """Let these happen now, at virtual time ``at``."""
        self._unread += self._stream.events(*told, at=at)
        if told:
            self._arrived.set()
            self._wanted.clear()

    async def all_read(self) -> None:
        """Wait until the viewer has taken in all that happened and waits for more."""
        await self._wanted.wait()

    def react(self, command: str, *told: Told, ok: bool = True, answer: str = "done") -> None:
        """Let the next ``command`` that is given cause ``told`` and be answered with ``answer``.

        A command without a reaction is answered "done" and causes nothing.
        """
        self._script[command].append((Answer(ok, answer), told))

    def end(self) -> None:
        """Let the laboratory end by itself."""
        self._ended = True
        self._arrived.set()

    async def command(self, text: str) -> Answer:
        self.commands.append(text)
        if self._ended:
            return Answer(False, "the laboratory ended")
        script = self._script[text]
        answer, told = script.popleft() if script else (Answer(True, "done"), ())
        self.feed(*told, CommandGiven(text, answer.ok, answer.text))
        return Answer(answer.ok, answer.text, self._stream.sequence)

    async def next_events(self) -> list[Event]:
        while not self._unread and not self._ended:
            self._wanted.set()
            self._arrived.clear()
            await self._arrived.wait()
        events, self._unread = self._unread, []
        return events

    async def close(self) -> None:
        self.closed = True
        self.end()
