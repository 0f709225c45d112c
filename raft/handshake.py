"""How both ends of a connection prove that they belong to the cluster, without a socket.

Either both know the cluster's secret. ``schemas/README.md`` gives the exact bytes. A proof covers
both nonces, so that an old one cannot be played again; who calls and whom it wants, so that it
cannot be passed on to another server; and which end made it, so that it cannot be handed back to
its maker.

Or TLS has proved to both ends that the other one owns a certificate of the cluster's CA. Then
nonces and proofs are empty, and what is said must agree with what the certificates name.
"""

from __future__ import annotations

import hmac
import secrets
import struct
from dataclasses import dataclass, field

from raft.certificate import Certificate, Role, Subject
from raft.core.messages import ServerId
from raft.frames import (
    PROTOCOL_VERSION,
    Caller,
    Frame,
    Preamble,
    Proof,
    RefusalReason,
    Refused,
    Welcome,
)
from raft.printable import printable
from raft.tls import Tls

NONCE_SIZE = 32
MIN_SECRET_SIZE = 16
MAX_CLUSTER_SIZE = 200

_ROLES = {
    Caller.PEER: (Role.SERVER,),
    Caller.CLIENT: (Role.CLIENT, Role.SERVER),
    Caller.OBSERVER: (Role.OBSERVER, Role.SERVER),
}
"""Whose certificate opens which connection.

An application in a server's process uses the cluster with the server's, and watches the others.
"""

_FACTS = struct.Struct("<IHQQ")


class HandshakeError(Exception):
    """The ends of a connection do not agree to talk. ``detail`` says why, in words."""

    def __init__(self, reason: RefusalReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def require_cluster_name(name: str) -> None:
    """Raise ValueError if this can be no cluster's name."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # the command line held other bytes than text
        size = 0
    if not 0 < size <= MAX_CLUSTER_SIZE:
        raise ValueError(f"a cluster's name has 1 to {MAX_CLUSTER_SIZE} bytes of UTF-8")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who one end of a connection is, and what proves it: a secret, or a certificate.

    ``server`` is None for clients and observers. ``address`` is where other servers reach this
    one; it is not part of the proof, because whoever answers there must prove itself, too.
    Raises ValueError when the cluster's name is empty or over 200 bytes of UTF-8; when the secret
    is shorter than 16 bytes: a proof lets whoever sees it try secrets at leisure, so they must
    be random and long; and when the certificate is another's.
    """

    cluster: str
    server: ServerId | None
    secret: bytes | Certificate = field(repr=False)
    address: str = ""

    def __post_init__(self) -> None:
        require_cluster_name(self.cluster)
        if isinstance(self.secret, Certificate):
            subject = self.secret.subject
            me = subject.server if self.server is None else self.server
            if (subject.cluster, subject.server) != (self.cluster, me):
                who = "a client" if self.server is None else f"server {self.server}"
                raise ValueError(
                    f"{self.secret.path}: the certificate is that of {subject}, and this is {who} "
                    f"of cluster '{printable(self.cluster)}'"
                )
        elif len(self.secret) < MIN_SECRET_SIZE:
            raise ValueError(f"the secret has {len(self.secret)} bytes, at least 16 are needed")

    def new_tls(self, *, server_side: bool) -> Tls | None:
        """Return this end's TLS for a new connection; None if a secret proves who it is."""
        if isinstance(self.secret, Certificate):
            return self.secret.new_end(server_side=server_side)
        return None


def _prove(secret: bytes, end: bytes, preamble: Preamble, server_nonce: bytes) -> bytes:
    facts = _FACTS.pack(preamble.version, preamble.caller, preamble.src, preamble.dst)
    text = b"".join(
        (b"raft ", end, b"\0", facts, preamble.nonce, server_nonce, preamble.cluster.encode())
    )
    return hmac.digest(secret, text, "sha256")


class CallerHandshake:
    """The calling end: send ``preamble``, hand the answer to ``receive``, send what it returns."""

    def __init__(self, identity: Identity, caller: Caller, dst: ServerId) -> None:
        secret = identity.secret
        self._secret = secret if isinstance(secret, bytes) else None
        self.preamble = Preamble(
            version=PROTOCOL_VERSION,
            cluster=identity.cluster,
            caller=caller,
            src=identity.server or ServerId(0),
            dst=dst,
            nonce=b"" if self._secret is None else secrets.token_bytes(NONCE_SIZE),
            address=identity.address if caller is Caller.PEER else "",
        )

    def receive(self, frame: Frame, server: Subject | None = None) -> Proof | None:
        """Judge the answer, and whom TLS proved to have given it. Raises HandshakeError."""
        if self._secret is None:
            self._require(server)
        if isinstance(frame, Refused):
            raise HandshakeError(frame.reason, printable(frame.detail, 300))
        if not isinstance(frame, Welcome) or len(frame.nonce) != len(self.preamble.nonce):
            raise HandshakeError(
                RefusalReason.EXPECTED_PREAMBLE, "the other end does not speak this protocol"
            )
        if self._secret is None:
            return None
        expected = _prove(self._secret, b"server", self.preamble, frame.nonce)
        if not hmac.compare_digest(expected, frame.proof):
            raise HandshakeError(
                RefusalReason.PROOF,
                f"server {self.preamble.dst} could not prove that it knows the secret of cluster "
                f"'{printable(self.preamble.cluster)}' "
                "(or the secret file used here is the wrong one)",
            )
        return Proof(_prove(self._secret, b"caller", self.preamble, frame.nonce))

    def _require(self, server: Subject | None) -> None:
        wanted = Subject(self.preamble.cluster, Role.SERVER, str(self.preamble.dst))
        if server != wanted:
            raise HandshakeError(
                RefusalReason.PROOF,
                f"whoever answers has the certificate of {server}, not of {wanted}",
            )


class ServerHandshake:
    """The called end: hand every frame to ``receive`` until ``complete``.

    Any server of the cluster may call as a peer, even one that this server does not know: its
    own configuration may be out of date, and it must hear of the newer one from somebody
    (thesis §4.1).
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        secret = identity.secret
        self._secret = secret if isinstance(secret, bytes) else None
        self._nonce = b"" if self._secret is None else secrets.token_bytes(NONCE_SIZE)
        self.preamble: Preamble | None = None
        """Who calls; unproven until ``complete``."""
        self.complete = False
        """The caller proved itself."""

    def receive(self, frame: Frame, caller: Subject | None = None) -> Welcome | None:
        """Judge the next frame, and whom TLS proved to have sent it; return what to answer.

        Raises HandshakeError.
        """
        if self.preamble is None:
            preamble = self._judge(frame)
            if self._secret is None:
                _require_role(preamble, caller)
                self.complete = True
            self.preamble = preamble
            return Welcome(self._nonce, self._proof(b"server", preamble))
        if not isinstance(frame, Proof):
            raise HandshakeError(
                RefusalReason.EXPECTED_PREAMBLE, "the second frame must be a Proof"
            )
        if not hmac.compare_digest(self._proof(b"caller", self.preamble), frame.proof):
            raise HandshakeError(
                RefusalReason.PROOF, "the caller does not know the secret of this cluster"
            )
        self.complete = True
        return None

    def _proof(self, end: bytes, preamble: Preamble) -> bytes:
        return b"" if self._secret is None else _prove(self._secret, end, preamble, self._nonce)

    def _judge(self, frame: Frame) -> Preamble:
        if not isinstance(frame, Preamble) or len(frame.nonce) != len(self._nonce):
            raise HandshakeError(
                RefusalReason.EXPECTED_PREAMBLE,
                f"the first frame must be a Preamble with a nonce of {len(self._nonce)} bytes",
            )
        if frame.version != PROTOCOL_VERSION:
            raise HandshakeError(
                RefusalReason.VERSION,
                f"this server speaks version {PROTOCOL_VERSION}, the caller {frame.version}",
            )
        if frame.cluster != self._identity.cluster:
            raise HandshakeError(
                RefusalReason.CLUSTER,
                f"this server belongs to cluster '{printable(self._identity.cluster)}', "
                f"the caller to '{printable(frame.cluster, MAX_CLUSTER_SIZE)}'",
            )
        if frame.dst != self._identity.server:
            raise HandshakeError(
                RefusalReason.WRONG_SERVER,
                f"this is server {self._identity.server}, the caller wants {frame.dst}",
            )
        if frame.caller is Caller.PEER and frame.src in (0, self._identity.server):
            raise HandshakeError(
                RefusalReason.UNKNOWN_PEER, f"server {frame.src} cannot be a peer of this one"
            )
        return frame


def _require_role(preamble: Preamble, caller: Subject | None) -> None:
    """Compare what a caller says with its certificate: in all that both of them tell."""
    is_peer = preamble.caller is Caller.PEER
    if (
        caller is None
        or caller.cluster != preamble.cluster
        or caller.role not in _ROLES[preamble.caller]
        or (is_peer and caller.server != preamble.src)
    ):
        claim = f"server {preamble.src}" if is_peer else preamble.caller.name.lower()
        raise HandshakeError(
            RefusalReason.PROOF, f"the caller has the certificate of {caller}, and calls as {claim}"
        )
