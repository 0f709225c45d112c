"""Whom a server calls: the members, from when they are named until that is certain, and callers."""

from __future__ import annotations

from typing import ClassVar

import pytest

from raft import links
from raft.core.membership import Configuration
from raft.core.messages import Message, ServerId, TimeoutNow
from raft.handshake import Identity
from raft.links import Links

ME = Identity("test", ServerId(1), b"s" * 32, "127.0.0.1:7001")


class Link:
    """A link that is only written down."""

    open: ClassVar[dict[int, Link]] = {}

    def __init__(self, identity: Identity, peer: int, address: str) -> None:
        assert identity is ME
        self.peer, self.address = peer, address
        self.sent: list[Message] = []
        self.woken = 0

    def start(self) -> None:
        assert self.peer not in Link.open, "there is one already"
        Link.open[self.peer] = self

    def close(self) -> None:
        del Link.open[self.peer]

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def wake(self) -> None:
        self.woken += 1

    @property
    def messages_sent(self) -> int:
        return len(self.sent)


@pytest.fixture(autouse=True)
def written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    Link.open = {}
    monkeypatch.setattr(links, "PeerLink", Link)


def members(*servers: int) -> Configuration:
    ids = tuple(map(ServerId, servers))
    return Configuration(ids, addresses=tuple((s, f"127.0.0.1:700{s}") for s in ids))


def begun(*given: int) -> Links:
    made = Links(ServerId(1), {ServerId(peer): f"127.0.0.1:900{peer}" for peer in given})
    made.follow(members(1, 2, 3), committed=True)
    made.start(ME)
    return made


def message(dst: int) -> Message:
    return TimeoutNow(ServerId(1), ServerId(dst), 1)  # type: ignore[arg-type]


def called() -> dict[int, str]:
    return {peer: link.address for peer, link in sorted(Link.open.items())}


def test_nobody_is_called_before_the_start() -> None:
    Links(ServerId(1), {}).follow(members(1, 2), committed=True)
    assert called() == {}


def test_a_new_member_is_called_from_when_it_is_named() -> None:
    made = begun()
    assert called() == {2: "127.0.0.1:7002", 3: "127.0.0.1:7003"}
    made.follow(members(1, 2, 3, 4), committed=False)
    assert sorted(called()) == [2, 3, 4]
    made.send(message(4))
    assert Link.open[4].sent == [message(4)]


def test_a_link_outlives_its_server_until_the_removal_is_certain() -> None:
    made = begun()
    without = members(1, 2)
    made.follow(without, committed=False)
    assert sorted(called()) == [2, 3]
    made.follow(without, committed=True)
    assert sorted(called()) == [2]


def test_a_change_that_is_taken_back_changes_nothing() -> None:
    made = begun()
    before = Link.open.copy()
    made.follow(members(1, 2), committed=False)
    made.follow(members(1, 2, 3), committed=True)
    assert Link.open == before


def test_what_its_owner_said_counts_more_until_the_server_leaves() -> None:
    made = begun(2)
    assert called()[2] == "127.0.0.1:9002"
    made.follow(members(1, 3), committed=True)
    made.follow(members(1, 2, 3), committed=False)
    assert called()[2] == "127.0.0.1:7002", "it has come back somewhere else"


def test_a_caller_is_answered_while_it_calls() -> None:
    """It may be the leader of a configuration that has not come here yet (thesis §4.1)."""
    made = begun()
    made.attached(ServerId(6), "127.0.0.1:8006")
    assert called()[6] == "127.0.0.1:8006"
    made.follow(members(1, 2, 3, 6), committed=False)
    made.lost(ServerId(6))
    assert 6 in called(), "it is a member by now"
    made.follow(members(1, 2, 3), committed=True)
    assert 6 not in called()


def test_a_stranger_that_has_gone_is_called_no_more() -> None:
    made = begun()
    made.attached(ServerId(6), "127.0.0.1:8006")
    made.lost(ServerId(6))
    assert sorted(called()) == [2, 3]


@pytest.mark.parametrize("said", ["", "nowhere", "\x1b[2J"])
def test_whoever_does_not_say_where_it_is_cannot_be_called(
    said: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = begun()
    made.attached(ServerId(6), said)
    assert sorted(called()) == [2, 3]
    assert "server 6 cannot be called" in caplog.text
    assert "\x1b" not in caplog.text
    made.send(message(6))
    made.follow(members(1, 2, 3, 6), committed=False)
    assert 6 in called(), "the members know where it is"


@pytest.mark.parametrize("odd", ["a..b:7004", "h" * 300 + ":7004", "no port"])
def test_a_member_at_what_is_no_address_any_more_hinders_nobody(
    odd: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = begun()
    known = members(1, 2, 3)
    addresses = (*known.addresses, (ServerId(4), odd))
    made.follow(
        Configuration(known.voters, learners=(ServerId(4),), addresses=addresses), committed=True
    )
    assert sorted(called()) == [2, 3]
    assert "server 4 cannot be called" in caplog.text


def test_a_member_that_calls_is_called_back_at_once() -> None:
    made = begun()
    made.attached(ServerId(2), "127.0.0.1:7002")
    assert Link.open[2].woken == 1


def test_messages_count_even_when_their_link_is_closed() -> None:
    made = begun()
    made.send(message(2))
    made.send(message(3))
    made.follow(members(1, 2), committed=True)
    made.send(message(3))
    assert made.messages_sent == 2
    made.close()
    assert made.messages_sent == 2
    assert called() == {}
