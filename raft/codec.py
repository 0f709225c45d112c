"""Frozen dataclasses to Cap'n Proto frames and back, by introspection, compiled once per type.

How a dataclass lies in a struct::

    snake_case field           camelCase field
    int                        an integer          (``X | None``: 0 stands for None)
    float                      Float64             (finite: NaN and infinities are refused)
    bool, str, bytes           Bool, Text, Data
    IntEnum                    UInt16              (an unknown value is refused)
    dataclass                  struct
    A | B | C                  struct or group with a union of ``a``, ``b``, ``c``;
                               a dataclass without fields is Void
    tuple[int, ...]            List of integers; tuple[bytes, ...] List(Data)
    tuple[dataclass, ...]      List of structs, or one struct of columns: a List for every
                               field of the dataclass, named by its plural

A zero value is not written, since an absent field reads as zero. An absent struct is refused:
nobody may turn a forgotten outcome into "granted".

pycapnp aborts the whole process on some malformed bytes when asked through ``read``,
``total_size``, ``as_builder`` or the packed calls. Foreign bytes therefore meet only
``from_bytes`` on one whole frame whose segment table was checked here, and field reads, both
under a traversal limit. Everything is copied out before the reader is let go. Fields are read by
``_get_by_field`` with a field looked up once: by name each costs three times as much.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import struct
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import capnp

T = TypeVar("T")

HEADER_SIZE = 8
"""Bytes of the segment table of a frame with one segment."""

_HEADER = struct.Struct("<II")
_NESTING_LIMIT = 16
# Every word of a frame is visited at most once while it is read, so a reader that visits more
# was led in circles or into a list of millions of empty elements.
_SPARE_WORDS = 8
_ROOM = 1024
_MAX_ROOM = 64 * 1024
"""Words of a message's first segment: at least what pycapnp gives it by itself, and 512 KiB."""


class DecodeError(ValueError):
    """These bytes are not what they should be. The message says why, without repeating them."""


class SchemaMismatchError(TypeError):
    """A dataclass and a struct of the schema do not mirror each other: a bug on our side."""


# --- Schemas ---------------------------------------------------------------------------------


@functools.cache
def _parser() -> Any:
    """One parser for all schemas: structs of different parsers do not mix."""
    return capnp.SchemaParser()


@functools.cache
def load_schema(name: str) -> Any:
    """Load ``schemas/<name>.capnp``: from the installed package, else from the source tree."""
    package = Path(__file__).parent
    installed = package / "schemas"
    folder = installed if installed.is_dir() else package.parent / "schemas"
    return _parser().load(str(folder / f"{name}.capnp"), imports=[str(folder)])


# --- Frames ----------------------------------------------------------------------------------


def frame_size(header: bytes | bytearray, limit: int = sys.maxsize) -> int:
    """Return the size of the frame that begins with these 8 bytes.

    Raises DecodeError unless it has exactly one segment and at most ``limit`` bytes.
    """
    more_segments, words = _HEADER.unpack_from(header)
    if more_segments:
        raise DecodeError(f"a frame must have one segment; this one claims {more_segments + 1}")
    size: int = HEADER_SIZE + 8 * words
    if size > limit:
        raise DecodeError(f"a frame of {size} bytes is over the limit of {limit}")
    return size


def _frame(builder: Any) -> bytes:
    """Return a built message as one frame of one segment."""
    frame: bytes = builder.to_bytes()
    if frame.startswith(b"\0\0\0\0"):
        return frame
    builder.clear_write_flag()
    # Without the pointers between segments it is smaller than this, so it fits.
    words = len(frame) // 8
    return bytes(builder.copy(num_first_segment_words=words).to_bytes())


def _reason(error: Exception) -> str:
    """Return the one sentence of a pycapnp error that is about the bytes."""
    if isinstance(error, capnp.KjException):
        description: str = error.description
        return description.split("; ", 1)[-1].split(". ", 1)[0]
    if isinstance(error, UnicodeDecodeError):
        return "text is not UTF-8"
    return str(error)


# --- The codecs ------------------------------------------------------------------------------


class _Layout(typing.Protocol):
    """How values of one type lie in one struct."""

    def read(self, reader: Any) -> Any: ...
    def write(self, builder: Any, value: Any) -> None: ...


class _Codec(Generic[T]):
    """One root type: values to whole frames and back."""

    def __init__(self, struct_schema: Any, layout: _Layout) -> None:
        self._struct = struct_schema
        self._layout = layout
        self._room: dict[type[Any], int] = {}

    def encode(self, value: T) -> bytes:
        """Return the value as one frame.

        Raises ValueError when a float is not finite or a str is not Unicode text.
        """
        # About as much room as the last one of its kind took: what does not fit is copied.
        room = self._room.get(type(value), _ROOM)
        builder = self._struct.new_message(num_first_segment_words=room)
        self._layout.write(builder, value)
        frame = _frame(builder)
        self._room[type(value)] = min(max(_ROOM, len(frame) // 8 * 5 // 4), _MAX_ROOM)
        return frame

    def decode(self, data: bytes) -> T:
        """Return the value of one whole frame. Raises DecodeError, whatever the bytes are."""
        if len(data) < HEADER_SIZE or frame_size(data) != len(data):
            raise DecodeError(f"{len(data)} bytes are not one whole frame")
        limit = len(data) // 8 + _SPARE_WORDS
        try:
            with self._struct.from_bytes(data, limit, _NESTING_LIMIT) as reader:
                value: T = self._layout.read(reader)
                return value
        except DecodeError:
            raise
        except (capnp.KjException, ValueError, RuntimeError, LookupError) as error:
            name = self._struct.schema.node.displayName.rpartition(":")[2]
            raise DecodeError(f"malformed {name}: {_reason(error)}") from None


class RecordCodec(_Codec[T]):
    """A dataclass as a struct: ``RecordCodec(schema.Event, Event)``."""

    def __init__(self, struct_schema: Any, record: type[T]) -> None:
        super().__init__(struct_schema, _Record(struct_schema.schema, record))


class UnionCodec(_Codec[T]):
    """One of several dataclasses as a struct with a union.

    ``members`` is the union type itself: ``UnionCodec[A | B](schema.AorB, A | B)``.
    """

    def __init__(self, struct_schema: Any, members: object) -> None:
        super().__init__(struct_schema, _Union(struct_schema.schema, members))


class _Record:
    """A dataclass in a struct."""

    def __init__(self, schema: Any, record: type[Any]) -> None:
        hints = typing.get_type_hints(record)
        names = [field.name for field in dataclasses.fields(record)]
        _check_names(record.__name__, schema, {_camel(name) for name in names})
        fields = [schema.fields[_camel(name)] for name in names]
        kinds = [_kind(hints[name], field) for name, field in zip(names, fields, strict=True)]
        self._make = record
        self._fields = fields
        self._reads = [(at, kind.read) for at, kind in enumerate(kinds) if kind.read]
        self._required = [(fields[at], names[at]) for at, kind in enumerate(kinds) if kind.required]
        self._writes = [(names[at], fields[at], kind.write) for at, kind in enumerate(kinds)]

    def read(self, reader: Any) -> Any:
        for field, name in self._required:
            if not reader._has_by_field(field):
                raise DecodeError(f"{self._make.__name__}.{name} is absent")
        get = reader._get_by_field
        values = [get(field) for field in self._fields]
        for at, convert in self._reads:
            values[at] = convert(values[at])
        return self._make(*values)

    def write(self, builder: Any, value: Any) -> None:
        put = builder._set_by_field
        for name, field, write in self._writes:
            part = getattr(value, name)
            if not part:
                continue
            if write is None:
                put(field, part)
            else:
                write(builder, part)


class _Union:
    """One of several dataclasses in a struct with a union."""

    def __init__(self, schema: Any, members: object) -> None:
        classes: tuple[type[Any], ...] = typing.get_args(members) or (members,)
        _check_names(schema.node.displayName, schema, {_tag(member) for member in classes})
        self._name = schema.node.displayName.rpartition(":")[2]
        self._by_tag: dict[str, tuple[Any, _Record | None, Any]] = {}
        self._by_type: dict[type[Any], tuple[Any, _Record | None]] = {}
        for member in classes:
            field = schema.fields[_tag(member)]
            if dataclasses.fields(member):
                layout = _Record(_struct_of(field, member), member)
                self._by_tag[_tag(member)] = (field, layout, None)
                self._by_type[member] = (field, layout)
            else:
                _expect(field, member, {"void"})
                self._by_tag[_tag(member)] = (field, None, member())
                self._by_type[member] = (field, None)

    def read(self, reader: Any) -> Any:
        try:
            tag = reader._which_str()
        except capnp.KjException:
            raise DecodeError(f"{self._name} is of a kind that is not known here") from None
        field, layout, constant = self._by_tag[tag]
        if layout is None:
            return constant
        if not reader._has_by_field(field):
            raise DecodeError(f"{self._name}.{tag} is absent")
        return layout.read(reader._get_by_field(field))

    def write(self, builder: Any, value: Any) -> None:
        field, layout = self._by_type[type(value)]
        if layout is None:
            builder._set_by_field(field, None)
        else:
            layout.write(builder._init_by_field(field), value)


# --- Kinds of fields -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    """How one field travels; no function means: as it is."""

    read: Callable[[Any], Any] | None = None
    """What pycapnp read, to the value of the dataclass."""
    write: Callable[[Any, Any], None] | None = None
    """Puts a value that is not zero into a struct builder."""
    required: bool = False


_INTEGERS = {"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"}
_PLAIN: dict[Any, set[str]] = {
    int: _INTEGERS,
    bool: {"bool"},
    str: {"text"},
    bytes: {"data"},
}


def _kind(hint: Any, field: Any) -> _Kind:
    """Choose how a field of this type travels. Raises SchemaMismatchError."""
    hint = _plain_type(hint)
    if hint in _PLAIN:
        _expect(field, hint, _PLAIN[hint])
        return _Kind()
    if hint is float:
        _expect(field, hint, {"float64"})
        return _Kind(_finite, lambda builder, value: builder._set_by_field(field, _finite(value)))
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        return _enum_kind(hint, field)
    if typing.get_origin(hint) is tuple:
        return _tuple_kind(_plain_type(typing.get_args(hint)[0]), field)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = typing.get_args(hint)
        if types.NoneType in members:
            return _optional_kind(members, field)
        return _struct_kind(_Union(_struct_of(field, hint), hint), field)
    if dataclasses.is_dataclass(hint):
        return _struct_kind(_Record(_struct_of(field, hint), typing.cast(Any, hint)), field)
    raise SchemaMismatchError(f"no way to put {hint} into {field.proto.name}")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise DecodeError(f"{value} is no time and no number of seconds")
    return value


def _enum_kind(hint: type[enum.IntEnum], field: Any) -> _Kind:
    _expect(field, hint, {"uint16"})
    members = {member.value: member for member in hint}

    def read(number: int) -> enum.IntEnum:
        if number not in members:
            raise DecodeError(f"{number} is no {hint.__name__}")
        return members[number]

    return _Kind(read, lambda builder, member: builder._set_by_field(field, member.value))


def _optional_kind(members: tuple[Any, ...], field: Any) -> _Kind:
    inner = [_plain_type(member) for member in members if member is not types.NoneType]
    if inner != [int]:
        raise SchemaMismatchError(f"only an int can be absent, in {field.proto.name}")
    _expect(field, int, _INTEGERS)
    return _Kind(read=lambda number: number or None)


def _struct_kind(layout: _Layout, field: Any) -> _Kind:
    return _Kind(
        layout.read,
        lambda builder, value: layout.write(builder._init_by_field(field), value),
        required=_wire_type(field) == "struct",
    )


def _tuple_kind(element: Any, field: Any) -> _Kind:
    if _wire_type(field) == "struct":
        columns = _Columns(field.schema, element)
        return _Kind(
            columns.read,
            lambda builder, values: columns.write(builder._init_by_field(field), values),
        )
    _expect(field, tuple, {"list"})
    if element in (int, bytes):
        return _Kind(tuple, lambda builder, values: builder._set_by_field(field, list(values)))
    of_many = typing.get_origin(element) in (typing.Union, types.UnionType)
    layout = (_Union if of_many else _Record)(field.schema.elementType, element)
    name = field.proto.name

    def write(builder: Any, values: tuple[Any, ...]) -> None:
        items = builder.init(name, len(values))
        for at, value in enumerate(values):
            layout.write(items[at], value)

    return _Kind(lambda items: tuple(map(layout.read, items)), write)


class _Columns:
    """A tuple of dataclasses with plain fields, as one list a field."""

    def __init__(self, schema: Any, record: type[Any]) -> None:
        hints = typing.get_type_hints(record)
        names = [field.name for field in dataclasses.fields(record)]
        _check_names(record.__name__, schema, {f"{_camel(name)}s" for name in names})
        self._make = record
        self._names = names
        self._fields = [schema.fields[f"{_camel(name)}s"] for name in names]
        enums = [_plain_type(hints[name]) for name in names]
        self._enums = [
            (at, {member.value: member for member in hint}.__getitem__)
            for at, hint in enumerate(enums)
            if hint not in _PLAIN
        ]

    def read(self, reader: Any) -> tuple[Any, ...]:
        if not any(map(reader._has_by_field, self._fields)):
            return ()
        columns = [list(reader._get_by_field(field)) for field in self._fields]
        for at, make in self._enums:
            columns[at] = list(map(make, columns[at]))
        if len(set(map(len, columns))) > 1:
            raise DecodeError(f"columns of {self._make.__name__} differ in length")
        return tuple(map(self._make, *columns))

    def write(self, builder: Any, values: tuple[Any, ...]) -> None:
        columns = [[getattr(value, name) for value in values] for name in self._names]
        for at, _ in self._enums:
            columns[at] = list(map(int, columns[at]))
        for field, column in zip(self._fields, columns, strict=True):
            builder._set_by_field(field, column)


# --- Introspection ---------------------------------------------------------------------------


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _tag(member: type[Any]) -> str:
    return member.__name__[0].lower() + member.__name__[1:]


def _plain_type(hint: Any) -> Any:
    """Return what a NewType is made of."""
    return getattr(hint, "__supertype__", hint)


def _wire_type(field: Any) -> str:
    """Return the type of a schema's field, such as "uint64", "list" or "group"."""
    kind: str = field.proto.which()
    return kind if kind == "group" else str(field.proto.slot.type.which())


def _struct_of(field: Any, hint: Any) -> Any:
    _expect(field, hint, {"struct", "group"})
    return field.schema


def _expect(field: Any, hint: Any, allowed: set[str]) -> None:
    if _wire_type(field) not in allowed:
        raise SchemaMismatchError(
            f"{field.proto.name} is {_wire_type(field)} in the schema, "
            f"but {hint} needs {' or '.join(sorted(allowed))}"
        )


def _check_names(owner: str, schema: Any, wanted: set[str]) -> None:
    there = set(schema.fields)
    if there != wanted:
        raise SchemaMismatchError(
            f"{owner}: only in the schema {sorted(there - wanted)}, "
            f"only in the dataclass {sorted(wanted - there)}"
        )
