from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.core.events import (
    Applied,
    CommitAdvanced,
    EntriesAppended,
    EntriesTruncated,
    LeaderChanged,
    MessageIgnored,
    ProgressChanged,
    Role,
    RoleChanged,
    RoleReason,
    TermChanged,
    TimerArmed,
    TimerKind,
    VoteCast,
    VoteReceived,
)
from raft.core.messages import (
    AlreadyVoted,
    AppendEntries,
    Entry,
    EntryKind,
    Granted,
    Index,
    LogBehind,
    ServerId,
    StaleTerm,
    Term,
)
from raft.frames import FollowerProgress, ObservationsLost
from raft.machine.kv import Append, Cas, Delete, Increment, Put, Value, encode_command
from raft.machine.sessions import OpenSession, Perform, encode_request
from raftviz.model.events import (
    ClockChanged,
    CommandGiven,
    DropReason,
    Event,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageDuplicated,
    MessageHeld,
    MessageRescheduled,
    MessageSent,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
    RequestSent,
    ServerExited,
    ServerPaused,
    ServerResumed,
    Warned,
)
from raftviz.model.link_rules import LinkRules
from raftviz.model.machine import apply_command, command_text
from raftviz.model.view import (
    LANDED_KEPT,
    OPERATIONS_KEPT,
    ClockView,
    ClusterView,
    Flight,
    LinkView,
)
from tests.raftviz.fake_lab import Stream, Told, cluster, entries, server_state, spawned, started
from tests.raftviz.simulated import SimulatedLab

S1, S2, S3 = ServerId(1), ServerId(2), ServerId(3)


def fold(events: list[Event]) -> ClusterView:
    view = ClusterView()
    for event in events:
        view.apply(event)
    return view


def folded(*told: Told) -> ClusterView:
    return fold(Stream().events(*told))


def put(key: bytes, value: bytes, term: int = 1) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, encode_command(Put(key, value)))


def delete(key: bytes, term: int = 1) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, encode_command(Delete(key)))


def heartbeat(src: int = 2, dst: int = 3) -> AppendEntries:
    term, zero = Term(3), Index(0)
    return AppendEntries(ServerId(src), ServerId(dst), term, zero, Term(0), (), zero)


def machine_after(entries: Iterable[Entry]) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    performed: set[tuple[int, int]] = set()
    for entry in entries:
        apply_command(values, entry, performed)
    return values


# --- The whole fold, against what the servers themselves say -----------------------------------


@given(st.integers(0, 10_000), st.integers(3, 5), st.integers(0, 250))
@settings(max_examples=60)
def test_a_server_is_exactly_what_its_events_say(seed: int, size: int, steps: int) -> None:
    lab = SimulatedLab(size, seed)
    view = fold(lab.run(steps))
    for server in lab.network.servers:
        known = view.servers[server]
        assert known.alive == (server in lab.network.cores)
        assert known.paused == (server in lab.paused)
        if not known.alive:
            disk = lab.network.disks[server]
            assert (known.term, known.voted_for) == (
                disk.hard_state.term,
                disk.hard_state.voted_for,
            )
            first = disk.snapshot.index + 1 if disk.snapshot else 1
            assert known.last_index == first - 1 + len(disk.entries)
            on_disk = range(first, known.last_index + 1)
            assert [known.known_entry(index) for index in on_disk] == list(disk.entries)
            continue
        fresh = folded(started(size, seed), spawned(server), (server, lab.state(server)))
        told = fresh.servers[server]
        told.paused = known.paused
        told.refused = known.refused
        # Refusals are not told, and a leader's votes are history.
        granted = {v: o for v, o in known.votes.items() if isinstance(o, Granted)}
        assert granted == told.votes or known.role is Role.LEADER
        told.votes = known.votes
        # A whole state does not tell what a snapshot stands for; who saw it all knows.
        assert known.hidden == known.term_before == 0
        assert len(known.compacted) == known.first_index - 1
        committed = lab.network.safety.committed
        assert known.kv == machine_after(committed[: known.last_applied])
        told.kv, told.hidden = known.kv, known.hidden
        told.compacted, told.term_before = known.compacted, known.term_before
        told.snapshot, told.transferee = known.snapshot, known.transferee
        assert known == told
    assert view.leader == lab.network.leader
    assert {flight.message for flight in view.flights.values()} == {
        flight.message for flight in lab.network.in_flight
    }
    assert {pair for pair, link in view.links.items() if link.cut} == lab.network.cut


@given(st.integers(0, 10_000), st.integers(3, 5), st.integers(0, 250))
@settings(max_examples=60)
def test_a_view_told_again_is_equal(seed: int, size: int, steps: int) -> None:
    view = fold(SimulatedLab(size, seed).run(steps))
    assert fold(view.as_events()) == view


@given(st.integers(0, 10_000), st.lists(st.integers(0, 2**32), max_size=60), st.integers(1, 3))
@settings(max_examples=60)
def test_no_order_of_events_is_too_much(seed: int, order: list[int], times: int) -> None:
    """Shuffled, repeated and with holes, a stream still folds, and the view can be told again."""
    stream = SimulatedLab(3, seed).run(80)
    view = fold([stream[number % len(stream)] for number in order] * times)
    assert fold(view.as_events()) == view


def test_a_late_viewer_goes_on_from_the_view_it_is_told() -> None:
    stream = SimulatedLab(5, 7).run(400)
    for cut in range(0, len(stream), 37):
        late = fold(fold(stream[:cut]).as_events() + stream[cut:])
        assert late == fold(stream)


def test_an_empty_view_has_nothing_to_tell() -> None:
    assert ClusterView().as_events() == []


def test_a_new_laboratory_forgets_the_old_one() -> None:
    flights = [MessageSent(1, heartbeat(), 0.1), MessageSent(2, heartbeat(), 0.1)]
    view = folded(*cluster(5, leader=2, term=3), *flights, MessageDelivered(1), started(3))
    assert list(view.servers) == [1, 2, 3]
    assert (view.flights, list(view.recent)) == ({}, [])
    assert view.clock == ClockView()
    assert view.leader is None
    assert view.servers[S1].pid == 0


# --- Processes ---------------------------------------------------------------------------------


def test_a_dead_server_keeps_what_is_on_its_disk_alone() -> None:
    log = [*entries(1), put(b"x", b"1")]
    view = folded(
        *cluster(3, leader=2, term=1, log=log),
        (2, VoteCast(Term(1), S1, AlreadyVoted(S2))),
        ServerPaused(S2),
        ServerExited(S2, 82, "killed (SIGKILL)", expected=True),
    )
    dead = view.servers[S2]
    assert (dead.term, dead.voted_for, dead.log) == (1, 2, log)
    assert (dead.alive, dead.paused, dead.exit) == (False, False, "killed (SIGKILL)")
    assert (dead.role, dead.leader) == (Role.FOLLOWER, None)
    assert (dead.commit_index, dead.last_applied, dead.kv) == (0, 0, {})
    assert (dead.votes, dead.progress, dead.refused) == ({}, {}, None)
    assert (dead.timer_kind, dead.timer_deadline, dead.timer_interval) == (None, 0.0, 0.0)
    assert view.leader is None
    assert view.term == 1


def test_late_words_of_a_dead_server_count_for_its_disk_alone() -> None:
    view = folded(
        *cluster(3, leader=2, term=1, log=entries(1)),
        ServerExited(S2, 82, "killed", expected=True),
        (2, EntriesAppended(Index(2), entries(1))),
        (2, CommitAdvanced(Index(2))),
        (2, TimerArmed(TimerKind.HEARTBEAT, 9.0, 0.05)),
        (2, RoleChanged(Role.LEADER, Term(1), RoleReason.WON_ELECTION)),
    )
    dead = view.servers[S2]
    assert len(dead.log) == 2
    assert (dead.commit_index, dead.timer_kind, dead.role) == (0, None, Role.FOLLOWER)


def test_a_new_process_is_unknown_until_it_tells_its_state() -> None:
    view = folded(
        *cluster(3, leader=2, term=1, log=entries(1)),
        ServerExited(S2, 82, "killed", expected=True),
        spawned(2, pid=99),
        (2, CommitAdvanced(Index(1))),
    )
    reborn = view.servers[S2]
    assert (reborn.alive, reborn.pid, reborn.exit) == (True, 99, None)
    assert (reborn.timer_kind, reborn.commit_index) == (None, 0)
    assert reborn.log == list(entries(1))
    assert fold(view.as_events()) == view


def test_a_server_that_could_not_be_started_says_why() -> None:
    view = folded(started(3), ServerExited(S1, 77, "exit status 3", expected=False))
    assert (view.servers[S1].alive, view.servers[S1].exit) == (False, "exit status 3")
    assert fold(view.as_events()) == view


def test_pause_and_resume() -> None:
    told = cluster(3, leader=2, term=1)
    view = folded(*told, ServerPaused(S2))
    assert view.servers[S2].paused
    assert view.leader == 2
    assert not folded(*told, ServerPaused(S2), ServerResumed(S2)).servers[S2].paused


# --- Elections ---------------------------------------------------------------------------------


def test_a_candidate_votes_for_itself_and_counts() -> None:
    view = folded(
        *cluster(3, leader=2, term=1),
        (3, TermChanged(Term(2))),
        (3, LeaderChanged(Term(2), None)),
        (3, RoleChanged(Role.CANDIDATE, Term(2), RoleReason.ELECTION_TIMEOUT)),
        (3, VoteReceived(Term(2), S3, Granted())),
        (3, VoteReceived(Term(2), S1, LogBehind(Index(4), Term(1)))),
    )
    candidate = view.servers[S3]
    assert (candidate.term, candidate.voted_for, candidate.leader) == (2, 3, None)
    assert candidate.votes == {S3: Granted(), S1: LogBehind(Index(4), Term(1))}
    assert candidate.granted == [3]
    assert fold(view.as_events()) == view


def test_a_new_term_voids_the_vote_and_another_election_the_votes() -> None:
    told = [
        *cluster(3),
        (3, TermChanged(Term(2))),
        (3, RoleChanged(Role.CANDIDATE, Term(2), RoleReason.ELECTION_TIMEOUT)),
        (3, VoteReceived(Term(2), S3, Granted())),
        (1, TermChanged(Term(2))),
        (1, VoteCast(Term(2), S3, Granted())),
    ]
    view = folded(*told)
    assert view.servers[S1].voted_for == 3
    view = folded(
        *told,
        (1, TermChanged(Term(3))),
        (3, TermChanged(Term(3))),
        (3, RoleChanged(Role.CANDIDATE, Term(3), RoleReason.ELECTION_TIMEOUT)),
    )
    assert view.servers[S1].voted_for is None
    assert view.servers[S3].votes == {}


def test_a_refusal_is_remembered_and_changes_no_vote() -> None:
    refusal = VoteCast(Term(1), S3, AlreadyVoted(S2))
    view = folded(*cluster(3, leader=2, term=1), (1, refusal))
    assert view.servers[S1].voted_for == 2
    assert view.servers[S1].refused == refusal


def test_a_leader_keeps_its_votes_and_loses_all_when_it_steps_down() -> None:
    told = [*cluster(3, leader=2, term=1), (2, ProgressChanged(S3, Index(5), Index(4)))]
    leader = folded(*told).servers[S2]
    assert leader.granted == [1, 2]
    assert leader.progress[S3] == FollowerProgress(S3, Index(5), Index(4))
    view = folded(
        *told,
        (2, TermChanged(Term(2))),
        (2, RoleChanged(Role.FOLLOWER, Term(2), RoleReason.HIGHER_TERM)),
        (2, LeaderChanged(Term(2), S3)),
    )
    assert (view.servers[S2].votes, view.servers[S2].progress) == ({}, {})
    assert view.servers[S2].leader == 3
    assert view.leader is None


def test_of_two_leaders_the_one_of_the_higher_term_is_the_leader() -> None:
    view = folded(*cluster(3, leader=2, term=1), (3, server_state(3, role=Role.LEADER, term=2)))
    assert view.leader == 3
    assert folded(*cluster(3)).leader is None


# --- Logs and the machine ----------------------------------------------------------------------


def test_the_machine_is_the_fold_of_what_is_applied() -> None:
    log = [put(b"x", b"1"), *entries(1), put(b"y", b"2"), delete(b"x"), put(b"z", b"3")]
    log.append(Entry(Term(1), EntryKind.COMMAND, b"not a command"))
    view = folded(
        *cluster(3),
        (1, EntriesAppended(Index(1), tuple(log))),
        (1, CommitAdvanced(Index(6))),
        (1, Applied(Index(2))),
    )
    assert view.servers[S1].kv == {b"x": b"1"}
    view.apply(Stream().event((1, Applied(Index(4)))))
    assert view.servers[S1].kv == {b"y": b"2"}
    view.apply(Stream().event((1, Applied(Index(6)))))
    assert view.servers[S1].kv == {b"y": b"2", b"z": b"3"}
    assert view.commit_index == 6
    assert view.servers[S1].entry(3) == put(b"y", b"2")
    assert view.servers[S1].entry(0) is view.servers[S1].entry(7) is None


def test_every_command_of_the_machine_shows() -> None:
    commands = (Increment(b"n", 2), Append(b"n", b"0"), Cas(b"n", Value(True, b"20"), b"x"))
    log = [Entry(Term(1), EntryKind.COMMAND, encode_command(command)) for command in commands]
    assert [machine_after(log[:count]) for count in (1, 2, 3)] == [
        {b"n": b"2"},
        {b"n": b"20"},
        {b"n": b"x"},
    ]


def test_a_command_that_is_sent_again_in_its_session_takes_effect_once() -> None:
    """Thesis §6.3; and what opens or keeps a session is not for the machine."""

    def in_session(sequence: int, entry: Entry) -> Entry:
        perform = Perform(1, sequence, 1, entry.data)
        return Entry(Term(1), EntryKind.COMMAND, encode_request(perform))

    first = in_session(1, put(b"x", b"1"))
    opened = Entry(Term(1), EntryKind.COMMAND, encode_request(OpenSession()))
    log = [opened, first, put(b"x", b"2"), first, in_session(2, put(b"y", b"3"))]
    view = folded(
        *cluster(3),
        (1, EntriesAppended(Index(1), tuple(log))),
        (1, CommitAdvanced(Index(5))),
        (1, Applied(Index(2))),
    )
    assert view.servers[S1].kv == {b"x": b"1"}
    view.apply(Stream().event((1, Applied(Index(5)))))
    assert view.servers[S1].kv == {b"x": b"2", b"y": b"3"}
    assert [command_text(entry) for entry in log] == ["open session", "x=1", "x=2", "x=1", "y=3"]


def test_a_whole_state_replaces_everything() -> None:
    told = cluster(3, leader=2, term=1, log=[put(b"a", b"1")])
    state = server_state(
        2, term=4, voted_for=3, leader=3, log=[put(b"b", b"2"), put(b"c", b"3")], commit=1
    )
    view = folded(*told, (2, ObservationsLost(9)), (2, state))
    assert view.servers[S2] == folded(started(3), spawned(2), (2, state)).servers[S2]
    assert view.servers[S2].kv == {b"b": b"2"}


def test_entries_come_and_go() -> None:
    told = cluster(3, log=entries(1, 1, 1))
    assert folded(*told, (1, EntriesTruncated(Index(2)))).servers[S1].last_index == 1
    replaced = folded(*told, (1, EntriesAppended(Index(2), entries(2)))).servers[S1]
    assert replaced.log == list(entries(1, 2))
    hole = folded(*told, (1, EntriesAppended(Index(5), entries(2)))).servers[S1]
    assert hole.log == list(entries(1, 1, 1))


# --- Network, clock, clients -------------------------------------------------------------------


def test_messages_fly_land_and_get_lost() -> None:
    stream = Stream()
    view = fold(stream.events(*cluster(3, leader=2, term=3)))
    for event in stream.events(*(MessageSent(n, heartbeat(), 1.5) for n in (1, 2, 3)), at=1.0):
        view.apply(event)
    assert view.flights[1] == Flight(1, heartbeat(), 1.0, 1.5)
    view.apply(stream.event(MessageDelivered(1), 1.5))
    view.apply(stream.event(MessageDropped(2, DropReason.LINK_CUT), 1.6))
    view.apply(stream.event(MessageDelivered(99), 1.6))
    assert list(view.flights) == [3]
    assert [(one.flight.message_id, one.at, one.lost) for one in view.recent] == [
        (1, 1.5, None),
        (2, 1.6, DropReason.LINK_CUT),
    ]
    assert view.flight(3) == view.flights[3]
    assert view.flight(2) == view.recent[1].flight
    assert view.flight(99) is None


def test_messages_are_held_let_go_and_doubled() -> None:
    stream = Stream()
    view = fold(
        [
            *stream.events(started(3), MessageSent(1, heartbeat(2, 3), 9.0), at=1.0),
            *stream.events(MessageDuplicated(1, 2, 9.5), MessageHeld(1), MessageHeld(77), at=2.0),
        ]
    )
    one, two = view.flights.values()
    assert (one.held, one.sent, one.due) == (True, 1.0, 9.0)
    assert (two.message, two.held, two.sent, two.due) == (one.message, False, 2.0, 9.5)
    assert fold(view.as_events()) == view
    view.apply(stream.event(MessageRescheduled(1, 2.5), 2.5))
    assert (view.flights[1].held, view.flights[1].due) == (False, 2.5)
    view.apply(stream.event(MessageDuplicated(77, 78, 2.5), 2.5))
    assert 78 not in view.flights, "a copy of something unknown is unknown"


def test_what_is_between_client_and_servers_is_seen_where_that_link_has_rules() -> None:
    client = ServerId(0)
    stream = Stream()
    view = fold(
        stream.events(
            started(3),
            LinkChanged(client, S2, False, 0.0, stalled=True),
            RequestSent(1, client, S2, "Propose", 1.0),
            RequestSent(2, client, S2, "Read", 1.0),
            MessageHeld(1),
            MessageDuplicated(1, 3, 1.5),
        )
    )
    assert view.client_links == {(client, S2): LinkView(stalled=True)}
    assert [(r.kind, r.held) for r in view.requests.values()] == [
        ("Propose", True),
        ("Read", False),
        ("Propose", False),
    ]
    assert fold(view.as_events()) == view
    for what in (MessageDelivered(2), MessageDropped(3, DropReason.BY_HAND)):
        view.apply(stream.event(what))
    view.apply(stream.event(MessageRescheduled(1, 3.0)))
    assert {n: (r.due, r.held) for n, r in view.requests.items()} == {1: (3.0, False)}
    view.apply(stream.event(LinkChanged(client, S2, False, 0.0)))
    assert view.client_links == {}


def test_what_has_landed_is_not_kept_for_ever() -> None:
    told = [w for n in range(300) for w in (MessageSent(n, heartbeat(), 1), MessageDelivered(n))]
    assert len(folded(*cluster(3), *told).recent) == LANDED_KEPT


def test_links() -> None:
    view = folded(
        started(3), LinkChanged(S1, S2, True, 0.05), LinkChanged(S1, ServerId(9), True, 1)
    )
    assert view.links[S1, S2] == LinkView(cut=True, delay=0.05)
    assert view.links[S2, S1] == LinkView(cut=False, delay=0.0)
    assert len(view.links) == 6


def test_kinds_of_messages_may_have_rules_of_their_own_until_all_are_ruled_anew() -> None:
    stream = Stream()
    lossy = LinkChanged(S1, S2, False, 0.05, loss=0.5, kind="AppendEntries")
    held = LinkChanged(S1, S2, False, 0.05, held=True, kind="RequestVote")
    view = fold(stream.events(started(3), LinkChanged(S1, S2, False, 0.05), held, lossy))
    own = (
        ("AppendEntries", LinkRules(delay=0.05, loss=0.5)),
        ("RequestVote", LinkRules(delay=0.05, held=True)),
    )
    assert view.links[S1, S2] == LinkView(delay=0.05, kinds=own)
    assert fold(view.as_events()) == view
    view.apply(stream.event(LinkChanged(S1, S2, False, 0.02)))
    assert view.links[S1, S2] == LinkView(delay=0.02)


@pytest.mark.parametrize(("rate", "now"), [(1.0, 15.0), (0.1, 10.5), (0.0, 10.0)])
def test_the_clock(rate: float, now: float) -> None:
    view = folded(started(3), ClockChanged(10.0, 100.0, rate))
    assert view.clock.now(105.0) == pytest.approx(now)


def test_operations() -> None:
    stream = Stream()
    view = fold(
        [
            *stream.events(started(3)),
            *stream.events(
                OperationInvoked(1, OperationKind.PUT, b"x", b"1", S2),
                OperationInvoked(2, OperationKind.GET, b"x", b"", ServerId(0)),
                at=1.0,
            ),
            *stream.events(
                OperationReturned(2, Outcome.OK, True, b"0", ""),
                OperationReturned(77, Outcome.OK, True, b"", ""),
                at=2.0,
            ),
        ]
    )
    pending, done = view.operations
    assert (pending.outcome, pending.invoked, pending.returned) == (None, 1.0, None)
    assert (done.outcome, done.found, done.answer, done.returned) == (Outcome.OK, True, b"0", 2.0)
    assert view.operation(1) == pending
    assert view.operation(77) is None
    assert fold(view.as_events()) == view


def test_old_operations_are_forgotten() -> None:
    told = [OperationInvoked(n, OperationKind.GET, b"x", b"", S1) for n in range(600)]
    view = folded(started(3), *told)
    assert len(view.operations) == OPERATIONS_KEPT
    assert view.operations[-1].id == 599


def test_words_change_nothing() -> None:
    told = cluster(3, leader=2, term=1)
    stream = Stream()
    view = fold(stream.events(*told))
    before = fold(view.as_events())
    for event in stream.events(
        CommandGiven("kill 9", False, "there is no S9"),
        Warned("the disk is full"),
        (1, MessageIgnored(S2, "RequestVote", "it is old")),
        (1, ObservationsLost(3)),
        (9, CommitAdvanced(Index(9))),
    ):
        view.apply(event)
    assert view.sequence == len(told) + 5
    view.sequence, view.monotonic = before.sequence, before.monotonic
    assert view == before


def test_time_is_that_of_the_newest_event_and_never_runs_back() -> None:
    stream = Stream()
    view = fold([*stream.events(started(3), at=1.0), *stream.events(Warned("x"), at=2.0)])
    view.apply(stream.event(Warned("y"), 1.5))
    assert view.time == 2.0


@pytest.mark.parametrize("outcome", [StaleTerm(), AlreadyVoted(S2), LogBehind(Index(1), Term(1))])
def test_every_refusal_is_told_again(outcome: StaleTerm | AlreadyVoted | LogBehind) -> None:
    view = folded(
        *cluster(3, leader=2, term=3),
        (1, VoteCast(Term(3), S3, outcome)),
        (3, VoteReceived(Term(3), S1, outcome)),
    )
    again = fold(view.as_events())
    assert again.servers[S1].refused == view.servers[S1].refused
    assert again.servers[S3].votes == view.servers[S3].votes == {S1: outcome}
