"""The cluster in memory: what it does to messages, disks and time, and what it checks."""

from __future__ import annotations

from random import Random

import pytest

from raft.core.events import (
    CommitAdvanced,
    ConfigurationChanged,
    EntriesAppended,
    EntriesTruncated,
    ProgressChanged,
    Role,
    RoleChanged,
    TermChanged,
    VoteCast,
)
from raft.core.events import RoleReason as Why
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    InstallSnapshotReply,
    Message,
    RequestPreVote,
    RequestVote,
    RequestVoteReply,
)
from raft.core.readonly import ReadState
from raft.testing.mutants import MUTANTS
from raft.testing.network import ImpossibleRequest, Network, entries_of
from raft.testing.safety import Disk, NoProgress, Safety, SafetyViolation


def elected(size: int = 3) -> Network:
    network = Network(size)
    network.fire(1)
    network.settle()
    return network


# --- Messages ----------------------------------------------------------------------------------


def test_messages_wait_until_they_are_delivered_the_oldest_first() -> None:
    network = Network(3)
    network.fire(1)
    assert [flight.message.dst for flight in network.in_flight] == [2, 3]
    network.deliver(network.in_flight[0])
    assert [flight.message for flight in network.in_flight][-1].src == 2
    network.settle()
    assert network.leader == 1
    assert network.in_flight == []


def test_a_held_message_is_passed_over() -> None:
    network = Network(3)
    network.fire(1)
    held = network.in_flight[0]
    held.held = True
    network.settle()
    assert network.in_flight == [held]
    assert network.core(2).voted_for is None


def test_a_duplicate_arrives_after_everything_that_was_underway() -> None:
    network = Network(3)
    network.fire(1)
    first = network.in_flight[0]
    copy = network.duplicate(first)
    assert network.in_flight[-1] is copy
    assert copy.message == first.message


def test_a_message_over_a_cut_link_or_to_a_server_that_is_down_is_lost() -> None:
    network = Network(3)
    network.cut.add((1, 2))
    network.crash(3)
    network.fire(1)
    network.settle()
    assert (network.core(1).role, network.core(2).term) == (Role.CANDIDATE, 0)


def test_messages_that_beget_messages_for_ever_come_to_an_end() -> None:
    network = Network(3)
    network.put(RequestVote(1, 2, 1, 0, 0))

    def echo(message: object) -> bool:
        if isinstance(message, RequestVote):
            network.put(message)
        return True

    with pytest.raises(NoProgress, match="not quiet after"):
        network.settle(echo)


# --- Disks and crashes -------------------------------------------------------------------------


def test_a_crash_keeps_what_was_saved_and_loses_what_was_not() -> None:
    network = elected()
    network.propose(1, b"saved")
    network.slow.add(1)
    network.propose(1, b"lost")
    assert network.core(1).log.last_index == 3
    network.crash(1)
    network.restart(1)
    assert [entry.data for entry in network.core(1).log.entries(1, 9)] == [b"", b"saved"]
    assert network.core(1).term == 1


def test_a_slow_disk_holds_back_what_promises_it_but_not_what_does_not() -> None:
    network = elected()
    network.slow |= {1, 2}
    network.propose(1, b"x=1")
    assert {type(flight.message) for flight in network.in_flight} == {AppendEntries}
    network.settle()
    assert network.core(1).commit_index == 1, "S1 and S2 have not stored it: only S3 has"
    network.save(2)
    network.settle()
    assert network.core(1).commit_index == 2


def test_a_conflict_on_a_slow_disk_is_saved_in_its_order() -> None:
    network = Network(3)
    network.install(1, HardState(2), entries_of([1, 2, 2]))
    network.slow.add(1)
    network.put(AppendEntries(2, 1, 3, 1, 1, entries_of([3]), 0))
    network.put(AppendEntries(2, 1, 3, 2, 3, entries_of([3, 3]), 0))
    network.settle()
    assert network.disks[1].entries == entries_of([1, 2, 2])
    network.save(1)
    assert network.disks[1].entries == entries_of([1, 3, 3, 3])


def test_what_cannot_be_done_is_refused_with_the_reason() -> None:
    network = Network(2)
    network.crash(2)
    with pytest.raises(ImpossibleRequest, match="there is no S5, only S1, S2"):
        network.core(5)
    with pytest.raises(ImpossibleRequest, match="S2 is down"):
        network.propose(2, b"x=1")
    with pytest.raises(ImpossibleRequest, match="S1 runs already"):
        network.restart(1)
    with pytest.raises(ImpossibleRequest, match="S1 does not lead"):
        network.greet(1, 2, 0)


# --- Time --------------------------------------------------------------------------------------


def test_time_passes_only_when_told_to_and_timers_fire_in_their_order() -> None:
    network = Network(5)
    deadlines = {server: core.deadline for server, core in network.cores.items()}
    network.advance(0.149)
    assert network.in_flight == []
    network.advance(0.151)
    asked = list(dict.fromkeys(flight.message.src for flight in network.in_flight))
    assert asked == sorted(deadlines, key=deadlines.__getitem__)
    assert network.now == pytest.approx(0.300)


def test_firing_one_timer_leaves_the_others_alone() -> None:
    network = Network(3)
    last = max(network.cores.values(), key=lambda core: core.deadline)
    network.fire(last.config.server)
    assert {core.role for core in network.cores.values()} == {Role.CANDIDATE, Role.FOLLOWER}
    assert network.now >= max(core.deadline for core in network.cores.values() if core is not last)


def test_the_same_seed_draws_the_same_timeouts() -> None:
    def drawn(seed: int) -> list[float]:
        return [core.deadline for core in Network(5, seed=seed).cores.values()]

    assert drawn(1) == drawn(1) != drawn(2)


# --- Promises ----------------------------------------------------------------------------------


def happens(network: Network, server: int, *events: object) -> None:
    network.safety.happened(network.core(server), events, network.disks)


def promises(size: int = 3) -> Network:
    """Judged by the promises alone: a server may say anything of itself, as long as they hold."""
    network = Network(size, judge=Safety)
    network.fire(1)
    network.settle()
    return network


def test_leader_append_only() -> None:
    network = elected()
    happens(network, 2, EntriesTruncated(1))
    with pytest.raises(SafetyViolation, match="Leader Append-Only: S1"):
        happens(network, 1, EntriesTruncated(1))


def test_election_safety() -> None:
    network = elected()
    with pytest.raises(SafetyViolation, match="Election Safety: S1 and S2 both lead term 1"):
        happens(network, 2, RoleChanged(Role.LEADER, 1, Why.WON_ELECTION))


def test_log_matching_of_two_entries_with_one_name() -> None:
    network = elected()
    with pytest.raises(SafetyViolation, match="Log Matching: S2 has 1/1 b'x'"):
        happens(network, 2, EntriesAppended(1, (Entry(1, data=b"x"),)))


def test_log_matching_of_what_lies_before() -> None:
    network = Network(2)
    network.install(1, HardState(3), entries_of([1, 3]))
    with pytest.raises(SafetyViolation, match="Log Matching: S2 has 2/3 after term 2, another"):
        network.install(2, HardState(3), entries_of([2, 3]))


def test_terms_never_fall_along_a_log() -> None:
    with pytest.raises(SafetyViolation, match="terms never fall along a log"):
        Network(2).install(1, HardState(3), entries_of([3, 1]))


def test_leader_completeness() -> None:
    network = elected()
    network.install(3, HardState(1), ())
    with pytest.raises(SafetyViolation, match=r"S3 leads term 2 without 1/1, .* in term 1"):
        happens(network, 3, RoleChanged(Role.LEADER, 2, Why.WON_ELECTION))


def test_a_leader_of_an_older_term_may_lack_what_was_committed_after_it() -> None:
    network = promises()
    network.install(3, HardState(1), ())
    happens(network, 3, RoleChanged(Role.LEADER, 0, Why.WON_ELECTION))
    with pytest.raises(SafetyViolation, match="Election Safety: S3 and S2 both lead term 0"):
        happens(network, 2, RoleChanged(Role.LEADER, 0, Why.WON_ELECTION))


def test_state_machine_safety_of_what_is_committed() -> None:
    network = elected()
    network.install(2, HardState(2), entries_of([2]))
    with pytest.raises(SafetyViolation, match="S2 commits 1/2, but 1/1 was committed in term 1"):
        happens(network, 2, CommitAdvanced(1))


def test_state_machine_safety_of_what_is_applied() -> None:
    network = elected()
    with pytest.raises(SafetyViolation, match="State Machine Safety: S2 applies 1/2 where another"):
        network.safety.applied(2, 1, entries_of([2]))
    network.safety.applied(2, 1, network.disks[2].entries)
    with pytest.raises(SafetyViolation, match="S2 applies entry 2, which is not committed"):
        network.safety.applied(2, 2, entries_of([1]))


def test_every_entry_is_applied_once_and_in_order() -> None:
    network = elected()
    first = network.disks[1].entries
    with pytest.raises(SafetyViolation, match="S1 applies entry 1 after entry 1"):
        network.safety.applied(1, 1, first)
    with pytest.raises(SafetyViolation, match="S2 applies entry 2 after entry 0"):
        network.safety.applied(2, 2, first)


def test_a_state_machine_is_the_same_everywhere_replayed_or_restored() -> None:
    network = elected()
    network.safety.state(2, 1, b"")
    with pytest.raises(SafetyViolation, match="after entry 1 S3 has the state b'x', another"):
        network.safety.state(3, 1, b"x")


def test_a_snapshot_leads_forward() -> None:
    network = elected()
    with pytest.raises(SafetyViolation, match="S1 goes back to entry 1 after it applied 1"):
        network.safety.restored(1, 1)


def test_a_snapshot_stands_for_what_is_committed_with_its_configuration() -> None:
    network = elected()
    members = Configuration((1, 2, 3))
    for snapshot, why in (
        (Snapshot(1, 7, members, b""), "S2 has one up to 1/7, committed there is term 1"),
        (Snapshot(2, 1, members, b""), "S2 has one up to 2/1, committed there is term None"),
        (Snapshot(1, 1, Configuration((1, 2)), b""), "S2 has S1 S2 at 1, committed is S1 S2 S3"),
        (Snapshot(1, 1, members, b"x=1"), "after entry 1 S2 has the state b'x=1'"),
    ):
        with pytest.raises(SafetyViolation, match=why):
            network.safety.started(network.core(2), Disk(HardState(7), (), snapshot))


def test_a_pre_vote_changes_nothing() -> None:
    network = elected()
    network.safety.pre_voted(network.core(2), HardState(1, 1))
    with pytest.raises(SafetyViolation, match=r"S2 goes from term 0 to 1, from vote None to 1"):
        network.safety.pre_voted(network.core(2), HardState(0, None))


def test_what_is_committed_is_on_a_majority_of_disks() -> None:
    network = Network(3)
    network.install(1, HardState(1), entries_of([1]))
    with pytest.raises(SafetyViolation, match="1/1, which is on the disk of S1; the voters are S1"):
        happens(network, 1, CommitAdvanced(1))
    network = Network(3, judge=Safety)
    for server in (1, 2):
        network.install(server, HardState(1), entries_of([1]))
    happens(network, 1, CommitAdvanced(1))


def test_while_joint_a_majority_of_old_and_new_voters_stores_what_is_committed() -> None:
    network = Network(5, judge=Safety)
    for server in (1, 2, 3):
        network.install(server, HardState(1), entries_of([1]))
    joint = ConfigurationChanged(1, (3, 4, 5), (1, 2, 3), ())
    with pytest.raises(SafetyViolation, match="S1, S2, S3; the voters are S3 S4 S5 and S1 S2 S3"):
        happens(network, 1, joint, CommitAdvanced(1))
    network.install(4, HardState(1), entries_of([1]))
    happens(network, 1, joint, CommitAdvanced(1))


def test_one_vote_a_term() -> None:
    network = Network(3, MUTANTS["vote-twice"]())
    network.fire(1)
    with pytest.raises(SafetyViolation, match="in term 1 S1 votes for S3 after it voted for S1"):
        network.deliver(network.put(RequestVote(3, 1, 1, 0, 0)))


def test_a_vote_that_was_never_told_binds_nobody() -> None:
    network = Network(3)
    network.slow.add(2)
    network.put(RequestVote(1, 2, 1, 0, 0))
    network.settle()
    network.crash(2)
    network.restart(2)
    network.slow.clear()
    network.put(RequestVote(3, 2, 1, 0, 0))
    network.settle(lambda message: message.dst == 2)
    assert [type(flight.message) for flight in network.in_flight] == [RequestVoteReply]


def test_a_read_sees_what_was_committed_before_it_began() -> None:
    network = elected()
    network.safety.read_asked(1)
    network.safety.read_answered(1, ReadState(1, 1), last_applied=1)
    with pytest.raises(SafetyViolation, match="from index 0, but 1 was committed before"):
        network.safety.read_answered(1, ReadState(1, 0), last_applied=1)
    with pytest.raises(SafetyViolation, match="from index 1 having applied only 0"):
        network.safety.read_answered(1, ReadState(1, 1), last_applied=0)


# --- Lemmas ------------------------------------------------------------------------------------


def says(network: Network, server: int, message: Message) -> None:
    network.safety.said(network.core(server), message, network.disks[server])


def test_a_leader_has_the_votes_of_a_majority() -> None:
    network = Network(5)
    with pytest.raises(
        SafetyViolation, match=r"S1 leads term 0 with the votes of \[1\]; the voters"
    ):
        happens(network, 1, RoleChanged(Role.LEADER, 0, Why.WON_ELECTION))


def test_a_leader_counts_copies_of_its_own_terms_entries() -> None:
    network = elected()
    network.propose(1, b"x=1")
    network.core(1)._state.term = 5
    with pytest.raises(SafetyViolation, match=r"S1 of term 5 commits up to 2/1"):
        happens(network, 1, CommitAdvanced(2))


def test_terms_only_grow() -> None:
    with pytest.raises(SafetyViolation, match=r"terms only grow \(§5.1\): S2 goes to 1"):
        happens(elected(), 2, TermChanged(1))


def test_a_term_that_changes_silently() -> None:
    network = elected()
    network.core(2)._state.term = 0
    with pytest.raises(SafetyViolation, match=r"S2 is out of order: .* term 0 \(1\)"):
        happens(network, 2)


def test_indexes_in_their_order() -> None:
    network = elected()
    network.core(1)._state.last_applied = 2
    with pytest.raises(SafetyViolation, match=r"S1 is out of order: .* lastApplied 2"):
        happens(network, 1)


def test_no_entry_is_newer_than_its_servers_term() -> None:
    with pytest.raises(SafetyViolation, match="S2 of term 1 has one of 3"):
        Network(2).install(2, HardState(1), entries_of([3]))


def test_votes_go_to_logs_that_are_up_to_date() -> None:
    network = elected()
    network.install(3, HardState(2, 3), ())
    says(network, 3, RequestVote(3, 2, 2, 0, 0))
    with pytest.raises(SafetyViolation, match="S2, whose log ends at 1/1, votes for S3"):
        happens(network, 2, VoteCast(2, 3, Granted()))


def test_match_index_is_what_a_follower_stores() -> None:
    network = elected()
    network.propose(1, b"x=1")
    with pytest.raises(SafetyViolation, match="S1 counts S2 up to 2/1, whose disk has None there"):
        happens(network, 1, ProgressChanged(2, 3, 2))


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(2, 3, 5, 0, 0),
        RequestVoteReply(2, 3, 5, Granted()),
        AppendEntries(2, 3, 5, 0, 0, (), 0),
        RequestPreVote(2, 3, 6, 0, 0),
        AppendEntriesReply(3, 1, 1, Appended(1)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_of_its_sender_and_its_term(message: Message) -> None:
    with pytest.raises(SafetyViolation, match="S2 of term 1 says"):
        says(elected(), 2, message)


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(2, 3, 1, 0, 0),
        RequestVoteReply(2, 3, 1, Granted()),
        AppendEntries(2, 3, 1, 0, 0, (), 0),
        AppendEntriesReply(2, 1, 1, Appended(1)),
        InstallSnapshotReply(2, 1, 1, 1, 0, True),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_is_told_is_on_disk(message: Message) -> None:
    network = elected()
    network.disks[2] = Disk()
    with pytest.raises(SafetyViolation, match="on disk before it is told"):
        says(network, 2, message)


def changed(network: Network, *configurations: Configuration) -> None:
    """S1 leads and appends these, one after the other, whatever its rules say."""
    core = network.core(1)
    for configuration in configurations:
        entry = Entry(core.term, EntryKind.CONFIGURATION, configuration.encode())
        core._state.append((entry,))
    network.safety.happened(core, core.take_events(), network.disks)


def test_one_change_at_a_time() -> None:
    four, five = Configuration((1, 2, 3, 4)), Configuration((1, 2, 3, 4, 5))
    changed(elected(), four)
    with pytest.raises(SafetyViolation, match="at 3, the one at 2 is not committed"):
        changed(elected(), four, five)


def test_no_change_before_the_first_commit_of_the_term() -> None:
    network = Network(3)
    network.fire(1)
    network.settle(lambda message: not isinstance(message, AppendEntries))
    with pytest.raises(SafetyViolation, match="configuration at 2, committed is 0/0"):
        changed(network, Configuration((1, 2)))


def test_majorities_of_neighbouring_configurations_overlap() -> None:
    with pytest.raises(SafetyViolation, match="S1 goes from S1 S2 S3 to S1 S4 S5"):
        changed(elected(), Configuration((1, 4, 5)))
    changed(elected(), Configuration((1, 4, 5), (), (1, 2, 3)))


# --- Members and snapshots ---------------------------------------------------------------------


def test_a_new_server_knows_nothing() -> None:
    network = elected()
    network.join(4)
    network.join(4)
    assert network.servers == (1, 2, 3, 4)
    assert network.core(4).configuration == Configuration(())
    network.crash(4)
    network.restart(4)
    assert network.core(4).configuration == Configuration(())


def test_a_server_starts_with_the_state_of_its_snapshot() -> None:
    network = elected()
    network.propose(1, b"x=1")
    network.settle()
    network.compact(1)
    network.crash(1)
    network.restart(1)
    network.fire(1)
    network.settle()
    network.propose(1, b"y=1")
    network.settle()
    network.compact(1)
    assert network.core(1).snapshot.data == b"x=1 y=1"


def test_options_are_set_for_all_servers_and_for_those_to_come() -> None:
    network = Network(3)
    network.configure(pre_vote=True)
    network.join(4)
    assert {core.config.pre_vote for core in network.cores.values()} == {True}


def test_saves_may_be_reported_in_any_order() -> None:
    network = elected()
    network.slow.add(1)
    for number in range(6):
        network.propose(1, b"%d" % number)
    network.settle()
    network.save(1, Random(4))
    assert network.core(1).last_applied == 7
