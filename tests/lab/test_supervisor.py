"""Server processes one by one, and the private directory that they run in."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile

import psutil
import pytest

from raftviz.lab.api import LabOptions
from raftviz.lab.run_directory import RunDirectory
from raftviz.lab.supervisor import ServerStartError, Supervisor

PEERS = {1: "127.0.0.1:1", 2: "127.0.0.1:2", 3: "127.0.0.1:3"}


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """A temporary directory of the test's own, where runs live."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def run(temp):
    run = RunDirectory()
    yield run
    run.remove()


@pytest.fixture
async def supervise(run):
    """Return a function that starts server 2; whatever it started ends with the test."""
    started = []

    async def start(supervisor=None):
        supervisor = supervisor or Supervisor(LabOptions(servers=3), 1, run)
        server = await supervisor.start(2, PEERS)
        started.append(server)
        return server

    yield start
    for server in started:
        server.kill()
        await server.ended()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# --- Processes -------------------------------------------------------------------------------


async def test_a_server_listens_where_it_says_as_leader_of_a_group_in_our_session(supervise):
    server = await supervise()
    host, port = server.address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()
    assert os.getpgid(server.pid) == server.pid
    assert os.getsid(server.pid) == os.getsid(0), "or its orphaned group would get no SIGHUP"


async def test_a_server_gets_its_secret_by_file_and_nothing_of_our_environment(
    supervise, run, monkeypatch
):
    monkeypatch.setenv("A_TOKEN_OF_OURS", "token")
    server = await supervise()
    process = psutil.Process(server.pid)
    assert "A_TOKEN_OF_OURS" not in process.environ()
    assert run.secret.decode() not in " ".join(process.cmdline())
    assert str(run.secret_file) in process.cmdline()


async def test_a_killed_server_is_said_to_be_killed(supervise):
    server = await supervise()
    server.kill()
    assert await server.ended() == "killed (SIGKILL)"


async def test_a_server_that_ends_by_itself_leaves_its_last_words(supervise, run):
    server = await supervise()
    with (run.server_directory(2) / "stderr.txt").open("ab") as file:
        file.write(b"so long \x1b[2J\n2026-11-24 12:02:25,705 WARNING dropped 58 bytes\n")
    os.kill(server.pid, signal.SIGTERM)
    assert await server.ended() == r"exit status 0: so long \x1b[2J"


async def test_a_server_that_cannot_start_says_why(supervise, run):
    data = run.server_directory(2) / "data"
    data.write_text("not a directory")
    with pytest.raises(ServerStartError, match=r"S2 did not start: .*data"):
        await supervise()


async def test_a_server_that_is_given_up_while_it_starts_is_gone(supervise):
    before = set(psutil.Process().children())
    starting = asyncio.ensure_future(supervise())
    while not set(psutil.Process().children()) - before:
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert set(psutil.Process().children()) == before


async def test_each_process_of_a_server_draws_other_timeouts_and_the_same_in_every_run(
    supervise, run
):
    def seed(server):
        line = psutil.Process(server.pid).cmdline()
        return line[line.index("--seed") + 1]

    seeds = []
    for _ in range(2):
        supervisor = Supervisor(LabOptions(servers=3), 1, run)
        for _ in range(2):
            server = await supervise(supervisor)
            seeds.append(seed(server))
            server.kill()
            await server.ended()
    assert seeds[:2] == seeds[2:]
    assert seeds[0] != seeds[1]


# --- The directory of a run ------------------------------------------------------------------


def test_a_run_is_private_and_leaves_nothing(temp):
    run = RunDirectory()
    assert mode(run.path) == 0o700
    assert mode(run.secret_file) == 0o600
    assert mode(run.server_directory(1)) == 0o700
    run.remove()
    assert list(temp.iterdir()) == []


def test_a_path_too_long_for_a_socket_is_refused_with_a_way_out(temp, monkeypatch):
    deep = temp / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(OSError, match="set TMPDIR to a shorter path"):
        RunDirectory()
    assert list(deep.iterdir()) == []


def test_data_that_was_asked_for_is_kept(temp):
    run = RunDirectory(temp / "kept")
    (run.server_directory(1) / "data").write_text("precious")
    run.remove()
    assert (temp / "kept" / "s1" / "data").read_text() == "precious"
    assert [path.name for path in temp.iterdir()] == ["kept"]


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_live_run_is_not(temp):
    code = (
        f"import os, signal, tempfile; tempfile.tempdir = {str(temp)!r};"
        "from raftviz.lab.run_directory import RunDirectory; run = RunDirectory();"
        "print(run.path, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    left = killed.stdout.strip()
    assert os.path.isdir(left)

    live = RunDirectory()
    assert not os.path.exists(left)
    other = RunDirectory()
    assert live.path.is_dir()
    other.remove()
    live.remove()


def test_what_is_no_run_is_not_touched(temp):
    (temp / "raftviz-notes").mkdir()
    (temp / "raftviz-file").write_text("mine")
    (temp / "elsewhere").mkdir()
    (temp / "elsewhere" / "lock").write_text("")
    (temp / "raftviz-link").symlink_to(temp / "elsewhere")
    RunDirectory().remove()
    assert sorted(path.name for path in temp.iterdir()) == [
        "elsewhere",
        "raftviz-file",
        "raftviz-link",
        "raftviz-notes",
    ]
    assert (temp / "elsewhere" / "lock").exists()
