"""Figure 13 of the paper, what the receiver of a snapshot does, sentence by sentence.

S1 is the server under test. S2 leads term 3, and its snapshot ends at entry 4 of term 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from zlib import crc32

from raft.core.log import Snapshot
from raft.core.membership import Configuration
from raft.core.messages import InstallSnapshot, InstallSnapshotReply
from raft.testing.network import Network
from tests.core.test_figure2 import append, hear, server, terms

WHOLE = b"x=1 x=2"
MEMBERS = Configuration((1, 2, 3, 4))


def piece(first: int = 0, end: int = len(WHOLE), term: int = 3) -> InstallSnapshot:
    """The bytes from ``first`` up to ``end`` of S2's snapshot."""
    data = WHOLE[first:end]
    members = MEMBERS.encode()
    return InstallSnapshot(
        2, 1, term, 4, 2, members, len(WHOLE), crc32(WHOLE), first, data, configuration_index=3
    )


def reply(next_offset: int, *, installed: bool = False, term: int = 3) -> InstallSnapshotReply:
    return InstallSnapshotReply(1, 2, term, 4, next_offset, installed)


def follower(log: Iterable[int] = (1,)) -> Network:
    return server(term=3, log=log)


def restored(network: Network) -> bytes:
    """What the state machine of S1 holds."""
    network.compact(1)
    snapshot = network.core(1).snapshot
    assert snapshot is not None
    return snapshot.data


def test_install_snapshot_1_reply_immediately_if_term_is_less_than_current_term():
    network = follower()
    assert hear(network, piece(term=2)) == [reply(0)]
    assert network.core(1).snapshot is None
    assert terms(network) == [1]


def test_install_snapshot_2_create_a_new_snapshot_file_if_it_is_the_first_chunk():
    network = follower()
    other = replace(piece(0, 3), last_index=2, last_term=1, data=b"old")
    assert hear(network, other) == [replace(reply(3), last_index=2)]
    assert hear(network, piece(0, 3)) == [reply(3)]
    hear(network, piece(3))
    assert network.core(1).snapshot == Snapshot(4, 2, MEMBERS, WHOLE, 3)


def test_install_snapshot_3_write_data_into_the_snapshot_file_at_the_given_offset():
    network = follower()
    assert hear(network, piece(3)) == [reply(0)], "what belongs before it is not there yet"
    assert hear(network, piece(0, 3), piece(0, 3)) == [reply(3), reply(3)]
    hear(network, piece(3))
    assert network.core(1).snapshot.data == WHOLE


def test_install_snapshot_4_reply_and_wait_for_more_data_chunks_if_done_is_false():
    network = follower()
    assert hear(network, piece(0, 6)) == [reply(6)]
    assert network.core(1).snapshot is None
    assert terms(network) == [1]
    assert hear(network, piece(6)) == [reply(len(WHOLE), installed=True)]


def test_install_snapshot_5_save_the_snapshot_file_before_the_reply():
    network = follower()
    network.slow.add(1)
    assert hear(network, piece()) == []
    assert network.disks[1].snapshot is None
    network.save(1)
    assert network.disks[1].snapshot == Snapshot(4, 2, MEMBERS, WHOLE, 3)
    assert network.in_flight[-1].message == reply(len(WHOLE), installed=True)


def test_install_snapshot_5_discard_any_existing_or_partial_snapshot_with_a_smaller_index():
    network = follower([1, 1])
    hear(network, append(3, 2, 1, commit=2))
    network.compact(1)
    assert network.core(1).snapshot.index == 2
    hear(
        network, replace(piece(0, 3), last_index=3, last_term=1, data=b"old"), piece(0, 3), piece(3)
    )
    assert network.core(1).snapshot == network.disks[1].snapshot
    assert network.core(1).snapshot.index == 4


def test_install_snapshot_6_retain_what_follows_an_entry_with_the_snapshots_index_and_term():
    network = follower([1, 1, 2, 2, 3, 3])
    hear(network, piece())
    core = network.core(1)
    assert (core.log.prev_index, core.log.prev_term, core.log.last_index) == (4, 2, 6)
    network.crash(1)
    network.restart(1)
    assert network.core(1).log.last_index == 6


def test_install_snapshot_7_discard_the_entire_log_if_there_is_no_such_entry():
    for log in ([1], [1, 1, 1, 1, 3, 3]):
        network = follower(log)
        hear(network, piece())
        log = network.core(1).log
        assert (log.prev_index, log.prev_term, log.last_index) == (4, 2, 4)
        network.crash(1)
        network.restart(1)
        assert network.core(1).log.last_index == 4


def test_install_snapshot_8_reset_the_state_machine_using_the_snapshots_contents():
    for log in ([1], [1, 1, 2, 2, 3]):
        network = follower(log)
        hear(network, piece())
        core = network.core(1)
        assert (core.commit_index, core.last_applied) == (4, 4)
        hear(network, append(3, 4, 2, [3], commit=5))
        assert restored(network) == WHOLE


def test_install_snapshot_8_load_the_snapshots_cluster_configuration():
    for log in ([1], [1, 1, 2, 2, 3]):
        network = follower(log)
        hear(network, piece())
        core = network.core(1)
        assert (core.configuration, core.configuration_index) == (MEMBERS, 3)
