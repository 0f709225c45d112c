"""Whether a log store, or a state machine, of your own does what a server relies on.

Derive a test class, say what is to be tested, and let pytest find it::

    class TestMyStore(LogStoreConformance):
        def open(self):
            return MyStore(self.directory)

    class TestMyMachine(StateMachineConformance):
        commands = (b"add 1", b"add 40")
        queries = (b"sum",)

        def create(self):
            return MyMachine()

Each rule is one test, and a failure names the rule and what was seen. pytest is not imported
here: any runner will do that calls ``setup_method``, one test and ``teardown_method`` on a new
object for every test.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.machine.base import StateMachine
from raft.storage.base import LogStore, Recovered
from raft.storage.memory import MemoryStore

T = TypeVar("T")

SEED = 4711
"""All that is random here is drawn from this seed: what fails once fails again."""


def _expect(seen: object, wanted: object, rule: str) -> None:
    if seen != wanted:
        raise AssertionError(f"{rule}\n  expected: {wanted!r}\n  seen:     {seen!r}")


# --- Log stores ------------------------------------------------------------------------------


def _entry(term: int, data: bytes = b"x", kind: EntryKind = EntryKind.COMMAND) -> Entry:
    return Entry(Term(term), kind, data)


def _vote(term: int, voted_for: int | None = None) -> HardState:
    return HardState(Term(term), None if voted_for is None else ServerId(voted_for))


_MEMBERS = Configuration(
    voters=(ServerId(1), ServerId(3)),
    learners=(ServerId(4),),
    outgoing=(ServerId(1), ServerId(2)),
    addresses=((ServerId(1), "127.0.0.1:7001"), (ServerId(4), "[::1]:7004")),
)


def _snapshot(
    index: int, term: int, data: bytes = b"state", members: Configuration | None = None
) -> Snapshot:
    """Return one; given members stand in the entry at its index."""
    if members is None:
        return Snapshot(Index(index), Term(term), Configuration((ServerId(1),)), data)
    return Snapshot(Index(index), Term(term), members, data, Index(index))


class LogStoreConformance:
    """The rules of ``raft.storage.LogStore``; derive from it and define ``open``.

    ``directory`` is an empty directory for the store of one test. A store that keeps nothing
    there cannot be tested for what a killed process leaves behind.

    No such test can see that a save reaches the disk itself, or what a power cut in the middle
    of one leaves: read your ``save`` with that question in mind.
    """

    directory: Path
    _store: LogStore
    """What was opened last."""

    def open(self) -> LogStore:
        """Open the store of this test: empty at first, later as the last one was closed."""
        raise TypeError(f"{type(self).__name__} must define open()")

    def setup_method(self) -> None:
        """Make the directory."""
        self.directory = Path(tempfile.mkdtemp(prefix="conformance-"))

    def teardown_method(self) -> None:
        """Close what is open, and remove the directory."""
        try:
            if hasattr(self, "_store"):
                self._store.close()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    def _begin(self, *entries: Entry, hard_state: HardState | None = None) -> LogStore:
        """Open the store, and let it hold these entries from 1 on."""
        self._store = store = self.open()
        store.load()
        if entries:
            store.save(hard_state, Index(1), entries)
        return store

    def _after_restart(self) -> Recovered:
        self._store.close()
        self._store = self.open()
        return self._store.load()

    def _must_hold(
        self,
        rule: str,
        hard_state: HardState,
        entries: Sequence[Entry],
        snapshot: Snapshot | None = None,
    ) -> None:
        _expect(self._after_restart(), Recovered(hard_state, tuple(entries), snapshot), rule)

    def test_a_new_store_is_empty(self) -> None:
        """A new store holds term 0, no vote, no entries and no snapshot."""
        self._store = self.open()
        _expect(self._store.load(), Recovered(HardState(), ()), "a new store is empty")

    def test_entries_outlive_a_restart(self) -> None:
        """Entries come back in their order, with term, kind and every byte of their data."""
        log = [
            _entry(1, b"", EntryKind.NOOP),
            _entry(1, bytes(range(256)) * 4),
            _entry(2, _MEMBERS.encode(), EntryKind.CONFIGURATION),
            _entry(2**63 - 1, b"last"),
        ]
        store = self._begin(*log[:2])
        store.save(None, Index(3), log[2:])
        self._must_hold("entries outlive a restart", HardState(), log)

    def test_an_empty_command_is_an_entry(self) -> None:
        """A command without bytes is an entry like any other."""
        self._begin(_entry(1, b""), _entry(1, b"x"), _entry(1, b""))
        log = [_entry(1, b""), _entry(1, b"x"), _entry(1, b"")]
        self._must_hold("an empty command is an entry", HardState(), log)

    def test_term_and_vote_outlive_a_restart(self) -> None:
        """Every field of the last hard state that was saved counts, and its vote may be None."""
        whole = HardState(*range(7, 7 + len(dataclasses.fields(HardState))))
        self._begin().save(whole, Index(0), ())
        self._must_hold("term, vote and what is beside them outlive a restart", whole, [])
        self._store.save(_vote(2**63 - 1), Index(0), ())
        self._must_hold("a new term has no vote yet", _vote(2**63 - 1), [])

    def test_a_save_without_term_and_vote_keeps_them(self) -> None:
        """With ``hard_state`` None the stored one stays."""
        store = self._begin(_entry(4), hard_state=_vote(4, 1))
        store.save(None, Index(2), [_entry(4)])
        self._must_hold("term and vote stay with None", _vote(4, 1), [_entry(4), _entry(4)])

    def test_index_0_leaves_the_log_alone(self) -> None:
        """With ``first_index`` 0 the log is untouched."""
        store = self._begin(_entry(1), _entry(1, b"y"))
        store.save(_vote(2, 1), Index(0), ())
        rule = "first_index 0 leaves the log alone"
        self._must_hold(rule, _vote(2, 1), [_entry(1), _entry(1, b"y")])

    def test_entries_replace_all_that_was_there(self) -> None:
        """What was stored at or after ``first_index`` goes, however much longer it was."""
        old = _entry(2, b"old")
        store = self._begin(_entry(1), old, old, old)
        store.save(None, Index(2), [_entry(3, b"new")])
        log = [_entry(1), _entry(3, b"new")]
        rule = "entries replace all that was stored from first_index on"
        self._must_hold(rule, HardState(), log)
        self._store.save(None, Index(3), [_entry(3, b"next")])
        self._must_hold(f"{rule}, for good", HardState(), [*log, _entry(3, b"next")])

    def test_no_entries_replace_what_was_there_too(self) -> None:
        """With ``first_index`` and no entries the log ends before ``first_index``."""
        store = self._begin(_entry(1), _entry(2), _entry(2))
        store.save(None, Index(2), ())
        self._must_hold("the log is cut even by no entries", HardState(), [_entry(1)])
        self._store.save(None, Index(1), ())
        self._must_hold("all of the log can be cut", HardState(), [])

    def test_a_snapshot_comes_back_whole(self) -> None:
        """Index, term, data, and the configuration: its index, learners, old voters, addresses."""
        store = self._begin(_entry(1), _entry(3))
        taken = _snapshot(2, 3, bytes(range(256)) * 1000, _MEMBERS)
        store.save(None, Index(0), (), taken)
        self._must_hold("a snapshot comes back whole", HardState(), [], taken)

    def test_an_empty_snapshot_is_a_snapshot(self) -> None:
        """A state machine may need no bytes to say what its state is."""
        store = self._begin(_entry(1))
        store.save(None, Index(0), (), _snapshot(1, 1, b""))
        self._must_hold("a snapshot without data is one", HardState(), [], _snapshot(1, 1, b""))

    def test_a_snapshot_replaces_entries_up_to_its_index(self) -> None:
        """What lies behind its index stays, and the log goes on from there."""
        store = self._begin(_entry(1), _entry(1), _entry(2, b"behind"))
        store.save(None, Index(0), (), _snapshot(2, 1))
        rule = "entries behind a snapshot's index stay"
        self._must_hold(rule, HardState(), [_entry(2, b"behind")], _snapshot(2, 1))
        self._store.save(None, Index(4), [_entry(2, b"next")])
        log = [_entry(2, b"behind"), _entry(2, b"next")]
        self._must_hold("the log goes on behind a snapshot", HardState(), log, _snapshot(2, 1))

    def test_a_snapshot_may_be_ahead_of_the_log(self) -> None:
        """A leader's snapshot replaces a log that ends before it; entries follow on it."""
        store = self._begin(_entry(1), _entry(2))
        store.save(None, Index(101), (), _snapshot(100, 4))
        rule = "a snapshot replaces a log that ends before its index"
        self._must_hold(rule, HardState(), [], _snapshot(100, 4))
        self._store.save(None, Index(101), [_entry(5)])
        self._must_hold("entries follow on it", HardState(), [_entry(5)], _snapshot(100, 4))

    def test_a_snapshot_may_take_the_whole_log_with_it(self) -> None:
        """With ``first_index`` right behind it nothing of a conflicting log stays (§7)."""
        store = self._begin(_entry(1), _entry(2), _entry(2, b"another's"))
        store.save(None, Index(3), (), _snapshot(2, 3))
        rule = "a snapshot with first_index and no entries leaves no log"
        self._must_hold(rule, HardState(), [], _snapshot(2, 3))

    def test_one_save_may_hold_everything(self) -> None:
        """Term and vote, snapshot and entries of one save belong together."""
        store = self._begin(_entry(1), _entry(1))
        new = [_entry(2, b"new"), _entry(2, b"too")]
        store.save(_vote(2, 2), Index(3), new, _snapshot(2, 1))
        rule = "one save may hold term and vote, a snapshot, and entries behind it"
        self._must_hold(rule, _vote(2, 2), new, _snapshot(2, 1))

    def test_a_newer_snapshot_replaces_the_older_one(self) -> None:
        """The newest counts."""
        store = self._begin(_entry(1), _entry(1))
        store.save(None, Index(0), (), _snapshot(1, 1, b"one"))
        store.save(None, Index(0), (), _snapshot(2, 1, b"two"))
        rule = "a newer snapshot replaces the older one"
        self._must_hold(rule, HardState(), [], _snapshot(2, 1, b"two"))

    def test_a_killed_process_has_saved_what_it_saved(self) -> None:
        """Nothing waits for ``close``, which a killed process never calls.

        The files are copied as they are behind a save, and the copies opened.
        """
        store = self._begin(_entry(1))
        store.save(_vote(1, 1), Index(2), [_entry(1, b"second")])
        if not any(self.directory.iterdir()):
            return
        with tempfile.TemporaryDirectory(prefix="conformance-") as copies:
            shutil.copytree(self.directory, copies, dirs_exist_ok=True)
            original, self.directory = self.directory, Path(copies)
            try:
                copy = self.open()
                seen = copy.load()
                copy.close()
            finally:
                self.directory = original
        wanted = Recovered(_vote(1, 1), (_entry(1), _entry(1, b"second")))
        _expect(seen, wanted, "what was saved is in the files before the store is closed")

    def test_another_thread_saves(self) -> None:
        """``save`` is called in another thread than ``load`` and ``close``."""
        store = self._begin()
        _in_a_thread(lambda: store.save(_vote(1, 1), Index(1), [_entry(1)]))
        self._must_hold("another thread may save", _vote(1, 1), [_entry(1)])

    def test_closing_twice_does_nothing(self) -> None:
        """A second ``close`` is no error."""
        store = self._begin(_entry(1))
        store.close()
        store.close()
        self._must_hold("closing twice does nothing", HardState(), [_entry(1)])

    def test_any_history(self) -> None:
        """A hundred random saves with restarts between them, compared with a model in memory."""
        model, store = MemoryStore(), self._begin()
        for state, first, entries, snapshot in _random_saves(model, random.Random(SEED)):  # noqa: S311
            store.save(state, first, entries, snapshot)
            if first % 3 == 0:
                wanted = model.load()
                rule = "any history of saves and restarts"
                self._must_hold(rule, wanted.hard_state, wanted.entries, wanted.snapshot)
                store = self._store


_Save = tuple[HardState | None, Index, Sequence[Entry], Snapshot | None]


def _random_saves(model: MemoryStore, draw: random.Random) -> Iterator[_Save]:
    """Yield saves that a core may ask for, each after the model has taken it in."""
    for _ in range(100):
        stored = model.load()
        start = stored.snapshot.index + 1 if stored.snapshot else 1
        end = start + len(stored.entries)
        snapshot = None
        if draw.random() < 0.1:
            index = draw.randint(start, end + 1)
            snapshot = _snapshot(index, draw.randint(1, 9), draw.randbytes(20), _MEMBERS)
            start, end = index + 1, max(end, index + 1)
        count = draw.choice([0, 0, 1, 2, 3])
        first = draw.randint(max(start, end - 3), end) if count or draw.random() < 0.2 else 0
        kinds = list(EntryKind)
        entries = [
            _entry(draw.randint(1, 9), draw.randbytes(draw.randint(0, 40)), draw.choice(kinds))
            for _ in range(count)
        ]
        vote = draw.choice([None, None, _vote(draw.randint(1, 99), draw.choice([None, 1, 2]))])
        model.save(vote, Index(first), entries, snapshot)
        yield vote, Index(first), entries, snapshot


def _in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


# --- State machines --------------------------------------------------------------------------


class StateMachineConformance:
    """The rules of ``raft.StateMachine``; derive from it and define ``create``.

    ``commands`` are some that make sense, best such that each changes something, and
    ``queries`` such that their answers tell everything that commands can change. Other bytes
    are tried beside them.

    Two machines of one process agree on what differs between processes, like the order of a
    set of strings: no such test can see that.
    """

    commands: Sequence[bytes] = ()
    queries: Sequence[bytes] = ()

    def create(self) -> StateMachine:
        """Return a new state machine, as every server begins with."""
        raise TypeError(f"{type(self).__name__} must define create()")

    def setup_method(self) -> None:
        """Draw the history that this test plays."""
        name = type(self).__name__
        if not self.commands or not self.queries:
            raise TypeError(f"{name} must name some commands and some queries, as bytes")
        draw = random.Random(SEED)  # noqa: S311 - no secret
        valid = [draw.choice(self.commands) for _ in range(30)]
        self._history = [*self.commands, *valid]
        self._nonsense = [b"", b"\0", b"\xff" * 300, *(_altered(c, draw) for c in self._history)]

    def teardown_method(self) -> None:
        """Nothing is left."""

    def _play(
        self, machine: StateMachine, first: int = 0, then: Callable[[], object] | None = None
    ) -> list[bytes]:
        """Apply the history from its command ``first`` on; return all answers, queries last."""
        answers = []
        for place, command in enumerate(self._history[first:], first):
            answers.append(machine.apply(2 * place + 1, command))
            if then is not None:
                then()
        return [*answers, *self._asked(machine)]

    def _asked(self, machine: StateMachine) -> list[bytes]:
        return [machine.query(query) for query in self.queries]

    def test_answers_are_bytes(self) -> None:
        """``apply``, ``query`` and ``snapshot`` return bytes, and ``check`` a str or None."""
        machine = self.create()
        for command in self._history:
            answer = machine.apply(1, command)
            _expect(type(answer), bytes, f"apply({command!r}) returns bytes")
            refusal = machine.check(command)
            is_one = refusal is None or isinstance(refusal, str)
            _expect(is_one, True, f"check({command!r}) returns a str or None, not {refusal!r}")
        for query in self.queries:
            _expect(type(machine.query(query)), bytes, f"query({query!r}) returns bytes")
        _expect(type(machine.snapshot()), bytes, "snapshot returns bytes")

    def test_any_bytes_are_answered(self) -> None:
        """Bytes that make no sense are an answer of ``check``, ``apply``, ``query``: no error."""
        machine = self.create()
        for place, nonsense in enumerate(self._nonsense):
            for name, call in (
                ("check", lambda data: machine.check(data)),
                ("apply", lambda data: machine.apply(place + 1, data)),  # noqa: B023
                ("query", lambda data: machine.query(data)),
            ):
                try:
                    call(nonsense)
                except Exception as error:
                    rule = f"{name}({nonsense!r}) answers; a server ends with what it raises"
                    raise AssertionError(f"{rule}: {type(error).__name__}: {error}") from error

    def test_equal_commands_give_equal_answers(self) -> None:
        """Two servers that apply the same commands answer the same."""
        wanted = self._play(self.create())
        _expect(self._play(self.create()), wanted, "equal commands give equal answers")

    def test_a_query_changes_nothing(self) -> None:
        """Queries are answered by one server, and the others do not know of them."""
        wanted, machine = self._play(self.create()), self.create()
        seen = self._play(machine, then=lambda: self._asked(machine))
        _expect(seen, wanted, "a query changes no later answer")

    def test_a_check_changes_nothing(self) -> None:
        """Only the leader checks, and what it checked need not be committed."""
        wanted, machine = self._play(self.create()), self.create()
        seen = self._play(machine, then=lambda: [machine.check(c) for c in self.commands])
        _expect(seen, wanted, "a check changes no later answer")

    def test_taking_a_snapshot_changes_nothing(self) -> None:
        """Every server takes its snapshots when it likes."""
        wanted, machine = self._play(self.create()), self.create()
        seen = self._play(machine, then=machine.snapshot)
        _expect(seen, wanted, "taking a snapshot changes no later answer")

    def test_a_snapshot_holds_the_whole_state(self) -> None:
        """From any moment on, a new machine with a snapshot of it answers as the old one."""
        for count in range(1, len(self._history) + 1):
            snapshot = self._after(count).snapshot()
            rule = f"a snapshot after {count} commands holds all that later answers depend on"
            self._must_continue(self.create(), snapshot, count, rule)

    def test_restoring_replaces_the_whole_state(self) -> None:
        """A server that lags gets a snapshot in place of what it has, which it then forgets."""
        snapshot = self._after(1).snapshot()
        rule = "restoring a snapshot leaves nothing of the state before"
        self._must_continue(self._after(len(self._history)), snapshot, 1, rule)

    def test_the_first_state_is_a_state(self) -> None:
        """A snapshot of a new machine can be restored like any other."""
        snapshot = self.create().snapshot()
        rule = "a new machine's snapshot is its state"
        self._must_continue(self._after(len(self._history)), snapshot, 0, rule)

    def test_another_thread_takes_the_snapshot(self) -> None:
        """``snapshot`` is called in another thread than the rest."""
        snapshot = _in_a_thread(self._after(1).snapshot)
        rule = "another thread may take the snapshot"
        self._must_continue(self.create(), snapshot, 1, rule)

    def _after(self, count: int) -> StateMachine:
        """Return a machine to which so many commands of the history were applied."""
        machine = self.create()
        for place, command in enumerate(self._history[:count]):
            machine.apply(2 * place + 1, command)
        return machine

    def _must_continue(self, machine: StateMachine, snapshot: bytes, count: int, rule: str) -> None:
        """Check that a machine goes on from a snapshot after ``count`` commands.

        It is asked at once, too: later commands may replace what was wrong.
        """
        machine.restore(snapshot)
        seen, wanted = (
            [*self._asked(one), *self._play(one, count)] for one in (machine, self._after(count))
        )
        _expect(seen, wanted, rule)


def _altered(command: bytes, draw: random.Random) -> bytes:
    """Return a command with one byte changed, or cut short."""
    if not command:
        return draw.randbytes(3)
    at = draw.randrange(len(command))
    if draw.random() < 0.3:
        return command[:at]
    return command[:at] + draw.randbytes(1) + command[at + 1 :]
