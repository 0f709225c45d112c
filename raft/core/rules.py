"""The decisions of Raft, one small method each, in the order of the paper's Figure 2.

The core asks these methods whenever it must decide; it has no decision of its own. A mutant
(``raft.testing.mutants``) overrides exactly one of them, which breaks exactly one rule: that
is how the tests show that they can fail, and what "break a rule" means in the explorer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from raft.core.log import HardState, Log, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    AlreadyVoted,
    AppendEntries,
    Granted,
    Index,
    LeaderAlive,
    LogBehind,
    Message,
    Mismatch,
    RequestPreVote,
    RequestVote,
    ServerId,
    StaleTerm,
    Term,
    VoteOutcome,
)
from raft.core.quorum import majority


class Rules:
    """Raft as the paper states it. Methods hold no state: what they decide on is passed in."""

    # --- Persistent state ------------------------------------------------------------------------

    def hard_state(self, term: Term, voted_for: ServerId | None) -> HardState:
        """Return what must be on disk before any answer leaves (Figure 2, persistent state).

        A server that forgot its vote in a crash could vote twice in one term.
        """
        return HardState(term, voted_for)

    def waits_for_disk(self, message: Message) -> bool:
        """Tell whether a vote, an acknowledgement or a candidacy must be on disk before it leaves.

        All of them promise something that a crash must not take back (Figure 2, persistent state).
        """
        return True

    def next_to_apply(self, handed_out: Index) -> Index:
        """Return the next entry for the state machine: each exactly once, in order (§5.3)."""
        return Index(handed_out + 1)

    def has_recovered(self, fresh_term: Term, committed_term: Term | None) -> bool:
        """Tell whether a server that lost entries may vote again (``raft.core.recovering``).

        ``committed_term`` is that of the last entry that it knows to be committed and has on
        disk. One of its fresh term or later comes behind all that it ever helped to commit.
        """
        return committed_term is not None and committed_term >= fresh_term

    # --- Rules for servers: all servers ----------------------------------------------------------

    def is_newer_term(self, term: Term, current_term: Term) -> bool:
        """Tell whether a message's term makes its receiver a follower in that term (§5.1)."""
        return term > current_term

    def is_stale_request(self, term: Term, current_term: Term) -> bool:
        """Tell whether a request comes from an older term and must be refused (§5.1)."""
        return term < current_term

    def is_stale_reply(self, reply: Message, current_term: Term) -> bool:
        """Tell whether a reply belongs to an older term; then it must change nothing."""
        return reply.term < current_term

    # --- Rules for servers: candidates -----------------------------------------------------------

    def next_term(self, current_term: Term) -> Term:
        """Return the term of a new election (§5.2)."""
        return Term(current_term + 1)

    def election_timeout(self, random: Random, shortest: float, longest: float) -> float:
        """Draw an election timeout in seconds; randomness makes split votes rare (§5.2)."""
        return random.uniform(shortest, longest)

    def quorum(self, cluster_size: int) -> int:
        """Return how many servers must agree on a leader or an entry (§5.2)."""
        return majority(cluster_size)

    # --- RequestVote, receiver implementation ----------------------------------------------------

    def is_log_up_to_date(
        self, last_term: Term, last_index: Index, own_last_term: Term, own_last_index: Index
    ) -> bool:
        """Tell whether a candidate's log is at least as up-to-date as one's own (§5.4.1).

        The later last term wins; with equal last terms the longer log wins.
        """
        return (last_term, last_index) >= (own_last_term, own_last_index)

    def may_vote_for(self, candidate: ServerId, voted_for: ServerId | None) -> bool:
        """Tell whether the vote of this term is free, or already this candidate's (§5.2).

        A repeated request is granted again: the first answer may have been lost.
        """
        return voted_for is None or voted_for == candidate

    def vote(
        self, request: RequestVote, term: Term, voted_for: ServerId | None, log: Log
    ) -> VoteOutcome:
        """Decide on a RequestVote: Figure 2, RequestVote, receiver implementation 1 and 2."""
        if self.is_stale_request(request.term, term):
            # 1. Reply false if term < currentTerm.
            return StaleTerm()
        # 2. If votedFor is null or the candidate, and the candidate's log is at least as
        #    up-to-date as one's own, grant the vote.
        if voted_for is not None and not self.may_vote_for(request.src, voted_for):
            return AlreadyVoted(voted_for)
        if not self.is_log_up_to_date(
            request.last_log_term, request.last_log_index, log.last_term, log.last_index
        ):
            return LogBehind(log.last_index, log.last_term)
        return Granted()

    # --- AppendEntries, receiver implementation --------------------------------------------------

    def matches(self, log: Log, prev_index: Index, prev_term: Term) -> bool:
        """Tell whether the log has the entry that new ones follow on (AppendEntries 2, §5.3)."""
        return log.term_at(prev_index) == prev_term

    def conflict(self, log: Log, prev_index: Index) -> Mismatch:
        """Say where the leader should try next, skipping a whole term (end of §5.3)."""
        conflict_term = log.term_at(prev_index)
        if conflict_term is None:
            return Mismatch(prev_index, Term(0), Index(log.last_index + 1))
        return Mismatch(prev_index, conflict_term, log.first_index_of_term_at(prev_index))

    def first_new(self, log: Log, request: AppendEntries) -> int:
        """Return how many of the request's entries the log already has (AppendEntries 3, 4).

        Entries that are there are left alone, with all that follows them: a delayed request
        must not remove what a later one appended and the leader already counts on.
        """
        for offset, entry in enumerate(request.entries):
            if log.term_at(request.prev_log_index + 1 + offset) != entry.term:
                return offset
        return len(request.entries)

    def conflicts(self, log: Log, first_new: Index) -> bool:
        """Tell whether entries from ``first_new`` on must go before new ones are appended there.

        What follows a conflicting entry was appended after it, so it goes too (AppendEntries 3).
        """
        return log.last_index >= first_new

    def match_index(self, request: AppendEntries, log: Log) -> Index:
        """Return the index up to which this request proved the logs equal.

        Never the end of one's own log: what lies beyond may be another leader's.
        """
        return Index(request.prev_log_index + len(request.entries))

    def follower_commit(self, leader_commit: Index, match_index: Index, commit: Index) -> Index:
        """Return a follower's new commitIndex (AppendEntries 5).

        It never lies beyond what matched, and never goes back.
        """
        return max(commit, min(leader_commit, match_index))

    # --- Rules for servers: leaders --------------------------------------------------------------

    def retry_from(self, log: Log, conflict: Mismatch) -> Index:
        """Return the nextIndex that a refusal asks for (end of §5.3).

        If the leader has entries of the conflicting term, the logs may agree up to the last of
        them; if not, the follower's whole term is wrong::

            follower  1 1 1 4 4 4 4        refuses after index 6: term 4 from index 4 on
            leader    1 1 1 4 4 5 5 6      has term 4 up to 5: try from 6
        """
        if conflict.conflict_term == 0:
            return conflict.first_index
        last = log.last_index_of_term(conflict.conflict_term, conflict.prev_log_index)
        return Index(last + 1) if last is not None else conflict.first_index

    def may_commit(self, entry_term: Term, current_term: Term) -> bool:
        """Tell whether a leader may commit an entry by counting its replicas (§5.4.2).

        Only entries of its own term: an older one on a majority can still be overwritten
        (Figure 8). Committing one of its own commits all that lie before it.
        """
        return entry_term == current_term

    # --- Reads (§8; thesis §6.4) -----------------------------------------------------------------

    def may_read(self, commit_term: Term | None, current_term: Term) -> bool:
        """Tell whether a leader's commitIndex is known to be up to date (§8).

        Until it has committed an entry of its own term, older ones may be committed that it
        does not know to be.
        """
        return commit_term == current_term

    def confirmed_round(self, configuration: Configuration, rounds: Mapping[ServerId, int]) -> int:
        """Return the newest broadcast after which a majority still took this leader for theirs."""
        return configuration.quorum_value(rounds, self.quorum, 0)

    def lease_start(self, sent_at: float, received_at: float) -> float:
        """Return from when a majority's answers keep other leaders away (thesis §6.4.1).

        From when the heartbeat was *sent*: the followers' patience began before they answered.
        """
        return sent_at

    # --- Membership changes (§6; thesis chapter 4) -----------------------------------------------

    def is_quorum(self, configuration: Configuration, agreeing: Iterable[ServerId]) -> bool:
        """Tell whether these servers are a majority; joint: one of the old and one of the new."""
        return configuration.is_quorum(agreeing, self.quorum)

    def committed_index(
        self, configuration: Configuration, matched: Mapping[ServerId, Index]
    ) -> Index:
        """Return the highest index that a majority has; joint: one of the old and of the new."""
        return Index(configuration.quorum_value(matched, self.quorum, 0))

    def may_change_members(self, commit_term: Term | None, current_term: Term) -> bool:
        """Tell whether a leader may begin a change: only with an entry of its term committed.

        Before that an older leader's change may still come back, and two changes made from the
        same configuration can have majorities without a common server.
        """
        return commit_term == current_term

    def next_configuration(self, now: Configuration, target: Configuration) -> Configuration:
        """Return the first step to ``target``: joint, unless majorities overlap anyway."""
        return now.next_step(target)

    def may_leave_joint(self, configuration_index: Index, commit_index: Index) -> bool:
        """Tell whether C_new may be appended: only when C_old,new is committed (§6)."""
        return configuration_index <= commit_index

    # --- Pre-votes and disruption (thesis §4.2.3, §9.6) ------------------------------------------

    def is_disruptive(self, request: RequestVote) -> bool:
        """Tell whether a vote must be refused, term and all, because a leader is alive.

        A server that was removed, or cut off, hears no heartbeats; its requests must not unseat
        a leader that the others hear (§6; thesis §4.2.3). One that the leader itself asked to
        take over does not disrupt.
        """
        return not request.transfer

    def term_after_pre_vote(self, asked: Term, current_term: Term) -> Term:
        """Return the term of a server that was asked for a pre-vote: its own, as before."""
        return current_term

    def pre_vote(
        self, request: RequestPreVote, term: Term, alive: LeaderAlive | None, log: Log
    ) -> VoteOutcome:
        """Say whether one would vote for the candidate, unless a leader is ``alive``."""
        if request.term <= term:
            return StaleTerm()
        if alive is not None:
            return alive
        if not self.is_log_up_to_date(
            request.last_log_term, request.last_log_index, log.last_term, log.last_index
        ):
            return LogBehind(log.last_index, log.last_term)
        return Granted()

    # --- Leadership transfer (thesis §3.10) ------------------------------------------------------

    def may_take_over(self, match_index: Index, last_index: Index) -> bool:
        """Tell whether a transfer's target may start its election: once it has the whole log."""
        return match_index == last_index

    # --- InstallSnapshot, receiver implementation (§7) -------------------------------------------

    def term_after_snapshot(self, snapshot: Snapshot, current_term: Term) -> Term:
        """Return the term of a server that installed a snapshot: its own, as before."""
        return current_term

    def configuration_of(self, snapshot: Snapshot, before: Configuration) -> Configuration:
        """Return the configuration after a snapshot replaced the log: the snapshot's (8)."""
        return snapshot.configuration
