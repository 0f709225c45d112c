"""What rules and hands do to the messages that are in flight between two servers."""

import pytest

from raft.frames import Caller, ClientReply, ClientRequest, Preamble, Result, StatusQuery
from raftviz.model.events import (
    DropReason,
    LinkChanged,
    MessageDelivered,
    MessageDropped,
    MessageDuplicated,
    MessageHeld,
    MessageRescheduled,
    MessageSent,
    RequestSent,
)
from raftviz.model.link_rules import CLIENT
from tests.lab.test_fabric import PROOF, WELCOME, Net, preamble, vote

LINK = (1, 2)


@pytest.fixture
async def net():
    net = Net()
    await net.fabric.open()
    yield net
    await net.close()


@pytest.fixture
async def ends(net):
    return await net.link(*LINK, await net.server(2))


async def send(net, caller, *terms):
    count = len(net.of(MessageSent))
    for number, term in enumerate(terms, count + 1):
        caller.say(vote(*LINK, term=term))
        await net.sent(number)


def dropped(net):
    return {what.message_id: what.reason for what in net.of(MessageDropped)}


# --- Rules -----------------------------------------------------------------------------------


async def test_a_stalled_link_keeps_messages_and_hands_them_over_late_and_in_order(net, ends):
    caller, callee = ends
    await send(net, caller, 1)
    net.fabric.rule(LINK, stalled=True)
    await send(net, caller, 2)
    net.run_from(5.0, rate=0.0)
    assert net.of(MessageHeld) == [MessageHeld(1), MessageHeld(2)]
    assert net.fabric.traffic.next_due() is None
    net.fabric.heal(LINK)
    await send(net, caller, 3)
    assert net.of(MessageRescheduled) == [MessageRescheduled(1, 5.0), MessageRescheduled(2, 5.0)]
    net.run_from(5.0, rate=1.0)
    assert [(await callee.take()).term for _ in range(3)] == [1, 2, 3]
    assert net.of(MessageDropped) == []


async def test_a_reset_breaks_the_connection_loses_what_is_on_it_and_lets_none_come_about(net):
    accepted = await net.server(2)
    caller, callee = await net.link(*LINK, accepted)
    other, _ = await net.link(3, 2, accepted)
    await send(net, caller, 1)
    net.fabric.rule(LINK, reset=True)
    assert await caller.take() is None
    assert await callee.take() is None
    assert dropped(net) == {1: DropReason.LINK_RESET}
    assert not other.closed.is_set(), "the connection of another link stays"
    again = await net.dial(2)
    again.say(preamble(*LINK))
    assert await again.take() is None
    net.fabric.heal(LINK)
    caller, callee = await net.link(*LINK, accepted)
    caller.say(vote(*LINK, term=2))
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 2


async def test_a_lossy_link_says_that_it_lost_a_message(net, ends):
    caller, _ = ends
    net.fabric.rule(LINK, loss=1.0)
    await send(net, caller, 1)
    assert dropped(net) == {1: DropReason.LOSS}


async def test_a_doubling_link_delivers_every_message_twice(net, ends):
    caller, callee = ends
    net.fabric.rule(LINK, duplication=1.0)
    await send(net, caller, 7)
    assert net.of(MessageDuplicated) == [MessageDuplicated(1, 2, 0.010)]
    net.run_from(0.0, rate=1.0)
    assert [(await callee.take()).term for _ in range(2)] == [7, 7]
    assert net.of(MessageDelivered) == [MessageDelivered(1), MessageDelivered(2)]
    assert (net.fabric.received[1], net.fabric.delivered[2]) == (1, 2)


async def test_a_rule_for_a_kind_is_told_and_leaves_other_kinds_alone(net, ends):
    caller, callee = ends
    net.fabric.rule(LINK, "AppendEntries", cut=True)
    assert net.of(LinkChanged) == [
        LinkChanged(*LINK, False, 0.010),
        LinkChanged(*LINK, True, 0.010, kind="AppendEntries"),
    ]
    await send(net, caller, 1)
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 1


async def test_a_held_kind_waits_until_that_is_over(net, ends):
    caller, callee = ends
    net.fabric.rule(LINK, "RequestVote", held=True)
    net.run_from(0.0, rate=10.0)
    await send(net, caller, 1)
    assert net.of(MessageHeld) == [MessageHeld(1)]
    assert net.fabric.traffic.next_due() is None
    net.fabric.rule(LINK, "RequestVote", held=False)
    assert (await callee.take()).term == 1


async def test_rules_of_one_direction_leave_the_other_alone(net, ends):
    back, one = await net.link(2, 1, await net.server(1))
    for rules in ({"stalled": True}, {"reset": True}, {"loss": 1.0}):
        net.fabric.rule(LINK, **rules)
    net.run_from(0.0, rate=10.0)
    back.say(vote(2, 1, term=3))
    assert (await one.take()).term == 3


async def test_only_a_faster_link_hastens_what_is_on_it(net, ends):
    caller, _ = ends
    net.fabric.rule(LINK, bandwidth=10.0)
    await send(net, caller, 1, 2)
    slow = [flight.due for flight in net.fabric.traffic.flights.values()]
    assert min(slow) > 1.0
    net.fabric.rule(LINK, loss=0.5)
    net.fabric.rule(LINK, delay=0.005)
    assert [flight.due for flight in net.fabric.traffic.flights.values()] == slow
    net.fabric.rule(LINK, bandwidth=0.0)
    assert [flight.due for flight in net.fabric.traffic.flights.values()] == [0.005, 0.005]


# --- Hands -----------------------------------------------------------------------------------


async def test_any_message_can_be_delivered_before_those_that_are_due_sooner(net, ends):
    caller, callee = ends
    await send(net, caller, 1, 2)
    traffic = net.fabric.traffic
    assert traffic.deliver(traffic.flights[2])
    assert (await callee.take()).term == 2
    assert net.clock.now() == 0.0
    assert traffic.next_due().message_id == 1


async def test_a_message_held_by_hand_is_overtaken_and_outlasts_changes_of_its_link(net, ends):
    caller, callee = ends
    await send(net, caller, 1, 2)
    traffic = net.fabric.traffic
    assert traffic.hold(traffic.flights[1], by_hand=True)
    assert not traffic.hold(traffic.flights[1], by_hand=True)
    net.fabric.rule(LINK, stalled=True)
    net.fabric.heal(LINK)
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 2
    net.run_from(3.0, rate=0.0)
    assert traffic.release(traffic.flights[1])
    assert not traffic.release(traffic.flights[1])
    assert net.of(MessageRescheduled)[-1] == MessageRescheduled(1, 3.0)
    net.run_from(3.0, rate=1.0)
    assert (await callee.take()).term == 1


async def test_a_message_released_before_it_is_due_arrives_when_it_is_due(net, ends):
    caller, _ = ends
    await send(net, caller, 1)
    traffic = net.fabric.traffic
    traffic.hold(traffic.flights[1], by_hand=True)
    traffic.release(traffic.flights[1])
    assert traffic.next_due().due == 0.010


async def test_a_message_can_be_lost_by_hand_held_or_not(net, ends):
    caller, _ = ends
    await send(net, caller, 1, 2)
    traffic = net.fabric.traffic
    traffic.hold(traffic.flights[1], by_hand=True)
    traffic.lose(list(traffic.flights.values()), DropReason.BY_HAND)
    assert dropped(net) == {1: DropReason.BY_HAND, 2: DropReason.BY_HAND}
    assert traffic.next_due() is None


async def test_a_copy_by_hand_is_a_message_of_its_own_even_of_a_held_one(net, ends):
    caller, callee = ends
    await send(net, caller, 7)
    traffic = net.fabric.traffic
    traffic.hold(traffic.flights[1], by_hand=True)
    copy = net.fabric.duplicate(traffic.flights[1])
    net.run_from(0.0, rate=10.0)
    assert (await callee.take()).term == 7
    assert net.of(MessageDelivered) == [MessageDelivered(copy)]
    assert list(traffic.flights) == [1]


async def test_a_held_message_keeps_the_connection_of_a_dead_source_open(net, ends):
    caller, callee = ends
    await send(net, caller, 5)
    traffic = net.fabric.traffic
    traffic.hold(traffic.flights[1], by_hand=True)
    caller.transport.close()
    net.run_from(0.0, rate=10.0)
    copy = net.fabric.duplicate(traffic.flights[1])
    await net.until(lambda: net.of(MessageDelivered))
    assert (await callee.take()).term == 5
    traffic.lose([traffic.flights[1]], DropReason.BY_HAND)
    assert await callee.take() is None, "and now it ends"
    assert net.of(MessageDelivered) == [MessageDelivered(copy)]


# --- Clients ---------------------------------------------------------------------------------


async def client(net, accepted):
    """Connect a client to S2 and return both ends after the handshake."""
    caller = await net.dial(2)
    hello = Preamble(preamble(1, 2).version, "c", Caller.CLIENT, 0, 2, b"n" * 32)
    caller.say(hello)
    assert await caller.take() == WELCOME
    caller.say(PROOF)
    callee = accepted.get_nowait()
    assert [await callee.take() for _ in range(2)] == [hello, PROOF]
    return caller, callee


ASKS, ANSWERS = ClientRequest(1, StatusQuery()), ClientReply(1, Result(b"done"))


async def test_what_a_client_asks_takes_no_time_though_time_stands_still(net):
    caller, callee = await client(net, await net.server(2))
    caller.say(ASKS)
    assert await callee.take() == ASKS
    callee.say(ANSWERS)
    assert await caller.take() == ANSWERS
    assert net.told == []


async def test_the_links_of_a_client_can_be_ruled_and_say_what_is_on_them(net):
    caller, callee = await client(net, await net.server(2))
    net.fabric.rule((CLIENT, 2), stalled=True)
    caller.say(ASKS)
    await net.until(lambda: net.of(MessageHeld))
    assert net.of(RequestSent) == [RequestSent(1, CLIENT, 2, "StatusQuery", 0.0)]
    net.fabric.heal((CLIENT, 2))
    net.run_from(0.0, rate=1.0)
    assert await callee.take() == ASKS
    net.fabric.rule((2, CLIENT), cut=True)
    callee.say(ANSWERS)
    await net.until(lambda: net.of(MessageDropped))
    assert dropped(net) == {2: DropReason.LINK_CUT}
    reply = net.of(RequestSent)[-1]
    assert (reply.src, reply.dst, reply.kind) == (2, CLIENT, "Result")
    assert net.fabric.delivered[2] == 0, "only what servers say to each other counts"


async def test_a_reset_breaks_a_clients_connection_and_those_of_servers_stay(net):
    accepted = await net.server(2)
    peer, _ = await net.link(*LINK, accepted)
    caller, _ = await client(net, accepted)
    net.fabric.rule((2, CLIENT), reset=True)
    assert await caller.take() is None
    assert not peer.closed.is_set()
    again = await net.dial(2)
    again.say(Preamble(preamble(1, 2).version, "c", Caller.CLIENT, 0, 2, b"n" * 32))
    assert await again.take() is None
