"""Keyed randomness: what chance decides depends on the seed and on what it is about, not on when.

One generator for everything would make each decision depend on all before it: take one fault
away, and the rest of the run is another one. Here every kind of decision has its own stream
for every link or server, so the n-th message over a link meets the same delay whatever happens
elsewhere. That is what makes a failing run shrinkable.
"""

from __future__ import annotations

from random import Random


class Chance:
    """The streams of one seed."""

    __slots__ = ("_seed",)

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def stream(self, kind: str, *key: int) -> Random:
        """Return the stream of decisions of ``kind`` about ``key``, from its beginning."""
        # A string is hashed by the generator itself, alike in every process.
        name = " ".join(str(part) for part in (self._seed, kind, *key))
        return Random(name)  # noqa: S311 - a seed must give the same run
