"""Rules for servers: leaders (§5.3, §5.4; §6 to §8; thesis §3.10, §6.2, §6.4).

A leadership is an object that lives as long as its server leads: everything that is volatile
on leaders dies with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raft.core.events import (
    ProgressChanged,
    Role,
    RoleChanged,
    RoleReason,
    SnapshotSent,
    TransferChanged,
)
from raft.core.log import size_of
from raft.core.membership import Change, Configuration, ConfigurationError
from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    EntryKind,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    Mismatch,
    ReadIndexReply,
    ServerId,
    StaleTerm,
    TimeoutNow,
)
from raft.core.progress import Progress, Window
from raft.core.readonly import PendingRead, ReadQueue, ReadRequest, ReadState
from raft.core.ready import Refusal, Refused
from raft.core.state import State


class Leadership:
    """What a server knows and does while it leads one term."""

    def __init__(self, state: State, now: float) -> None:
        """Upon election: nextIndex starts after the last entry, a heartbeat goes to everybody.

        The heartbeat carries a no-op, the first entry of the term: only when it commits does
        the leader know which older entries are committed (§5.4.2, §8).
        """
        self.progress: dict[ServerId, Progress] = {}
        self.transferee: ServerId | None = None
        self._state = state
        self._transfer_deadline = 0.0
        self._asked_to_elect = False
        self._reads = ReadQueue()
        self._round = 0
        self._confirmed_round = 0
        self._rounds_sent_at: dict[int, float] = {}
        self._lease_end = float("-inf")
        self._broadcast_due = True
        uncommitted = state.log.entries(state.commit_index + 1, state.log.last_index)
        self._uncommitted_bytes = size_of(uncommitted)
        state.role = Role.LEADER
        state.emit(RoleChanged(state.role, state.term, RoleReason.WON_ELECTION))
        state.set_leader(state.me)
        self._follow_configuration(Index(state.log.last_index + 1), now)
        self._append(Entry(state.term, EntryKind.NOOP))
        state.arm_heartbeat_timer(now)

    # --- Time ------------------------------------------------------------------------------------

    def tick(self, now: float) -> RoleReason | None:
        """Send heartbeats (§5.2), or return why to step down."""
        if self.transferee is not None and now >= self._transfer_deadline:
            self._set_transferee(None)
            self._leave_joint(now)
        if self._state.config.check_quorum and not self._hears_quorum(now):
            return RoleReason.QUORUM_LOST
        self._broadcast_due = True
        self._state.arm_heartbeat_timer(now)
        return None

    def _hears_quorum(self, now: float) -> bool:
        """Tell whether a majority answered within the last election timeout (thesis §6.2)."""
        state = self._state
        heard = {peer: progress.heard_at for peer, progress in self.progress.items()}
        heard[state.me] = now
        at = state.configuration.quorum_value(heard, state.rules.quorum, float("-inf"))
        return now - at <= state.config.election_timeout_max

    # --- Proposals -------------------------------------------------------------------------------

    def propose(self, commands: Sequence[bytes]) -> Index | Refused:
        """Append clients' commands (§5.3), all or none; return the index of the first one."""
        if self.transferee is not None:
            return Refused(Refusal.TRANSFERRING, f"leadership goes to S{self.transferee}")
        state = self._state
        entries = tuple([Entry(state.term, EntryKind.COMMAND, command) for command in commands])
        size = size_of(entries)
        if self._uncommitted_bytes and (
            self._uncommitted_bytes + size > state.config.max_uncommitted_bytes
        ):
            return Refused(Refusal.BUSY, f"{self._uncommitted_bytes} bytes wait to be committed")
        first_index = Index(state.log.last_index + 1)
        state.append(entries)
        self._uncommitted_bytes += size
        return first_index

    def _append(self, entry: Entry) -> Index:
        self._state.append((entry,))
        self._uncommitted_bytes += size_of((entry,))
        return self._state.log.last_index

    # --- Answers from followers ------------------------------------------------------------------

    def on_append_reply(self, reply: AppendEntriesReply, now: float) -> None:
        """Advance what is known of a follower, or go back to where the logs may agree."""
        if isinstance(reply.outcome, StaleTerm):
            # It answers a request of an older term, and has caught up with this one since.
            self._state.ignore(reply, "it refuses a term that it shares")
            return
        progress = self._heard(reply, now)
        if progress is None:
            return
        before = (progress.next_index, progress.match_index)
        match reply.outcome:
            case Appended(match_index):
                # If successful: update nextIndex and matchIndex for follower (§5.3).
                self._acknowledge(reply.src, progress, match_index)
            case Mismatch() as conflict:
                # If it fails because of log inconsistency: decrement nextIndex and retry (§5.3).
                retry_from = self._state.rules.retry_from(self._state.log, conflict)
                if progress.refused(conflict.prev_log_index, retry_from, reply.round):
                    # By their round, answers to what was sent before are known from now on.
                    self._round += 1
                    progress.back_since = self._round
                else:
                    self._state.ignore(reply, "a later answer has overtaken this refusal")
        self._tell_progress(reply.src, progress, before)

    def on_snapshot_reply(self, reply: InstallSnapshotReply, now: float) -> None:
        """Go on with a snapshot where the follower wants it, or with the log behind it."""
        progress = self._heard(reply, now)
        if progress is None:
            return
        before = (progress.next_index, progress.match_index)
        transfer = progress.transfer
        if reply.installed:
            self._acknowledge(reply.src, progress, reply.last_index)
        elif transfer is None or transfer.snapshot.index != reply.last_index:
            self._state.ignore(reply, "that snapshot is not on its way any more")
        elif not transfer.go_on_from(reply.next_offset, reply.round):
            self._state.ignore(reply, "it may be an earlier answer; a heartbeat will tell")
        self._tell_progress(reply.src, progress, before)

    def _heard(
        self, reply: AppendEntriesReply | InstallSnapshotReply, now: float
    ) -> Progress | None:
        progress = self.progress.get(reply.src)
        if progress is None:
            self._state.ignore(reply, f"S{reply.src} is no member any more")
            return None
        progress.heard_at = now
        if reply.round > progress.round:
            progress.round, progress.patience = reply.round, reply.patience
            if reply.round > self._confirmed_round:
                self._confirm_round(now)
        return progress

    def _acknowledge(self, follower: ServerId, progress: Progress, match_index: Index) -> None:
        state = self._state
        if match_index > state.log.last_index:
            raise state.violation(
                f"S{follower} acknowledges index {match_index} of a log of {state.log.last_index}"
            )
        progress.acknowledged(match_index)
        if follower == self.transferee:
            self._hand_over_if_ready(follower)

    def _tell_progress(
        self, peer: ServerId, progress: Progress, before: tuple[Index, Index]
    ) -> None:
        if (progress.next_index, progress.match_index) != before:
            self._state.emit(ProgressChanged(peer, progress.next_index, progress.match_index))

    # --- Commitment ------------------------------------------------------------------------------

    def advance_commit(self, now: float) -> bool:
        """If a majority has an entry of the current term, commit it (§5.3, §5.4.2).

        The leader's own log counts as far as it is on its disk, and if it is a voter at all.
        Returns whether anything was committed.
        """
        state = self._state
        if state.commit_index == state.log.last_index:
            return False
        matched = {peer: progress.match_index for peer, progress in self.progress.items()}
        matched[state.me] = state.saves.stable_index
        index = state.rules.committed_index(state.configuration, matched)
        if index <= state.commit_index:
            return False
        term = state.log.term_at(index)
        if term is None or not state.rules.may_commit(term, state.term):
            return False
        self._uncommitted_bytes -= size_of(state.log.entries(state.commit_index + 1, index))
        state.commit_to(index)
        for request in self._reads.take_early():
            self._begin_read(request)
        self._leave_joint(now)
        return True

    @property
    def removed(self) -> bool:
        """A configuration without this server as a voter is committed: it must step down (§6)."""
        state = self._state
        committed = state.configurations.index <= state.commit_index
        return committed and not state.configuration.is_voter(state.me)

    # --- Replication -----------------------------------------------------------------------------

    def send_appends(self, now: float) -> None:
        """Send each follower what it lacks.

        If last log index ≥ nextIndex for a follower: send AppendEntries with the log entries
        starting at nextIndex (Figure 2, rules for servers: leaders; §5.3).
        """
        broadcast, self._broadcast_due = self._broadcast_due, False
        if broadcast:
            self._round += 1
            if self._state.config.check_quorum:
                self._rounds_sent_at[self._round] = now
            self._confirm_round(now)
        last_index = self._state.log.last_index
        for peer, progress in self.progress.items():
            if broadcast or progress.next_index <= last_index or progress.transfer is not None:
                self._send(peer, progress, broadcast=broadcast)

    def send_last_appends(self, now: float) -> None:
        """Tell everybody what is committed, before stepping down."""
        self._broadcast_due = True
        self.send_appends(now)

    def _send(self, peer: ServerId, progress: Progress, *, broadcast: bool) -> None:
        """Send what there is to send, and a broadcast in any case.

        What is out already is not sent again with it: on a slow link copies would queue up before
        all that is new. The answer to the broadcast tells whether it was lost.
        """
        last_index = self._state.log.last_index
        if progress.transfer is not None or progress.next_index <= self._state.log.prev_index:
            self._send_piece(peer, progress, must_send=broadcast)
        elif progress.may_append(last_index):
            while progress.may_append(last_index):
                self._send_batch(peer, progress)
        elif broadcast:
            self._send_append(peer, progress, ())

    def _send_batch(self, peer: ServerId, progress: Progress) -> None:
        state = self._state
        entries, size = state.log.batch(progress.next_index, state.config.max_append_bytes)
        self._send_append(peer, progress, entries)
        before = (progress.next_index, progress.match_index)
        progress.sent(Index(progress.next_index + len(entries) - 1), size)
        self._tell_progress(peer, progress, before)

    def _send_append(self, peer: ServerId, progress: Progress, entries: tuple[Entry, ...]) -> None:
        """Send AppendEntries with these entries from nextIndex on; without any: a heartbeat."""
        state = self._state
        prev_index = Index(progress.next_index - 1)
        prev_term = state.log.term_at(prev_index)
        if prev_term is None:
            raise state.violation(f"nextIndex {progress.next_index} of S{peer} is past the log")
        state.send(
            AppendEntries(
                state.me,
                peer,
                state.term,
                prev_index,
                prev_term,
                entries,
                state.commit_index,
                self._round,
            )
        )

    def _send_piece(self, peer: ServerId, progress: Progress, *, must_send: bool) -> None:
        """Send the next piece of a snapshot (§7): one at a time, so that it crowds nothing out.

        While that is out, a broadcast is a piece of no bytes: it asks where to go on.
        """
        state = self._state
        snapshot = state.snapshot
        if snapshot is None:
            raise state.violation(
                f"S{peer} needs entry {progress.next_index}, and no snapshot has it"
            )
        transfer = progress.send_snapshot(snapshot)
        asks = transfer.waiting
        if asks and not must_send:
            return
        sent, size = transfer.snapshot, 0 if asks else state.config.snapshot_chunk_bytes
        data = sent.data[transfer.offset : transfer.offset + size]
        state.send(
            InstallSnapshot(
                state.me,
                peer,
                state.term,
                sent.index,
                sent.term,
                sent.configuration.encode(),
                len(sent.data),
                transfer.checksum,
                transfer.offset,
                data,
                self._round,
                sent.configuration_index,
            )
        )
        if not asks:
            transfer.sent(self._round)
            state.emit(SnapshotSent(peer, sent.index, transfer.offset, len(sent.data)))

    # --- Reads (§8; thesis §6.4) -----------------------------------------------------------------

    def read(self, request: ReadRequest) -> None:
        """Find out at which index a read is up to date."""
        state = self._state
        if state.rules.may_read(state.log.term_at(state.commit_index), state.term):
            self._begin_read(request)
        else:
            self._reads.wait_for_commit(request)

    def _begin_read(self, request: ReadRequest) -> None:
        """Note the commitIndex, then hear from a majority in a round that begins after now."""
        self._reads.wait_for_round(PendingRead(request, self._round + 1, self._state.commit_index))
        self._broadcast_due = True

    def _confirm_round(self, now: float) -> None:
        """Let a majority's answers to a broadcast confirm reads, and prolong the lease."""
        if not self._reads.waiting and not self._rounds_sent_at:
            return
        state = self._state
        rounds = {peer: progress.round for peer, progress in self.progress.items()}
        rounds[state.me] = self._round
        confirmed = state.rules.confirmed_round(state.configuration, rounds)
        self._confirmed_round = confirmed
        for read in self._reads.take_confirmed(confirmed):
            self._answer_read(read)
        if any(round_ <= confirmed for round_ in self._rounds_sent_at):
            lease = self._patience(confirmed) * (1 - state.config.clock_drift)
            for round_ in [r for r in self._rounds_sent_at if r <= confirmed]:
                start = state.rules.lease_start(self._rounds_sent_at.pop(round_), now)
                self._lease_end = max(self._lease_end, start + lease)

    def _patience(self, round_: int) -> float:
        """Return for how many seconds after ``round_`` nobody who answered it elects another.

        Those voters are a majority, in a joint configuration one of the old and one of the new;
        so whoever is elected without this leader's doing has the vote of one of them, or is one.
        What they say of themselves counts, not what this server would do in their place: a cluster
        whose settings are being changed has servers with more patience and with less, and those
        that have none, or are too old to tell, say 0. Who answered nothing is not needed.
        """
        state = self._state
        told = [
            progress.patience
            for peer, progress in self.progress.items()
            if progress.round >= round_ and state.configuration.is_voter(peer)
        ]
        return min([state.config.patience, *told]) / 1000

    def _answer_read(self, read: PendingRead) -> None:
        state = self._state
        if read.request.server == state.me:
            state.outbox.read_states.append(ReadState(read.request.context, read.index))
        else:
            state.send(
                ReadIndexReply(
                    state.me, read.request.server, state.term, read.request.context, read.index
                )
            )

    def lease_read(self, now: float) -> Index | None:
        """Return the index for a read that asks nobody, None without a lease (thesis §6.4.1).

        No other leader can be elected before the patience of a majority has passed, however slow
        this server's clock is within ``clock_drift``. A leader that has asked for an election
        itself has no lease any more: that message may arrive at any time, long after the transfer
        was given up. (Nor does a lease survive an election that a person calls for early, by
        ``Core.campaign``; nor one that a server takes part in which has told of more patience,
        and was restarted with less before that was over.)
        """
        state, config = self._state, self._state.config
        holds = now < self._lease_end
        fresh = state.rules.may_read(state.log.term_at(state.commit_index), state.term)
        void = self._asked_to_elect or self.transferee is not None
        if config.check_quorum and holds and fresh and not void:
            return state.commit_index
        return None

    # --- Members (§6; thesis chapter 4) ----------------------------------------------------------

    def change(
        self, changes: Iterable[Change], expected_index: Index | None, now: float
    ) -> Index | Refused:
        """Begin to change the members; return the index of the first step's entry."""
        state = self._state
        placed = state.configurations
        if self.transferee is not None:
            return Refused(Refusal.TRANSFERRING, f"leadership goes to S{self.transferee}")
        if not self._may_change_members:
            return Refused(
                Refusal.NO_COMMIT_YET, f"nothing of term {state.term} is committed yet; try again"
            )
        if placed.index > state.commit_index or placed.latest.is_joint:
            return Refused(
                Refusal.CHANGE_IN_PROGRESS, f"the change at index {placed.index} is not over yet"
            )
        if expected_index is not None and expected_index != placed.index:
            return Refused(
                Refusal.CONFIGURATION_MOVED,
                f"the configuration is that of index {placed.index}, not of {expected_index}",
            )
        try:
            target = placed.latest.after(changes)
        except ConfigurationError as error:
            return Refused(Refusal.IMPOSSIBLE, str(error))
        step = state.rules.next_configuration(placed.latest, target)
        if (reason := step.too_long()) is not None:
            return Refused(Refusal.IMPOSSIBLE, reason)
        return self._append_configuration(step, now)

    def _leave_joint(self, now: float) -> None:
        """Append C_new once C_old,new is committed, whoever began the change (§6).

        But not while leadership is handed over: the one who takes over, and will do it, could lose
        the election for want of this entry.
        """
        state = self._state
        placed = state.configurations
        if self.transferee is not None or not self._may_change_members:
            return
        if placed.latest.is_joint and state.rules.may_leave_joint(placed.index, state.commit_index):
            self._append_configuration(placed.latest.left_joint(), now)

    @property
    def _may_change_members(self) -> bool:
        state = self._state
        return state.rules.may_change_members(state.log.term_at(state.commit_index), state.term)

    def _append_configuration(self, configuration: Configuration, now: float) -> Index:
        entry = Entry(self._state.term, EntryKind.CONFIGURATION, configuration.encode())
        index = self._append(entry)
        self._follow_configuration(index, now)
        # The lease begins anew, with a round that a majority of this configuration answers: it has
        # a server in common with each that can elect by this one, or by the one before. Those who
        # gave the old lease need not: two steps from here nobody asks them for their votes.
        self._rounds_sent_at.clear()
        self._lease_end = float("-inf")
        return index

    def _follow_configuration(self, next_index: Index, now: float) -> None:
        """Keep progress of exactly the other members; new ones are probed at ``next_index``."""
        state = self._state
        for peer in [p for p in self.progress if p not in state.peers]:
            del self.progress[peer]
        for peer in state.peers:
            if peer not in self.progress:
                config = state.config
                window = Window(config.max_inflight_messages, config.max_inflight_bytes)
                progress = Progress(next_index, window, heard_at=now)
                self.progress[peer] = progress
                state.emit(ProgressChanged(peer, progress.next_index, progress.match_index))

    # --- Leadership transfer (thesis §3.10) ------------------------------------------------------

    def transfer(self, target: ServerId | None, now: float) -> Refused | None:
        """Begin to hand over: to ``target``, or to the voter that has most of the log.

        Of those heard lately, if there are any: one that is down would never take over.
        """
        voters = [p for p in self.progress if p in self._state.configuration.voters]
        if target is None:
            if not voters:
                return Refused(Refusal.IMPOSSIBLE, "there is no other voter to lead")
            target = max(voters, key=lambda peer: self._fitness(peer, now))
        if target == self._state.me:
            return Refused(Refusal.IMPOSSIBLE, f"S{target} leads already")
        if target not in voters:
            return Refused(Refusal.IMPOSSIBLE, f"S{target} is no voter")
        if self.transferee is not None and self.transferee != target:
            return Refused(Refusal.TRANSFERRING, f"leadership already goes to S{self.transferee}")
        if self.transferee is None:
            # To ask again gives it no more time: writes are refused meanwhile.
            self._transfer_deadline = now + self._state.config.election_timeout_max
        self._set_transferee(target)
        self._hand_over_if_ready(target)
        return None

    def _fitness(self, peer: ServerId, now: float) -> tuple[bool, Index, int]:
        progress = self.progress[peer]
        heard_lately = now - progress.heard_at < self._state.config.election_timeout_min
        return heard_lately, progress.match_index, -peer

    def _set_transferee(self, target: ServerId | None) -> None:
        if target != self.transferee:
            self.transferee = target
            self._state.emit(TransferChanged(target))

    def _hand_over_if_ready(self, target: ServerId) -> None:
        state = self._state
        match_index = self.progress[target].match_index
        if state.rules.may_take_over(match_index, state.log.last_index):
            self._asked_to_elect = True
            state.send(TimeoutNow(state.me, target, state.term))
