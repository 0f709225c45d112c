"""Judge whether operations took effect one by one, each between its call and its answer.

That is linearizability (Herlihy and Wing 1990). Two independent judges of registers that start
empty:

* :func:`check_witness` trusts the positions in the log that the cluster claims, and takes the
  time of a sort;
* :func:`check_register` trusts nothing but calls and answers. It searches for an order, one
  key at a time (an order of all exists if there is one for each key), with Lowe's memory of
  states that led nowhere. A search that takes too long is a failure, not a success.

Whose answer never came (``returned`` infinite) may have taken effect at any time, or never.
No two writes store the same value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol

from raft.testing.safety import SafetyViolation

STEPS = 200_000
"""So many steps a search may take for one key."""


class RegisterOperation(Protocol):
    """A write of ``value``, or a read that returned ``result``."""

    @property
    def key(self) -> bytes: ...  # noqa: D102 - the register
    @property
    def is_write(self) -> bool: ...  # noqa: D102
    @property
    def value(self) -> bytes: ...  # noqa: D102 - what a write stores
    @property
    def result(self) -> bytes: ...  # noqa: D102 - what a read returned; empty: nothing was there
    @property
    def invoked(self) -> float: ...  # noqa: D102
    @property
    def returned(self) -> float: ...  # noqa: D102
    @property
    def position(self) -> int: ...  # noqa: D102 - in the log; of a read: up to where it saw


class NotLinearizable(SafetyViolation):
    """No order of these operations explains their answers."""


class Undecided(SafetyViolation):
    """The search was given up: the history is too concurrent to judge. That proves nothing."""


def check_history(operations: Iterable[RegisterOperation]) -> None:
    """Judge a history by both judges. Raises NotLinearizable, Undecided."""
    by_key: dict[bytes, list[RegisterOperation]] = defaultdict(list)
    for operation in operations:
        # A read without an answer had no effect and proves nothing.
        if operation.is_write or operation.returned < math.inf:
            by_key[operation.key].append(operation)
    for history in by_key.values():
        check_witness(history)
        check_register(history)


def check_witness(history: Sequence[RegisterOperation]) -> None:
    """Check that the order in the log explains the answers. Raises NotLinearizable."""
    answered = [operation for operation in history if operation.returned < math.inf]
    placed = sorted(answered, key=lambda o: (o.position, not o.is_write, o.invoked))
    # In this order no operation may have been over before one that stands before it began.
    latest_invocation, latest = -math.inf, None
    for operation in placed:
        if operation.returned < latest_invocation:
            raise NotLinearizable(f"{operation} was over before {latest}, but stands behind it")
        if operation.invoked > latest_invocation:
            latest_invocation, latest = operation.invoked, operation
    writes = {o.value: o for o in history if o.is_write}
    value = b""
    for operation in placed:
        if operation.is_write:
            value = operation.value
        elif operation.result != value:
            # Only a write whose answer was lost can have come between without a position.
            writer = writes.get(operation.result)
            if writer is None and operation.result:
                raise NotLinearizable(f"{operation} returned what nobody wrote")
            if writer is None or writer.returned < math.inf:
                raise NotLinearizable(f"{operation} did not return {value!r}")


def check_register(history: Sequence[RegisterOperation], steps: int = STEPS) -> None:
    """Search for an order (Wing and Gong; Lowe). Raises NotLinearizable, Undecided."""
    # A write whose answer never came, and whose value nobody read, explains nothing: an order
    # with it is one without it, too. Every write stores another value.
    read = {operation.result for operation in history if not operation.is_write}
    history = [o for o in history if o.returned < math.inf or o.value in read]
    calls = _Calls(history)
    done = 0
    value = b""
    seen = {(0, b"")}
    chosen: list[tuple[int, bytes]] = []
    place = calls.first
    while calls.answers_left:
        steps -= 1
        if not steps:
            raise Undecided(f"no verdict on {len(history)} operations of {history[0].key!r}")
        if place >= 0 and calls.may_be_next(place):
            after = calls.effect(place, value)
            if after is not None and (state := (done | 1 << place, after)) not in seen:
                seen.add(state)
                chosen.append((place, value))
                done, value = state
                calls.take(place)
                place = calls.first
                continue
            place = calls.following(place)
            continue
        # Nothing that was under way can be next: what was chosen last was wrong.
        if not chosen:
            raise NotLinearizable(
                f"no order explains {history[0].key!r}: "
                + "; ".join(str(operation) for operation in history)
            )
        place, value = chosen.pop()
        done &= ~(1 << place)
        calls.put_back(place)
        place = calls.following(place)


class _Calls:
    """The operations that have no place in the order yet, by the time of their calls."""

    def __init__(self, history: Sequence[RegisterOperation]) -> None:
        self._operations = sorted(history, key=lambda o: o.invoked)
        count = len(self._operations)
        # A list of the calls that are left, linked both ways, so that taking one is undone
        # exactly by putting it back. -1 is its end, ``count`` its beginning.
        self._next: list[int] = [*range(1, count), -1, 0 if count else -1]
        self._previous: list[int] = [count, *range(count - 1), 0]
        self._begin = count
        self._by_answer = sorted(range(count), key=lambda n: self._operations[n].returned)
        self._taken = [False] * count
        self.answers_left = sum(o.returned < math.inf for o in self._operations)

    @property
    def first(self) -> int:
        """Return the earliest call that is left, -1 if there is none."""
        return self._next[self._begin]

    def following(self, place: int) -> int:
        """Return the next call that is left."""
        return self._next[place]

    def may_be_next(self, place: int) -> bool:
        """Tell whether nothing that is left was over before this was called."""
        return self._operations[place].invoked <= self._earliest_answer()

    def _earliest_answer(self) -> float:
        for place in self._by_answer:
            if not self._taken[place]:
                return self._operations[place].returned
        return math.inf

    def effect(self, place: int, value: bytes) -> bytes | None:
        """Return the register after this operation on ``value``, None if it cannot be next."""
        operation = self._operations[place]
        if operation.is_write:
            return operation.value
        return value if operation.result == value else None

    def take(self, place: int) -> None:
        """Give an operation its place in the order."""
        before, after = self._previous[place], self._next[place]
        self._next[before] = after
        if after >= 0:
            self._previous[after] = before
        self._taken[place] = True
        self.answers_left -= self._operations[place].returned < math.inf

    def put_back(self, place: int) -> None:
        """Undo the last ``take``."""
        before, after = self._previous[place], self._next[place]
        self._next[before] = place
        if after >= 0:
            self._previous[after] = place
        self._taken[place] = False
        self.answers_left += self._operations[place].returned < math.inf
