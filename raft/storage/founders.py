"""Who founded the cluster, beside a server's log until the log itself says who belongs.

Before anybody is added or removed no entry and no snapshot names the members: those count that
a server is started with. Started once more with others it would be in another cluster, which
its log does not tell from its own: with itself alone, it would elect itself and commit what
nobody else has.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from raft.core.core import Core
from raft.storage.base import StorageError
from raft.storage.disk import Disk, RealDisk, put_file

NAME = "founders"


def check_founders(directory: Path, core: Core, disk: Disk | None = None) -> None:
    """Check that a server has the members that it was founded with; at its first start note them.

    Raises StorageError if they are others, or the disk refuses.
    """
    if core.configuration_index > 0 or core.snapshot is not None:
        return
    path, given = directory / NAME, _listed(core.config.members)
    try:
        known = path.read_text("ascii").strip() if path.exists() else None
        if known is not None and known != given and core.log.last_index > 0:
            raise StorageError(
                f"{directory}: its cluster was founded by {_told(known)}, and now the members are "
                f"{_told(given)}: start it with those of before; they are changed while it runs"
            )
        if known != given:
            disk = disk or RealDisk()
            disk.close(put_file(disk, path, f"{given}\n".encode()))
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _listed(members: Iterable[int]) -> str:
    return " ".join(map(str, sorted(members)))


def _told(members: str) -> str:
    return members or "none of its own (it waits to be added)"
