"""The state machine of simulated clusters: registers, cheap to run and to compare."""

from __future__ import annotations

import zlib


class Registers:
    """A ``StateMachine`` of registers. Commands are ``KEY VALUE``, queries ``KEY``.

    ``digest`` stands for the whole state: equal states have equal ones, whichever way they
    were reached, so it can be compared after every entry.
    """

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self.digest = 0
        self.effects = 0
        """How many commands took effect since the machine was made."""

    def check(self, command: bytes) -> str | None:
        """Refuse what ``apply`` could not carry out."""
        return None if command.count(b" ") == 1 else "a command is KEY VALUE"

    def apply(self, index: int, command: bytes) -> bytes:
        """Store a value."""
        self.effects += 1
        key, _, value = command.partition(b" ")
        before = self._values.get(key)
        if before is not None:
            self.digest ^= zlib.crc32(key + b" " + before)
        self._values[key] = value
        self.digest ^= zlib.crc32(command)
        return b""

    def query(self, query: bytes) -> bytes:
        """Return a register's value, empty if it was never written."""
        return self._values.get(query, b"")

    def snapshot(self) -> bytes:
        """Return all registers, in the order of their keys."""
        return b"\n".join(key + b" " + value for key, value in sorted(self._values.items()))

    def restore(self, snapshot: bytes) -> None:
        """Take over the registers of a snapshot."""
        self._values = {}
        self.digest = 0
        for line in snapshot.splitlines():
            self.apply(0, line)
