"""``raft serve``: one server as a process of its own, from its first line to its exit status."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from raft.core.rules import Rules
from raft.loops import new_event_loop
from raft.machine.base import StateMachineError
from raft.machine.kv import KeyValue
from raft.printable import printable
from raft.server import Server, ServerConfig
from raft.storage.base import StorageError
from raft.storage.faulty import FaultyDisk
from raft.storage.founders import check_founders
from raft.storage.wal import SEGMENT_BYTES, Wal
from raft.transport.listener import require_free

STOPPED, FAILED, STORAGE_UNUSABLE = 0, 1, 3
"""Exit statuses."""

ATTENDED_SEGMENT_BYTES = 16 * 1024
"""Of an attended server's log: so small that a disk that is full shows soon."""

_log = logging.getLogger(__name__)


class _OneLine(logging.Formatter):
    """One record is one line, and whatever it quotes is made visible."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def serve(config: ServerConfig, data: Path, broken: Sequence[str] = ()) -> int:
    """Run a server until it is told to stop (SIGTERM, SIGINT) and return the exit status.

    A leader hands its leadership over first; a second signal stops it at once.
    The first line on standard output says, as JSON, who listens where; everything else is
    logged to standard error. An attended server also stops when its standard input ends, has
    a disk that fails when an observer says so, and may break rules (``raft.testing.catalogue``)
    that are named in ``broken``.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if config.attended:
        _die_with_parent()
    disk = FaultyDisk() if config.attended else None
    rules, store = _rules(broken)
    try:
        # Before the directory is, for good, that of a server which cannot run like this.
        asyncio.run(require_free(config.listen, config.secret))
    except (OSError, ValueError) as error:
        return _cannot_listen(config, error)
    try:
        me = config.core.server
        room = ATTENDED_SEGMENT_BYTES if config.attended else SEGMENT_BYTES
        wal = store(data, config.cluster, me, disk, members=config.core.members, segment_bytes=room)
    except StorageError as error:
        _log.error("%s", error)
        return STORAGE_UNUSABLE
    try:
        server = Server(config, wal, KeyValue(), rules, disk)
        check_founders(data, server.core, disk)
        _report_recovery(server, wal)
        gc.freeze()  # the modules and the log that was read are no garbage: never look at them
        # A server of a laboratory starts while a person waits, and has little to do.
        loop = asyncio.new_event_loop if config.attended else new_event_loop
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(_run(server, config))
    except StorageError as error:
        _log.error("%s", error)
        return STORAGE_UNUSABLE
    except StateMachineError as error:
        _log.critical(
            "server %d cannot go on: %s", config.core.server, error, exc_info=error.__cause__
        )
        return FAILED
    except Exception:
        # A bug: to go on could break a promise.
        _log.critical("server %d cannot go on", config.core.server, exc_info=True)
        return FAILED
    finally:
        wal.close()


def _rules(broken: Sequence[str]) -> tuple[Rules, type[Wal]]:
    if not broken:
        return Rules(), Wal
    from raft.testing import catalogue

    _log.warning("broken on purpose: %s", ", ".join(broken))
    found = catalogue.broken(broken)
    return found.rules, found.store


def _report_recovery(server: Server, wal: Wal) -> None:
    for notice in wal.notices:
        _log.error("%s", notice)
    if wal.dropped_tail:
        _log.warning("%s: dropped %d bytes of an unfinished write", wal.path, wal.dropped_tail)
    core = server.core
    if core.recovering and not wal.notices:
        _log.warning("%s: the log is still being got back from the other servers", wal.path)
    count = core.log.last_index - core.log.prev_index
    behind = f" behind a snapshot up to {core.snapshot.index}" if core.snapshot else ""
    _log.info("%s: term %d, %d entries%s", wal.path, core.term, count, behind)


async def _run(server: Server, config: ServerConfig) -> int:
    try:
        address = await server.start()
    except (OSError, ValueError) as error:
        return _cannot_listen(config, error)
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, server.leave)
    if config.attended:
        _stop_when_input_ends(loop, server)
    status = _announce(config, address)
    if status != STOPPED:
        server.stop()
    await server.run()
    return status


def _announce(config: ServerConfig, address: str) -> int:
    announcement = {"server": config.core.server, "pid": os.getpid(), "address": address}
    try:
        print(json.dumps(announcement), flush=True)
    except OSError as error:
        _log.error("cannot say where this server listens: %s", error.strerror)
        return FAILED
    return STOPPED


def _cannot_listen(config: ServerConfig, error: OSError | ValueError) -> int:
    reason = error.strerror if isinstance(error, OSError) else None
    _log.error("cannot listen at %s: %s", config.listen, reason or error)
    return FAILED


def _stop_when_input_ends(loop: asyncio.AbstractEventLoop, server: Server) -> None:
    """Stop when whoever started us lets go of our standard input, or dies."""
    standard_input = sys.stdin.fileno()

    def read() -> None:
        if not os.read(standard_input, 4096):
            loop.remove_reader(standard_input)
            server.stop()

    try:
        loop.add_reader(standard_input, read)
    except PermissionError:  # a file, or /dev/null: nobody is at the other end
        server.stop()


def _die_with_parent() -> None:
    """Ask Linux for SIGKILL when our parent dies: a stopped process cannot see its input end."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
