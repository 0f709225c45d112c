"""The servers of a lab as they run: each process with its observer, from start to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raft.core.messages import ServerId
from raft.frames import Control, CutPower, SetClock
from raft.transport import HandshakeError, Identity
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.collector import Observer
from raftviz.lab.fabric import Fabric
from raftviz.lab.machine import Machine
from raftviz.lab.stream import Stream
from raftviz.lab.supervisor import KILLED, ServerProcess, ServerStartError, Supervisor
from raftviz.model.events import (
    DiskChanged,
    PowerCut,
    ServerClockChanged,
    ServerExited,
    ServerPaused,
    ServerResumed,
    ServerSpawned,
    Warned,
)

LINK_SECONDS = 2.0
"""Real seconds in which servers that have started should be connected to each other."""
END_SECONDS = 10.0
"""Real seconds that a server has to end when it is asked to."""
ANSWER_SECONDS = 5.0
"""Real seconds of silence after which a server is asked for a word, and that it has for it."""
LAST_WORDS_SECONDS = 1.0
"""Real seconds between the end of a process and the end of its observer's connection, at most."""


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    process: ServerProcess
    observer: Observer
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Cluster:
    """The live servers, and what can be done to them; whether it makes sense is checked before."""

    def __init__(
        self,
        supervisor: Supervisor,
        fabric: Fabric,
        stream: Stream,
        time: ClusterTime,
        identity: Identity,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._supervisor = supervisor
        self._fabric = fabric
        self._stream = stream
        self._time = time
        self._identity = identity
        self._tasks = tasks
        self._running: dict[ServerId, _Running] = {}
        self._machines: dict[ServerId, Machine] = {}

    def machine(self, server: ServerId) -> Machine:
        """Return what a server runs on."""
        return self._machines.setdefault(server, Machine(server))

    def data_of(self, server: ServerId) -> Path:
        """Return where a server keeps what it must not forget."""
        return self._supervisor.data_of(server)

    # --- What stands against a command ---------------------------------------------------------

    def dead(self, server: ServerId) -> str | None:
        """Object to a server without a process."""
        return None if self.is_live(server) else f"S{server} is dead"

    def not_dead(self, server: ServerId) -> str | None:
        """Object to a server that has a process."""
        return f"S{server} is not dead" if self.is_live(server) else None

    def paused_objection(self, server: ServerId) -> str | None:
        """Object to a server whose process is stopped."""
        return f"S{server} is paused" if self.is_paused(server) else None

    def not_running(self, server: ServerId) -> str | None:
        """Object to a server whose process does nothing, or that has none."""
        return self.dead(server) or self.paused_objection(server)

    # --- Processes -----------------------------------------------------------------------------

    def is_live(self, server: ServerId) -> bool:
        """Tell whether the server has a process."""
        return server in self._running

    def is_paused(self, server: ServerId) -> bool:
        """Tell whether the server has a process that is stopped."""
        return server in self._running and self._running[server].process.paused

    async def _start(self, server: ServerId) -> None:
        machine = self.machine(server)
        self._fabric.server_starting(server)
        try:
            process = await self._supervisor.start(server, self._fabric.ports, machine.broken)
        except ServerStartError:
            self._fabric.server_down(server)
            raise
        running = _Running(process, Observer(server, self._stream, machine.clock))
        self._running[server] = running
        self._stream.tell(ServerSpawned(server, process.pid, process.address))
        self._fabric.server_started(server)
        self._tasks.create_task(self._watch(running))
        # Nobody reaches it before it is told: it could store what its disk has no room for.
        clock = machine.clock.setting(self._time.setting)
        try:
            await running.observer.attach(
                process.address, self._identity, machine.disk_setting, clock
            )
        except (OSError, HandshakeError) as error:
            await self._kill(server)
            raise ServerStartError(f"S{server} started but does not answer: {error}") from error
        self._fabric.server_up(server, process.address)
        self._tasks.create_task(self._watch_observer(running))
        self._tasks.create_task(self._watch_silence(running))

    async def start_joining(self, server: ServerId) -> None:
        """Start a server that belongs to no cluster yet. Raises ServerStartError."""
        self._supervisor.joining.add(server)
        await self._start(server)

    async def start_all(self, servers: Iterable[ServerId]) -> None:
        """Start servers side by side, and let all who can do so connect to each other.

        Raises ServerStartError once it is clear how all went.
        """
        await _all(map(self._start, servers))
        if not await _within(LINK_SECONDS, self._fabric.all_linked(self._members_awake())):
            self._stream.tell(Warned("not every server has reached every other yet"))

    def _members_awake(self) -> list[ServerId]:
        """Return those who should call each other, as far as their configurations are known."""
        known = self._stream.view.configuration
        members = {*known.voters, *known.outgoing, *known.learners}
        return [server for server in self._awake() if not members or server in members]

    def _awake(self) -> list[ServerId]:
        return [server for server in self._running if not self.is_paused(server)]

    async def kill_all(self, servers: Iterable[ServerId]) -> None:
        """End processes; return when all are reaped and that is in the stream."""
        await _all(map(self._kill, servers))

    async def _kill(self, server: ServerId) -> None:
        if (running := self._running.get(server)) is not None:
            running.process.kill()
            await running.gone.wait()

    async def stop_all(self, servers: Iterable[ServerId]) -> None:
        """Ask processes to end, and end those that do not; return when all are reaped."""
        await _all(map(self._stop, servers))

    async def _stop(self, server: ServerId) -> None:
        running = self._running[server]
        running.process.stop()
        await self._end(running, f"S{server} did not stop; it was killed")

    async def cut_power(self, servers: Iterable[ServerId]) -> None:
        """Let servers lose what they have not synced, and end; return when all are reaped."""
        await _all(map(self._cut_power, servers))

    async def _cut_power(self, server: ServerId) -> None:
        running = self._running[server]
        self._stream.tell(PowerCut(server))
        running.process.killed = True
        running.observer.send(CutPower())
        text = f"S{server} did not answer; it was killed, and nothing that it wrote is lost"
        await self._end(running, text)

    async def _end(self, running: _Running, otherwise: str) -> None:
        """Wait for the end of a process, and bring it about if it takes too long."""
        if not await _within(END_SECONDS, running.gone.wait()):
            self._stream.tell(Warned(otherwise))
            await self._kill(running.process.server)

    def pause(self, server: ServerId) -> None:
        """Stop a server's process: it keeps everything and does nothing."""
        self._running[server].process.pause()
        self._stream.tell(ServerPaused(server))

    def resume(self, server: ServerId) -> None:
        """Let a stopped process go on."""
        self._running[server].process.resume()
        self._stream.tell(ServerResumed(server))

    def control(self, server: ServerId, control: Control) -> None:
        """Ask a live server for something."""
        self._running[server].observer.send(control)

    def set_clocks(self, setting: SetClock) -> None:
        """Let every live server's clock run by these numbers, as fast or slow as it is."""
        for server, running in self._running.items():
            running.observer.send(self.machine(server).clock.setting(setting))

    def run_clock(self, server: ServerId, factor: float) -> None:
        """Let a server's clock run so much faster than the cluster's from now on."""
        clock = self.machine(server).clock
        clock.run(factor, self._time.clock.now())
        if server in self._running:
            self._running[server].observer.send(clock.setting(self._time.setting))
        self._stream.tell(ServerClockChanged(server, factor))

    def rig_disk(self, disk: DiskChanged) -> None:
        """Let a server's disk fail like this from now on."""
        machine = self.machine(disk.server)
        machine.disk = disk
        if disk.server in self._running:
            self._running[disk.server].observer.send(machine.disk_setting)
        self._stream.tell(disk)

    async def digest(self) -> dict[ServerId, int]:
        """Wait until every live server that is not paused has digested what reached it.

        Returns how many messages each of them has sent so far.
        """
        servers = [server for server in self._awake() if not self._running[server].observer.silent]
        counts = await asyncio.gather(
            *(
                self._running[server].observer.barrier(self._fabric.delivered[server])
                for server in servers
            )
        )
        sent = zip(servers, counts, strict=True)
        return {server: count for server, count in sent if count is not None}

    def silent(self) -> list[ServerId]:
        """Return the servers that did not answer what they were asked, and have not since."""
        return [server for server, running in self._running.items() if running.observer.silent]

    async def close(self) -> None:
        """End every process, and return when all are reaped."""
        processes = [running.process for running in self._running.values()]
        for process in processes:
            process.kill()
        await _all(process.ended() for process in processes)

    async def _watch(self, running: _Running) -> None:
        """Tell when a process has ended, after everything that it told itself."""
        process = running.process
        how = await process.ended()
        if not await _within(LAST_WORDS_SECONDS, running.observer.closed.wait()):
            self._stream.tell(Warned(f"the last words of S{process.server} did not come in"))
        self._fabric.server_down(process.server)
        del self._running[process.server]
        machine = self.machine(process.server)
        torn = machine.disk.tears and not process.killed and how == KILLED
        if torn:
            self._stream.tell(PowerCut(process.server))
        expected = process.killed or torn
        self._stream.tell(ServerExited(process.server, process.pid, how, expected))
        if machine.restarted():
            self._stream.tell(machine.disk)
        running.gone.set()

    async def _watch_observer(self, running: _Running) -> None:
        """Warn if a process goes on but tells nothing any more."""
        await running.observer.closed.wait()
        if not await _within(LAST_WORDS_SECONDS, running.gone.wait()):
            server = running.process.server
            self._stream.tell(
                Warned(
                    f"S{server} no longer tells what happens in it "
                    f"({running.observer.reason}); kill and restart it"
                )
            )

    async def _watch_silence(self, running: _Running) -> None:
        """Warn if a process is there and does nothing, though nobody here has paused it."""
        observer, server = running.observer, running.process.server
        while not await _within(ANSWER_SECONDS, observer.closed.wait()):
            heard = time.monotonic() - observer.heard < ANSWER_SECONDS
            # A slow disk keeps it from answering, and frozen time from having to.
            if heard or observer.silent or self._time.frozen or not self._is_sound(server):
                continue
            answered = await _within(ANSWER_SECONDS, observer.barrier(0))
            if not answered and self._is_sound(server):
                hangs = f"its process {running.process.pid} hangs"
                self._stream.tell(Warned(f"S{server} tells nothing and answers nothing: {hangs}"))

    def _is_sound(self, server: ServerId) -> bool:
        return not self.is_paused(server) and self.machine(server).disk.is_sound


async def _within(seconds: float, what: Awaitable[object]) -> bool:
    """Wait for something at most so long (real time); tell whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await what
    except TimeoutError:
        return False
    return True


async def _all(work: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Do all of it side by side, whatever becomes of one part; then raise the first error."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result
