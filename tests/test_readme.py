"""Every command and program of the README works as it stands there.

The first two commands set everything up; CI runs the second one as it stands, and a test of
the terminal starts what the first one starts.
"""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raft.secret import write_secret
from raftviz import lesson
from tests.bench.terminal import Explorer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def block(language: str, word: str) -> str:
    """The one block of that language that holds ``word``."""
    (found,) = (text for text in blocks(language) if word in text)
    return found


def run(command: list[str], folder: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command with this environment's programs on the path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody uses; asked for together, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_the_first_two_commands_are_one_line_each() -> None:
    explore, tests, uv = (text.splitlines() for text in blocks("sh")[:3])
    assert len(explore) == len(tests) == 1
    assert explore[0].endswith("/raftviz")
    assert "pytest" in tests[0]
    assert len(uv) == 2


def test_the_scenario_runs(tmp_path: Path) -> None:
    finished = run(["bash", "-e", "-c", block("sh", "raftviz run -")], tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def with_free_ports(*texts: str) -> list[str]:
    """The same texts, with ports that nobody uses in the place of 7001 and those that follow."""
    numbers = sorted({number for text in texts for number in re.findall(r":(70\d\d)\b", text)})
    assert numbers
    ports = dict(zip(numbers, free_ports(len(numbers)), strict=True))
    return [re.sub(r":(70\d\d)\b", lambda found: f":{ports[found[1]]}", text) for text in texts]


def test_the_librarys_servers_serve_and_the_cluster_grows(tmp_path: Path) -> None:
    begin, grow = with_free_ports(block("sh", "raft secret"), block("sh", "raft promote"))
    script = f"{begin}\necho ---\n{grow}\nkill $(jobs -p)\nwait"
    finished = run(["bash", "-e", "-c", script], tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    before, after = finished.stdout.split("---")
    assert "hello" in before
    assert re.search(r"^\d +127\.0\.0\.1:\d+ +leader ", before, flags=re.M)
    assert "server 4 leads" in after
    status = after[after.rindex("server  address") :].splitlines()[1:]
    roles = {row.split()[0]: row.split()[2] for row in status if row[:1].isdigit()}
    assert roles["4"] == "leader"
    assert roles["5"] == "follower"
    assert {row.split(maxsplit=10)[10] for row in status if row[:1] in "2345"} == {"2 3 4 5"}


def test_the_encrypted_servers_serve(tmp_path: Path) -> None:
    """In the terminal of the commands before, which have set a secret."""
    (script,) = with_free_ports(block("sh", "raft certs"))
    before = "export RAFT_CLUSTER=demo RAFT_SECRET_FILE=demo.secret"
    finished = run(["bash", "-e", "-c", f"{before}\n{script}kill $(jobs -p)\nwait"], tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "hello" in finished.stdout
    made = re.findall(r"^demo-certs/(\S+): (.+) of cluster 'demo', until ", finished.stdout, re.M)
    assert made[:4] == [
        *((f"server-{number}.pem", f"server {number}") for number in (1, 2, 3)),
        ("client-alice.pem", "client alice"),
    ]
    assert made[-1] == ("server-1.pem", "server 1")


def buy(port: int, text: str) -> str:
    """Ask for a seat, as soon as there is somebody to ask; return whose it is."""
    deadline = time.monotonic() + 60
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=60)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nobody sells seats at {port}"
            time.sleep(0.02)
            continue
        with connection, connection.makefile("rw") as lines:
            lines.write(text + "\n")
            lines.flush()
            return lines.readline().strip()


def test_the_replicated_application(tmp_path: Path) -> None:
    """Three processes, one of them killed and started again."""
    program = block("python", "class Seats")
    assert len(program.splitlines()) <= 40
    (tmp_path / "seats.py").write_text(with_free_ports(program)[0])
    write_secret(tmp_path / "demo.secret")
    ports = free_ports(3)

    def start(me: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "error", "seats.py", str(me), str(ports[me - 1])]
        return subprocess.Popen(command, cwd=tmp_path)

    running = [start(me) for me in (1, 2, 3)]
    try:
        assert buy(ports[0], "A7 Ann") == "Ann"
        assert buy(ports[1], "A7 Bob") == "Ann"
        running[0].kill()
        running[0].wait()
        assert buy(ports[2], "B1 Cid") == "Cid"
        running.append(start(1))
        assert buy(ports[0], "B1 Ann") == "Cid"
    finally:
        for process in running:
            process.kill()
            process.wait()


def test_the_log_store(tmp_path: Path) -> None:
    (program,) = with_free_ports(block("python", "class SqliteStore:"))
    (tmp_path / "sqlite_store.py").write_text(program)
    said = []
    for _ in range(2):
        finished = run([sys.executable, "-W", "error", "sqlite_store.py"], tmp_path)
        assert (finished.returncode, finished.stderr) == (0, "")
        said.append(finished.stdout)
    assert said == ["Holds(value=b'')\n", "Holds(value=b'remembered')\n"]


def test_the_test_of_the_log_store(tmp_path: Path) -> None:
    (tmp_path / "sqlite_store.py").write_text(block("python", "class SqliteStore:"))
    test = block("python", "class TestSqliteStore")
    assert len(re.findall(r"^.*\S", test, flags=re.M)) == 5
    (tmp_path / "test_sqlite_store.py").write_text(test)
    finished = run(["pytest", "-q", "-W", "error", "-p", "no:cacheprovider"], tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert re.search(r"^\d\d passed", finished.stdout, flags=re.M)


@pytest.mark.parametrize("command", block("sh", "raftviz lesson").splitlines())
def test_the_lessons_open(command: str) -> None:
    program, *arguments = command.split()
    assert program == "raftviz"
    steps = len(lesson.load(arguments[1]).steps)
    explorer = Explorer(*arguments)
    try:
        explorer.until(lambda: f"step 1 of {steps}" in explorer.shown)
    finally:
        explorer.close()


def test_the_commands_that_the_readme_teaches_exist() -> None:
    assert run(["raftviz", "commands"], ROOT).returncode == 0


def test_no_link_leads_nowhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("*/README.md")]:
        links = re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text())
        dead = [link for link in links if not (page.parent / link).exists()]
        assert dead == [], page
