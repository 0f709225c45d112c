"""Scenes and gestures that the tests of the core share."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import permutations
from typing import Any, TypeVar

from raft.core.events import Role
from raft.core.log import HardState
from raft.core.membership import Change
from raft.core.messages import (
    Index,
    Message,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from raft.core.readonly import ReadState
from raft.core.rules import Rules
from raft.testing.network import Network, entries_of

Kind = TypeVar("Kind", bound=Message)

VOTES = RequestVote | RequestVoteReply | RequestPreVote | RequestPreVoteReply


def cluster(
    rules: Rules, *logs: Iterable[int], one_entry_a_message: bool = False, **options: Any
) -> Network:
    """Servers that start with logs of these terms."""
    limit = 1 if one_entry_a_message else 10_000
    network = Network(len(logs), rules, max_append_bytes=limit, **options)
    for server, terms in enumerate(logs, 1):
        log = list(terms)
        network.install(server, HardState(max(log, default=0)), entries_of(log))
    return network


def elect(network: Network, server: int, *voters: int) -> None:
    """Make a server leader with these votes; its first messages to all others are lost."""
    network.fire(server)
    network.settle(
        lambda message: (
            isinstance(message, VOTES) and {message.src, message.dst} - {server} <= set(voters)
        )
    )
    assert network.core(server).role is Role.LEADER, f"S{server} was not elected"
    network.in_flight.clear()


def lead(network: Network, server: int, *voters: int) -> None:
    """Elect a server and let its first entry reach everybody and be committed."""
    elect(network, server, *voters)
    for _ in range(2):
        heartbeat(network, server)


def heartbeat(network: Network, server: int) -> None:
    """Let a leader's round of heartbeats reach everybody, and the answers reach it."""
    network.fire(server)
    network.settle()


def exchange(network: Network, *servers: int) -> None:
    """Deliver what these have to say to each other."""
    network.settle(lambda message: {message.src, message.dst} <= set(servers))


def pick(network: Network, kind: type[Kind], src: int, dst: int) -> Kind:
    """Take the oldest such message off the network."""
    for flight in network.in_flight:
        message = flight.message
        if isinstance(message, kind) and (message.src, message.dst) == (src, dst):
            network.drop(flight)
            return message
    raise AssertionError(f"no {kind.__name__} from S{src} to S{dst} in flight")


def arrive(network: Network, *messages: Message) -> None:
    """Let messages arrive now, whoever sent them."""
    for message in messages:
        network.deliver(network.put(message))


def isolate(network: Network, *servers: int) -> None:
    """Cut these servers off from all others, in both directions."""
    for one, other in permutations(network.servers, 2):
        if (one in servers) != (other in servers):
            network.cut.add((one, other))


def change(network: Network, server: int, *changes: Change) -> int:
    """Change the members through a leader; return the index of the first step's entry."""
    for new in changes:
        network.join(new.server)
    index = network.change(server, changes)
    assert isinstance(index, int), index
    return index


def log_terms(network: Network, server: int) -> list[int]:
    """The terms of the entries that a server has behind its snapshot."""
    log = network.core(server).log
    return [entry.term for entry in log.entries(log.first_index, log.last_index)]


def voters(network: Network, server: int) -> tuple[int, ...]:
    """The voters by whom a server goes."""
    return network.core(server).configuration.voters


def reads(network: Network) -> dict[int, Index]:
    """The reads that may be answered since the last look, with the index each must see."""
    return {
        happening.what.context: happening.what.index
        for happening in network.take_trace()
        if isinstance(happening.what, ReadState)
    }
