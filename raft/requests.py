"""What clients ask of a server, from the request to its reply: each gets exactly one.

A command or a change that was appended is answered when it is applied or committed; if it is
lost on the way, its outcome is unknown, because another server may still hold it, win a later
election with it and commit it (Figure 8, c and d). "Nothing was done" would make the client do
it twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import count

from raft.clock import VirtualClock
from raft.core.core import Core
from raft.core.events import (
    CoreEvent,
    EntriesTruncated,
    LeaderChanged,
    Role,
    RoleChanged,
    RoleReason,
    SnapshotInstalled,
    TransferChanged,
)
from raft.core.log import Snapshot
from raft.core.membership import AddLearner, AddVoter
from raft.core.messages import Entry, Index, ServerId, Term
from raft.core.ready import Refusal, Refused
from raft.core.value import value
from raft.frames import (
    Address,
    AnswerTooLong,
    ChangeMembers,
    ClientReply,
    ClientRequest,
    Consistency,
    Declined,
    FollowerProgress,
    ForgetLeader,
    FromClient,
    Members,
    MembersQuery,
    NotLeader,
    OutcomeUnknown,
    Proposals,
    Propose,
    Queries,
    Read,
    Rejected,
    Reply,
    Request,
    Result,
    Results,
    SnapshotTaken,
    Status,
    StatusQuery,
    TakeSnapshot,
    TransferLeadership,
    Transferred,
)
from raft.machine.base import MAX_ANSWER_BYTES, StateMachine
from raft.reads import MAX_WAITING, Reads, WaitingRead
from raft.transport import Connection, parse_address
from raft.wire import encode, in_frames

_LOST = OutcomeUnknown("another leader's entry took its place in this server's log")
_SKIPPED = OutcomeUnknown("a leader's snapshot stands for it by now, without its answer")
_REMOVED = OutcomeUnknown("this server was removed, and hears no more of what it appended")
_STOPPING = OutcomeUnknown("the server is shutting down")


@value
class _Client:
    """Who waits for which reply. ``many``: its results come in Results frames."""

    connection: Connection
    request_id: int
    many: bool = False


@value
class _Proposal:
    """A command that was appended in ``term``, and who waits for it to be applied."""

    term: Term
    client: _Client


def _answer(data: bytes) -> Reply:
    return Result(data) if len(data) <= MAX_ANSWER_BYTES else AnswerTooLong(len(data))


class Requests:
    """The requests of one server's clients.

    ``take_snapshot`` asks for a snapshot of what is applied; ``go_on`` is called when the core
    has work to hand out.
    """

    def __init__(
        self,
        core: Core,
        machine: StateMachine,
        clock: VirtualClock,
        *,
        take_snapshot: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self.reads = Reads(core)
        self._core = core
        self._machine = machine
        self._clock = clock
        self._take_snapshot = take_snapshot
        self._go_on = go_on
        self._proposals: dict[int, _Proposal] = {}
        self._changes: dict[Index, _Client] = {}
        self._transfers: list[tuple[ServerId | None, _Client]] = []
        self._snapshots: list[tuple[Index, _Client]] = []
        self._stored = self._snapshot_index
        """The index of the snapshot that is on disk."""

    @property
    def busy(self) -> bool:
        """Some client waits for an entry."""
        return bool(self._proposals or self._changes)

    def begin(self, connection: Connection, request: FromClient) -> None:
        """Begin what a client asks for; the replies follow when they are known."""
        match request:
            case ClientRequest(number, body):
                self._begin(_Client(connection, number), body)
            case Proposals(ids, commands):
                clients = [_Client(connection, number, many=True) for number in ids]
                self._propose(clients, commands)
            case Queries(ids, queries):
                self._query([_Client(connection, number, many=True) for number in ids], queries)

    def _begin(self, client: _Client, request: Request) -> None:
        match request:
            case Propose(data):
                self._propose([client], [data])
            case Read(query, Consistency.LINEARIZABLE):
                self._query([client], [query])
            case Read(query, consistency):
                self._read(client, query, consistency)
            case StatusQuery():
                self._reply(client, self.status())
            case MembersQuery():
                self._query_members(client)
            case ChangeMembers() as change:
                self._change(client, change)
            case TransferLeadership(to):
                self._transfer(client, to)
            case TakeSnapshot():
                self._snapshot(client)
            case ForgetLeader():
                self._core.forget_leader()
                self._go_on()
                self._reply(client, self.status())

    def _reply(self, client: _Client, body: Reply) -> None:
        reply = ClientReply(client.request_id, body, self._core.configuration_index)
        client.connection.send(encode(reply))

    def _give_results(self, clients: Iterable[_Client], results: Iterable[bytes]) -> None:
        """Reply to clients with the machine's answers, as many in a frame as they asked for so."""
        gathered: dict[Connection, tuple[list[int], list[bytes]]] = {}
        for client, result in zip(clients, results, strict=True):
            if len(result) > MAX_ANSWER_BYTES or not client.many:
                self._reply(client, _answer(result))
                continue
            if (columns := gathered.get(client.connection)) is None:
                columns = gathered[client.connection] = ([], [])
            columns[0].append(client.request_id)
            columns[1].append(result)
        for connection, (ids, datas) in gathered.items():
            for part in in_frames(datas):
                connection.send(
                    Results(tuple(ids[part]), tuple(datas[part]), self._core.configuration_index)
                )

    def _decline(self, client: _Client, refused: Refused) -> None:
        declined = Declined(refused.reason, refused.detail)
        not_leader = refused.reason is Refusal.NOT_LEADER
        self._reply(client, self._not_leader() if not_leader else declined)

    def _not_leader(self) -> NotLeader:
        leader = self._core.leader
        address = "" if leader is None else self._core.configuration.address(leader)
        return NotLeader(leader, address)

    # --- Commands --------------------------------------------------------------------------------

    def _propose(self, clients: Sequence[_Client], commands: Sequence[bytes]) -> None:
        refusals = list(map(self._machine.check, commands))
        if any(refusal is not None for refusal in refusals):
            for client, refusal in zip(clients, refusals, strict=True):
                if refusal is not None:
                    self._reply(client, Rejected(refusal))
            good = [at for at, refusal in enumerate(refusals) if refusal is None]
            clients, commands = [clients[at] for at in good], [commands[at] for at in good]
        if not commands:
            return
        first_index = self._core.propose_all(commands)
        if isinstance(first_index, Refused):
            for client in clients:
                self._decline(client, first_index)
            return
        term = self._core.term
        proposals = [_Proposal(term, client) for client in clients]
        self._proposals.update(enumerate(proposals, first_index))
        self._go_on()

    def applied(self, first: Index, entries: Sequence[Entry], answers: Sequence[bytes]) -> None:
        """Answer those who proposed the entries that were just applied, ``first`` and on."""
        if not self._proposals:
            return
        clients, results = [], []
        for index, entry, answer in zip(count(first), entries, answers, strict=False):
            proposal = self._proposals.pop(index, None)
            if proposal is None:
                continue
            if entry.term == proposal.term:
                clients.append(proposal.client)
                results.append(answer)
            else:
                # Another leader's entry took its place: this command will never be applied.
                self._reply(proposal.client, self._not_leader())
        self._give_results(clients, results)

    # --- Reads -----------------------------------------------------------------------------------

    def _query(self, clients: Sequence[_Client], queries: Sequence[bytes]) -> None:
        """Answer queries of one connection, at least as new as all that was acknowledged."""
        if not clients:
            return

        def answer() -> None:
            self._give_results(clients, map(self._machine.query, queries))

        self._wait(clients, answer)

    def _read(self, client: _Client, query: bytes, consistency: Consistency) -> None:
        def answer() -> None:
            self._reply(client, _answer(self._machine.query(query)))

        if consistency is Consistency.STALE:
            answer()
            return
        if self._core.role is not Role.LEADER:
            # A lease is the leader's; through another server it would save nothing.
            self._reply(client, self._not_leader())
            return
        self._wait([client], answer, self._core.lease_read(self._clock.now()))

    def _wait(
        self, clients: Sequence[_Client], answer: Callable[[], None], index: Index | None = None
    ) -> None:
        """Answer once ``index`` is applied, or (None) when the leader says what must be."""
        if len(self.reads) + len(clients) > MAX_WAITING:
            for client in clients:
                self._reply(client, Declined(Refusal.BUSY, f"{MAX_WAITING} reads may wait"))
            return

        def refuse() -> None:
            for client in clients:
                self._reply(client, self._not_leader())

        read = WaitingRead(clients[0].connection, answer, refuse, len(clients))
        if index is None:
            self.reads.begin(read)
        else:
            self.reads.begin_at(index, read)
        self._go_on()

    # --- Members ---------------------------------------------------------------------------------

    def _query_members(self, client: _Client) -> None:
        if self._core.role is Role.LEADER:
            self._wait([client], lambda: self._reply(client, self._members()))
        else:
            self._reply(client, self._not_leader())

    def _change(self, client: _Client, change: ChangeMembers) -> None:
        try:
            for each in change.changes:
                if isinstance(each, AddLearner | AddVoter) and each.address:
                    parse_address(each.address)
        except ValueError as error:
            # In the log it would be what all servers are told for ever.
            self._decline(client, Refused(Refusal.IMPOSSIBLE, str(error)))
            return
        index = self._core.propose_change(
            change.changes,
            self._clock.now(),
            change.expected_index if change.compare else None,
        )
        if isinstance(index, Refused):
            self._decline(client, index)
            return
        self._changes[index] = client
        self._go_on()

    def _answer_changes(self) -> None:
        core = self._core
        settled = core.configuration_index <= core.commit_index
        if not settled or core.configuration.is_joint:
            return
        for index in [index for index in self._changes if index <= core.configuration_index]:
            self._reply(self._changes.pop(index), self._members())

    def _members(self) -> Members:
        core = self._core
        configuration = core.configuration
        return Members(
            index=core.configuration_index,
            committed=core.configuration_index <= core.commit_index,
            voters=configuration.voters,
            outgoing=configuration.outgoing,
            learners=configuration.learners,
            addresses=tuple(Address(server, at) for server, at in configuration.addresses),
            progress=tuple(
                FollowerProgress(peer, known.next_index, known.match_index)
                for peer, known in core.progress.items()
            ),
            last_index=core.log.last_index,
            leader=core.leader,
        )

    # --- Leadership, snapshots, state ------------------------------------------------------------

    def _transfer(self, client: _Client, to: ServerId | None) -> None:
        me = self._core.config.server
        if to == me == self._core.leader:
            self._reply(client, Transferred(me))
            return
        refused = self._core.transfer_leadership(to, self._clock.now())
        if refused is not None:
            self._decline(client, refused)
            return
        self._transfers.append((self._core.transferee, client))
        self._go_on()

    def _end_transfers(self, leader: ServerId | None) -> None:
        """Tell who asked for a transfer how it ended; None: it was given up."""
        transfers, self._transfers = self._transfers, []
        for target, client in transfers:
            if leader is not None and leader == target:
                self._reply(client, Transferred(leader))
                continue
            how = "in time" if leader is None else f"but S{leader} was elected"
            detail = f"S{target} did not take over {how}"
            self._reply(client, Declined(Refusal.GIVEN_UP, detail))

    def _snapshot(self, client: _Client) -> None:
        wanted = self._core.last_applied
        if wanted <= self._stored:
            self._reply(client, SnapshotTaken(self._stored))
            return
        self._snapshots.append((wanted, client))
        if self._snapshot_index < wanted:  # else it is on its way to the disk
            self._take_snapshot()

    @property
    def _snapshot_index(self) -> Index:
        return self._core.snapshot.index if self._core.snapshot else Index(0)

    def stored(self, snapshot: Snapshot) -> None:
        """Answer whoever waits for a snapshot as new as the one that is on disk now."""
        self._stored = snapshot.index
        waiting = []
        for wanted, client in self._snapshots:
            if wanted <= snapshot.index:
                self._reply(client, SnapshotTaken(snapshot.index))
            else:
                waiting.append((wanted, client))
        self._snapshots = waiting

    def status(self) -> Status:
        """Return the server's state in numbers."""
        core = self._core
        return Status(
            server=core.config.server,
            role=core.role,
            term=core.term,
            voted_for=core.voted_for,
            leader=core.leader,
            last_index=core.log.last_index,
            last_term=core.log.last_term,
            commit_index=core.commit_index,
            last_applied=core.last_applied,
            snapshot_index=self._snapshot_index,
            configuration_index=core.configuration_index,
            voters=core.configuration.voters,
            outgoing=core.configuration.outgoing,
            learners=core.configuration.learners,
            recovering=core.recovering,
        )

    # --- What became of them ---------------------------------------------------------------------

    def settle(self, events: list[CoreEvent]) -> None:
        """Answer what these events decide."""
        for event in events:
            match event:
                case EntriesTruncated(from_index):
                    self._lose(_LOST, first=from_index)
                case SnapshotInstalled(index, _, retained):
                    self._lose(_SKIPPED, last=index)
                    if not retained:
                        self._lose(_LOST)
                case LeaderChanged(_, leader) if leader is not None:
                    self._end_transfers(leader)
                case TransferChanged(None):
                    self._end_transfers(None)
                case RoleChanged(_, _, RoleReason.REMOVED):
                    self._lose(_REMOVED, first=self._core.commit_index + 1)
                    self._end_transfers(None)
        self._answer_changes()

    def _lose(self, reply: OutcomeUnknown, first: float = 1, last: float = math.inf) -> None:
        """Answer who waits for the entries from ``first`` to ``last``."""
        for index in [index for index in self._proposals if first <= index <= last]:
            self._reply(self._proposals.pop(index).client, reply)
        for index in [index for index in self._changes if first <= index <= last]:
            self._reply(self._changes.pop(index), reply)

    def forget(self, connection: Connection) -> None:
        """Drop what a client that has gone waits for, as far as nothing else comes of it."""
        self.reads.forget(connection)
        self._transfers = [one for one in self._transfers if one[1].connection is not connection]
        self._snapshots = [one for one in self._snapshots if one[1].connection is not connection]

    def close(self) -> None:
        """Answer everything that waits: the server stops."""
        self._lose(_STOPPING)
        self.reads.close()
        for _, client in [*self._transfers, *self._snapshots]:
            self._reply(client, _STOPPING)
