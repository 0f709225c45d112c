"""Values: what the core is told and what it tells, never changed once it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make a dataclass with slots whose objects equal those with equal fields, and are hashed so.

    Who assigns to a field is told so by the type checker, as of ``dataclass(frozen=True)``. When
    the program runs nothing watches: that would make each object four times as expensive, and a
    server makes several for every message.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
