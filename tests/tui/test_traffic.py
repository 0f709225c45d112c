"""What messages look like, and how they are seen to arrive or to die."""

from __future__ import annotations

from typing import Any

import pytest
from textual.pilot import Pilot

from raft.core.events import TimerArmed, TimerKind
from raft.core.messages import (
    AlreadyVoted,
    AppendEntriesReply,
    Granted,
    Index,
    LogBehind,
    Message,
    Mismatch,
    ServerId,
    StaleTerm,
    Term,
)
from raftviz.model.events import (
    ClockChanged,
    DropReason,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageHeld,
    MessageSent,
    ServerPaused,
)
from raftviz.model.view import ClusterView, Flight
from raftviz.tui.explorer import Explorer
from raftviz.tui.geometry import ring
from raftviz.tui.scene.frame import Frame
from raftviz.tui.scene.messages import sights
from raftviz.tui.seen import Seen
from raftviz.tui.traffic import GLANCE, Kind, afterglow, look_of, next_due, progress
from tests.raftviz.fake_lab import Stream, Told
from tests.tui import scenes
from tests.tui.harness import explorer, lab_of, show, text_of
from tests.tui.scenes import LOG, append, ask, beat, put, replication, stored, vote


def watched(*told: Told, at: float = scenes.AT) -> Seen:
    seen, stream = Seen(), Stream()
    events = [stream.event(one, moment) for moment, one in replication()]
    seen.fold([*events, *stream.events(*told, at=at)], 0.0)
    return seen


def refused(src: int, dst: int) -> AppendEntriesReply:
    return AppendEntriesReply(
        ServerId(src), ServerId(dst), Term(3), Mismatch(Index(8), Term(0), Index(6))
    )


LOOKS = [
    (ask(3, 2, 4), Kind.ASK, "?", "vote for me"),
    (vote(2, 3, 4, Granted()), Kind.GRANT, "+", "yes"),
    (vote(2, 3, 4, AlreadyVoted(ServerId(1))), Kind.REFUSE, "−", "had voted for S1"),
    (vote(2, 3, 4, AlreadyVoted(ServerId(2))), Kind.REFUSE, "−", "had voted for itself"),
    (vote(2, 3, 4, LogBehind(Index(9), Term(3))), Kind.REFUSE, "−", "newer log"),
    (vote(2, 3, 4, StaleTerm()), Kind.REFUSE, "−", "newer term"),
    (beat(2, 3, 3), Kind.BEAT, "●", ""),
    (append(2, 3, 3, 6, LOG[6:7]), Kind.ENTRIES, "colour=blue", "after 6/3"),
    (append(2, 3, 3, 6, LOG[6:8]), Kind.ENTRIES, "colour=blue +1", "after 6/3"),
    (append(2, 3, 3, 5, LOG[5:6]), Kind.ENTRIES, "no-op", "after 5/2"),
    (stored(1, 2, 3, 8), Kind.BEAT_ANSWER, "○", ""),
    (stored(3, 2, 3, 7), Kind.STORED, "✓", "has 7"),
    (refused(4, 2), Kind.MISMATCH, "✗", "no such entry 8"),
]


@pytest.mark.parametrize(("message", "kind", "face", "label"), LOOKS)
def test_every_message_has_its_look(message: Message, kind: Kind, face: str, label: str) -> None:
    look = look_of(message, watched().view)
    assert (look.kind, look.face, look.label) == (kind, face, label)


def test_kinds_can_be_told_apart_without_colour() -> None:
    assert len({kind.value for kind in Kind}) == len(Kind)


def test_a_message_moves_with_the_clusters_time() -> None:
    flight = Flight(1, beat(2, 3, 3), 10.0, 10.1)
    assert [progress(flight, at) for at in (9.0, 10.0, 10.05, 10.1, 11.0)] == pytest.approx(
        [0, 0, 0.5, 1, 1]
    )


def test_what_ended_is_seen_for_a_moment_and_then_forgotten() -> None:
    seen = watched(MessageSent(50, append(2, 3, 3, 6, LOG[6:7]), 12.35))
    seen.fold(Stream().events(MessageDelivered(50), at=12.35), 1.0)
    (ended,) = seen.traffic.ended
    assert (ended.dropped, ended.share) == (None, 1.0)
    seen.fold([], 1.0 + 0.9 * GLANCE)
    assert len(seen.traffic.ended) == 1
    seen.fold([], 1.0 + 1.1 * GLANCE)
    assert seen.traffic.ended == []


def test_what_the_eye_could_not_follow_is_seen_for_longer() -> None:
    entry, heartbeat = (look_of(m, watched().view) for m in (ask(3, 2, 4), beat(2, 3, 3)))
    assert afterglow(heartbeat, 1.0) < afterglow(entry, 0.05) < afterglow(entry, 1.0)
    assert afterglow(entry, 0.0) == afterglow(entry, 1.0), "after a step one wants to see it"


def test_a_lost_message_dies_where_it_was() -> None:
    seen = watched(MessageSent(50, beat(2, 3, 3), scenes.AT + 0.010))
    seen.fold(
        Stream().events(MessageDropped(50, DropReason.SERVER_DOWN), at=scenes.AT + 0.004), 1.0
    )
    (ended,) = seen.traffic.ended
    assert ended.dropped is DropReason.SERVER_DOWN
    assert ended.share == pytest.approx(0.4)


def test_what_a_step_would_do() -> None:
    seen = watched()
    due = next_due(seen.view)
    assert due is not None
    assert isinstance(due[1], Flight)
    seen = watched(*(MessageDelivered(number) for number in (1, 2, 3, 4)))
    assert next_due(seen.view) == (pytest.approx(scenes.AT + 0.030), ServerId(2))
    paused = [ServerPaused(ServerId(server)) for server in (1, 2, 3, 4, 5)]
    seen = watched(*(MessageDelivered(number) for number in (1, 2, 3, 4)), *paused)
    assert next_due(seen.view) is None


async def test_refusals_say_why_on_their_way_when_time_is_slow() -> None:
    lab = lab_of(scenes.split_vote(rate=0.05))
    async with explorer(lab) as pilot:
        assert "had voted for S3" in text_of(pilot).split("logs")[0] + text_of(pilot)
    async with explorer(lab_of(scenes.split_vote(rate=1.0))) as pilot:
        cluster = "\n".join(line[:86] for line in text_of(pilot).splitlines())
        assert "had voted for S3" not in cluster, "nobody reads that fast"


async def test_cut_links_show_which_way_is_cut() -> None:
    lab = lab_of(scenes.replication())
    async with explorer(lab) as pilot:
        before = text_of(pilot)
        lab.feed(LinkChanged(ServerId(4), ServerId(3), True, 0.010))
        await show(pilot)
        assert "✕→" in text_of(pilot)
        assert "✕→" not in before
        lab.feed(LinkChanged(ServerId(3), ServerId(4), True, 0.010))
        await show(pilot)
        assert "✕→" not in text_of(pilot)
        assert text_of(pilot).count("✕") > before.count("✕")


async def test_the_rim_shrinks_and_jumps_back_with_a_heartbeat() -> None:
    lab = lab_of(scenes.replication(rate=1.0))
    async with explorer(lab) as pilot:

        async def lit() -> int:
            """Count the thick cells of S1's rim."""
            await show(pilot)
            app = pilot.app
            term = app.seen.palette.term(3)  # type: ignore[attr-defined]
            strips = app.stage.cluster._painted.strips[:9]  # type: ignore[attr-defined]
            return sum(len(s.text) for strip in strips for s in strip if s.style is term)

        full = await lit()
        lab.feed(ClockChanged(scenes.AT + 0.15, 0.0, 1.0))
        shrunk = await lit()
        assert shrunk < full
        lab.feed((1, TimerArmed(TimerKind.ELECTION, scenes.AT + 0.40, 0.25)))
        assert await lit() > shrunk


async def test_an_entry_travels_with_its_command() -> None:
    lab = lab_of(scenes.replication())
    lab.feed(MessageSent(60, append(2, 3, 3, 6, [put(3, "k", "v")]), scenes.AT + 0.005))
    async with explorer(lab) as pilot:
        assert " k=v " in text_of(pilot)


@pytest.mark.parametrize("size", [(84, 42), (80, 14)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.95])
def test_no_face_hides_a_part_of_another(size: tuple[int, int], share: float) -> None:
    at = scenes.AT - 0.01 * share
    told = [MessageSent(90 + n, append(2, n, 3, 6, LOG[6:8]), at + 0.01) for n in (1, 3, 4, 5)]
    seen = Seen()
    stream = Stream()
    events = [stream.event(one, moment) for moment, one in replication()]
    seen.fold([*events, *stream.events(*told, at=at)], 0.0)
    where = ring(5, *size)
    frame = Frame(
        seen.view, seen.traffic, seen.palette, where, 0.0, scenes.AT, seen.selected, moving=True
    )
    loud = [sight for sight in sights(frame) if sight.look.kind is Kind.ENTRIES]
    assert len(loud) == 6
    for place, sight in enumerate(loud):
        assert sight.face == "▪" or len(sight.face) > 4
        if sight.face != "▪":
            assert not any(where.covers(*cell) for cell in sight.cells)
            others = {cell for other in loud[:place] for cell in other.cells}
            assert others.isdisjoint(sight.cells)


LINK = (ServerId(4), ServerId(3))


@pytest.mark.parametrize(
    ("rules", "mark"),
    [
        ({"reset": True}, "↯→"),
        ({"stalled": True}, "‖→"),
        ({"held": True}, "≡→"),
        ({"loss": 0.5}, "~→"),
        ({"bandwidth": 1000.0}, "~→"),
        ({"kind": "AppendEntries", "loss": 0.5}, "~→"),
    ],
)
async def test_a_links_rules_are_marked_on_it(rules: dict[str, Any], mark: str) -> None:
    lab = lab_of(scenes.replication())
    async with explorer(lab) as pilot:
        assert mark not in text_of(pilot)
        lab.feed(LinkChanged(*LINK, **{"cut": False, "delay": 0.010, **rules}))
        await show(pilot)
        assert mark in text_of(pilot)
        await pilot.press("h")
        assert lab.commands == ["heal all"]
        lab.feed(LinkChanged(*LINK, False, 0.010))
        await show(pilot)
        assert mark not in text_of(pilot)


async def test_a_rule_that_all_links_have_is_no_mark_unless_nothing_gets_through() -> None:
    lab = lab_of(scenes.replication())
    async with explorer(lab) as pilot:
        pairs = [(a, b) for a in range(1, 6) for b in range(1, 6) if a != b]
        lab.feed(*(LinkChanged(ServerId(a), ServerId(b), False, 0.5, loss=0.1) for a, b in pairs))
        await show(pilot)
        assert "~" not in text_of(pilot).replace("~ ", "")
        lab.feed(
            *(LinkChanged(ServerId(a), ServerId(b), False, 0.5, stalled=True) for a, b in pairs)
        )
        await show(pilot)
        assert text_of(pilot).count("‖") >= 10


async def test_the_links_that_a_partition_leaves_are_not_marked() -> None:
    async with explorer(lab_of(scenes.partition())) as pilot:
        assert "~" not in text_of(pilot).replace("~ ", "")


async def test_a_held_message_is_drawn_as_held_and_a_step_passes_it_by() -> None:
    lab = lab_of(scenes.frozen())
    async with explorer(lab) as pilot:
        before = text_of(pilot)
        number = next(iter(app_view(pilot).flights))
        lab.feed(MessageHeld(number))
        await show(pilot)
        assert text_of(pilot).count("‖") == before.count("‖") + 1
        due = next_due(app_view(pilot))
        assert due is not None
        assert due[1] != app_view(pilot).flights[number]


def app_view(pilot: Pilot[None]) -> ClusterView:
    assert isinstance(pilot.app, Explorer)
    return pilot.app.seen.view


def test_a_held_message_comes_half_way() -> None:
    message = beat(2, 3, 3)
    for held, share in ((False, 0.9), (True, 0.5)):
        flight = Flight(1, message, 1.0, 2.0, held)
        assert progress(flight, 1.9) == pytest.approx(share)
        assert progress(flight, 1.2) == pytest.approx(0.2)
