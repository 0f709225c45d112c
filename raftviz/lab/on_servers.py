"""Carries out what a person does to processes: kill, stop, restart, pause, resume, time out."""

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
                chosen = fit(servers, self._parts.view, self._cluster.dead)
                if self._parts.time.frozen:
                    # No time passes while a disk writes: what was seen to happen is on it.
                    await self._parts.stepper.settle()
                await self._cluster.kill_all(chosen)
                return f"{names(chosen)} killed"
            case cmd.Stop(servers):
                chosen = fit(servers, self._parts.view, self._cluster.not_running)
                await self._cluster.stop_all(chosen)
                return f"{names(chosen)} stopped"
            case cmd.Restart(servers):
                chosen = fit(servers, self._parts.view, self._cluster.not_dead)
                await self._cluster.start_all(chosen)
                return f"{names(chosen)} restarted"
            case cmd.Pause(servers):
                chosen = fit(servers, self._parts.view, self._cluster.not_running)
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

    def _not_paused(self, server: ServerId) -> str | None:
        running = None if self._cluster.is_paused(server) else f"S{server} is not paused"
        return self._cluster.dead(server) or running

    def _cannot_campaign(self, server: ServerId) -> str | None:
        leads = self._parts.view.servers[server].role is Role.LEADER
        return self._cluster.not_running(server) or (
            f"S{server} leads, and a leader has no election timer" if leads else None
        )
