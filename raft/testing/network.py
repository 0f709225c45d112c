"""A cluster of cores in memory: no clock, no socket, no disk, and nothing happens by itself.

The network hands over, loses, repeats or holds back a message only when told to; time passes
only by :meth:`Network.advance`. After each step all promises of :mod:`raft.testing.safety`
are checked. What a test, a transcript or a simulation does with it is up to them::

    network = Network(3)
    network.fire(1)                        # S1's election timer
    network.settle()                       # all messages arrive, and the answers to them
    network.propose(1, b"x=1")
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from raft.core.core import Config, Core, Ready
from raft.core.events import CoreEvent, Role
from raft.core.log import HardState
from raft.core.messages import AppendEntries, Entry, Index, Message, ServerId, Term
from raft.core.readonly import ReadState
from raft.core.ready import Refused
from raft.core.rules import Rules
from raft.testing.safety import Disk, NoProgress, Safety

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


class Network:
    """``size`` servers, S1 to Sn, all following ``rules``; the same seed gives the same run.

    ``cores`` are the servers that run, ``disks`` what each would find after a crash (Figure 2,
    persistent state). ``in_flight`` holds the messages, oldest first. ``cut`` is the set of
    (from, to) links over which nothing arrives. The disk of a server in ``slow`` completes
    no save until :meth:`save`; a crash loses what waits for it.
    """

    def __init__(
        self,
        size: int,
        rules: Rules | None = None,
        seed: int = 0,
        max_append_bytes: int = 256 * 1024,
    ) -> None:
        self.servers = tuple(ServerId(number) for number in range(1, size + 1))
        self.now = 0.0
        self.safety = Safety()
        self.disks = {server: Disk(HardState(), ()) for server in self.servers}
        self.cores: dict[ServerId, Core] = {}
        self.in_flight: list[Flight] = []
        self.cut: set[tuple[ServerId, ServerId]] = set()
        self.slow: set[ServerId] = set()
        self._rules = rules or Rules()
        self._random = Random(seed)  # noqa: S311 - a seed must give the same run
        self._config = Config(ServerId(1), self.servers, max_append_bytes=max_append_bytes)
        self._unsaved: dict[ServerId, deque[Ready]] = {server: deque() for server in self.servers}
        self._trace: list[Happening] = []
        self._reads = 0
        for server in self.servers:
            self.restart(server)

    # --- Servers ---------------------------------------------------------------------------

    def core(self, server: int) -> Core:
        """Return the core of a running server. Raises ImpossibleRequest if it is down."""
        if self._known(server) not in self.cores:
            raise ImpossibleRequest(f"S{server} is down")
        return self.cores[ServerId(server)]

    def install(self, server: int, hard_state: HardState, entries: Sequence[Entry]) -> None:
        """Replace all that a server has stored, and start it from there: to set a scene."""
        self.cores.pop(self._known(server), None)
        self.disks[ServerId(server)] = Disk(hard_state, tuple(entries))
        self.restart(server)

    def crash(self, server: int) -> None:
        """Stop a server at once. It loses all that no save has completed, and its role."""
        self.core(server)
        del self.cores[ServerId(server)]
        self._unsaved[ServerId(server)].clear()

    def restart(self, server: int) -> None:
        """Start a server that is down, from its disk. Raises ImpossibleRequest if it runs."""
        server = self._known(server)
        if server in self.cores:
            raise ImpossibleRequest(f"S{server} runs already")
        disk = self.disks[server]
        self.cores[server] = Core(
            replace(self._config, server=server),
            disk.hard_state,
            disk.entries,
            Random(self._random.getrandbits(64)),  # noqa: S311
            self.now,
            self._rules,
        )
        self.safety.started(server, disk)
        self._work(server)

    def save(self, server: int) -> None:
        """Let the slow disk of a server complete all that it was given."""
        core = self.core(server)
        waiting = self._unsaved[core.config.server]
        while waiting:
            self._complete(core, waiting.popleft())
            self._collect(core)

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

    # --- Inputs of one server ----------------------------------------------------------------

    def fire(self, server: int) -> None:
        """Let time pass until a server's timer fires. No other timer fires, even if due.

        Raises NoProgress for a server that would never wake again.
        """
        core = self.core(server)
        self.now = max(self.now, core.deadline)
        core.tick(self.now)
        if core.deadline <= self.now:
            raise NoProgress(f"the timer of S{server} fired and was not armed again")
        self._work(core.config.server)

    def propose(self, server: int, data: bytes) -> Index | None:
        """Give a command to a server; returns its index, None if the server does not lead."""
        index = self.core(server).propose(data, self.now)
        self._work(ServerId(server))
        return None if isinstance(index, Refused) else index

    def read(self, server: int) -> int | None:
        """Ask a server for a read; returns its number, None if the server does not lead."""
        self._reads += 1
        self.safety.read_asked(self._reads)
        accepted = self.core(server).read_index(self._reads, self.now)
        self._work(ServerId(server))
        return self._reads if accepted else None

    # --- Time --------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass for all; timers that fall due fire in their order."""
        end = self.now + seconds
        while self.cores:
            core = min(self.cores.values(), key=lambda core: core.deadline)
            if core.deadline > end:
                break
            self.fire(core.config.server)
        self.now = end

    # --- Messages ----------------------------------------------------------------------------

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
        if core is not None and (message.src, message.dst) not in self.cut:
            core.step(message, self.now)
            self._work(message.dst)

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

    # --- What a server hands out ---------------------------------------------------------------

    def take_trace(self) -> list[Happening]:
        """Return what the servers did since the last call, in order."""
        trace, self._trace = self._trace, []
        return trace

    def _work(self, server: ServerId) -> None:
        self._collect(self.cores[server])
        if server not in self.slow:
            self.save(server)

    def _collect(self, core: Core) -> None:
        self._observe(core)
        while (ready := core.ready(self.now)) is not None:
            self._observe(core)
            self._send(ready.messages)
            self._unsaved[core.config.server].append(ready)

    def _complete(self, core: Core, ready: Ready) -> None:
        """Do what a Ready asks for from its save on, in the order it demands."""
        server = core.config.server
        self.disks[server] = _saved(self.disks[server], ready)
        core.persisted(ready.number, self.now)
        self._observe(core)
        self._send(ready.messages_after_persist)
        if ready.committed_entries:
            self.safety.applied(server, ready.first_committed, ready.committed_entries)
            core.applied(Index(ready.first_committed + len(ready.committed_entries) - 1))
            self._observe(core)
        for read in ready.read_states:
            self.safety.read_answered(server, read, core.last_applied)
            self._trace.append(Happening(server, read))

    def _observe(self, core: Core) -> None:
        events = core.take_events()
        self._trace.extend(Happening(core.config.server, event) for event in events)
        self.safety.happened(core, events, self.disks.values())

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._trace.append(Happening(message.src, message))
            self.safety.said(message)
            self.put(message)


def _saved(disk: Disk, ready: Ready) -> Disk:
    entries = disk.entries
    if ready.entries:
        entries = entries[: ready.first_index - 1] + ready.entries
    return Disk(ready.hard_state or disk.hard_state, entries)


def entries_of(terms: Iterable[int]) -> tuple[Entry, ...]:
    """Return a log with these terms, to set a scene: ``entries_of([1, 1, 4])``."""
    return tuple(Entry(Term(term)) for term in terms)
