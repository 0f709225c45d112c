"""The commands that rule links and handle single messages, on real servers in frozen time."""

import pytest

from raft.core.messages import AppendEntries
from raftviz.model.events import (
    ClockChanged,
    DropReason,
    MessageDropped,
    Outcome,
)
from raftviz.model.link_rules import CLIENT, Distribution, LinkRules
from raftviz.model.view import LinkView


@pytest.fixture
async def still(start_lab):
    lab = await start_lab(seed=1, servers=4, rate=0)
    await lab.until(lambda view: view.sequence > 0)
    return lab


def ruled(view):
    """The links that are not as they were at first."""
    return {link: rules for link, rules in view.links.items() if rules != LinkView(delay=0.010)}


def blocked(view):
    return {link for link, rules in view.links.items() if rules.cut}


async def test_every_rule_is_given_listed_and_ended(still):
    assert await still.do("links") == "every link: 10 ms"
    for command, rules in [
        ("stall 1 -> 2", {"stalled": True}),
        ("reset 1 -> 2", {"reset": True}),
        ("cut 1 -> 2", {"cut": True}),
        ("hold 1 -> 2", {"held": True}),
        ("loss 1 -> 2 10%", {"loss": 0.1}),
        ("duplicate 1 -> 2 5%", {"duplication": 0.05}),
        ("reorder 1 -> 2 20%", {"reordering": 0.2}),
        ("bandwidth 1 -> 2 10kB/s", {"bandwidth": 10_000}),
        (
            "delay 1 -> 2 200ms ±50ms normal",
            {"delay": 0.2, "jitter": 0.05, "distribution": Distribution.NORMAL},
        ),
    ]:
        assert "S1 → S2" in await still.do(command)
        assert ruled(still.view) == {(1, 2): LinkView(**{"delay": 0.010, **rules})}
        assert await still.do("heal 1 -> 2") == "healed: S1 → S2"
        assert ruled(still.view) == {}
    await still.do("loss AppendEntries 2 -> 3 50%")
    await still.do("stall 4 1")
    assert (await still.do("links")).splitlines() == [
        "S2 → S3  all: 10 ms",
        "S2 → S3  AppendEntries: 10 ms, loses 50 %",
        "S4 → S1  all: stalled, 10 ms",
        "S1 → S4  all: stalled, 10 ms",
        "every other link: 10 ms",
    ]
    own = (("AppendEntries", LinkRules(delay=0.010, loss=0.5)),)
    assert still.view.links[2, 3] == LinkView(delay=0.010, kinds=own)
    assert await still.do("heal AppendEntries 2 -> 3") == "healed: S2 → S3"
    await still.do("heal all")
    assert ruled(still.view) == {}
    await still.do("delay 20ms ±5ms")
    assert {(rules.delay, rules.jitter) for rules in still.view.links.values()} == {(0.020, 0.005)}
    assert await still.do("heal") == "nothing there was wrong", "that is how links are now"


async def test_shapes_of_the_network(still):
    assert "S1 — S2 — S3 — S4 — S1" in await still.do("ring")
    assert blocked(still.view) == {(1, 3), (3, 1), (2, 4), (4, 2)}
    answer = await still.do("ring 1 3 2")
    assert answer.endswith("S1 — S3 — S2 — S1; the links of S4 stay as they are")
    assert blocked(still.view) == {(2, 4), (4, 2)}, "S4 keeps the links that it has"
    await still.do("heal")
    answer = await still.do("bridge 2 between 1 | 3-4")
    assert answer == "S1 cannot reach S3 and S4; S2 sees both"
    assert blocked(still.view) == {(1, 3), (3, 1), (1, 4), (4, 1)}
    assert "three servers" in await still.refused("ring 1 2")
    assert "no S9" in await still.refused("bridge 9 between 1 | 3")
    assert still.view.client_links == {}
    await still.do("partition client 1 | 2-4")
    assert blocked(still.view) == {(1, n) for n in (2, 3, 4)} | {(n, 1) for n in (2, 3, 4)}
    both = {(CLIENT, n) for n in (2, 3, 4)} | {(n, CLIENT) for n in (2, 3, 4)}
    assert set(still.view.client_links) == both
    await still.do("heal client")
    assert still.view.client_links == {}
    assert "two groups" in await still.refused("partition all | 2")


async def test_single_messages_in_frozen_time(still):
    assert await still.do("messages") == "no message is in flight"
    await still.do("timeout 1")
    numbers = {flight.message.dst: n for n, flight in still.view.flights.items()}
    lines = (await still.do("messages")).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith(f"#{numbers[2]}  S1 → S2  RequestVote  term 1")
    assert lines[0].endswith(", due in 10 ms")

    assert "is not in flight" in await still.refused("drop #99")
    assert "no AppendEntries" in await still.refused("deliver AppendEntries 1 -> 2")
    assert "lost" in await still.do(f"drop #{numbers[2]}")
    assert still.told(MessageDropped) == [MessageDropped(numbers[2], DropReason.BY_HAND)]

    # The last one first, and so S4 has voted before S3 is asked.
    assert "arrived" in await still.do(f"deliver #{numbers[4]}")
    assert still.view.servers[4].voted_for == 1
    assert still.view.servers[3].voted_for is None
    assert still.view.time == 0, "no time has passed"

    assert "held" in await still.do(f"hold #{numbers[3]}")
    assert still.view.flights[numbers[3]].held
    assert await still.do("step") == "S4's vote reached S1"
    assert "once more" in await still.do(f"duplicate #{numbers[3]}")
    assert await still.do("step message") == "S1's request for a vote reached S3"
    assert still.view.servers[3].voted_for == 1
    await still.do("step until leader == 1")
    assert still.view.flights[numbers[3]].held, "it waits however much time passes"
    await still.do(f"release #{numbers[3]}")
    assert not still.view.flights[numbers[3]].held
    assert "nothing is held" in await still.refused("release all")

    # Held by its kind, nothing that S1 sends to S2 gets there, and its votes would.
    await still.do("hold AppendEntries 1 -> 2")
    assert [f.held for f in still.view.flights.values() if _appends(f, 2)] == [True]
    await still.do("advance 120ms")
    assert len(still.view.held) >= 3
    assert still.view.servers[2].term == 0
    assert "held" in (await still.do("messages")).splitlines()[0]
    await still.do("release AppendEntries 1 -> 2")
    assert still.view.held == []
    await still.do("step server 2")
    assert still.view.servers[2].term == 1


def _appends(flight, dst):
    return isinstance(flight.message, AppendEntries) and flight.message.dst == dst


async def test_the_links_of_clients_are_ruled_as_those_of_servers(start_lab):
    slow = {"election_timeout": (50.0, 100.0), "heartbeat": 2.0}
    lab = await start_lab(seed=2, servers=3, rate=0, **slow)
    await lab.do("timeout 1")
    await lab.do("step until servers.all(s, s.applied == 1)")
    operations = lab.view.operations

    # S1 stores what it is given, and its answer gets lost: the client gives up after 5 seconds.
    await lab.do("cut 1 -> client")
    assert "pending" in await lab.do("put x 1 @1")
    await lab.until(lambda view: view.servers[1].last_index == 2)
    await lab.do("step until s1.applied == 2")
    await lab.do("advance 6s")
    await lab.until(lambda view: operations[-1].outcome is Outcome.UNKNOWN)
    assert [dropped.reason for dropped in lab.told(MessageDropped)] == [DropReason.LINK_CUT]

    await lab.do("heal client")
    await lab.do("reset client 1")
    assert "pending" in await lab.do("put x 2 @1")
    await lab.do("advance 6s")
    await lab.until(lambda view: operations[-1].outcome is Outcome.FAILED)
    assert lab.view.servers[1].last_index == 2, "it was never sent"

    await lab.do("heal client")
    await lab.do("stall client -> 1")
    assert "pending" in await lab.do("put x 3 @1")
    await lab.until(lambda view: view.requests)
    assert lab.view.held == list(lab.view.requests)
    await lab.do("heal")
    assert await lab.do("step message") == "the client's Propose reached S1"
    await lab.until(lambda view: view.servers[1].last_index == 3)
    await lab.do("step until servers.all(s, s.kv.x == '3')")
    await lab.until(lambda view: operations[-1].outcome is Outcome.OK)


async def test_the_same_seed_makes_the_same_of_lossy_and_shaky_links(start_lab):
    courses = []
    for _ in range(2):
        lab = await start_lab(seed=5, servers=3, rate=0)
        await lab.until(lambda view: view.sequence > 0)
        for rule in ("loss all 20%", "delay all 20ms ±15ms", "duplicate all 20%"):
            await lab.do(rule)
        said = await lab.do("step until leader != 0")
        said += await lab.do("advance 200ms")
        times = [what.virtual for what in lab.told(ClockChanged)]
        courses.append((said, times, lab.view.leader, lab.view.term))
    assert courses[0] == courses[1]
