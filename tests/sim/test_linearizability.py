"""The judge of histories: it accuses no innocent one, and lets no guilty one go."""

import itertools
import math
from dataclasses import dataclass, replace
from random import Random

import pytest

from raft.testing.linearizability import (
    NotLinearizable,
    Undecided,
    check_history,
    check_register,
    check_witness,
)


@dataclass(frozen=True)
class Op:
    key: bytes
    is_write: bool
    invoked: float
    returned: float = math.inf
    value: bytes = b""
    result: bytes = b""
    position: int = 0


def history(random: Random, length: int, clients: int, unknown: float) -> list[Op]:
    """What clients of a real register see: each operation takes effect within its time."""
    moments = []
    for _ in range(clients):
        now = random.random()
        for _ in range(length // clients):
            begin, effect, end = sorted(now + random.random() for _ in range(3))
            moments.append((effect, begin, end))
            now = end + random.random() * 0.2
    operations, value = [], b""
    for position, (_, begin, end) in enumerate(sorted(moments), 1):
        write = random.random() < 0.5
        lost = write and random.random() < unknown
        returned = math.inf if lost else end
        if write:
            value = b"%d" % position
            operations.append(Op(b"k", True, begin, returned, value, position=position))
        else:
            operations.append(Op(b"k", False, begin, returned, result=value, position=position))
    return operations


@pytest.mark.parametrize("block", range(10))
def test_no_valid_history_is_accused(block: int) -> None:
    for seed in range(block * 50, block * 50 + 50):
        random = Random(seed)
        check_history(history(random, random.randint(1, 80), random.randint(1, 5), 0.05))


def judged(operations: list[Op]) -> bool:
    try:
        check_register(operations)
    except NotLinearizable:
        return False
    return True


def explained(operations: list[Op]) -> bool:
    """The definition itself, word for word: some order of all that was answered, with any of the
    rest, keeps to the time and to what a register does."""
    answered = [o for o in operations if o.returned < math.inf]
    lost = [o for o in operations if o.returned == math.inf]
    for count in range(len(lost) + 1):
        for some in itertools.combinations(lost, count):
            if any(is_run(order) for order in itertools.permutations([*answered, *some])):
                return True
    return False


def is_run(order: tuple[Op, ...]) -> bool:
    value = b""
    for number, operation in enumerate(order):
        if any(later.returned < operation.invoked for later in order[number + 1 :]):
            return False
        if operation.is_write:
            value = operation.value
        elif operation.result != value:
            return False
    return True


@pytest.mark.parametrize("block", range(8))
def test_the_search_agrees_with_the_definition(block: int) -> None:
    """Small histories with any answers at all: most are wrong, some are not."""
    verdicts = set()
    for seed in range(block * 100, block * 100 + 100):
        random = Random(seed)
        operations = []
        for number in range(random.randint(1, 5)):
            begin = random.random()
            end = math.inf if random.random() < 0.2 else begin + random.random() * 0.6
            write = random.random() < 0.5
            value = b"%d" % number
            result = b"%d" % random.randrange(5) if random.random() < 0.8 else b""
            if write or end < math.inf:
                operations.append(Op(b"k", write, begin, end, value, result))
        if operations:
            verdict = judged(operations)
            assert verdict == explained(operations), operations
            verdicts.add(verdict)
    assert verdicts == {True, False}


def sequential(length: int) -> list[Op]:
    """One operation after the other: write 1, read 1, write 2, read 2, ..."""
    operations = []
    for n in range(length):
        value = b"%d" % n
        operations.append(Op(b"k", True, 4 * n, 4 * n + 1, value, position=2 * n + 1))
        operations.append(Op(b"k", False, 4 * n + 2, 4 * n + 3, result=value, position=2 * n + 2))
    return operations


ANOMALIES = {
    "stale read": lambda ops, n: replace(ops[n], result=ops[n - 2].result),
    "lost write": lambda ops, n: replace(ops[n], result=b""),
    "phantom": lambda ops, n: replace(ops[n], result=b"never written"),
    "read from the future": lambda ops, n: replace(ops[n], result=ops[n + 2].result),
}


@pytest.mark.parametrize("anomaly", ANOMALIES)
@pytest.mark.parametrize("judge", [check_register, check_witness])
def test_every_injected_anomaly_is_found(anomaly: str, judge) -> None:  # type: ignore[no-untyped-def]
    operations = sequential(60)
    judge(operations)
    for n in range(3, 117, 2):
        spoilt = [*operations]
        spoilt[n] = ANOMALIES[anomaly](operations, n)
        with pytest.raises(NotLinearizable):
            judge(spoilt)


def test_a_search_that_is_given_up_is_no_success() -> None:
    wild = [Op(b"k", True, 0.0, 9.0, b"%d" % n) for n in range(14)]
    wild.append(Op(b"k", False, 10.0, 11.0, result=b"none of them"))
    with pytest.raises(Undecided):
        check_register(wild, steps=1000)


def test_keys_are_judged_one_by_one() -> None:
    check_history(
        [
            Op(b"a", True, 0, 1, b"1", position=1),
            Op(b"b", False, 2, 3, result=b"", position=1),
        ]
    )
