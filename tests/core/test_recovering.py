"""A server that lost entries of its log: what it does not do, and for how long."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from raft.core.core import Config, Core
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    AppendEntries,
    Entry,
    Index,
    InstallSnapshot,
    ServerId,
    Term,
    TimeoutNow,
)
from raft.core.recovering import begin
from raft.testing.network import Network, entries_of


def damaged(**options: Any) -> Network:
    """Three servers; S1 and S2 committed two entries, and S2 has lost the second one."""
    network = Network(3, **options)
    network.fire(1)
    network.settle()
    network.propose(1, b"x=1")
    network.settle()
    network.crash(2)
    network.disks[ServerId(2)].lose(Index(2))
    network.restart(2)
    return network


def test_it_begins_in_a_term_of_its_own_without_a_vote() -> None:
    state = begin(HardState(Term(7), ServerId(3)))
    assert state == HardState(Term(8), None, Term(8))
    assert begin(state) == HardState(Term(9), None, Term(9)), "damaged once more"


@pytest.mark.parametrize("pre_vote", [False, True])
def test_it_does_not_campaign(pre_vote: bool) -> None:
    network = damaged(pre_vote=pre_vote)
    network.in_flight.clear()
    for _ in range(3):
        network.fire(2)
    assert not network.campaign(2)
    core = network.core(2)
    network.put(TimeoutNow(ServerId(3), ServerId(2), core.term))
    network.settle()
    assert core.term == 2
    assert not network.in_flight


@pytest.mark.parametrize("pre_vote", [False, True])
def test_it_gives_no_vote_and_no_pre_vote(pre_vote: bool) -> None:
    network = damaged(pre_vote=pre_vote)
    network.crash(1)
    for _ in range(3):
        network.fire(3)
        network.settle()
    assert network.leader is None
    assert network.core(2).voted_for is None


def test_it_recovers_and_may_lead() -> None:
    network = damaged()
    core = network.core(2)
    network.advance(3.0)
    network.settle()
    while core.recovering:
        network.advance(0.050)
        network.settle()
    assert network.disks[ServerId(2)].hard_state.recovering == 0
    assert core.log.last_index == network.core(1).log.last_index
    assert network.campaign(2)
    network.settle()
    assert network.leader == 2


def test_entries_of_older_terms_do_not_end_it() -> None:
    """They may be there although later ones, which it acknowledged, are missing still."""
    config = Config(ServerId(2), (ServerId(1), ServerId(2), ServerId(3)))
    core = Core(config, HardState(Term(5), None, Term(5)), (), Random(1), 0.0)
    older, own = (Entry(Term(4)),), (Entry(Term(5)),)
    for prev_index, prev_term, entries in ((0, 0, older), (1, 4, older), (2, 4, own)):
        last = Index(prev_index + 1)
        core.step(
            AppendEntries(
                ServerId(1), ServerId(2), Term(5), Index(prev_index), Term(prev_term), entries, last
            ),
            0.0,
        )
        assert core.commit_index == last
        assert core.recovering, "nor do those that are not on disk yet"
        ready = core.ready(0.0)
        assert ready is not None
        core.persisted(ready.number, 0.0)
        assert core.recovering == (entries is older)
    ready = core.ready(0.0)
    assert ready is not None
    assert ready.hard_state == HardState(Term(5))


def test_it_ends_when_a_heartbeat_says_that_what_is_stored_is_committed() -> None:
    """Nothing is left to write then, so no completed write would be the occasion."""
    config = Config(ServerId(2), (ServerId(1), ServerId(2), ServerId(3)))
    core = Core(config, HardState(Term(5), None, Term(5)), (), Random(1), 0.0)
    leader, me, term = ServerId(1), ServerId(2), Term(5)
    core.step(AppendEntries(leader, me, term, Index(0), Term(0), (Entry(term),), Index(0)), 0.0)
    ready = core.ready(0.0)
    assert ready is not None
    core.persisted(ready.number, 0.0)
    assert core.recovering, "not committed yet"
    core.step(AppendEntries(leader, me, term, Index(1), term, (), Index(1)), 0.0)
    assert not core.recovering
    ready = core.ready(0.0)
    assert ready is not None
    assert ready.hard_state == HardState(term), "the disk is told"


def test_a_snapshot_ends_it_once_it_is_on_disk_and_not_before() -> None:
    """It takes the place of entries that are there, and were another leader's."""
    config = Config(ServerId(2), (ServerId(1), ServerId(2), ServerId(3)))
    damaged_log = entries_of([1] * 7 + [3] * 13)
    core = Core(config, HardState(Term(5), None, Term(5)), damaged_log, Random(1), 0.0)
    leader, me, term = ServerId(1), ServerId(2), Term(6)
    core.step(AppendEntries(leader, me, term, Index(11), term, (), Index(0)), 0.0)
    probed = core.ready(0.0)
    whole = Snapshot(Index(10), term, Configuration(config.members), b"state")
    piece = (whole.index, term, whole.configuration.encode(), 5, whole.checksum, 0, whole.data)
    core.step(InstallSnapshot(leader, me, term, *piece), 0.0)
    assert probed is not None
    core.persisted(probed.number, 0.0)
    assert core.recovering, "what was stored before is not the snapshot"
    ready = core.ready(0.0)
    assert ready is not None
    assert (ready.snapshot, ready.hard_state) == (whole, None), "never both at once"
    core.persisted(ready.number, 0.0)
    assert not core.recovering


def test_a_crash_does_not_end_it() -> None:
    network = damaged()
    for _ in range(3):
        network.crash(2)
        network.restart(2)
        assert network.core(2).recovering
        assert network.core(2).term == 2
