"""Carries out what a person does to processes: kill, restart, pause, resume, time out."""

from __future__ import annotations

from raft.core.events import Role
from raft.core.messages import ServerId
from raft.frames import Campaign
from raftviz import commands as cmd
from raftviz.lab.parts import Parts
from raftviz.lab.who import fit, names


class OnServers:
    """The commands on server processes."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._cluster = parts.cluster

    async def carry_out(self, command: cmd.ServerCommand) -> str:
        """Do it; return in words what was done. Raises RefusedError and ServerStartError."""
        match command:
            case cmd.Kill(servers):
                chosen = fit(servers, self._parts.view, self._dead)
                if self._parts.time.frozen:
                    # No time passes while a disk writes: what was seen to happen is on it.
                    await self._parts.stepper.settle()
                await self._cluster.kill_all(chosen)
                return f"{names(chosen)} killed"
            case cmd.Restart(servers):
                chosen = fit(servers, self._parts.view, self._not_dead)
                await self._cluster.start_all(chosen)
                return f"{names(chosen)} restarted"
            case cmd.Pause(servers):
                chosen = fit(servers, self._parts.view, self._not_running)
                for server in chosen:
                    self._cluster.pause(server)
                return f"{names(chosen)} paused"
            case cmd.Resume(servers):
                chosen = fit(servers, self._parts.view, self._not_paused)
                for server in chosen:
                    self._cluster.resume(server)
                return f"{names(chosen)} resumed"
            case cmd.Timeout(servers):
                chosen = fit(servers, self._parts.view, self._cannot_campaign)
                for server in chosen:
                    self._cluster.control(server, Campaign())
                await self._parts.stepper.settle()
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
        leads = self._parts.view.servers[server].role is Role.LEADER
        return self._not_running(server) or (
            f"S{server} leads, and a leader has no election timer" if leads else None
        )
