"""Figures 7 and 8 of the paper, held against their logs apart from what the transcripts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft.core.log import HardState
from raft.core.messages import AppendEntriesReply, Mismatch, RequestVote, RequestVoteReply
from raft.core.rules import Rules
from raft.testing.mutants import MUTANTS, HintNotUsed, fails_with
from raft.testing.network import Network, entries_of
from raft.testing.safety import Safety, SafetyViolation, Strict
from raft.testing.transcript import play

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"

LEADER = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
FOLLOWERS = {
    "a": [1, 1, 1, 4, 4, 5, 5, 6, 6],
    "b": [1, 1, 1, 4],
    "c": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
    "d": [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
    "e": [1, 1, 1, 4, 4, 4, 4],
    "f": [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
}


def figure_7(rules: Rules) -> Network:
    """The seven servers; S1 has been elected for term 8, its first messages are in flight."""
    network = Network(7, rules, max_append_bytes=1)
    network.install(1, HardState(7), entries_of(LEADER))
    for server, log in enumerate(FOLLOWERS.values(), 2):
        network.install(server, HardState(log[-1]), entries_of(log))
    network.fire(1)
    network.settle(lambda message: isinstance(message, RequestVote | RequestVoteReply))
    assert network.leader == 1
    assert network.core(1).term == 8
    return network


def refusals(network: Network, follower: int) -> int:
    """Let S1 repair one follower and count how often it is refused."""
    return sum(
        isinstance(message, AppendEntriesReply) and isinstance(message.outcome, Mismatch)
        for message in network.each(lambda message: follower in (message.src, message.dst))
    )


@pytest.mark.parametrize(
    ("name", "with_hints", "one_by_one"),
    [("a", 1, 1), ("b", 1, 6), ("c", 0, 0), ("d", 0, 0), ("e", 2, 5), ("f", 2, 7)],
)
def test_figure_7_a_follower_is_repaired_after_so_many_refusals(
    name: str, with_hints: int, one_by_one: int
) -> None:
    follower = 2 + list(FOLLOWERS).index(name)
    for rules, expected in ((Rules(), with_hints), (HintNotUsed(), one_by_one)):
        network = figure_7(rules)
        assert refusals(network, follower) == expected
        log = network.core(follower).log
        assert [entry.term for entry in log.entries(1, 99)] == [*LEADER, 8]


@fails_with("conflict-kept", "gaps-accepted")
def test_figure_7_every_entry_is_sent_and_removed_once(rules: Rules) -> None:
    network = figure_7(rules)
    for follower, (name, log) in enumerate(FOLLOWERS.items(), 2):
        appended = sum(
            isinstance(message, AppendEntriesReply) and not isinstance(message.outcome, Mismatch)
            for message in network.each(lambda message, f=follower: f in (message.src, message.dst))
        )
        common = sum(one == other for one, other in zip(LEADER, log, strict=False))
        assert appended == len(LEADER) + 1 - common, name
        assert network.core(1).progress[follower].match_index == len(LEADER) + 1
    assert network.core(1).commit_index == len(LEADER) + 1


# --- Figure 8 ----------------------------------------------------------------------------------


def drawn(transcript: str, rules: Rules, judge: type[Safety] = Strict) -> list[list[str]]:
    """Play a transcript and return its drawings of all logs, each as ``124`` and the like."""
    drawings = []
    for block, happened in play(TRANSCRIPTS / f"{transcript}.txt", rules, judge):
        if block.command == "logs":
            rows = [row.split()[2:] for row in happened[1:]]
            drawings.append(["".join(c for c in "".join(row) if c.isdigit()) for row in rows])
    return drawings


def test_figure_8_the_logs_are_those_of_the_figure() -> None:
    a = ["12", "12", "1", "1", "1"]
    b = ["12", "12", "1", "1", "13"]
    c = ["124", "12", "12", "1", "13"]
    d = ["13", "13", "13", "13", "135"]  # S5 has just appended the first entry of its own term
    e = ["124", "124", "124", "1", "13"]
    assert drawn("figure-8-overwritten", Rules())[:4] == [a, b, c, d]
    assert drawn("figure-8-committed", Rules())[:4] == [a, b, c, e]


def committed_by_s1(transcript: str) -> list[str]:
    """What S1 says that it commits, as lines of the transcript."""
    return [
        line.strip()
        for _, happened in play(TRANSCRIPTS / f"{transcript}.txt")
        for line in happened
        if "S1 commits" in line
    ]


def test_figure_8_nothing_is_committed_in_the_first_ending_and_all_in_the_second() -> None:
    assert committed_by_s1("figure-8-overwritten") == []
    assert committed_by_s1("figure-8-committed") == ["S1 commits up to 3"]


def test_figure_8_without_the_commit_rule_a_committed_entry_is_lost() -> None:
    with pytest.raises(SafetyViolation, match="Leader Completeness: S5 leads term 5 without 2/2"):
        drawn("figure-8-overwritten", MUTANTS["older-terms-committed"](), Safety)


def test_figure_8_without_comparing_logs_a_committed_entry_is_lost() -> None:
    with pytest.raises(SafetyViolation, match="Leader Completeness: S5 leads term 5 without 2/2"):
        drawn("figure-8-committed", MUTANTS["log-not-compared"](), Safety)
