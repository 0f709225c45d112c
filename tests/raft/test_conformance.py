"""The conformance suite: what we ship passes it, and each of its rules can fail.

For every rule there is a store, or a machine, that is wrong in one way, and that no other rule
catches.
"""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from raft.core.log import HardState, Snapshot
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.machine import register
from raft.machine.base import StateMachine
from raft.machine.guarded import Guarded
from raft.machine.kv import (
    NOTHING,
    Append,
    Cas,
    Delete,
    Get,
    Increment,
    KeyValue,
    Put,
    Scan,
    Value,
    encode_command,
    encode_query,
)
from raft.machine.sessions import (
    CloseSession,
    KeepSession,
    OpenSession,
    Perform,
    Sessions,
    encode_request,
)
from raft.storage import LogStore, MemoryStore, Recovered, Wal
from raft.testing.conformance import LogStoreConformance, StateMachineConformance

# --- What we ship ----------------------------------------------------------------------------


class TestMemoryStore(LogStoreConformance):
    def open(self) -> LogStore:
        """The same one: it lives as long as the test."""
        self.store = getattr(self, "store", MemoryStore())
        return self.store


class TestWal(LogStoreConformance):
    def open(self) -> LogStore:
        return Wal(self.directory, "test", ServerId(1))


class TestKeyValue(StateMachineConformance):
    commands = tuple(
        encode_command(command)
        for command in (
            Put(b"x", b"1"),
            Increment(b"x", 7),
            Append(b"y", b"2"),
            Cas(b"z", NOTHING, b"3"),
            Cas(b"z", Value(True, b"3"), b"4"),
            Delete(b"x"),
        )
    )
    queries = (encode_query(Get(b"x")), encode_query(Scan()))

    def create(self) -> StateMachine:
        return KeyValue()


class TestRegister(StateMachineConformance):
    commands = tuple(
        register.encode_command(command)
        for command in (register.Write(b"1"), register.Cas(b"1", b"2"), register.Write(b""))
    )
    queries = (register.READ,)

    def create(self) -> StateMachine:
        return Guarded(register.Register())


class TestSessions(StateMachineConformance):
    commands = (
        encode_request(OpenSession()),
        *(
            encode_request(Perform(1, number, 1, command))
            for number, command in enumerate(TestKeyValue.commands, 1)
        ),
        *TestKeyValue.commands,
        encode_request(KeepSession(1)),
        encode_request(CloseSession(1)),
    )
    queries = TestKeyValue.queries

    def create(self) -> StateMachine:
        return Sessions(KeyValue(), max_sessions=2)


# --- Wrong stores ----------------------------------------------------------------------------


class Notebook:
    """A right store: a file that is written anew with every save."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "notebook"
        self.hard_state = HardState()
        self.entries: list[Entry] = []
        self.snapshot: Snapshot | None = None

    def load(self) -> Recovered:
        if self.file.exists():
            self.hard_state, self.entries, self.snapshot = pickle.loads(self.file.read_bytes())
        return Recovered(self.hard_state, tuple(self.entries), self.snapshot)

    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        self.save_hard_state(hard_state)
        if snapshot is not None:
            self.save_snapshot(snapshot)
        if first_index:
            self.save_entries(first_index - 1 - self.before, entries)
        self.write()

    @property
    def before(self) -> int:
        return self.snapshot.index if self.snapshot else 0

    def save_hard_state(self, hard_state: HardState | None) -> None:
        self.hard_state = hard_state or self.hard_state

    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.entries = self.entries[snapshot.index - self.before :]
        self.snapshot = snapshot

    def save_entries(self, keep: int, entries: Sequence[Entry]) -> None:
        self.entries[keep:] = entries

    def write(self) -> None:
        self.file.write_bytes(pickle.dumps((self.hard_state, self.entries, self.snapshot)))

    def close(self) -> None: ...


class BornInTermOne(Notebook):
    def load(self) -> Recovered:
        there = self.file.exists()
        return super().load() if there else Recovered(HardState(Term(1)), ())


class ForgetsKinds(Notebook):
    def load(self) -> Recovered:
        loaded = super().load()
        entries = tuple(replace(entry, kind=EntryKind.COMMAND) for entry in loaded.entries)
        return replace(loaded, entries=entries)


class DropsEmptyCommands(Notebook):
    def save_entries(self, keep: int, entries: Sequence[Entry]) -> None:
        empty = Entry(Term(1), EntryKind.COMMAND, b"")
        super().save_entries(keep, [entry for entry in entries if entry != empty])


class KeepsOldVote(Notebook):
    def save_hard_state(self, hard_state: HardState | None) -> None:
        voted_for = self.hard_state.voted_for
        super().save_hard_state(hard_state)
        if self.hard_state.voted_for is None:
            self.hard_state = replace(self.hard_state, voted_for=voted_for)


class ForgetsVoteWithoutOne(Notebook):
    def save_hard_state(self, hard_state: HardState | None) -> None:
        self.hard_state = hard_state or HardState()


class CutsAtZero(Notebook):
    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        if not first_index and snapshot is None:
            self.entries.clear()
        super().save(hard_state, first_index, entries, snapshot)


class KeepsTail(Notebook):
    def save_entries(self, keep: int, entries: Sequence[Entry]) -> None:
        if entries:
            self.entries[keep : keep + len(entries)] = entries
        else:
            del self.entries[keep:]


class CutsOnlyForEntries(Notebook):
    def save_entries(self, keep: int, entries: Sequence[Entry]) -> None:
        if entries or self.snapshot is not None:
            super().save_entries(keep, entries)


class ForgetsLearners(Notebook):
    def save_snapshot(self, snapshot: Snapshot) -> None:
        known = replace(snapshot.configuration, learners=())
        super().save_snapshot(replace(snapshot, configuration=known))


class IgnoresEmptySnapshots(Notebook):
    def load(self) -> Recovered:
        loaded = super().load()
        without = loaded.snapshot is not None and not loaded.snapshot.data
        return replace(loaded, snapshot=None) if without else loaded


class CutsBehindSnapshots(Notebook):
    def save_snapshot(self, snapshot: Snapshot) -> None:
        self.entries, self.snapshot = [], snapshot


class RefusesToJump(Notebook):
    def save_snapshot(self, snapshot: Snapshot) -> None:
        if snapshot.index <= self.before + len(self.entries):
            super().save_snapshot(snapshot)


class KeepsConflict(Notebook):
    def save_entries(self, keep: int, entries: Sequence[Entry]) -> None:
        if entries or self.snapshot is None:
            super().save_entries(keep, entries)


class OneThingAtATime(Notebook):
    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        super().save(hard_state, first_index, entries, None if entries else snapshot)


class KeepsFirstSnapshot(Notebook):
    def save_snapshot(self, snapshot: Snapshot) -> None:
        first = self.snapshot
        super().save_snapshot(snapshot)
        if first is not None:
            self.snapshot = replace(first, index=snapshot.index)


class WritesWhenClosed(Notebook):
    def write(self) -> None:
        self.file.touch()
        self.file = self.file.with_name("notebook")

    def load(self) -> Recovered:
        if self.file.exists() and not self.file.stat().st_size:
            return Recovered(HardState(), ())
        return super().load()

    def close(self) -> None:
        super().write()


class BoundToItsThread(Notebook):
    def load(self) -> Recovered:
        self.thread = threading.get_ident()
        return super().load()

    def write(self) -> None:
        assert threading.get_ident() == self.thread, "this belongs to another thread"
        super().write()


class ClosesOnce(Notebook):
    closed = False

    def close(self) -> None:
        assert not self.closed, "it is closed"
        self.closed = True


class TiresAfterTwenty(Notebook):
    def save(
        self,
        hard_state: HardState | None,
        first_index: Index,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        count = self.file.with_name("saves")
        with count.open("ab") as saves:
            saves.write(b".")
        if count.stat().st_size <= 20:
            super().save(hard_state, first_index, entries, snapshot)


WRONG_STORES = {
    "test_a_new_store_is_empty": BornInTermOne,
    "test_entries_outlive_a_restart": ForgetsKinds,
    "test_an_empty_command_is_an_entry": DropsEmptyCommands,
    "test_term_and_vote_outlive_a_restart": KeepsOldVote,
    "test_a_save_without_term_and_vote_keeps_them": ForgetsVoteWithoutOne,
    "test_index_0_leaves_the_log_alone": CutsAtZero,
    "test_entries_replace_all_that_was_there": KeepsTail,
    "test_no_entries_replace_what_was_there_too": CutsOnlyForEntries,
    "test_a_snapshot_comes_back_whole": ForgetsLearners,
    "test_an_empty_snapshot_is_a_snapshot": IgnoresEmptySnapshots,
    "test_a_snapshot_replaces_entries_up_to_its_index": CutsBehindSnapshots,
    "test_a_snapshot_may_be_ahead_of_the_log": RefusesToJump,
    "test_a_snapshot_may_take_the_whole_log_with_it": KeepsConflict,
    "test_one_save_may_hold_everything": OneThingAtATime,
    "test_a_newer_snapshot_replaces_the_older_one": KeepsFirstSnapshot,
    "test_a_killed_process_has_saved_what_it_saved": WritesWhenClosed,
    "test_another_thread_saves": BoundToItsThread,
    "test_closing_twice_does_nothing": ClosesOnce,
    "test_any_history": TiresAfterTwenty,
}
ANYTHING = "test_any_history"
"""It catches what other rules do, too."""


def suite_for(store: type[Notebook]) -> type[LogStoreConformance]:
    class Suite(LogStoreConformance):
        def open(self) -> LogStore:
            return store(self.directory)

    return Suite


Suite = type[LogStoreConformance] | type[StateMachineConformance]


def rules(suite: Suite) -> list[str]:
    return [name for name in dir(suite) if name.startswith("test_")]


def broken(suite: Suite) -> dict[str, Exception]:
    """Play all rules as a test runner does; return those that fail, with what they say."""
    failures: dict[str, Exception] = {}
    for rule in rules(suite):
        one = suite()
        one.setup_method()
        try:
            getattr(one, rule)()
        except Exception as error:
            failures[rule] = error
        finally:
            with suppress(AssertionError):
                one.teardown_method()
            assert not getattr(one, "directory", Path("none")).exists(), "nothing is left"
    return failures


def test_the_store_that_the_wrong_ones_are_made_of_is_right() -> None:
    assert broken(suite_for(Notebook)) == {}


def test_every_rule_for_stores_has_a_wrong_store() -> None:
    assert sorted(WRONG_STORES) == sorted(rules(LogStoreConformance))


@pytest.mark.parametrize("rule", WRONG_STORES)
def test_each_wrong_store_is_caught_by_its_rule_alone(rule: str) -> None:
    caught = broken(suite_for(WRONG_STORES[rule]))
    assert {*caught} - {ANYTHING} == {rule} - {ANYTHING}
    assert rule in caught


def test_a_failure_says_the_rule_and_what_was_seen() -> None:
    caught = broken(suite_for(KeepsOldVote))
    message = str(caught["test_term_and_vote_outlive_a_restart"])
    assert message.startswith("a new term has no vote yet\n  expected: Recovered(")
    assert "\n  seen:     Recovered(hard_state=HardState(term=9223372036854775807, voted" in message


# --- Wrong machines --------------------------------------------------------------------------


class Tally:
    """A right machine: ``add NAME NUMBER`` counts up, and the name asks for the count."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}

    def check(self, command: bytes) -> str | None:
        return None if self.parse(command) else "not add NAME NUMBER"

    def parse(self, command: bytes) -> tuple[bytes, int] | None:
        word, _, rest = command.partition(b" ")
        name, _, number = rest.partition(b" ")
        if word == b"add" and number.isdigit() and number.isascii() and len(number) < 9:
            return name, int(number)
        return None

    def apply(self, index: int, command: bytes) -> bytes:
        parsed = self.parse(command)
        if parsed is None:
            return b"what?"
        self.count(*parsed)
        return self.query(parsed[0])

    def count(self, name: bytes, number: int) -> None:
        self.counts[name] = self.counts.get(name, 0) + number

    def query(self, query: bytes) -> bytes:
        return b"%d" % self.counts.get(query, 0)

    def snapshot(self) -> bytes:
        return pickle.dumps(self.counts)

    def restore(self, snapshot: bytes) -> None:
        self.counts = pickle.loads(snapshot)


class AnswersText(Tally):
    def apply(self, index: int, command: bytes) -> bytes:
        return super().apply(index, command).decode()  # type: ignore[return-value]


class RaisesOnNonsense(Tally):
    def apply(self, index: int, command: bytes) -> bytes:
        assert self.parse(command), "that makes no sense"
        return super().apply(index, command)


class AnswersByChance(Tally):
    def apply(self, index: int, command: bytes) -> bytes:
        return super().apply(index, command) + random.randbytes(8)


class CountsQueries(Tally):
    def query(self, query: bytes) -> bytes:
        self.counts[b"b"] = self.counts.get(b"b", 0) + (query == b"a")
        return super().query(query)

    def apply(self, index: int, command: bytes) -> bytes:
        super().apply(index, command)
        return b"ok"


class CountsChecks(Tally):
    def check(self, command: bytes) -> str | None:
        self.count(b"a", 1)
        return super().check(command)


class CountsSnapshots(Tally):
    def snapshot(self) -> bytes:
        taken = super().snapshot()
        self.count(b"a", 1)
        return taken


class ForgetsInSnapshot(Tally):
    def snapshot(self) -> bytes:
        return pickle.dumps({name: n for name, n in self.counts.items() if name != b"b"})


class AddsWhatItRestores(Tally):
    def restore(self, snapshot: bytes) -> None:
        restored = pickle.loads(snapshot)
        self.counts = {**self.counts, **restored} if restored else {}


class RestoresNothingFromNothing(Tally):
    def restore(self, snapshot: bytes) -> None:
        self.counts = pickle.loads(snapshot) or self.counts


class KnowsItsThread(Tally):
    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()

    def snapshot(self) -> bytes:
        assert threading.get_ident() == self.thread, "this belongs to another thread"
        return super().snapshot()


WRONG_MACHINES = {
    "test_answers_are_bytes": AnswersText,
    "test_any_bytes_are_answered": RaisesOnNonsense,
    "test_equal_commands_give_equal_answers": AnswersByChance,
    "test_a_query_changes_nothing": CountsQueries,
    "test_a_check_changes_nothing": CountsChecks,
    "test_taking_a_snapshot_changes_nothing": CountsSnapshots,
    "test_a_snapshot_holds_the_whole_state": ForgetsInSnapshot,
    "test_restoring_replaces_the_whole_state": AddsWhatItRestores,
    "test_the_first_state_is_a_state": RestoresNothingFromNothing,
    "test_another_thread_takes_the_snapshot": KnowsItsThread,
}


def suite_of(machine: type[StateMachine]) -> type[StateMachineConformance]:
    class Suite(StateMachineConformance):
        commands = (b"add a 1", b"add b 20")
        queries = (b"a", b"b")

        def create(self) -> StateMachine:
            return machine()

    return Suite


def test_the_machine_that_the_wrong_ones_are_made_of_is_right() -> None:
    assert broken(suite_of(Tally)) == {}


def test_every_rule_for_machines_has_a_wrong_machine() -> None:
    assert sorted(WRONG_MACHINES) == sorted(rules(StateMachineConformance))


@pytest.mark.parametrize("rule", WRONG_MACHINES)
def test_each_wrong_machine_is_caught_by_its_rule_alone(rule: str) -> None:
    caught = broken(suite_of(WRONG_MACHINES[rule]))
    if rule == "test_equal_commands_give_equal_answers":
        # Chance breaks whatever compares two machines.
        assert rule in caught
    else:
        assert {*caught} == {rule}


class KeepsTheLatest(Tally):
    """Its answers depend on the last commands alone, so that they cover up what was restored."""

    def count(self, name: bytes, number: int) -> None:
        self.counts[name] = number


class UpdatesWhatItRestores(KeepsTheLatest):
    def restore(self, snapshot: bytes) -> None:
        self.counts.update(pickle.loads(snapshot))


def test_what_later_commands_cover_up_is_caught() -> None:
    assert broken(suite_of(KeepsTheLatest)) == {}
    assert {*broken(suite_of(UpdatesWhatItRestores))} == {
        "test_restoring_replaces_the_whole_state",
        "test_the_first_state_is_a_state",
    }


# --- Used wrongly, and without pytest ---------------------------------------------------------


def test_pytest_is_not_needed() -> None:
    program = "import sys, raft.testing.conformance; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    assert done.stdout == b"False\n"


def test_a_suite_that_does_not_say_what_to_test_says_so() -> None:
    class Nothing(LogStoreConformance):
        pass

    class Neither(StateMachineConformance):
        pass

    assert {str(error) for error in broken(Nothing).values()} == {"Nothing must define open()"}
    with pytest.raises(TypeError, match="Neither must name some commands and some queries"):
        Neither().setup_method()
    Neither.commands = Neither.queries = (b"x",)
    assert {str(error) for error in broken(Neither).values()} == {"Neither must define create()"}
