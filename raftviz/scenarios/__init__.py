"""The scenarios that ship: scripts for ``raftviz run NAME``, each with its expectations.

A scenario's first line says how it is run (see ``raftviz.script.options``), its second what it
shows.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of all scenarios, in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.txt"))


def path(name: str) -> Path:
    """Return the file of a scenario. Raises KeyError if there is none of this name."""
    if name not in names():
        raise KeyError(name)
    return _FOLDER / f"{name}.txt"


def title(name: str) -> str:
    """Return in one line what a scenario shows. Raises KeyError."""
    return path(name).read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")
