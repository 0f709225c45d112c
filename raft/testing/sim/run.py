"""One run: faults, then none, then proof that the cluster is well and lost nothing."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from raft.core.log import InvariantViolation
from raft.core.rules import Rules
from raft.testing.linearizability import check_history
from raft.testing.safety import SafetyViolation
from raft.testing.sim.facts import Violation
from raft.testing.sim.faults import Fault, plan
from raft.testing.sim.node import Watch
from raft.testing.sim.scenario import Scenario
from raft.testing.sim.settle import settle
from raft.testing.sim.world import World


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a run: the same plan gives the same run, event for event."""

    scenario: Scenario
    faults: tuple[Fault, ...]
    until: float | None = None
    """The faults end then, instead of after ``scenario.seconds``."""
    operations: int | None = None
    """The clients begin so many operations at most."""
    kinds: tuple[str, ...] | None = None
    """The faults were drawn from these kinds alone."""

    @property
    def end(self) -> float:
        """When the faults end."""
        return self.scenario.seconds if self.until is None else self.until


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong in a run, and when."""

    invariant: str
    text: str
    at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run."""

    plan: Plan
    failure: Failure | None
    events: int
    checked: int
    """Core events and messages that the invariants looked at."""
    committed: int
    operations: int
    answered: int
    trace: int
    faults: Counter[str] = field(default_factory=Counter)
    """How often each kind of fault, and what became of messages."""
    states: Counter[str] = field(default_factory=Counter)
    """How often each remarkable state was reached."""


def run(plan: Plan, rules: Rules | None = None, watch: Watch | None = None) -> Outcome:
    """Let a plan happen, and tell what came of it. ``watch`` is told everything."""
    faults = [fault for fault in plan.faults if fault.at < plan.end]
    world = World(plan.scenario, faults, rules, plan.operations, watch)
    failure = None
    try:
        world.start()
        world.run_until(plan.end)
        settle(world)
        check_history(world.clients.history)
    except Violation as violation:
        failure = Failure(violation.invariant, str(violation), world.now)
    except SafetyViolation as violation:
        failure = Failure(type(violation).__name__, str(violation), world.now)
    except InvariantViolation as violation:
        failure = Failure("core", f"core: {violation}", world.now)
    except Exception as error:
        # A broken rule may lead anywhere; what matters to the reader is where it led.
        failure = Failure(type(error).__name__, traceback.format_exc(limit=-4), world.now)
    return _outcome(plan, world, failure)


def _outcome(plan: Plan, world: World, failure: Failure | None) -> Outcome:
    history = world.clients.history
    return Outcome(
        plan=plan,
        failure=failure,
        events=world.events,
        checked=world.invariants.checked,
        committed=world.invariants.commit,
        operations=len(history),
        answered=sum(operation.done for operation in history),
        trace=world.trace,
        faults=world.nemesis.counts,
        states=world.invariants.coverage + world.network.counts,
    )


def planned(
    scenario: Scenario,
    kinds: tuple[str, ...] | None = None,
    keep: Collection[int] | None = None,
    until: float | None = None,
    operations: int | None = None,
) -> Plan:
    """Return the plan of a scenario: with all its faults, or those whose numbers are kept."""
    faults = plan(scenario, kinds)
    if keep is not None:
        faults = tuple(fault for fault in faults if fault.number in keep)
    return Plan(scenario, faults, until, operations, kinds)
