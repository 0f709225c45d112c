"""Bug 46, a client waits for ever: whatever becomes of a request, the server answers it, once."""

from __future__ import annotations

from typing import cast

from raft.clock import VirtualClock
from raft.core.events import CoreEvent, Role
from raft.core.log import Snapshot
from raft.core.membership import Remove
from raft.core.messages import AppendEntries, Entry, EntryKind, Index, ServerId, Term
from raft.core.ready import Refusal
from raft.core.rules import Rules
from raft.frames import (
    ClientReply,
    ClientRequest,
    Declined,
    NotLeader,
    OutcomeUnknown,
    Propose,
    Rejected,
    Reply,
    Request,
    SnapshotTaken,
    TakeSnapshot,
    TransferLeadership,
)
from raft.machine.base import StateMachine
from raft.requests import Requests
from raft.testing.network import Network
from raft.testing.tally import Tally
from raft.transport import Connection
from raft.wire import decode
from tests.core.scenes import change, cluster, elect, heartbeat, isolate, lead


class Client:
    """A client of S1, from its connection to what it was answered."""

    def __init__(self, network: Network, machine: StateMachine | None = None) -> None:
        self.replies: list[Reply] = []
        self.asked: list[str] = []
        """What the server was asked for."""
        self.network = network
        self.requests = Requests(
            network.core(1),
            machine or Tally(),
            VirtualClock(),
            take_snapshot=lambda: self.asked.append("snapshot"),
            go_on=lambda: None,
        )

    def send(self, frame: bytes) -> None:
        reply = decode(frame)
        assert isinstance(reply, ClientReply)
        self.replies.append(reply.body)

    def ask(self, body: Request) -> None:
        self.network.take_trace()
        self.begin(body)
        assert self.replies == []

    def begin(self, body: Request) -> None:
        self.requests.begin(cast(Connection, self), ClientRequest(1, body))

    def settle(self) -> None:
        """Let the server answer what has been decided since."""
        happened = [h.what for h in self.network.take_trace() if h.server == 1]
        self.requests.settle([what for what in happened if isinstance(what, CoreEvent)])


def data(entry: Entry) -> bytes:
    return entry.data


def led_by_s1() -> tuple[Network, Client]:
    network = cluster(Rules(), [], [], [])
    lead(network, 1, 2, 3)
    return network, Client(network)


def overtaken() -> tuple[Network, Client]:
    """S1 has appended a command that it alone has; S2 leads and has committed others."""
    network, client = led_by_s1()
    isolate(network, 1)
    client.ask(Propose(b"x"))
    network.fire(1)
    network.settle()
    lead(network, 2, 3)
    client.settle()
    assert client.replies == []
    return network, client


def test_bug_46_who_proposed_what_was_truncated_is_told() -> None:
    network, client = overtaken()
    network.cut.clear()
    heartbeat(network, 2)
    heartbeat(network, 2)
    client.settle()
    (reply,) = client.replies
    assert isinstance(reply, OutcomeUnknown)
    assert "took its place" in reply.detail


def test_bug_46_who_proposed_what_a_snapshot_skipped_is_told() -> None:
    network, client = overtaken()
    network.compact(2)
    network.cut.clear()
    for _ in range(3):
        heartbeat(network, 2)
    client.settle()
    (reply,) = client.replies
    assert isinstance(reply, OutcomeUnknown)
    assert "snapshot stands for it" in reply.detail


def test_bug_46_who_proposed_what_was_replaced_at_its_index_is_told() -> None:
    network, client = led_by_s1()
    client.ask(Propose(b"x"))
    core = network.core(1)
    other = Entry(Term(core.term + 1), EntryKind.COMMAND, b"y")
    client.requests.applied(Index(core.log.last_index), [other], [b"1"])
    (reply,) = client.replies
    assert isinstance(reply, NotLeader)


def test_bug_46_who_asked_for_a_transfer_that_anothers_election_ended_is_told() -> None:
    network, client = led_by_s1()
    client.ask(TransferLeadership(ServerId(2)))
    isolate(network, 2)
    elect(network, 3, 1)
    heartbeat(network, 3)
    client.settle()
    (reply,) = client.replies
    assert isinstance(reply, Declined)
    assert reply.reason is Refusal.GIVEN_UP
    assert reply.detail == "S2 did not take over but S3 was elected"


def test_bug_46_who_proposed_what_follows_the_removal_of_its_leader_is_told() -> None:
    """The others may commit it, but nobody tells a server that is no member any more."""
    network = cluster(Rules(), [], [], [], one_entry_a_message=True)
    lead(network, 1, 2, 3)
    client = Client(network)
    change(network, 1, Remove(ServerId(1)))
    client.ask(Propose(b"x"))
    network.settle(lambda m: not (isinstance(m, AppendEntries) and b"x" in [*map(data, m.entries)]))
    assert network.core(1).role is Role.FOLLOWER
    client.settle()
    (reply,) = client.replies
    assert isinstance(reply, OutcomeUnknown)
    assert not client.requests.busy


# --- Snapshots -----------------------------------------------------------------------------------


def test_a_snapshot_that_is_on_its_way_to_the_disk_is_waited_for_and_not_taken_again() -> None:
    network, client = led_by_s1()
    network.compact(1)
    snapshot = network.core(1).snapshot
    assert snapshot is not None
    client.ask(TakeSnapshot())
    assert client.asked == []
    client.requests.stored(snapshot)
    assert client.replies == [SnapshotTaken(snapshot.index)]


def test_a_snapshot_on_disk_that_is_newer_than_what_is_applied_is_answer_enough() -> None:
    """A leader's, whose state the machine has not taken over yet."""
    network, client = led_by_s1()
    newer = Snapshot(Index(99), Term(1), network.core(1).configuration, b"")
    client.requests.stored(newer)
    client.begin(TakeSnapshot())
    assert client.replies == [SnapshotTaken(newer.index)]


# --- Refusals ------------------------------------------------------------------------------------


class Wordless(Tally):
    def check(self, command: bytes) -> str | None:
        return ""


def test_a_machine_may_refuse_a_command_without_a_word() -> None:
    network, _ = led_by_s1()
    client = Client(network, Wordless())
    last_index = network.core(1).log.last_index
    client.begin(Propose(b"x"))
    assert client.replies == [Rejected("")]
    assert network.core(1).log.last_index == last_index
