"""What the commands in the log say, and do to the key-value machine, as a viewer shows it."""

from __future__ import annotations

from functools import lru_cache

from raft.core.messages import Entry, EntryKind
from raft.machine import kv
from raft.wire import DecodeError


def apply_command(values: dict[bytes, bytes], entry: Entry) -> None:
    """Do to ``values`` what applying ``entry`` does to the machine.

    What is not a command changes nothing there, and so neither here.
    """
    match _command(entry):
        case kv.Put(key, value):
            values[key] = value
        case kv.Delete(key):
            values.pop(key, None)


@lru_cache(maxsize=4096)
def _command(entry: Entry) -> kv.Command | None:
    """Decode once what every server of the cluster applies."""
    if entry.kind is not EntryKind.COMMAND:
        return None
    try:
        return kv.decode_command(entry.data)
    except DecodeError:
        return None


@lru_cache(maxsize=4096)
def command_text(entry: Entry) -> str:
    """Return an entry's command in printable characters: ``x=9``, ``del x``, ``no-op``."""
    return "no-op" if entry.kind is EntryKind.NOOP else kv.describe(entry.data)
