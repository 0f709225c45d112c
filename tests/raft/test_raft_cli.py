"""The command ``raft``: real processes on loopback, used from outside."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path

import psutil
import pytest

from raft import cli, using
from raft import serving as served
from raft.core.events import Role
from raft.core.log import HardState
from raft.core.messages import Entry, Index, ServerId, Term
from raft.errors import OutcomeUnknownError
from raft.frames import Caller, Campaign, CutPower, SetDisk
from raft.machine.kv import Put, encode_command
from raft.secret import read_secret, write_secret
from raft.server import ServerConfig
from raft.storage.log_file import used_bytes
from raft.storage.wal import Wal
from raft.transport import Connection, Identity, connect
from tests.raft.cluster import PATIENCE, RealCluster, eventually, run

ONE = ServerId(1)


# --- A cluster and its users -----------------------------------------------------------------


async def test_put_get_delete_status(cluster: RealCluster) -> None:
    put = await cluster.command("put", "greeting", "hello")
    assert (put.status, put.out, put.err) == (0, b"", "")
    get = await cluster.command("get", "greeting")
    assert (get.status, get.out, get.err) == (0, b"hello", "")
    status = await cluster.command("status")
    assert (status.status, status.err) == (0, "")
    title, *rows = status.out.decode().splitlines()
    assert title.split() == [
        *("server", "address", "role", "term", "vote", "leader"),
        *("last", "commit", "applied", "snapshot", "members"),
    ]
    assert all(row.split()[9:] == ["-", "1", "2", "3"] for row in rows)
    assert [row.split()[:2] for row in rows] == [
        [str(server), address] for server, address in cluster.addresses.items()
    ]
    assert sorted(row.split()[2] for row in rows) == ["follower", "follower", "leader"]
    assert (await cluster.command("delete", "greeting")).status == 0
    gone = await cluster.command("get", "greeting")
    assert (gone.status, gone.out, gone.err) == (1, b"", "raft get: there is no key greeting\n")


async def test_cas_append_incr_scan(alone: RealCluster) -> None:
    async def said(*arguments: str | bytes) -> tuple[int, str]:
        finished = await alone.command(*arguments)
        return finished.status, finished.out.decode() + finished.err

    assert await said("cas", "x", "1", "2") == (1, "raft cas: there is no key x\n")
    assert await said("put", "--new", "x", "1") == (0, "")
    assert await said("put", "--new", "x", "9") == (1, "raft put: x holds 1\n")
    assert await said("cas", "x", "7", "8") == (1, "raft cas: x holds 1\n")
    assert await said("cas", "x", "1", "40") == (0, "")
    assert await said("incr", "x", "-2") == (0, "38\n")
    assert await said("incr", "x") == (0, "39\n")
    assert await said("append", "y", "a\tb\n") == (0, "")
    assert await said("incr", "y") == (1, "raft incr: the value is no number in decimal digits\n")
    assert await said("scan") == (0, "x\t39\ny\ta\\tb\\n\n")
    assert await said("scan", "y", "--stale") == (0, "y\ta\\tb\\n\n")
    assert await said("scan", "--limit", "1") == (0, "x\t39\n")
    assert await said("scan", "nothing") == (0, "")


async def test_a_scan_is_printed_page_after_page(
    alone: RealCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in "abcdefghi":
        await alone.put(key.encode(), key.encode() * 60_000)
    for options, keys in (([], "abcdefghi"), (["--limit", "7"], "abcdefg")):
        arguments = cli._parser().parse_args(["scan", *options])
        await using._scan(alone.raft, arguments)
        lines = capsys.readouterr().out.splitlines()
        assert "".join(line[0] for line in lines) == keys
        assert all(line == f"{line[0]}\t{line[0] * 60_000}" for line in lines), "all of each value"


async def test_a_killed_leader_is_replaced_and_comes_back_as_a_follower(
    cluster: RealCluster,
) -> None:
    await cluster.command("put", "x", "1")
    old = await cluster.leader()
    await cluster.kill(old.server)
    assert (await cluster.command("get", "x")).out == b"1"
    assert (await cluster.command("put", "x", "2")).status == 0
    table = (await cluster.command("status")).out.decode()
    assert re.search(rf"^{old.server} +\S+ +unreachable: nobody listens$", table, re.MULTILINE)
    new = await cluster.leader()
    assert new.server != old.server
    assert new.term > old.term
    await cluster.start(old.server)

    async def caught_up() -> bool:
        statuses = await cluster.statuses()
        return len(statuses) == 3 and len({s.last_applied for s in statuses.values()}) == 1

    await eventually(caught_up, "the old leader has what the others have")
    assert (await cluster.command("get", "x")).out == b"2"


async def test_bug_11_everything_acknowledged_outlives_all_servers(cluster: RealCluster) -> None:
    for number in range(20):
        await cluster.put(b"key%d" % number, b"%d" % number)
    before = await cluster.leader()
    await asyncio.gather(*map(cluster.kill, cluster.addresses))
    await asyncio.gather(*map(cluster.start, cluster.addresses))
    assert [await cluster.get(b"key%d" % number) for number in range(20)] == [
        b"%d" % number for number in range(20)
    ]
    assert (await cluster.leader()).term > before.term, "the vote of a term is never given twice"


async def test_a_minority_acknowledges_nothing(cluster: RealCluster) -> None:
    leader = await cluster.leader()
    for server in set(cluster.addresses) - {leader.server}:
        await cluster.kill(server)

    async def has_stepped_down() -> bool:
        return (await cluster.raft.status(leader.server)).role is not Role.LEADER

    await eventually(has_stepped_down, "the leader that no majority answers steps down")
    put = await cluster.command("put", "x", "1", "--timeout", "500ms")
    assert put.status == 1
    assert "no leader answered within 0.5 s" in put.err
    get = await cluster.command("get", "x", "--timeout", "500ms")
    assert get.status == 1
    assert "no leader answered within 0.5 s" in get.err
    assert "Traceback" not in put.err + get.err


async def test_a_state_machine_that_fails_ends_its_server_at_every_start(tmp_path: Path) -> None:
    """49: it names the entry, which is not skipped, and says what to do."""
    async with RealCluster(tmp_path, 1, program="tests.raft.journal") as cluster:
        await cluster.raft.propose(b"good", PATIENCE)
        process = cluster.processes[ONE]
        with pytest.raises(OutcomeUnknownError):
            await cluster.raft.propose(b"poison", PATIENCE, ONE)
        for start in range(2):
            if start:
                process = await cluster.start(ONE)
            assert await asyncio.wait_for(process.wait(), PATIENCE) == 1
            named = re.findall(r"CRITICAL server 1 cannot go on: (.*?)\\n", cluster.log(ONE))
            assert len(named) == start + 1
            assert re.fullmatch(
                r"the state machine failed on entry 4, a command of 6 bytes: "
                r"RuntimeError: cannot stand it; it is committed, .*: repair the state machine.*",
                named[start],
            )
            assert cluster.log(ONE).count("journal.py") == start + 1, "where it was raised"
        del cluster.processes[ONE]
        cluster.log_file(ONE).unlink()


async def test_servers_that_are_too_far_from_each_other_say_so(tmp_path: Path) -> None:
    async with RealCluster(tmp_path, program="tests.raft.far_away") as cluster:

        async def is_told() -> bool:
            await cluster.raft.propose(encode_command(Put(b"x", b"1")), PATIENCE)
            return any("election timeouts from 150 ms are too" in log for log in logs())

        def logs() -> list[str]:
            return [cluster.log(server) for server in cluster.addresses]

        assert await eventually(is_told, "a warning")


async def test_a_torn_write_is_dropped_at_the_next_start(cluster: RealCluster) -> None:
    await cluster.put(b"x", b"1")
    leader = await cluster.leader()
    follower = next(server for server in cluster.addresses if server != leader.server)
    await cluster.kill(follower)
    path = newest_segment(cluster.data(follower))
    with path.open("r+b") as file:
        file.seek(used_bytes(file.read(), 0))
        file.write(b"half a record")
    await cluster.start(follower)
    assert "dropped 13 bytes of an unfinished write" in cluster.log(follower)
    assert await cluster.get(b"x") == b"1"


async def test_bug_52_a_stranger_is_told_why_it_is_refused(
    cluster: RealCluster, tmp_path: Path
) -> None:
    """Two clusters talk: the wrong secret, the wrong name."""
    write_secret(tmp_path / "other")
    wrong_secret = await cluster.command("get", "x", "--secret-file", str(tmp_path / "other"))
    assert wrong_secret.status == 1
    assert "could not prove that it knows the secret of cluster 'test'" in wrong_secret.err
    assert "(or the secret file used here is the wrong one)" in wrong_secret.err
    wrong_cluster = await cluster.command("put", "x", "1", "--cluster", "other")
    assert wrong_cluster.status == 1
    assert "belongs to cluster 'test', the caller to 'other'" in wrong_cluster.err
    status = await cluster.command("status", "--cluster", "other")
    assert (status.status, status.err) == (1, "raft status: no server answered\n")
    assert status.out.decode().count("refused: this server belongs to cluster 'test'") == 3


async def test_foreign_bytes_reach_a_pipe_as_they_are_and_a_terminal_made_visible(
    alone: RealCluster,
) -> None:
    hostile = b"\x1b]0;owned\x07\xff [bold]"
    assert (await alone.command("put", b"\xffkey", hostile)).status == 0
    assert (await alone.command("get", b"\xffkey")).out == hostile
    master, terminal = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raft", "get", b"\xffkey"),
        stdout=terminal,
        env={**os.environ, **alone.environment},
    )
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    os.close(terminal)
    shown = os.read(master, 4096)
    os.close(master)
    assert shown == rb"\x1b]0;owned\x07\xff [bold]" + b"\r\n"
    missing = await alone.command("get", b"\x1b[2Jnothing")
    assert missing.err == "raft get: there is no key \\x1b[2Jnothing\n"


async def test_keys_and_values_that_are_too_long_are_refused(alone: RealCluster) -> None:
    too_long = await alone.command("put", "k" * 1025, "v")
    assert (too_long.status, too_long.err) == (
        1,
        "raft put: the key has 1025 bytes; at most 1024 are allowed\n",
    )
    assert (await alone.command("get", "k" * 1025)).status == 1


async def test_the_reader_of_our_output_may_leave(alone: RealCluster) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raft", "status"),
        stdout=write_end,
        stderr=PIPE,
        env={**os.environ, **alone.environment},
    )
    os.close(write_end)
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")
@pytest.mark.parametrize("buffered", ["", "1"])
async def test_output_that_cannot_be_written_is_named(buffered: str) -> None:
    with open("/dev/full", "wb") as full:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "raft", "sim", "--faults", "list"),
            stdout=full,
            stderr=PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )
    status, err = await ended(process)
    assert (status, err) == (1, "raft sim: standard output: No space left on device\n")


def without(streams: str, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with some of its standard streams closed."""
    script = ["sh", "-c", f'exec "$@" {streams}', "sh", *command]
    return subprocess.run(script, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_standard_streams_may_be_closed(tmp_path: Path) -> None:
    raft = (sys.executable, "-m", "raft")
    made = without(">&-", *raft, "secret", str(tmp_path / "one"))
    assert (made.returncode, made.stderr) == (0, "")
    again = without("2>&-", *raft, "secret", str(tmp_path / "one"))
    assert (again.returncode, again.stdout) == (1, "")
    misused = without("2>&-", *raft, "get")
    assert (misused.returncode, misused.stdout) == (2, "")
    unattended = without("<&-", *serve_command(tmp_path, "--attended"))
    assert unattended.returncode == 0
    assert "Traceback" not in unattended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="nothing here is always full")
def test_a_server_that_cannot_say_where_it_listens_ends(tmp_path: Path) -> None:
    ended = without(">/dev/full", *serve_command(tmp_path))
    assert ended.returncode == 1
    assert "cannot say where this server listens: No space left on device" in ended.stderr
    assert "CRITICAL" not in ended.stderr
    assert "Traceback" not in ended.stderr


# --- One server process ----------------------------------------------------------------------


def serve_command(directory: Path, *more: str) -> list[str]:
    secret = directory / "secret"
    if not secret.exists():
        write_secret(secret)
    return [
        *(sys.executable, "-m", "raft", "serve", "--id", "1", "--cluster", "test"),
        *("--listen", "127.0.0.1:0", "--secret-file", str(secret)),
        *("--data", str(directory / "data"), *more),
    ]


@asynccontextmanager
async def serving(directory: Path, *more: str) -> AsyncIterator[Process]:
    """Start a server, wait until it says where it listens, and leave nothing of it behind."""
    process = await asyncio.create_subprocess_exec(
        *serve_command(directory, *more), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout is not None
        announced = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE))
        assert re.fullmatch(r"127\.0\.0\.1:\d+", announced.pop("address"))
        assert announced == {"server": 1, "pid": process.pid}
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: Process) -> tuple[int | None, str]:
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode, err.decode()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_a_server_in_good_order(tmp_path: Path, how: signal.Signals) -> None:
    async with serving(tmp_path) as process:
        process.send_signal(how)
        status, err = await ended(process)
    assert status == 0
    assert "Traceback" not in err


async def test_an_attended_server_ends_with_its_input(tmp_path: Path) -> None:
    async with serving(tmp_path, "--attended") as process:
        assert process.stdin is not None
        process.stdin.write(b"words that mean nothing\n")
        await process.stdin.drain()
        assert process.returncode is None
        process.stdin.close()
        status, err = await ended(process)
    assert status == 0
    assert "Traceback" not in err


async def observer(directory: Path, address: str) -> Connection:
    identity = Identity("test", None, read_secret(directory / "secret"))
    return await connect(
        address, identity, Caller.OBSERVER, ServerId(1), lambda frame: None, lambda reason: None
    )


async def announced_address(process: Process) -> str:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    return str(json.loads(line)["address"])


async def test_the_power_of_an_attended_server_can_be_cut(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *serve_command(tmp_path, "--attended"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    connection = await observer(tmp_path, await announced_address(process))
    connection.send(SetDisk(0.0, full=False, fail_sync=False, tear=False))
    connection.send(CutPower())
    status, _ = await ended(process)
    assert status == -signal.SIGKILL
    connection.close("over")


async def test_a_disk_that_fails_ends_an_attended_server_with_the_reason(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *serve_command(tmp_path, "--attended"), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    connection = await observer(tmp_path, await announced_address(process))
    connection.send(SetDisk(0.0, full=False, fail_sync=True, tear=False))
    connection.send(Campaign())
    status, errors = await ended(process)
    assert status == 3
    assert "Input/output error" in errors.splitlines()[-1]
    connection.close("over")


async def test_rules_are_broken_on_purpose_and_said_aloud(tmp_path: Path) -> None:
    async with serving(tmp_path, "--attended", "--rules", "vote-twice") as process:
        assert process.stdin is not None
        process.stdin.close()
        status, errors = await ended(process)
    assert status == 0
    assert "WARNING broken on purpose: vote-twice" in errors


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--rules", "vote-twice"], "which only --attended servers may"),
        (["--attended", "--rules", "gravity"], "no rule 'gravity'"),
        (
            ["--attended", "--rules", "vote-twice", "--rules", "repeated-vote-refused"],
            "break the same rule",
        ),
    ],
)
async def test_rules_that_cannot_be_broken(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *serve_command(tmp_path, *arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    status, errors = await ended(process)
    assert status == 2
    assert reason in errors


async def test_an_attended_server_without_an_attendant_does_not_stay(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *serve_command(tmp_path, "--attended"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    status, err = await ended(process)
    assert status == 0
    assert "Traceback" not in err


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a child of its parent's death"
)
@pytest.mark.parametrize("paused", [False, True])
async def test_an_attended_server_does_not_outlive_its_parent(tmp_path: Path, paused: bool) -> None:
    """Its input stays open here: somebody else may hold the pipe. A paused one sees nothing."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:])"),
        *serve_command(tmp_path, "--attended"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert parent.stdout is not None
    announced = json.loads(await asyncio.wait_for(parent.stdout.readline(), PATIENCE))
    server = psutil.Process(announced["pid"])
    if paused:
        server.send_signal(signal.SIGSTOP)
    parent.kill()

    async def gone() -> bool:
        try:
            return server.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    try:
        await eventually(gone, "the server ended with its parent")
    finally:
        with suppress(psutil.NoSuchProcess):
            server.kill()
    await ended(parent)


# --- What makes a server refuse to start -----------------------------------------------------


async def refusal(directory: Path, *more: str) -> tuple[int | None, str]:
    """Start a server that must not start; return its exit status and its one line."""
    process = await asyncio.create_subprocess_exec(
        *serve_command(directory, *more), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert out == b""
    lines = err.decode().splitlines()
    assert "Traceback" not in err.decode()
    return process.returncode, lines[-1]


async def test_two_servers_on_one_directory(tmp_path: Path) -> None:
    async with serving(tmp_path):
        status, line = await refusal(tmp_path)
    assert status == 3
    assert f"{tmp_path / 'data'}: in use by another process" in line


async def test_somebody_elses_directory(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    status, line = await refusal(tmp_path, "--cluster", "other")
    assert status == 3
    assert "belongs to server 1 of cluster 'test', not to server 1 of cluster 'other'" in line


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (("--peer", "2=127.0.0.1:1"), "founded by 1, and now the members are 1 2: start it with"),
        (("--join",), "founded by 1, and now the members are none of its own (it waits to be"),
    ],
)
async def test_other_members_than_it_was_founded_with(
    tmp_path: Path, now: tuple[str, ...], told: str
) -> None:
    """It would elect others, or be elected by others, than those who have its entries."""
    async with serving(tmp_path):
        pass
    with closing(Wal(tmp_path / "data", "test", ServerId(1))) as wal:
        wal.load()
        wal.save(HardState(Term(1)), Index(1), [Entry(Term(1))])
    status, line = await refusal(tmp_path, *now)
    assert status == 3
    assert f"{tmp_path / 'data'}: its cluster was {told}" in line
    async with serving(tmp_path):
        pass


async def test_as_long_as_the_log_is_empty_the_founders_may_be_others(tmp_path: Path) -> None:
    """Whoever mistyped one at the first start tries again."""
    for founders in (("--peer", "2=127.0.0.1:1"), ("--join",)):
        async with serving(tmp_path, *founders):
            pass
    async with serving(tmp_path):
        pass
    assert (tmp_path / "data" / "founders").read_text() == "1\n"


async def test_a_damaged_log(tmp_path: Path) -> None:
    async with serving(tmp_path):
        pass
    path = newest_segment(tmp_path / "data")
    damaged = bytearray(path.read_bytes())
    damaged[10] ^= 1
    path.write_bytes(damaged)
    status, line = await refusal(tmp_path)
    assert status == 3
    assert f"{path}: damaged at byte 0: the header's checksum does not match it" in line
    assert "no other servers are known that could elect a leader without this one" in line


def newest_segment(directory: Path) -> Path:
    return max(directory.glob("log-*"), key=lambda path: int(path.name.removeprefix("log-")))


async def test_an_address_that_is_taken_or_not_loopback(tmp_path: Path) -> None:
    other = ("--data", str(tmp_path / "other"), "--listen")
    async with serving(tmp_path) as process:
        connections = psutil.Process(process.pid).net_connections("tcp")
        port = next(c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN)
        status, line = await refusal(tmp_path, *other, f"127.0.0.1:{port}")
    assert status == 1
    assert f"cannot listen at 127.0.0.1:{port}: " in line
    assert "address already in use" in line
    status, line = await refusal(tmp_path, *other, "0.0.0.0:0")
    assert status == 1
    assert "only loopback addresses are allowed" in line
    assert not (tmp_path / "other").exists(), "it is no server's yet"


# --- The command line itself -----------------------------------------------------------------

CLUSTER = ["--cluster", "test", "--server", "1=127.0.0.1:1"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["get", "x", "--cluster", "test"], "which servers? Give --server ID=HOST:PORT"),
        (["get", "x", *CLUSTER[2:], "--secret-file", "secret"], "which cluster? Give --cluster"),
        (["get", "x", *CLUSTER], "which secret? Give --secret-file FILE or --certificate FILE"),
        (
            ["get", "x", *CLUSTER, "--secret-file", "secret", "--certificate", "secret"],
            "not allowed with argument --secret-file",
        ),
        (["get", "x", *CLUSTER, "--certificate", "nowhere"], "nowhere: No such file or directory"),
        (["get", "x", *CLUSTER, "--certificate", "open"], "open: others may use this file"),
        (
            ["get", "x", *CLUSTER, "--certificate", "secret"],
            "secret: there should be a certificate",
        ),
        (["get", "x", *CLUSTER, "--secret-file", "nowhere"], "nowhere: No such file or directory"),
        (["get", "x", *CLUSTER, "--secret-file", "open"], "open: others may use this file"),
        (["get", "x", *CLUSTER, "--secret-file", "empty"], "empty: the file holds no secret"),
        (["get", "x", *CLUSTER, "--secret-file", "short"], "at least 16 are needed"),
        (
            ["get", "x", *CLUSTER, "--server", "1=127.0.0.1:2"],
            "--server: server 1 is given twice",
        ),
        (
            ["get", "x", *CLUSTER, "--server", "2=127.0.0.1:1"],
            "--server: servers 1 and 2 cannot both be at 127.0.0.1:1",
        ),
        (["get", "x", "--server", "127.0.0.1:1"], "'127.0.0.1:1' should be ID=HOST:PORT"),
        (["get", "x", "--server", "0=127.0.0.1:1"], "'0' is no server id: a number from 1 on is"),
        (["get", "x", "--server", "1=here"], "'here' is not an address"),
        (["get", "x", "--server", "1=a..b:1"], "there can be no host 'a..b': 127.0.0.1 is one"),
        (
            ["get", "x", "--server", "1=127.0.0.1:1,2=127.0.0.1:2"],
            "'1=127.0.0.1:1,2=127.0.0.1:2' are several: give the option once for each server",
        ),
        (["get", "x", "--server", "1=h:99999"], "--server: 'h:99999': there is no port 99999"),
        (["get", "x", "--server", "1=h:0"], "--server: 'h:0': nobody can be called at port 0"),
        (["add", "4", "h:0"], "HOST:PORT: 'h:0': nobody can be called at port 0"),
        (["serve", "--peer", "2=h:-1"], "--peer: 'h:-1': there is no port -1: 1 to 65535 are"),
        (["serve", "--advertise", "h:0"], "--advertise: 'h:0': nobody can be called at port 0"),
        (
            ["serve", "--peer", "2=h:1", "--peer", "3=h:1"],
            "--peer: servers 2 and 3 cannot both be at h:1",
        ),
        (
            ["serve", "--listen", "127.0.0.1:1", "--peer", "2=127.0.0.1:1"],
            "--peer: servers 2 and 1 cannot both be at 127.0.0.1:1",
        ),
        (["serve", "--data", ""], "--data: a directory has a name"),
        (["serve", "--cluster", "\udcff"], "a cluster's name has 1 to 200 bytes of UTF-8\n"),
        (["serve", "--seed", "x"], "--seed: 'x' is no whole number"),
        (["serve", "--append-bytes", "2MiB"], "max_append_bytes must be at most 524288, not 2097"),
        (["incr", "x", "9223372036854775808"], "9223372036854775808 has more than 64 bits"),
        (["incr", "x", "-" + "1" * 5000], "1 has more than 64 bits: 9223372036854775807 has not"),
        (["get", "x", "--timeout", "-1s"], "--timeout: '-1s' is no duration: 150ms or 2s is"),
        (["get", "x", "--timeout", "inf"], "--timeout: 'inf' is no duration"),
        (["get", "x", "--timeout", "9" * 400 + "s"], "is no duration: 150ms or 2s is"),
        (["get", "x", "--server", "1" * 5000 + "=h:1"], "is no server id: a number from 1 on is"),
        (["serve", "--append-bytes", "1" * 5000], "is no size: 64MiB is, or a number of bytes"),
        (["serve", "--election-timeout", "9" * 400 + "s"], "is no duration: 150ms or 2s is"),
        (["sim", "--servers", "1" * 5000], "1 to 7 servers"),
        (["sim", "--operations", "1" * 5000], "is no number from 0 on"),
        (["sim", "--jobs", "1" * 5000], "one process at least"),
        (["sim", "--faults", "crash,"], "--faults: 'crash,': a name is missing"),
        (["sim", "--seconds", "-1s"], "--seconds: '-1s' are no seconds"),
        (["get", "x", "--timeout", "5"], "'5' is no duration: 150ms or 2s is"),
        (["get", "x", "--timeout", "0s"], "'0s' is no duration"),
        (["get"], "the following arguments are required: key"),
        (["serve", "--id", "1"], "the following arguments are required: --listen, --data"),
        (["serve", "--peer", "1=127.0.0.1:2"], "--peer names the other servers; 1 is this one"),
        (["serve", "--heartbeat", "1s"], "must be more frequent than election timeouts"),
        (["serve", "--election-timeout", "300ms..200ms"], "is longer than the longest"),
        (["serve", "--election-timeout", "fast"], "'fast' is no duration"),
        (["serve", "--snapshot-bytes", "64MB"], "'64MB' is no size: 64MiB is"),
        (["serve", "--snapshot-entries", "many"], "'many' is no number from 0 to 999"),
        (["serve", "--advertise", "here"], "'here' is not an address"),
        (["add", "4", *CLUSTER], "the following arguments are required: HOST:PORT"),
        (["add", "4", "here", *CLUSTER], "'here' is not an address"),
        (["remove", "all", *CLUSTER], "'all' is no server id"),
        (["get", "x", "--stale", "--lease"], "not allowed with argument --stale"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_usage_says_what_would_be_right(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("RAFT_SERVERS", "RAFT_CLUSTER", "RAFT_SECRET_FILE", "RAFT_CERTIFICATE"):
        monkeypatch.delenv(variable, raising=False)
    write_secret(Path("secret"))
    for name, content, mode in [
        ("open", "s" * 32, 0o640),
        ("empty", "\n", 0o600),
        ("short", "s", 0o600),
    ]:
        Path(name).write_text(content)
        Path(name).chmod(mode)
    if arguments[:1] == ["serve"] and "--id" not in arguments:
        whole = ["--id", "1", "--listen", "127.0.0.1:0", "--data", "data", "--cluster", "test"]
        arguments = ["serve", *whole, "--secret-file", "secret", *arguments[1:]]
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "00"])
def test_a_free_port_is_nobodys_address(
    port: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[ServerConfig] = []
    monkeypatch.setattr(served, "serve", lambda config, *more: begun.append(config) or 0)
    listen = ("--listen", f"127.0.0.1:{port}", "--peer", "2=127.0.0.1:1")
    assert cli.main(serve_command(tmp_path, *listen)[3:]) == 0
    assert [config.core.addresses for config in begun] == [((2, "127.0.0.1:1"),)]


def test_a_wrong_environment_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAFT_SERVERS", "1=127.0.0.1:1,2:127.0.0.1:2")
    with pytest.raises(SystemExit):
        cli.main(["get", "x"])
    assert "RAFT_SERVERS: '2:127.0.0.1:2' should be ID=HOST:PORT" in capsys.readouterr().err
    monkeypatch.setenv("RAFT_SERVERS", "1=127.0.0.1:1,1=127.0.0.1:2")
    with pytest.raises(SystemExit):
        cli.main(["get", "x"])
    assert "RAFT_SERVERS: server 1 is given twice" in capsys.readouterr().err


def test_a_certificate_in_the_environment_counts_more_than_a_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAFT_SECRET_FILE", "secret-that-is-not-there")
    monkeypatch.setenv("RAFT_CERTIFICATE", "alice-who-is-not-there")
    with pytest.raises(SystemExit):
        cli.main(["get", "x", *CLUSTER])
    assert "alice-who-is-not-there: No such file or directory" in capsys.readouterr().err


async def test_secret_makes_a_private_random_file_and_replaces_none(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        assert (await run("secret", str(path))).status == 0
        assert path.stat().st_mode & 0o777 == 0o600
    assert one.read_text() != other.read_text()
    before = one.read_text()
    again = await run("secret", str(one))
    assert (again.status, again.err) == (1, f"raft secret: {one}: File exists\n")
    assert one.read_text() == before


async def test_a_reason_reaches_the_terminal_made_visible(tmp_path: Path) -> None:
    failed = await run("secret", str(tmp_path / "no" / "\x1b[2J"))
    assert failed.err == f"raft secret: {tmp_path}/no/\\x1b[2J: No such file or directory\n"


def test_the_example_in_the_help_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    text = cli.DESCRIPTION.replace("\\\n", " ")
    commands = [line for line in text.splitlines() if line.startswith("  raft ")]
    assert len(commands) == 12
    parsed: list[argparse.Namespace] = [
        cli._parser().parse_args(shlex.split(command, comments=True)[1:]) for command in commands
    ]
    servers = [options for options in parsed if options.command == "serve"]
    table = {options.id: options.listen for options in servers if not options.join}
    for options in servers:
        assert {**dict(options.peer), options.id: options.listen} == table or options.join
    (joining,) = [options for options in servers if options.join]
    (added,) = [options for options in parsed if options.command == "add"]
    assert (added.id, added.address) == (joining.id, joining.listen)
    (variable,) = re.findall(r"RAFT_SERVERS=(\S+)", text)
    monkeypatch.setenv("RAFT_SERVERS", variable)
    assert cli._servers(added) == table


async def test_a_terminal_without_unicode_is_written_to_all_the_same() -> None:
    shown = await run("status", "--help", PYTHONIOENCODING="ascii")
    assert (shown.status, shown.err) == (0, "")
    assert b"1 2 3 \\u2192 1 2 4" in b" ".join(shown.out.split())


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from raft.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'asyncio', 'capnp', 'ctypes'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
