"""What an application's state machine does wrong is named, and where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raft.machine.base import MAX_COMMAND_BYTES, StateMachineError
from raft.machine.guarded import Guarded


class Machine:
    """Returns what it is told to return, or raises it."""

    def __init__(self, result: Any) -> None:
        self.result = result

    def answer(self, *given: object) -> Any:
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    check = apply = query = snapshot = restore = answer


CALLS: dict[str, tuple[Callable[[Guarded], object], str]] = {
    "check": (lambda m: m.check(b"abc"), "when it checked a command of 3 bytes"),
    "apply": (lambda m: m.apply(17, b"abc"), "on entry 17, a command of 3 bytes"),
    "query": (lambda m: m.query(b"abcd"), "on a query of 4 bytes"),
    "snapshot": (lambda m: m.snapshot(), "when its snapshot was taken"),
    "restore": (lambda m: m.restore(b"a"), "when it was to restore a snapshot of 1 bytes"),
}


@pytest.mark.parametrize("method", CALLS)
def test_whatever_a_machine_raises_is_named_and_kept_as_the_cause(method: str) -> None:
    call, where = CALLS[method]
    cause = KeyError("x")
    with pytest.raises(StateMachineError) as failure:
        call(Guarded(Machine(cause)))
    assert str(failure.value).startswith(f"the state machine failed {where}: KeyError: 'x'")
    assert failure.value.__cause__ is cause


def test_only_a_committed_command_has_an_index_and_advice() -> None:
    with pytest.raises(StateMachineError, match="repair the state machine, on all") as failure:
        Guarded(Machine(ValueError())).apply(17, b"abc")
    assert (failure.value.index, failure.value.size) == (17, 3)
    with pytest.raises(StateMachineError) as failure:
        Guarded(Machine(ValueError())).query(b"abc")
    assert (failure.value.index, failure.value.size) == (None, None)


@pytest.mark.parametrize("method", ["apply", "query", "snapshot"])
def test_an_answer_that_is_not_bytes_is_a_failure(method: str) -> None:
    call, _ = CALLS[method]
    with pytest.raises(StateMachineError, match=f"{method} must return bytes, not NoneType"):
        call(Guarded(Machine(None)))
    assert call(Guarded(Machine(b""))) == b""


def test_a_refusal_that_is_not_words_is_a_failure() -> None:
    with pytest.raises(StateMachineError, match="check must return a str or None, not bool"):
        Guarded(Machine(False)).check(b"")
    assert Guarded(Machine("no")).check(b"") == "no"
    assert Guarded(Machine(None)).check(b"") is None


def test_a_command_over_the_limit_never_reaches_the_machine() -> None:
    guarded = Guarded(Machine(ValueError("asked")))
    assert guarded.check(bytes(MAX_COMMAND_BYTES + 1)) == (
        "the command has 131073 bytes; at most 131072 are taken"
    )
    with pytest.raises(StateMachineError):
        guarded.check(bytes(MAX_COMMAND_BYTES))
