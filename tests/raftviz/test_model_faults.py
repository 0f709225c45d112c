"""Disks, clocks, broken rules, load and chaos in a view, in words and as JSON."""

from __future__ import annotations

import json

import pytest

from raft.core.events import ConfigurationChanged, TimerArmed, TimerKind
from raft.core.messages import Index, ServerId
from raftviz.model import events as ev
from raftviz.model.as_json import event_json
from raftviz.model.conditions import Condition
from raftviz.model.fault_words import broken_text, disk_mark
from raftviz.model.view import ClusterView, LinkView
from raftviz.model.words import describe, noteworthy
from tests.raftviz.fake_lab import Stream, Told, cluster, spawned, started

S2, S3, S6 = map(ServerId, (2, 3, 6))
SLOW = ev.DiskChanged(S3, delay=0.05)
WORST = ev.DiskChanged(S3, delay=0.05, full=True, fails_sync=True, tears=True)
MEASURED = ev.LoadMeasured(2.0, 400, 3, 1, 5, 0.010, 0.020, 0.0994)


def folded(*told: Told) -> ClusterView:
    view = ClusterView()
    for event in Stream().events(*told):
        view.apply(event)
    return view


def retold(view: ClusterView) -> ClusterView:
    again = ClusterView()
    for event in view.as_events():
        again.apply(event)
    return again


def test_what_is_wrong_with_a_machine_outlasts_its_processes() -> None:
    told: list[Told] = [*cluster(3), WORST, ev.RuleBroken(S3, "vote-twice")]
    told += [ev.ServerClockChanged(S3, 1.5), ev.ServerExited(S3, 83, "killed (SIGKILL)", True)]
    view = folded(*told)
    server = view.servers[S3]
    assert (server.disk, server.clock, server.broken) == (WORST, 1.5, ("vote-twice",))
    assert view.broken == {S3: ("vote-twice",)}
    assert retold(view) == view
    assert folded(*told, spawned(3)).servers[S3].disk == WORST


def test_a_viewer_who_comes_before_the_first_process_hears_it_too() -> None:
    view = folded(started(3), ev.RuleBroken(S3, "vote-twice"), SLOW)
    assert retold(view) == view
    assert view.broken


def test_it_ends() -> None:
    view = folded(
        *cluster(3),
        SLOW,
        ev.RuleBroken(S3, "vote-twice"),
        ev.RuleBroken(S3, "vote-twice"),
        ev.RuleBroken(S3, "gaps-accepted"),
        ev.ServerClockChanged(S3, 1.5),
        ev.DiskChanged(S3),
        ev.RuleMended(S3, "vote-twice"),
        ev.ServerClockChanged(S3, 1.0),
    )
    server = view.servers[S3]
    assert (server.disk, server.clock, server.broken) == (None, 1.0, ("gaps-accepted",))


def test_a_timer_runs_by_the_clock_of_its_server() -> None:
    stream = Stream()
    view = ClusterView()
    for event in stream.events(*cluster(3), (3, TimerArmed(TimerKind.ELECTION, 1.0, 0.2))):
        view.apply(event)
    now = stream.event(ev.ServerClockChanged(S3, 2.0))
    left = 1.0 - now.virtual_time
    view.apply(now)
    server = view.servers[S3]
    assert server.timer_deadline == pytest.approx(now.virtual_time + left / 2)
    assert server.timer_interval == pytest.approx(0.1)


def test_servers_come_and_go_with_their_links() -> None:
    before = folded(*cluster(3))
    view = folded(*cluster(3), ev.ServerAdded(S6))
    assert list(view.servers) == [1, 2, 3, 6]
    assert {link for link in view.links if S6 in link} == {
        (S6, other) for other in before.servers
    } | {(other, S6) for other in before.servers}
    assert view.links[S6, S2] == LinkView()
    assert retold(view).servers.keys() == view.servers.keys()
    view = folded(*cluster(3), ev.ServerAdded(S6), ev.ServerRemoved(S6), ev.ServerRemoved(S6))
    assert (view.servers, view.links.keys()) == (before.servers, before.links.keys())


def test_load_and_chaos_go_on_until_they_are_off() -> None:
    told = [*cluster(3), ev.LoadChanged("load 200/s"), MEASURED, ev.ChaosChanged("chaos on seed 7")]
    view = folded(*told)
    assert (view.load, view.measured, view.chaos) == ("load 200/s", MEASURED, "chaos on seed 7")
    assert retold(view) == view
    view = folded(*told, ev.LoadChanged(""), ev.ChaosChanged(""))
    assert (view.load, view.measured, view.chaos) == ("", None, "")


def test_what_befalls_a_stranger_changes_nothing() -> None:
    before = folded(*cluster(3))
    for what in (ev.DiskChanged(S6, full=True), ev.ServerClockChanged(S6, 2.0)):
        assert folded(*cluster(3), what).servers == before.servers


WORDS: list[tuple[ev.Happening, str]] = [
    (SLOW, "the disk of S3 takes 50 ms longer for each fsync"),
    (ev.DiskChanged(S3), "the disk of S3 is in order"),
    (
        WORST,
        "the disk of S3 takes 50 ms longer for each fsync and is full and fails the next fsync "
        "and loses power in the middle of its next write",
    ),
    (ev.DiskDamaged(S3, "all is wiped"), "on the disk of S3 all is wiped"),
    (ev.PowerCut(S3), "the power of S3 is cut: what it has not synced is lost"),
    (
        ev.ServerClockChanged(S3, 1.5),
        "the clock of S3 runs 1.5 times as fast as the others",
    ),
    (ev.ServerClockChanged(S3, 1.0), "the clock of S3 runs like those of the others again"),
    (
        ev.RuleBroken(S3, "vote-twice"),
        "S3 breaks a rule of Raft on purpose from here on: vote-twice",
    ),
    (ev.RuleMended(S3, "vote-twice"), "S3 keeps the rule again: vote-twice"),
    (ev.ServerAdded(S6), "the laboratory has one more server, S6"),
    (ev.ServerRemoved(S6), "S6 has left the laboratory"),
    (ev.LoadChanged("load 8 clients"), "clients begin to work: load 8 clients"),
    (ev.LoadChanged(""), "the load is off"),
    (
        MEASURED,
        "load: 200/s  p50 10 ms  p90 20 ms  p99 99 ms  3 failed  1 unknown  5 waiting",
    ),
    (ev.LoadMeasured(1.0, 0, 0, 0, 5, 0.0, 0.0, 0.0), "load: 0/s  5 waiting"),
    (ev.ChaosChanged("chaos on seed 7"), "faults come at random: chaos on seed 7"),
    (ev.ChaosChanged(""), "chaos is off"),
]


@pytest.mark.parametrize(("what", "line"), WORDS)
def test_it_is_told_in_words(what: ev.Happening, line: str) -> None:
    event = Stream().event(what)
    assert describe(event) == line
    assert noteworthy(event) != isinstance(what, ev.LoadMeasured)


def test_marks_say_it_in_a_word() -> None:
    assert disk_mark(SLOW) == "disk +50ms"
    assert disk_mark(WORST) == "disk +50ms full fsync✗ torn"
    broken = {S2: ("vote-twice",), S3: ("vote-twice", "gaps-accepted")}
    assert broken_text(broken) == "vote-twice in S2 and S3, gaps-accepted in S3"


def test_every_line_of_json_says_that_rules_are_broken() -> None:
    event = Stream().event(SLOW)
    assert "broken" not in json.loads(event_json(event))
    line = json.loads(event_json(event, {S2: ("vote-twice",), S3: ("gaps-accepted",)}))
    assert line["broken"] == {"S2": ["vote-twice"], "S3": ["gaps-accepted"]}


def test_conditions_see_members_clocks_and_what_is_broken() -> None:
    members = ConfigurationChanged(Index(9), (S2, S3), (), (S6,))
    view = folded(
        *cluster(3, leader=2, term=1),
        ev.ServerAdded(S6),
        (2, members),
        ev.RuleBroken(S3, "vote-twice"),
        ev.ServerClockChanged(S3, 1.5),
    )
    for text in (
        "voters == [2, 3]",
        "learners == [6]",
        "s3.broken == ['vote-twice']",
        "s3.clock == 1.5 && s2.clock == 1.0",
    ):
        assert Condition(text).holds(view), text
