"""Every bug that other implementations had has a test that names its number.

The list is what this project learnt from reading others' bug trackers and papers; a test of bug
7 is called ``test_bug_7_…``, wherever it is. What no test may be called after stands in ELSEWHERE.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

BUGS = {
    1: "an entry of an earlier term is committed by counting its copies",
    2: "commitment is stuck behind entries of an older term",
    3: "a follower's commitIndex goes back",
    4: "a late acknowledgement takes matchIndex back",
    5: "matchIndex reaches nextIndex",
    6: "a delayed append removes entries that match",
    7: "a conflicting entry is replaced without cutting what follows",
    8: "a heartbeat commits what has not been matched",
    9: "a follower acknowledges its last index",
    10: "an answer of an older term is taken for one of this term",
    11: "a vote or a term is forgotten in a crash",
    12: "logs are compared otherwise than by last term and then by length",
    13: "the term goes back to that of a snapshot",
    14: "an append from the beginning is appended again behind a snapshot",
    15: "the boundary of a snapshot is off by one",
    16: "what is compacted away is taken for a conflict",
    17: "a configuration survives the snapshot that replaced it",
    18: "a snapshot of what is committed, or of what is being applied, changes something",
    19: "a follower stays in snapshot state after it has the snapshot",
    20: "a snapshot's transfer survives its leader, or its receiver's restart",
    21: "the members change before the first commit of the term",
    22: "a joint configuration is left before it is committed",
    23: "nobody leaves a joint configuration after a change of leaders",
    24: "two changes are under way, or a transfer does not know of one",
    25: "a learner refuses to vote though it is a voter by now",
    26: "a voter on its way out does not count its own vote",
    27: "a configuration counts from its commitment, not from its append",
    28: "a removed server unseats the leader",
    29: "pre-votes lock each other, or count for another election",
    30: "a transfer is stuck, or goes to whom it cannot go",
    31: "a read before the first commit of the term",
    32: "an answer to an earlier question confirms a later read",
    33: "a lost answer blocks the reads behind it",
    34: "a lease is counted from the answer, or survives what ends it",
    35: "a quorum is off by one",
    36: "a save that completes late makes other entries durable",
    37: "a window of lost messages stalls replication",
    38: "a follower that has everything stays probed",
    39: "a long divergent log takes a round trip for every entry",
    40: "committed entries are skipped where a batch ends",
    41: "a torn or failed write loses what was acknowledged",
    42: "entries that were removed come back after a crash",
    43: "a crash between removing a conflict and appending",
    44: "a command that is sent twice is applied twice",
    45: "a client that repeats what was applied gets no answer",
    46: "a client waits for ever",
    47: "a message that cannot be handled stops the server",
    48: "entries packed by size leave gaps",
    49: "an empty command, or a state machine that raises, is skipped",
    50: "a slow disk costs a leader its leadership",
    51: "a snapshot cannot be taken while entries are on their way",
    52: "servers of two clusters talk to each other",
    53: "a leader removes itself",
    54: "a long pause brings a burst of timeouts",
    55: "a repeated request of the same candidate is refused",
}

ELSEWHERE = {
    47: "raft/test_hostile_frames.py::test_a_hundred_thousand_hostile_frames_against_a_live_server",
}


def numbered_tests() -> dict[int, list[str]]:
    """The tests that name a bug, by its number: ``test_bug_4_and_5_…`` is one of both."""
    found: dict[int, list[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for match in re.finditer(r"def (test_bug_(\d+)(?:_and_(\d+))?_\w+)", path.read_text()):
            for number in filter(None, match.groups()[1:]):
                found.setdefault(int(number), []).append(match[1])
    return found


def test_the_numbers_are_those_of_the_list() -> None:
    assert list(BUGS) == list(range(1, 56))
    assert numbered_tests().keys() <= BUGS.keys()


@pytest.mark.parametrize("number", BUGS, ids=str)
def test_the_bug_has_a_test(number: int) -> None:
    if number in ELSEWHERE:
        file, _, name = ELSEWHERE[number].partition("::")
        assert f"def {name}" in (TESTS / file).read_text()
    else:
        assert number in numbered_tests(), BUGS[number]
