from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner, Result

from raftviz.cli import main
from raftviz.commands import TABLE
from raftviz.lab.api import LabError, LabOptions
from raftviz.lesson import names


def raftviz(*arguments: str, given: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=given, prog_name="raftviz")


class Screen(ModuleType):
    """Stands for ``raftviz.tui.app``: remembers what it was asked to show."""

    def __init__(self) -> None:
        super().__init__("raftviz.tui.app")
        self.shown: list[tuple[LabOptions, str | None]] = []
        self.attached: list[tuple[Path, bool]] = []

    def run(self, options: LabOptions, lesson: str | None = None) -> int:
        self.shown.append((options, lesson))
        return 7

    def attach(self, socket: Path, *, watching: bool = False) -> int:
        self.attached.append((socket, watching))
        return 7


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal that can show the explorer."""
    import raftviz.tui

    found = Screen()
    monkeypatch.setitem(sys.modules, "raftviz.tui.app", found)
    monkeypatch.setattr(raftviz.tui, "app", found, raising=False)
    monkeypatch.setattr("raftviz.cli._can_draw", lambda: True)
    return found


def test_without_a_command_the_explorer_opens(screen: Screen) -> None:
    assert raftviz().exit_code == 7
    assert screen.shown == [(LabOptions(rate=0.1), None)], "slow enough to see an election"


def test_what_a_killed_laboratory_left_is_removed_when_the_explorer_ends(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []
    found = "raftviz.lab.run_directory.remove_stale"
    monkeypatch.setattr(found, lambda: shown.append(len(screen.shown)))
    raftviz()
    assert shown == [1]


def test_options_are_in_the_words_of_the_command_language(screen: Screen) -> None:
    what = ["--servers", "3", "--seed", "7", "--delay", "25ms", "--heartbeat", "100ms"]
    raftviz(*what, "--rate", "1/20", "--election-timeout", "300ms..0.6s")
    assert screen.shown == [
        (
            LabOptions(
                servers=3,
                rate=0.05,
                delay=0.025,
                seed=7,
                heartbeat=0.1,
                election_timeout=(0.3, 0.6),
            ),
            None,
        )
    ]


def test_a_lesson_opens_beside_the_cluster(screen: Screen) -> None:
    assert raftviz("--seed", "7", "lesson", "elections", "--delay", "0s").exit_code == 7
    assert screen.shown == [(LabOptions(seed=7, delay=0.0), "elections")]


def test_lessons_are_listed() -> None:
    listed = raftviz("lesson")
    assert listed.exit_code == 0
    assert [row.split()[0] for row in listed.output.splitlines()] == names()


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        (["--rate", "1/0"], "expected a rate"),
        (["--delay", "20"], "expected a duration with its unit"),
        (["--election-timeout", "1..2"], "expected durations from the shortest to the longest"),
        (["--election-timeout", "2s..1s"], "do not fit"),
        (["--heartbeat", "1s"], "do not fit"),
        (["--servers", "0"], "0 is not in the range"),
        (["--servers", "x"], "'x' is not a valid integer"),
        (["--delay", "\x1b[2J"], r"\\x1b[2J"),
        (["--nonsense"], "No such option"),
        (["nonsense"], "No such command"),
    ],
)
def test_a_wrong_option_is_named(screen: Screen, option: list[str], complaint: str) -> None:
    found = raftviz(*option)
    assert found.exit_code == 2
    assert complaint in found.stderr
    assert "\x1b" not in found.stderr
    assert screen.shown == []


@pytest.mark.parametrize("arguments", [[], ["lesson", "elections"]])
def test_without_a_terminal_it_says_what_works_there(arguments: list[str]) -> None:
    found = raftviz(*arguments)
    assert found.exit_code == 2
    assert "raftviz run FILE" in found.stderr


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from raftviz.cli import _can_draw

    monkeypatch.setattr("os.isatty", lambda descriptor: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert _can_draw()
    monkeypatch.setenv("TERM", "dumb")
    assert not _can_draw()


def test_the_language_is_listed_and_explained() -> None:
    listed = raftviz("commands").output
    assert all(spec.syntax in listed for spec in TABLE)
    assert "partition 1 2 | 3 4 5" in raftviz("commands", "partition").output
    assert "timeout 3" in raftviz("commands", "Time", "Out").output
    assert "voted_for" in raftviz("commands", "conditions").output


def test_a_command_that_there_is_not_is_wrong_usage() -> None:
    found = raftviz("commands", "partiton")
    assert found.exit_code == 2
    assert found.stdout == ""
    assert "did you mean partition?" in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--servers", "x" * 5000], ["--" + "x" * 5000], ["x" * 5000], ["run", "a", "x" * 5000]],
)
def test_what_is_long_is_not_repeated_whole(arguments: list[str]) -> None:
    found = raftviz(*arguments)
    assert found.exit_code == 2
    assert "xxx…" in found.stderr
    assert len(found.stderr) < 500


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], ["run"], ["lesson"], ["commands"]])
def test_help(command: list[str], option: str) -> None:
    found = raftviz(*command, option)
    assert found.exit_code == 0
    assert found.output.startswith("Usage: raftviz")


def test_version() -> None:
    assert raftviz("--version").output.startswith("raftviz")


def test_an_unusable_script_starts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def spawn(options: LabOptions) -> None:
        pytest.fail("something was started")

    monkeypatch.setattr("raftviz.lab.api.LabClient.spawn", spawn)
    file = tmp_path / "demo.raft"
    file.write_text("kill 1\nkil 2\nexpect lead == 1\n")
    found = raftviz("run", str(file))
    assert found.exit_code == 2
    assert f'{file}:2:1: expected a command, found "kil"' in found.stderr
    assert "try: kill 2" in found.stderr
    assert f"{file}:3:8: there is no lead: did you mean leader?" in found.stderr
    found = raftviz("--servers", "3", "run", "-", given="kill 4")
    assert found.exit_code == 2
    assert "standard input:1:6: there is no S4 in a cluster of 3" in found.stderr


def test_a_laboratory_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def spawn(options: LabOptions) -> None:
        raise LabError("no \x1bspace left")

    monkeypatch.setattr("raftviz.lab.api.LabClient.spawn", spawn)
    found = raftviz("run", "-", given="kill 1")
    assert found.exit_code == 1
    assert found.stderr == "no \\x1bspace left\n"


def test_a_closed_standard_input_is_an_empty_script(monkeypatch: pytest.MonkeyPatch) -> None:
    from raftviz.cli import _read

    monkeypatch.setattr("sys.stdin", None)
    assert _read("-", 10) == b""


def test_a_script_that_cannot_be_read(tmp_path: Path) -> None:
    for path, complaint in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        found = raftviz("run", str(path))
        assert found.exit_code == 2
        assert complaint in found.stderr


HEAD = "#!/usr/bin/env -S raftviz run --servers 3 --seed 7 --pre-vote --one-entry\nkill 1"


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (["run", "-"], LabOptions(servers=3, seed=7, pre_vote=True, one_entry=True)),
        (
            ["--servers", "4", "run", "-", "--seed", "9"],
            LabOptions(servers=4, seed=9, pre_vote=True, one_entry=True),
        ),
    ],
)
def test_a_script_says_how_it_is_run_unless_one_says_otherwise(
    arguments: list[str], options: LabOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def spawn(given: LabOptions) -> None:
        asked.append(given)
        raise LabError("seen enough")

    monkeypatch.setattr("raftviz.lab.api.LabClient.spawn", spawn)
    raftviz(*arguments, given=HEAD)
    assert asked == [options]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--servers x", "'x' is not a valid integer"),
        ("--colour", "No such option"),
        ("--json", "only options of the laboratory"),
        ("other.txt", "only options of the laboratory"),
        ("--seed '1", "No closing quotation"),
    ],
)
def test_a_wrong_first_line_of_a_script_is_said_to_be_so(words: str, reason: str) -> None:
    found = raftviz("run", "-", given=f"#!raftviz run {words}\nkill 1")
    assert found.exit_code == 2
    assert found.output.startswith("standard input:1:1: ")
    assert reason in found.output


def test_a_file_goes_before_a_scenario_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("split-vote").write_text("nonsense")
    assert "split-vote:1:1: expected a command" in raftviz("run", "split-vote").output


def test_the_table_of_commands_as_markdown() -> None:
    text = raftviz("commands", "--markdown").output
    for spec in TABLE:
        assert f"`{spec.syntax}`".replace("|", r"\|") in text
    rows = [row.replace(r"\|", "") for row in text.splitlines() if row.startswith("|")]
    assert {row.count("|") for row in rows} == {4}, "every row has three cells"
    assert raftviz("commands", "--markdown", "kill").exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_raftviz(shell: str) -> None:
    script = raftviz("completion", shell)
    assert script.exit_code == 0
    assert f"_RAFTVIZ_COMPLETE={shell}_complete" in script.output


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("raftviz comm", {"commands"}),
        ("raftviz commands par", {"partition"}),
        ("raftviz commands partition ", set()),
        ("raftviz lesson elec", {"elections"}),
        ("raftviz completion ", {"bash", "zsh", "fish"}),
        ("raftviz do part", {"partition"}),
        ("raftviz do kill lead", {"leader"}),
        ("raftviz do loss 1 -> 2 5", {"50%"}),
        ("raftviz run figure-7", {"figure-7"}),
        ("raftviz do --lab ", {"one", "two"}),
        ("raftviz watch --lab t", {"two"}),
    ],
)
def test_a_shell_completes_words(
    line: str, words: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    labs = {"one": Path("/tmp/one"), "two": Path("/tmp/two")}
    monkeypatch.setattr("raftviz.lab.run_directory.running", lambda: labs)
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    asked["_RAFTVIZ_COMPLETE"] = "bash_complete"
    run = CliRunner().invoke(main, env=asked, prog_name="raftviz")
    assert {row.partition(",")[2] for row in run.output.splitlines() if row} == words


def test_a_laboratory_that_runs_is_opened_or_watched(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    labs: dict[str, Path] = {}
    monkeypatch.setattr("raftviz.lab.run_directory.running", lambda: labs)
    nothing = raftviz("attach")
    assert (nothing.exit_code, nothing.stderr) == (
        2,
        "no laboratory runs; start one with raftviz\n",
    )
    labs["one"] = Path("/tmp/one")
    assert raftviz("attach").exit_code == 7
    labs["two"] = Path("/tmp/two")
    assert raftviz("watch", "--lab", "two").exit_code == 7
    assert screen.attached == [(Path("/tmp/one"), False), (Path("/tmp/two"), True)]
    several = raftviz("watch")
    assert several.exit_code == 2
    assert several.stderr == "these run: one, two; say which with --lab NAME\n"


def test_without_a_terminal_there_is_nothing_to_open() -> None:
    result = raftviz("watch")
    assert result.exit_code == 2
    assert "raftviz do COMMAND" in result.stderr


def test_many_servers_wait_longer_for_each_other_unless_it_is_said_how_long(
    screen: Screen,
) -> None:
    raftviz("--servers", "25")
    raftviz("--servers", "25", "--heartbeat", "20ms")
    raftviz("--servers", "9")
    (many, _), (said, _), (few, _) = screen.shown
    assert (many.election_timeout, many.heartbeat) == ((1.0, 2.0), 0.25)
    assert (said.election_timeout, said.heartbeat) == ((0.150, 0.300), 0.020)
    assert (few.election_timeout, few.heartbeat) == ((0.150, 0.300), 0.050)
