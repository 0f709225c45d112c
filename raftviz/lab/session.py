"""The laboratory itself: commands in, events out.

Commands that change the lab are carried out one after the other; an operation only begins in
its turn, and may then take its time beside others. Whatever a command does is in the stream
before its answer.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from raft.core.events import Role
from raft.core.messages import ServerId
from raft.frames import Campaign
from raftviz import commands as cmd
from raftviz.lab import links
from raftviz.lab.api import MAX_RATE, Answer
from raftviz.lab.cluster import Cluster
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.fabric import Fabric
from raftviz.lab.operations import Operation, Operations
from raftviz.lab.stepper import Stepper
from raftviz.lab.stream import Stream
from raftviz.lab.supervisor import ServerStartError
from raftviz.lab.who import RefusedError, fit, names, resolve
from raftviz.model.events import CommandGiven, OperationKind

SAFE_RATE = 2.0
"""Up to here no warning is needed."""
ROUND_TRIPS = 10
"""An election timeout should be so much longer than servers take to answer (§5.6)."""
ANSWER_SECONDS = 1.0
"""Real seconds after which it is clear that servers are slow to answer."""
MAX_STEPS = 1000
MAX_SHOWN_TEXT = 2000
"""Characters of a command that the stream repeats."""
MAX_SHOWN_STEPS = 5
"""Of more steps than these the answer names the last."""


class Session:
    """Carries out commands on the parts of a lab."""

    def __init__(
        self,
        stream: Stream,
        cluster_time: ClusterTime,
        fabric: Fabric,
        cluster: Cluster,
        operations: Operations,
    ) -> None:
        self._stream = stream
        self._view = stream.view
        self._time = cluster_time
        self._fabric = fabric
        self._cluster = cluster
        self._operations = operations
        self._stepper = Stepper(cluster_time, fabric, cluster, stream)
        self._turn = asyncio.Lock()

    async def carry_out(self, text: str) -> Answer:
        """Carry out one command in the command language and say how it went."""
        try:
            answer = Answer(True, await self._obey(cmd.parse(text)))
        except cmd.CommandError as error:
            answer = Answer(False, str(error))
        except (RefusedError, ServerStartError) as error:
            answer = Answer(False, str(error))
        self._stream.tell(CommandGiven(text[:MAX_SHOWN_TEXT], answer.ok, answer.text))
        return answer

    async def _obey(self, command: cmd.Command) -> str:
        async with self._turn:
            match command:
                case cmd.Put() | cmd.Get() | cmd.Delete():
                    operation = self._operations.begin(self._operation(command))
                case cmd.Kill() | cmd.Restart() | cmd.Pause() | cmd.Resume() | cmd.Timeout():
                    return await self._on_servers(command)
                case cmd.Cut() | cmd.Heal() | cmd.Partition() | cmd.Isolate() | cmd.Delay():
                    return links.carry_out(command, self._fabric, self._view)
                case cmd.Rate() | cmd.Freeze() | cmd.Thaw() | cmd.Step():
                    return await self._on_time(command)
                case _:
                    name = type(command).__name__.lower()
                    raise RefusedError(f"{name} is for viewers and scripts, not for the laboratory")
        return await self._operations.outcome(operation)

    # --- Servers -----------------------------------------------------------------------------

    async def _on_servers(
        self, command: cmd.Kill | cmd.Restart | cmd.Pause | cmd.Resume | cmd.Timeout
    ) -> str:
        match command:
            case cmd.Kill(servers):
                chosen = fit(servers, self._view, self._dead)
                await self._cluster.kill_all(chosen)
                return f"{names(chosen)} killed"
            case cmd.Restart(servers):
                chosen = fit(servers, self._view, self._not_dead)
                try:
                    await self._cluster.start_all(chosen)
                finally:
                    self._operations.servers_at(self._cluster.addresses)
                return f"{names(chosen)} restarted"
            case cmd.Pause(servers):
                chosen = fit(servers, self._view, self._not_running)
                for server in chosen:
                    self._cluster.pause(server)
                return f"{names(chosen)} paused"
            case cmd.Resume(servers):
                chosen = fit(servers, self._view, self._not_paused)
                for server in chosen:
                    self._cluster.resume(server)
                return f"{names(chosen)} resumed"
            case cmd.Timeout(servers):
                chosen = fit(servers, self._view, self._cannot_campaign)
                for server in chosen:
                    self._cluster.control(server, Campaign())
                await self._stepper.settle()
                return f"{names(chosen)} timed out"

    def _dead(self, server: ServerId) -> str | None:
        return None if self._cluster.is_live(server) else f"S{server} is dead"

    def _not_dead(self, server: ServerId) -> str | None:
        return f"S{server} is not dead" if self._cluster.is_live(server) else None

    def _not_running(self, server: ServerId) -> str | None:
        paused = f"S{server} is paused" if self._cluster.is_paused(server) else None
        return self._dead(server) or paused

    def _not_paused(self, server: ServerId) -> str | None:
        running = None if self._cluster.is_paused(server) else f"S{server} is not paused"
        return self._dead(server) or running

    def _cannot_campaign(self, server: ServerId) -> str | None:
        leads = self._view.servers[server].role is Role.LEADER
        return self._not_running(server) or (
            f"S{server} leads, and a leader has no election timer" if leads else None
        )

    # --- Time --------------------------------------------------------------------------------

    async def _on_time(self, command: cmd.Rate | cmd.Freeze | cmd.Thaw | cmd.Step) -> str:
        match command:
            case cmd.Rate(rate) if not 0 <= rate <= MAX_RATE:
                raise RefusedError(f"time can run at rates from 0 to {MAX_RATE:g}, not {rate:g}")
            case cmd.Rate(rate) if rate > 0:
                warning = await self._haste(rate) if rate > SAFE_RATE else ""
                self._time.run(rate)
                return f"time runs at ×{rate:g}{warning}"
            case cmd.Rate() | cmd.Freeze():
                self._time.run(0.0)
                await self._stepper.settle()
                return "time stands still"
            case cmd.Thaw():
                if not self._time.frozen:
                    raise RefusedError("time does not stand still")
                self._time.thaw()
                return f"time runs at ×{self._time.setting.rate:g}"
            case cmd.Step(count):
                return await self._step(count)

    async def _haste(self, rate: float) -> str:
        """Return a warning if servers could time out faster than they can answer each other."""
        begun = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._cluster.digest()
        low, high = self._view.election_timeout_min, self._view.election_timeout_max
        if low / rate >= ROUND_TRIPS * (time.monotonic() - begun):
            return ""
        return (
            f"; timeouts last {low / rate * 1000:.3g}–{high / rate * 1000:.3g} ms of real time "
            "then: this machine may not keep up"
        )

    async def _step(self, count: int) -> str:
        if not self._time.frozen:
            raise RefusedError("time runs; freeze it to go step by step")
        if not 1 <= count <= MAX_STEPS:
            raise RefusedError(f"one can go 1 to {MAX_STEPS} steps at a time, not {count}")
        done = [await self._stepper.step()]
        for _ in range(count - 1):
            try:
                done.append(await self._stepper.step())
            except RefusedError:
                break  # nothing more is due
        shown = done[-MAX_SHOWN_STEPS:]
        left_out = len(done) - len(shown)
        return "; ".join([f"{left_out} steps before", *shown] if left_out else shown)

    # --- Operations --------------------------------------------------------------------------

    def _operation(self, command: cmd.Put | cmd.Get | cmd.Delete) -> Operation:
        server = None if command.server is None else self._one(command.server)
        match command:
            case cmd.Put(key, value):
                return Operation(OperationKind.PUT, key, value, server)
            case cmd.Get(key):
                return Operation(OperationKind.GET, key, server=server)
            case cmd.Delete(key):
                return Operation(OperationKind.DELETE, key, server=server)

    def _one(self, servers: cmd.Servers) -> ServerId:
        chosen = resolve(servers, self._view)
        if len(chosen) > 1:
            raise RefusedError(f"an operation goes to one server, not to {names(chosen)}")
        return chosen[0]
