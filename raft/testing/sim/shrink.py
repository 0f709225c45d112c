"""From a run that fails to the smallest one that fails alike.

Because chance is keyed (``chance.py``), taking a fault away leaves the rest of a run much as it
was, so most of what a run does not need can go: first whatever comes after the failure, then
faults (Zeller's ddmin), then time, then the clients' operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raft.core.rules import Rules
from raft.testing.sim.faults import Fault
from raft.testing.sim.run import Outcome, Plan, run

MOST_RUNS = 400
"""Then what has been reached is good enough."""


def shrink(outcome: Outcome, rules: Rules | None = None) -> Outcome:
    """Return the outcome of a smaller plan that breaks the same promise."""
    assert outcome.failure is not None
    return _Shrinker(outcome, rules).shrink()


class _Shrinker:
    def __init__(self, outcome: Outcome, rules: Rules | None) -> None:
        assert outcome.failure is not None
        self._best = outcome
        self._invariant = outcome.failure.invariant
        self._rules = rules
        self._runs_left = MOST_RUNS

    def shrink(self) -> Outcome:
        self._shorten()
        self._drop_faults()
        self._shorten()
        self._ask_less()
        return self._best

    def _fails(self, plan: Plan) -> bool:
        """Run a smaller plan; if it fails alike, it is the best one from now on."""
        if self._runs_left <= 0:
            return False
        self._runs_left -= 1
        outcome = run(plan, self._rules)
        if outcome.failure is None or outcome.failure.invariant != self._invariant:
            return False
        self._best = outcome
        return True

    def _shorten(self) -> None:
        """End the faults when the promise is broken; or, if that is later, sooner by halves."""
        assert self._best.failure is not None
        plan = self._best.plan
        if self._best.failure.at < plan.end:
            at = self._best.failure.at + 0.001
            self._fails(replace(plan, until=round(at, 3) + 0.001))
            return
        step = plan.end / 2
        while step > 0.05:
            end = round(self._best.plan.end - step, 3)
            if end <= 0 or not self._fails(replace(self._best.plan, until=end)):
                step /= 2

    def _drop_faults(self) -> None:
        kept: Sequence[Fault] = [f for f in self._best.plan.faults if f.at < self._best.plan.end]
        parts = 2
        while len(kept) > 0:
            size = -(-len(kept) // parts)
            for start in range(0, len(kept), size):
                without = (*kept[:start], *kept[start + size :])
                if self._fails(replace(self._best.plan, faults=without)):
                    kept, parts = without, max(2, parts - 1)
                    break
            else:
                if size == 1:
                    return
                parts = min(len(kept), parts * 2)

    def _ask_less(self) -> None:
        """Find how few operations are enough, by halves; fewer need not fail where more do."""
        low, high = 0, self._best.operations
        while low < high:
            middle = (low + high) // 2
            if self._fails(replace(self._best.plan, operations=middle)):
                high = middle
            else:
                low = middle + 1
