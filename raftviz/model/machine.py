"""What the commands in the log say, and do to the key-value machine, as a viewer shows it."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from raft.core.membership import Configuration, ConfigurationError
from raft.core.messages import Entry, EntryKind, ServerId
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
    """Return what an entry says in printable characters: ``x=9``, ``del x``, ``no-op``."""
    match entry.kind:
        case EntryKind.NOOP:
            return "no-op"
        case EntryKind.CONFIGURATION:
            return _members(entry.data)
    return kv.describe(entry.data)


def _members(data: bytes) -> str:
    try:
        configuration = Configuration.decode(data)
    except ConfigurationError:
        return "(not a configuration)"
    return f"members {members_text(configuration)}"


class _Members(Protocol):
    """What a configuration and the event that tells of it have in common."""

    @property
    def voters(self) -> tuple[ServerId, ...]: ...
    @property
    def outgoing(self) -> tuple[ServerId, ...]: ...
    @property
    def learners(self) -> tuple[ServerId, ...]: ...


def members_text(members: _Members) -> str:
    """Return ``1 2 3``, a learner as ``4?``, and a joint configuration as ``1 2 3 → 1 2 4``."""
    before = f"{' '.join(map(str, members.outgoing))} → " if members.outgoing else ""
    after = [*map(str, members.voters), *(f"{learner}?" for learner in members.learners)]
    return before + (" ".join(after) or "nobody")
