"""TCP between servers, and from clients and observers to servers.

Nothing here waits for anybody: a connection that cannot be written to keeps a bounded number
of bytes and then loses frames, whole ones, while every other connection goes on. A paused
process holds its connections and even accepts new ones, so that a peer is alive is only ever
known from what it says, never from its connection.

Bytes that cannot be understood, and frames that the proven caller may not send, close that
one connection with a logged reason.

====================  =============================================================
``addresses``         ``HOST:PORT``
``connection``        one end of a connection that carries frames
``listener``          the server's side: handshakes, limits, who may say what
``strangers``         what the server logs of those who prove nothing
``calling``           the caller's side
``link``              a server's way to a peer, opened again whenever it is lost
====================  =============================================================
"""

from raft.handshake import HandshakeError, Identity
from raft.transport.addresses import format_address, is_unspecified, parse_address
from raft.transport.calling import connect
from raft.transport.connection import Connection
from raft.transport.link import PeerLink
from raft.transport.listener import Handlers, Listener

__all__ = [
    "Connection",
    "Handlers",
    "HandshakeError",
    "Identity",
    "Listener",
    "PeerLink",
    "connect",
    "format_address",
    "is_unspecified",
    "parse_address",
]
