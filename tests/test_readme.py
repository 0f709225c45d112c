"""Every command and program of the README works as it stands there.

The first two commands set everything up; CI runs the second one as it stands, and a test of
the terminal starts what the first one starts.
"""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


def test_the_librarys_servers_serve(tmp_path: Path) -> None:
    script = block("sh", "raft serve")
    for documented, free in zip((7001, 7002, 7003), free_ports(3), strict=True):
        assert f":{documented}" in script
        script = script.replace(f":{documented}", f":{free}")
    finished = run(["bash", "-e", "-c", script + "wait"], tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "hello" in finished.stdout
    assert re.search(r"^\d +127\.0\.0\.1:\d+ +leader ", finished.stdout, flags=re.M)


def test_the_embedding_program_runs(tmp_path: Path) -> None:
    program = block("python", "import asyncio")
    finished = run([sys.executable, "-W", "error", "-"], tmp_path, program)
    assert (finished.returncode, finished.stdout, finished.stderr) == (0, "b'40' b'42'\n", "")


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
