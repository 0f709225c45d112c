"""A cluster of cores in memory: no clock, no socket, no disk, and nothing happens by itself.

The network hands over, loses, repeats or holds back a message only when told to; time passes
only by :meth:`Network.advance`. After each step all promises of :mod:`raft.testing.safety`
are checked. What a test, a transcript or a simulation does with it is up to them::

    network = Network(3)
    network.fire(1)                        # S1's election timer
    network.settle()                       # all messages arrive, and the answers to them
    network.propose(1, b"x=1")

The state machine of every server is the list of the commands that it has applied.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from raft.core.core import Config, Core, Ready
from raft.core.events import CoreEvent, Role
from raft.core.log import HardState
from raft.core.membership import Change, Configuration
from raft.core.messages import (
    AppendEntries,
    Entry,
    EntryKind,
    Index,
    Message,
    RequestPreVote,
    ServerId,
    Term,
)
from raft.core.readonly import ReadState
from raft.core.ready import Refused
from raft.core.rules import Rules
from raft.testing.safety import Disk, NoProgress, Safety, Strict

SETTLE_LIMIT = 10_000
"""Messages that one :meth:`Network.each` delivers before it gives up."""


class ImpossibleRequest(Exception):  # noqa: N818 - says what was asked, not what went wrong
    """The network was asked for something that it cannot do; the text says why."""


@dataclass(eq=False, slots=True)
class Flight:
    """A message on its way. A held one is passed over until it is released."""

    message: Message
    held: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that one server did: an event, a message it sent, a read it may answer."""

    server: ServerId
    what: CoreEvent | Message | ReadState


@dataclass(slots=True)
class _Work:
    """What a running server has still to do; a crash loses it."""

    unsaved: deque[Ready] = field(default_factory=deque)
    written: int = 0
    """The number of the last Ready that is on disk, whether that is reported or not."""
    reads: list[ReadState] = field(default_factory=list)
    state: bytes = b""
    """Its state machine: the commands it has applied."""


class Network:
    """``size`` servers, S1 to Sn, all following ``rules``; the same seed gives the same run.

    ``cores`` are the servers that run, ``disks`` what each would find after a crash (Figure 2,
    persistent state). ``in_flight`` holds the messages, oldest first. ``cut`` is the set of
    (from, to) links over which nothing arrives. The disk of a server in ``slow`` completes
    no save until :meth:`save`; a crash loses what waits for it. ``judge`` says what is checked;
    ``options`` are those of :class:`Config`.
    """

    def __init__(
        self,
        size: int,
        rules: Rules | None = None,
        seed: int = 0,
        judge: type[Safety] = Strict,
        **options: Any,
    ) -> None:
        self.servers = tuple(ServerId(number) for number in range(1, size + 1))
        self.now = 0.0
        self.safety = judge(Configuration(self.servers))
        self.disks: dict[ServerId, Disk] = {}
        self.cores: dict[ServerId, Core] = {}
        self.in_flight: list[Flight] = []
        self.cut: set[tuple[ServerId, ServerId]] = set()
        self.slow: set[ServerId] = set()
        self._rules = rules or Rules()
        self._random = Random(seed)  # noqa: S311 - a seed must give the same run
        self._config = Config(ServerId(1), self.servers, **options)
        self._work: dict[ServerId, _Work] = {}
        self._trace: list[Happening] = []
        self._reads = 0
        for server in self.servers:
            self.disks[server] = Disk()
            self.restart(server)

    # --- Servers ---------------------------------------------------------------------------------

    def core(self, server: int) -> Core:
        """Return the core of a running server. Raises ImpossibleRequest if it is down."""
        if self._known(server) not in self.cores:
            raise ImpossibleRequest(f"S{server} is down")
        return self.cores[ServerId(server)]

    def configure(self, **options: Any) -> None:
        """Set options of :class:`Config` for all servers; those that run start again."""
        self._config = replace(self._config, **options)
        for server in tuple(self.cores):
            self.crash(server)
            self.restart(server)

    def install(self, server: int, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """Replace all that a server has stored, and start it from there: to set a scene."""
        self.cores.pop(self._known(server), None)
        self.disks[ServerId(server)] = Disk(hard_state, entries)
        self.restart(server)

    def join(self, server: int) -> None:
        """Start a new server, which knows nothing and waits to be called; a known one stays."""
        new = ServerId(server)
        if new not in self.disks:
            self.servers += (new,)
            self.disks[new] = Disk()
            self._start(new, replace(self._config, server=new, members=()))

    def crash(self, server: int) -> None:
        """Stop a server at once. It loses all that no save has completed, and its role."""
        self.core(server)
        del self.cores[ServerId(server)]

    def restart(self, server: int, **options: Any) -> None:
        """Start a server that is down, from its disk. Raises ImpossibleRequest if it runs.

        With ``options`` it differs from the others until it starts again.
        """
        server = self._known(server)
        if server in self.cores:
            raise ImpossibleRequest(f"S{server} runs already")
        members = self._config.members if server in self._config.members else ()
        self._start(server, replace(self._config, server=server, members=members, **options))

    def _start(self, server: ServerId, config: Config) -> None:
        disk = self.disks[server]
        self._work[server] = _Work(state=disk.snapshot.data if disk.snapshot else b"")
        self.cores[server] = Core(
            config,
            disk.hard_state,
            disk.entries,
            Random(self._random.getrandbits(64)),  # noqa: S311
            self.now,
            self._rules,
            disk.snapshot,
        )
        self.safety.started(self.cores[server], disk)
        self._work_off(server)

    def save(self, server: int, reported: Random | None = None) -> None:
        """Let the slow disk of a server complete all that it was given.

        With ``reported`` all of it is written first, and then reported in a random order.
        """
        core = self.core(server)
        unsaved = self._work[core.config.server].unsaved
        while unsaved:
            batch = [unsaved.popleft() for _ in range(len(unsaved) if reported else 1)]
            self._write(core, batch)
            numbers = [ready.number for ready in batch]
            if reported:
                reported.shuffle(numbers)
            for number in numbers:
                core.persisted(number, self.now)
                self._observe(core)
            for ready in batch:
                self._finish(core, ready)
            self._collect(core)

    def report_last(self, server: int) -> None:
        """Let the slow disk of a server write all, and report only of the last that it was given.

        Of what came before it reports with :meth:`save`.
        """
        core = self.core(server)
        unsaved = self._work[core.config.server].unsaved
        if not unsaved:
            raise ImpossibleRequest(f"the disk of S{server} was given nothing to store")
        self._write(core, unsaved)
        core.persisted(unsaved[-1].number, self.now)
        self._collect(core)

    def _write(self, core: Core, batch: Iterable[Ready]) -> None:
        work = self._work[core.config.server]
        for ready in batch:
            if ready.number > work.written:
                self.disks[core.config.server].save(ready)
                work.written = ready.number

    def _known(self, server: int) -> ServerId:
        if server not in self.disks:
            names = ", ".join(f"S{known}" for known in self.servers)
            raise ImpossibleRequest(f"there is no S{server}, only {names}")
        return ServerId(server)

    @property
    def leader(self) -> ServerId | None:
        """The running server that leads the highest term, None if none leads."""
        leaders = [core for core in self.cores.values() if core.role is Role.LEADER]
        return max(leaders, key=lambda core: core.term).config.server if leaders else None

    # --- Inputs of one server --------------------------------------------------------------------

    def fire(self, server: int) -> None:
        """Let time pass until a server's timer fires. No other timer fires, even if due.

        Raises NoProgress for a server that would never wake again.
        """
        core = self.core(server)
        self.now = max(self.now, core.deadline)
        core.tick(self.now)
        if core.deadline <= self.now:
            raise NoProgress(f"the timer of S{server} fired and was not armed again")
        self._work_off(core.config.server)

    def campaign(self, server: int) -> bool:
        """Let a server start an election now; False: it leads, or may not."""
        began = self.core(server).campaign(self.now)
        self._work_off(ServerId(server))
        return began

    def propose(self, server: int, data: bytes) -> Index | Refused:
        """Give a command to a server; returns its index, or why it is not taken."""
        index = self.core(server).propose(data, self.now)
        self._work_off(ServerId(server))
        return index

    def change(
        self, server: int, changes: Iterable[Change], expected_index: int | None = None
    ) -> Index | Refused:
        """Ask a server to change the members; returns the index of the first step's entry."""
        expected = None if expected_index is None else Index(expected_index)
        index = self.core(server).propose_change(changes, self.now, expected)
        self._work_off(ServerId(server))
        return index

    def transfer(self, server: int, to: int | None) -> Refused | None:
        """Ask a server to hand its leadership over; None: it began."""
        target = None if to is None else ServerId(to)
        refused = self.core(server).transfer_leadership(target, self.now)
        self._work_off(ServerId(server))
        return refused

    def forget_leader(self, server: int) -> None:
        """Tell a server that its leader is gone for good."""
        self.core(server).forget_leader()
        self._work_off(ServerId(server))

    def compact(self, server: int, keep_entries: int = 0) -> None:
        """Let a snapshot of what a server has applied take the place of its log."""
        core = self.core(server)
        core.compact(self._work[core.config.server].state, keep_entries)
        self._work_off(core.config.server)

    def read(self, server: int) -> int | None:
        """Ask a server for a read; returns its number, None if it knows no leader."""
        context = self._read_begins()
        accepted = self.core(server).read_index(context, self.now)
        self._work_off(ServerId(server))
        return context if accepted else None

    def lease_read(self, server: int) -> int | None:
        """Ask a server for a read that asks nobody; returns its number, None without a lease."""
        context = self._read_begins()
        index = self.core(server).lease_read(self.now)
        if index is None:
            return None
        self._work[ServerId(server)].reads.append(ReadState(context, index))
        self._work_off(ServerId(server))
        return context

    def _read_begins(self) -> int:
        self._reads += 1
        self.safety.read_asked(self._reads)
        return self._reads

    # --- Time ------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass for all; timers that fall due fire in their order."""
        end = self.now + seconds
        while self.cores:
            core = min(self.cores.values(), key=lambda core: core.deadline)
            if core.deadline > end:
                break
            self.fire(core.config.server)
        self.now = end

    # --- Messages --------------------------------------------------------------------------------

    def put(self, message: Message) -> Flight:
        """Put a message on its way."""
        flight = Flight(message)
        self.in_flight.append(flight)
        return flight

    def deliver(self, flight: Flight) -> None:
        """Let a message arrive. It is lost if its link is cut or its receiver is down."""
        self.in_flight.remove(flight)
        message = flight.message
        core = self.cores.get(message.dst)
        if core is None or (message.src, message.dst) in self.cut:
            return
        before = HardState(core.term, core.voted_for)
        core.step(message, self.now)
        if isinstance(message, RequestPreVote):
            self.safety.pre_voted(core, before)
        self._work_off(message.dst)

    def drop(self, flight: Flight) -> None:
        """Lose a message."""
        self.in_flight.remove(flight)

    def duplicate(self, flight: Flight) -> Flight:
        """Let a message arrive twice: its copy goes on its way as the youngest."""
        return self.put(flight.message)

    def each(self, wanted: Callable[[Message], bool] = lambda _: True) -> Iterator[Message]:
        """Deliver the messages that are ``wanted``, and those sent in answer, until none is left.

        Yields each after it arrived. Held messages stay. Raises NoProgress if it never ends.
        """
        for _ in range(SETTLE_LIMIT):
            flight = next((f for f in self.in_flight if not f.held and wanted(f.message)), None)
            if flight is None:
                return
            self.deliver(flight)
            yield flight.message
        raise NoProgress(f"messages beget messages: not quiet after {SETTLE_LIMIT} of them")

    def settle(self, wanted: Callable[[Message], bool] = lambda _: True) -> None:
        """Deliver all that :meth:`each` would."""
        for _ in self.each(wanted):
            pass

    def greet(self, leader: int, follower: int, prev_index: int) -> Flight:
        """Send the empty AppendEntries of the paper's leader, after ``prev_index``.

        Figure 2 sends it upon election. The leaders of this core never do, since they have a
        no-op to send; but servers must take it, and Figure 8 (c) needs its answer.
        """
        core = self.core(leader)
        prev_term = core.log.term_at(prev_index)
        if core.role is not Role.LEADER or prev_term is None:
            raise ImpossibleRequest(f"S{leader} does not lead, or has no entry {prev_index}")
        return self.put(
            AppendEntries(
                core.config.server,
                ServerId(follower),
                core.term,
                Index(prev_index),
                prev_term,
                (),
                core.commit_index,
            )
        )

    # --- What a server hands out -----------------------------------------------------------------

    def take_trace(self) -> list[Happening]:
        """Return what the servers did since the last call, in order."""
        trace, self._trace = self._trace, []
        return trace

    def _work_off(self, server: ServerId) -> None:
        self._collect(self.cores[server])
        if server not in self.slow:
            self.save(server)

    def _collect(self, core: Core) -> None:
        self._observe(core)
        while (ready := core.ready(self.now)) is not None:
            self._observe(core)
            self._send(core, ready.messages)
            self._work[core.config.server].unsaved.append(ready)
        self._answer_reads(core)

    def _finish(self, core: Core, ready: Ready) -> None:
        """Do what a Ready asks for when it is saved, in the order it demands."""
        server = core.config.server
        self._send(core, ready.messages_after_persist)
        if ready.restore:
            assert ready.snapshot is not None
            self._work[server].state = ready.snapshot.data
            self.safety.restored(server, ready.snapshot.index)
            core.applied(ready.snapshot.index)
        if ready.committed_entries:
            self._apply(core, ready.first_committed, ready.committed_entries)
        self._observe(core)
        self._work[server].reads += ready.read_states
        self._answer_reads(core)

    def _apply(self, core: Core, first_index: Index, entries: tuple[Entry, ...]) -> None:
        work, server = self._work[core.config.server], core.config.server
        self.safety.applied(server, first_index, entries)
        commands = [entry.data for entry in entries if entry.kind is EntryKind.COMMAND]
        work.state = b" ".join(filter(None, [work.state, *commands]))
        last_index = Index(first_index + len(entries) - 1)
        self.safety.state(server, last_index, work.state)
        core.applied(last_index)

    def _answer_reads(self, core: Core) -> None:
        work, server = self._work[core.config.server], core.config.server
        for read in [read for read in work.reads if read.index <= core.last_applied]:
            work.reads.remove(read)
            self.safety.read_answered(server, read, core.last_applied)
            self._trace.append(Happening(server, read))

    def _observe(self, core: Core) -> None:
        events = core.take_events()
        self._trace.extend(Happening(core.config.server, event) for event in events)
        self.safety.happened(core, events, self.disks)

    def _send(self, core: Core, messages: Iterable[Message]) -> None:
        for message in messages:
            self._trace.append(Happening(message.src, message))
            self.safety.said(core, message, self.disks[core.config.server])
            self.put(message)


def entries_of(terms: Iterable[int]) -> tuple[Entry, ...]:
    """Return a log with these terms, to set a scene: ``entries_of([1, 1, 4])``."""
    return tuple(Entry(Term(term)) for term in terms)
