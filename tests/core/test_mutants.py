"""Every rule can be broken, every mutant breaks one rule, and every one is caught."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from raft.core.log import InvariantViolation
from raft.core.rules import Rules
from raft.testing.mutants import MUTANTS, fails_with
from raft.testing.safety import Safety, SafetyViolation
from raft.testing.transcript import TranscriptMismatch, check, play

TRANSCRIPTS = Path(__file__).parents[1] / "transcripts"

BREAKS_A_PROMISE = {
    "vote-twice": ("5.2-split-vote", "one vote a term"),
    "vote-forgotten": ("5.2-vote-survives-a-crash", "one vote a term"),
    "term-forgotten": ("5.2-vote-survives-a-crash", "one vote a term"),
    "answered-before-saved": ("figure-2-disk-first", "one vote a term"),
    "half-is-a-quorum": ("5.2-split-vote", "Election Safety: S1 and S2 both lead term 1"),
    "even-half-is-a-quorum": ("5.2-split-vote", "Election Safety: S1 and S2 both lead term 1"),
    "log-not-compared": ("figure-8-committed", "Leader Completeness"),
    "stale-requests-accepted": ("8-reads", "S2 also leads term 3"),
    "stale-replies-honoured": ("5.1-late-vote", "Election Safety: S3 and S1 both lead term 2"),
    "term-not-raised": ("5.2-election", "terms only grow"),
    "recovery-not-awaited": (
        "a-damaged-disk",
        "Leader Completeness: S3 leads term 2 without 2/1",
    ),
    "gaps-accepted": ("figure-7", "a majority stores what is committed"),
    "conflict-kept": ("figure-7", "a majority stores what is committed"),
    "always-truncates": ("5.3-delayed-append", "entry 2 is committed and would be removed"),
    "match-up-to-last-index": ("5.3-commit-only-what-matches", "State Machine Safety"),
    "older-terms-committed": ("figure-8-overwritten", "Leader Completeness"),
    "commit-beyond-match": ("5.3-commit-only-what-matches", "State Machine Safety"),
    "commit-goes-back": ("5.3-delayed-append", "commitIndex cannot go from 2 to 1"),
    "applied-twice": ("5.3-replication", "each entry is applied once"),
    "read-without-quorum": ("8-reads", "Linearizability: S2 answers read 3 from index 3"),
    "read-before-noop": ("8-reads", "Linearizability: S2 answers read 1 from index 1"),
    "lease-from-reply": ("thesis-6.4.1-leases", "Linearizability: S1 answers read 1 from index 1"),
    "joint-elected-by-new-alone": ("6-joint-consensus", "Election Safety: S4 and S2 both lead"),
    "joint-committed-by-new-alone": ("6-joint-consensus", "a majority stores what is committed"),
    "changed-before-noop": (
        "thesis-4.1-one-server-at-a-time",
        "Leader Completeness: S1 leads term 3 without 2/2",
    ),
    "changed-in-one-step": ("6-joint-consensus", "Election Safety: S4 and S2 both lead term 2"),
    "pre-vote-raises-term": ("thesis-9.6-pre-vote", "a pre-vote changes nothing"),
}
"""Mutants that break what Raft promises: the transcript in which they do, and the promise."""

GOES_ANOTHER_WAY = {
    "log-compared-by-length": ("5.4.1-election-restriction", "S2 → S1  .* granted"),
    "log-compared-as-vector": ("5.4.1-election-restriction", "S1 → S2  .* its log ends at 4/1"),
    "higher-terms-ignored": ("5.2-election", "S1 → S3  RequestVoteReply  term 0"),
    "joint-left-early": ("6-joint-consensus", "S1 goes by the configuration of entry 4"),
    "pre-vote-despite-leader": ("thesis-9.6-pre-vote", "S2 → S3  .* about term 2: granted"),
    "disruption-obeyed": ("thesis-4.2.3-disruptive-servers", "S1 is follower in term 2"),
    "lagging-takes-over": ("thesis-3.10-transfer", "S3 → S2  TimeoutNow  term 2"),
    "term-lowered-by-snapshot": (
        "7-configuration-in-a-snapshot",
        "S4 follower: currentTerm 1, votedFor none",
    ),
    "stale-configuration-kept": ("7-configuration-in-a-snapshot", "voters S1 S2 S3 S4"),
    "fixed-timeouts": ("5.2-split-vote", "S3 is candidate in term 2"),
    "repeated-vote-refused": ("5.2-vote-survives-a-crash", "refused: its vote is S1's"),
    "conflict-one-by-one": ("5.3-conflict", "refused after 8: its log ends at 7"),
    "hint-not-used": ("figure-7", "S1 → S3  AppendEntries  term 8, after 9/6"),
}
"""Mutants with which things take another course than in this transcript: what happens instead."""


def methods(rules: type[Rules]) -> set[str]:
    return {name for name, value in vars(rules).items() if inspect.isfunction(value)}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_overrides_exactly_one_rule_and_says_which_it_breaks(name: str) -> None:
    mutant = MUTANTS[name]
    assert mutant.__bases__ == (Rules,)
    assert len(methods(mutant)) == 1
    assert methods(mutant) < methods(Rules)
    assert re.search(
        r"\(((thesis )?§[0-9.]+|end of §5\.3|AppendEntries \d|Figure 2)\)", mutant.__doc__ or ""
    )


def test_every_rule_has_a_mutant() -> None:
    broken = {rule for mutant in MUTANTS.values() for rule in methods(mutant)}
    assert methods(Rules) - broken == {"vote"}, "vote only asks the other rules in their order"


def test_every_mutant_is_caught_in_a_transcript() -> None:
    assert BREAKS_A_PROMISE.keys() | GOES_ANOTHER_WAY.keys() == MUTANTS.keys()


@pytest.mark.parametrize("name", BREAKS_A_PROMISE)
def test_the_mutant_breaks_a_promise(name: str) -> None:
    transcript, promise = BREAKS_A_PROMISE[name]
    path = TRANSCRIPTS / f"{transcript}.txt"
    check(path, Rules())
    with pytest.raises((SafetyViolation, InvariantViolation), match=promise):
        list(play(path, MUTANTS[name](), Safety))


@pytest.mark.parametrize("name", GOES_ANOTHER_WAY)
def test_the_mutant_makes_things_go_another_way(name: str) -> None:
    transcript, instead = GOES_ANOTHER_WAY[name]
    path = TRANSCRIPTS / f"{transcript}.txt"
    check(path, Rules())
    with pytest.raises(TranscriptMismatch, match=rf"(?m)^\+ .*{instead}"):
        check(path, MUTANTS[name](), Safety)


def test_a_test_that_does_not_catch_its_mutant_fails() -> None:
    def notices_nothing(rules: Rules) -> None:
        pass

    with pytest.raises(AssertionError, match="notices_nothing does not catch vote-twice"):
        fails_with("vote-twice")(notices_nothing)()


def test_a_mistake_in_a_test_is_not_taken_for_a_catch() -> None:
    def mistaken(rules: Rules) -> None:
        if type(rules) is not Rules:
            raise KeyError("a typing error")

    with pytest.raises(KeyError):
        fails_with("vote-twice")(mistaken)()
