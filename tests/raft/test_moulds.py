"""Moulds write what the codec writes, and read nothing that it would read otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.codec import DecodeError
from raft.machine import kv
from raft.machine.moulds import Mould

SHORT = st.binary(max_size=40)


@given(SHORT, SHORT)
def test_puts_are_what_the_codec_writes(key: bytes, value: bytes) -> None:
    written = kv._commands.encode(kv.Put(key, value))
    assert kv._puts.fill(key, value) == written
    assert kv._puts.strings(written) == [key, value]


@given(SHORT)
def test_gets_and_values_are_what_the_codec_writes(data: bytes) -> None:
    assert kv._gets.fill(data, b"") == kv._queries.encode(kv._Query(data))
    assert kv._values.fill(data) == kv._answers.encode(kv.Value(True, data))


@pytest.mark.parametrize(
    "command", [kv.Delete(b"key"), kv.Append(b"key", b"value"), kv.Increment(b"key", 2)]
)
def test_other_commands_are_left_to_the_codec(command: kv.Command) -> None:
    assert kv._puts.strings(kv.encode_command(command)) is None
    assert kv.decode_command(kv.encode_command(command)) == command


@given(SHORT, SHORT, st.data())
def test_spoiled_frames_are_read_as_the_codec_reads_them(
    key: bytes, value: bytes, data: st.DataObject
) -> None:
    frame = bytearray(kv._puts.fill(key, value))
    for _ in range(data.draw(st.integers(1, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(frame[: data.draw(st.integers(0, len(frame)) | st.just(len(frame)))])
    strings = kv._puts.strings(cut)
    if strings is not None:
        assert kv._commands.decode(cut) == kv.Put(*strings)
    else:
        try:
            kv.decode_command(cut)
        except DecodeError:
            return


def test_an_example_of_another_make_is_refused() -> None:
    with pytest.raises(ValueError, match="no frame of strings"):
        Mould(kv.encode_command(kv.Increment(b"key", 2)), b"key", b"value")
