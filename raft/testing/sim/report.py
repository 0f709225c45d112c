"""What came of runs, for a person: coverage, the command that repeats a run, its story."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from raft.core.events import CoreEvent
from raft.core.messages import Message, ServerId
from raft.core.rules import Rules
from raft.testing.network import Happening
from raft.testing.sim.faults import KINDS, Fault
from raft.testing.sim.run import Outcome, run
from raft.testing.sim.scenario import SHORT, scenario
from raft.testing.sim.states import STATES
from raft.testing.words import happening_line, message_line

STORY_LINES = 200
"""So much of the end of a run is told: all of most that were shrunk."""

_MASK = (1 << 64) - 1


@dataclass(slots=True)
class Summary:
    """Many outcomes, added up."""

    seeds: int = 0
    events: int = 0
    checked: int = 0
    committed: int = 0
    operations: int = 0
    answered: int = 0
    trace: int = 0
    """Of one run its trace; of many one that is the same in whichever order they came."""
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one run."""
        self.seeds += 1
        self.events += outcome.events
        self.checked += outcome.checked
        self.committed += outcome.committed
        self.operations += outcome.operations
        self.answered += outcome.answered
        self.trace = (self.trace + outcome.trace) & _MASK
        self.faults += outcome.faults
        self.states += outcome.states
        if outcome.failure is not None:
            self.failures.append(outcome)

    def merge(self, other: Summary) -> None:
        """Count all runs of another summary."""
        self.seeds += other.seeds
        self.events += other.events
        self.checked += other.checked
        self.committed += other.committed
        self.operations += other.operations
        self.answered += other.answered
        self.trace = (self.trace + other.trace) & _MASK
        self.faults += other.faults
        self.states += other.states
        self.failures += other.failures

    def lines(self, seconds: float) -> Iterator[str]:
        """Tell what was covered, in ``seconds`` of real time."""
        yield (
            f"{self.seeds:,} seeds, {self.events:,} events "
            f"({self.events / seconds:,.0f} a second), "
            f"{self.checked:,} facts checked, {self.committed:,} entries committed, "
            f"{self.answered:,} of {self.operations:,} operations answered"
        )
        yield "faults: " + _counted(self.faults)
        yield "states: " + _counted(self.states)
        if missing := [kind for kind in KINDS if kind not in self.faults]:
            yield "no fault of kind: " + ", ".join(missing)
        if missing := [state for state in STATES if state not in self.states]:
            yield "states not reached: " + ", ".join(missing)
        # Which seeds are judged before one that fails stops them depends on the processes.
        if self.seeds == 1 or not self.failures:
            yield trace_line(self.trace)


def trace_line(trace: int) -> str:
    """Return the line by which two runs are compared: equal runs have equal ones."""
    return f"trace: {trace & _MASK:016x}"


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common()) or "none"


def command(outcome: Outcome, mutant: str | None) -> str:
    """Return the command line that repeats a run, event for event."""
    plan = outcome.plan
    seed = plan.scenario.seed
    words = [f"raft sim --seeds {seed}"]
    if plan.scenario.size != scenario(seed).size:
        words.append(f"--servers {plan.scenario.size}")
    if plan.scenario.seconds != SHORT:
        words.append(f"--seconds {plan.scenario.seconds:g}")
    if mutant is not None:
        words.append(f"--mutant {mutant}")
    if plan.kinds is not None:
        words.append("--faults " + ",".join(plan.kinds))
    kept = [str(f.number) for f in plan.faults if f.at < plan.end]
    words.append("--keep " + (",".join(kept) or "none"))
    if plan.until is not None:
        words.append(f"--until {plan.until:.3f}")
    if plan.operations is not None:
        words.append(f"--operations {plan.operations}")
    return " ".join(words)


def story(outcome: Outcome, rules: Rules | None = None) -> list[str]:
    """Run a plan once more and tell its end, a line for everything that happened."""
    told: deque[str] = deque(maxlen=STORY_LINES)
    happened = 0

    def watch(now: float, server: ServerId, what: object) -> None:
        nonlocal happened
        line = _line(server, what)
        if line is not None:
            happened += 1
            told.append(f"{now:9.4f}  {line}")

    again = run(outcome.plan, rules, watch)
    lines = list(_setting(again))
    if happened > len(told):
        lines.append(f"  ({happened - len(told):,} lines before these are left out)")
    lines += told
    if again.failure is not None:
        lines.append(f"{again.failure.at:9.4f}  {again.failure.text}")
    return lines


def _setting(outcome: Outcome) -> Iterable[str]:
    s = outcome.plan.scenario
    yield (
        f"{s.size} servers, election timeouts {s.election_timeout * 1000:g} to "
        f"{s.election_timeout * 2000:g} ms, messages take {s.delay * 1000:g} to "
        f"{(s.delay + s.jitter) * 1000:g} ms; "
        f"pre-vote {_on(s.pre_vote)}, check-quorum {_on(s.check_quorum)}, leases {_on(s.leases)}"
    )
    yield trace_line(outcome.trace)
    for fault in outcome.plan.faults:
        if fault.at < outcome.plan.end:
            yield f"  fault at {fault}"


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def _line(server: ServerId, what: object) -> str | None:
    if isinstance(what, Fault):
        return f"*** {what}"
    if isinstance(what, Message):
        return message_line(what)
    if isinstance(what, CoreEvent):
        return happening_line(Happening(server, what))
    return str(what)
