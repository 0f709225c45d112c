"""How long a server needs from its start until it serves, with a million entries in its log.

The log is written as a server writes it, by its own store, in saves of so many entries as one
fsync stored. Then the server is started, alone in its cluster, and asked for a key: the answer
is linearizable, so all of the log has been read, committed and applied when it comes::

    python -m tests.bench.restart [ENTRIES]

The processor time of reading the log alone is that of ``Wal.load`` in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from raft.client import Raft
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.machine.kv import Get, KeyValue, Put, Value, decode_answer, encode_command, encode_query
from raft.machine.sessions import Sessions
from raft.secret import read_secret, write_secret
from raft.storage.disk import RealDisk
from raft.storage.wal import Wal
from tests.bench.machine import asked, describe

ONE = ServerId(1)
KEYS = 100_000
SNAPSHOT_EVERY = 100_000


def entries(first: int, count: int) -> list[Entry]:
    """Return entries of a log, as clients make them."""
    return [
        Entry(
            Term(1),
            EntryKind.COMMAND,
            encode_command(Put(b"%06d" % (index % KEYS), b"%064d" % index)),
        )
        for index in range(first, first + count)
    ]


class QuickDisk(RealDisk):
    """A disk that need not be waited for: what matters is what is on it in the end."""

    def sync(self, file: int) -> None:
        """Wait for nothing."""


def build(directory: Path, count: int, together: int, snapshot_at: int) -> None:
    """Write a log of ``count`` entries, with a snapshot of all up to ``snapshot_at``."""
    wal = Wal(directory, "bench", ONE, QuickDisk())
    wal.load()
    wal.save(HardState(Term(1), ONE), Index(0), [])
    machine = Sessions(KeyValue())
    for first in range(1, count + 1, together):
        batch = entries(first, min(together, count + 1 - first))
        wal.save(None, Index(first), batch)
        if first <= snapshot_at:
            for index, entry in enumerate(batch, first):
                if index <= snapshot_at:
                    machine.apply(index, entry.data)
            if first + len(batch) > snapshot_at:
                members = Configuration((ONE,))
                taken = Snapshot(Index(snapshot_at), Term(1), members, machine.snapshot())
                wal.save(None, Index(0), [], taken)
    wal.close()


def load(directory: Path) -> None:
    """Read the log, and print what that took."""
    start = time.process_time(), time.perf_counter()
    wal = Wal(directory, "bench", ONE)
    found = wal.load()
    used, passed = time.process_time() - start[0], time.perf_counter() - start[1]
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"  the log alone: {passed:.2f} s, of them {used:.2f} s of processor time; "
        f"{len(found.entries):,} entries; {most:.0f} MB at most"
    )
    wal.close()


async def serve(directory: Path, secret: Path, last: int) -> None:
    """Start the server, and print how long it took until it listened, and until it served."""
    start = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "raft", "serve", "--id", "1", "--cluster", "bench"),
        *("--listen", "127.0.0.1:0", "--data", str(directory), "--secret-file", str(secret)),
        *("--snapshot-entries", str(10 * SNAPSHOT_EVERY)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        listening = time.perf_counter() - start
        address = json.loads(line)["address"]
        async with Raft({ONE: address}, "bench", read_secret(secret)) as raft:
            query = encode_query(Get(b"%06d" % (last % KEYS)))
            answer = decode_answer(await raft.read(query, timeout=120))
        serving = time.perf_counter() - start
        used = psutil.Process(process.pid).cpu_times()
        assert answer == Value(True, b"%064d" % last)
        print(
            f"  from the start: listens after {listening:.2f} s, serves after {serving:.2f} s; "
            f"{used.user + used.system:.2f} s of processor time"
        )
    finally:
        process.terminate()
        await process.wait()


def cases(count: int) -> Iterator[tuple[str, int, int]]:
    """Yield what is measured: in words, entries saved together, last entry of the snapshot."""
    last_snapshot = count - count % SNAPSHOT_EVERY or count
    if last_snapshot == count:
        last_snapshot -= min(count, SNAPSHOT_EVERY)
    yield f"a snapshot every {SNAPSHOT_EVERY:,} entries, the next one just due", 100, last_snapshot
    yield "no snapshot, 100 entries a save", 100, 0
    yield "no snapshot, 10 entries a save", 10, 0
    yield "no snapshot, one entry a save", 1, 0


def main() -> None:
    """Measure, and print."""
    count = asked(__doc__, "ENTRIES", int, 1_000_000)
    print(describe())
    with tempfile.TemporaryDirectory() as temporary:
        secret = Path(temporary) / "secret"
        write_secret(secret)
        for number, (words, together, snapshot_at) in enumerate(cases(count)):
            print(f"{count:,} entries; {words}:")
            directory = Path(temporary) / str(number)
            build(directory, count, together, snapshot_at)
            apart = multiprocessing.get_context("spawn").Process(target=load, args=(directory,))
            apart.start()
            apart.join()
            asyncio.run(serve(directory, secret, count))


if __name__ == "__main__":
    main()
