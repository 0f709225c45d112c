"""The laboratory process: ``python -m raftviz.lab``, started by ``LabClient.spawn``.

Its options come as one JSON line on standard input, and its one line of output says where
viewers attach. It ends when standard input does, so that it cannot outlive whoever started
it, and on SIGTERM, SIGINT and SIGHUP; it stops every server before that.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from raftviz.lab.api import LabOptions
from raftviz.lab.laboratory import Laboratory
from raftviz.lab.run_directory import RunDirectory
from raftviz.lab.supervisor import ServerStartError

MAX_FILES = 8192
"""Enough for the connections of the largest lab, three times over."""


def main() -> int:
    """Run a laboratory and return the exit status."""
    try:
        options = LabOptions.from_json(sys.stdin.buffer.readline())
    except ValueError as error:
        print(f"unusable options: {error}", file=sys.stderr)
        return 2
    _allow_files()
    failures: list[BaseException] = []
    try:
        asyncio.run(_live(options))
    except* (ServerStartError, OSError) as errors:
        failures.append(_first(errors))
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _allow_files() -> None:
    """Allow as many open files as the system does: each link of a lab is two connections."""
    most, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limit if limit != resource.RLIM_INFINITY else max(most, MAX_FILES)
    with suppress(ValueError, OSError):  # some systems promise more than they give
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, MAX_FILES), limit))


async def _live(options: LabOptions) -> None:
    run = RunDirectory(options.directory)
    try:
        laboratory = Laboratory(options, run)
        life = asyncio.create_task(
            laboratory.live(ready=lambda: _announce(run), abandoned=lambda: stop())
        )
        stop = functools.cache(life.cancel)  # once: a second time would disturb the cleaning up
        _stop_when_unwanted(stop)
        await asyncio.wait({life})
        if not life.cancelled():
            life.result()
    finally:
        run.remove()


def _announce(run: RunDirectory) -> None:
    print(json.dumps({"socket": str(run.socket)}), flush=True)


def _stop_when_unwanted(stop: Callable[[], object]) -> None:
    """Stop on a signal, and when whoever started the lab lets go of its standard input."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    owner = sys.stdin.fileno()

    def read() -> None:
        if not os.read(owner, 4096):
            loop.remove_reader(owner)
            stop()

    try:
        loop.add_reader(owner, read)
    except PermissionError:  # a file: nobody is at the other end
        stop()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
