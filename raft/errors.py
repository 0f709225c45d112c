"""How a request to a cluster can fail, and what is certain then.

Everything but ``OutcomeUnknownError`` means that nothing was done, and ``LaggingError`` that a part
was: a new server is a learner. Messages may quote what a server said: show them through
``raft.printable``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from raft.core.messages import ServerId
from raft.core.ready import Refusal

if TYPE_CHECKING:
    from raft.frames import Status


class RaftError(Exception):
    """A request to the cluster failed. A traceback of it shows the ``advice``, too."""

    advice: ClassVar[str] = ""
    """What to do about it, if its message does not say."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        if self.advice:
            self.add_note(self.advice)


class UnreachableError(RaftError):
    """A server cannot be reached, or did not answer in time."""

    advice = "see whether it runs, and listens there"

    def __init__(self, server: ServerId, reason: str) -> None:
        super().__init__(f"server {server}: {reason}")
        self.server = server
        self.reason = reason


class RefusedError(UnreachableError):
    """A server is there but will not talk to us: another cluster, another secret, another id."""

    advice = "it will not change its mind: compare what both of you were told"


class UnknownServerError(RaftError):
    """A server was named of which this handle knows no address; nothing was done."""

    advice = "a member that was added is known once the handle has asked for the members"

    def __init__(self, server: ServerId, known: Iterable[ServerId]) -> None:
        ids = ", ".join(map(str, sorted(known)))
        super().__init__(f"there is no server {server} in this cluster: there are {ids}")
        self.server = server


class NotLeaderError(RaftError):
    """The one server that was asked does not lead; ``leader`` is who does, as far as it knows."""

    advice = "ask the leader, or no server in particular"

    def __init__(self, server: ServerId, leader: ServerId | None) -> None:
        who = "knows of no leader" if leader is None else f"says that server {leader} leads"
        super().__init__(f"server {server} does not lead; it {who}")
        self.server = server
        self.leader = leader


class NoLeaderError(RaftError):
    """No leader was found in time; the message says what each server answered."""

    advice = "nothing was done: try again, once a majority of the servers runs"


class RejectedError(RaftError):
    """The leader refused the request for what it says."""

    advice = "asking again will not help: change the request"


class OutcomeUnknownError(RaftError):
    """The command may have taken effect, may still, or never: the answer got lost.

    Only the application can know whether doing it twice would do harm, so the client does not
    send it again.
    """

    advice = "read what became of it before doing it again"


class DeclinedError(RaftError):
    """A server did not do what it was asked for; ``reason`` is its reason, ``detail`` its words.

    The reasons that pass by themselves are waited for until the request's time is up.
    """

    passes: ClassVar[bool] = False
    """Asking again may help."""

    def __init__(self, server: ServerId, reason: Refusal, detail: str) -> None:
        super().__init__(f"server {server}: {detail}")
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


class NotInTimeError(RaftError):
    """What was waited for has not come; ``status`` was the last one seen, None if none was."""

    advice = "wait on, or see in the status what is in the way"

    def __init__(self, timeout: float | None, status: Status | None, why: str = "") -> None:
        seen = why or (str(status) if status else "no server answered")
        within = "" if timeout is None else f" within {timeout:g} s"
        super().__init__(f"what was waited for did not come{within}; the last was: {seen}")
        self.status = status


class LaggingError(RaftError):
    """A new server was added as a learner, and has not become a voter: it did not catch up, say."""

    advice = "see whether it runs and keeps up; then promote it, or remove it"


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
