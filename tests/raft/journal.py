"""``raft`` with a state machine that remembers every command, in order and however often.

Run as ``python -m tests.raft.journal serve …``: what is carried out twice can be seen. One
command, ``poison``, it cannot stand.
"""

from __future__ import annotations

import sys

from raft import cli, serving


class Journal:
    """A state machine that is the list of its commands; a query returns all of them."""

    def __init__(self) -> None:
        self._commands: list[bytes] = []

    def check(self, command: bytes) -> str | None:
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        if command == b"poison":
            raise RuntimeError("cannot stand it")
        self._commands.append(command)
        return b"%d" % len(self._commands)

    def query(self, query: bytes) -> bytes:
        return b"\n".join(self._commands)

    def snapshot(self) -> bytes:
        return b"\n".join(self._commands)

    def restore(self, snapshot: bytes) -> None:
        self._commands = snapshot.split(b"\n") if snapshot else []


if __name__ == "__main__":
    serving.KeyValue = Journal  # type: ignore[assignment,misc]
    sys.exit(cli.main())
