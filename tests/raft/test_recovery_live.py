"""Real servers whose disks age: repaired by the others, or refused with the reason."""

from __future__ import annotations

from pathlib import Path

from raft.storage.log_file import used_bytes
from tests.raft.cluster import RealCluster, eventually


def flip_in_the_log(directory: Path) -> Path:
    """Flip a bit of the last thing that is written in a server's log."""
    path = max(directory.glob("log-*"), key=lambda path: int(path.name.removeprefix("log-")))
    content = bytearray(path.read_bytes())
    content[used_bytes(bytes(content), 0) - 20] ^= 4
    path.write_bytes(content)
    return path


async def test_a_damaged_log_is_got_back_from_the_others(cluster: RealCluster) -> None:
    for number in range(20):
        await cluster.put(b"key %d" % number, b"x" * 100)
    leader = await cluster.leader()
    await cluster.kill(leader.server)
    path = flip_in_the_log(cluster.data(leader.server))
    helper = next(server for server in cluster.addresses if server != leader.server)
    await cluster.kill(helper)
    await cluster.start(leader.server)
    assert f"{path}: damaged at byte" in cluster.log(leader.server)
    assert "follower, recovering" in (await cluster.command("status")).out.decode()
    await cluster.kill(leader.server)
    await cluster.start(leader.server)
    assert "the log is still being got back" in cluster.log(leader.server)
    await cluster.start(helper)
    await cluster.put(b"after", b"y")

    async def recovered() -> bool | None:
        return "the log is whole again" in cluster.log(leader.server) or None

    await eventually(recovered, "the server votes again")
    assert "recovering" not in (await cluster.command("status")).out.decode()
    await cluster.kill(helper)
    assert await cluster.get(b"key 19") == b"x" * 100, "it votes again, or nobody could lead"
    assert list(cluster.data(leader.server).glob("damaged-log-*")) != []
