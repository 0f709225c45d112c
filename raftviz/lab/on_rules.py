"""Carries out what a person does to the rules of Raft: break one, mend it."""

from __future__ import annotations

from raft.core.messages import ServerId
from raft.testing.catalogue import broken, catalogue
from raftviz import commands as cmd
from raftviz.lab.parts import Parts
from raftviz.lab.who import fit, names
from raftviz.model.events import RuleBroken, RuleMended


class OnRules:
    """The commands on rules. A server learns of them when it starts, so it is started anew."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._cluster = parts.cluster

    async def carry_out(self, command: cmd.RuleCommand) -> str:
        """Do it; return in words what was done. Raises RefusedError and ServerStartError."""
        match command:
            case cmd.Break(rule, servers):
                return await self._break(rule, servers)
            case cmd.Mend(rule, servers):
                return await self._mend(rule, servers)

    async def _break(self, rule: str, servers: cmd.Servers) -> str:
        chosen = fit(servers, self._parts.view, lambda server: self._cannot(server, rule))
        for server in chosen:
            self._cluster.machine(server).broken += (rule,)
            self._parts.stream.tell(RuleBroken(server, rule))
        await self._start_anew(chosen)
        known = catalogue()[rule]
        return f"{names(chosen)} broken on purpose: {known.what} ({known.section})"

    async def _mend(self, rule: str | None, servers: cmd.Servers) -> str:
        chosen = fit(servers, self._parts.view, lambda server: self._whole(server, rule))
        for server in chosen:
            self._keep(server, rule)
        await self._start_anew(chosen)
        keep = "keeps" if len(chosen) == 1 else "keep"
        return f"from now on {names(chosen)} {keep} {'all rules' if rule is None else rule}"

    def _keep(self, server: ServerId, rule: str | None) -> None:
        machine = self._cluster.machine(server)
        for mended in machine.broken if rule is None else (rule,):
            self._parts.stream.tell(RuleMended(server, mended))
        kept = () if rule is None else tuple(one for one in machine.broken if one != rule)
        machine.broken = kept

    async def _start_anew(self, servers: tuple[ServerId, ...]) -> None:
        """Restart the live ones among servers; dead ones will start with the new rules."""
        live = [server for server in servers if self._cluster.is_live(server)]
        await self._cluster.kill_all(live)
        await self._cluster.start_all(live)

    def _cannot(self, server: ServerId, rule: str) -> str | None:
        already = self._cluster.machine(server).broken
        if rule in already:
            return f"S{server} breaks {rule} already"
        try:
            broken((*already, rule))
        except ValueError as error:
            return f"S{server}: {error}"
        return self._cluster.paused_objection(server)

    def _whole(self, server: ServerId, rule: str | None) -> str | None:
        already = self._cluster.machine(server).broken
        if not already or (rule is not None and rule not in already):
            return f"S{server} keeps {rule or 'all rules'}"
        return self._cluster.paused_objection(server)
