"""What the commands in the log say, and do to the key-value machine, as a viewer shows it."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

from raft.core.membership import Configuration, ConfigurationError
from raft.core.messages import Entry, EntryKind, ServerId
from raft.machine import kv
from raft.machine.sessions import Perform, decode_request, is_session_request
from raft.wire import DecodeError

Number = tuple[int, int]
"""A session, and the number of a command in it."""


def apply_command(values: dict[bytes, bytes], entry: Entry, performed: set[Number]) -> None:
    """Do to ``values`` what applying ``entry`` does to the machine.

    What is not a command changes nothing there, and so neither here; nor does a command that
    its session has ``performed`` before: the client has sent it again (thesis §6.3).
    """
    number, command = _command(entry)
    if number is not None:
        if number in performed:
            return
        performed.add(number)
    if command is not None:
        kv.carry_out(values, command)


@lru_cache(maxsize=4096)
def _command(entry: Entry) -> tuple[Number | None, kv.Command | None]:
    """Decode once what every server of the cluster applies."""
    if entry.kind is not EntryKind.COMMAND:
        return None, None
    number, command = None, entry.data
    try:
        if is_session_request(command):
            request = decode_request(command)
            if not isinstance(request, Perform):
                return None, None
            number, command = (request.session, request.sequence), request.command
        return number, kv.decode_command(command)
    except DecodeError:
        return number, None


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
