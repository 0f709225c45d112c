"""Frames are what schemas/raft.capnp says, for us and for everybody else."""

import dataclasses
import enum
import functools
import math
import shutil
import subprocess
import typing
from pathlib import Path

import capnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.codec import RecordCodec, SchemaMismatchError, UnionCodec, load_schema
from raft.core.messages import (
    AppendEntries,
    Entry,
    EntryKind,
    Message,
    RequestVote,
    RequestVoteReply,
)
from raft.frames import Campaign, FireTimer, Frame, Observation, SetClock
from raft.wire import MAX_FRAME, MAX_OBSERVATION, Copies, DecodeError, FrameSplitter, decode, encode
from raftviz.lab.api import VIEWER_FRAMES, ViewerFrame
from raftviz.model.events import Event
from tests.raft.samples import GOLDEN, SAMPLES, any_value, golden_lines

SCHEMAS = Path(__file__).parents[2] / "schemas"

needs_capnp = pytest.mark.skipif(
    shutil.which("capnp") is None, reason="the capnp tool (package capnproto) is not installed"
)


def tag(frame) -> str:
    name = type(frame).__name__
    return name[0].lower() + name[1:]


class TestCopies:
    ENTRIES = (Entry(3, EntryKind.COMMAND, b"x=1"), Entry(4, EntryKind.NOOP))

    def test_every_destination_gets_what_it_would_get_alone(self):
        copies = Copies()
        for dst in (2, 3, 2**64 - 1):
            message = AppendEntries(1, dst, 4, 8, 3, self.ENTRIES, 7, 5)
            assert copies.encode(message) == encode(message)

    @pytest.mark.parametrize("field", ["src", "term", "prev_log_index", "prev_log_term", "entries"])
    def test_another_message_is_no_copy(self, field):
        copies = Copies()
        message = AppendEntries(1, 2, 4, 8, 3, self.ENTRIES, 7, 5)
        copies.encode(message)
        other = (Entry(4),) if field == "entries" else 9
        another = dataclasses.replace(message, dst=3, **{field: other})
        assert copies.encode(another) == encode(another)

    @pytest.mark.parametrize("field", ["leader_commit", "round"])
    def test_news_is_not_left_out(self, field):
        copies = Copies()
        message = AppendEntries(1, 2, 4, 8, 3, self.ENTRIES, 7, 5)
        copies.encode(message)
        another = dataclasses.replace(message, dst=3, **{field: 9})
        assert copies.encode(another) == encode(another)


class TestRoundTrip:
    @pytest.mark.parametrize("frame", SAMPLES, ids=tag)
    def test_every_sample(self, frame):
        assert decode(encode(frame)) == frame

    @given(any_value(Frame))
    def test_every_frame(self, frame):
        data = encode(frame)
        assert decode(data) == frame
        assert data[:4] == b"\0\0\0\0", "more than one segment"

    @given(any_value(ViewerFrame))
    def test_every_frame_between_viewer_and_laboratory(self, frame):
        codec = VIEWER_FRAMES
        assert codec.decode(codec.encode(frame)) == frame

    def test_a_large_frame_has_one_segment_too(self):
        entries = (Entry(5, data=b"x" * 500),) * 1000
        frame = AppendEntries(1, 2, 5, 9, 4, entries, 8, 77)
        data = encode(frame)
        assert FrameSplitter().feed(data) == [data]
        assert decode(data) == frame

    def test_values_have_their_own_types_again(self):
        """An IntEnum equals its number, so equality alone would not see a bare int."""
        event = decode(encode(Observation(1.0, 2.0, any_server_state()))).event
        assert [type(event.role), type(event.timer_kind)] == [
            type(any_server_state().role),
            type(any_server_state().timer_kind),
        ]
        assert isinstance(event.entries[0].kind, enum.IntEnum)


def any_server_state():
    return next(s.event for s in SAMPLES if isinstance(s, Observation))


class TestGolden:
    def test_every_frame_type_has_samples(self):
        assert {type(sample) for sample in SAMPLES} == set(typing.get_args(Frame))

    def test_what_older_servers_wrote_means_what_it_meant(self):
        """Before these frames had their newest fields; their absence is the default."""
        lines = (GOLDEN / "older.hex").read_text().splitlines()
        meanings = [f"# {decode(bytes.fromhex(written))!r}" for written in lines[1::2]]
        assert meanings == lines[::2]

    @pytest.mark.parametrize("name", sorted(golden_lines()))
    def test_the_bytes_are_those_of_old(self, name):
        assert (GOLDEN / f"{name}.hex").read_text().splitlines() == golden_lines()[name]

    @pytest.mark.parametrize("frame", SAMPLES, ids=tag)
    def test_the_bytes_of_old_still_mean_the_same(self, frame):
        lines = (GOLDEN / f"{type(frame).__name__}.hex").read_text().splitlines()
        data = lines[lines.index(f"# {frame!r}") + 1]
        assert decode(bytes.fromhex(data)) == frame


@needs_capnp
class TestTheStockTool:
    """The Debian package capnproto, which knows nothing of us."""

    @pytest.fixture(scope="class")
    def capture(self):
        return b"".join(map(encode, SAMPLES))

    def capnp(self, verb, data, *options, schema=SCHEMAS / "raft.capnp"):
        return subprocess.run(
            ["capnp", verb, *options, schema, "Envelope"],
            input=data,
            stdout=subprocess.PIPE,
            check=True,
        ).stdout

    def test_it_decodes_a_captured_stream_of_every_frame_type(self, capture):
        lines = self.capnp("decode", capture, "--short").decode().splitlines()
        assert len(lines) == len(SAMPLES)
        for line, sample in zip(lines, SAMPLES, strict=True):
            assert line.startswith(f"({tag(sample)} = ")
        assert (
            "(requestVote = (src = 1, dst = 2, term = 4, lastLogIndex = 3, lastLogTerm = 3, "
            "transfer = false))"
        ) in lines

    def test_we_read_what_it_encodes(self, capture):
        for line, sample in zip(
            self.capnp("decode", capture, "--short").splitlines(), SAMPLES, strict=True
        ):
            assert decode(self.capnp("encode", line)) == sample

    def grown(self, folder, old, new):
        """A copy of the schemas in which somebody added something."""
        for schema in SCHEMAS.glob("*.capnp"):
            (folder / schema.name).write_text(schema.read_text().replace(old, new))
        return folder / "raft.capnp"

    def test_a_field_that_a_newer_writer_adds_is_passed_over(self, tmp_path):
        field = "round @7 :UInt64;"
        schema = self.grown(tmp_path, field, f"{field} hint @8 :Text;")
        newer = b'(appendEntries = (src = 1, dst = 2, term = 3, hint = "new", round = 7))'
        data = self.capnp("encode", newer, schema=schema)
        assert decode(data) == AppendEntries(1, 2, 3, 0, 0, (), 0, 7)

    def test_a_field_that_an_older_writer_lacks_is_zero(self):
        data = self.capnp("encode", b"(appendEntries = (src = 1, dst = 2, term = 3))")
        assert decode(data) == AppendEntries(1, 2, 3, 0, 0, (), 0, 0)

    def test_a_tag_that_a_newer_writer_adds_is_refused(self, tmp_path):
        member = "barrier @14 :Observe.Barrier;"
        free = len(load_schema("raft").Envelope.schema.fields)
        schema = self.grown(tmp_path, member, f"{member} newer @{free} :Text;")
        data = self.capnp("encode", b'(newer = "?")', schema=schema)
        with pytest.raises(DecodeError, match="Envelope is of a kind that is not known"):
            decode(data)


class TestWhatIsNoFrame:
    def test_an_unknown_union_tag(self):
        data = bytearray(encode(FireTimer()))
        data[16:18] = (999).to_bytes(2, "little")
        with pytest.raises(DecodeError, match="Envelope is of a kind that is not known"):
            decode(bytes(data))

    def test_an_unknown_enum_value(self):
        schema = load_schema("raft").Envelope.new_message()
        schema.init("refused").reason = 999
        with pytest.raises(DecodeError, match="999 is no RefusalReason"):
            decode(schema.to_bytes())

    def test_an_unknown_kind_of_entry(self):
        schema = load_schema("raft").Envelope.new_message()
        entries = schema.init("appendEntries").init("entries")
        entries.terms, entries.kinds, entries.datas = [1], [999], [b""]
        with pytest.raises(DecodeError, match="999"):
            decode(schema.to_bytes())

    @pytest.mark.parametrize("name", ["proposals", "queries", "results"])
    def test_requests_without_an_id(self, name):
        message = load_schema("raft").Envelope.new_message()
        columns = message.init(name)
        columns.ids = [1, 2]
        setattr(columns, {"proposals": "commands", "queries": "queries"}.get(name, "datas"), [b""])
        with pytest.raises(DecodeError, match="2 ids cannot belong to 1 byte strings"):
            decode(message.to_bytes())

    @pytest.mark.parametrize("column", ["terms", "kinds", "datas"])
    def test_columns_of_different_lengths(self, column):
        schema = load_schema("raft").Envelope.new_message()
        entries = schema.init("appendEntries").init("entries")
        entries.terms, entries.kinds, entries.datas = [1, 1], [1, 1], [b"", b""]
        setattr(entries, column, [b"x"] if column == "datas" else [1])
        schema.clear_write_flag()
        with pytest.raises(DecodeError, match="differ in length"):
            decode(schema.to_bytes())

    def test_a_forgotten_outcome_is_not_a_granted_vote(self):
        schema = load_schema("raft").Envelope.new_message()
        schema.init("requestVoteReply").src = 3
        with pytest.raises(DecodeError, match=r"RequestVoteReply\.outcome is absent"):
            decode(schema.to_bytes())

    def test_a_tag_without_its_struct(self):
        data = bytearray(encode(RequestVote(1, 2, 3, 4, 5)))
        data[24:32] = bytes(8)
        with pytest.raises(DecodeError, match=r"requestVote is absent"):
            decode(bytes(data))

    def test_nothing_at_all(self):
        for data in (b"", bytes(8), bytes(16), b"\0\0\0\0\1\0\0\0" + bytes(8)):
            with pytest.raises(DecodeError):
                decode(data)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_time_that_is_no_number(self, value):
        schema = load_schema("raft").Envelope.new_message()
        schema.init("setClock").rate = value
        with pytest.raises(DecodeError, match="no number of seconds"):
            decode(schema.to_bytes())
        with pytest.raises(ValueError, match="no number of seconds"):
            encode(SetClock(0.0, 0.0, value))

    def test_text_that_is_not_utf_8(self):
        schema = load_schema("raft").Envelope.new_message()
        schema.init("refused").detail = "äöü"
        data = schema.to_bytes().replace("ö".encode(), b"\xff\xff")
        with pytest.raises(DecodeError, match="UTF-8"):
            decode(data)

    @pytest.mark.parametrize("extra", [b"\0", bytes(8), bytes(4096)])
    def test_bytes_behind_the_frame(self, extra):
        with pytest.raises(DecodeError, match="not one whole frame"):
            decode(encode(Campaign()) + extra)

    @given(st.sampled_from(SAMPLES), st.data())
    def test_a_frame_cut_short(self, frame, data):
        whole = encode(frame)
        with pytest.raises(DecodeError):
            decode(whole[: data.draw(st.integers(0, len(whole) - 1))])

    def test_the_reason_is_one_sentence_and_no_stack_of_another_language(self):
        data = bytearray(encode(RequestVote(1, 2, 3, 4, 5)))
        data[24:28] = (0x7FFFFFFC).to_bytes(4, "little")
        with pytest.raises(DecodeError, match=r"^malformed Envelope: [\w -]*out-of-bounds[\w -]*$"):
            decode(bytes(data))


class TestSplitting:
    STREAM = tuple(map(encode, SAMPLES))

    @given(st.data())
    def test_however_the_stream_is_cut(self, data):
        stream = b"".join(self.STREAM)
        cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
        splitter = FrameSplitter()
        frames = []
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            frames += splitter.feed(stream[start:end])
        assert tuple(frames) == self.STREAM

    def test_byte_by_byte(self):
        splitter = FrameSplitter()
        frames = [frame for byte in self.STREAM[0] for frame in splitter.feed(bytes([byte]))]
        assert frames == [self.STREAM[0]]

    def test_frames_are_bytes(self):
        """A slice of a receive buffer is not aligned, and pycapnp refuses it."""
        frames = FrameSplitter().feed(self.STREAM[0] + self.STREAM[1])
        assert [type(frame) for frame in frames] == [bytes, bytes]

    @pytest.mark.parametrize("segments", [2, 3, 512, 513, 2**31, 2**32])
    def test_more_than_one_segment_is_refused_by_the_first_bytes(self, segments):
        header = (segments - 1).to_bytes(4, "little") + (1).to_bytes(4, "little")
        with pytest.raises(DecodeError, match=f"claims {segments}"):
            FrameSplitter().feed(header)
        with pytest.raises(DecodeError):
            decode(header + bytes(8 * 1024))

    @pytest.mark.parametrize("words", [MAX_FRAME // 8, 2**31, 2**32 - 1])
    def test_a_frame_over_the_limit_is_refused_by_its_first_bytes(self, words):
        header = bytes(4) + words.to_bytes(4, "little")
        with pytest.raises(DecodeError, match=f"over the limit of {MAX_FRAME}"):
            FrameSplitter().feed(header)
        with pytest.raises(DecodeError):
            decode(header + bytes(64))

    def test_a_frame_of_exactly_the_limit_passes(self):
        frame = bytes(4) + (MAX_FRAME // 8 - 1).to_bytes(4, "little") + bytes(MAX_FRAME - 8)
        assert FrameSplitter().feed(frame) == [frame]

    def test_the_limit_counts_from_the_next_frame_on(self):
        splitter = FrameSplitter(limit=64)
        splitter.push(self.STREAM[0][:8])
        with pytest.raises(DecodeError, match="limit of 64"):
            splitter.next_frame()
        splitter = FrameSplitter(limit=64)
        splitter.push(encode(FireTimer()) + self.STREAM[0])
        assert splitter.next_frame() == encode(FireTimer())
        splitter.limit = MAX_OBSERVATION
        assert splitter.next_frame() == self.STREAM[0]
        assert splitter.next_frame() is None


# --- Schema and dataclasses mirror each other ------------------------------------------------


def structs(module) -> set[str]:
    """The names of all structs that a schema file defines at its top."""
    return {name for name, value in vars(module).items() if hasattr(value, "new_message")}


def reachable(hint) -> set[str]:
    """The names of all our dataclasses that a type is made of."""
    if dataclasses.is_dataclass(hint):
        parts = typing.get_type_hints(hint).values()
        return {hint.__name__}.union(*map(reachable, parts))
    return set().union(*map(reachable, typing.get_args(hint)))


class TestMirror:
    """That a dataclass has other fields than its struct is found when a codec is made."""

    @pytest.mark.parametrize(
        ("schemas", "hint", "without_dataclass"),
        [
            (
                ("raft", "messages", "client", "observe"),
                Frame,
                {"Envelope", "Entries", "VoteOutcome", "AppendOutcome", "Change"},
            ),
            (("lab",), ViewerFrame, {"ViewerFrame", "Message"}),
        ],
    )
    def test_every_struct_has_its_dataclass(self, schemas, hint, without_dataclass):
        there = set().union(*(structs(load_schema(name)) for name in schemas))
        assert "Envelope" in there or "ViewerFrame" in there
        assert there - reachable(hint) == without_dataclass

    def test_the_stream_of_a_laboratory_knows_every_message_and_event(self):
        codec = VIEWER_FRAMES
        for frame in SAMPLES:
            if isinstance(frame, Observation) and "Barrier" not in type(frame.event).__name__:
                event = Event(1, 2.0, 3.0, 4, frame.event)
                assert codec.decode(codec.encode(event)) == event

    def make(self, *fields):
        record = dataclasses.make_dataclass("RequestVote", fields, frozen=True)
        return functools.partial(RecordCodec, load_schema("messages").RequestVote, record)

    FIELDS = tuple(typing.get_type_hints(RequestVote).items())
    OTHERS = tuple((name, hint) for name, hint in FIELDS if name != "last_log_term")

    def test_equal_fields_fit(self):
        codec = self.make(*self.FIELDS)()
        vote = codec.decode(codec.encode(RequestVote(1, 2, 3, 4, 5)))
        assert (vote.src, vote.dst, vote.term) == (1, 2, 3)

    def test_a_field_that_the_schema_lacks(self):
        with pytest.raises(SchemaMismatchError, match="hint"):
            self.make(*self.FIELDS, ("hint", int))()

    def test_a_field_that_the_dataclass_lacks(self):
        with pytest.raises(SchemaMismatchError, match="lastLogTerm"):
            self.make(*self.OTHERS)()

    @pytest.mark.parametrize("hint", [str, bytes, bool, float, tuple[int, ...], Message, Entry])
    def test_a_field_of_another_type(self, hint):
        with pytest.raises(SchemaMismatchError, match="lastLogTerm"):
            self.make(*self.OTHERS, ("last_log_term", hint))()

    def test_a_union_with_a_member_more_or_less(self):
        outcome = load_schema("messages").AppendOutcome
        with pytest.raises(SchemaMismatchError, match="mismatch"):
            UnionCodec(outcome, typing.get_type_hints(RequestVoteReply)["outcome"])


def test_loading_a_schema_twice_gives_the_same_types():
    assert load_schema("raft") is load_schema("raft")
    assert isinstance(load_schema("raft").Envelope, capnp.lib.capnp._StructModule)
