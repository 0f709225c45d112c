"""What the commands in the log do to the key-value machine, as a viewer shows it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from raft.core.messages import Entry, EntryKind


def apply_command(kv: dict[bytes, bytes], entry: Entry) -> None:
    """Do to ``kv`` what applying ``entry`` does to the machine; what is no command does nothing."""
    if entry.kind is not EntryKind.COMMAND:
        return
    command = _command(entry.data)
    if command is None:
        return
    if hasattr(command, "value"):
        kv[command.key] = command.value
    else:
        kv.pop(command.key, None)


@lru_cache(maxsize=4096)
def _command(data: bytes) -> Any:
    """Decode once what every server appends, applies and shows."""
    from raft.codec import DecodeError
    from raft.machine.kv import decode_command

    try:
        return decode_command(data)
    except DecodeError:
        return None


@lru_cache(maxsize=4096)
def _described(data: bytes) -> str:
    from raft.machine.kv import describe

    return describe(data)


def command_text(entry: Entry) -> str:
    """Return an entry's command in a few printable characters: ``x=9``, ``del x``, ``no-op``."""
    return "no-op" if entry.kind is EntryKind.NOOP else _described(entry.data)
