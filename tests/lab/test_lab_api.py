"""The way between a viewer and a laboratory: attaching, watching, leaving, and abusing it."""

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from raft.clock import VirtualClock
from raft.wire import FrameSplitter
from raftviz.lab import api
from raftviz.lab import viewers as viewers_module
from raftviz.lab.api import (
    Answer,
    Attach,
    CommandAnswer,
    CommandRequest,
    LabClient,
    LabError,
    LabOptions,
    decode_frame,
    encode_frame,
)
from raftviz.lab.cluster_time import ClusterTime
from raftviz.lab.laboratory import Laboratory
from raftviz.lab.stream import Stream
from raftviz.lab.viewers import Lag, Viewers
from raftviz.model.events import CommandGiven, Event, LabStarted, Warned
from raftviz.model.view import ClusterView

# --- Real laboratories -----------------------------------------------------------------------


async def test_spawn_returns_with_all_servers_up_and_close_leaves_none(start_lab):
    lab = await start_lab(servers=3)
    await lab.until(lambda view: view.sequence > 0)
    assert [server.alive for server in lab.view.servers.values()] == [True] * 3
    processes = [lab.process, *lab.process.children()]
    directory = lab.client.socket.parent
    await lab.close()
    assert not any(process.is_running() for process in processes)
    assert not directory.exists()
    assert await lab.client.next_events() == []
    assert await lab.client.command("kill 1") == Answer(False, "the laboratory ended")


async def test_a_viewer_that_comes_late_sees_the_same_and_may_leave_again(start_lab):
    lab = await start_lab(seed=1, servers=3)
    await lab.leader()
    await lab.do("put x 1")
    await lab.do("cut 1 2")
    await lab.do("freeze")
    second = await LabClient.attach(lab.client.socket)
    answer = await second.command("pause 3")
    assert answer.ok
    view = ClusterView()
    for event in await second.next_events():
        view.apply(event)
    await lab.until(lambda view: view.sequence >= answer.sequence)
    for seen in (view, lab.view):
        assert seen.servers[3].paused
    assert view.servers == lab.view.servers
    assert view.links == lab.view.links
    assert view.flights == lab.view.flights
    assert view.operations == lab.view.operations
    await second.close()
    await lab.do("resume 3")


async def test_after_the_story_so_far_events_are_numbered_without_a_gap(start_lab):
    lab = await start_lab(seed=2, servers=3)
    await lab.leader()
    await lab.do("kill all")
    numbers = [event.sequence for event in lab.events]
    story_so_far = numbers.count(numbers[0])
    live = numbers[story_so_far - 1 :]
    assert live == list(range(live[0], live[0] + len(live)))
    assert isinstance(lab.events[-1].what, CommandGiven)


async def test_kept_data_serves_the_next_laboratory(start_lab, tmp_path):
    first = await start_lab(servers=1, directory=tmp_path / "data")
    await first.do("put x 1")
    await first.close()
    second = await start_lab(servers=1, directory=tmp_path / "data")
    assert await second.do("get x") == "x is 1"


async def test_a_laboratory_that_cannot_start_says_why(tmp_path):
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(LabError, match=r"did not start: .*data"):
        await LabClient.spawn(LabOptions(directory=tmp_path / "data"))
    assert [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE] == []


async def test_nobody_answers_where_no_laboratory_is(tmp_path):
    with pytest.raises(LabError, match="no laboratory answers at"):
        await LabClient.attach(tmp_path / "nothing")


async def test_when_the_laboratory_is_killed_its_viewer_is_told(start_lab):
    lab = await start_lab(servers=1)
    asking = asyncio.ensure_future(lab.client.command("wait"))
    await asking
    waiting = asyncio.ensure_future(lab.client.command("get x @1"))
    lab.process.kill()
    assert not (await waiting).ok
    assert (await lab.client.command("kill 1")).text == "the laboratory ended"


def test_options_survive_their_way_to_the_laboratory():
    options = LabOptions(3, 0.5, 0.02, (0.2, 0.4), 0.1, 7, Path("/tmp/x"))
    assert LabOptions.from_json(options.to_json()) == options
    assert "\n" not in options.to_json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"servers": 0},
        {"servers": 26},
        {"rate": -1},
        {"rate": 11},
        {"delay": -0.1},
        {"delay": float("nan")},
        {"election_timeout": (0.3, 0.2)},
        {"election_timeout": (0.04, 0.2)},
        {"heartbeat": 0},
    ],
)
def test_options_that_cannot_work_are_refused_with_a_reason(wrong):
    with pytest.raises(ValueError, match=r"not -?\d|cannot take|do not fit"):
        LabOptions(**wrong)


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"servers": 5}', "7"])
def test_what_are_no_options_is_refused(line):
    with pytest.raises(ValueError, match=r"not the options of a laboratory|Expecting"):
        LabOptions.from_json(line)


async def test_unusable_options_are_no_traceback():
    process = await asyncio.create_subprocess_exec(
        *LabClient.COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(b"[]\n")
    assert (process.returncode, out) == (2, b"")
    assert err.startswith(b"unusable options: ")
    assert err.count(b"\n") == 1


async def test_a_laboratory_ends_when_its_starter_lets_go_though_nobody_ever_attached():
    process = await asyncio.create_subprocess_exec(
        *LabClient.COMMAND, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    process.stdin.write(LabOptions(servers=1).to_json().encode() + b"\n")
    assert Path(json.loads(await process.stdout.readline())["socket"]).is_socket()
    [server] = psutil.Process(process.pid).children()
    process.stdin.close()
    async with asyncio.timeout(30):
        assert await process.wait() == 0
    assert not server.is_running()


# --- The viewers' socket, without servers ----------------------------------------------------


class Room:
    """The viewers of a lab in which nothing happens but what a test tells."""

    def __init__(self, tasks, path):
        self.stream = Stream(VirtualClock(rate=0.0))
        self.stream.tell(LabStarted("c", (1, 2, 3), 0.15, 0.3, 0.05, 1))
        self.abandoned = asyncio.Event()
        self.gate = asyncio.Event()
        self.path = path
        self.times_late = 0
        self.viewers = Viewers(self.carry_out, self.stream, tasks, self.late, self.abandoned.set)

    def late(self):
        self.times_late += 1

    async def carry_out(self, text):
        if text == "wait":
            await self.gate.wait()
        self.stream.tell(Warned(f"did {text}"))
        return Answer(True, text.upper())


class Guest(asyncio.Protocol):
    """A viewer byte by byte."""

    def __init__(self):
        self.frames = asyncio.Queue()
        self.splitter = FrameSplitter(1 << 26)

    @classmethod
    async def enter(cls, room, *frames):
        loop = asyncio.get_running_loop()
        _, guest = await loop.create_unix_connection(cls, str(room.path))
        guest.say(*frames)
        return guest

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        for raw in self.splitter.feed(data):
            self.frames.put_nowait(decode_frame(raw))

    def connection_lost(self, exc):
        self.frames.put_nowait(None)

    def say(self, *frames):
        self.transport.write(b"".join(map(encode_frame, frames)))

    async def take(self):
        async with asyncio.timeout(5):
            return await self.frames.get()

    async def until(self, kind):
        while not isinstance(frame := await self.take(), kind):
            assert frame is not None
        return frame


@pytest.fixture
async def room(tmp_path):
    async with asyncio.TaskGroup() as tasks:
        room = Room(tasks, tmp_path / "s")
        await room.viewers.open(room.path)
        yield room
        room.gate.set()
        room.viewers.close()


async def test_an_answer_comes_after_what_its_command_caused(room):
    guest = await Guest.enter(room, Attach(True), CommandRequest(7, "dance"))
    frames = [await guest.take() for _ in range(len(room.stream.view.as_events()) + 2)]
    assert frames[-1] == CommandAnswer(7, True, "DANCE")
    assert frames[-2].what == Warned("did dance")
    assert isinstance(frames[0].what, LabStarted)


async def test_a_slow_command_does_not_hold_up_another(room):
    guest = await Guest.enter(
        room, Attach(True), CommandRequest(1, "wait"), CommandRequest(2, "go")
    )
    assert (await guest.until(CommandAnswer)).id == 2
    room.gate.set()
    assert (await guest.until(CommandAnswer)).id == 1


async def test_commands_of_one_viewer_are_bounded(room):
    requests = [CommandRequest(n, "wait") for n in range(viewers_module.MAX_COMMANDS + 1)]
    guest = await Guest.enter(room, Attach(True), *requests)
    answer = await guest.until(CommandAnswer)
    assert (answer.id, answer.ok) == (viewers_module.MAX_COMMANDS, False)


async def test_the_lab_is_abandoned_when_its_last_owner_has_gone(room):
    owners = [await Guest.enter(room, Attach(True)) for _ in range(2)]
    spectator = await Guest.enter(room, Attach(False))
    for guest in (*owners, spectator):
        await guest.until(Event)
    spectator.transport.close()
    owners[0].transport.close()
    await owners[1].until(Event)
    assert not room.abandoned.is_set()
    owners[1].transport.close()
    async with asyncio.timeout(5):
        await room.abandoned.wait()


async def test_a_viewer_that_does_not_read_is_let_go_and_nobody_waits_for_it(room, monkeypatch):
    monkeypatch.setattr(viewers_module, "MAX_UNSENT", 100_000)
    deaf, good = await Guest.enter(room, Attach(False)), await Guest.enter(room, Attach(True))
    for guest in (deaf, good):
        await guest.until(Event)
    deaf.transport.pause_reading()
    for _ in range(100):
        room.stream.tell(Warned("x" * 10_000))
        await good.until(Event)
    assert len(room.viewers._attached) == 1
    deaf.transport.resume_reading()
    while await deaf.take() is not None:
        pass


async def test_a_viewer_that_falls_behind_is_reported_once_until_it_has_caught_up(
    room, monkeypatch
):
    monkeypatch.setattr(viewers_module, "LATE_SECONDS", 0.0)
    slow, good = await Guest.enter(room, Attach(False)), await Guest.enter(room, Attach(True))
    for guest in (slow, good):
        await guest.until(Event)
    assert room.times_late == 0
    for times in (1, 2):
        slow.transport.pause_reading()
        for _ in range(100):
            room.stream.tell(Warned("x" * 10_000))
            await good.until(Event)
        assert room.times_late == times
        slow.transport.resume_reading()
        room.stream.tell(Warned(f"last {times}"))
        while (await slow.until(Event)).what != Warned(f"last {times}"):
            pass
        room.stream.tell(Warned("it has caught up"))
        await slow.until(Event)


def test_the_lag_is_the_age_of_the_oldest_byte_that_waits():
    lag = Lag()
    assert lag.note(100, unsent=0, now=1.0) == 0.0
    assert lag.note(100, unsent=50, now=2.0) == 0.0
    assert lag.note(100, unsent=150, now=5.0) == 3.0
    assert lag.note(100, unsent=150, now=6.0) == 1.0, "the write of 2 s has left"
    assert lag.note(100, unsent=0, now=9.0) == 0.0


def test_a_viewer_that_is_behind_brings_fast_time_back_to_real_time():
    lab = Laboratory(LabOptions(servers=1), SimpleNamespace())
    told = []
    lab._stream.listener = lambda event: told.append(event.what)
    lab._time.run(10.0)
    lab._slow_down()
    assert lab._time.setting.rate == 1.0
    lab._slow_down()
    slowed, warned = told
    assert slowed == Warned("a viewer is seconds behind what happens; time runs at ×1 from now on")
    assert warned == Warned("a viewer is seconds behind what happens")


async def test_a_client_whose_events_nobody_takes_reads_no_further_until_they_are_taken(
    room, monkeypatch
):
    monkeypatch.setattr(api, "MAX_UNREAD_EVENTS", 10)
    client = await LabClient.attach(room.path)
    await client.command("a command waits for its answer, however much lies before it")
    total = 2000
    for _ in range(total):
        room.stream.tell(Warned("x" * 1000))
        await asyncio.sleep(0)
    assert len(client._connection.events) < total / 2
    seen = 0
    while seen < total:
        seen += sum(e.what == Warned("x" * 1000) for e in await client.next_events())
    await client.close()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"\xff" * 64, id="no frame"),
        pytest.param(encode_frame(CommandRequest(1, "kill all")), id="not attached"),
        pytest.param(encode_frame(Attach(True)) * 2, id="attached twice"),
        pytest.param(encode_frame(CommandAnswer(1, True, "")), id="an answer"),
    ],
)
async def test_a_malformed_viewer_is_let_go_and_the_others_learn_it(room, raw):
    good = await Guest.enter(room, Attach(True))
    bad = await Guest.enter(room)
    bad.transport.write(raw)
    while await bad.take() is not None:
        pass
    while not isinstance((await good.until(Event)).what, Warned):
        pass
    assert not room.abandoned.is_set()


# --- The cluster's time ----------------------------------------------------------------------


async def test_waiting_for_a_moment_follows_the_clock_however_it_is_set():
    time = ClusterTime(VirtualClock(rate=0.0))
    reached = asyncio.ensure_future(time.until(100.0))
    await asyncio.sleep(0)
    time.run(10.0)
    await asyncio.sleep(0)
    time.run(0.0)
    await time.until_frozen()
    assert not reached.done()
    time.advance(99.0)
    await asyncio.sleep(0)
    assert not reached.done()
    time.advance(100.0)
    await reached
    time.advance(50.0)
    assert time.clock.now() == 100.0, "never back"
