"""Whom a command means: servers by number or by what they are at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from raft.core.events import Role
from raft.core.messages import ServerId
from raftviz.commands import Servers, Who
from raftviz.model.link_rules import CLIENT
from raftviz.model.link_words import end_text
from raftviz.model.view import ClusterView


class RefusedError(Exception):
    """A command cannot be carried out, and nothing was changed; the message says why."""


def resolve(servers: Servers, view: ClusterView) -> tuple[ServerId, ...]:
    """Return the servers that are meant. Raises RefusedError if there is none of that kind."""
    match servers:
        case Who.ALL:
            return tuple(view.servers)
        case Who.LEADER:
            if view.leader is None:
                raise RefusedError("nobody leads at the moment")
            return (view.leader,)
        case Who.FOLLOWERS:
            return _in_role({Role.FOLLOWER}, "there is no live follower at the moment", view)
        case Who.CANDIDATE:
            campaigning = {Role.CANDIDATE, Role.PRE_CANDIDATE}
            return _in_role(campaigning, "there is no candidate at the moment", view)
    for server in servers:
        if server not in view.servers and server != CLIENT:
            raise RefusedError(f"there is no S{server}; the servers are {names(view.servers)}")
    return tuple(dict.fromkeys(servers))


def fit(
    servers: Servers, view: ClusterView, why_not: Callable[[ServerId], str | None]
) -> tuple[ServerId, ...]:
    """Return the servers that are meant and for which ``why_not`` finds nothing against it.

    Of servers named by number each must be fit; of a whole kind it is enough if one is.
    Raises RefusedError with what stands against it.
    """
    chosen = resolve(servers, view)
    objections = {server: why_not(server) for server in chosen}
    unfit = [text for text in objections.values() if text is not None]
    if unfit and (not isinstance(servers, Who) or len(unfit) == len(chosen)):
        raise RefusedError("; ".join(unfit))
    return tuple(server for server in chosen if objections[server] is None)


def names(servers: Iterable[ServerId]) -> str:
    """Return ``S1, S2 and S3``."""
    *others, last = map(end_text, servers)
    return f"{', '.join(others)} and {last}" if others else last


def _in_role(roles: set[Role], nobody: str, view: ClusterView) -> tuple[ServerId, ...]:
    found = tuple(s.id for s in view.servers.values() if s.alive and s.role in roles)
    if not found:
        raise RefusedError(nobody)
    return found
