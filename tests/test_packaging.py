"""The wheel works where there is no checkout: it brings its schemas and lessons along."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent

SCENARIO = """\
expect leader != 0 within 20s
put greeting hello
expect leader != 0 && s1.kv["greeting"] == "hello" within 20s
"""


def run(*command: str | Path, cwd: Path, **options: object) -> str:
    """Run a command outside the checkout, and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    finished = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, **options
    )
    assert finished.returncode == 0, f"{command}:\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def built_wheel(folder: Path) -> Path:
    """Build the source distribution, and from it the wheel; both need nothing from the network."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def empty_environment(folder: Path) -> Path:
    """Make an environment that has the project's dependencies, but not the project."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file brings the packages there, not the editable project beside them.
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_wheel_runs_a_scenario_in_an_empty_environment(tmp_path: Path) -> None:
    wheel = built_wheel(tmp_path)
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {f"raft/schemas/{p.name}" for p in ROOT.glob("schemas/*.capnp")} <= packed
    assert {f"raftviz/lessons/{p.name}" for p in ROOT.glob("lessons/*.md")} <= packed
    assert {name.split("/")[0] for name in packed} == {"raft", "raftviz", "raftviz-0.1.0.dist-info"}

    programs = empty_environment(tmp_path / "environment")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(programs / "pip", "install", "-q", "--no-index", "--no-deps", wheel, cwd=elsewhere)

    where = run(
        programs / "python",
        "-c",
        "import raft, raftviz, raftviz.lesson as lesson\n"
        "print(raft.__file__, raftviz.__file__, lesson.names(), lesson.load('elections').title)",
        cwd=elsewhere,
    )
    assert where.count(str(tmp_path)) == 2
    assert "['elections', 'replication'] Elections" in where
    assert "0.1.0" in run(programs / "raftviz", "--version", cwd=elsewhere)
    run(programs / "raftviz", "run", "-", cwd=elsewhere, input=SCENARIO)
