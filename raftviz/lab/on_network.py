"""Carries out what a person does to the network: cut, heal, partition, isolate, delay."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from raft.core.messages import ServerId
from raftviz import commands as cmd
from raftviz.commands import Servers, Who
from raftviz.lab.fabric import Fabric, LinkId
from raftviz.lab.parts import Parts
from raftviz.lab.who import RefusedError, names, resolve
from raftviz.model.view import ClusterView


class OnNetwork:
    """The commands on links."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def carry_out(self, command: cmd.NetworkCommand) -> str:
        """Change the rules of links; return in words what changed. Raises RefusedError."""
        fabric, view = self._parts.fabric, self._parts.view
        match command:
            case cmd.Cut(a, b, both_ways):
                return _cut(_between(a, b, both_ways, view), fabric)
            case cmd.Heal(a, b, both_ways):
                return _heal(_between(a, b, both_ways, view), fabric)
            case cmd.Partition(groups):
                return _partition(groups, fabric, view)
            case cmd.Isolate(servers):
                alone = set(resolve(servers, view))
                _cut([link for link in fabric.links if alone & set(link)], fabric)
                them = _them(alone)
                return f"{names(sorted(alone))} can reach nobody, and nobody can reach {them}"
            case cmd.Delay(seconds):
                for link in fabric.links:
                    fabric.rule(link, delay=seconds)
                return f"every message takes {seconds * 1000:g} ms from now on"


def _them(servers: set[ServerId]) -> str:
    return "it" if len(servers) == 1 else "them"


def _between(a: Servers, b: Servers, both_ways: bool, view: ClusterView) -> list[LinkId]:
    """Return the links from a to b, or both ways."""
    links = set(itertools.product(resolve(a, view), resolve(b, view)))
    if both_ways:
        links |= {(dst, src) for src, dst in links}
    own = [src for src, dst in links if src == dst]
    if own and (len(links) == len(own) or not (isinstance(a, Who) or isinstance(b, Who))):
        raise RefusedError(f"S{own[0]} has no link to itself")
    return sorted(link for link in links if link[0] != link[1])


def _cut(links: Iterable[LinkId], fabric: Fabric) -> str:
    changed = [link for link in links if fabric.rule(link, cut=True)]
    return f"cut: {_arrows(changed)}" if changed else "already cut"


def _heal(links: Iterable[LinkId], fabric: Fabric) -> str:
    changed = [link for link in links if fabric.rule(link, cut=False)]
    return f"healed: {_arrows(changed)}" if changed else "nothing there was cut"


def _arrows(links: list[LinkId]) -> str:
    """Return ``S1 ↔ S2, S1 → S3``."""
    shown = []
    for src, dst in links:
        if (dst, src) not in links:
            shown.append(f"S{src} → S{dst}")
        elif src < dst:
            shown.append(f"S{src} ↔ S{dst}")
    return ", ".join(shown)


def _partition(groups: Iterable[Servers], fabric: Fabric, view: ClusterView) -> str:
    parts = [resolve(group, view) for group in groups]
    named = [server for part in parts for server in part]
    twice = [server for server in named if named.count(server) > 1]
    if twice:
        raise RefusedError(f"S{twice[0]} cannot be in two groups")
    if rest := tuple(server for server in view.servers if server not in named):
        parts.append(rest)
    group_of = {server: number for number, part in enumerate(parts) for server in part}
    for src, dst in fabric.links:
        fabric.rule((src, dst), cut=group_of[src] != group_of[dst])
    return "groups that cannot reach each other: " + " | ".join(map(names, parts))
