"""How a request to a cluster can fail, and what is certain then.

Everything but ``OutcomeUnknownError`` means that nothing was done. Messages may quote what a
server said: show them through ``raft.printable``.
"""

from __future__ import annotations

from raft.core.messages import ServerId


class RaftError(Exception):
    """A request to the cluster failed."""


class UnreachableError(RaftError):
    """A server cannot be reached, or did not answer in time."""

    def __init__(self, server: ServerId, reason: str) -> None:
        super().__init__(f"server {server}: {reason}")
        self.server = server
        self.reason = reason


class RefusedError(UnreachableError):
    """A server is there but will not talk to us: another cluster, another secret, another id."""


class NotLeaderError(RaftError):
    """The one server that was asked does not lead; ``leader`` is who does, as far as it knows."""

    def __init__(self, server: ServerId, leader: ServerId | None) -> None:
        who = "knows of no leader" if leader is None else f"says that server {leader} leads"
        super().__init__(f"server {server} does not lead; it {who}")
        self.server = server
        self.leader = leader


class NoLeaderError(RaftError):
    """No leader was found in time; the message says what each server answered."""


class RejectedError(RaftError):
    """The leader refused the request for what it says; asking again will not help."""


class OutcomeUnknownError(RaftError):
    """The command may have taken effect, may still, or never: the answer got lost.

    Only the application can know whether doing it twice would do harm, so the client does not
    send it again.
    """
