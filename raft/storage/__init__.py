"""Where a server keeps what it must not forget."""

from raft.storage.base import LogStore, Recovered, StorageDamaged, StorageError, StorageFull
from raft.storage.memory import MemoryStore
from raft.storage.wal import Wal

__all__ = [
    "LogStore",
    "MemoryStore",
    "Recovered",
    "StorageDamaged",
    "StorageError",
    "StorageFull",
    "Wal",
]
