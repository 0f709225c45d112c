from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.printable import printable
from raftviz import commands as cmd
from raftviz.script import MAX_BYTES, Line, ScriptError, read_script


def problems_of(text: str | bytes, servers: int = 5) -> list[tuple[int, int, str, str]]:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(ScriptError) as caught:
        read_script(raw, servers)
    return [(p.line, p.column, p.reason, p.nearest) for p in caught.value.problems]


def test_reads_lines_comments_and_conditions() -> None:
    text = "\ufeff# a title\n\nkill leader  # at once\r\n  expect leader != 0 within 5s\nwait 1s"
    lines = read_script(text.encode(), 5)
    assert [(line.number, line.text) for line in lines] == [
        (3, "kill leader  # at once"),
        (4, "expect leader != 0 within 5s"),
        (5, "wait 1s"),
    ]
    assert lines[0] == Line(3, "kill leader  # at once", cmd.Kill(cmd.Who.LEADER))
    assert lines[1].command == cmd.Expect("leader != 0", 5.0)
    assert str(lines[1].condition) == "leader != 0"
    assert lines[2].command == cmd.Wait(1.0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kil 2", (1, 1, 'expected a command, found "kil"', "kill 2")),
        ("\n\n  kill leadr", (3, 8, "a server (a number", "kill leader")),
        ("kill 6", (1, 6, "there is no S6 in a cluster of 5", "")),
        ("partition 1 2 | 3 s7", (1, 19, "there is no S7 in a cluster of 5", "")),
        ("put x 1 @9", (1, 10, "there is no S9 in a cluster of 5", "")),
        ("quit", (1, 1, "quit is for a person before a screen", "")),
        ("select 2", (1, 1, "select is for a person before a screen", "")),
        ("expect lead != 0", (1, 8, "there is no lead: did you mean leader?", "")),
        ("wait s1.trm == 2 within 1s", (1, 9, "there is no trm: did you mean term?", "")),
        ("expect s6.term == 1", (1, 8, "there is no s6; the servers are s1, ", "")),
        ("expect leader && true", (1, 8, "&& and || want true or false", "")),
        ("expect leader within 5", (1, 22, "expected a duration", "expect leaders == 1 within 5s")),
        ("# nothing\n", (1, 1, "there is no command in it", "wait leader != 0")),
        (b"kill 1\nput x \xff", (2, 1, "this is not UTF-8", "")),
        (b"x" * (MAX_BYTES + 1), (1, 1, "a script has at most", "")),
    ],
)
def test_says_where_a_script_is_wrong(
    text: str | bytes, problem: tuple[int, int, str, str]
) -> None:
    [(line, column, reason, nearest)] = problems_of(text)
    assert (line, column, nearest) == (problem[0], problem[1], problem[3])
    assert problem[2] in reason


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert [problem[0] for problem in problems_of("kil 1\nkill 1\nkill 9\nexpect\n")] == [1, 3, 4]


def test_a_smaller_cluster_has_fewer_servers() -> None:
    read_script(b"kill 4\nexpect s4.term == 0", 4)
    assert len(problems_of("kill 4\nexpect s4.term == 0", 3)) == 2


def test_a_condition_that_only_later_makes_sense_is_no_mistake() -> None:
    read_script(b"get x\nexpect int(last.answer) > 2\nexpect s1.log[3].term == s1.kv.x", 5)


def test_a_problem_is_shown_with_its_place() -> None:
    with pytest.raises(ScriptError) as caught:
        read_script(b"# title\r\n  kil\t leader\r\n", 5)
    assert caught.value.shown("demo.raft").split("\n") == [
        'demo.raft:2:3: expected a command, found "kil"',
        r"      kil\t leader",
        "      ^",
        r"  try: kill\t leader",
    ]


def test_of_a_long_line_what_is_around_the_place_is_shown() -> None:
    with pytest.raises(ScriptError) as caught:
        read_script(f"put {'k' * 900} v {'x' * 900}".encode(), 5)
    reason, line, mark, nearest = caught.value.shown("x").split("\n")
    assert "column" not in reason
    assert max(map(len, (reason, line, mark, nearest))) < 330
    assert line.startswith("    …kkk")
    assert line[mark.index("^") :].startswith("v xxx")
    assert line.endswith("x…")


def test_many_problems_are_cut_short() -> None:
    with pytest.raises(ScriptError) as caught:
        read_script(b"kil 1\n" * 50, 5)
    shown = caught.value.shown("x").split("\n")
    assert shown[-1] == "and 40 more"
    assert len(shown) == 41


@given(st.binary(max_size=60))
def test_no_script_does_harm(raw: bytes) -> None:
    try:
        read_script(raw, 3)
    except ScriptError as error:
        assert all(printable(row) == row for row in error.shown("x\x1b[2J").split("\n"))  # noqa: PT017
