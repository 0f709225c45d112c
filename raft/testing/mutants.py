"""Raft with one rule broken, by name: what the tests must catch, and the explorer shows.

Each mutant overrides exactly one method of :class:`raft.core.rules.Rules` and says what goes
wrong then. Most break safety; the last ones only make a cluster slow or unable to elect.
"""

# ruff: noqa: D102 - the class says what its one method breaks

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from random import Random

from raft.core.log import HardState, InvariantViolation, Log, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    AppendEntries,
    Index,
    LeaderAlive,
    Message,
    Mismatch,
    RequestPreVote,
    RequestVote,
    ServerId,
    Term,
    VoteOutcome,
)
from raft.core.rules import Rules
from raft.testing.safety import NoProgress, SafetyViolation

# --- Elections ---------------------------------------------------------------------------------


class VoteTwice(Rules):
    """Votes for whoever asks, even after voting for another (§5.2): two leaders in one term."""

    def may_vote_for(self, candidate: ServerId, voted_for: ServerId | None) -> bool:
        return True


class VoteForgotten(Rules):
    """Does not store its vote (Figure 2): after a crash a server votes again in that term."""

    def hard_state(self, term: Term, voted_for: ServerId | None) -> HardState:
        return HardState(term, None)


class TermForgotten(Rules):
    """Does not store its term (Figure 2): after a crash a server votes in terms long past."""

    def hard_state(self, term: Term, voted_for: ServerId | None) -> HardState:
        return HardState(Term(0), voted_for)


class AnsweredBeforeSaved(Rules):
    """Answers before the disk has stored what the answer promises (Figure 2).

    The crash that follows takes the promise back: a vote is given again, an entry is lost.
    """

    def waits_for_disk(self, message: Message) -> bool:
        return False


class HalfIsAQuorum(Rules):
    """Takes half of the servers, rounded down, for a majority (§5.2): two halves need not meet."""

    def quorum(self, cluster_size: int) -> int:
        return cluster_size // 2


class EvenHalfIsAQuorum(Rules):
    """Takes half of the servers, rounded up, for a majority (§5.2): wrong if even."""

    def quorum(self, cluster_size: int) -> int:
        return (cluster_size + 1) // 2


class LogNotCompared(Rules):
    """Votes whatever the candidate's log (§5.4.1): a leader without committed entries."""

    def is_log_up_to_date(
        self, last_term: Term, last_index: Index, own_last_term: Term, own_last_index: Index
    ) -> bool:
        return True


class LogComparedByLength(Rules):
    """Takes the longer log for the newer one (§5.4.1), whatever their last terms.

    A server cut off from the others can make its log as long as it likes.
    """

    def is_log_up_to_date(
        self, last_term: Term, last_index: Index, own_last_term: Term, own_last_index: Index
    ) -> bool:
        return last_index >= own_last_index


class LogComparedAsVector(Rules):
    """Wants both the last term and the length of a log to be as great (§5.4.1).

    Of a longer and a newer log neither wins the other's vote: there may be no leader any more.
    """

    def is_log_up_to_date(
        self, last_term: Term, last_index: Index, own_last_term: Term, own_last_index: Index
    ) -> bool:
        return last_term >= own_last_term and last_index >= own_last_index


# --- Terms -------------------------------------------------------------------------------------


class StaleRequestsAccepted(Rules):
    """Obeys requests of older terms (§5.1): a deposed leader overwrites the new one's entries."""

    def is_stale_request(self, term: Term, current_term: Term) -> bool:
        return False


class StaleRepliesHonoured(Rules):
    """Counts votes and acknowledgements of older terms (§5.1): two leaders in one term."""

    def is_stale_reply(self, reply: Message, current_term: Term) -> bool:
        return False


class HigherTermsIgnored(Rules):
    """Does not enter a higher term that it hears of (§5.1).

    A voter answers in its own term, which no candidate counts: there is no leader any more.
    """

    def is_newer_term(self, term: Term, current_term: Term) -> bool:
        return False


class TermNotRaised(Rules):
    """Begins an election in the term that it is in (§5.2), where votes have been given."""

    def next_term(self, current_term: Term) -> Term:
        return current_term


# --- Replication -------------------------------------------------------------------------------


class GapsAccepted(Rules):
    """Takes entries whatever stands before them (AppendEntries 2): equal ends of unequal logs."""

    def matches(self, log: Log, prev_index: Index, prev_term: Term) -> bool:
        return True


class ConflictKept(Rules):
    """Leaves conflicting entries in place (AppendEntries 3) and appends behind them."""

    def conflicts(self, log: Log, first_new: Index) -> bool:
        return False


class AlwaysTruncates(Rules):
    """Replaces everything after prevLogIndex, conflict or not (AppendEntries 3).

    A delayed message removes entries that a later one brought and the leader counts on.
    """

    def first_new(self, log: Log, request: AppendEntries) -> int:
        return 0


class MatchUpToLastIndex(Rules):
    """Acknowledges its whole log, not what the request has shown to match (§5.3).

    What lies beyond may be another leader's: this one commits what is not stored.
    """

    def match_index(self, request: AppendEntries, log: Log) -> Index:
        return log.last_index


# --- Commitment --------------------------------------------------------------------------------


class OlderTermsCommitted(Rules):
    """Commits an entry of an older term by counting its copies (§5.4.2).

    It can still be overwritten, as Figure 8 shows.
    """

    def may_commit(self, entry_term: Term, current_term: Term) -> bool:
        return True


class CommitBeyondMatch(Rules):
    """Follows leaderCommit past what is known to match (AppendEntries 5).

    A follower commits entries of its own that are not the leader's.
    """

    def follower_commit(self, leader_commit: Index, match_index: Index, commit: Index) -> Index:
        return max(commit, leader_commit)


class CommitGoesBack(Rules):
    """Takes a lower commitIndex from a late message (AppendEntries 5)."""

    def follower_commit(self, leader_commit: Index, match_index: Index, commit: Index) -> Index:
        return min(leader_commit, match_index)


class AppliedTwice(Rules):
    """Gives an entry to the state machine that already had it (§5.3): x += 1 counts double."""

    def next_to_apply(self, handed_out: Index) -> Index:
        return max(Index(1), handed_out)


# --- Reads -------------------------------------------------------------------------------------


class ReadWithoutQuorum(Rules):
    """Answers reads without asking whether it still leads (§8): a deposed one tells the past."""

    def confirmed_round(self, configuration: Configuration, rounds: Mapping[ServerId, int]) -> int:
        return max(rounds.values())


class ReadBeforeNoop(Rules):
    """Answers reads before it has committed an entry of its own term (§8).

    It does not know yet what its predecessor committed.
    """

    def may_read(self, commit_term: Term | None, current_term: Term) -> bool:
        return True


class LeaseFromReply(Rules):
    """Counts a lease from when the answer came, not from the question (thesis §6.4.1).

    The follower's patience began when it heard the question: it may end before the lease does.
    """

    def lease_start(self, sent_at: float, received_at: float) -> float:
        return received_at


# --- Members -----------------------------------------------------------------------------------


class JointElectedByNewAlone(Rules):
    """Needs no majority of the old voters while the configuration is joint (§6).

    The old voters, who may know nothing of the change, elect another leader.
    """

    def is_quorum(self, configuration: Configuration, agreeing: Iterable[ServerId]) -> bool:
        return configuration.left_joint().is_quorum(agreeing, self.quorum)


class JointCommittedByNewAlone(Rules):
    """Commits what a majority of the new voters has while the configuration is joint (§6).

    The old voters can elect a leader that lacks it.
    """

    def committed_index(
        self, configuration: Configuration, matched: Mapping[ServerId, Index]
    ) -> Index:
        return Index(configuration.left_joint().quorum_value(matched, self.quorum, 0))


class ChangedBeforeNoop(Rules):
    """Changes the members before it has committed an entry of its term (thesis §4.1).

    A change of an earlier leader may come back: the majorities of the two need not meet.
    """

    def may_change_members(self, commit_term: Term | None, current_term: Term) -> bool:
        return True


class ChangedInOneStep(Rules):
    """Goes to any configuration directly (§6): old and new majorities need not meet."""

    def next_configuration(self, now: Configuration, target: Configuration) -> Configuration:
        return target


class JointLeftEarly(Rules):
    """Appends C_new before C_old,new is committed (§6).

    Some servers still go by C_old when others go by C_new, and those two need not meet.
    """

    def may_leave_joint(self, configuration_index: Index, commit_index: Index) -> bool:
        return True


# --- Pre-votes, disruption and transfer --------------------------------------------------------


class PreVoteRaisesTerm(Rules):
    """Enters the term that it is asked about (thesis §9.6), which unseats the leader after all."""

    def term_after_pre_vote(self, asked: Term, current_term: Term) -> Term:
        return max(asked, current_term)


class PreVoteDespiteLeader(Rules):
    """Would vote although it hears from a leader (thesis §9.6): whoever was cut off unseats it."""

    def pre_vote(
        self, request: RequestPreVote, term: Term, alive: LeaderAlive | None, log: Log
    ) -> VoteOutcome:
        return super().pre_vote(request, term, None, log)


class DisruptionObeyed(Rules):
    """Votes although it hears from a leader (thesis §4.2.3).

    Servers that were removed unseat one leader after the other, and leases protect nothing.
    """

    def is_disruptive(self, request: RequestVote) -> bool:
        return False


class LaggingTakesOver(Rules):
    """Lets a server take over that lacks entries (thesis §3.10): it loses, and nobody leads."""

    def may_take_over(self, match_index: Index, last_index: Index) -> bool:
        return True


# --- Snapshots ---------------------------------------------------------------------------------


class TermLoweredBySnapshot(Rules):
    """Takes over the term of a snapshot (§7), in which it may have voted."""

    def term_after_snapshot(self, snapshot: Snapshot, current_term: Term) -> Term:
        return snapshot.term


class RecoveryNotAwaited(Rules):
    """Votes at once after it lost entries of its log, as if it had all it acknowledged (Figure 2).

    A server without them is elected by its vote: what was committed with its help is gone.
    """

    def has_recovered(self, fresh_term: Term, committed_term: Term | None) -> bool:
        return True


class StaleConfigurationKept(Rules):
    """Keeps its configuration when a snapshot replaces its log (§7).

    It goes by voters that the cluster left long ago: two leaders in one term.
    """

    def configuration_of(self, snapshot: Snapshot, before: Configuration) -> Configuration:
        return before


# --- Progress ----------------------------------------------------------------------------------


class FixedTimeouts(Rules):
    """Draws no random election timeouts (§5.2): all become candidates at once, again and again."""

    def election_timeout(self, random: Random, shortest: float, longest: float) -> float:
        return shortest


class RepeatedVoteRefused(Rules):
    """Refuses the candidate that has its vote already (§5.2): one lost answer wastes the term."""

    def may_vote_for(self, candidate: ServerId, voted_for: ServerId | None) -> bool:
        return voted_for is None


class ConflictOneByOne(Rules):
    """Does not say where the conflicting term begins (end of §5.3): a refusal for every entry."""

    def conflict(self, log: Log, prev_index: Index) -> Mismatch:
        return Mismatch(prev_index, Term(0), prev_index)


class HintNotUsed(Rules):
    """Goes back by one entry whatever the follower says (end of §5.3)."""

    def retry_from(self, log: Log, conflict: Mismatch) -> Index:
        return conflict.prev_log_index


MUTANTS: dict[str, type[Rules]] = {
    "vote-twice": VoteTwice,
    "vote-forgotten": VoteForgotten,
    "term-forgotten": TermForgotten,
    "answered-before-saved": AnsweredBeforeSaved,
    "half-is-a-quorum": HalfIsAQuorum,
    "even-half-is-a-quorum": EvenHalfIsAQuorum,
    "log-not-compared": LogNotCompared,
    "log-compared-by-length": LogComparedByLength,
    "log-compared-as-vector": LogComparedAsVector,
    "stale-requests-accepted": StaleRequestsAccepted,
    "stale-replies-honoured": StaleRepliesHonoured,
    "higher-terms-ignored": HigherTermsIgnored,
    "term-not-raised": TermNotRaised,
    "gaps-accepted": GapsAccepted,
    "conflict-kept": ConflictKept,
    "always-truncates": AlwaysTruncates,
    "match-up-to-last-index": MatchUpToLastIndex,
    "older-terms-committed": OlderTermsCommitted,
    "commit-beyond-match": CommitBeyondMatch,
    "commit-goes-back": CommitGoesBack,
    "applied-twice": AppliedTwice,
    "read-without-quorum": ReadWithoutQuorum,
    "read-before-noop": ReadBeforeNoop,
    "lease-from-reply": LeaseFromReply,
    "joint-elected-by-new-alone": JointElectedByNewAlone,
    "joint-committed-by-new-alone": JointCommittedByNewAlone,
    "changed-before-noop": ChangedBeforeNoop,
    "changed-in-one-step": ChangedInOneStep,
    "joint-left-early": JointLeftEarly,
    "pre-vote-raises-term": PreVoteRaisesTerm,
    "pre-vote-despite-leader": PreVoteDespiteLeader,
    "disruption-obeyed": DisruptionObeyed,
    "lagging-takes-over": LaggingTakesOver,
    "term-lowered-by-snapshot": TermLoweredBySnapshot,
    "recovery-not-awaited": RecoveryNotAwaited,
    "stale-configuration-kept": StaleConfigurationKept,
    "fixed-timeouts": FixedTimeouts,
    "repeated-vote-refused": RepeatedVoteRefused,
    "conflict-one-by-one": ConflictOneByOne,
    "hint-not-used": HintNotUsed,
}
"""The mutants by the name under which tests and the explorer know them."""

CAUGHT = (AssertionError, SafetyViolation, InvariantViolation, NoProgress)
"""What a test raises that has caught a mutant; anything else is a mistake in the test."""


def fails_with(*names: str) -> Callable[[Callable[[Rules], None]], Callable[[], None]]:
    """Make a test of a body that takes the rules: it passes with Raft's, and with no mutant named.

    A test that a broken rule does not fail proves nothing about that rule.
    """

    def decorate(body: Callable[[Rules], None]) -> Callable[[], None]:
        def test() -> None:
            body(Rules())
            for name in names:
                try:
                    body(MUTANTS[name]())
                except CAUGHT:
                    continue
                raise AssertionError(f"{body.__name__} does not catch {name}")

        test.__name__ = body.__name__
        test.__doc__ = body.__doc__
        return test

    return decorate
