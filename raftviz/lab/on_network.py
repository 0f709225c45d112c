"""Carries out what a person does to the network: the rules of links, and shapes of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from raft.core.messages import ServerId
from raftviz import commands as cmd
from raftviz.commands import Links, Servers, Who
from raftviz.lab.fabric import Fabric
from raftviz.lab.parts import Parts
from raftviz.lab.who import RefusedError, names, resolve
from raftviz.model.link_rules import CLIENT, LinkId, LinkRules
from raftviz.model.link_words import (
    bandwidth_text,
    delay_text,
    end_text,
    rules_text,
    share_text,
)
from raftviz.model.view import ClusterView


class OnNetwork:
    """The commands on links."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._fabric = parts.fabric

    async def carry_out(self, command: cmd.NetworkCommand) -> str:
        """Change the rules of links; return in words what changed. Raises RefusedError."""
        match command:
            case cmd.Cut(links):
                return self._rule(links, "cut", cut=True)
            case cmd.Stall(links):
                return self._rule(links, "stalled", stalled=True)
            case cmd.Reset(links):
                return self._rule(links, "reset", reset=True)
            case cmd.Heal(links):
                return self._heal(links)
            case cmd.Delay():
                return self._delay(command)
            case cmd.Loss(links, share):
                return self._rule(links, f"loses {share_text(share)}", loss=share)
            case cmd.Reorder(links, share):
                return self._rule(links, f"reorders {share_text(share)}", reordering=share)
            case cmd.Bandwidth(links, size):
                carries = f"carries {bandwidth_text(size) if size else 'as much as there is'}"
                return self._rule(links, carries, bandwidth=size)
            case cmd.ShowLinks():
                return show_links(self._fabric)
            case cmd.Partition() | cmd.Isolate() | cmd.Ring() | cmd.Bridge():
                return self._shape(command)

    def _rule(self, links: Links, what: str, **changes: Any) -> str:
        wanted = between(links, self._parts.view)
        changed = [one for one in wanted if self._fabric.rule(one, links.kind, **changes)]
        kind = f"{links.kind} " if links.kind else ""
        return f"{what}: {kind}{arrows(changed)}" if changed else f"already {what}"

    def _heal(self, links: Links) -> str:
        wanted = list(self._fabric.links)
        if not links.everywhere:
            wanted = between(links, self._parts.view)
        changed = [one for one in wanted if self._fabric.heal(one, links.kind)]
        return f"healed: {arrows(changed)}" if changed else "nothing there was wrong"

    def _delay(self, command: cmd.Delay) -> str:
        links = command.links
        rules = LinkRules(
            delay=command.seconds, jitter=command.jitter, distribution=command.distribution
        )
        text = delay_text(rules)
        if links.everywhere and not links.kind:
            self._fabric.set_normal(rules)
            return f"every message takes {text} from now on"
        shape = {"jitter": rules.jitter, "distribution": rules.distribution}
        return self._rule(links, f"takes {text}", delay=rules.delay, **shape)

    # --- Shapes ------------------------------------------------------------------------------

    def _shape(self, command: cmd.Partition | cmd.Isolate | cmd.Ring | cmd.Bridge) -> str:
        view = self._parts.view
        match command:
            case cmd.Partition(groups):
                return self._partition([resolve(group, view) for group in groups])
            case cmd.Isolate(servers):
                alone = set(resolve(servers, view))
                for link in self._fabric.server_links:
                    if alone & set(link):
                        self._fabric.rule(link, cut=True)
                them = "it" if len(alone) == 1 else "them"
                return f"{names(sorted(alone))} can reach nobody, and nobody can reach {them}"
            case cmd.Ring(servers):
                return self._ring(resolve(servers, view))
            case cmd.Bridge(servers, one, other):
                return self._bridge(*(resolve(who, view) for who in (servers, one, other)))

    def _connect(self, pairs: set[frozenset[ServerId]], ends: Iterable[ServerId]) -> None:
        """Of the links between these ends, cut all but those that join one of the pairs."""
        for src, dst in itertools.permutations(ends, 2):
            self._fabric.rule((src, dst), cut=frozenset((src, dst)) not in pairs)

    def _partition(self, parts: list[tuple[ServerId, ...]]) -> str:
        named = [server for part in parts for server in part]
        twice = [server for server in named if named.count(server) > 1]
        if twice:
            raise RefusedError(f"{end_text(twice[0])} cannot be in two groups")
        if rest := tuple(server for server in self._parts.view.servers if server not in named):
            parts.append(rest)
        ends = [end for part in parts for end in part]
        pairs = {frozenset(two) for part in parts for two in itertools.combinations(part, 2)}
        self._connect(pairs, ends)
        return "groups that cannot reach each other: " + " | ".join(map(names, parts))

    def _ring(self, order: tuple[ServerId, ...]) -> str:
        if len(order) < 3:
            raise RefusedError(f"a ring needs three servers or more, not {len(order)}")
        self._connect({frozenset(two) for two in itertools.pairwise((*order, order[0]))}, order)
        ring = " — ".join(map(end_text, (*order, order[0])))
        return f"each sees its neighbours only: {ring}{self._untouched(order)}"

    def _bridge(
        self, middle: tuple[ServerId, ...], one: tuple[ServerId, ...], other: tuple[ServerId, ...]
    ) -> str:
        both = {*one, *other}
        if set(middle) & both or set(one) & set(other):
            raise RefusedError("the server between two sides, and the sides, share no server")
        sides = (*((*middle, *one),), *((*middle, *other),))
        pairs = {frozenset(two) for side in sides for two in itertools.combinations(side, 2)}
        self._connect(pairs, (*middle, *one, *other))
        untouched = self._untouched((*middle, *one, *other))
        return f"{names(one)} cannot reach {names(other)}; {names(middle)} sees both{untouched}"

    def _untouched(self, named: Iterable[ServerId]) -> str:
        """Say which servers a shape leaves as they are."""
        rest = set(self._parts.view.servers).difference(named)
        return f"; the links of {names(sorted(rest))} stay as they are" if rest else ""


def between(links: Links, view: ClusterView) -> list[LinkId]:
    """Return the links that are meant. Raises RefusedError if one leads nowhere."""
    a, b = links.a, links.b
    found = set(itertools.product(resolve(a, view), resolve(b, view)))
    if links.both_ways:
        found |= {(dst, src) for src, dst in found}
    own = [src for src, dst in found if src == dst]
    if own and (len(found) == len(own) or not (_is_role(a) or _is_role(b))):
        raise RefusedError(f"{end_text(own[0])} has no link to itself")
    return sorted(link for link in found if link[0] != link[1])


def _is_role(servers: Servers) -> bool:
    return isinstance(servers, Who)


def arrows(links: list[LinkId]) -> str:
    """Return ``S1 ↔ S2, S1 → S3``."""
    shown = []
    for src, dst in links:
        if (dst, src) not in links:
            shown.append(f"{end_text(src)} → {end_text(dst)}")
        elif src < dst:
            shown.append(f"{end_text(src)} ↔ {end_text(dst)}")
    return ", ".join(shown)


def show_links(fabric: Fabric) -> str:
    """Return a line for each link that is not as it should be, and one for how the others are."""
    lines = [
        f"{end_text(src)} → {end_text(dst)}  {kind or 'all'}: {rules_text(rules)}"
        for (src, dst), link in fabric.links.items()
        if not link.is_normal
        for kind, rules in (("", link.rules), *sorted(link.by_kind.items()))
    ]
    normal = next((one.normal for ends, one in fabric.links.items() if CLIENT not in ends), None)
    rest = "every link" if not lines else "every other link"
    return "\n".join([*lines, f"{rest}: {rules_text(normal)}"] if normal else lines)
