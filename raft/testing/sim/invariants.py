"""What Raft promises, checked after every event, over all servers and across crashes.

Every promise is a fact that may be stated once (who leads a term, who has a server's vote,
which log an index and a term name, what is committed at an index); a second, different
statement breaks it. So each check costs a look-up, however long the run is. The numbers are
those of the table in ``tests/README.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from raft.core.core import Core
from raft.core.events import (
    CommitAdvanced,
    ConfigurationChanged,
    CoreEvent,
    EntriesAppended,
    EntriesTruncated,
    LogCompacted,
    PreVoteCast,
    ProgressChanged,
    Role,
    RoleChanged,
    SnapshotInstalled,
    TermChanged,
    TransferChanged,
    VoteCast,
)
from raft.core.log import HardState
from raft.core.membership import Configuration
from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Granted,
    Index,
    InstallSnapshotReply,
    LeaderAlive,
    Message,
    RequestPreVote,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
    TimeoutNow,
)
from raft.core.quorum import majority
from raft.core.readonly import ReadState
from raft.storage.base import Recovered
from raft.testing.sim.chains import EMPTY, Chains, Prefix
from raft.testing.sim.facts import Facts, Harm, Save, Violation
from raft.testing.sim.recoveries import Recoveries

# Asked for at nearly every event, and slow to look up (Python 3.11).
_LEADER: Final = Role.LEADER
_CONFIGURATION: Final = EntryKind.CONFIGURATION


class Invariants:
    """All promises over one run. Methods raise :class:`Violation`."""

    def __init__(self, first: Configuration) -> None:
        self.chains = Chains()
        self.facts: dict[ServerId, Facts] = {}
        self.committed: list[Prefix] = [EMPTY]
        """What is committed, by index."""
        self.configurations: list[tuple[Index, Configuration]] = [(Index(0), first)]
        """The configurations that are committed."""
        self.coverage: Counter[str] = Counter()
        """How often each remarkable state was reached."""
        self.checked = 0
        """Events and messages that were looked at."""
        self._committed_in: list[Term] = [Term(0)]
        self._leader: dict[Term, ServerId] = {}
        self._vote: dict[tuple[ServerId, Term], ServerId] = {}
        self._prefix: dict[tuple[int, int], Prefix] = {}
        self._digest: dict[Index, int] = {}
        self._states: dict[Index, bytes] = {}
        self._floor: dict[int, Index] = {}
        self.effects: dict[bytes, Index] = {}
        """At which index each command took effect."""
        self.recoveries = Recoveries(self.chains, self.committed, self.coverage)
        self._interrupted: dict[ServerId, tuple[list[Prefix], HardState]] = {}
        self._on_event: Mapping[type, Callable[[Facts, Core, Any], None]] = {
            RoleChanged: self._role_changed,
            TermChanged: self._term_changed,
            EntriesAppended: self._appended,
            EntriesTruncated: self._truncated,
            CommitAdvanced: self._commit_advanced,
            ProgressChanged: self._progress_changed,
            SnapshotInstalled: self._installed,
            LogCompacted: self._compacted,
            ConfigurationChanged: self._configuration_changed,
            VoteCast: self._vote_cast,
            PreVoteCast: self._pre_vote_cast,
            TransferChanged: self._transfer_changed,
        }
        self._on_message: Mapping[type, Callable[[Facts, Any], None]] = {
            RequestVote: self._candidacy,
            RequestVoteReply: self._vote_told,
            AppendEntriesReply: self._acknowledged,
            InstallSnapshotReply: self._installed_told,
            TimeoutNow: self._handed_over,
        }

    @property
    def commit(self) -> Index:
        """The highest index that any server knows to be committed."""
        return Index(len(self.committed) - 1)

    # --- Inputs ------------------------------------------------------------------------------

    def started(self, server: ServerId, found: Recovered, first: Configuration, harm: Harm) -> bool:
        """Note that a server starts from what its disk holds, and check that it is all there.

        False: it is an older state of a disk that was harmed so that this could not be noticed.
        """
        facts = self.facts.setdefault(server, Facts(server))
        chain, configurations = self._read(found, first)
        allowed = [(facts.durable, facts.hard_state)]
        if server in self._interrupted:
            durable, hard_state = self._interrupted.pop(server)
            # All of it, or term and vote alone.
            allowed += [(durable, hard_state), (facts.durable, hard_state)]
        states = [hard_state for _, hard_state in allowed]
        recovers = self.recoveries.begins(facts, found.hard_state, states)
        if not recovers and (chain, found.hard_state) not in allowed:
            if harm is Harm.UNNOTICED:
                self._check_older(server, chain, found.hard_state, states)
                return False
            raise Violation(
                "16 durability",
                f"S{server} finds {found.hard_state} and a log up to {len(chain) - 1} on its disk; "
                f"{facts.hard_state} and a log up to {len(facts.durable) - 1} were synced there",
            )
        facts.durable, facts.hard_state = chain, found.hard_state
        facts.chain, facts.configurations = list(chain), configurations
        facts.term, facts.role = found.hard_state.term, Role.FOLLOWER
        facts.commit = facts.applied = found.snapshot.index if found.snapshot else Index(0)
        return True

    def _check_older(
        self, server: ServerId, chain: list[Prefix], found: HardState, newest: list[HardState]
    ) -> None:
        """Check that a harmed disk holds nothing that never was there."""
        index = len(chain) - 1
        term = self.chains.terms[chain[index]]
        known = (
            self._prefix.get((index, term)) == chain[index] or chain == self.committed[: index + 1]
        )
        if not known or found.term > max(state.term for state in newest):
            raise Violation(
                "16 durability", f"S{server} finds {found} and {index}/{term}, which never was"
            )
        self.coverage["older state found on a harmed disk"] += 1

    def lacks(self, server: ServerId) -> bool:
        """Tell whether a server may lack what it had on its disk before that was damaged."""
        facts = self.facts.get(server)
        return self.recoveries.expected(server) or bool(facts and facts.hard_state.recovering)

    def happened(self, core: Core, events: Sequence[CoreEvent]) -> None:
        """Check what one server just did."""
        facts = self.facts[core.config.server]
        handlers = self._on_event
        self.checked += len(events)
        for event in events:
            handler = handlers.get(type(event))
            if handler is not None:
                handler(facts, core, event)

    def said(self, server: ServerId, message: Message) -> None:
        """Check a message that leaves a server."""
        self.checked += 1
        facts = self.facts[server]
        if message.src != server or (
            message.term > facts.term and type(message) is not RequestPreVote
        ):
            raise Violation("17 message term", f"S{server} in term {facts.term} says {message}")
        handler = self._on_message.get(type(message))
        if handler is not None:
            handler(facts, message)

    def stored(self, server: ServerId, save: Save) -> None:
        """Note what a server's disk holds from now on."""
        facts = self.facts[server]
        before = facts.hard_state
        facts.hard_state = self._after_save(facts.durable, save) or before
        if before.recovering and not facts.hard_state.recovering:
            self.recoveries.over(facts)

    def interrupted(self, server: ServerId, save: Save) -> None:
        """Note a save that the power cut off: all of it is there, or nothing."""
        facts = self.facts[server]
        durable = list(facts.durable)
        hard_state = self._after_save(durable, save) or facts.hard_state
        self._interrupted[server] = durable, hard_state

    def applied(self, server: ServerId, first_index: Index, entries: tuple[Entry, ...]) -> None:
        """Check what a server gives to its state machine."""
        facts = self.facts[server]
        if first_index != facts.applied + 1:
            raise Violation(
                "5 State Machine Safety",
                f"S{server} applies entry {first_index} after entry {facts.applied}",
            )
        last = Index(first_index + len(entries) - 1)
        if last > facts.commit:
            raise Violation("11 order", f"S{server} applies {last}, but committed {facts.commit}")
        for index, entry in enumerate(entries, first_index):
            known = self.chains.entries[self.committed[index]]
            if entry is not known and entry != known:
                raise Violation(
                    "5 State Machine Safety",
                    f"S{server} applies {entry} at {index}, where {known} is committed",
                )
        facts.applied = last

    def restored(self, server: ServerId, index: Index) -> None:
        """Note that a server's state machine starts anew from a snapshot."""
        self.facts[server].applied = index

    def digest(self, server: ServerId, index: Index, digest: int) -> None:
        """Check the state of a state machine after ``index``: the same on all servers."""
        known = self._digest.setdefault(index, digest)
        if known != digest:
            raise Violation(
                "24 determinism",
                f"after entry {index} the state of S{server} is {digest:#x}, of others {known:#x}",
            )

    def whole_state(self, server: ServerId, index: Index, state: bytes) -> None:
        """Check a snapshot: one state for each index, sessions included, taken or restored (22)."""
        known = self._states.setdefault(index, state)
        if known != state:
            raise Violation(
                "22 snapshots", f"after entry {index} S{server} has {state!r}, others {known!r}"
            )

    def took_effect(self, server: ServerId, index: Index, command: bytes) -> None:
        """Check that a command takes effect once, at one place of the log (20)."""
        known = self.effects.setdefault(command, index)
        if known != index:
            raise Violation(
                "20 exactly once",
                f"{command!r} takes effect at {index} on S{server}; it did before, at {known}",
            )

    def read_asked(self, context: int) -> None:
        """Note when a read began: it must see all that was committed then."""
        self._floor[context] = self.commit

    def read_answered(self, server: ServerId, read: ReadState) -> None:
        """Check the index from which a read is answered (§8)."""
        self._check_read(server, read.index, self._floor[read.context], "read")

    def lease_used(self, server: ServerId, index: Index) -> None:
        """Check a read that asked nobody (thesis §6.4.1)."""
        self.coverage["lease read"] += 1
        self._check_read(server, index, self.commit, "lease read")

    def _check_read(self, server: ServerId, index: Index, floor: Index, kind: str) -> None:
        if index < floor:
            raise Violation(
                "21 linearizable reads",
                f"S{server} answers a {kind} from index {index}; "
                f"{floor} was committed before it began",
            )

    def pre_vote_taken(self, before: tuple[Term, ServerId | None], core: Core) -> None:
        """Check that a RequestPreVote changed neither term nor vote (25)."""
        after = (core.term, core.voted_for)
        if before != after:
            raise Violation(
                "25 pre-vote", f"S{core.config.server} goes from {before} to {after} by being asked"
            )

    # --- Roles, terms and votes --------------------------------------------------------------

    def _term_changed(self, facts: Facts, core: Core, event: TermChanged) -> None:
        if event.term <= facts.term:
            raise Violation(
                "6 terms grow", f"S{facts.server} goes from term {facts.term} to {event.term}"
            )
        facts.term = event.term

    def _role_changed(self, facts: Facts, core: Core, event: RoleChanged) -> None:
        facts.role = event.role
        self.coverage[f"{event.role.name.lower()}: {event.reason.name.lower()}"] += 1
        if event.role is not _LEADER:
            return
        server, term = facts.server, event.term
        other = self._leader.setdefault(term, server)
        if other != server:
            raise Violation("1 Election Safety", f"S{other} and S{server} both lead term {term}")
        votes = {s for s in facts.configuration.members if self._vote.get((s, term)) == server}
        # A cluster of one asks nobody, so nothing tells of the leader's vote for itself.
        votes.add(server)
        if not facts.configuration.is_quorum(votes, majority):
            raise Violation(
                "9 quorum of votes",
                f"S{server} leads term {term} by the votes of {sorted(votes)} "
                f"in {facts.configuration}",
            )
        self._check_completeness(facts, term)

    def _check_completeness(self, facts: Facts, term: Term) -> None:
        index = self.commit
        while self._committed_in[index] >= term:
            index = Index(index - 1)
        if index >= len(facts.chain) or facts.chain[index] != self.committed[index]:
            raise Violation(
                "4 Leader Completeness",
                f"S{facts.server} leads term {term} without "
                f"{self.chains.shown(index, self.committed[index])}, "
                f"which was committed in term {self._committed_in[index]}",
            )
        if len(facts.chain) - 1 > index:
            self.coverage["leader with entries of older terms, not committed"] += 1

    def _vote_cast(self, facts: Facts, core: Core, event: VoteCast) -> None:
        match event.outcome:
            case Granted():
                self._check_impatient(facts, event.candidate, event.term)
            case AlreadyVoted():
                self.coverage["split vote"] += 1
                if core.voted_for == event.candidate and core.term == event.term:
                    raise Violation(
                        "7 one vote a term",
                        f"S{facts.server} refuses S{event.candidate}, which has its vote",
                    )
            case outcome:
                self.coverage[f"vote refused: {type(outcome).__name__}"] += 1

    def _pre_vote_cast(self, facts: Facts, core: Core, event: PreVoteCast) -> None:
        granted = isinstance(event.outcome, Granted)
        if granted:
            self._check_impatient(facts, event.candidate, event.election_term)
        if isinstance(event.outcome, LeaderAlive):
            self.coverage["pre-vote refused: LeaderAlive"] += 1
        elif not granted:
            self.coverage["pre-vote refused"] += 1

    def vote_refused_if(self, server: ServerId, patient: bool) -> None:
        """Note whether a server must refuse the vote that it is asked for now."""
        self.facts[server].patient = patient

    def _check_impatient(self, facts: Facts, candidate: ServerId, term: Term) -> None:
        """Check that a vote, or the promise of one, is not given while a leader is alive (27)."""
        if facts.patient:
            raise Violation(
                "27 a leader is not disturbed",
                f"S{facts.server} would vote for S{candidate} in term {term}, though it has heard "
                "from a leader just before",
            )

    def vote_asked(self, request: RequestVote, core: Core, voted_before: ServerId | None) -> None:
        """Check a vote that was just decided on: the candidate's log is no older (8)."""
        if core.voted_for != request.src or core.term != request.term or voted_before is not None:
            return
        chain = self.facts[core.config.server].chain
        own = (self.chains.terms[chain[-1]], len(chain) - 1)
        if (request.last_log_term, request.last_log_index) < own:
            raise Violation(
                "8 vote freshness",
                f"S{core.config.server}, whose log ends at {own[1]}/{own[0]}, votes for "
                f"S{request.src}: {request.last_log_index}/{request.last_log_term}",
            )

    def _promised(self, server: ServerId, term: Term, candidate: ServerId) -> None:
        earlier = self._vote.setdefault((server, term), candidate)
        if earlier != candidate:
            raise Violation(
                "7 one vote a term",
                f"in term {term} S{server} votes for S{candidate} after it voted for S{earlier}",
            )
        stored = self.facts[server].hard_state
        if stored.term < term or (stored.term == term and stored.voted_for != candidate):
            raise Violation(
                "16 durable before reply",
                f"S{server} tells its vote for S{candidate} in term {term}; on disk is {stored}",
            )

    def _candidacy(self, facts: Facts, message: RequestVote) -> None:
        self._promised(facts.server, message.term, facts.server)

    def _vote_told(self, facts: Facts, message: RequestVoteReply) -> None:
        if isinstance(message.outcome, Granted):
            self._promised(facts.server, message.term, message.dst)

    # --- The log -------------------------------------------------------------------------------

    def _appended(self, facts: Facts, core: Core, event: EntriesAppended) -> None:
        chain, terms = facts.chain, self.chains.terms
        if event.first_index != len(chain):
            raise Violation(
                "11 order",
                f"S{facts.server} appends at {event.first_index} behind entry {len(chain) - 1}",
            )
        for index, entry in enumerate(event.entries, event.first_index):
            if not terms[chain[-1]] <= entry.term <= facts.term:
                raise Violation(
                    "10 terms along a log",
                    f"S{facts.server} in term {facts.term} appends {index}/{entry.term} "
                    f"after an entry of term {terms[chain[-1]]}",
                )
            self._extend(facts.server, chain, entry)
            if entry.kind is _CONFIGURATION:
                self._place(facts, index, Configuration.decode(entry.data))

    def _extend(self, server: ServerId, chain: list[Prefix], entry: Entry) -> None:
        index = len(chain)
        prefix = self.chains.extend(chain[-1], entry)
        known = self._prefix.setdefault((index, entry.term), prefix)
        if known != prefix:
            raise Violation(
                "3 Log Matching",
                f"S{server} has {self.chains.shown(index, prefix)}, another log has "
                f"{self.chains.shown(index, known)}, or they differ before that",
            )
        chain.append(prefix)

    def _truncated(self, facts: Facts, core: Core, event: EntriesTruncated) -> None:
        if facts.role is _LEADER:
            raise Violation(
                "2 Leader Append-Only", f"S{facts.server} removes entries from {event.from_index}"
            )
        if event.from_index <= facts.commit:
            raise Violation(
                "13 committed entries stay",
                f"S{facts.server} removes entries from {event.from_index}, "
                f"but committed {facts.commit}",
            )
        self.coverage["log truncated"] += 1
        del facts.chain[event.from_index :]
        while facts.configurations[-1][0] >= event.from_index:
            self.coverage["configuration rolled back"] += 1
            facts.configurations.pop()

    def _acknowledged(self, facts: Facts, message: AppendEntriesReply) -> None:
        outcome = message.outcome
        if type(outcome) is not Appended or facts.hard_state.term > message.term:
            return
        index = outcome.match_index
        if index >= len(facts.durable):
            raise Violation(
                "16 durable before reply",
                f"S{facts.server} acknowledges entries up to {index}; "
                f"up to {len(facts.durable) - 1} they are on its disk",
            )
        leader = self.facts[message.dst]
        if leader.role is _LEADER and leader.term == message.term:
            self._check_match(facts, leader, index)

    def _installed_told(self, facts: Facts, message: InstallSnapshotReply) -> None:
        index, durable = message.last_index, facts.durable
        if not message.installed or facts.hard_state.term > message.term:
            return
        if index >= len(durable) or durable[index] != self.committed[index]:
            raise Violation(
                "16 durable before reply",
                f"S{facts.server} says that it has the snapshot up to {index}; "
                "what that stands for is not on its disk",
            )

    def _check_match(self, follower: Facts, leader: Facts, index: Index) -> None:
        durable = follower.durable
        if index < len(durable) and index < len(leader.chain):
            if durable[index] == leader.chain[index]:
                return
            if follower.hard_state.term > leader.term:
                return  # A newer leader has replaced it since.
        elif follower.hard_state.term > leader.term:
            return
        raise Violation(
            "18 matchIndex",
            f"S{leader.server} leads term {leader.term} and takes S{follower.server} to have "
            f"its log up to {index}, which is not on that disk",
        )

    def sent_back(self, refusal: AppendEntriesReply) -> None:
        """Check that a leader finds where two logs agree in a round trip for each term (29).

        Each refusal takes a whole term of one of the two logs out of the question (end of
        §5.3); one more tells how long the follower's log is.
        """
        leader, follower = self.facts[refusal.dst], self.facts[refusal.src]
        key = (refusal.src, refusal.term)
        leader.sent_back[key] += 1
        terms = [{self.chains.terms[p] for p in one.chain} for one in (leader, follower)]
        if leader.sent_back[key] > len(terms[0]) + len(terms[1]) + 1:
            raise Violation(
                "29 conflicts",
                f"S{leader.server} leads term {leader.term} and is sent back by "
                f"S{follower.server} {leader.sent_back[key]} times, in logs of "
                f"{len(terms[0])} and {len(terms[1])} terms",
            )

    def _handed_over(self, facts: Facts, message: TimeoutNow) -> None:
        """Check that who is told to take over has the whole log (thesis §3.10) (30).

        A turn's messages leave at its end. If the leader gave the transfer up meanwhile, its log
        was whole as it was then: nothing is appended before.
        """
        target, ended_at = self.facts[message.dst], facts.transfer_ended_at
        index = len(facts.chain) - 1 if ended_at is None else ended_at
        newer = target.hard_state.term > facts.term
        has_all = index < len(target.durable) and target.durable[index] == facts.chain[index]
        if facts.role is Role.LEADER and not newer and not has_all:
            raise Violation(
                "30 transfer",
                f"S{facts.server} lets S{message.dst} take over, which lacks entry {index}",
            )

    def _progress_changed(self, facts: Facts, core: Core, event: ProgressChanged) -> None:
        index = event.match_index
        if facts.role is _LEADER and index:
            self._check_match(self.facts[event.follower], facts, index)

    # --- Commitment ----------------------------------------------------------------------------

    def _commit_advanced(self, facts: Facts, core: Core, event: CommitAdvanced) -> None:
        index, chain, committed = event.index, facts.chain, self.committed
        if not facts.commit < index < len(chain):
            raise Violation(
                "11 order",
                f"S{facts.server} commits {index} after {facts.commit} "
                f"with a log up to {len(chain) - 1}",
            )
        if facts.role is _LEADER and self.chains.terms[chain[index]] != facts.term:
            raise Violation(
                "15 Figure 8",
                f"S{facts.server} leads term {facts.term} and commits "
                f"{self.chains.shown(index, chain[index])} by counting its copies",
            )
        facts.commit = index
        known = min(index, len(committed) - 1)
        if chain[known] != committed[known]:
            raise Violation(
                "13 committed entries stay",
                f"S{facts.server} commits {self.chains.shown(known, chain[known])}, but "
                f"{self.chains.shown(known, committed[known])} was committed "
                f"in term {self._committed_in[known]}",
            )
        if index > known:
            self._check_durable(facts, index)
            committed += chain[known + 1 :][: index - known]
            self._committed_in += [facts.term] * (index - known)
            self.configurations += [
                placed for placed in facts.configurations if known < placed[0] <= index
            ]

    def _check_durable(self, facts: Facts, index: Index) -> None:
        """Check that a majority has on disk what is committed for the first time (14)."""
        prefix = facts.chain[index]
        holders = []
        for server in facts.configuration.members:
            disks = [self.facts[server].durable] if server in self.facts else []
            # What a server lost that recovers still counts: no leader is elected by its vote.
            disks += self.recoveries.lost(server)
            if any(index < len(disk) and disk[index] == prefix for disk in disks):
                holders.append(server)
        if not facts.configuration.is_quorum(holders, majority):
            raise Violation(
                "14 quorum durability",
                f"S{facts.server} commits {self.chains.shown(index, prefix)}, "
                f"which is on the disks of {holders} of {facts.configuration}",
            )

    # --- Snapshots -----------------------------------------------------------------------------

    def _installed(self, facts: Facts, core: Core, event: SnapshotInstalled) -> None:
        index, committed = event.index, self.committed
        if index > self.commit or self.chains.terms[committed[index]] != event.term:
            raise Violation(
                "22 snapshots",
                f"S{facts.server} installs a snapshot of {index}/{event.term}, "
                "which is not what is committed",
            )
        self.coverage["snapshot installed"] += 1
        if event.retained:
            self.coverage["snapshot installed, log retained"] += 1
            if facts.chain[index] != committed[index]:
                raise Violation("22 snapshots", f"S{facts.server} retains another log at {index}")
        else:
            facts.chain = committed[: index + 1]
        behind = [p for p in facts.configurations if p[0] > index and event.retained]
        facts.configurations = [p for p in self.configurations if p[0] <= index] + behind
        if index < facts.commit:
            raise Violation("11 order", f"S{facts.server} goes back from {facts.commit} to {index}")
        facts.commit = index

    def _compacted(self, facts: Facts, core: Core, event: LogCompacted) -> None:
        self.coverage["log compacted"] += 1
        if not event.first_index - 1 <= event.index <= facts.applied:
            raise Violation(
                "11 order",
                f"S{facts.server} takes a snapshot of {event.index}, but applied {facts.applied} "
                f"and keeps its log from {event.first_index} on",
            )

    # --- Members -------------------------------------------------------------------------------

    def _place(self, facts: Facts, index: int, configuration: Configuration) -> None:
        before_index, before = facts.configurations[-1]
        facts.configurations.append((Index(index), configuration))
        self.coverage["joint configuration" if configuration.is_joint else "configuration"] += 1
        if facts.role is not _LEADER:
            return
        commit_term = self.chains.terms[facts.chain[facts.commit]]
        if before_index > facts.commit or commit_term != facts.term:
            raise Violation(
                "23 one change at a time",
                f"S{facts.server} begins a change at {index} although the configuration "
                f"at {before_index}, or its own term {facts.term}, is not committed",
            )
        if not _overlap(before, configuration):
            raise Violation(
                "23 majorities overlap",
                f"S{facts.server} goes from {before} to {configuration} in one step",
            )

    def _configuration_changed(self, facts: Facts, core: Core, event: ConfigurationChanged) -> None:
        # Not what the core follows by now: more may have come up in the same turn.
        index, known = next(p for p in reversed(facts.configurations) if p[0] <= event.index)
        follows = (event.index, event.voters, event.outgoing, event.learners)
        if follows != (index, known.voters, known.outgoing, known.learners):
            raise Violation(
                "22 configuration",
                f"S{facts.server} follows {event}, but its log says {known} at {index}",
            )

    def _transfer_changed(self, facts: Facts, core: Core, event: TransferChanged) -> None:
        if event.target is None:
            facts.transfer_ended_at = Index(len(facts.chain) - 1)
        else:
            facts.transfer_ended_at = None
            self.coverage["transfer begun"] += 1

    # --- Disks ---------------------------------------------------------------------------------

    def _read(
        self, found: Recovered, first: Configuration
    ) -> tuple[list[Prefix], list[tuple[Index, Configuration]]]:
        chain = [EMPTY]
        configurations = [(Index(0), first)]
        if found.snapshot is not None:
            index = found.snapshot.index
            chain = self.committed[: index + 1]
            configurations = [p for p in self.configurations if p[0] <= index]
            placed = (found.snapshot.configuration_index, found.snapshot.configuration)
            if len(chain) != index + 1 or configurations[-1] != placed:
                raise Violation(
                    "22 configuration",
                    f"a snapshot of {index} on a disk has {placed}, "
                    f"committed is {configurations[-1]}",
                )
        for entry in found.entries:
            chain.append(self.chains.extend(chain[-1], entry))
            if entry.kind is _CONFIGURATION:
                configuration = Configuration.decode(entry.data)
                configurations.append((Index(len(chain) - 1), configuration))
        return chain, configurations

    def _after_save(self, durable: list[Prefix], save: Save) -> HardState | None:
        if save.snapshot is not None:
            durable[: save.snapshot.index + 1] = self.committed[: save.snapshot.index + 1]
        if save.first_index:
            del durable[save.first_index :]
            for entry in save.entries:
                durable.append(self.chains.extend(durable[-1], entry))
        return save.hard_state


def _overlap(one: Configuration, other: Configuration) -> bool:
    """Tell whether every quorum of one shares a server with every quorum of the other (§6)."""
    return any(_halves_overlap(set(a), set(b)) for a in _halves(one) for b in _halves(other))


def _halves(configuration: Configuration) -> list[tuple[ServerId, ...]]:
    return [half for half in (configuration.voters, configuration.outgoing) if half]


def _halves_overlap(one: set[ServerId], other: set[ServerId]) -> bool:
    # As many as possible of each majority outside of the other set; the rest must share.
    shared = len(one & other)
    of_one = max(0, majority(len(one)) - len(one - other))
    of_other = max(0, majority(len(other)) - len(other - one))
    return of_one + of_other > shared
