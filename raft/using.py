"""The commands of ``raft`` that ask a cluster, or change it: ask, and print the answer."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TypeVar

from raft.client import Raft
from raft.codec import DecodeError
from raft.core.messages import ServerId
from raft.errors import RaftError, RefusedError, UnreachableError
from raft.frames import Consistency, Members, Status
from raft.machine.kv import (
    NOTHING,
    Answer,
    Append,
    Cas,
    Command,
    Delete,
    Done,
    Failed,
    Get,
    Increment,
    Number,
    Pairs,
    Put,
    Query,
    Scan,
    TooLongError,
    Value,
    decode_answer,
    encode_command,
    encode_query,
)
from raft.printable import printable

Kind = TypeVar("Kind", bound=Answer)


class CannotError(Exception):
    """The request makes no sense, or the answer is not what was asked for."""


def use(raft: Raft, options: Namespace) -> None:
    """Carry out ``options.command`` and print the answer. Raises RaftError, CannotError."""
    operation = _OPERATIONS[options.command]

    async def work() -> None:
        async with raft:
            await operation(raft, options)

    try:
        asyncio.run(work())
    except TooLongError as error:
        raise CannotError(str(error)) from None
    except DecodeError as error:
        raise CannotError(f"the cluster's answer makes no sense: {error}") from None


# --- Keys and values -------------------------------------------------------------------------


async def _put(raft: Raft, options: Namespace) -> None:
    if options.new:
        await _swap(raft, options, NOTHING)
    else:
        await _change(raft, options, Put(options.key, options.value), Done)


async def _delete(raft: Raft, options: Namespace) -> None:
    await _change(raft, options, Delete(options.key), Done)


async def _cas(raft: Raft, options: Namespace) -> None:
    await _swap(raft, options, Value(True, options.expected))


async def _append(raft: Raft, options: Namespace) -> None:
    await _change(raft, options, Append(options.key, options.value), Number)


async def _incr(raft: Raft, options: Namespace) -> None:
    command = Increment(options.key, options.amount)
    print((await _change(raft, options, command, Number)).number)


async def _swap(raft: Raft, options: Namespace, expected: Value) -> None:
    command = encode_command(Cas(options.key, expected, options.value))
    data = await raft.propose(command, options.timeout)
    if decode_answer(data) == Done():
        return
    held, key = _wanted(data, Value), printable(options.key)
    raise CannotError(f"{key} holds {printable(held.value)}" if held.found else _no_key(key))


def _no_key(key: str) -> str:
    return f"there is no key {key}"


async def _change(raft: Raft, options: Namespace, command: Command, wanted: type[Kind]) -> Kind:
    return _wanted(await raft.propose(encode_command(command), options.timeout), wanted)


def _wanted(data: bytes, wanted: type[Kind]) -> Kind:
    answer = decode_answer(data)
    if isinstance(answer, Failed):
        raise CannotError(answer.detail)
    if not isinstance(answer, wanted):
        raise CannotError(f"the cluster answered {answer}")
    return answer


async def _ask(raft: Raft, options: Namespace, query: Query, wanted: type[Kind]) -> Kind:
    consistency = Consistency[options.consistency]
    asked = raft.read(encode_query(query), options.timeout, consistency=consistency)
    return _wanted(await asked, wanted)


async def _scan(raft: Raft, options: Namespace) -> None:
    """Print page after page; each is from one moment, but not all from the same."""
    start, left = b"", options.limit
    while True:
        page = await _ask(raft, options, Scan(options.prefix, start, left), Pairs)
        for pair in page.pairs:
            print(f"{printable(pair.key)}\t{printable(pair.value)}")
        left = max(0, left - len(page.pairs))
        if not page.more or (options.limit and not left):
            return
        start = page.pairs[-1].key + b"\0"  # the very next key that can be


async def _get(raft: Raft, options: Namespace) -> None:
    answer = await _ask(raft, options, Get(options.key), Value)
    if not answer.found:
        raise CannotError(_no_key(printable(options.key)))
    if sys.stdout.isatty():
        print(printable(answer.value))
    else:
        sys.stdout.buffer.write(answer.value)
        sys.stdout.flush()


# --- Servers ---------------------------------------------------------------------------------


async def _status(raft: Raft, options: Namespace) -> None:
    async def ask(server: ServerId) -> Status | UnreachableError:
        try:
            return await raft.status(server, options.timeout)
        except UnreachableError as error:
            return error

    # Members that were added since may be missing among the servers that we were told of.
    with contextlib.suppress(RaftError):
        await raft.members(min(options.timeout, _LEARN_SECONDS))
    servers = sorted(raft.servers.items())
    answers = await asyncio.gather(*(ask(server) for server, _ in servers))
    rows = [_STATUS]
    for (server, address), answer in zip(servers, answers, strict=True):
        rows.append([str(server), address, *_in_words(address, answer)])
    _print_table(rows)
    if all(isinstance(answer, UnreachableError) for answer in answers):
        raise CannotError("no server answered")


_LEARN_SECONDS = 1.0
_STATUS = [
    *("server", "address", "role", "term", "vote", "leader"),
    *("last", "commit", "applied", "snapshot", "members"),
]


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
        answer.snapshot_index or None,
    )
    role = answer.role.name.lower().replace("_", "-")
    role += ", recovering" if answer.recovering else ""
    return [role, *("-" if n is None else str(n) for n in numbers), _members_in_words(answer)]


def _members_in_words(known: Status | Members) -> str:
    """Return ``1 2 3``, with learners as ``4?``; joint: ``1 2 3 → 1 2 4``."""
    voters = [str(server) for server in known.voters]
    learners = [f"{server}?" for server in known.learners]
    before = [*map(str, known.outgoing), "→"] if known.outgoing else []
    return " ".join([*before, *voters, *learners]) or "none yet"


async def _transfer(raft: Raft, options: Namespace) -> None:
    leader = await raft.transfer_leadership(options.id, options.timeout)
    print(f"server {leader} leads")


async def _snapshot(raft: Raft, options: Namespace) -> None:
    if options.id is not None and options.id not in raft.servers:
        # A member that was added since may be missing among the servers that we were told of.
        await raft.members(options.timeout)
        if options.id not in raft.servers:
            raise CannotError(f"server {options.id} is no member of the cluster")
    index = await raft.snapshot(options.id, options.timeout)
    print(f"the snapshot stands for the log up to {index}" if index else "nothing is applied yet")


# --- Members ---------------------------------------------------------------------------------


async def _members(raft: Raft, options: Namespace) -> None:
    _print_members(await raft.members(options.timeout))


def _print_members(members: Members) -> None:
    addresses = {known.server: known.address for known in members.addresses}
    logs = {
        known.follower: f"{known.match_index} of {members.last_index}" for known in members.progress
    }
    rows = [["server", "address", "part", "log"]]
    for server in sorted({*members.voters, *members.outgoing, *members.learners}):
        log = str(members.last_index) if server == members.leader else logs.get(server, "-")
        rows.append([str(server), addresses.get(server, "-"), _part(server, members), log])
    _print_table(rows)
    if not members.committed:
        print("the last change is not committed yet")


def _part(server: ServerId, members: Members) -> str:
    """Return what a server is in the cluster; while the configuration is joint, what it becomes."""
    voter = server in members.voters
    if members.outgoing and voter != (server in members.outgoing):
        return (
            "becomes voter"
            if voter
            else "leaves"
            if server not in members.learners
            else "becomes learner"
        )
    part = "voter" if voter else "learner"
    return f"{part}, leads" if server == members.leader else part


async def _add(raft: Raft, options: Namespace) -> None:
    server, address = options.id, options.address
    members = await raft.members(options.timeout)
    known = {member.server: member.address for member in members.addresses}.get(server, address)
    if known != address:
        raise CannotError(
            f"server {server} is a member already, at {known}: "
            "a new server needs a number that none ever had"
        )
    at = {member.address: member.server for member in members.addresses}.get(address, server)
    if at != server:
        raise CannotError(f"server {at} is at {address} already: a new one listens elsewhere")
    if server in members.voters:
        print(f"server {server} is a voter already")
    else:
        members = await raft.add_learner(server, address, options.timeout)
        print(f"server {server} is a learner", flush=True)
        if not options.learner:
            print("waiting until it has the log", flush=True)
            members = await raft.add(server, address, options.timeout)
            print(f"server {server} is a voter")
    _print_members(members)


async def _promote(raft: Raft, options: Namespace) -> None:
    _print_members(await raft.promote(options.id, options.timeout))


async def _demote(raft: Raft, options: Namespace) -> None:
    _print_members(await raft.demote(options.id, options.timeout))


async def _remove(raft: Raft, options: Namespace) -> None:
    before = await raft.members(options.timeout)
    if options.id not in {*before.voters, *before.outgoing, *before.learners}:
        raise CannotError(f"server {options.id} is no member: there is nothing to remove")
    members = await raft.remove(options.id, options.timeout)
    print(f"server {options.id} is not a member any more; its process may be stopped")
    _print_members(members)


_OPERATIONS = {
    "put": _put,
    "get": _get,
    "delete": _delete,
    "cas": _cas,
    "append": _append,
    "incr": _incr,
    "scan": _scan,
    "status": _status,
    "members": _members,
    "add": _add,
    "promote": _promote,
    "demote": _demote,
    "remove": _remove,
    "transfer": _transfer,
    "snapshot": _snapshot,
}


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its widest cell that has another one to its right."""
    widths = [0] * max(map(len, rows))
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            widths[column] = max(widths[column], len(cell))
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        print(printable("  ".join(cells).rstrip()))
