"""The rules of links in words: what they do, and what that means to Raft."""

from __future__ import annotations

from raft.core.events import Role
from raft.core.messages import ServerId
from raftviz.model import events as ev
from raftviz.model.link_rules import CLIENT, Distribution, LinkRules
from raftviz.model.view import ClusterView


def end_text(end: ServerId) -> str:
    """Return ``S2``, or ``client``."""
    return "client" if end == CLIENT else f"S{end}"


def share_text(share: float) -> str:
    """Return ``12.5 %``."""
    return f"{share * 100:.4g} %"


def bandwidth_text(bandwidth: float) -> str:
    """Return ``10 kB/s``."""
    for factor, unit in ((1e6, "MB/s"), (1e3, "kB/s")):
        if bandwidth >= factor:
            return f"{bandwidth / factor:.4g} {unit}"
    return f"{bandwidth:.4g} B/s"


def delay_text(rules: LinkRules) -> str:
    """Return ``200 ms ± 50 ms (normal)``."""
    delay = f"{rules.delay * 1000:.4g} ms"
    if not rules.jitter:
        return delay
    jitter = f"{rules.jitter * 1000:.4g} ms"
    match rules.distribution:
        case Distribution.UNIFORM:
            return f"{delay} ± {jitter}"
        case Distribution.NORMAL:
            return f"{delay} ± {jitter} (normal)"
        case Distribution.EXPONENTIAL:
            return f"{delay} + {jitter} on average (exponential)"


def rules_text(rules: LinkRules) -> str:
    """Return what these rules do to messages: ``10 ms, loses 50 %``."""
    told = [
        word
        for word, holds in (
            ("cut", rules.cut),
            ("stalled", rules.stalled),
            ("reset", rules.reset),
            ("held", rules.held),
        )
        if holds
    ]
    told.append(delay_text(rules))
    for words, share in (
        ("loses", rules.loss),
        ("doubles", rules.duplication),
        ("reorders", rules.reordering),
    ):
        if share:
            told.append(f"{words} {share_text(share)}")
    if rules.bandwidth:
        told.append(f"{bandwidth_text(rules.bandwidth)} at most")
    return ", ".join(told)


def describe_link(what: ev.LinkChanged, view: ClusterView) -> str:
    """Say what a change of a link's rules does, and what follows from it for Raft."""
    link = f"the link {end_text(what.src)} → {end_text(what.dst)}"
    rules = what.rules
    which = f"for {what.kind} " if what.kind else ""
    does = _blocking(rules)
    if not does:
        shaped = rules_text(LinkRules(delay=rules.delay)) != rules_text(rules)
        state = f"is open, {rules_text(rules)}" if shaped else f"is open, {delay_text(rules)} long"
        return f"{link} {which}{state}"
    return f"{link} {which}{does}{_meaning(what, view)}"


def _blocking(rules: LinkRules) -> str:
    """Say how a link lets nothing through; empty if it does let something."""
    if rules.reset:
        return "is reset: its connection is broken, with all that was on it"
    if rules.cut:
        return "is cut: every message on it is lost"
    if rules.stalled:
        return "stalls: what is sent waits, and arrives late"
    if rules.held:
        return "holds every message until somebody releases it"
    return ""


def _meaning(what: ev.LinkChanged, view: ClusterView) -> str:
    """Say what follows when nothing gets from one server to another."""
    src, dst = view.servers.get(what.src), view.servers.get(what.dst)
    if what.kind or src is None or dst is None:
        return ""
    if src.role is Role.LEADER and src.id == view.leader:
        return f"; S{dst.id} hears no heartbeat, and will start an election"
    if dst.role is Role.LEADER and dst.id == view.leader:
        return f"; the leader S{dst.id} cannot count S{src.id} into a majority"
    return f"; S{dst.id} hears nothing of S{src.id}, and gets no vote from it"
