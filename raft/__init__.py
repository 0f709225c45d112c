"""Raft consensus as a library: a replicated log that drives a state machine of yours.

A program that is a server of the cluster runs a ``Member(ServerConfig(...), store, machine)``; one
that uses the cluster from outside has a ``Raft(servers, cluster, secret)``. Both are handles on
the cluster. ``raft.core`` is the algorithm alone, without IO.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raft.applying import SnapshotPolicy
    from raft.certificate import Certificate
    from raft.client import Raft
    from raft.core.core import Config, Core
    from raft.core.membership import AddLearner, AddVoter, Demote, Remove
    from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
    from raft.core.ready import Refusal
    from raft.errors import (
        BusyError,
        ChangeInProgressError,
        ConfigurationMovedError,
        DeclinedError,
        GivenUpError,
        ImpossibleError,
        LaggingError,
        NoCommitYetError,
        NoLeaderError,
        NotInTimeError,
        NotLeaderError,
        OutcomeUnknownError,
        RaftError,
        RefusedError,
        RejectedError,
        TransferringError,
        UnknownServerError,
        UnreachableError,
    )
    from raft.frames import Consistency, Members, ObservationsLost, Status
    from raft.machine.base import StateMachine, StateMachineError
    from raft.machine.kv import KeyValue
    from raft.machine.register import Register
    from raft.member import Member
    from raft.secret import read_secret
    from raft.server import Server, ServerConfig
    from raft.storage.base import LogStore, StorageDamaged, StorageError
    from raft.storage.memory import MemoryStore
    from raft.storage.wal import Wal

__all__ = [
    "AddLearner",
    "AddVoter",
    "BusyError",
    "Certificate",
    "ChangeInProgressError",
    "Config",
    "ConfigurationMovedError",
    "Consistency",
    "Core",
    "DeclinedError",
    "Demote",
    "Entry",
    "EntryKind",
    "GivenUpError",
    "ImpossibleError",
    "Index",
    "KeyValue",
    "LaggingError",
    "LogStore",
    "Member",
    "Members",
    "MemoryStore",
    "NoCommitYetError",
    "NoLeaderError",
    "NotInTimeError",
    "NotLeaderError",
    "ObservationsLost",
    "OutcomeUnknownError",
    "Raft",
    "RaftError",
    "Refusal",
    "RefusedError",
    "Register",
    "RejectedError",
    "Remove",
    "Server",
    "ServerConfig",
    "ServerId",
    "SnapshotPolicy",
    "StateMachine",
    "StateMachineError",
    "Status",
    "StorageDamaged",
    "StorageError",
    "Term",
    "TransferringError",
    "UnknownServerError",
    "UnreachableError",
    "Wal",
    "read_secret",
]

# Importing ``raft.core`` runs this file first, and the core must load nothing but itself.
_HOMES = {
    "raft.applying": ("SnapshotPolicy",),
    "raft.certificate": ("Certificate",),
    "raft.client": ("Raft",),
    "raft.core.core": ("Config", "Core"),
    "raft.core.membership": ("AddLearner", "AddVoter", "Demote", "Remove"),
    "raft.core.messages": ("Entry", "EntryKind", "Index", "ServerId", "Term"),
    "raft.core.ready": ("Refusal",),
    "raft.errors": (
        "BusyError",
        "ChangeInProgressError",
        "ConfigurationMovedError",
        "DeclinedError",
        "GivenUpError",
        "ImpossibleError",
        "LaggingError",
        "NoCommitYetError",
        "NoLeaderError",
        "NotInTimeError",
        "NotLeaderError",
        "OutcomeUnknownError",
        "RaftError",
        "RefusedError",
        "RejectedError",
        "TransferringError",
        "UnknownServerError",
        "UnreachableError",
    ),
    "raft.frames": ("Consistency", "Members", "ObservationsLost", "Status"),
    "raft.machine.base": ("StateMachine", "StateMachineError"),
    "raft.machine.kv": ("KeyValue",),
    "raft.machine.register": ("Register",),
    "raft.member": ("Member",),
    "raft.secret": ("read_secret",),
    "raft.server": ("Server", "ServerConfig"),
    "raft.storage.base": ("LogStore", "StorageDamaged", "StorageError"),
    "raft.storage.memory": ("MemoryStore",),
    "raft.storage.wal": ("Wal",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value
