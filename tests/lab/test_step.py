"""Frozen time: nothing happens by itself, and a step lets exactly one due thing happen."""

from types import SimpleNamespace

from raft.core.events import Role, RoleChanged, RoleReason, TimerKind
from raft.core.messages import RequestVote
from raftviz.lab.stepper import Stepper
from raftviz.model.events import (
    ClockChanged,
    CommandGiven,
    DropReason,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageSent,
    Warned,
)
from raftviz.model.server_view import ServerView


def next_due(view):
    """The next due moment, by what a viewer can see."""
    timers = [
        server.timer_deadline
        for server in view.servers.values()
        if server.alive and not server.paused and server.timer_kind is not None
    ]
    return min([flight.due for flight in view.flights.values()] + timers)


async def step_until(lab, condition):
    """Step until something holds; return what the steps said."""
    said = []
    while not condition(lab.view):
        said.append(await lab.do("step"))
        assert len(said) < 500
    return said


async def test_a_lab_that_starts_frozen_is_at_time_0_with_every_timer_armed(start_lab):
    lab = await start_lab(seed=1, servers=3, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    assert lab.view.clock.rate == lab.view.time == 0
    links = {(what.src, what.dst) for what in lab.told(LinkChanged)}
    assert len(links) == len(lab.told(LinkChanged)) == 3 * 2, "every link is told of"
    for server in lab.view.servers.values():
        assert server.role is Role.FOLLOWER
        assert 0.150 <= server.timer_deadline <= 0.300
    assert len({server.timer_deadline for server in lab.view.servers.values()}) == 3


async def test_each_step_is_the_next_due_thing_and_its_consequences_come_with_the_answer(start_lab):
    lab = await start_lab(seed=1, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    first = min(lab.view.servers.values(), key=lambda server: server.timer_deadline)
    deadline = first.timer_deadline

    assert await lab.do("step") == f"S{first.id}'s election timer fired"
    assert lab.view.clock.virtual == deadline
    assert first.role is Role.CANDIDATE
    requests = [flight.message for flight in lab.view.flights.values()]
    assert {request.dst for request in requests} == set(lab.view.servers) - {first.id}
    assert all(isinstance(request, RequestVote) for request in requests)
    assert {flight.due for flight in lab.view.flights.values()} == {deadline + 0.010}

    for count, voter in enumerate(sorted(set(lab.view.servers) - {first.id}), 1):
        said = await lab.do("step")
        assert said == f"S{first.id}'s request for a vote reached S{voter}"
        assert lab.view.servers[voter].voted_for == first.id
        assert len(lab.told(MessageDelivered)) == count
    assert first.role is Role.CANDIDATE, "no vote has arrived yet"
    assert (await lab.do("step 2")).count("vote reached") == 2
    assert first.role is Role.LEADER


async def test_time_goes_only_forward_to_what_is_due_next(start_lab):
    lab = await start_lab(seed=2, servers=3, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    for _ in range(40):
        due = next_due(lab.view)
        before = lab.view.clock.virtual
        await lab.do("step")
        assert lab.view.clock.virtual == max(due, before)
    assert lab.told(Warned) == []


async def test_while_frozen_nothing_happens_between_two_steps(start_lab):
    lab = await start_lab(seed=3, servers=3)
    await lab.leader()
    await lab.do("freeze")
    quiet = lab.view.sequence
    await lab.do("get x")  # a client waits, the cluster does nothing for it
    happened = [
        event.what
        for event in lab.events
        if event.sequence > quiet and isinstance(event.what, MessageDelivered | RoleChanged)
    ]
    assert happened == []
    delivered = len(lab.told(MessageDelivered))
    await step_until(lab, lambda view: len(lab.told(MessageDelivered)) > delivered)
    assert len(lab.told(MessageDelivered)) == delivered + 1


async def test_a_frozen_write_is_pending_until_steps_have_carried_it_to_a_majority(start_lab):
    lab = await start_lab(seed=4, servers=3)
    leader = await lab.leader()
    await lab.do("freeze")
    assert await lab.do("put x 1") == "pending: time stands still"
    await step_until(lab, lambda view: view.operations[-1].outcome is not None)
    assert lab.view.servers[leader].kv == {b"x": b"1"}
    holding = [s for s in lab.view.servers.values() if s.log == lab.view.servers[leader].log]
    assert len(holding) >= 2


async def test_thaw_goes_on_at_the_rate_from_before(start_lab):
    lab = await start_lab(seed=5, servers=1, rate=0.5)
    await lab.do("freeze")
    assert await lab.do("freeze") == "time stands still"
    assert await lab.do("thaw") == "time runs at ×1/2"
    assert lab.view.clock.rate == 0.5
    assert "does not stand still" in await lab.refused("thaw")
    assert "freeze it" in await lab.refused("step")
    await lab.do("rate 0")
    await lab.do("rate 2")
    assert lab.view.clock.rate == 2


async def test_slow_motion_slows_every_server(start_lab):
    lab = await start_lab(seed=6, servers=3, rate=0.1)
    await lab.leader()
    won = next(e for e in lab.events if getattr(e.what, "reason", None) is RoleReason.WON_ELECTION)
    began = next(e for e in lab.events if isinstance(e.what, ClockChanged) and e.what.rate)
    virtual = won.virtual_time - began.what.virtual
    real = won.monotonic_time - began.what.monotonic
    assert virtual > 0.150
    assert abs(virtual - real * 0.1) < 1e-6


async def test_a_step_to_a_cut_link_a_dead_and_a_paused_server(start_lab):
    lab = await start_lab(seed=7, servers=4, rate=0)
    await lab.do("step")
    candidate = next(s.id for s in lab.view.servers.values() if s.role is Role.CANDIDATE)
    cut, dead, paused = [s for s in lab.view.servers if s != candidate]
    await lab.do(f"cut {candidate} -> {cut}")
    await lab.do(f"kill {dead}")
    await lab.do(f"pause {paused}")
    ids = {sent.message.dst: sent.message_id for sent in lab.told(MessageSent)}
    assert lab.told(MessageDropped) == [
        MessageDropped(ids[cut], DropReason.LINK_CUT),
        MessageDropped(ids[dead], DropReason.SERVER_DOWN),
    ]
    assert "when it is resumed" in await lab.do("step")
    assert lab.view.servers[paused].voted_for is None
    await lab.do(f"resume {paused}")
    await lab.until(lambda view: view.servers[paused].voted_for == candidate)


async def test_a_paused_server_has_no_timer_to_fire(start_lab):
    lab = await start_lab(seed=8, rate=0, servers=3)
    await lab.do("pause all")
    assert "nothing is due" in await lab.refused("step")
    await lab.do("resume 2")
    assert await lab.do("step") == "S2's election timer fired"


def test_the_timer_of_a_server_that_hangs_does_not_hold_up_time():
    servers = {n: ServerView(n, alive=True, timer_kind=TimerKind.ELECTION) for n in (1, 2)}
    servers[1].timer_deadline, servers[2].timer_deadline = 0.1, 0.2
    no_messages = SimpleNamespace(traffic=SimpleNamespace(next_due=lambda: None))
    cluster = SimpleNamespace(silent=lambda: [1])
    stream = SimpleNamespace(view=SimpleNamespace(servers=servers))
    assert Stepper(None, no_messages, cluster, stream).next_moment() == 0.2


async def test_timeout_starts_an_election_at_this_moment(start_lab):
    lab = await start_lab(seed=9, servers=3, rate=0)
    await lab.do("timeout 3")
    assert lab.view.servers[3].role is Role.CANDIDATE
    assert lab.view.clock.virtual == 0
    assert len(lab.view.flights) == 2
    await step_until(lab, lambda view: view.leader == 3)
    assert "leads" in await lab.refused("timeout 3")
    assert lab.view.servers[3].timer_kind is TimerKind.HEARTBEAT


async def test_a_server_restarted_while_frozen_is_connected_when_the_answer_comes(start_lab):
    lab = await start_lab(seed=11, servers=3, rate=0)
    await lab.do("kill 3")
    await lab.do("restart 3")
    await lab.do("timeout 2")
    assert {flight.message.dst for flight in lab.view.flights.values()} == {1, 3}
    await lab.do("timeout 3")
    assert len(lab.view.flights) == 4


async def test_frozen_at_any_moment_everything_that_was_under_way_is_told(start_lab):
    # Timeouts that a busy machine keeps up with when time runs ten times as fast.
    calm = {"delay": 0.1, "heartbeat": 0.5, "election_timeout": (1.5, 3.0)}
    lab = await start_lab(seed=10, servers=3, rate=10, **calm)
    await lab.leader()
    for _ in range(5):
        await lab.do("freeze")
        frozen = lab.view.sequence
        await lab.refused("no command")
        after = [event.what for event in lab.events if event.sequence > frozen]
        assert [type(what) for what in after] == [CommandGiven]
        await lab.do("step 10")
        await lab.do("thaw")
    assert lab.told(Warned) == []
