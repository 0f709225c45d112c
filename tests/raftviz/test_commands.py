from __future__ import annotations

import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz import commands as cmd
from raftviz.command.rules import rule_names
from raftviz.command.text import MAX_DURATION, MAX_LENGTH, MAX_RATE, format_duration, read_duration
from raftviz.commands import (
    TABLE,
    CommandError,
    Expect,
    Scope,
    Servers,
    Wait,
    Who,
    complete,
    format_command,
    help_text,
    is_blank,
    parse,
)


def ids(*numbers: int) -> Servers:
    return tuple(map(ServerId, numbers))


ALL = Who.ALL

READ: list[tuple[str, cmd.Command]] = [
    ("kill 2", cmd.Kill(ids(2))),
    ("  kill   S2  ", cmd.Kill(ids(2))),
    ("kill 1 2 3", cmd.Kill(ids(1, 2, 3))),
    ("kill 1,2, 3", cmd.Kill(ids(1, 2, 3))),
    ("kill 2 2", cmd.Kill(ids(2))),
    ("KILL Leader", cmd.Kill(Who.LEADER)),
    ("restart all", cmd.Restart(ALL)),
    ("pause candidate", cmd.Pause(Who.CANDIDATE)),
    ("resume followers", cmd.Resume(Who.FOLLOWERS)),
    ("isolate leader", cmd.Isolate(Who.LEADER)),
    ("cut 1 2", cmd.Cut(ids(1), ids(2), both_ways=True)),
    ("cut 1 -> 2", cmd.Cut(ids(1), ids(2), both_ways=False)),
    ("cut 1→2", cmd.Cut(ids(1), ids(2), both_ways=False)),
    ("cut leader -> 1 2", cmd.Cut(Who.LEADER, ids(1, 2), both_ways=False)),
    ("cut 1,2 3,4", cmd.Cut(ids(1, 2), ids(3, 4), both_ways=True)),
    ("cut 1 2 # not -> this", cmd.Cut(ids(1), ids(2), both_ways=True)),
    ("heal", cmd.Heal(ALL, ALL, both_ways=True)),
    ("heal all", cmd.Heal(ALL, ALL, both_ways=True)),
    ("heal 3", cmd.Heal(ids(3), ALL, both_ways=True)),
    ("heal 1 2", cmd.Heal(ids(1), ids(2), both_ways=True)),
    ("heal 1 -> 2", cmd.Heal(ids(1), ids(2), both_ways=False)),
    ("partition 1 2 | 3 4 5", cmd.Partition((ids(1, 2), ids(3, 4, 5)))),
    ("partition 1,2|3", cmd.Partition((ids(1, 2), ids(3)))),
    ("partition leader | followers", cmd.Partition((Who.LEADER, Who.FOLLOWERS))),
    ("partition 4", cmd.Partition((ids(4),))),
    ("delay 20ms", cmd.Delay(0.020)),
    ("delay 1.5s", cmd.Delay(1.5)),
    ("delay 0.1ms", cmd.Delay(0.0001)),
    ("put x 1", cmd.Put(b"x", b"1", None)),
    ("put x 1 @2", cmd.Put(b"x", b"1", ids(2))),
    ("put x 1 @leader", cmd.Put(b"x", b"1", Who.LEADER)),
    ("put 'a b' \"it's\"", cmd.Put(b"a b", b"it's", None)),
    ("put x '@2'", cmd.Put(b"x", b"@2", None)),
    ("put x ''", cmd.Put(b"x", b"", None)),
    ("put #1 #2", cmd.Put(b"#1", b"#2", None)),
    (r"put 'a\x00\xff' '\\\'\n'", cmd.Put(b"a\x00\xff", b"\\'\n", None)),
    ("put clé 値", cmd.Put("clé".encode(), "値".encode(), None)),
    ("put a->b c,d|e", cmd.Put(b"a->b", b"c,d|e", None)),
    ("get x", cmd.Get(b"x", None)),
    ("get x @s3", cmd.Get(b"x", ids(3))),
    ("delete x", cmd.Delete(b"x", None)),
    ("timeout 3", cmd.Timeout(ids(3))),
    ("time out 3", cmd.Timeout(ids(3))),
    ("Time  Out 3", cmd.Timeout(ids(3))),
    ("stop leader", cmd.Stop(Who.LEADER)),
    ("power 1,2", cmd.Power(ids(1, 2))),
    ("disk 3 slow 50ms", cmd.Disk(ids(3), cmd.Slow(0.05))),
    ("disk 3 4 FULL", cmd.Disk(ids(3, 4), cmd.DiskFault.FULL)),
    ("disk leader failsync", cmd.Disk(Who.LEADER, cmd.DiskFault.FAIL_SYNC)),
    ("disk all ok", cmd.Disk(ALL, cmd.DiskFault.NONE)),
    ("disk 3 flip log", cmd.Disk(ids(3), cmd.Flip("log", None))),
    ("disk 3 flip vote #120", cmd.Disk(ids(3), cmd.Flip("vote", 120))),
    ("clock 3 x1.5", cmd.Clock(ids(3), 1.5)),
    ("clock 3 4 ×1/2", cmd.Clock(ids(3, 4), 0.5)),
    ("clock all ok", cmd.Clock(ALL, 1.0)),
    ("break vote-twice", cmd.Break("vote-twice", ALL)),
    ("break vote_twice in 2 3", cmd.Break("vote-twice", ids(2, 3))),
    ("break fsync-skipped in leader", cmd.Break("fsync-skipped", Who.LEADER)),
    ("mend", cmd.Mend(None, ALL)),
    ("mend in 2", cmd.Mend(None, ids(2))),
    ("mend vote-twice in 2", cmd.Mend("vote-twice", ids(2))),
    ("rate 1/20", cmd.Rate(1 / 20)),
    ("rate 0.5", cmd.Rate(0.5)),
    ("rate 2", cmd.Rate(2.0)),
    ("rate 0", cmd.Rate(0.0)),
    ("freeze", cmd.Freeze()),
    ("thaw", cmd.Thaw()),
    ("step", cmd.Step(1)),
    ("step 5", cmd.Step(5)),
    ("select 2", cmd.Select(ids(2))),
    ("select leader", cmd.Select(Who.LEADER)),
    ("help", cmd.Help("")),
    ("help cut", cmd.Help("cut")),
    ("? cut", cmd.Help("cut")),
    ("quit", cmd.Quit()),
    ("exit", cmd.Quit()),
    ("wait 2s", Wait(2.0)),
    ("wait 200ms  # a breath", Wait(0.2)),
    ("wait leader != 0", Expect("leader != 0", 30.0)),
    ("wait leader != 0 within 5s", Expect("leader != 0", 5.0)),
    ("expect leader", Expect("leader", 0.0)),
    ("expect s1.kv.x == 'a within 1s' within 2s", Expect("s1.kv.x == 'a within 1s'", 2.0)),
    ('expect s1.kv["#"] == "# no" # but this', Expect('s1.kv["#"] == "# no"', 0.0)),
    ("expect 2 == 2", Expect("2 == 2", 0.0)),
]


@pytest.mark.parametrize(("text", "command"), READ)
def test_reads(text: str, command: cmd.Command) -> None:
    assert parse(text) == command
    assert parse(format_command(command)) == command


WRONG = [
    ("", 1, "a command", "the end", "help"),
    ("# only a comment", 17, "a command", "the end", "help"),
    ("kil 2", 1, "a command", '"kil"', "kill 2"),
    ("  partitoin 1 | 2", 3, "a command", '"partitoin"', "partition 1 | 2"),
    ("blow up", 1, "a command", '"blow"', "help"),
    ("kill", 5, "a server", "the end", "kill leader"),
    ("kill leadr", 6, "a server", '"leadr"', "kill leader"),
    ("kill 0", 6, "a server", '"0"', "kill leader"),
    ("kill leader 2", 13, "the end", '"2"', "kill leader"),
    ("kill 2 leader", 8, "a number of a server", '"leader"', "kill 2"),
    ("kill 2,", 8, "a number of a server", "the end", "kill leader"),
    ("cut 1", 6, "a server", "the end", "cut 1 -> 2"),
    ("cut 1 2 3", 9, "the end", '"3"', "cut 1 2"),
    ("cut 1 -> 1", 10, "another server", '"1"', "cut 1 -> 2"),
    ("partition 1 2 | 2 3", 17, "servers that are in no other group", '"2"', None),
    ("partition 1 |", 14, "a server", "the end", "partition 1 2 | 3 4 5"),
    ("delay 20", 7, "a duration with its unit", '"20"', "delay 20ms"),
    ("delay 2h", 7, "a duration with its unit", '"2h"', "delay 20ms"),
    ("delay 3601s", 7, "a duration with its unit", '"3601s"', "delay 20ms"),
    ("put x", 6, "a value", "the end", "put x 1"),
    ("put x a b", 7, "one value (in quotes", '"a"', "put x 'a b'"),
    ("put x 'a", 7, "a closing '", '"\'a"', "put x 1"),
    ("put 'a'b 1", 8, "a space after the closing quote", '"b"', "put x 1"),
    ("get @2", 5, "a key (in quotes if it begins with @)", '"@2"', "get x @2"),
    ("get x @followers", 8, "one server", '"followers"', "get x @2"),
    ("get x @leadr", 8, "one server", '"leadr"', "get x @leader"),
    ("rate 1/0", 6, "a rate", '"1/0"', "rate 1/20"),
    ("rate 11", 6, "a rate", '"11"', "rate 1/20"),
    ("step 0", 6, "a whole number from 1 to 1000", '"0"', "step"),
    ("disk 3", 7, "slow or full or", "the end", "disk 3 slow 50ms"),
    ("disk 3 ful", 8, "slow, full, failsync", '"ful"', "disk 3 full"),
    ("disk 3 slow", 12, "a duration", "the end", "disk 3 slow 50ms"),
    ("disk 3 flip votes", 13, "log, vote or snapshot", '"votes"', "disk 3 flip vote"),
    ("disk 3 flip log 12", 17, "the number of a byte", '"12"', "disk 3 flip log"),
    ("clock 3", 8, "ok, or how fast", "the end", "clock 3 x1.5"),
    ("clock 3 x11", 9, "ok, or how fast", '"x11"', "clock 3 x1.5"),
    ("break vote-twise in 2", 7, "a rule", '"vote-twise"', "break vote-twice in 2"),
    ("break vote-twice on 2", 18, "the end", '"on"', "break vote-twice"),
    ("freeze now", 8, "the end", '"now"', "freeze"),
    ("select followers", 8, "one server", '"followers"', "select leader"),
    ("wait 2", 6, "a duration with its unit", '"2"', "wait leader != 0"),
    ("expect", 7, "a condition", "the end", None),
    ("expect within 5s", 8, "a condition", '"within"', None),
    ("expect leader within", 21, "a duration with its unit", "the end", None),
    ("expect leader within 5", 22, "a duration with its unit", '"5"', None),
    ("put " + "x" * MAX_LENGTH, MAX_LENGTH + 1, "at most 2000 characters", '"xxx', "put x 1"),
]


@pytest.mark.parametrize(("text", "column", "expected", "found", "nearest"), WRONG)
def test_says_what_is_wrong_and_what_would_be_right(
    text: str, column: int, expected: str, found: str, nearest: str | None
) -> None:
    with pytest.raises(CommandError) as caught:
        parse(text)
    error = caught.value
    assert (error.text, error.column) == (text, column)
    assert error.expected.startswith(expected)
    assert found in error.reason
    if nearest is not None:
        assert error.nearest == nearest
    parse(error.nearest)
    assert str(error).startswith(f"column {column}: expected ")
    assert error.nearest in str(error)


def test_an_error_obeys_no_escape_sequence() -> None:
    with pytest.raises(CommandError) as caught:
        parse("kill \x1b]0;title\x07")
    assert str(caught.value) == printable(str(caught.value))


@given(
    st.text(max_size=40)
    | st.sampled_from([text for text, _ in READ]).flatmap(
        lambda text: st.integers(0, len(text)).flatmap(
            lambda place: st.text(max_size=3).map(
                lambda more: text[:place] + more + text[place + 1 :]
            )
        )
    )
)
def test_any_text_is_a_command_or_gets_a_right_one_suggested(text: str) -> None:
    command, error = outcome(text)
    if error is not None:
        assert 1 <= error.column <= len(text) + 1
        parse(error.nearest)
    else:
        assert command is not None
        assert parse(format_command(command)) == command


def outcome(text: str) -> tuple[cmd.Command | None, CommandError | None]:
    try:
        return parse(text), None
    except CommandError as error:
        return None, error


numbers = st.integers(1, 9).map(ServerId)
groups = st.lists(numbers, min_size=1, max_size=5, unique=True).map(tuple)
servers = groups | st.sampled_from(Who)
some_server = numbers.map(lambda n: (n,)) | st.sampled_from([Who.LEADER, Who.CANDIDATE])
one_server = st.none() | some_server
keys = st.binary(max_size=12) | st.text(max_size=12).map(str.encode)
durations = st.floats(0, MAX_DURATION).filter(lambda s: s == 0 or s > 1e-9)
links = st.tuples(servers, servers, st.booleans()).filter(
    lambda link: link[0] != link[1] or isinstance(link[0], Who) or len(link[0]) > 1
)
partitions = st.permutations(range(1, 8)).flatmap(
    lambda order: st.integers(1, 6).map(
        lambda cut: (tuple(map(ServerId, order[:cut])), tuple(map(ServerId, order[cut:])))
    )
)
disk_faults = st.one_of(
    st.sampled_from(cmd.DiskFault),
    durations.map(cmd.Slow),
    st.builds(
        cmd.Flip,
        st.sampled_from(["log", "vote", "snapshot"]),
        st.none() | st.integers(0, 10**9 - 1),
    ),
)
any_command = st.one_of(
    *(
        servers.map(kind)
        for kind in (
            *(cmd.Kill, cmd.Stop, cmd.Restart, cmd.Pause, cmd.Resume, cmd.Isolate, cmd.Timeout),
            cmd.Power,
        )
    ),
    st.builds(cmd.Disk, servers, disk_faults),
    st.builds(cmd.Clock, servers, st.floats(0.1, 10.0)),
    st.builds(cmd.Break, st.sampled_from(rule_names()), servers),
    st.builds(cmd.Mend, st.none() | st.sampled_from(rule_names()), servers),
    links.map(lambda link: cmd.Cut(*link)),
    links.map(lambda link: cmd.Heal(*link)),
    partitions.map(cmd.Partition),
    st.builds(cmd.Put, keys, keys, one_server),
    st.builds(cmd.Get, keys, one_server),
    st.builds(cmd.Delete, keys, one_server),
    durations.map(cmd.Delay),
    (st.just(0.0) | st.floats(1e-6, MAX_RATE)).map(cmd.Rate),
    st.integers(1, 500).map(lambda n: cmd.Rate(1 / n)),
    st.integers(1, cmd.MAX_STEPS).map(cmd.Step),
    some_server.map(cmd.Select),
    st.sampled_from([cmd.Freeze(), cmd.Thaw(), cmd.Quit(), cmd.Help(""), cmd.Help("cut")]),
    durations.map(Wait),
    st.builds(Expect, st.sampled_from(["leader != 0", "s1.kv['within'] == '#'"]), durations),
)


@given(any_command)
def test_what_is_written_is_read_back(command: cmd.Command) -> None:
    text = format_command(command)
    assert parse(text) == command
    assert printable(text) == text


@given(st.decimals(0, 3600, places=6, allow_nan=False), st.sampled_from(["ms", "s"]))
def test_a_duration_is_read_exactly(number: object, unit: str) -> None:
    seconds = read_duration(f"{number}{unit}")
    assert seconds is not None
    assert seconds == pytest.approx(float(str(number)) * (1e-3 if unit == "ms" else 1), rel=1e-12)
    assert read_duration(format_duration(seconds)) == seconds


def test_the_table_is_the_whole_language() -> None:
    kinds = set(typing.get_args(cmd.Command))
    assert {type(parse(spec.example)) for spec in TABLE} | {Wait} == kinds
    assert len({spec.name for spec in TABLE}) == len(TABLE)


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
def test_every_example_is_right_and_explained(spec: cmd.CommandSpec) -> None:
    assert spec.example.split()[0] == spec.name
    assert spec.syntax.startswith(spec.name)
    for name in (spec.name, *spec.aliases):
        assert spec.example in help_text(name)
    assert spec.syntax in help_text()
    for alias in spec.aliases:
        assert parse(spec.example.replace(spec.name, alias)) == parse(spec.example)


@pytest.mark.parametrize(
    ("scope", "kinds"),
    [
        (Scope.LAB, cmd.LabCommand),
        (Scope.VIEWER, cmd.ViewerCommand),
        (Scope.SCRIPT, cmd.ScriptCommand),
    ],
)
def test_a_command_says_where_it_means_something(scope: Scope, kinds: object) -> None:
    for spec in TABLE:
        assert isinstance(parse(spec.example), typing.get_args(kinds)) == (spec.scope is scope)


def test_help_on_a_wrong_word_names_the_nearest() -> None:
    assert "did you mean partition?" in help_text("partiton")
    assert "help lists all" in help_text("xyzzy")
    assert "voted_for" in help_text("conditions")


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ("ki", "kill"),
        ("k", "kill"),
        ("KI", "KIll"),
        ("kill ", "kill 1"),
        ("kill l", "kill leader"),
        ("kill 1,", "kill 1,2"),
        ("cut 1 -> ", "cut 1 -> 2"),
        ("cut 1->", "cut 1->2"),
        ("partition 1 2 |", "partition 1 2 |3"),
        ("delay ", "delay 20ms"),
        ("rate 1/", "rate 1/20"),
        ("put x 1 @", "put x 1 @leader"),
        ("get x @", "get x @2"),
        ("help par", "help partition"),
        ("help con", "help conditions"),
        ("expect lead", "expect leader"),
        ("expect s2.vo", "expect s2.voted_for"),
        ("wait last.out", "wait last.outcome"),
        ("wait leader != 0 && s1.r", "wait leader != 0 && s1.role"),
    ],
)
def test_completes(text: str, longer: str) -> None:
    assert longer in complete(text)


def test_completes_with_the_servers_there_are() -> None:
    assert "kill 7" in complete("kill ", [ServerId(7)])
    assert "kill 1" not in complete("kill ", [ServerId(7)])
    assert "expect s7" in complete("expect s", [ServerId(7)])


@pytest.mark.parametrize("text", ["kill", "freeze ", "nonsense ", 'expect "lead', "put x 1"])
def test_completes_nothing_where_nothing_can_be_said(text: str) -> None:
    assert complete(text) == []


@given(st.sampled_from([text for text, _ in READ]), st.integers(0, 12))
def test_a_completion_goes_on_with_what_was_typed(text: str, length: int) -> None:
    begun = text[:length]
    assert all(longer.startswith(begun) and longer != begun for longer in complete(begun))


def test_blank_lines() -> None:
    assert all(map(is_blank, ["", "  ", "\t", "# x", "  #x"]))
    assert not is_blank("put #1 x")
