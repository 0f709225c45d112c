"""The cluster's time: whoever asks gets the same answer, and a person may do with it anything."""

from collections import defaultdict

from raft.core.events import Role, TimerKind
from raftviz.model.events import ClockChanged, Warned

TOLERANCE = 0.001
"""Real seconds by which clocks may differ."""


async def test_steps_of_one_sort_or_at_one_server(start_lab):
    lab = await start_lab(seed=1, servers=3, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    servers = lab.view.servers
    assert await lab.refused("step message") == "no message is under way"
    last = max(servers.values(), key=lambda server: server.timer_deadline)
    deadline = last.timer_deadline
    assert await lab.do(f"step server {last.id}") == f"S{last.id}'s election timer fired"
    assert lab.view.clock.virtual == deadline
    assert "request for a vote" in await lab.do("step message")
    others = [server for server in servers if server != last.id]
    assert "election timer" in await lab.do(f"step server {others[0]},{others[1]} timer")
    assert lab.view.clock.virtual == deadline + 0.010, "that was long due, and time goes not back"
    assert "reached S" in await lab.do("step message 3")

    await lab.do("step until leader != 0")
    assert await lab.do("step until leader != 0") == "it holds already"
    leader = servers[lab.view.leader]
    assert leader.timer_kind is TimerKind.HEARTBEAT
    sent = len(lab.view.flights)
    assert await lab.do("fire leader") == f"S{leader.id}'s heartbeat timer fired"
    assert len(lab.view.flights) == sent + 2
    assert "no S9" in await lab.refused("step server 9")
    assert "column 1" in await lab.refused("step until nobody == 0")

    at = lab.view.clock.virtual
    beats = len([e for e in lab.events if e.source == leader.id])
    await lab.do("advance 150ms")
    assert lab.view.clock.virtual == at + 0.150
    assert lab.view.leader == leader.id
    assert len([e for e in lab.events if e.source == leader.id]) > beats
    await lab.do("kill all")
    await lab.do("thaw")
    assert "freeze" in await lab.refused("advance 1ms")
    assert "freeze" in await lab.refused("step timer")


async def test_run_until_freezes_at_the_event_that_makes_it_true(start_lab):
    lab = await start_lab(seed=3, servers=3, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    said = await lab.do("run until leader != 0")
    assert said.startswith("it holds at 00:00.")
    assert lab.view.clock.rate == 0
    leader = lab.view.leader
    first = next(i for i, e in enumerate(lab.events) if _leads(e, leader))
    assert isinstance(lab.events[first + 1].what, ClockChanged), "frozen at once"
    assert await lab.do("run until leader != 0") == "it holds already; time stands still"
    at = lab.view.clock.virtual
    said = await lab.do("run until term > 100 within 300ms")
    assert said.startswith("it does not hold at")
    assert f"term = {lab.view.term}" in said
    assert lab.view.clock.rate == 0
    assert lab.view.clock.virtual >= at + 0.300
    assert "column" in await lab.refused("run until s9.term > 1")


def _leads(event, leader):
    return event.source == leader and getattr(event.what, "role", None) is Role.LEADER


async def test_changes_of_rate_do_not_disturb_an_election_in_progress(start_lab):
    # Timeouts that a busy machine keeps up with when time runs ten times as fast.
    calm = {"delay": 0.1, "heartbeat": 0.5, "election_timeout": (5.0, 10.0)}
    lab = await start_lab(seed=4, servers=3, rate=0, **calm)
    await lab.do("timeout 1")
    for rate in ("1/1000", "10", "1/20", "0", "1/50", "1"):
        await lab.do(f"rate {rate}")
    await lab.leader()
    assert (lab.view.leader, lab.view.term) == (1, 1), "that election was won"
    await lab.do("rate 10")
    await lab.do("rate 1/100")
    await lab.do("rate 1")
    await lab.do("put x 1")
    assert lab.view.term == 1
    assert lab.told(Warned) == []


async def test_every_server_and_the_lab_read_the_same_time_off_the_machines_clock(start_lab):
    """Each event bears both clocks: the cluster's must follow from the machine's.

    A server that has not heard of a change yet goes by the setting before it.
    """
    lab = await start_lab(seed=5, servers=3)
    await lab.leader()
    for rate in ("1/10", "5", "1/1000", "1/4"):
        await lab.do(f"rate {rate}")
        if rate == "1/1000":
            continue  # a write would take a minute
        await lab.do("put x 1")
    settings = [what for what in lab.told(ClockChanged) if what.rate]
    off = defaultdict(list)
    for event in lab.events:
        known = [one for one in settings if one.monotonic <= event.monotonic_time][-2:]
        if event.source and known:
            off[event.source, settings.index(known[-1])].append(
                min(abs(event.virtual_time - _time_by(one, event)) / one.rate for one in known)
            )
    assert {source for source, _ in off} == set(lab.view.servers)
    assert {setting for _, setting in off} >= {1, 2, 4}, "those under which something was written"
    # Between the two clocks' readings for one event the processor may have been another's.
    assert max(min(some) for some in off.values() if len(some) > 2) <= TOLERANCE


def _time_by(setting, event):
    return setting.virtual + setting.rate * (event.monotonic_time - setting.monotonic)
