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
    roles = _ROLES.get(servers)
    meant = (s.id for s in view.servers.values() if roles is None or (s.alive and s.role in roles))
    return next(meant, None)


_ROLES = {
    Who.FOLLOWERS: {Role.FOLLOWER},
    Who.CANDIDATE: {Role.CANDIDATE, Role.PRE_CANDIDATE},
}
