"""What is done to servers, and asked of the cluster, in plain words and in terms of Raft."""

from __future__ import annotations

from collections.abc import Mapping

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.model import faults

LONG = 200


def of_server(what: faults.OfServer) -> str:
    """Say in one line what befalls a server."""
    me = f"S{what.server}"
    match what:
        case faults.DiskChanged():
            return f"the disk of {me} {disk_text(what)}"
        case faults.DiskDamaged(what=damage):
            return f"on the disk of {me} {printable(damage, LONG)}"
        case faults.PowerCut():
            return f"the power of {me} is cut: what it has not synced is lost"
        case faults.ServerClockChanged(factor=1):
            return f"the clock of {me} runs like those of the others again"
        case faults.ServerClockChanged(factor=factor):
            return f"the clock of {me} runs {factor:g} times as fast as the others"
        case faults.RuleBroken(rule=rule):
            return f"{me} breaks a rule of Raft on purpose from here on: {printable(rule, LONG)}"
        case faults.RuleMended(rule=rule):
            return f"{me} keeps the rule again: {printable(rule, LONG)}"


def disk_text(disk: faults.DiskChanged) -> str:
    """Say what is wrong with a disk, as what it does."""
    wrong = []
    if disk.delay:
        wrong.append(f"takes {disk.delay * 1000:g} ms longer for each fsync")
    if disk.full:
        wrong.append("is full")
    if disk.fails_sync:
        wrong.append("fails the next fsync")
    if disk.tears:
        wrong.append("loses power in the middle of its next write")
    return " and ".join(wrong) or "is in order"


def disk_mark(disk: faults.DiskChanged) -> str:
    """Say the same in a word or two."""
    marks = []
    if disk.delay:
        marks.append(f"+{disk.delay * 1000:g}ms")
    if disk.full:
        marks.append("full")
    if disk.fails_sync:
        marks.append("fsync✗")
    if disk.tears:
        marks.append("torn")
    return "disk " + " ".join(marks)


def of_lab(what: faults.OfLab) -> str:
    """Say in one line what goes on by itself, or who came and went."""
    match what:
        case faults.ServerAdded(server):
            return f"the laboratory has one more server, S{server}"
        case faults.ServerRemoved(server):
            return f"S{server} has left the laboratory"
        case faults.LoadChanged(""):
            return "the load is off"
        case faults.LoadChanged(text):
            return f"clients begin to work: {printable(text, LONG)}"
        case faults.LoadMeasured():
            return f"load: {load_text(what)}"
        case faults.ChaosChanged(""):
            return "chaos is off"
        case faults.ChaosChanged(text):
            return f"faults come at random: {printable(text, LONG)}"


def load_text(load: faults.LoadMeasured) -> str:
    """Return throughput and latencies as ``198/s  p50 23 ms  p99 41 ms  2 unknown``."""
    per_second = load.ok / load.seconds if load.seconds else 0.0
    parts = [f"{per_second:.0f}/s"]
    if load.ok:
        times = ((50, load.p50), (90, load.p90), (99, load.p99))
        parts += [f"p{share} {seconds * 1000:.0f} ms" for share, seconds in times]
    counts = ((load.failed, "failed"), (load.unknown, "unknown"), (load.waiting, "waiting"))
    parts += [f"{count} {word}" for count, word in counts if count]
    return "  ".join(parts)


def broken_text(broken: Mapping[ServerId, tuple[str, ...]]) -> str:
    """Return which rules are broken where: ``vote-twice in S2 and S3``."""
    where: dict[str, list[str]] = {}
    for server, rules in broken.items():
        for rule in rules:
            where.setdefault(rule, []).append(f"S{server}")
    return ", ".join(f"{printable(rule, LONG)} in {_listed(who)}" for rule, who in where.items())


def _listed(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
