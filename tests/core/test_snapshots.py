"""Log compaction and InstallSnapshot (§7), and the bugs that others had in them."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.core.core import Config, Core
from raft.core.events import SnapshotInstalled
from raft.core.log import HardState, Snapshot
from raft.core.membership import AddLearner, AddVoter, Configuration, Remove
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
)
from raft.core.progress import ProgressState
from raft.core.rules import Rules
from raft.testing.mutants import fails_with
from raft.testing.network import Network, entries_of
from raft.testing.safety import Disk
from tests.core.scenes import (
    arrive,
    change,
    cluster,
    elect,
    exchange,
    heartbeat,
    isolate,
    lead,
    log_terms,
    pick,
    voters,
)


def led(rules: Rules | None = None, size: int = 3, commands: int = 4, **options: object) -> Network:
    """S1 leads, and these many commands are applied everywhere: entries 2, 3, ..."""
    network = Network(size, rules, **options)
    lead(network, 1, *range(2, size // 2 + 2))
    for number in range(commands):
        network.propose(1, b"x=%d" % number)
    network.settle()
    heartbeat(network, 1)
    return network


def left_behind(rules: Rules | None = None, **options: object) -> Network:
    """S3 has entry 1; S1 has applied 1 to 5 and compacted all of them."""
    network = led(rules, commands=0, **options)
    isolate(network, 3)
    for number in range(4):
        network.propose(1, b"x=%d" % number)
    heartbeat(network, 1)
    heartbeat(network, 1)
    network.compact(1)
    network.cut.clear()
    return network


def installed(network: Network) -> list[SnapshotInstalled]:
    return [h.what for h in network.take_trace() if isinstance(h.what, SnapshotInstalled)]


# --- Compaction ----------------------------------------------------------------------------------


def test_a_snapshot_stands_for_what_is_applied_and_the_log_goes_on_behind_it() -> None:
    network = led()
    network.propose(1, b"y")
    network.compact(1)
    core = network.core(1)
    assert core.snapshot == Snapshot(5, 1, Configuration((1, 2, 3)), b"x=0 x=1 x=2 x=3")
    assert (core.log.prev_index, core.log.prev_term, core.log.last_index) == (5, 1, 6)


def test_entries_kept_for_followers_that_lag_little() -> None:
    network = led()
    network.compact(1, keep_entries=2)
    core = network.core(1)
    assert (core.snapshot.index, core.log.first_index, core.log.last_index) == (5, 4, 5)
    network.compact(2, keep_entries=99)
    assert network.core(2).log.first_index == 1
    assert network.core(2).snapshot.index == 5


def test_a_log_without_anything_new_is_not_compacted_again() -> None:
    network = Network(3)
    network.compact(1)
    assert network.core(1).snapshot is None
    network = led()
    network.compact(1)
    before = network.core(1).snapshot
    network.compact(1)
    assert network.core(1).snapshot is before


def test_a_server_starts_from_its_snapshot() -> None:
    network = led()
    network.compact(2)
    network.propose(1, b"y")
    network.settle()
    network.crash(2)
    network.restart(2)
    core = network.core(2)
    assert (core.commit_index, core.last_applied, core.log.last_index) == (5, 5, 6)
    heartbeat(network, 1)
    assert network.core(2).last_applied == 6


def test_bug_51_a_snapshot_is_taken_while_entries_are_on_their_way() -> None:
    network = led()
    network.slow |= {1, 2}
    network.propose(1, b"y=1")
    network.compact(1)
    network.compact(2)
    network.propose(1, b"y=2")
    network.settle()
    network.save(2)
    network.save(1)
    network.slow.clear()
    network.settle()
    heartbeat(network, 1)
    assert {network.core(server).last_applied for server in (1, 2, 3)} == {7}
    assert {network.core(server).log.first_index for server in (1, 2)} == {6}


# --- A follower that needs it --------------------------------------------------------------------


def test_a_follower_that_lags_too_far_gets_the_snapshot_and_then_the_log() -> None:
    network = left_behind()
    network.propose(1, b"y")
    heartbeat(network, 1)
    (event,) = installed(network)
    assert (event.index, event.retained) == (5, False)
    heartbeat(network, 1)
    core = network.core(3)
    assert (core.log.prev_index, core.last_applied) == (5, 6)
    assert network.core(1).progress[3].state is ProgressState.REPLICATE


@pytest.mark.parametrize("size", [1, 4, 7, 15, 16])
def test_a_snapshot_comes_in_pieces_one_at_a_time(size: int) -> None:
    network = left_behind(snapshot_chunk_bytes=size)
    network.fire(1)
    pieces = []
    for message in network.each(lambda message: 3 in (message.src, message.dst)):
        if isinstance(message, InstallSnapshot):
            pieces.append(message.data)
        assert sum(isinstance(f.message, InstallSnapshot) for f in network.in_flight) <= 1
    assert b"".join(pieces) == b"x=0 x=1 x=2 x=3"
    assert {len(piece) for piece in pieces[:-1]} <= {size}


@pytest.mark.parametrize(("has", "snapshots"), [(0, 1), (4, 1), (5, 0), (6, 0)])
def test_bug_15_the_boundary_of_the_snapshot(has: int, snapshots: int) -> None:
    """The leader starts with nothing behind entry 5; a follower may have more or less than that."""
    network = led()
    network.compact(1)
    entries = (*network.disks[2].entries, Entry(1, data=b"lost"))
    network.install(3, HardState(1), entries[:has])
    network.crash(1)
    network.restart(1)
    network.take_trace()
    elect(network, 1, 2)
    heartbeat(network, 1)
    heartbeat(network, 1)
    assert len(installed(network)) == snapshots
    assert network.core(3).log.last_index == network.core(3).last_applied == 6
    assert log_terms(network, 3)[-1] == 2


def test_bug_14_an_append_from_the_beginning_is_appended_again_behind_a_snapshot() -> None:
    network = led()
    entries = network.core(1).log.entries(1, 5)
    network.compact(2)
    for first in range(5):
        request = AppendEntries(1, 2, 1, first, 1 if first else 0, entries[first:], 5)
        for _ in range(2):
            arrive(network, request)
            assert pick(network, AppendEntriesReply, 2, 1).outcome == Appended(5)
    assert log_terms(network, 2) == []
    assert network.core(2).log.last_index == 5


def test_bug_16_an_append_that_begins_before_the_snapshot_is_no_conflict() -> None:
    network = led()
    network.propose(1, b"y=1")
    network.propose(1, b"y=2")
    entries = network.core(1).log.entries(1, 7)
    network.in_flight.clear()
    network.compact(2)
    arrive(network, AppendEntries(1, 2, 1, 2, 1, entries[2:6], 5))
    assert pick(network, AppendEntriesReply, 2, 1).outcome == Appended(6)
    arrive(network, AppendEntries(1, 2, 1, 6, 1, entries[6:], 5))
    arrive(network, AppendEntries(1, 2, 1, 0, 0, entries[:3], 5))
    assert network.core(2).log.last_index == 7


@fails_with("stale-configuration-kept")
def test_bug_17_a_snapshot_leaves_a_configuration_in_force_that_is_long_gone(
    rules: Rules,
) -> None:
    network = led(rules, size=4, commands=0)
    isolate(network, 4)
    change(network, 1, Remove(3))
    network.settle()
    change(network, 1, AddVoter(5))
    network.settle()
    network.compact(1)
    network.cut.clear()
    heartbeat(network, 1)
    heartbeat(network, 1)
    assert voters(network, 4) == (1, 2, 4, 5)
    assert network.core(4).configuration_index == network.core(1).configuration_index


def test_bug_17_a_newer_configuration_of_the_log_goes_when_the_snapshot_replaces_it() -> None:
    network = led(commands=0)
    isolate(network, 1)
    for _ in range(3):
        network.propose(1, b"lost")
    change(network, 1, AddVoter(4))  # entry 5, of a leader that is deposed
    elect(network, 2, 3)
    for number in range(3):
        network.propose(2, b"x=%d" % number)
    heartbeat(network, 2)
    heartbeat(network, 2)
    network.compact(2)
    network.cut.clear()
    # All that S1 has behind entry 1 is superseded; the snapshot ends before its configuration.
    heartbeat(network, 2)
    heartbeat(network, 2)
    assert voters(network, 1) == (1, 2, 3)
    assert network.core(1).log.last_index == network.core(2).log.last_index


@fails_with("term-lowered-by-snapshot")
def test_bug_13_the_term_goes_back_to_that_of_the_snapshot(rules: Rules) -> None:
    network = left_behind(rules)
    elect(network, 2, 1)
    network.compact(2)
    heartbeat(network, 2)
    heartbeat(network, 2)
    assert network.core(3).log.prev_index >= 5
    assert {network.core(server).term for server in (1, 2, 3)} == {2}


# --- Snapshots that come late, twice or damaged --------------------------------------------------


def snapshot_of(network: Network, src: int, dst: int) -> InstallSnapshot:
    """The snapshot of one server in one piece, as if it led."""
    snapshot = network.core(src).snapshot
    assert snapshot is not None
    return InstallSnapshot(
        src,
        dst,
        network.core(src).term,
        snapshot.index,
        snapshot.term,
        snapshot.configuration.encode(),
        len(snapshot.data),
        snapshot.checksum,
        0,
        snapshot.data,
    )


@pytest.mark.parametrize("term_there", [1, 7])
def test_bug_18_a_snapshot_of_what_is_committed_changes_nothing(term_there: int) -> None:
    network = led()
    network.compact(1)
    request = snapshot_of(network, 1, 2)
    older = replace(request, last_index=3, last_term=term_there, data=b"old", size=3)
    network.take_trace()
    arrive(network, older, older, request)
    assert installed(network) == []
    assert network.core(2).log.first_index == 1
    reply = pick(network, InstallSnapshotReply, 2, 1)
    assert (reply.last_index, reply.installed) == (3, True)


def test_bug_18_a_snapshot_comes_while_entries_are_being_applied() -> None:
    """S3's disk is slow: it has not applied entries 2 and 3 when a snapshot up to 5 comes."""
    network = led(commands=0)
    network.slow.add(3)
    for number in range(2):
        network.propose(1, b"x=%d" % number)
    network.settle()
    heartbeat(network, 1)
    assert (network.core(3).commit_index, network.core(3).last_applied) == (3, 1)
    isolate(network, 3)
    for number in range(2, 4):
        network.propose(1, b"x=%d" % number)
    heartbeat(network, 1)
    network.compact(1)
    network.cut.clear()
    network.in_flight.clear()
    arrive(network, snapshot_of(network, 1, 3))
    core = network.core(3)
    assert (core.commit_index, core.last_applied) == (5, 1), "it is not restored yet"
    network.compact(3)
    assert core.snapshot is not None
    assert core.snapshot.data == b"x=0 x=1 x=2 x=3", "its own state is an older one"
    network.save(3)
    assert core.last_applied == 5


def test_what_follows_the_snapshot_in_the_log_is_kept() -> None:
    """InstallSnapshot 6: an entry with the snapshot's last index and term is there."""
    network = led(commands=0)
    network.propose(1, b"x=1")
    exchange(network, 1, 2)
    network.compact(1, keep_entries=1)
    network.propose(1, b"x=2")
    appends = [flight.message for flight in network.in_flight if flight.message.dst == 3]
    arrive(network, *(replace(message, leader_commit=0) for message in appends))
    assert (network.core(3).log.last_index, network.core(3).commit_index) == (3, 1)
    network.take_trace()
    arrive(network, snapshot_of(network, 1, 3))
    (event,) = installed(network)
    assert event.retained
    for _ in range(2):
        core = network.core(3)
        assert (core.log.prev_index, core.log.last_index, core.last_applied) == (2, 3, 2)
        network.crash(3)
        network.restart(3)


def test_a_new_server_learns_the_first_members_from_a_snapshot_that_keeps_its_log() -> None:
    """It was given entries 1 to 3, none of which is a configuration, and does not know any."""
    core = Core(Config(4, ()), HardState(), (), Random(1), 0.0)
    core.step(AppendEntries(1, 4, 1, 0, 0, entries_of([1, 1, 1]), 0), 0.0)
    assert core.configuration.voters == ()
    members = Configuration((1, 2, 3))
    core.step(InstallSnapshot(1, 4, 1, 2, 1, members.encode(), 0, 0, 0, b""), 0.0)
    assert (core.log.prev_index, core.log.last_index) == (2, 3)
    assert core.configuration == members


def test_what_a_snapshot_stands_for_is_not_stored_a_second_time() -> None:
    """Entries 1 to 5 are not handed out yet when a snapshot up to 3 comes."""
    core = Core(Config(2, (1, 2, 3)), HardState(), (), Random(1), 0.0)
    entries = entries_of([1] * 5)
    core.step(AppendEntries(1, 2, 1, 0, 0, entries, 0), 0.0)
    members = Configuration((1, 2, 3)).encode()
    core.step(InstallSnapshot(1, 2, 1, 3, 1, members, 0, 0, 0, b""), 0.0)
    ready = core.ready(0.0)
    assert ready is not None
    assert (ready.snapshot.index, ready.restore) == (3, True)
    assert (ready.first_index, ready.entries) == (4, entries[3:])
    disk = Disk()
    disk.save(ready)
    assert (disk.log.prev_index, disk.log.last_index) == (3, 5)


def test_bug_42_entries_that_a_snapshot_discarded_come_back_after_a_crash() -> None:
    """What the disk has behind the snapshot must go, though nothing takes its place."""
    network = led(commands=0)
    isolate(network, 1)
    for _ in range(6):
        network.propose(1, b"lost")
    elect(network, 2, 3)
    for number in range(3):
        network.propose(2, b"x=%d" % number)
    heartbeat(network, 2)
    network.compact(2)
    network.cut.clear()
    network.in_flight.clear()
    assert network.core(1).log.last_index == 7
    # The leader of term 2 sends its snapshot, and that is the last that S1 hears.
    network.fire(2)
    for message in network.each(lambda message: {message.src, message.dst} == {1, 2}):
        if isinstance(message, InstallSnapshot) and message.data:
            break
    network.crash(1)
    network.restart(1)
    log = network.core(1).log
    assert (log.prev_index, log.prev_term, log.last_index) == (5, 2, 5)


def test_bug_19_a_follower_stays_in_snapshot_state_though_it_has_it() -> None:
    network = left_behind()
    network.fire(1)
    for _ in network.each(lambda message: 3 in (message.src, message.dst)):
        if network.core(3).log.prev_index:
            break
    pick(network, InstallSnapshotReply, 3, 1)  # the answer is lost
    assert network.core(1).progress[3].state is ProgressState.SNAPSHOT
    heartbeat(network, 1)
    assert network.core(1).progress[3].state is ProgressState.REPLICATE


def test_bug_19_a_late_acknowledgement_makes_a_snapshot_needless() -> None:
    network = led(commands=0)
    isolate(network, 3)
    network.propose(1, b"x=1")
    network.propose(1, b"x=2")
    heartbeat(network, 1)
    network.cut.clear()
    network.fire(1)
    for _ in network.each(lambda message: 3 in (message.src, message.dst)):
        if network.core(3).log.last_index == 3:
            break
    late = pick(network, AppendEntriesReply, 3, 1)
    network.compact(1)
    assert network.core(1).progress[3].state is ProgressState.SNAPSHOT
    arrive(network, late)
    assert network.core(1).progress[3].state is ProgressState.REPLICATE
    network.take_trace()
    network.propose(1, b"x=3")
    network.settle()
    heartbeat(network, 1)
    assert network.core(3).last_applied == 4
    assert installed(network) == []


def test_a_late_refusal_does_not_disturb_a_snapshot_on_its_way() -> None:
    network = left_behind(snapshot_chunk_bytes=4)
    refusal = None
    network.fire(1)
    for message in network.each(lambda message: {message.src, message.dst} == {1, 3}):
        if isinstance(message, AppendEntriesReply):
            refusal = message
        if isinstance(message, InstallSnapshotReply):
            break
    progress = network.core(1).progress[3]
    offset = progress.transfer.offset
    assert refusal is not None
    arrive(network, refusal)
    assert (progress.state, progress.transfer.offset) == (ProgressState.SNAPSHOT, offset)


def receiving(network: Network, pieces: int) -> list[InstallSnapshot]:
    """Let S3 receive these many pieces of S1's snapshot, and return them."""
    network.fire(1)
    received = []
    for message in network.each(lambda message: {message.src, message.dst} == {1, 3}):
        if isinstance(message, InstallSnapshot):
            received.append(message)
        if len(received) == pieces:
            return received
    raise AssertionError(f"only {len(received)} pieces")


def pieces_to(network: Network, follower: int) -> list[int]:
    """Settle, and return the offsets of the pieces that a follower received."""
    return [
        message.offset
        for message in network.each()
        if isinstance(message, InstallSnapshot) and message.dst == follower
    ]


def test_a_follower_that_conflicts_in_what_is_compacted_gets_the_snapshot() -> None:
    """Its conflicting term begins before matchIndex, and the leader no longer has that term."""
    network = cluster(Rules(), [1] * 5 + [2] * 5, [1] * 12, [1] * 5 + [2] * 5)
    elect(network, 1, 2, 3)

    def without_entries_for_2(message: Message) -> bool:
        return not (isinstance(message, AppendEntries) and message.dst == 2 and message.entries)

    for command in (None, None, None, b"x", b"x", b"x", b"x", None):
        if command is not None:
            network.propose(1, command)
        else:
            network.fire(1)
        network.settle(without_entries_for_2)
        network.in_flight.clear()
    assert network.core(1).progress[2].match_index == 5
    network.compact(1, keep_entries=5)
    for _ in range(3):
        heartbeat(network, 1)
    assert network.core(2).log.last_index == network.core(1).log.last_index
    assert network.core(2).commit_index == network.core(1).commit_index


def test_bug_20_the_receiver_restarts_while_it_receives() -> None:
    network = left_behind(snapshot_chunk_bytes=4)
    receiving(network, 2)
    network.crash(3)
    network.restart(3)
    network.in_flight.clear()
    network.fire(1)
    assert pieces_to(network, 3) == [4, 0, 4, 8, 12], "what S1 tried, then all of it"
    assert network.core(3).last_applied == 5


def test_bug_20_another_leader_goes_on_with_the_same_snapshot() -> None:
    network = left_behind(snapshot_chunk_bytes=4)
    network.compact(2)
    receiving(network, 2)
    network.crash(1)
    elect(network, 2, 3)
    network.fire(2)
    assert pieces_to(network, 3) == [0, 8, 12], "S2 begins at 0 and learns that S3 has 8 bytes"


def test_bug_20_a_stale_transfer_survives_the_change_of_leaders() -> None:
    network = left_behind(snapshot_chunk_bytes=4)
    stale = receiving(network, 3)
    old_answer = pick(network, InstallSnapshotReply, 3, 1)
    isolate(network, 1)
    lead(network, 2, 3)
    network.propose(2, b"y")
    heartbeat(network, 2)
    network.compact(2)
    network.cut.clear()
    network.in_flight.clear()
    for piece in stale:
        arrive(network, piece)
        assert pick(network, InstallSnapshotReply, 3, 1).installed is False
    arrive(network, replace(old_answer, dst=2))
    for _ in range(3):
        heartbeat(network, 2)
    assert network.core(3).last_applied == network.core(2).last_applied == 7


def test_a_damaged_snapshot_is_asked_for_again() -> None:
    network = left_behind(snapshot_chunk_bytes=4)
    network.fire(1)
    for message in network.each(lambda message: 3 in (message.src, message.dst)):
        if isinstance(message, InstallSnapshotReply) and message.next_offset == 4:
            break
    piece = pick(network, InstallSnapshot, 1, 3)
    arrive(network, replace(piece, data=b"####"))
    assert pieces_to(network, 3) == [8, 12]
    network.fire(1)
    assert pieces_to(network, 3) == [12, 0, 4, 8, 12], "first it is asked where to go on"
    assert network.core(3).last_applied == 5


@pytest.mark.parametrize("configuration", [b"", b"{}", b"null"])
def test_a_snapshot_without_a_configuration_is_not_installed(configuration: bytes) -> None:
    network = left_behind()
    arrive(network, replace(snapshot_of(network, 1, 3), configuration=configuration))
    assert network.core(3).snapshot is None


def test_a_repeated_answer_does_not_double_the_pieces() -> None:
    """As in the first version of TFTP, each answer to one piece would send another, for ever."""
    network = left_behind(snapshot_chunk_bytes=1)
    network.fire(1)
    sent = 0
    for message in network.each(lambda message: 3 in (message.src, message.dst)):
        sent += isinstance(message, InstallSnapshot)
        if sent == 3 and isinstance(message, InstallSnapshot):
            arrive(network, message)
            for answer in [f for f in network.in_flight if f.message.src == 3]:
                network.duplicate(answer)
    assert sent - len(b"x=0 x=1 x=2 x=3") <= 1
    assert network.core(3).last_applied == 5


def test_answers_that_were_overtaken_do_not_multiply() -> None:
    """Each wants an earlier piece, as a follower does that restarted; each piece is answered."""
    network = left_behind(snapshot_chunk_bytes=1)
    network.fire(1)
    late = []
    for message in network.each(lambda message: 3 in (message.src, message.dst)):
        if isinstance(message, InstallSnapshotReply):
            late.append(message)
        if len(late) == 5:
            break
    network.in_flight.clear()
    arrive(network, *late[:4], *late[:4])
    assert [f for f in network.in_flight if f.message.dst == 3] == []
    # As if they answered the next broadcast, before what that finds out has arrived.
    network.fire(1)
    round_ = pick(network, InstallSnapshot, 1, 3).round
    arrive(network, *[replace(answer, round=round_) for answer in late[:4] + late[:4]])
    again = [f.message.offset for f in network.in_flight if f.message.dst == 3]
    assert again == [1, 2, 3, 4], "it goes back once, and then with each answer that is new"
    network.settle()
    assert network.core(3).last_applied == 5


def test_an_empty_state_machine_has_a_snapshot_too() -> None:
    network = led(commands=0)
    network.compact(1)
    change(network, 1, AddLearner(4))
    network.settle()
    assert network.core(4).snapshot == Snapshot(1, 1, Configuration((1, 2, 3)), b"")


def test_a_snapshot_in_the_place_of_entries_that_were_to_replace_others_on_disk() -> None:
    """All in one turn: entries take the place of another leader's, and a snapshot that of both.

    If the disk kept the tail that no longer counts, the server would take itself for less
    up-to-date after a restart than it has said to be, and vote for a leader without entry 6.
    """
    members = Configuration((1, 2, 3))
    disk = Disk(HardState(3), entries_of([1, 1, 1, 1, 3, 3, 3, 3]))
    core = Core(Config(3, (1, 2, 3)), disk.hard_state, disk.entries, Random(1), 0.0)
    core.step(AppendEntries(1, 3, 5, 4, 1, entries_of([5, 5]), 4), 0.1)
    whole = Snapshot(6, 5, members, b"state")
    core.step(
        InstallSnapshot(1, 3, 5, 6, 5, members.encode(), 5, whole.checksum, 0, whole.data), 0.1
    )
    while (ready := core.ready(0.1)) is not None:
        disk.save(ready)
        core.persisted(ready.number, 0.1)
    assert disk.snapshot == whole
    assert (core.log.last_index, core.log.last_term) == (6, 5)
    assert (disk.log.last_index, disk.log.last_term) == (6, 5)


# --- Whatever happens to the pieces --------------------------------------------------------------


@given(st.integers(1, 9), st.randoms(use_true_random=False), st.integers(0, 60))
def test_a_snapshot_arrives_whole_or_not_at_all_and_at_last_it_arrives(
    chunk: int, random: Random, faults: int
) -> None:
    """Pieces and answers are lost, repeated and overtake each other; then the faults end."""
    network = left_behind(snapshot_chunk_bytes=chunk)
    network.fire(1)
    for _ in range(faults):
        if not network.in_flight:
            network.fire(1)
        flight = random.choice(network.in_flight)
        random.choice(
            [network.deliver, network.deliver, network.deliver, network.drop, network.duplicate]
        )(flight)
        if random.random() < 0.1:
            network.crash(3)
            network.restart(3)
        if random.random() < 0.2:
            network.fire(1)
    for _ in range(3):
        heartbeat(network, 1)
    snapshot = network.core(3).snapshot
    assert snapshot is not None
    assert snapshot.data == b"x=0 x=1 x=2 x=3"
    assert network.core(3).last_applied == 5
    assert network.core(1).progress[3].state is ProgressState.REPLICATE
