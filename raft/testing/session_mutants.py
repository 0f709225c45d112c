"""Sessions with one mistake, by name: what tests of exactly-once commands must catch.

Each mutant overrides exactly one method of :class:`raft.machine.sessions.Sessions` and says
what goes wrong then.
"""

from __future__ import annotations

from raft.machine.sessions import Perform, Sessions, _Session, _SessionState


class TableNotInSnapshot(Sessions):
    """Leaves the sessions out of the snapshot: after it, a retry is an unknown session's."""

    def _states(self) -> tuple[_SessionState, ...]:
        return ()


class RetryAppliedTwice(Sessions):
    """Keeps answers but does not look for them: a retry takes effect again."""

    def _kept_answer(self, session: _Session, request: Perform) -> bytes | None:
        return None


class ExpiredReopened(Sessions):
    """Opens a session that it does not know: a retry after the expiry takes effect again."""

    def _use(self, number: int) -> _Session | None:
        return super()._use(number) or self._sessions.setdefault(number, _Session())


class NothingExpires(Sessions):
    """Keeps all sessions for ever: clients that went away fill the memory."""

    def _expire(self) -> None:
        """Keep them."""


SESSION_MUTANTS: dict[str, type[Sessions]] = {
    "table-not-in-snapshot": TableNotInSnapshot,
    "retry-applied-twice": RetryAppliedTwice,
    "expired-reopened": ExpiredReopened,
    "nothing-expires": NothingExpires,
}
"""The mutants by name."""
