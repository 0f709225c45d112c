from __future__ import annotations

import typing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raft.core.messages import ServerId
from raft.frames import Consistency
from raft.printable import printable
from raftviz import commands as cmd
from raftviz.command.goings_on import CHAOS_KINDS
from raftviz.command.rules import rule_names
from raftviz.command.spec import everywhere
from raftviz.command.text import (
    MAX_DURATION,
    MAX_LENGTH,
    MAX_RATE,
    MIN_RATE,
    format_duration,
    read_duration,
)
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
from raftviz.model.link_rules import CLIENT, MESSAGE_KINDS, Distribution


def ids(*numbers: int) -> Servers:
    return tuple(map(ServerId, numbers))


ALL = Who.ALL
EVERYWHERE = everywhere()
ONE_WAY = cmd.Links(ids(1), ids(2), both_ways=False)

READ: list[tuple[str, cmd.Command]] = [
    ("kill 2", cmd.Kill(ids(2))),
    ("  kill   S2  ", cmd.Kill(ids(2))),
    ("kill 1 2 3", cmd.Kill(ids(1, 2, 3))),
    ("kill 1,2, 3", cmd.Kill(ids(1, 2, 3))),
    ("KILL Leader", cmd.Kill(Who.LEADER)),
    ("restart all", cmd.Restart(ALL)),
    ("pause candidate", cmd.Pause(Who.CANDIDATE)),
    ("resume followers", cmd.Resume(Who.FOLLOWERS)),
    ("isolate leader", cmd.Isolate(Who.LEADER)),
    ("cut 1 2", cmd.Cut(cmd.Links(ids(1), ids(2), both_ways=True))),
    ("cut 1 -> 2", cmd.Cut(cmd.Links(ids(1), ids(2), both_ways=False))),
    ("cut 1→2", cmd.Cut(cmd.Links(ids(1), ids(2), both_ways=False))),
    ("cut leader -> 1 2", cmd.Cut(cmd.Links(Who.LEADER, ids(1, 2), both_ways=False))),
    ("cut 1,2 3,4", cmd.Cut(cmd.Links(ids(1, 2), ids(3, 4), both_ways=True))),
    ("cut 1 2 # not -> this", cmd.Cut(cmd.Links(ids(1), ids(2), both_ways=True))),
    ("heal", cmd.Heal(cmd.Links(ALL, ALL, both_ways=True))),
    ("heal all", cmd.Heal(cmd.Links(ALL, ALL, both_ways=True))),
    ("heal 3", cmd.Heal(cmd.Links(ids(3), ALL, both_ways=True))),
    ("heal 1 2", cmd.Heal(cmd.Links(ids(1), ids(2), both_ways=True))),
    ("heal 1 -> 2", cmd.Heal(cmd.Links(ids(1), ids(2), both_ways=False))),
    ("partition 1 2 | 3 4 5", cmd.Partition((ids(1, 2), ids(3, 4, 5)))),
    ("partition 1,2|3", cmd.Partition((ids(1, 2), ids(3)))),
    ("partition leader | followers", cmd.Partition((Who.LEADER, Who.FOLLOWERS))),
    ("partition 4", cmd.Partition((ids(4),))),
    ("delay 20ms", cmd.Delay(EVERYWHERE, 0.020)),
    ("delay 1.5s", cmd.Delay(EVERYWHERE, 1.5)),
    ("delay 0.1ms", cmd.Delay(EVERYWHERE, 0.0001)),
    ("delay 1 2 200ms", cmd.Delay(cmd.Links(ids(1), ids(2), True), 0.2)),
    ("delay all 20ms ±5ms", cmd.Delay(EVERYWHERE, 0.020, 0.005)),
    ("delay 1->2 200ms +-50ms normal", cmd.Delay(ONE_WAY, 0.2, 0.05, Distribution.NORMAL)),
    (
        "delay AppendEntries 1 -> 2 0s +/- 50ms exponential",
        cmd.Delay(
            cmd.Links(ids(1), ids(2), False, "AppendEntries"), 0.0, 0.05, Distribution.EXPONENTIAL
        ),
    ),
    ("loss all 10%", cmd.Loss(EVERYWHERE, 0.1)),
    ("loss 1 -> 2 12.5%", cmd.Loss(ONE_WAY, 0.125)),
    ("loss 3 100%", cmd.Loss(cmd.Links(ids(3), ALL, True), 1.0)),
    ("loss leader 1%", cmd.Loss(cmd.Links(Who.LEADER, ALL, True), 0.01)),
    ("loss requestvote 10%", cmd.Loss(everywhere("RequestVote"), 0.1)),
    (
        "loss appendentries 2 -> 3,4 50%",
        cmd.Loss(cmd.Links(ids(2), ids(3, 4), False, "AppendEntries"), 0.5),
    ),
    ("reorder 1 -> 2 5%", cmd.Reorder(ONE_WAY, 0.05)),
    ("duplicate 1 -> 2 10%", cmd.Duplication(ONE_WAY, 0.1)),
    ("duplicate 1 -> 2", cmd.Duplicate(ONE_WAY)),
    ("duplicate #12", cmd.Duplicate(cmd.Numbered((12,)))),
    ("bandwidth 1 -> 2 10kB/s", cmd.Bandwidth(ONE_WAY, 10_000.0)),
    ("bandwidth 1 -> 2 1.5mb/s", cmd.Bandwidth(ONE_WAY, 1_500_000.0)),
    ("bandwidth all unlimited", cmd.Bandwidth(EVERYWHERE, 0.0)),
    ("stall 1 -> 2", cmd.Stall(ONE_WAY)),
    ("reset 1 -> 2", cmd.Reset(ONE_WAY)),
    ("cut client 1", cmd.Cut(cmd.Links((CLIENT,), ids(1), True))),
    ("cut client -> 1-3", cmd.Cut(cmd.Links((CLIENT,), ids(1, 2, 3), False))),
    ("cut 1,client 2", cmd.Cut(cmd.Links((ServerId(1), CLIENT), ids(2), True))),
    ("heal client", cmd.Heal(cmd.Links((CLIENT,), ALL, True))),
    ("heal AppendEntries", cmd.Heal(everywhere("AppendEntries"))),
    ("kill 1-3", cmd.Kill(ids(1, 2, 3))),
    ("kill S2-S3, 7", cmd.Kill(ids(2, 3, 7))),
    ("partition client 1 | 2-5", cmd.Partition(((CLIENT, ServerId(1)), ids(2, 3, 4, 5)))),
    ("ring", cmd.Ring(ALL)),
    ("ring 1 3 2", cmd.Ring(ids(1, 3, 2))),
    ("bridge 3 between 1 2 | 4 5", cmd.Bridge(ids(3), ids(1, 2), ids(4, 5))),
    ("links", cmd.ShowLinks()),
    ("messages", cmd.ShowMessages()),
    ("deliver #12 #3", cmd.Deliver(cmd.Numbered((12, 3)))),
    ("drop #12", cmd.Drop(cmd.Numbered((12,)))),
    ("drop RequestVote 1 -> 2", cmd.Drop(cmd.Links(ids(1), ids(2), False, "RequestVote"))),
    ("hold #1,#2", cmd.Hold(cmd.Numbered((1, 2)))),
    ("hold AppendEntries 1 2", cmd.Hold(cmd.Links(ids(1), ids(2), True, "AppendEntries"))),
    ("release all", cmd.Release(EVERYWHERE)),
    ("release leader -> 2", cmd.Release(cmd.Links(Who.LEADER, ids(2), False))),
    ("step message", cmd.Step(1, cmd.Due.MESSAGE)),
    ("step timer 3", cmd.Step(3, cmd.Due.TIMER)),
    ("step server 3", cmd.Step(servers=ids(3))),
    ("step server leader message 2", cmd.Step(2, cmd.Due.MESSAGE, Who.LEADER)),
    ("step until leader != 0  # and no further", cmd.StepUntil("leader != 0")),
    ("advance 50ms", cmd.Advance(0.05)),
    ("run until leader != 0", cmd.Run("leader != 0", 30.0)),
    ("run until leader != 0 within 2s", cmd.Run("leader != 0", 2.0)),
    ("fire leader", cmd.Fire(Who.LEADER)),
    ("rate 1/1000", cmd.Rate(1 / 1000)),
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
    ("get x lease", cmd.Get(b"x", None, Consistency.LEASE)),
    ("get x stale @3", cmd.Get(b"x", ids(3), Consistency.STALE)),
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
    ("add 6", cmd.Add(6)),
    ("add s6 as learner", cmd.Add(6, learner=True)),
    ("promote 6", cmd.Promote(ids(6))),
    ("demote leader", cmd.Demote(Who.LEADER)),
    ("remove 3", cmd.Remove(ids(3))),
    ("replace 3 6", cmd.Replace(ids(3), 6)),
    ("replace leader 6", cmd.Replace(Who.LEADER, 6)),
    ("transfer 4", cmd.Transfer(ids(4))),
    ("load 200/s", cmd.Load(rate=200.0)),
    ("load 0.5/s put 100%", cmd.Load(rate=0.5, mix=cmd.Mix(100, 0, 0))),
    ("load 8 clients", cmd.Load(clients=8)),
    ("load 1 client", cmd.Load(clients=1)),
    (
        "load 8 clients sessions 5 put 40% get 50% delete 10% keys 3",
        cmd.Load(clients=8, mix=cmd.Mix(40, 50, 10), keys=3, sessions=5),
    ),
    ("load off", cmd.LoadOff()),
    ("chaos on", cmd.ChaosOn()),
    (
        "chaos on seed 7 kinds kill, cut disk every 500ms",
        cmd.ChaosOn(7, ("kill", "cut", "disk"), 0.5),
    ),
    ("chaos off", cmd.ChaosOff()),
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
    ("partition 1 1 | 2", 13, "a server that is not named yet", '"1"', None),
    ("drop", 5, "messages (#12), or where they are (2 -> 3)", "the end", "drop #12"),
    ("kill 1-3 2", 10, "a server that is not named yet", '"2"', "kill 1-3"),
    ("partition 1 |", 14, "a server", "the end", "partition 1 2 | 3 4 5"),
    ("delay 20", 7, "a duration with its unit", '"20"', "delay 20ms"),
    ("delay 2h", 7, "a duration with its unit", '"2h"', "delay 20ms"),
    ("delay 3601s", 7, "a duration with its unit", '"3601s"', "delay 20ms"),
    ("delay 1 2", 10, "a duration", "the end", "delay 20ms"),
    ("delay 1 2 20ms 5ms", 16, "the end", '"5ms"', "delay 1 2 20ms"),
    ("delay 1 2 20ms ±5ms norml", 21, "uniform, normal", '"norml"', "delay 1 2 20ms ±5ms normal"),
    ("loss 1 2 10", 10, "a share", '"10"', "loss all 10%"),
    ("loss 1 2 101%", 10, "a share", '"101%"', None),
    ("loss 1 -> 2 x", 13, "a share", '"x"', None),
    ("loss AppendEntry 1 2 10%", 6, "a server", '"AppendEntry"', None),
    ("bandwidth 1 2 10", 15, "bytes in a second", '"10"', None),
    ("reset AppendEntries 1 2", 7, "a link", '"AppendEntries"', None),
    ("kill client", 6, "a server", '"client"', "kill leader"),
    ("kill 3-1", 6, "a server", '"3-1"', "kill leader"),
    ("kill 1-9999", 6, "a server", '"1-9999"', "kill leader"),
    ("bridge 3 1 2 | 4 5", 10, "between", '"1"', None),
    ("bridge 3 between 1 2", 18, "two other sides", '"1"', None),
    ("bridge 3 between 1 3 | 4", 18, "two other sides", '"1"', None),
    ("drop #12 13", 10, "the number of a message", '"13"', "drop #12"),
    ("step mesage", 6, "a number of steps", '"mesage"', "step message"),
    ("step server", 12, "a server", "the end", None),
    ("run leader != 0", 5, "until", '"leader"', None),
    ("run until leader within", 24, "a duration", "the end", None),
    ("rate 1/1001", 6, "a rate", '"1/1001"', "rate 1/20"),
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
    ("add leader", 5, "the number of a new server", '"leader"', "add 6"),
    ("add 6 as voter", 10, "learner", '"voter"', "add 6"),
    ("replace 3", 10, "one server", "the end", "replace 3 6"),
    ("remove followers", 8, "one server", '"followers"', "remove 3"),
    ("load 9", 7, "clients", "the end", "load 200/s"),
    ("load 0/s", 6, "how much", '"0/s"', "load 200/s"),
    ("load 5001/s", 6, "how much", '"5001/s"', "load 200/s"),
    ("load 9/s put 60%", 10, "shares that add up to 100%", '"put"', "load 9/s"),
    ("load 9/s put 101%", 14, "a share", '"101%"', "load 200/s"),
    ("load 9/s key 3", 10, "put, get or delete", '"key"', "load 9/s keys 3"),
    ("chaos", 6, "on or off", "the end", "chaos on seed 7"),
    ("chaos on kinds rain", 16, "kinds of faults", '"rain"', None),
    ("chaos on every 1ms", 16, "a duration of 10ms or more", '"1ms"', None),
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
ends = servers | groups.map(lambda group: (CLIENT, *group)) | st.just((CLIENT,))
links = st.builds(
    cmd.Links, ends, ends, st.booleans(), st.sampled_from(["", *MESSAGE_KINDS])
).filter(lambda link: link.a != link.b or isinstance(link.a, Who) or len(link.a) > 1)
plain_links = links.filter(lambda link: not link.kind)
one_kind = links | st.sampled_from(MESSAGE_KINDS).map(everywhere)
messages = one_kind | st.lists(st.integers(0, 10**15 - 1), min_size=1, unique=True, max_size=9).map(
    lambda numbers: cmd.Numbered(tuple(numbers))
)
shares = st.integers(0, 10_000).map(lambda n: n / 10_000)
partitions = st.permutations(range(1, 8)).flatmap(
    lambda order: st.integers(1, 6).map(
        lambda cut: (tuple(map(ServerId, order[:cut])), tuple(map(ServerId, order[cut:])))
    )
)
mixes = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(
    lambda cuts: cmd.Mix(min(cuts), max(cuts) - min(cuts), 100 - max(cuts))
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
            *(cmd.Power, cmd.Fire),
        )
    ),
    st.builds(cmd.Disk, servers, disk_faults),
    st.builds(cmd.Clock, servers, st.floats(0.1, 10.0)),
    st.builds(cmd.Break, st.sampled_from(rule_names()), servers),
    st.builds(cmd.Mend, st.none() | st.sampled_from(rule_names()), servers),
    *(links.map(kind) for kind in (cmd.Cut, cmd.Stall, cmd.Heal)),
    plain_links.map(cmd.Reset),
    *(st.builds(kind, one_kind, shares) for kind in (cmd.Loss, cmd.Reorder, cmd.Duplication)),
    st.builds(cmd.Bandwidth, one_kind, st.just(0.0) | st.floats(1e-3, 1e8)),
    st.builds(cmd.Delay, one_kind | st.just(EVERYWHERE), durations),
    st.builds(
        cmd.Delay,
        one_kind | st.just(EVERYWHERE),
        durations,
        durations.filter(bool),
        st.sampled_from(Distribution),
    ),
    *(messages.map(kind) for kind in (cmd.Deliver, cmd.Drop, cmd.Duplicate, cmd.Hold, cmd.Release)),
    groups.map(cmd.Ring),
    st.builds(
        cmd.Step,
        st.integers(1, cmd.MAX_STEPS),
        st.sampled_from(cmd.Due),
        st.none() | servers,
    ),
    durations.map(cmd.Advance),
    st.builds(cmd.Run, st.sampled_from(["leader != 0", "s1.kv['within'] == '#'"]), durations),
    partitions.map(cmd.Partition),
    st.builds(cmd.Add, numbers, st.booleans()),
    *(some_server.map(kind) for kind in (cmd.Promote, cmd.Demote, cmd.Remove, cmd.Transfer)),
    st.builds(cmd.Replace, some_server, numbers),
    st.builds(
        cmd.Load,
        rate=st.floats(0.001, 5000.0).map(lambda rate: round(rate, 3)),
        mix=mixes,
        keys=st.integers(1, 10_000),
        sessions=st.integers(0, 50),
    ),
    st.builds(cmd.Load, clients=st.integers(1, 500), mix=mixes),
    st.builds(
        cmd.ChaosOn,
        st.none() | st.integers(1, 999_999_999),
        st.lists(st.sampled_from(CHAOS_KINDS), unique=True).map(tuple),
        st.floats(0.01, MAX_DURATION),
    ),
    st.builds(cmd.Put, keys, keys, one_server),
    st.builds(cmd.Get, keys, one_server, st.sampled_from(Consistency)),
    st.builds(cmd.Delete, keys, one_server),
    (st.just(0.0) | st.floats(MIN_RATE, MAX_RATE)).map(cmd.Rate),
    st.integers(1, 1000).map(lambda n: cmd.Rate(1 / n)),
    st.integers(1, cmd.MAX_STEPS).map(cmd.Step),
    some_server.map(cmd.Select),
    st.sampled_from([cmd.Freeze(), cmd.Thaw(), cmd.Quit(), cmd.Help(""), cmd.Help("cut")]),
    durations.map(Wait),
    st.builds(Expect, st.sampled_from(["leader != 0", "s1.kv['within'] == '#'"]), durations),
)


@given(any_command)
@example(cmd.Cut(everywhere()))
@example(cmd.Stall(everywhere("AppendEntries")))
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
    written = {type(parse(example)) for spec in TABLE for example in spec.examples}
    assert written | {Wait} == kinds
    assert len({spec.name for spec in TABLE}) == len(TABLE)


@pytest.mark.parametrize("spec", TABLE, ids=lambda spec: spec.name)
def test_every_example_is_right_and_explained(spec: cmd.CommandSpec) -> None:
    assert spec.example.split()[0] == spec.name
    assert spec.syntax.startswith(spec.name)
    for text in spec.examples:
        assert parse(format_command(parse(text))) == parse(text)
        assert text in help_text(spec.name)
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
    assert "KIND is one of RequestVote, " in help_text("hold")
    assert "kinds: kill, power, " in help_text("chaos")


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
        ("cut cl", "cut client"),
        ("loss app", "loss appendEntries"),
        ("loss 1 2 1", "loss 1 2 10%"),
        ("bridge 3 b", "bridge 3 between"),
        ("drop ", "drop #12"),
        ("hold #", "hold #12"),
        ("hold Req", "hold RequestVote"),
        ("step m", "step message"),
        ("step until lead", "step until leader"),
        ("run u", "run until"),
        ("run until s1.r", "run until s1.role"),
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
    assert longer in complete(text, messages=[12])


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
