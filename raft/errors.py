"""How a request to a cluster can fail, and what is certain then.

Everything but ``OutcomeUnknownError`` means that nothing was done. Messages may quote what a
server said: show them through ``raft.printable``.
"""

from __future__ import annotations

from typing import ClassVar

from raft.core.messages import ServerId
from raft.core.ready import Refusal


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


class DeclinedError(RaftError):
    """A server did not do what it was asked for; ``reason`` is its reason, ``detail`` its words.

    The reasons that pass by themselves are waited for until the request's time is up.
    """

    advice: ClassVar[str] = ""
    """What to do about it."""
    passes: ClassVar[bool] = False
    """Asking again may help."""

    def __init__(self, server: ServerId, reason: Refusal, detail: str) -> None:
        super().__init__(f"server {server}: {detail}{self.advice and f' ({self.advice})'}")
        self.server = server
        self.reason = reason
        self.detail = detail


class TransferringError(DeclinedError):
    """Leadership is being handed over."""

    advice = "try again when another server leads"
    passes = True


class BusyError(DeclinedError):
    """Too much waits at the leader already: slow down."""

    advice = "send less at once, or try again later"
    passes = True


class NoCommitYetError(DeclinedError):
    """The leader is too new to change the members: it has not committed an entry of its term."""

    advice = "try again; if it stays so, the leader reaches no majority"
    passes = True


class ChangeInProgressError(DeclinedError):
    """Another change of the members is not over."""

    advice = "try again; if it stays so, the change reaches no majority"
    passes = True


class ConfigurationMovedError(DeclinedError):
    """The members have changed since the index that was expected."""

    advice = "look at the members again before you change them"


class ImpossibleError(DeclinedError):
    """The change, or the target of the transfer, makes no sense as the members are."""


class LaggingError(RaftError):
    """A new server did not catch up with the log in time. It stays a learner."""


class GivenUpError(DeclinedError):
    """The transfer of leadership was begun and did not succeed."""

    advice = "see with the status of the servers whether that one keeps up, and try again"


DECLINED: dict[Refusal, type[DeclinedError]] = {
    Refusal.TRANSFERRING: TransferringError,
    Refusal.BUSY: BusyError,
    Refusal.NO_COMMIT_YET: NoCommitYetError,
    Refusal.CHANGE_IN_PROGRESS: ChangeInProgressError,
    Refusal.CONFIGURATION_MOVED: ConfigurationMovedError,
    Refusal.IMPOSSIBLE: ImpossibleError,
    Refusal.GIVEN_UP: GivenUpError,
}
"""The error for each reason."""
