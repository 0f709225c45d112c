"""``raft inspect``: what a server has stored, in words. Nothing is changed, locked or repaired.

It may be read while the server runs: what is just being written is told from damage by
reading it once more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from raft.core.log import Snapshot
from raft.core.membership import Configuration, ConfigurationError
from raft.core.messages import Entry, EntryKind
from raft.machine.base import StateMachine
from raft.machine.kv import KeyValue, Pairs, Scan, decode_answer, describe, encode_query
from raft.machine.sessions import Sessions
from raft.printable import printable
from raft.storage.base import StorageError
from raft.storage.disk import RealDisk
from raft.storage.reading import (
    SET_ASIDE,
    SNAPSHOT_NAME,
    Damage,
    Reading,
    read_directory,
)
from raft.wire import DecodeError

FINE, DAMAGED, NO_DATA = 0, 1, 2
"""Exit statuses."""

SHOWN = 40
"""So many entries are shown unless a part of the log is asked for: the first and the last."""
_WIDTH = 60
_KEYS = 10
_ATTEMPTS = 5


def inspect(directory: Path, first: int | None = None, last: int | None = None) -> int:
    """Print what is stored, with the entries from ``first`` to ``last``; return the exit status."""
    try:
        reading = read_steadily(directory.absolute())
    except OSError as error:
        return _refuse(f"{error.filename or directory}: {error.strerror}")
    except StorageError as error:
        return _refuse(str(error))
    if reading.is_new:
        return _refuse(f"{directory}: no server has its log here")
    for line in lines(reading, first, last):
        print(line)
    return DAMAGED if damages(reading) else FINE


def _refuse(reason: str) -> int:
    print(f"raft inspect: {printable(reason)}", file=sys.stderr)
    return NO_DATA


def read_steadily(directory: Path) -> Reading:
    """Read a directory in which a server may be writing. Raises OSError, StorageError.

    Files come and go while it is read, which looks like damage; damage stays.
    """
    disk, before, gone = RealDisk(), None, None
    for _ in range(_ATTEMPTS):
        try:
            reading = read_directory(disk, directory)
        except FileNotFoundError as error:
            gone = error
            continue
        found = damages(reading)
        if not found or found == before:
            return reading
        before = found
    if gone is not None:
        raise gone
    return reading


def damages(reading: Reading) -> list[Damage]:
    """Return all that is damaged."""
    found = [reading.damage] if reading.damage else []
    vote = reading.vote
    return found + (reading.remarks() if vote is None or not vote.is_whole else [])


# --- In words ------------------------------------------------------------------------------------


def lines(reading: Reading, first: int | None = None, last: int | None = None) -> Iterator[str]:
    """Yield what is stored, line by line, with the entries from ``first`` to ``last``."""
    yield from _identity(reading)
    if reading.snapshot is not None:
        yield from _snapshot_lines(reading.snapshot)
    yield from _log_lines(reading)
    yield from _entry_lines(reading, first, last)
    if aside := sorted(name for name in reading.names if name.startswith(SET_ASIDE)):
        yield f"set aside after damage: {printable(', '.join(aside))}"
    for damage in damages(reading):
        yield printable(f"DAMAGED {damage}")


def _identity(reading: Reading) -> Iterator[str]:
    if reading.owner is None:
        yield "nothing tells whose directory this is"
    else:
        cluster, server = reading.owner
        yield f"server {server} of cluster {printable(cluster)}"
    state = reading.hard_state
    if state is None:
        yield "term and vote are not certain"
        return
    vote = f"voted for {state.voted_for}" if state.voted_for else "no vote given"
    yield f"term {state.term}, {vote}"
    if state.recovering:
        yield (
            "it lost entries, and does not vote until it has a committed one of "
            f"term {state.recovering} or later"
        )


def _snapshot_lines(snapshot: Snapshot) -> Iterator[str]:
    yield (
        f"{SNAPSHOT_NAME}{snapshot.index}: stands for the entries up to {snapshot.index}, "
        f"the last of term {snapshot.term}; {len(snapshot.data):,} bytes; "
        f"{_members(snapshot.configuration)}, by entry {snapshot.configuration_index}"
    )
    machine: StateMachine = Sessions(KeyValue())
    try:
        machine.restore(snapshot.data)
        answer = decode_answer(machine.query(encode_query(Scan(b"", limit=_KEYS))))
    except DecodeError:
        yield "  the state of a machine that is not the key-value one"
        return
    if isinstance(answer, Pairs):
        for pair in answer.pairs:
            yield f"  {printable(pair.key, _WIDTH)} = {printable(pair.value, _WIDTH)}"
        if answer.more:
            yield "  …"


def _members(configuration: Configuration) -> str:
    parts = []
    for name, servers in (
        ("voters", configuration.voters),
        ("voters before", configuration.outgoing),
        ("learners", configuration.learners),
    ):
        if servers:
            parts.append(f"{name} {' '.join(map(str, servers))}")
    parts += [f"{server} at {address}" for server, address in configuration.addresses]
    return printable(", ".join(parts))


def _log_lines(reading: Reading) -> Iterator[str]:
    first, count = reading.replay.first_index, len(reading.entries)
    if count:
        terms = [entry.term for entry in reading.entries]
        span = f"term {terms[0]}" if terms[0] == terms[-1] else f"terms {terms[0]} to {terms[-1]}"
        yield f"log: entries {first} to {first + count - 1}, {span}"
    else:
        yield f"log: no entries{f' behind {first - 1}' if first > 1 else ''}"
    for segment in reading.segments:
        yield (
            f"  {segment.path.name}: {segment.batches} batches in {segment.end:,} "
            f"of {len(segment.data):,} bytes"
        )
    if reading.torn:
        yield (
            f"  and behind them {reading.torn} bytes of a write that is not finished: by a crash, "
            "or a server is just writing. It was never acknowledged"
        )


def _entry_lines(reading: Reading, first: int | None, last: int | None) -> Iterator[str]:
    begin, count = reading.replay.first_index, len(reading.entries)
    end = begin + count - 1
    shown = range(max(begin, first or begin), min(end, end if last is None else last) + 1)
    if not shown:
        if first is not None or last is not None:
            yield "none of these entries is here"
        return
    yield "  index   term  kind           bytes"
    parts = [shown]
    if first is None and last is None and count > SHOWN:
        parts = [shown[: SHOWN // 2], shown[-SHOWN // 2 :]]
    for number, part in enumerate(parts):
        if number:
            yield f"      …  {count - SHOWN:,} more; --from and --to show them"
        for index in part:
            yield _entry_line(index, reading.entries[index - begin])


def _entry_line(index: int, entry: Entry) -> str:
    kind = entry.kind.name.lower()
    words = ""
    if entry.kind is EntryKind.COMMAND:
        words = printable(describe(entry.data), _WIDTH)
    elif entry.kind is EntryKind.CONFIGURATION:
        try:
            words = _members(Configuration.decode(entry.data))
        except ConfigurationError as error:
            words = printable(str(error))
    return f"{index:7}  {entry.term:5}  {kind:13}  {len(entry.data):5}  {words}".rstrip()
