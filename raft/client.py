"""``Raft``: the handle by which an application uses a cluster, and changes it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TypeVar

from raft.asking import Asker, Limit
from raft.certificate import Certificate
from raft.changing import (
    LOOK_SECONDS,
    Changes,
    Deadline,
    added_as_learner,
    reach,
    wait_until_caught_up,
)
from raft.core.membership import AddLearner, AddVoter, Change, Demote, Remove
from raft.core.messages import Index, ServerId
from raft.core.ready import Refusal
from raft.errors import (
    ImpossibleError,
    NotInTimeError,
    RaftError,
    RefusedError,
    RejectedError,
    UnknownServerError,
)
from raft.frames import (
    ChangeMembers,
    Consistency,
    ForgetLeader,
    Members,
    MembersQuery,
    Propose,
    Read,
    Reply,
    Request,
    Result,
    SnapshotTaken,
    Status,
    StatusQuery,
    TakeSnapshot,
    TransferLeadership,
    Transferred,
)
from raft.machine.base import too_long
from raft.session import Session
from raft.transport import Connection, Identity
from raft.watching import Event, Events, observe

LOOK_TIMEOUT = 1.0
"""Real seconds for one look at a server that is waited for."""

Answer = TypeVar("Answer", bound=Reply)


class Raft:
    """A handle on one cluster; any number of requests may be under way at once.

    This one is for a program that *uses* a cluster whose servers run elsewhere. A program that
    *is* one of the servers takes a :class:`raft.Member`, which does all that this one does.

    ``servers`` maps ids to ``HOST:PORT``; requests find the leader among them, and members that
    join later are learned from the cluster. Use it as ``async with Raft(servers, cluster,
    secret) as raft``, with a Certificate in the place of the secret where the servers have one,
    too. Raises ValueError for an id, an address, a cluster's name or a secret that cannot be one.

    Every request ends: with its answer, with a RaftError that says what is certain, or with
    OutcomeUnknownError. For a ``server`` that it does not know all raise UnknownServerError.
    Timeouts are in real seconds; with None a request waits as long as it takes, with an
    ``asyncio.Timeout`` (not yet entered) until whoever made it lets it expire.

    Commands are numbered in a session, which the first one opens (an entry of its own in the log):
    so they are sent again until they are answered, and carried out once. It is closed with the
    handle, or expires (``raft.machine.sessions``). ``sessions=False`` sends them as they are, and
    never again once they may be in a log.
    """

    id: ServerId | None = None
    """The server that this process is, None if it is none."""

    def __init__(
        self,
        servers: Mapping[ServerId, str],
        cluster: str,
        secret: bytes | Certificate,
        *,
        sessions: bool = True,
    ) -> None:
        if not servers:
            raise ValueError("a cluster has at least one server")
        _require_ids(servers)
        self._identity = Identity(cluster, self.id, secret)
        self._asker = Asker(servers, self._identity)
        self._session = Session(self._asker) if sessions else None
        self._observing: dict[Connection, Events] = {}
        self._closed = False

    async def __aenter__(self) -> Raft:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the session and all connections.

        Requests under way end as if their servers had gone, and the events just end.
        """
        self._closed = True
        for connection, events in self._observing.items():
            events.end()
            connection.close("the observer is closed")
        if self._session is not None:
            self._session.close()
        self._asker.close()

    @property
    def servers(self) -> dict[ServerId, str]:
        """The servers that are known, and where they listen."""
        return dict(self._asker.servers)

    def moved(self, server: ServerId, address: str) -> None:
        """Reach a server at ``HOST:PORT`` from now on. Raises ValueError, UnknownServerError."""
        self._asker.move(server, address)

    def prefer(self, server: ServerId) -> None:
        """Ask this server first, until another one is known to lead. Raises UnknownServerError.

        For whoever knows better: a leader that was cut off and replaced takes a command without
        a session, and then nobody can say what will become of it.
        """
        self._asker.prefer(server)

    async def _ask(
        self,
        answer: type[Answer],
        request: Request,
        timeout: Limit,  # noqa: ASYNC109 - its end decides the outcome
        server: ServerId | None = None,
    ) -> Answer:
        reply = await self._asker.ask(request, timeout, server)
        assert isinstance(reply, answer)
        return reply

    async def _ask_server(
        self,
        answer: type[Answer],
        request: Request,
        timeout: Limit,  # noqa: ASYNC109
        server: ServerId | None,
    ) -> Answer:
        """Ask a server, or the leader, for what any server can do."""
        if server is not None:
            return await self._ask(answer, request, timeout, server)
        reply = await self._asker.ask_leader(request, timeout)
        assert isinstance(reply, answer)
        return reply

    # --- The state machine -----------------------------------------------------------------------

    async def propose(
        self,
        command: bytes,
        timeout: Limit = 5.0,  # noqa: ASYNC109
        server: ServerId | None = None,
    ) -> bytes:
        """Replicate and apply a command; return what the state machine answered.

        With ``server`` that one is asked, once, leader or not, and without a session. A leader
        that has too much to do is asked again until the time is up. Raises OutcomeUnknownError,
        and if nothing was done RejectedError, NoLeaderError, BusyError, TransferringError or
        RefusedError (NotLeaderError or UnreachableError if ``server`` was given); TypeError for
        what is no bytes.
        """
        command = _as_bytes(command, "a command")
        if (refusal := too_long(command)) is not None:
            raise RejectedError(refusal)
        if self._session is not None and server is None:
            return await self._session.propose(command, timeout)
        return (await self._ask(Result, Propose(command), timeout, server)).data

    async def read(
        self,
        query: bytes,
        timeout: Limit = 5.0,  # noqa: ASYNC109
        server: ServerId | None = None,
        consistency: Consistency = Consistency.LINEARIZABLE,
    ) -> bytes:
        """Return the state machine's answer to a query.

        It reflects every command that was acknowledged before the call, unless ``consistency``
        says otherwise. With ``server`` that one answers, leader or not (a lease is the leader's
        alone). Errors are those of :meth:`propose`, but the outcome is never unknown.
        """
        request = Read(_as_bytes(query, "a query"), consistency)
        return (await self._ask(Result, request, timeout, server)).data

    # --- Servers ---------------------------------------------------------------------------------

    async def status(
        self,
        server: ServerId | None = None,
        timeout: Limit = 5.0,  # noqa: ASYNC109
    ) -> Status:
        """Return the state of a server, or of the leader, in numbers.

        Raises UnreachableError or RefusedError, and NoLeaderError if no ``server`` was given.
        """
        return await self._ask_server(Status, StatusQuery(), timeout, server)

    async def wait(
        self,
        condition: Callable[[Status], bool],
        timeout: float | None = 30.0,  # noqa: ASYNC109
        server: ServerId | None = None,
    ) -> Status:
        """Wait until the status of a server, or of the leader, is as wanted; return it.

        ``await raft.wait(lambda status: status.last_applied >= 100)``. Raises NotInTimeError, and
        RefusedError if a server will not talk to us.
        """
        deadline = Deadline(math.inf if timeout is None else timeout)
        status, why = None, ""
        while True:
            try:
                status = await self.status(server, min(LOOK_TIMEOUT, deadline.left))
            except (RefusedError, UnknownServerError):
                raise
            except RaftError as error:
                # A look that the end of the time cut short has seen nothing.
                if deadline.left > 0 or not (why or status):
                    why = str(error)
            else:
                why = ""
                if condition(status):
                    return status
            if deadline.left <= LOOK_SECONDS:
                raise NotInTimeError(timeout, status, why)
            await asyncio.sleep(LOOK_SECONDS)

    def events(self, server: ServerId | None = None) -> AsyncIterator[Event]:
        """Return what happens in a server, or in the leader, from when it is first asked on.

        ``async for event in raft.events()`` gives the facts of :mod:`raft.core.events`:
        RoleChanged, LeaderChanged, CommitAdvanced, ConfigurationChanged and others; and an
        ObservationsLost where the reader was too slow. The iterator raises UnreachableError when
        the server has gone, RefusedError if it does not want to be watched, NoLeaderError. It ends
        when this handle is closed.
        """
        return self._observed(server)

    async def _observed(self, server: ServerId | None) -> AsyncIterator[Event]:
        if server is None:
            await self.members()
            server = self._asker.leader
            assert server is not None
        connection, events = await observe(server, self._asker.address(server), self._identity)
        self._observing[connection] = events
        try:
            if self._closed:
                raise RaftError("the client is closed")
            async for event in events:
                yield event
        finally:
            del self._observing[connection]
            connection.close("the observer has seen enough")

    async def transfer_leadership(
        self,
        to: ServerId | None = None,
        timeout: Limit = 5.0,  # noqa: ASYNC109
    ) -> ServerId:
        """Hand leadership to ``to``, or to whoever is best; return who leads then.

        Raises ImpossibleError for a server that cannot lead, GivenUpError when it did not
        succeed, and as :meth:`propose` does.
        """
        _require_ids([] if to is None else [to])
        return (await self._ask(Transferred, TransferLeadership(to), timeout)).leader

    async def snapshot(
        self,
        server: ServerId | None = None,
        timeout: Limit = 30.0,  # noqa: ASYNC109
    ) -> Index:
        """Let a server, or the leader, take a snapshot; return the entry it stands for.

        What lies before is no longer in that server's log (§7).
        """
        return (await self._ask_server(SnapshotTaken, TakeSnapshot(), timeout, server)).index

    async def forget_leader(
        self,
        server: ServerId,
        timeout: Limit = 5.0,  # noqa: ASYNC109
    ) -> Status:
        """Let a server stop holding to a leader that is known to be gone.

        With check-quorum it would vote for nobody else for an election timeout. The leader must
        be gone indeed: one that is only cut off, and reads by its lease, counts on that patience,
        and could answer with what is out of date (thesis §6.4.1).
        """
        return await self._ask(Status, ForgetLeader(), timeout, server)

    # --- Members ---------------------------------------------------------------------------------

    async def members(self, timeout: Limit = 5.0) -> Members:  # noqa: ASYNC109
        """Return who belongs to the cluster, and how far the leader knows their logs to be."""
        members = await self._ask(Members, MembersQuery(), timeout)
        self._asker.learn(members)
        return members

    async def change_membership(
        self,
        changes: Iterable[Change],
        timeout: Limit = 10.0,  # noqa: ASYNC109
        expected_index: Index | None = None,
    ) -> Members:
        """Change who belongs to the cluster; return the members once that is committed.

        All of it happens, in one step, or nothing.

        With ``expected_index`` only if the members are still those of :attr:`Members.index`,
        which must have been ``committed``: before that, another leader may put others there.
        Raises ConfigurationMovedError if not, ImpossibleError, ChangeInProgressError,
        NoCommitYetError, and as :meth:`propose` does.
        """
        compare, index = expected_index is not None, expected_index or Index(0)
        request = ChangeMembers(tuple(changes), compare, index)
        _require_ids(change.server for change in request.changes)
        members = await self._ask(Members, request, timeout)
        self._asker.learn(members)
        return members

    async def add_learner(
        self,
        server: ServerId,
        address: str,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Members:
        """Let a server receive the log without a vote; done if it does already.

        This and what follows look at the members, ask for what is missing, and look again, so
        that they may be repeated after any error.
        """
        change = AddLearner(server, address)
        return await reach(self, lambda now: () if server in now.learners else (change,), timeout)

    async def add(
        self,
        server: ServerId,
        address: str,
        timeout: float = 60.0,  # noqa: ASYNC109
    ) -> Members:
        """Add a server: as a learner, until it has caught up, and then as a voter.

        A voter with an empty log would hold up the cluster (thesis §4.2.1). Raises LaggingError
        if it did not catch up in time, or could not be promoted; it is a learner then.
        """
        deadline = Deadline(timeout)
        if server in (await self.members(deadline.left)).voters:
            return await self.promote(server, deadline.left)
        await self.add_learner(server, address, deadline.left)
        with added_as_learner(server):
            await wait_until_caught_up(self, server, deadline)
            return await self.promote(server, deadline.left)

    async def promote(
        self,
        server: ServerId,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Members:
        """Make a learner a voter; done if it is one."""

        def plan(now: Members) -> Changes:
            if server not in (*now.learners, *now.voters):
                raise ImpossibleError(server, Refusal.IMPOSSIBLE, "it is no member of the cluster")
            return () if server in now.voters else (AddVoter(server),)

        return await reach(self, plan, timeout)

    async def demote(
        self,
        server: ServerId,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Members:
        """Make a voter a learner; done if it is one."""
        change = Demote(server)
        return await reach(self, lambda now: () if server in now.learners else (change,), timeout)

    async def remove(
        self,
        server: ServerId,
        timeout: float = 10.0,  # noqa: ASYNC109
    ) -> Members:
        """Take a server out of the cluster; done if it is no member. It may be the leader."""

        def plan(now: Members) -> Changes:
            return (Remove(server),) if server in (*now.voters, *now.learners) else ()

        return await reach(self, plan, timeout)


def _require_ids(servers: Iterable[ServerId]) -> None:
    for server in servers:
        if not isinstance(server, int) or not 0 < server < 2**63:
            raise ValueError(f"{server!r} is no server's number: one from 1 on is")


def _as_bytes(data: bytes | bytearray | memoryview, what: str) -> bytes:
    """Take what may change later as it is now. What cannot be sent must fail its caller alone."""
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"{what} is bytes, not {type(data).__name__}")
