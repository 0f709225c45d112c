"""Carries out what a person does to the machines below the servers: power, disks, clocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from raftviz import commands as cmd
from raftviz.commands import DiskFault
from raftviz.lab import damage
from raftviz.lab.parts import Parts
from raftviz.lab.who import fit, names
from raftviz.model.events import DiskChanged, DiskDamaged
from raftviz.model.fault_words import disk_text

AMNESIA = (
    "as a voter it may vote again in a term in which it has voted, and lacks entries that it "
    "acknowledged: Raft promises nothing about such a server"
)


_Change = Callable[[DiskChanged], DiskChanged]
_Harm = Callable[[Path], str]


class OnMachines:
    """The commands on machines."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._cluster = parts.cluster

    async def carry_out(self, command: cmd.MachineCommand) -> str:
        """Do it; return in words what was done. Raises RefusedError."""
        match command:
            case cmd.Power(servers):
                chosen = fit(servers, self._parts.view, self._cluster.not_running)
                await self._cluster.cut_power(chosen)
                return f"the power of {names(chosen)} was cut"
            case cmd.Disk(servers, fault):
                return await self._disk(servers, fault)
            case cmd.Clock(servers, factor):
                chosen = fit(servers, self._parts.view, lambda server: None)
                for server in chosen:
                    self._cluster.run_clock(server, factor)
                how = "as fast as" if factor == 1 else f"{factor:g} times as fast as"
                return f"the clock of {names(chosen)} runs {how} the cluster's from now on"

    async def _disk(self, servers: cmd.Servers, fault: DiskFault | cmd.Slow | cmd.Flip) -> str:
        match fault:
            case DiskFault.WIPE:
                return self._damage(servers, damage.wipe, f"; {AMNESIA}")
            case cmd.Flip(name, offset):
                file = damage.File(name)
                return self._damage(servers, lambda path: damage.flip(path, file, offset))
            case cmd.Slow(delay):
                return await self._rig(servers, lambda disk: replace(disk, delay=delay))
        return await self._rig(servers, lambda disk: _with(disk, fault))

    async def _rig(self, servers: cmd.Servers, change: _Change) -> str:
        chosen = fit(servers, self._parts.view, self._cluster.paused_objection)
        for server in chosen:
            self._cluster.rig_disk(change(self._cluster.machine(server).disk))
        # What is stored from here on must find the disk so; another connection may bring it.
        await self._cluster.digest()
        return f"the disk of {names(chosen)} {disk_text(self._cluster.machine(chosen[0]).disk)}"

    def _damage(self, servers: cmd.Servers, harm: _Harm, warning: str = "") -> str:
        chosen = fit(servers, self._parts.view, self._cluster.not_dead)
        done = []
        for server in chosen:
            what = harm(self._cluster.data_of(server))
            self._parts.stream.tell(DiskDamaged(server, what))
            done.append(f"S{server}: {what}")
        return "; ".join(done) + warning


def _with(disk: DiskChanged, fault: DiskFault) -> DiskChanged:
    match fault:
        case DiskFault.FULL:
            return replace(disk, full=True)
        case DiskFault.FAIL_SYNC:
            return replace(disk, fails_sync=True)
        case DiskFault.TEAR:
            return replace(disk, tears=True)
    return DiskChanged(disk.server)
