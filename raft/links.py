"""The ways to the other servers: one link to each, opened and closed as the cluster changes.

::

    configuration   1 2 3 ──▶ 1 2 3 4 appended ──▶ committed     from the moment it is appended
    links of S1       2 3       2 3 4                2 3 4
    configuration             1 2 4 appended   ──▶ committed     a link outlives its server's
    links of S1                 2 3 4                2   4       membership until that is certain

A server outside of the configuration is answered, too, as long as it calls: one of the two may
not have heard yet that it belongs to the cluster (thesis §4.1).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from raft.core.membership import Configuration
from raft.core.messages import AppendEntries, Message, ServerId
from raft.handshake import Identity
from raft.printable import printable
from raft.transport import PeerLink, parse_address
from raft.wire import Copies

_log = logging.getLogger(__name__)


class Links:
    """The links of one server.

    ``addresses`` are those that its owner gave: they count more than the configuration's.
    """

    def __init__(self, me: ServerId, addresses: Mapping[ServerId, str]) -> None:
        self._me = me
        self._given = dict(addresses)
        self._configuration = Configuration(())
        self._members: frozenset[ServerId] = frozenset()
        self._settled = False
        self._callers: dict[ServerId, str] = {}
        self._links: dict[ServerId, PeerLink] = {}
        self._identity: Identity | None = None
        self._sent_before = 0
        self._copies = Copies()

    def start(self, identity: Identity) -> None:
        """Begin to call the others, as ``identity``."""
        self._identity = identity
        self._open_and_close()

    def close(self) -> None:
        """Close all links for good."""
        self._identity = None
        for link in self._links.values():
            link.close()

    @property
    def messages_sent(self) -> int:
        """Messages that went out so far, over links that are closed by now, too."""
        return self._sent_before + sum(link.messages_sent for link in self._links.values())

    def send(self, message: Message) -> None:
        """Send a message; without a link to its destination it is lost."""
        if (link := self._links.get(message.dst)) is None:
            return
        if isinstance(message, AppendEntries) and message.entries:
            link.send(self._copies.encode(message))
        else:
            link.send(message)

    def flush(self) -> None:
        """Let what was sent leave now, and not when the loop comes round."""
        for link in self._links.values():
            link.flush()

    def follow(self, configuration: Configuration, *, committed: bool) -> None:
        """Keep links to the members of this configuration.

        Until it is ``committed`` the one before it may come back, so its links stay.
        """
        if configuration is self._configuration and committed == self._settled:
            return
        members = frozenset(configuration.members)
        self._members = members if committed else self._members | members
        self._configuration, self._settled = configuration, committed
        self._open_and_close()

    def attached(self, peer: ServerId, address: str) -> None:
        """Note that a peer called us, who says that it listens at ``address``.

        It is up again, however long it was away, so it is called back at once.
        """
        self._callers[peer] = address
        self._open_and_close()
        if (link := self._links.get(peer)) is not None:
            link.wake()

    def lost(self, peer: ServerId) -> None:
        """Note that a peer's connection to us is gone."""
        self._callers.pop(peer, None)
        self._open_and_close()

    def _open_and_close(self) -> None:
        if self._identity is None:
            return
        wanted = (self._members | self._callers.keys()) - {self._me}
        for peer in self._links.keys() - wanted:
            link = self._links.pop(peer)
            self._sent_before += link.messages_sent
            # Whoever comes back under this number may listen elsewhere.
            self._given.pop(peer, None)
            link.close()
        for peer in sorted(wanted - self._links.keys()):
            address = self._address(peer)
            if address is not None:
                self._links[peer] = link = PeerLink(self._identity, peer, address)
                link.start()

    def _address(self, peer: ServerId) -> str | None:
        said = self._callers.get(peer, "")
        address = self._given.get(peer) or self._configuration.address(peer) or said
        try:
            parse_address(address)
        except ValueError as error:
            _log.warning("server %d cannot be called: %s", peer, printable(str(error), 200))
            return None
        return address
