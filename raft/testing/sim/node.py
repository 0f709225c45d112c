"""One simulated server: the core, its store, its state machine and its clock, with their faults.

It does what ``raft.server`` does, in the same order, but time and everything else that comes
from outside comes from the simulation.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, Protocol

from raft.core.core import Core
from raft.core.events import Role
from raft.core.log import Snapshot
from raft.core.membership import Configuration
from raft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    EntryKind,
    Index,
    InstallSnapshot,
    Message,
    Mismatch,
    RequestPreVote,
    RequestVote,
    ServerId,
    Term,
)
from raft.core.ready import Ready, Refused
from raft.core.rules import Rules
from raft.machine.base import StateMachine
from raft.machine.sessions import Perform, Sessions, decode_request, is_session_request
from raft.storage.base import LogStore, StorageDamaged, StorageError
from raft.testing.session_mutants import SESSION_MUTANTS
from raft.testing.sim.chance import Chance
from raft.testing.sim.clock import LocalClock
from raft.testing.sim.disks import ServerDisk
from raft.testing.sim.facts import Harm, Save
from raft.testing.sim.invariants import Invariants
from raft.testing.sim.machine import Registers
from raft.testing.sim.operations import Operation
from raft.testing.sim.scenario import Scenario

TOGETHER = 0.2
"""How often two saves are done at once, and told of in the wrong order."""

_COMMAND: Final = EntryKind.COMMAND  # slow to look up (Python 3.11)

Watch = Callable[[float, ServerId, object], None]
"""Is told when something happens, to which server (0: to several), and what."""


class Surroundings(Protocol):
    """What a server finds around it."""

    now: float
    scenario: Scenario
    chance: Chance
    invariants: Invariants
    rules: Rules
    watch: Watch | None

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """Do something later."""

    def send(self, node: Node, message: Message) -> None:
        """Let a message leave."""

    def wake_at(self, node: Node, when: float) -> None:
        """Call ``node.wake`` then."""

    def saved_at(self, node: Node, when: float) -> None:
        """Call ``node.save_done`` then."""

    def reply(
        self, node: Node, operation: Operation, accepted: bool, result: bytes, index: Index
    ) -> None:
        """Answer a client."""

    def next_context(self) -> int:
        """Return a number for a read that no other read has."""

    def lease_used(self, node: Node, index: Index) -> None:
        """Look at a read that asked nobody."""

    def failed(self, node: Node, error: StorageError) -> None:
        """Note that a server stopped because of its disk."""


@dataclass(slots=True)
class _Pending:
    """A Ready whose promises wait for the disk."""

    ready: Ready
    save: Save | None


class Node:
    """A server, through all its lives. ``core`` is None while it is down."""

    def __init__(
        self, world: Surroundings, server: ServerId, members: tuple[ServerId, ...], disk: ServerDisk
    ) -> None:
        self.server = server
        self.disk = disk
        self.clock = LocalClock()
        self.core: Core | None = None
        self.life = 0
        self.paused = False
        """It takes nothing in: it is stopped, or still busy with its last turn."""
        self.stopped = False
        self.turn_time = 0.0
        """So long every turn takes: its processor is slow."""
        self.gone = False
        """Its vote is damaged, or it was removed: it never runs again."""
        self.registers = Registers()
        self.machine: StateMachine = self.registers
        self.inbox: list[Message | Operation] = []
        self.pending: deque[_Pending] = deque()
        self.wake_due = math.inf
        self.heard: ServerId | None = None
        """The leader that spoke last in this life, and when (None: it may have been before)."""
        self.heard_at = -math.inf
        self._patience = world.scenario.election_timeout
        self._world = world
        self._scenario = world.scenario
        self._members = members
        self._first = Configuration(tuple(sorted(members)))
        self._disk_delays = world.chance.stream("disk", server)
        self.disk_slowness = 0.0
        self.power_fails = False
        """It will in the middle of the next save."""
        self._store: LogStore | None = None
        self._save_waits = self._catching_up = False
        self._proposals: dict[Index, tuple[Term, Operation]] = {}
        self._reads: dict[int, Operation] = {}
        self._confirmed: list[tuple[Index, Operation]] = []

    # --- Life ----------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """It takes part: it is neither down nor stopped."""
        return self.core is not None and not self.stopped

    @property
    def now(self) -> float:
        """What its clock says."""
        return self.clock.at(self._world.now)

    def set_clock_rate(self, rate: float) -> None:
        """Let its clock run faster or slower than others from now on."""
        self.clock.set_rate(rate, self._world.now)
        self._arm_anew()

    def jump_clock(self, by: float) -> None:
        """Let its clock show so many seconds more at once."""
        self.clock.jump(by, self._world.now)
        self._arm_anew()

    def _arm_anew(self) -> None:
        if self.core is not None:
            self.wake_due = math.inf
            self._arm(self.core)

    def start(self) -> None:
        """Start from the disk. Raises StorageError, and the server stays down."""
        world, scenario = self._world, self._scenario
        self._store, found = self.disk.open()
        if not world.invariants.started(self.server, found, self._first, self.disk.harm):
            self.disk.kill()
            raise StorageDamaged("the disk is as it was before; only the simulation can tell")
        self.disk.harm = Harm.NONE
        self.life += 1
        self.heard, self.heard_at = None, self.now
        self._new_machine()
        if found.snapshot is not None:
            self._restore(found.snapshot)
        self.core = Core(
            scenario.config(self.server, self._members),
            found.hard_state,
            found.entries,
            world.chance.stream("timeouts", self.server, self.life),
            self.clock.at(world.now),
            world.rules,
            found.snapshot,
        )
        self.turn()

    def kill(self, kept: int) -> None:
        """End the process; of the saves under way ``kept`` are done, and the others not begun."""
        self._keep(kept)
        self.disk.kill()
        self._end()

    def lose_power(self, kept: int) -> None:
        """Cut the power after ``kept`` of the saves under way, in the middle of the next."""
        self._keep(kept)
        under_way = next((p.save for p in self.pending if p.save is not None), None)
        if under_way is not None:
            self._world.invariants.interrupted(self.server, under_way)
        self.disk.power_loss(under_way, self._store)
        self._end()

    def _keep(self, kept: int) -> None:
        """Let the first saves under way reach the disk, as far as it lets them."""
        try:
            while kept and self.pending:
                kept -= 1
                if (save := self.pending[0].save) is not None:
                    self._store_now(save)
                self.pending.popleft()
        except StorageError:
            self._world.invariants.coverage["stopped by its disk"] += 1

    def _end(self) -> None:
        self.core = self._store = None
        self.life += 1
        self.paused = self.stopped = self._save_waits = False
        self.wake_due = math.inf
        self.inbox.clear()
        self.pending.clear()
        self._proposals.clear()
        self._reads.clear()
        self._confirmed.clear()

    def pause(self) -> None:
        """Stop working, but not existing: what arrives waits."""
        self.stopped = self.paused = True

    def resume(self) -> None:
        """Go on, with all that has come up meanwhile at once."""
        self.stopped = self.paused = False
        # What was due while nobody listened has gone by.
        self.wake_due = math.inf
        self._catching_up = True
        self._take_waiting()
        self._catching_up = False
        if self._save_waits and not self.paused:
            self._save_waits = False
            self.save_done()
        if self.core is not None and not self.paused:
            self.core.tick(self.clock.at(self._world.now))
            self.turn()

    def _take_waiting(self) -> None:
        inbox, self.inbox = self.inbox, []
        for number, what in enumerate(inbox):
            core = self.core
            if core is None:
                return  # Its disk failed.
            if self.paused:
                self.inbox[:0] = inbox[number:]
                return
            if isinstance(what, Operation):
                self.request(what)
            else:
                self._step(core, what, self.now)

    # --- Inputs --------------------------------------------------------------------------------

    def take(self, message: Message) -> None:
        """Take in a message from another server."""
        core = self.core
        if core is None:
            return
        if self.paused:
            self.inbox.append(message)
            return
        now = self.clock.at(self._world.now)
        self._step(core, message, now)
        self._turn(core, now)

    def _step(self, core: Core, message: Message, now: float) -> None:
        kind = type(message)
        if kind is RequestPreVote:
            before = (core.term, core.voted_for)
            self._note_patience(core, message, now)
            core.step(message, now)
            self._world.invariants.pre_vote_taken(before, core)
        elif isinstance(message, RequestVote):
            voted = core.voted_for if core.term == message.term else None
            self._note_patience(core, message, now)
            core.step(message, now)
            self._world.invariants.vote_asked(message, core, voted)
        elif isinstance(message, AppendEntriesReply) and type(message.outcome) is Mismatch:
            self._take_refusal(core, message, now)
        else:
            core.step(message, now)
            if (kind is AppendEntries or kind is InstallSnapshot) and core.term == message.term:
                self.heard, self.heard_at = message.src, now

    def _note_patience(self, core: Core, request: Message, now: float) -> None:
        """Tell of a server that is asked for a vote while it has a leader (thesis §4.2.3)."""
        leads = core.role is Role.LEADER
        alive = self.server if leads else self.heard
        self._world.invariants.vote_refused_if(
            self.server,
            (leads or now - self.heard_at < self._patience)
            and alive not in (None, request.src)
            and (self._scenario.check_quorum or isinstance(request, RequestPreVote))
            and not (isinstance(request, RequestVote) and request.transfer)
            # Of what waited, nobody can tell afterwards what was decided in between.
            and not self._catching_up,
        )

    def is_patient_with(self, leader: ServerId) -> bool:
        """Tell whether it would still refuse to vote for anyone else than this leader.

        One that is down will be patient when it starts: it does not know whom it heard.
        """
        return self.core is None or (self.heard in (None, leader) and self.is_patient)

    @property
    def is_patient(self) -> bool:
        """It heard a leader within the shortest election timeout, or may have."""
        return self.now - self.heard_at < self._patience

    def _take_refusal(self, core: Core, reply: AppendEntriesReply, now: float) -> None:
        progress = core.progress.get(reply.src)
        before = progress.next_index if progress is not None else 0
        core.step(reply, now)
        if progress is not None and progress.next_index < before and not progress.match_index:
            self._world.invariants.sent_back(reply)

    def wake(self) -> bool:
        """Let the timer fire if it is due; tell whether it was."""
        core, world = self.core, self._world
        if core is None or self.paused or world.now != self.wake_due:
            return False
        self.wake_due = math.inf
        if self.clock.when(core.deadline) > world.now:
            self._arm(core)
            return False
        core.tick(max(self.clock.at(world.now), core.deadline))
        self.turn()
        return True

    def request(self, operation: Operation) -> None:
        """Take in a client's request."""
        core, world = self.core, self._world
        if core is None:
            return
        if self.paused:
            self.inbox.append(operation)
            return
        now = self.clock.at(world.now)
        if operation.is_write:
            index = core.propose(operation.proposal, now)
            if isinstance(index, Refused):
                world.reply(self, operation, False, b"", Index(0))
            else:
                self._proposals[index] = core.term, operation
        elif operation.by_lease and (lease := core.lease_read(now)) is not None:
            world.lease_used(self, lease)
            self._confirmed.append((lease, operation))
        else:
            context = world.next_context()
            world.invariants.read_asked(context)
            if core.read_index(context, now):
                self._reads[context] = operation
            else:
                world.reply(self, operation, False, b"", Index(0))
        self.turn()

    # --- The turn ------------------------------------------------------------------------------

    def turn(self) -> None:
        """Do all that has come up."""
        assert self.core is not None
        self._turn(self.core, self.now)

    def _turn(self, core: Core, now: float) -> None:
        world, life = self._world, self.life
        again = True
        while again:
            ready = core.ready(now)
            events = core.take_events()
            if events:
                if world.watch is not None:
                    for event in events:
                        world.watch(world.now, self.server, event)
                world.invariants.happened(core, events)
            if ready is None:
                break
            again = self._work_off(core, ready, now)
            if self.life != life:
                return
            if self.turn_time:
                self._be_busy()
        if self._confirmed:
            self._answer_reads(core)
        self._arm(core)

    def _be_busy(self) -> None:
        """Take nothing in before the time of a turn is over; what a turn sends leaves at once."""
        if not self.paused:
            self.paused = True
            self._world.after(self.turn_time, partial(self._turn_over, self.life))

    def _turn_over(self, life: int) -> None:
        if self.life == life and not self.stopped:
            if self.inbox:
                self._world.invariants.coverage["slow server: work waits"] += 1
            self.resume()

    def _arm(self, core: Core) -> None:
        # One wake-up at a time: most deadlines move on before they are reached.
        due = self.clock.when(core.deadline)
        if due < self.wake_due:
            self.wake_due = due = max(due, self._world.now)
            self._world.wake_at(self, due)

    def _work_off(self, core: Core, ready: Ready, now: float) -> bool:
        """Do one Ready; tell whether more may have come up by doing it."""
        world = self._world
        for message in ready.messages:
            world.send(self, message)
        save = None
        if ready.hard_state is not None or ready.first_index or ready.snapshot is not None:
            save = Save(ready.hard_state, ready.first_index, ready.entries, ready.snapshot)
        more = False
        if save is None and not self.pending:
            # Nothing to wait for, as for most.
            for message in ready.messages_after_persist:
                world.send(self, message)
        elif self.pending or self._scenario.disk_delay or self.disk_slowness:
            self.pending.append(_Pending(ready, save))
            if len(self.pending) == 1:
                self._begin_save()
        elif self._finish(core, (_Pending(ready, save),)):
            more = True
        else:
            return False
        if ready.restore and ready.snapshot is not None:
            self._restore(ready.snapshot)
            world.invariants.restored(self.server, ready.snapshot.index)
            core.applied(ready.snapshot.index)
        if ready.committed_entries:
            self._apply(core, ready)
            more = True
        for state in ready.read_states:
            operation = self._reads.pop(state.context, None)
            if operation is not None:
                world.invariants.read_answered(self.server, state)
                self._confirmed.append((state.index, operation))
        return more

    def _apply(self, core: Core, ready: Ready) -> None:
        first_index, entries = ready.first_committed, ready.committed_entries
        self._world.invariants.applied(self.server, first_index, entries)
        for index, entry in enumerate(entries, first_index):
            answer = b""
            if entry.kind is _COMMAND:
                answer = self._carry_out(Index(index), entry.data)
            if self._proposals and (mine := self._proposals.pop(Index(index), None)) is not None:
                term, operation = mine
                self._world.reply(self, operation, entry.term == term, answer, Index(index))
        last = Index(first_index + len(entries) - 1)
        core.applied(last)
        every = self._scenario.compact_every
        if every and last - (core.snapshot.index if core.snapshot else 0) >= every:
            core.compact(self._whole_state(last), self._scenario.keep_entries)

    def _carry_out(self, index: Index, command: bytes) -> bytes:
        invariants, registers = self._world.invariants, self.registers
        before = registers.effects
        answer = self.machine.apply(index, command)
        if registers.effects != before:
            inner = command
            if is_session_request(command):
                inner = _performed(command)
            invariants.took_effect(self.server, index, inner)
        invariants.digest(self.server, index, registers.digest)
        return answer

    def _whole_state(self, index: Index) -> bytes:
        state = self.machine.snapshot()
        self._world.invariants.whole_state(self.server, index, state)
        return state

    def _new_machine(self) -> None:
        self.registers = self.machine = Registers()
        if most := self._scenario.sessions:
            mutant = self._scenario.session_mutant
            sessions = SESSION_MUTANTS[mutant] if mutant else Sessions
            self.machine = sessions(self.registers, max_sessions=most)

    def _restore(self, snapshot: Snapshot) -> None:
        self.machine.restore(snapshot.data)
        invariants = self._world.invariants
        invariants.digest(self.server, snapshot.index, self.registers.digest)
        invariants.whole_state(self.server, snapshot.index, self.machine.snapshot())

    def compact(self, keep_entries: int) -> None:
        """Take a snapshot now."""
        if self.running and self.core is not None:
            self.core.compact(self._whole_state(self.core.last_applied), keep_entries)
            self.turn()

    def _answer_reads(self, core: Core) -> None:
        waiting = []
        for index, operation in self._confirmed:
            if index <= core.last_applied:
                value = self.machine.query(operation.key)
                self._world.reply(self, operation, True, value, core.last_applied)
            else:
                waiting.append((index, operation))
        self._confirmed = waiting

    # --- The disk ------------------------------------------------------------------------------

    def _begin_save(self) -> None:
        delay = 0.0
        if self.pending[0].save is not None:
            slowest = self._scenario.disk_delay + self.disk_slowness
            delay = slowest * self._disk_delays.random()
        self._world.saved_at(self, self._world.now + delay)

    def save_done(self) -> None:
        """Note that the oldest save under way is done, and now and then the next one too."""
        if self.core is None or not self.pending:
            return
        if self.paused:
            self._save_waits = True
            return
        done = [self.pending.popleft()]
        if self.pending and self._disk_delays.random() < TOGETHER:
            done.append(self.pending.popleft())
        if not self._finish(self.core, done):
            return
        if self.pending:
            self._begin_save()
        self.turn()

    def _finish(self, core: Core, done: Sequence[_Pending]) -> bool:
        """Store, and keep the promises that waited for it; False: the disk stopped the server."""
        try:
            for pending in done:
                if pending.save is not None:
                    self._store_now(pending.save)
        except StorageError as error:
            self._world.failed(self, error)
            return False
        # The disk does one after the other, but tells in any order; no promise is kept before
        # all that it rests on is told of.
        now = self.clock.at(self._world.now)
        for pending in reversed(done):
            core.persisted(pending.ready.number, now)
        for pending in done:
            for message in pending.ready.messages_after_persist:
                self._world.send(self, message)
        return True

    def _store_now(self, save: Save) -> None:
        assert self._store is not None
        try:
            if self.power_fails:
                self.power_fails = False
                self._world.invariants.coverage["power lost in the middle of a save"] += 1
                self.disk.power_loss(save, self._store)
                raise StorageError("the power failed")
            save.to(self._store)
        except StorageError:
            # What was written may be there after all.
            self._world.invariants.interrupted(self.server, save)
            raise
        self._world.invariants.stored(self.server, save)


@lru_cache(1024)
def _performed(request: bytes) -> bytes:
    """Return what a session's request performs: each server is about to apply the same one."""
    decoded = decode_request(request)
    assert isinstance(decoded, Perform)
    return decoded.command
