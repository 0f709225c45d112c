"""What a client asked for, and what it learnt of it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Operation:
    """One operation of one client, from its invocation to its answer."""

    client: int
    number: int
    """Over all clients, from 0: also the value that a write stores."""
    key: bytes
    is_write: bool
    by_lease: bool
    """A read that may be answered without asking anybody."""
    invoked: float
    returned: float = math.inf
    """Infinity: its outcome is unknown, so it may take effect at any time."""
    result: bytes = b""
    """What a read returned."""
    position: int = 0
    """The index at which a write took effect, or up to which a read saw them."""
    in_session: bytes = b""
    """What is proposed instead of the command itself, if a session numbers it."""

    @property
    def value(self) -> bytes:
        """What a write stores: no other write stores the same."""
        return b"%d" % self.number

    @property
    def command(self) -> bytes:
        """The entry of a write."""
        return self.key + b" " + self.value

    @property
    def proposal(self) -> bytes:
        """What a server is asked to append."""
        return self.in_session or self.command

    @property
    def wish(self) -> str:
        """What the client asks for, in words."""
        if self.number < 0:
            return "open a session"
        key = self.key.decode()
        what = f"write {key}={self.number}" if self.is_write else f"read {key}"
        return f"{what} (by lease)" if self.by_lease and not self.is_write else what

    @property
    def done(self) -> bool:
        """The client has its answer."""
        return self.returned != math.inf

    def __str__(self) -> str:
        key = self.key.decode()
        what = f"{key}={self.number}" if self.is_write else f"{key}→{self.result.decode() or '-'}"
        end = f"{self.returned:.3f}" if self.done else "?"
        return f"client {self.client}: {what} ({self.invoked:.3f}..{end})"
