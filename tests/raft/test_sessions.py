"""Exactly-once commands: what is sent again is not done again, whatever came between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft.codec import DecodeError
from raft.machine import kv
from raft.machine.base import StateMachine
from raft.machine.kv import KeyValue, Put, describe, encode_command
from raft.machine.sessions import (
    KEPT_OVERHEAD,
    MARK,
    MAX_UNANSWERED,
    AnswerForgotten,
    CloseSession,
    KeepSession,
    MalformedRequest,
    Numbering,
    OpenSession,
    Perform,
    Performed,
    SessionAnswer,
    SessionClosed,
    SessionKept,
    SessionOpened,
    SessionRequest,
    Sessions,
    UnknownSession,
    decode_answer,
    decode_request,
    encode_request,
    is_session_request,
)
from raft.testing.session_mutants import SESSION_MUTANTS


class Counter:
    """A machine that counts: nothing can be applied twice unseen. ``b"?"`` is refused."""

    def __init__(self) -> None:
        self.count = 0

    def check(self, command: bytes) -> str | None:
        return "no questions" if command == b"?" else None

    def apply(self, index: int, command: bytes) -> bytes:
        self.count += int(command or b"1")
        return b"%d" % self.count

    def query(self, query: bytes) -> bytes:
        return query + b"%d" % self.count

    def snapshot(self) -> bytes:
        return b"%d" % self.count

    def restore(self, snapshot: bytes) -> None:
        self.count = int(snapshot)


class Log:
    """A replicated log, and a server that applies it."""

    def __init__(self, machine: StateMachine | None = None) -> None:
        self.counter = Counter()
        self.machine = machine or Sessions(self.counter)
        self.index = 0

    def raw(self, command: bytes) -> bytes:
        self.index += 1
        return self.machine.apply(self.index, command)

    def do(self, request: SessionRequest) -> SessionAnswer:
        return decode_answer(self.raw(encode_request(request)))

    def open(self) -> int:
        answer = self.do(OpenSession())
        assert isinstance(answer, SessionOpened)
        return answer.session

    def perform(self, session: int, sequence: int, first: int = 1, by: int = 1) -> SessionAnswer:
        return self.do(Perform(session, sequence, first, b"%d" % by))


# --- Once --------------------------------------------------------------------------------------


def test_bug_44_a_retry_is_answered_and_not_applied_again() -> None:
    log = Log()
    session = log.open()
    assert log.perform(session, 1) == Performed(b"1")
    assert log.perform(session, 2, by=10) == Performed(b"11")
    assert log.perform(session, 1) == Performed(b"1")
    assert log.perform(session, 2, by=10) == Performed(b"11")
    assert log.counter.count == 11


def test_bug_44_sessions_are_told_apart() -> None:
    log = Log()
    one, other = log.open(), log.open()
    assert one != other
    assert log.perform(one, 1) == Performed(b"1")
    assert log.perform(other, 1) == Performed(b"2")
    assert log.perform(one, 1) == Performed(b"1")


def test_bug_44_a_retry_after_a_failover() -> None:
    """The retry is committed by another leader: every server has the session, not the leader."""
    log, other = Log(), Log()
    for command in [OpenSession(), Perform(1, 1, 1, b"5")]:
        assert log.do(command) == other.do(command)
    assert other.perform(1, 1, by=5) == Performed(b"5")
    assert other.counter.count == 5


def test_bug_44_a_retry_after_a_snapshot() -> None:
    log = Log()
    session = log.open()
    log.perform(session, 1, by=5)
    log.perform(session, 2, by=6)
    restored = Log()
    restored.index = log.index
    restored.perform(0, 9)
    restored.machine.restore(log.machine.snapshot())
    assert restored.perform(session, 2, by=6) == Performed(b"11")
    assert restored.perform(session, 1, by=5) == Performed(b"5")
    assert restored.perform(session, 3) == Performed(b"12")


def test_bug_44_a_retry_after_the_expiry_is_not_applied() -> None:
    log = Log(Sessions(counter := Counter(), max_sessions=2))
    session = log.open()
    log.perform(session, 1)
    log.open(), log.open()
    assert log.perform(session, 1) == UnknownSession()
    assert log.perform(session, 1) == UnknownSession(), "nor is the session opened again"
    assert counter.count == 1


def test_bug_45_a_retry_does_not_wait_for_what_never_came() -> None:
    """Session livelock: a gap in the numbers, or a number long passed, holds nothing up."""
    log = Log()
    session = log.open()
    assert log.perform(session, 7) == Performed(b"1")
    assert log.perform(session, 3) == Performed(b"2")
    assert log.perform(session, 7) == Performed(b"1")
    assert log.perform(session, 8, first=8) == Performed(b"3")
    assert log.perform(session, 5) == AnswerForgotten(), "it came too late, and is not applied"
    assert log.counter.count == 3


def test_answers_that_the_client_has_are_forgotten() -> None:
    log = Log()
    session = log.open()
    for sequence in range(1, 6):
        log.perform(session, sequence)
    assert log.perform(session, 6, first=4) == Performed(b"6")
    assert [log.perform(session, number) for number in range(1, 7)] == [
        AnswerForgotten(),
        AnswerForgotten(),
        AnswerForgotten(),
        Performed(b"4"),
        Performed(b"5"),
        Performed(b"6"),
    ]


def test_what_was_forgotten_stays_so() -> None:
    """An old retry, from before the client had its answers, is late: it brings nothing back."""
    log = Log()
    session = log.open()
    log.perform(session, 1)
    log.perform(session, 3, first=3)
    log.perform(session, 4, first=1)
    assert log.perform(session, 2) == AnswerForgotten()
    assert log.counter.count == 3


def test_an_empty_answer_is_an_answer() -> None:
    class Silent(Counter):
        def apply(self, index: int, command: bytes) -> bytes:
            super().apply(index, command)
            return b""

    log = Log(Sessions(silent := Silent()))
    session = log.open()
    assert log.perform(session, 1) == log.perform(session, 1) == Performed(b"")
    assert silent.count == 1


# --- Sessions come and go ----------------------------------------------------------------------


def test_a_session_is_known_by_the_index_of_its_entry() -> None:
    log = Log()
    log.index = 16
    assert log.do(OpenSession()) == SessionOpened(17)


def test_a_session_that_never_was() -> None:
    log = Log()
    for request in (Perform(5, 1, 1, b"1"), KeepSession(5), CloseSession(5)):
        assert log.do(request) == UnknownSession()
    assert log.counter.count == 0


def test_a_closed_session_is_gone() -> None:
    log = Log()
    session = log.open()
    log.perform(session, 1)
    assert log.do(CloseSession(session)) == SessionClosed()
    assert log.do(CloseSession(session)) == UnknownSession()
    assert log.perform(session, 2) == UnknownSession()


def test_the_session_expires_that_was_used_longest_ago() -> None:
    log = Log(Sessions(Counter(), max_sessions=3))
    a, b, c = log.open(), log.open(), log.open()
    assert log.do(KeepSession(a)) == SessionKept()
    assert log.perform(b, 1) == Performed(b"1")
    d = log.open()
    assert log.do(KeepSession(c)) == UnknownSession()
    assert log.perform(b, 1) == Performed(b"1"), "a retry is a use, too"
    e = log.open()
    assert log.do(KeepSession(a)) == UnknownSession()
    assert [log.do(KeepSession(s)) for s in (b, d, e)] == [SessionKept()] * 3


def test_sessions_expire_when_their_answers_take_too_much() -> None:
    class Verbose(Counter):
        def apply(self, index: int, command: bytes) -> bytes:
            return b"x" * int(command)

    log = Log(Sessions(Verbose(), max_kept_bytes=1000 + 3 * KEPT_OVERHEAD))
    a, b = log.open(), log.open()
    log.perform(a, 1, by=300)
    log.perform(b, 1, by=300)
    log.perform(b, 2, by=400)
    assert log.perform(a, 1, by=300) == Performed(b"x" * 300), "just enough"
    log.perform(b, 3, by=1)
    assert log.perform(a, 1, by=300) == UnknownSession()
    assert log.perform(b, 1, by=300) == Performed(b"x" * 300)
    log.perform(b, 4, first=4, by=900)
    assert log.do(KeepSession(b)) == SessionKept(), "what was forgotten takes nothing"
    c = log.open()
    log.perform(c, 1, by=300)
    assert log.do(KeepSession(b)) == UnknownSession()
    assert log.perform(c, 2, by=2000) == Performed(b"x" * 2000), "answered once"
    assert log.do(KeepSession(c)) == UnknownSession(), "even the one in use, in the end"


def test_a_closed_or_expired_session_takes_nothing() -> None:
    log = Log(Sessions(Counter(), max_sessions=2, max_kept_bytes=1))
    for _ in range(10):
        session = log.open()
        log.perform(session, 1)
    log = Log(Sessions(Counter(), max_kept_bytes=2 * KEPT_OVERHEAD))
    kept = log.open()
    for number in range(10):
        session = log.open()
        log.perform(session, 1)
        log.do(KeepSession(kept))
        assert log.do(CloseSession(session)) == SessionClosed(), number
    assert log.do(KeepSession(kept)) == SessionKept()


def test_expiry_goes_on_after_a_snapshot_as_without_one() -> None:
    """The order of use, and the bytes, are in it: servers that restored agree with the others."""

    def make() -> Log:
        return Log(Sessions(Counter(), max_sessions=3, max_kept_bytes=5 * (KEPT_OVERHEAD + 2)))

    log, restored = make(), make()
    a, b, c = log.open(), log.open(), log.open()
    log.do(KeepSession(a))
    log.perform(c, 1, by=10)
    restored.machine.restore(log.machine.snapshot())
    restored.index = log.index
    assert restored.machine.snapshot() == log.machine.snapshot()
    for request in (
        OpenSession(),
        *(Perform(c, number, 2, b"10") for number in range(2, 8)),
        KeepSession(a),
        KeepSession(b),
        KeepSession(c),
    ):
        assert restored.do(request) == log.do(request)
        assert restored.machine.snapshot() == log.machine.snapshot()


# --- Beside sessions ---------------------------------------------------------------------------


def test_plain_commands_and_queries_pass_through() -> None:
    log = Log()
    assert log.raw(b"5") == b"5"
    assert log.raw(b"") == b"6"
    assert log.machine.query(b"count ") == b"count 6"


def test_check_asks_the_machine_inside() -> None:
    sessions = Sessions(Counter())
    assert sessions.check(b"1") is None
    assert sessions.check(b"?") == "no questions"
    assert sessions.check(encode_request(Perform(1, 1, 1, b"1"))) is None
    assert sessions.check(encode_request(Perform(1, 1, 1, b"?"))) == "no questions"
    for request in (OpenSession(), KeepSession(1), CloseSession(1)):
        assert sessions.check(encode_request(request)) is None


@pytest.mark.parametrize(("sequence", "first"), [(0, 0), (0, 1), (1, 0), (1, 2)])
def test_check_refuses_numbers_that_make_no_sense(sequence: int, first: int) -> None:
    refusal = Sessions(Counter()).check(encode_request(Perform(1, sequence, first, b"1")))
    assert refusal == (
        f"command {sequence} of a session cannot come with {first} as the first unanswered one"
    )


def test_check_refuses_too_many_commands_at_once() -> None:
    sessions = Sessions(Counter())
    most = Perform(1, MAX_UNANSWERED + 4, 5, b"1")
    assert sessions.check(encode_request(most)) is None
    refusal = sessions.check(encode_request(Perform(1, MAX_UNANSWERED + 5, 5, b"1")))
    assert refusal == "a session may have at most 1024 commands without an answer"


@given(st.binary(max_size=100))
def test_no_bytes_stop_the_sessions(rest: bytes) -> None:
    log = Log()
    before = log.machine.snapshot()
    command = MARK + rest
    try:
        decode_request(command)
    except DecodeError:
        assert (log.machine.check(command) or "").startswith("not a session's request: ")
        assert decode_answer(log.raw(command)) == MalformedRequest()
        assert log.machine.snapshot() == before


def test_a_plain_command_is_no_request() -> None:
    assert not is_session_request(encode_command(Put(b"session\n", b"")))
    with pytest.raises(DecodeError, match="not a session's request"):
        decode_request(b"session")


def test_a_malformed_snapshot_is_refused_and_the_state_kept() -> None:
    log = Log()
    session = log.open()
    log.perform(session, 1)
    with pytest.raises(DecodeError):
        log.machine.restore(b"noise")
    assert log.perform(session, 1) == Performed(b"1")


# --- The client's half -------------------------------------------------------------------------


def test_a_client_numbers_its_commands_and_tells_what_it_has() -> None:
    numbering = Numbering(17)
    one, two, three = (numbering.number(b"%d" % n) for n in (1, 2, 3))
    assert (one, two) == (Perform(17, 1, 1, b"1"), Perform(17, 2, 1, b"2"))
    assert (numbering.unanswered, numbering.first_unanswered) == (3, 1)
    numbering.answered(two)
    assert numbering.number(b"4") == Perform(17, 4, 1, b"4"), "the first has no answer yet"
    numbering.answered(one)
    numbering.answered(one)
    assert numbering.first_unanswered == 3
    assert numbering.number(b"5") == Perform(17, 5, 3, b"5")
    numbering.answered(three)
    assert (numbering.unanswered, numbering.first_unanswered) == (2, 4)
    for sequence in (4, 5):
        numbering.answered(Perform(17, sequence, 1, b""))
    assert (numbering.unanswered, numbering.first_unanswered) == (0, 6)


# --- Any history -------------------------------------------------------------------------------

OPEN, RETRY, NEW, LOSE, SNAPSHOT = range(5)
STEPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(1, 9)), max_size=40)


def exactly_once(
    steps: Sequence[tuple[int, int, int]], make: Callable[[Counter], Sessions]
) -> None:
    """Clients lose answers, retry at any time, and the server is replaced by its snapshot.

    A reference that knows every command by its session and number says how often each took
    effect, and what its one answer was.
    """
    counter = Counter()
    log = Log(make(counter))
    clients = [Numbering(log.open()) for _ in range(3)]
    answers: dict[tuple[int, int], bytes] = {}
    lost: dict[int, list[Perform]] = {client.session: [] for client in clients}
    for step, which, by in steps:
        client = clients[which]
        if step == SNAPSHOT:
            snapshot = log.machine.snapshot()
            counter = Counter()
            log.machine = make(counter)
            log.machine.restore(snapshot)
            assert log.machine.snapshot() == snapshot
            continue
        if step in (NEW, LOSE):
            perform = client.number(b"%d" % by)
        elif step == RETRY and lost[client.session]:
            perform = lost[client.session][by % len(lost[client.session])]
        else:
            continue
        expected = answers.get((client.session, perform.sequence))
        if expected is None:
            expected = b"%d" % (counter.count + by)
            answers[client.session, perform.sequence] = expected
        assert log.do(perform) == Performed(expected)
        if step == LOSE:
            lost[client.session].append(perform)
        else:
            client.answered(perform)
            if perform in lost[client.session]:
                lost[client.session].remove(perform)


@given(STEPS)
@settings(max_examples=200)
def test_exactly_once_in_any_history(steps: list[tuple[int, int, int]]) -> None:
    exactly_once(steps, Sessions)


# --- Do these tests notice? --------------------------------------------------------------------


def expires_and_stays_so(make: Callable[..., Sessions]) -> None:
    log = Log(make(counter := Counter(), max_sessions=2))
    session = log.open()
    log.perform(session, 1)
    log.open(), log.open()
    assert log.perform(session, 1) == UnknownSession()
    assert counter.count == 1


RETRY_AFTER_SNAPSHOT = [(LOSE, 0, 5), (SNAPSHOT, 0, 1), (RETRY, 0, 5), (NEW, 0, 1)]


@pytest.mark.parametrize("name", SESSION_MUTANTS)
def test_a_mistake_in_the_sessions_is_caught(name: str) -> None:
    exactly_once(RETRY_AFTER_SNAPSHOT, Sessions)
    expires_and_stays_so(Sessions)

    def both(mutant: type[Sessions]) -> None:
        exactly_once(RETRY_AFTER_SNAPSHOT, mutant)
        expires_and_stays_so(mutant)

    with pytest.raises(AssertionError):
        both(SESSION_MUTANTS[name])


# --- The key-value machine in a session --------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (Perform(3, 1, 1, encode_command(Put(b"x", b"1"))), "x=1"),
        (Perform(3, 1, 1, encode_command(kv.Delete(b"x"))), "del x"),
        (Perform(3, 1, 1, b""), "(empty)"),
        (Perform(3, 1, 1, b"noise"), "(not a command)"),
        (Perform(3, 1, 1, encode_request(Perform(3, 1, 1, b""))), "(not a command)"),
        (OpenSession(), "open session"),
        (KeepSession(3), "keep session 3"),
        (CloseSession(3), "close session 3"),
    ],
)
def test_describe_says_the_same_as_without_a_session(request_: SessionRequest, words: str) -> None:
    assert describe(encode_request(request_)) == words


def test_describe_of_noise() -> None:
    assert describe(MARK + b"noise") == "(not a command)"


def test_key_and_value_in_a_session() -> None:
    log = Log(Sessions(KeyValue()))
    session = log.open()
    put = encode_command(Put(b"x", b"1"))
    answer = log.do(Perform(session, 1, 1, put))
    assert isinstance(answer, Performed)
    assert kv.decode_answer(answer.answer) == kv.Done()
    log.raw(encode_command(Put(b"x", b"2")))
    log.do(Perform(session, 1, 1, put))
    read = kv.decode_answer(log.machine.query(kv.encode_query(kv.Get(b"x"))))
    assert read == kv.Value(True, b"2"), "the retry did not bring the old value back"
