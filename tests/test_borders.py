"""The borders between the packages, and the house rules that a machine can check."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted([*ROOT.glob("raft/**/*.py"), *ROOT.glob("raftviz/**/*.py")])

MAX_MODULE_LINES = 700
MAX_FUNCTION_LINES = 60

# The core is fed with the time, the messages and a generator of random numbers (design §4).
NOT_IN_THE_CORE = {"asyncio", "time", "socket", "os", "logging", "threading", "subprocess"}

# The model folds events; it neither reads nor writes anything (design §3).
IO = {
    "asyncio",
    "capnp",
    "click",
    "http",
    "io",
    "multiprocessing",
    "os",
    "pathlib",
    "raft.client",
    "raft.server",
    "raft.storage",
    "raft.transport",
    "raftviz.lab",
    "raftviz.tui",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "textual",
    "threading",
    "urllib",
}

ONLY_HERE_CAPNP = {"raft.wire", "raft.codec"}


def name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Yield what a module imports, anywhere in it.

    ``from a.b import c`` may mean the module a.b.c, so that is what it yields.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: a relative import hides where it leads"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(imported: str, packages: set[str]) -> bool:
    return any(imported == p or imported.startswith(p + ".") for p in packages)


def modules_of(package: str) -> list[Path]:
    found = [path for path in MODULES if within(name(path), {package})]
    assert found, f"there is no {package} to look at"
    return found


def offenders(package: str, forbidden: set[str]) -> list[str]:
    return [
        f"{name(path)} imports {imported}"
        for path in modules_of(package)
        for imported in imports(path)
        if within(imported, forbidden)
    ]


def test_the_core_imports_only_the_standard_library_and_itself() -> None:
    allowed = set(sys.stdlib_module_names) - NOT_IN_THE_CORE | {"raft.core"}
    strangers = [
        f"{name(path)} imports {imported}"
        for path in modules_of("raft.core")
        for imported in imports(path)
        if not within(imported, allowed)
    ]
    assert strangers == []


def test_the_core_takes_randomness_from_outside() -> None:
    """The type ``random.Random`` may be named; the module's own global generator may not."""
    for path in modules_of("raft.core"):
        drawn = [i for i in imports(path) if within(i, {"random"})]
        assert set(drawn) <= {"random.Random"}, f"{name(path)} imports {drawn}"


def test_the_library_knows_nothing_of_the_explorer() -> None:
    assert offenders("raft", {"raftviz", "textual", "click"}) == []


def test_the_model_does_no_io() -> None:
    assert offenders("raftviz.model", IO) == []


def test_the_command_language_does_no_io() -> None:
    assert offenders("raftviz.commands", IO) == []
    assert offenders("raftviz.command", IO) == []


def test_the_screen_knows_the_lab_by_its_client_alone() -> None:
    beyond = [
        f"{name(path)} imports {imported}"
        for path in modules_of("raftviz.tui")
        for imported in imports(path)
        if within(imported, {"raftviz.lab"}) and not within(imported, {"raftviz.lab.api"})
    ]
    assert beyond == []


def test_the_labs_client_brings_no_lab_with_it() -> None:
    (api,) = modules_of("raftviz.lab.api")
    assert [i for i in imports(api) if within(i, {"raftviz.lab", "raftviz.tui"})] == []


def test_only_the_wire_touches_capnp() -> None:
    touching = {name(path) for path in MODULES if any(within(i, {"capnp"}) for i in imports(path))}
    assert touching
    assert touching <= ONLY_HERE_CAPNP


def headless_modules() -> list[str]:
    return [
        name(path)
        for path in MODULES
        if not within(name(path), {"raftviz.tui"}) and path.name != "__main__.py"
    ]


def test_headless_code_never_loads_textual() -> None:
    """Servers, lab and scripts run where no terminal is, and start without its 150 ms."""
    code = (
        "import importlib, sys\n"
        f"for module in {headless_modules()!r}:\n"
        "    importlib.import_module(module)\n"
        "    loaded = {'textual', 'rich'} & set(sys.modules)\n"
        "    assert not loaded, f'{module} loads {loaded}'\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("module", ["raft.cli", "raft.server"])
def test_a_server_process_loads_nothing_of_the_explorer(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "extra = sorted({'click', 'cel', 'raftviz'} & set(sys.modules))\n"
        "assert not extra, extra"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_a_module_has_one_idea() -> None:
    long = {
        name(p): n for p in MODULES if (n := len(p.read_text().splitlines())) > MAX_MODULE_LINES
    }
    assert long == {}


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_a_function_fits_on_a_screen() -> None:
    long = {
        f"{name(path)}.{function.name}": length
        for path in MODULES
        for function in functions(path)
        if (length := function.end_lineno - function.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert long == {}


def test_nothing_is_left_for_later() -> None:
    """What is not built is not in the tree, and no error is swallowed unseen."""
    for path in MODULES:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                where = f"{name(path)}:{node.lineno}"
                assert node.type is not None, f"{where}: a bare except"
            if isinstance(node, ast.Name):
                assert node.id != "NotImplementedError", f"{name(path)}:{node.lineno}"
        for word in ("TODO", "FIXME", "XXX"):
            assert word not in path.read_text(), f"{name(path)} has a {word}"


def test_the_top_level_is_the_design() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    top = {line.split("/")[0] for line in tracked.stdout.splitlines()}
    assert top == {
        ".ci",
        ".gitignore",
        "LICENSE",
        "README.md",
        "lessons",
        "pyproject.toml",
        "raft",
        "raftviz",
        "schemas",
        "tests",
    }
