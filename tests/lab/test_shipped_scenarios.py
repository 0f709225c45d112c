"""Every scenario that ships is played on real servers, and its expectations hold."""

import pytest
from click.testing import CliRunner

from raftviz import scenarios
from raftviz.cli import main
from raftviz.commands import Expect
from raftviz.script import options, read_script

LONG = {"full-disk", "one-way-link", "partitioned-leader", "three-times-three"}
"""What they show is shown in shorter tests, too."""


def marked(name):
    return pytest.param(name, marks=pytest.mark.slow) if name in LONG else name


@pytest.mark.parametrize("name", map(marked, scenarios.names()))
def test_a_scenario_keeps_what_it_promises(name):
    played = CliRunner().invoke(main, ["run", name])
    assert played.exit_code == 0, played.output
    assert "passed" in played.output.splitlines()[-1]


@pytest.mark.parametrize("name", scenarios.names())
def test_a_scenario_says_what_it_shows_and_expects_something(name):
    raw = scenarios.path(name).read_bytes()
    assert options(raw), "its first line says how it is run"
    title = scenarios.title(name)
    assert title.endswith(".")
    assert not title.startswith("#")
    assert any(isinstance(line.command, Expect) for line in read_script(raw, 9))
    assert name in CliRunner().invoke(main, ["run"]).output
