"""Bytes of every message: as it travels, packed as Cap'n Proto can, and as compact JSON.

    python -m tests.bench.wire

Terms and indexes are those of a cluster that has run for a while, values have 64 bytes. JSON has
the same names and numbers, and byte strings in base64.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from raft.core.messages import (
    Appended,
    AppendEntries,
    AppendEntriesReply,
    Entry,
    Granted,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
    TimeoutNow,
)
from raft.frames import (
    ClientReply,
    ClientRequest,
    Frame,
    Proposals,
    Propose,
    Queries,
    Result,
    Results,
)
from raft.wire import encode, load_schema

ONE, TWO = ServerId(1), ServerId(2)
TERM, INDEX, BEFORE = Term(12), Index(1_234_567), Index(1_234_566)
VALUE = bytes(range(64))
IDS = tuple(range(50_001, 50_101))

MESSAGES: tuple[tuple[str, Frame], ...] = (
    ("heartbeat", AppendEntries(ONE, TWO, TERM, INDEX, TERM, (), INDEX, 4321)),
    ("its answer", AppendEntriesReply(TWO, ONE, TERM, Appended(INDEX), 4321, 150)),
    ("vote", RequestVote(ONE, TWO, TERM, INDEX, TERM)),
    ("its answer", RequestVoteReply(TWO, ONE, TERM, Granted())),
    ("pre-vote", RequestPreVote(ONE, TWO, TERM, INDEX, TERM)),
    ("its answer", RequestPreVoteReply(TWO, ONE, TERM, TERM, Granted())),
    *(
        (f"append {count}", AppendEntries(ONE, TWO, TERM, INDEX, TERM, entries, BEFORE, 4321))
        for count in (1, 10, 100)
        for entries in [tuple(Entry(TERM, data=VALUE) for _ in range(count))]
    ),
    ("snapshot", InstallSnapshot(ONE, TWO, TERM, INDEX, TERM, b"{}", 64, 99, 0, VALUE, 4321)),
    ("its answer", InstallSnapshotReply(TWO, ONE, TERM, INDEX, 64, True, 4321, 150)),
    ("read index", ReadIndex(TWO, ONE, TERM, 2**63 + 12345)),
    ("its answer", ReadIndexReply(ONE, TWO, TERM, 2**63 + 12345, INDEX)),
    ("timeout now", TimeoutNow(ONE, TWO, TERM)),
    ("proposal", ClientRequest(50_001, Propose(VALUE))),
    ("its answer", ClientReply(50_001, Result(VALUE[:24]), Index(9))),
    ("proposals 100", Proposals(IDS, (VALUE,) * 100)),
    ("queries 100", Queries(IDS, (VALUE[:24],) * 100)),
    ("results 100", Results(IDS, (VALUE[:24],) * 100, Index(9))),
)


def as_json(frame: Frame) -> bytes:
    """Return the frame as compact JSON."""
    fields = {"type": type(frame).__name__, **_plain(frame)}
    return json.dumps(fields, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if dataclasses.is_dataclass(value):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        # Who is one of several says so; the names of the others say it already.
        return {"type": type(value).__name__, **fields} if _is_choice(value) else fields
    return value


def _is_choice(value: object) -> bool:
    return not isinstance(value, Entry | Message)


def packed(frame: Frame) -> bytes:
    """Return the frame in Cap'n Proto's packed encoding."""
    with load_schema("raft").Envelope.from_bytes(encode(frame)) as reader:
        return bytes(reader.as_builder().to_bytes_packed())


def rows() -> Iterator[tuple[str, int, int, int]]:
    """Yield for each message its name, and its bytes: plain, packed, JSON."""
    for name, frame in MESSAGES:
        yield name, len(encode(frame)), len(packed(frame)), len(as_json(frame))


def main() -> None:
    print(f"{'message':16}{'plain':>8}{'packed':>8}{'JSON':>8}{'packed/JSON':>13}")
    for name, plain, small, text in rows():
        print(f"{name:16}{plain:8}{small:8}{text:8}{100 * small / text:11.0f} %")


if __name__ == "__main__":
    main()
