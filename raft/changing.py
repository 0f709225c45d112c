"""Changes of the members, carried through: look, ask for what is missing, look again.

An answer that is lost does no harm, because the next look shows what became of the change; and
a change is asked for only if the members are still those that were looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from raft.core.membership import Change
from raft.core.messages import ServerId
from raft.core.ready import Refusal
from raft.errors import (
    ChangeInProgressError,
    ConfigurationMovedError,
    LaggingError,
    OutcomeUnknownError,
    RaftError,
)
from raft.frames import Members

if TYPE_CHECKING:
    from raft.client import Raft

LOOK_SECONDS = 0.05
"""Real seconds between two looks."""
ROUND_SECONDS = 0.3
"""A learner that gets what is new within this time lags no more than a voter may."""

Changes = tuple[Change, ...]
Plan = Callable[[Members], Changes]
"""What is missing, with these members. It raises a RaftError if that cannot be reached."""


_LOOKS_AGAIN = ChangeInProgressError, ConfigurationMovedError, OutcomeUnknownError
"""What does not end a change: the members tell what became of it."""


class Deadline:
    """The end of what takes several requests."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = asyncio.get_running_loop().time() + timeout

    @property
    def left(self) -> float:
        """The real seconds that are left, at least 0."""
        return max(0.0, self._end - asyncio.get_running_loop().time())

    def __str__(self) -> str:
        return f"{self._timeout:g} s"


async def reach(raft: Raft, plan: Plan, timeout: float) -> Members:  # noqa: ASYNC109
    """Change the members until ``plan`` finds nothing missing; return them, committed."""
    deadline, asked = Deadline(timeout), False
    while True:
        try:
            members = await raft.members(deadline.left)
            changes = plan(members)
            if changes and not members.committed:
                raise _in_progress(members)
            if changes:
                members = await raft.change_membership(changes, deadline.left, members.index)
        except RaftError as error:
            asked = asked or isinstance(error, OutcomeUnknownError)
            if not (isinstance(error, _LOOKS_AGAIN) and deadline.left > LOOK_SECONDS):
                raise _unsure(error) if asked else error from None
        else:
            if members.committed and not plan(members):
                return members
            asked = True
            if deadline.left < LOOK_SECONDS:
                raise OutcomeUnknownError(f"the change is not committed after {deadline}")
        await asyncio.sleep(LOOK_SECONDS)


def _in_progress(members: Members) -> ChangeInProgressError:
    """Say that nothing is changed in these members: another leader may put others in their place.

    By their index a change meant for these could then be made to those.
    """
    detail = f"the change at index {members.index} is not over yet"
    who = members.leader or ServerId(0)
    return ChangeInProgressError(who, Refusal.CHANGE_IN_PROGRESS, detail)


def _unsure(error: RaftError) -> OutcomeUnknownError:
    """Return what an error means once the change was asked for, and got no answer."""
    if isinstance(error, OutcomeUnknownError):
        return error
    return OutcomeUnknownError(f"the change may have been made; then: {error}")


@contextmanager
def added_as_learner(server: ServerId) -> Iterator[None]:
    """Whatever fails from now on, something was done: say so. Raises LaggingError."""
    try:
        yield
    except (LaggingError, OutcomeUnknownError):
        raise
    except RaftError as error:
        raise LaggingError(f"server {server} was added as a learner; then: {error}") from None


async def wait_until_caught_up(raft: Raft, server: ServerId, deadline: Deadline) -> None:
    """Wait until a learner has the log (thesis §4.2.1). Raises LaggingError.

    It gets the log in rounds: all that there is when a round begins. While that takes long,
    much is new by its end; a short round shows that the learner keeps up. So does, however slow
    the network is, one that has all of it at the first look: that takes the leader as long as
    an answer of the others.
    """
    while True:
        begun, goal = deadline.left, (await raft.members(deadline.left)).last_index
        looks = 1
        while (has := await _matched(raft, server, deadline)) < goal:
            if deadline.left < LOOK_SECONDS:
                raise LaggingError(
                    f"server {server} has the log up to {has} of {goal} after {deadline}; "
                    "it stays a learner"
                )
            await asyncio.sleep(LOOK_SECONDS)
            looks += 1
        if looks == 1 or begun - deadline.left < ROUND_SECONDS:
            return


async def _matched(raft: Raft, server: ServerId, deadline: Deadline) -> int:
    members = await raft.members(deadline.left)
    return max((p.match_index for p in members.progress if p.follower == server), default=0)
