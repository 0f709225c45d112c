"""Commands on the rules of Raft: break one on purpose, and mend it."""

from __future__ import annotations

from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, Takes
from raftviz.command.text import Reader, ReadingError, Servers, Who, format_servers


@dataclass(frozen=True, slots=True)
class Break:
    """``break vote-twice`` · ``break vote-twice in 2 3``: those servers go on without the rule."""

    rule: str
    servers: Servers

    def __str__(self) -> str:
        return f"break {self.rule}{_where(self.servers)}"


@dataclass(frozen=True, slots=True)
class Mend:
    """``mend`` · ``mend vote-twice`` · ``mend vote-twice in 2``: they keep it again."""

    rule: str | None
    servers: Servers

    def __str__(self) -> str:
        rule = "" if self.rule is None else f" {self.rule}"
        return f"mend{rule}{_where(self.servers)}"


RuleCommand = Break | Mend


def rule_names() -> tuple[str, ...]:
    """Return the names of all rules that can be broken."""
    from raft.testing.catalogue import catalogue

    return tuple(catalogue())


def _where(servers: Servers) -> str:
    return "" if servers is Who.ALL else f" in {format_servers(servers)}"


def _rule(reader: Reader) -> str:
    column = reader.column
    word = reader.word("a rule (help rules lists them)").text.lower().replace("_", "-")
    names = rule_names()
    if word not in names:
        raise ReadingError(column, "a rule (help rules lists them)", names)
    return word


def _in(reader: Reader) -> Servers:
    return reader.servers() if reader.take("in") else Who.ALL


def _mend(reader: Reader) -> Mend:
    if reader.at_end:
        return Mend(None, Who.ALL)
    if reader.take("in"):
        return Mend(None, reader.servers())
    return Mend(_rule(reader), _in(reader))


def rules_help() -> str:
    """Return all rules that can be broken, with what a server does then."""
    from raft.testing.catalogue import catalogue

    rules = catalogue().values()
    width = max(len(rule.name) for rule in rules)
    lines = [f"  {rule.name:<{width}}  {rule.section}: {rule.what}" for rule in rules]
    return "\n".join(("rules that can be broken:", *lines))


SPECS: tuple[CommandSpec[RuleCommand], ...] = (
    CommandSpec(
        "break",
        "break RULE [in SERVERS]",
        "break a rule of Raft on purpose: restart servers, on their data, that do not keep it",
        "break vote-twice in 2 3",
        Takes.RULE,
        lambda reader: Break(_rule(reader), _in(reader)),
    ),
    CommandSpec(
        "mend",
        "mend [RULE] [in SERVERS]",
        "restart servers so that they keep a rule again, or all rules",
        "mend",
        Takes.RULE,
        _mend,
    ),
)
