"""Which server somebody means who names it by its role."""

from __future__ import annotations

from raft.core.events import Role
from raft.core.messages import ServerId
from raftviz.commands import Servers, Who
from raftviz.model.view import ClusterView


def select(servers: Servers, view: ClusterView) -> ServerId | None:
    """Return the first server that is meant, None when nobody is."""
    if not isinstance(servers, Who):
        return next((server for server in servers if server in view.servers), None)
    if servers is Who.LEADER:
        return view.leader
    role = {Who.FOLLOWERS: Role.FOLLOWER, Who.CANDIDATE: Role.CANDIDATE}.get(servers)
    meant = (s.id for s in view.servers.values() if role is None or (s.alive and s.role is role))
    return next(meant, None)
