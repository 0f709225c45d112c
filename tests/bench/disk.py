"""What a save costs: beside one write and one fsync of the same bytes, and without the disk.

Saves of so many entries of 64 bytes go to a log in a directory of the disk that is given (by
default the current one); in turn with them the bytes that a save writes go to a plain file,
into zeros that are there, with one ``fdatasync``. The ratio says what the log adds.

    python -m tests.bench.disk [DIRECTORY]
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from raft.core.log import HardState
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.storage.log_file import encode_batch, encode_body
from raft.storage.wal import Wal
from tests.bench.machine import asked, describe, quantile

SIZE = 64
ROUNDS = 300
PLAIN_BYTES = 64 * 1024 * 1024


def batch(count: int) -> list[Entry]:
    """Return so many entries of random bytes."""
    return [Entry(Term(1), EntryKind.COMMAND, os.urandom(SIZE)) for _ in range(count)]


def encoding(count: int) -> float:
    """Return the processor time that the bytes of a save take, in seconds."""
    entries, rounds = batch(count), max(1, 100_000 // count)
    start = time.process_time()
    for _ in range(rounds):
        encode_batch(0, Index(1), encode_body(None, None, entries), 1, 1)
    return (time.process_time() - start) / rounds


def saves(directory: Path, count: int) -> tuple[list[float], list[float]]:
    """Return how long saves took, and plain writes of the same bytes, in seconds."""
    entries = batch(count)
    data = encode_batch(0, Index(1), encode_body(None, None, entries), 1, 1)[0]
    wal = Wal(directory / f"log-of-{count}", "bench", ServerId(1))
    wal.load()
    wal.save(HardState(Term(1)), Index(0), [])
    plain = os.open(directory / "plain", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    os.pwrite(plain, bytes(PLAIN_BYTES), 0)
    os.fsync(plain)
    ours, theirs, index, offset = [], [], 1, 0
    for _ in range(ROUNDS):
        start = time.perf_counter()
        wal.save(None, Index(index), entries)
        middle = time.perf_counter()
        os.pwrite(plain, data, offset)
        os.fdatasync(plain)
        end = time.perf_counter()
        ours.append(middle - start)
        theirs.append(end - middle)
        index, offset = index + count, offset + len(data)
    os.close(plain)
    wal.close()
    return ours, theirs


def main() -> None:
    """Measure, and print a table."""
    where = asked(__doc__, "DIRECTORY", Path, Path())
    print(describe())
    print(
        "entries  encoding, µs an entry  save, µs  plain, µs  ratio  90 %: save  plain  mean ratio"
    )
    for count in (1, 10, 100, 1000):
        cost = encoding(count) / count * 1e6
        with tempfile.TemporaryDirectory(dir=where) as directory:
            ours, theirs = (sorted(values) for values in saves(Path(directory), count))
        one, other = quantile(ours, 0.5), quantile(theirs, 0.5)
        print(
            f"{count:7}  {cost:22.2f}  {one * 1e6:8.0f}  {other * 1e6:9.0f}  {one / other:5.2f}"
            f"  {quantile(ours, 0.9) * 1e6:10.0f}  {quantile(theirs, 0.9) * 1e6:5.0f}"
            f"  {sum(ours) / sum(theirs):10.2f}"
        )


if __name__ == "__main__":
    main()
