"""The key-value machine: what commands do, and that none of them can stop a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.codec import DecodeError
from raft.machine.kv import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    Answer,
    Command,
    Delete,
    Done,
    Get,
    KeyValue,
    Malformed,
    Put,
    TooLongError,
    Value,
    decode_answer,
    decode_command,
    describe,
    encode_command,
    encode_query,
)

KEYS = st.sampled_from([b"", b"x", b"y", b"\x00\xff"])
COMMANDS: st.SearchStrategy[Command] = st.builds(Put, KEYS, st.binary(max_size=20)) | st.builds(
    Delete, KEYS
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


@given(st.lists(COMMANDS))
def test_it_is_a_dict_and_a_snapshot_is_all_of_it(commands: list[Command]) -> None:
    machine, model = KeyValue(), dict[bytes, bytes]()
    for command in commands:
        apply(machine, command)
        match command:
            case Put(key, value):
                model[key] = value
            case Delete(key):
                model.pop(key, None)
    restored = KeyValue()
    apply(restored, Put(b"old", b"state"))
    restored.restore(machine.snapshot())
    for key in [b"", b"x", b"y", b"\x00\xff", b"old"]:
        expected = Value(key in model, model.get(key, b""))
        assert get(machine, key) == get(restored, key) == expected
    assert restored.snapshot() == machine.snapshot()


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
        (encode_command(Put(b"\x1b[2J", "\u202e".encode())), r"\x1b[2J=\u202e"),
        (b"", "(empty)"),
        (b"noise", "(not a command)"),
    ],
)
def test_describe(command: bytes, words: str) -> None:
    assert describe(command) == words
