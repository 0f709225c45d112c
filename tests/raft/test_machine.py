"""The key-value machine: what commands do, and that none of them can stop a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.codec import DecodeError
from raft.machine import register
from raft.machine.base import MAX_ANSWER_BYTES
from raft.machine.kv import (
    MAX_KEY_BYTES,
    MAX_SCAN_BYTES,
    MAX_VALUE_BYTES,
    NOTHING,
    Answer,
    Append,
    Cas,
    Command,
    Delete,
    Done,
    Failed,
    Get,
    Increment,
    KeyValue,
    Malformed,
    Number,
    Pairs,
    Put,
    Scan,
    TooLongError,
    Value,
    carry_out,
    decode_answer,
    decode_command,
    describe,
    encode_command,
    encode_query,
)

KEYS = st.sampled_from([b"", b"x", b"y", b"\x00\xff"])
VALUES = st.binary(max_size=20) | st.integers(-20, 20).map(lambda number: b"%d" % number)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(Put, KEYS, VALUES),
    st.builds(Delete, KEYS),
    st.builds(Cas, KEYS, st.just(NOTHING) | st.builds(Value, st.just(True), VALUES), VALUES),
    st.builds(Append, KEYS, VALUES),
    st.builds(Increment, KEYS, st.integers(-(2**63), 2**63 - 1)),
)


def apply(machine: KeyValue, *commands: Command) -> list[Answer]:
    return [decode_answer(machine.apply(1, encode_command(command))) for command in commands]


def get(machine: KeyValue, key: bytes) -> Answer:
    return decode_answer(machine.query(encode_query(Get(key))))


def test_put_get_delete() -> None:
    machine = KeyValue()
    assert get(machine, b"x") == Value(False, b"")
    assert apply(machine, Put(b"x", b"1"), Put(b"y", b""), Put(b"x", b"2")) == [Done()] * 3
    assert get(machine, b"x") == Value(True, b"2")
    assert get(machine, b"y") == Value(True, b"")
    assert apply(machine, Delete(b"x"), Delete(b"never there")) == [Done()] * 2
    assert get(machine, b"x") == Value(False, b"")


def test_cas_swaps_only_what_was_expected() -> None:
    machine = KeyValue()
    held = Value(True, b"1")
    assert apply(machine, Cas(b"x", held, b"2")) == [NOTHING]
    assert apply(machine, Cas(b"x", NOTHING, b"1")) == [Done()]
    assert apply(machine, Cas(b"x", NOTHING, b"2")) == [held]
    assert apply(machine, Cas(b"x", Value(True, b""), b"2")) == [held]
    assert get(machine, b"x") == held
    assert apply(machine, Cas(b"x", held, b"2")) == [Done()]
    assert get(machine, b"x") == Value(True, b"2")


def test_append_makes_a_value_longer_up_to_the_limit() -> None:
    machine = KeyValue()
    assert apply(machine, Append(b"x", b"ab"), Append(b"x", b"c")) == [Number(2), Number(3)]
    assert get(machine, b"x") == Value(True, b"abc")
    full = b"v" * MAX_VALUE_BYTES
    (answer,) = apply(machine, Append(b"x", full))
    assert answer == Failed("the value would have more than 65536 bytes")
    assert get(machine, b"x") == Value(True, b"abc")
    assert apply(machine, Append(b"y", full)) == [Number(MAX_VALUE_BYTES)]


def test_increment_counts_in_decimal() -> None:
    machine = KeyValue()
    assert apply(machine, Increment(b"n"), Increment(b"n", -43)) == [Number(1), Number(-42)]
    assert get(machine, b"n") == Value(True, b"-42")
    apply(machine, Put(b"n", b"%d" % (2**63 - 2)))
    assert apply(machine, Increment(b"n"), Increment(b"n")) == [
        Number(2**63 - 1),
        Failed("the sum needs more than 64 bits"),
    ]
    assert get(machine, b"n") == Value(True, b"%d" % (2**63 - 1))


@pytest.mark.parametrize("value", [b"", b"one", b" 1", b"1_0", b"+1", b"1\n", "١".encode()])
def test_only_a_number_is_incremented(value: bytes) -> None:
    machine = KeyValue()
    answers = apply(machine, Put(b"n", value), Increment(b"n"))
    assert answers[1] == Failed("the value is no number in decimal digits")
    assert get(machine, b"n") == Value(True, value)


def scan(machine: KeyValue, *asked: Any) -> tuple[list[bytes], bool]:
    answer = decode_answer(machine.query(encode_query(Scan(*asked))))
    assert isinstance(answer, Pairs)
    assert all(get(machine, pair.key) == Value(True, pair.value) for pair in answer.pairs)
    return [pair.key for pair in answer.pairs], answer.more


def test_scan() -> None:
    machine = KeyValue()
    assert scan(machine) == ([], False)
    keys = [b"", b"a", b"a\xff", b"aa", b"ab", b"b"]
    apply(machine, *(Put(key, b"of " + key) for key in reversed(keys)))
    assert scan(machine) == (sorted(keys), False)
    assert scan(machine, b"a") == ([b"a", b"aa", b"ab", b"a\xff"], False)
    assert scan(machine, b"a", b"", 2) == ([b"a", b"aa"], True)
    assert scan(machine, b"a", b"aa\0", 2) == ([b"ab", b"a\xff"], False)
    assert scan(machine, b"", b"a\xff", 1) == ([b"a\xff"], True)
    assert scan(machine, b"x") == ([], False)
    apply(machine, Delete(b"aa"), Put(b"ac", b""))
    assert scan(machine, b"a")[0] == [b"a", b"ab", b"ac", b"a\xff"]


@pytest.mark.parametrize("value", [b"", b"1"])
def test_a_scan_of_many_small_pairs_is_an_answer_that_may_be_sent(value: bytes) -> None:
    machine = KeyValue()
    apply(machine, *(Put(b"k%07d" % number, value) for number in range(MAX_SCAN_BYTES // 16)))
    assert len(machine.query(encode_query(Scan()))) <= MAX_ANSWER_BYTES
    assert scan(machine)[1], "the rest may be asked for"


def test_a_scan_stops_where_an_answer_is_full() -> None:
    machine = KeyValue()
    size = MAX_VALUE_BYTES
    apply(machine, *(Put(b"%d" % number, bytes(size)) for number in range(9)))
    count = MAX_SCAN_BYTES // (size + 1)
    assert scan(machine) == ([b"%d" % number for number in range(count)], True)
    longest = Put(b"k" * MAX_KEY_BYTES, b"v" * MAX_VALUE_BYTES)
    apply(machine, longest)
    assert scan(machine, b"k", longest.key) == ([longest.key], False)
    assert scan(machine, b"k", longest.key + b"\0") == ([], False)


@given(st.lists(COMMANDS))
def test_a_snapshot_is_all_of_it(commands: list[Command]) -> None:
    machine, model = KeyValue(), dict[bytes, bytes]()
    for command in commands:
        assert apply(machine, command) == [carry_out(model, command)]
    restored = KeyValue()
    apply(restored, Put(b"old", b"state"))
    restored.restore(machine.snapshot())
    for key in [b"", b"x", b"y", b"\x00\xff", b"old"]:
        expected = Value(key in model, model.get(key, b""))
        assert get(machine, key) == get(restored, key) == expected
    assert restored.snapshot() == machine.snapshot()
    assert scan(restored) == scan(machine) == (sorted(model), False)


def test_equal_states_give_equal_snapshots() -> None:
    one, other = KeyValue(), KeyValue()
    apply(one, Put(b"a", b"1"), Put(b"b", b"2"))
    apply(other, Put(b"b", b"2"), Put(b"c", b"3"), Put(b"a", b"1"), Delete(b"c"))
    assert one.snapshot() == other.snapshot()


@given(COMMANDS)
def test_commands_survive_the_wire(command: Command) -> None:
    assert decode_command(encode_command(command)) == command
    assert KeyValue().check(encode_command(command)) is None


@pytest.mark.parametrize(
    "command",
    [b"", b"x", bytes(8), bytes(16), b"\xff" * 64, encode_command(Put(b"x", b"1"))[:-8]],
    ids=["empty", "short", "no words", "null", "noise", "cut"],
)
def test_bug_49_a_malformed_command_is_answered_and_changes_nothing(command: bytes) -> None:
    """An empty command crashes the leader, a raising apply is skipped: neither happens here."""
    machine = KeyValue()
    apply(machine, Put(b"x", b"1"))
    before = machine.snapshot()
    assert isinstance(decode_answer(machine.apply(2, command)), Malformed)
    assert machine.apply(3, command) == KeyValue().apply(2, command), "the same on every server"
    assert machine.snapshot() == before
    assert (machine.check(command) or "").startswith("not a key-value command: ")


@given(st.binary(max_size=200) | COMMANDS.map(encode_command), st.data())
def test_no_bytes_stop_the_machine(command: bytes, data: st.DataObject) -> None:
    """Any bytes, and well-formed commands with a byte changed."""
    if command:
        changed = bytearray(command)
        changed[data.draw(st.integers(0, len(command) - 1))] = data.draw(st.integers(0, 255))
        command = bytes(changed)
    machine = KeyValue()
    machine.check(command)
    decode_answer(machine.apply(1, command))
    decode_answer(machine.query(command))
    describe(command)


def test_a_malformed_query_is_answered() -> None:
    assert decode_answer(KeyValue().query(b"?")) == Malformed("not a key-value query")


def test_a_malformed_snapshot_is_refused_and_the_state_kept() -> None:
    machine = KeyValue()
    apply(machine, Put(b"x", b"1"))
    with pytest.raises(DecodeError):
        machine.restore(b"noise")
    assert get(machine, b"x") == Value(True, b"1")


def test_keys_and_values_have_a_longest() -> None:
    longest = Put(b"k" * MAX_KEY_BYTES, b"v" * MAX_VALUE_BYTES)
    assert KeyValue().check(encode_command(longest)) is None
    with pytest.raises(TooLongError, match="the key has 1025 bytes; at most 1024 are allowed"):
        encode_command(Delete(b"k" * (MAX_KEY_BYTES + 1)))
    with pytest.raises(TooLongError, match="the key has 1025 bytes; at most 1024 are allowed"):
        encode_query(Get(b"k" * (MAX_KEY_BYTES + 1)))
    with pytest.raises(TooLongError, match="the value has 65537 bytes; at most 65536 are allowed"):
        encode_command(Put(b"k", b"v" * (MAX_VALUE_BYTES + 1)))
    with pytest.raises(TooLongError, match="9223372036854775808 needs more than 64 bits"):
        encode_command(Increment(b"k", 2**63))


def test_the_leader_refuses_what_another_client_program_did_not() -> None:
    from raft.machine import kv

    too_long = kv._commands.encode(Put(b"k" * 2000, b""))
    assert KeyValue().check(too_long) == "the key has 2000 bytes; at most 1024 are allowed"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (encode_command(Put(b"x", b"1")), "x=1"),
        (encode_command(Put("ключ".encode(), b"\xff")), r"ключ=\xff"),
        (encode_command(Delete(b"x")), "del x"),
        (encode_command(Cas(b"x", Value(True, b"1"), b"2")), "x=2 if 1"),
        (encode_command(Cas(b"x", NOTHING, b"2")), "x=2 if new"),
        (encode_command(Append(b"x", b"\n")), r"x+=\n"),
        (encode_command(Increment(b"x", 5)), "x+5"),
        (encode_command(Increment(b"x", -5)), "x-5"),
        (encode_command(Put(b"\x1b[2J", "\u202e".encode())), r"\x1b[2J=\u202e"),
        (b"", "(empty)"),
        (b"noise", "(not a command)"),
    ],
)
def test_describe(command: bytes, words: str) -> None:
    assert describe(command) == words


# --- The register ----------------------------------------------------------------------------


def test_a_register_reads_writes_and_swaps() -> None:
    machine = register.Register()

    def apply(command: register.Command) -> register.Answer:
        return register.decode_answer(machine.apply(1, register.encode_command(command)))

    def read() -> register.Answer:
        return register.decode_answer(machine.query(register.READ))

    assert read() == register.Holds(b"")
    assert apply(register.Write(b"1")) == register.Done()
    assert apply(register.Cas(b"2", b"3")) == read() == register.Holds(b"1")
    assert apply(register.Cas(b"1", b"3")) == register.Done()
    assert read() == register.Holds(b"3")
    assert machine.check(register.encode_command(register.Write(b""))) is None


def test_a_register_answers_what_makes_no_sense() -> None:
    machine = register.Register()
    assert register.decode_answer(machine.apply(1, b"")) == register.Malformed()
    assert (machine.check(b"") or "").startswith("not a command for a register: ")
