"""The rules that can be broken on purpose, in a real server: those of Raft, and of its log.

``raft serve --attended --rules NAME`` runs a server that keeps all rules but these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from raft.core.rules import Rules
from raft.storage.wal import Wal
from raft.testing.mutants import MUTANTS
from raft.testing.store_mutants import STORE_MUTANTS

_T = TypeVar("_T")

_SECTION = re.compile(r"\(((?:end of |thesis )?§[^)]*|Figure [^)]*|AppendEntries \d)\)")


@dataclass(frozen=True, slots=True)
class Breakable:
    """A rule by the name of its breaking: what a server does then, and where Raft forbids it."""

    name: str
    what: str
    section: str
    """Of the paper or the thesis; Figure 2 (persistent state) for what the log on disk owes."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What a server runs by in which some rules are broken."""

    rules: Rules
    store: type[Wal]


@cache
def catalogue() -> dict[str, Breakable]:
    """Return all that can be broken, by name."""
    return {
        name: Breakable(name, *_explained(mutant))
        for name, mutant in {**MUTANTS, **STORE_MUTANTS}.items()
    }


def _explained(mutant: type) -> tuple[str, str]:
    what = (mutant.__doc__ or "").split("\n")[0]
    section = _SECTION.search(what)
    what = " ".join(_SECTION.sub("", what).split())
    return re.sub(r" (?=[.,:])", "", what), section[1] if section else "Figure 2"


def broken(names: Iterable[str]) -> Broken:
    """Return rules and a log that break what is named, and nothing else.

    Raises ValueError for a name that nobody knows, and for two that break the same rule.
    """
    names = tuple(dict.fromkeys(names))
    unknown = [name for name in names if name not in catalogue()]
    if unknown:
        raise ValueError(f"there is no rule {unknown[0]!r} to break")
    rules = _combined(Rules, [name for name in names if name in MUTANTS], MUTANTS)
    store = _combined(Wal, [name for name in names if name in STORE_MUTANTS], STORE_MUTANTS)
    return Broken(rules(), store)


def _combined(base: type[_T], names: list[str], mutants: dict[str, type[_T]]) -> type[_T]:
    taken: dict[str, str] = {}
    for name in names:
        for member in _overridden(mutants[name]):
            if (other := taken.setdefault(member, name)) != name:
                raise ValueError(f"{other} and {name} break the same rule; mend one first")
    return type("Broken", (*(mutants[name] for name in names), base), {})


def _overridden(mutant: type) -> list[str]:
    return [member for member in vars(mutant) if not member.startswith("__")]
