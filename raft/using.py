"""``raft put``, ``get``, ``delete``, ``status``: ask a cluster, and print its answer."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Sequence

from raft.client import Raft
from raft.codec import DecodeError
from raft.core.messages import ServerId
from raft.errors import RefusedError, UnreachableError
from raft.frames import Status
from raft.machine.kv import (
    Command,
    Delete,
    Done,
    Get,
    Put,
    TooLongError,
    Value,
    decode_answer,
    encode_command,
    encode_query,
)
from raft.printable import printable


class CannotError(Exception):
    """The request makes no sense, or the answer is not what was asked for."""


def use(raft: Raft, options: Namespace) -> None:
    """Carry out ``options.command`` and print the answer. Raises RaftError, CannotError."""
    operation = {"put": _put, "get": _get, "delete": _delete, "status": _status}[options.command]

    async def work() -> None:
        async with raft:
            await operation(raft, options)

    try:
        asyncio.run(work())
    except TooLongError as error:
        raise CannotError(str(error)) from None
    except DecodeError as error:
        raise CannotError(f"the cluster's answer makes no sense: {error}") from None


async def _put(raft: Raft, options: Namespace) -> None:
    await _change(raft, options, Put(options.key, options.value))


async def _delete(raft: Raft, options: Namespace) -> None:
    await _change(raft, options, Delete(options.key))


async def _change(raft: Raft, options: Namespace, command: Command) -> None:
    answer = decode_answer(await raft.propose(encode_command(command), options.timeout))
    if answer != Done():
        raise CannotError(f"the cluster answered {answer}")


async def _get(raft: Raft, options: Namespace) -> None:
    answer = decode_answer(await raft.read(encode_query(Get(options.key)), options.timeout))
    if not isinstance(answer, Value):
        raise CannotError(f"the cluster answered {answer}")
    if not answer.found:
        raise CannotError(f"there is no key {printable(options.key)}")
    if sys.stdout.isatty():
        print(printable(answer.value))
    else:
        sys.stdout.buffer.write(answer.value)
        sys.stdout.flush()


async def _status(raft: Raft, options: Namespace) -> None:
    async def ask(server: ServerId) -> Status | UnreachableError:
        try:
            return await raft.status(server, options.timeout)
        except UnreachableError as error:
            return error

    answers = await asyncio.gather(*map(ask, raft.servers))
    rows = [["server", "address", "role", "term", "vote", "leader", "last", "commit", "applied"]]
    for (server, address), answer in zip(raft.servers.items(), answers, strict=True):
        rows.append([str(server), address, *_in_words(address, answer)])
    _print_table(rows)
    if all(isinstance(answer, UnreachableError) for answer in answers):
        raise CannotError("no server answered")


def _in_words(address: str, answer: Status | UnreachableError) -> list[str]:
    if isinstance(answer, UnreachableError):
        reason = answer.reason.removeprefix(f"{address}: ")
        return [reason if isinstance(answer, RefusedError) else f"unreachable: {reason}"]
    numbers = (
        answer.term,
        answer.voted_for,
        answer.leader,
        answer.last_index,
        answer.commit_index,
        answer.last_applied,
    )
    return [answer.role.name.lower(), *("-" if n is None else str(n) for n in numbers)]


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its widest cell that has another one to its right."""
    widths = [0] * len(rows[0])
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths[column], len(cell))
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print(printable("  ".join(cells).rstrip()))
