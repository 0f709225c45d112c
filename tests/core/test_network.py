"""The cluster in memory: what it does to messages, disks and time, and what it checks."""

from __future__ import annotations

import pytest

from raft.core.events import CommitAdvanced, EntriesAppended, EntriesTruncated, Role, RoleChanged
from raft.core.events import RoleReason as Why
from raft.core.log import HardState
from raft.core.messages import AppendEntries, Entry, RequestVote, RequestVoteReply
from raft.core.readonly import ReadState
from raft.testing.mutants import MUTANTS
from raft.testing.network import ImpossibleRequest, Network, entries_of
from raft.testing.safety import NoProgress, SafetyViolation


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
    network.safety.happened(network.core(server), events, network.disks.values())


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
    network = elected()
    network.install(3, HardState(1), ())
    happens(network, 3, RoleChanged(Role.LEADER, 0, Why.WON_ELECTION))


def test_state_machine_safety_of_what_is_committed() -> None:
    network = elected()
    network.install(2, HardState(2), entries_of([2]))
    with pytest.raises(SafetyViolation, match="S2 commits 1/2, but 1/1 was committed in term 1"):
        happens(network, 2, CommitAdvanced(1))


def test_state_machine_safety_of_what_is_applied() -> None:
    network = elected()
    with pytest.raises(SafetyViolation, match="State Machine Safety: S2 applies 1/2 where another"):
        network.safety.applied(2, 1, entries_of([2]))
    with pytest.raises(SafetyViolation, match="S2 applies entry 2, which is not committed"):
        network.safety.applied(2, 2, entries_of([1]))


def test_what_is_committed_is_on_a_majority_of_disks() -> None:
    network = Network(3)
    network.install(1, HardState(1), entries_of([1]))
    with pytest.raises(SafetyViolation, match="1/1, which is on 1 of 3 disks"):
        happens(network, 1, CommitAdvanced(1))
    network.install(2, HardState(1), entries_of([1]))
    happens(network, 1, CommitAdvanced(1))


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


@pytest.mark.parametrize(
    ("index", "applied", "broken"),
    [
        (1, 1, None),
        (0, 1, "from index 0, but 1 was committed before"),
        (1, 0, "from index 1 having applied only 0"),
    ],
)
def test_a_read_sees_what_was_committed_before_it_began(
    index: int, applied: int, broken: str | None
) -> None:
    safety = elected().safety
    safety.read_asked(1)
    if broken is None:
        safety.read_answered(1, ReadState(1, index), applied)
    else:
        with pytest.raises(SafetyViolation, match=broken):
            safety.read_answered(1, ReadState(1, index), applied)


def test_a_read_is_answered_once() -> None:
    safety = elected().safety
    safety.read_asked(1)
    safety.read_answered(1, ReadState(1, 1), 1)
    with pytest.raises(SafetyViolation, match="answers read 1, which nobody waits for"):
        safety.read_answered(1, ReadState(1, 1), 1)
