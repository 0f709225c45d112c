"""The cluster as plain values with names, as conditions ask for them and scripts print them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from raft.core.events import Role
from raft.core.messages import AppendEntries
from raftviz.model.machine import command_text
from raftviz.model.view import ClusterView, Flight, OperationView, ServerView
from raftviz.model.words import kind_of, role_text

SERVER_NAME = re.compile(r"s[1-9][0-9]{0,3}")
"""``s1`` is the server with the id 1."""

NAMES = {
    "leader": "the id of the live leader of the highest term, 0 if there is none",
    "leaders": "how many live servers take themselves for the leader",
    "term": "the highest term of any server",
    "commit": "the highest commitIndex of any live server",
    "voters": "the ids of those who may vote, as a list",
    "learners": "the ids of those who get the log without a vote",
    "alive": "how many servers have a process (a paused one counts)",
    "time": "the cluster's time in seconds, as 1.5",
    "rate": "how fast that time runs, as 0.05; 0.0 is frozen",
    "servers": "all servers, as a list",
    "messages": "the messages on their way, as a list",
    "operations": "the puts, gets and deletes so far, as a list",
    "last": "the last of these operations",
    "start": "in the goal of a lesson: all of these as they were when its step began",
}
SERVER_FIELDS = {
    "id": "its number",
    "role": '"follower", "pre-candidate", "candidate", "leader", or "dead"',
    "term": "currentTerm",
    "voted_for": "whom it voted for in this term, 0 for nobody",
    "leader": "whom it takes for the leader, 0 for nobody",
    "alive": "whether it has a process",
    "paused": "whether its process is stopped",
    "log": "its entries, as a list: log[0] is the entry at index 1",
    "last_index": "the index of its last entry",
    "commit": "commitIndex",
    "applied": "lastApplied",
    "kv": 'what its state machine holds, as a map: s1.kv.x, or s1.kv["x"]',
    "votes": "the ids of those whose votes it has",
    "timer": "the seconds until its timer fires, as 0.2",
    "clock": "how fast its clock runs beside the cluster's, as 1.0",
    "broken": 'the rules that it breaks on purpose, as ["vote-twice"]',
}
OPERATION_FIELDS = {
    "id": "its number",
    "kind": '"put", "get" or "delete" ("" before the first)',
    "key": "the key",
    "value": "the value that was put",
    "server": "the server that was asked, 0 for whichever leads",
    "outcome": '"pending", "ok", "failed" or "unknown" ("none" before the first)',
    "found": "whether a get found the key",
    "answer": "what a get found",
}
MESSAGE_FIELDS = {
    "kind": '"request_vote", "vote_granted", "vote_refused", "heartbeat", "append", …',
    "src": "its sender",
    "dst": "its receiver",
    "term": "its term",
    "entries": "how many entries it carries",
}
ENTRY_FIELDS = {
    "index": "its place in the log",
    "term": "its term",
    "command": "its command, as x=1; no-op for the entry that a new leader appends",
}


def variables(view: ClusterView) -> dict[str, Any]:
    """Return all that a condition can ask about, as plain values that the view does not share."""
    values: dict[str, Any] = {name: value(view) for name, value in VALUES.items()}
    servers = view.servers.values()
    return values | {f"s{server.id}": server_values(server, view) for server in servers}


def server_values(server: ServerView, view: ClusterView) -> dict[str, Any]:
    """Return one server as ``SERVER_FIELDS`` says."""
    armed = server.timer_kind is not None
    return {
        "id": server.id,
        "role": role_text(server.role) if server.alive else "dead",
        "term": server.term,
        "voted_for": server.voted_for or 0,
        "leader": server.leader or 0,
        "alive": server.alive,
        "paused": server.paused,
        "log": [
            {"index": index, "term": entry.term, "command": command_text(entry)}
            for index, entry in enumerate(server.known, server.known_from)
        ],
        "last_index": server.last_index,
        "commit": server.commit_index,
        "applied": server.last_applied,
        "kv": {_text(key): _text(value) for key, value in server.kv.items()},
        "votes": list(server.granted),
        "timer": max(server.timer_deadline - view.time, 0.0) if armed else 0.0,
        "clock": server.clock,
        "broken": list(server.broken),
    }


def _operation(operation: OperationView | None) -> dict[str, Any]:
    if operation is None:
        return {
            **dict.fromkeys(("id", "server"), 0),
            **dict.fromkeys(("kind", "key", "value", "answer"), ""),
            "outcome": "none",
            "found": False,
        }
    outcome = operation.outcome
    return {
        "id": operation.id,
        "kind": operation.kind.name.lower(),
        "key": _text(operation.key),
        "value": _text(operation.value),
        "server": operation.server,
        "outcome": "pending" if outcome is None else outcome.name.lower(),
        "found": operation.found,
        "answer": _text(operation.answer),
    }


def _message(flight: Flight) -> dict[str, Any]:
    message = flight.message
    return {
        "kind": kind_of(message).name.lower(),
        "src": message.src,
        "dst": message.dst,
        "term": message.term,
        "entries": len(message.entries) if isinstance(message, AppendEntries) else 0,
    }


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _leaders(view: ClusterView) -> int:
    return sum(server.role is Role.LEADER for server in view.servers.values())


VALUES: dict[str, Callable[[ClusterView], Any]] = {
    "leader": lambda view: view.leader or 0,
    "leaders": _leaders,
    "term": lambda view: view.term,
    "commit": lambda view: view.commit_index,
    "voters": lambda view: list(view.configuration.voters),
    "learners": lambda view: list(view.configuration.learners),
    "alive": lambda view: sum(server.alive for server in view.servers.values()),
    "time": lambda view: view.time,
    "rate": lambda view: view.clock.rate,
    "servers": lambda view: [server_values(server, view) for server in view.servers.values()],
    "messages": lambda view: [_message(flight) for flight in view.flights.values()],
    "operations": lambda view: [_operation(known) for known in view.operations],
    "last": lambda view: _operation(view.operations[-1] if view.operations else None),
}


# --- Showing them ----------------------------------------------------------------------------


def shown(value: Any) -> str:
    """Return a value for a person to read; not yet safe for a terminal."""
    match value:
        case bool():
            return str(value).lower()
        case float():
            return str(round(value, 3))
        case str():
            return f'"{value}"'
        case list():
            return f"[{', '.join(map(shown, value))}]"
        case {"id": number, "role": role, "term": term}:
            return f"S{number} {role} term {term}"
        case {"index": index, "term": term, "command": command}:
            return f"{index}/{term} {command}"
        case {"kind": kind, "src": src, "dst": dst}:
            return f"{kind} S{src} → S{dst}"
        case dict():
            return "{" + ", ".join(f"{key}: {shown(part)}" for key, part in value.items()) + "}"
    return str(value)
