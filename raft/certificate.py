"""Who one end of an encrypted connection is: a certificate of the cluster, and its key.

``raft certs`` makes them, each a file of its own: the key, the certificate, and the cluster's
CA, by which the certificates of the others are known. In place of a host's name it holds::

    raft://CLUSTER/server/ID      may be this server, and do what the two others may
    raft://CLUSTER/client/NAME    may use the cluster
    raft://CLUSTER/observer/NAME  may watch its servers
"""

from __future__ import annotations

import datetime
import enum
import logging
import os
import re
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from raft.core.messages import ServerId
from raft.printable import printable
from raft.private import read_private
from raft.tls import Tls, TlsError, new_context

WARN_SECONDS = 30 * 86400.0
"""How long before its end a certificate is complained about."""
_REMIND_SECONDS = 86400.0

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

_log = logging.getLogger(__name__)


def in_words(moment: datetime.datetime) -> str:
    """Return a moment in UTC, to the minute."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


class Role(enum.StrEnum):
    """What the owner of a certificate may do."""

    SERVER = "server"
    CLIENT = "client"
    OBSERVER = "observer"
    AUTHORITY = "ca"
    """Signs the certificates of all others, and is used for nothing else."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate names: a server by its id, others by a name of their own."""

    cluster: str
    role: Role
    name: str

    def __str__(self) -> str:
        return f"{self.role} {printable(self.name)} of cluster '{printable(self.cluster)}'"

    @property
    def uri(self) -> str:
        """The subject as it stands in the certificate."""
        return f"raft://{quote(self.cluster, safe='')}/{self.role}/{quote(self.name, safe='')}"

    @property
    def server(self) -> ServerId | None:
        """The id of the server; None for others."""
        return ServerId(int(self.name)) if self.role is Role.SERVER else None

    @classmethod
    def of(cls, uris: list[str]) -> Subject:
        """Return the subject that is the only one among these names. Raises ValueError."""
        ours = [uri for uri in uris if uri.startswith("raft://")]
        try:
            (uri,) = ours
            cluster, role, name = uri.removeprefix("raft://").split("/")
            subject = cls(unquote(cluster, errors="strict"), Role(role), unquote(name))
        except ValueError:
            subject = None
        # One subject has one way to be written, and a server a number.
        if subject is None or subject.uri != uri or not subject._is_whole():
            shown = printable(", ".join(uris), 200) or "nobody"
            raise ValueError(f"the certificate names {shown}, and no member of a cluster")
        return subject

    def _is_whole(self) -> bool:
        if self.role is Role.SERVER:
            return bool(re.fullmatch(r"[1-9][0-9]{0,18}", self.name, re.ASCII))
        return bool(self.cluster and self.name)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What was in the file."""

    subject: Subject
    until: datetime.datetime
    accepting: ssl.SSLContext
    calling: ssl.SSLContext


class Certificate:
    """A certificate and its key, from the file at ``path``, which only its owner may read.

    A file that replaces it is read at the next connection; those that are open stay open. One
    that is of no use, or names another subject, is complained about in the log, and the old one
    counts until it ends. Within the 30 days before that the log warns, once a day.

    Raises OSError, and ValueError if others may read the file, or would not believe what is in
    it: because it has expired, say.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._stamp = _stamp(self.path)
        self._contents = _read(self.path)
        self._reminded = float("-inf")

    @property
    def subject(self) -> Subject:
        """Whom it names."""
        return self._contents.subject

    @property
    def until(self) -> datetime.datetime:
        """When it ends, in UTC."""
        return self._contents.until

    def new_end(self, *, server_side: bool) -> Tls:
        """Return one end of a new connection."""
        self._follow_file()
        self.remind()
        contents = self._contents
        context = contents.accepting if server_side else contents.calling
        return Tls(context, server_side=server_side)

    def remind(self) -> None:
        """Log a warning if the end is near, but not more than once a day."""
        left = self.until.timestamp() - time.time()
        if left < WARN_SECONDS and time.monotonic() > self._reminded + _REMIND_SECONDS:
            self._reminded = time.monotonic()
            _log.warning(
                "%s: the certificate ends on %s: replace it by then (raft certs renew)",
                printable(str(self.path)),
                in_words(self.until),
            )

    def _follow_file(self) -> None:
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            contents = _read(self.path)
            if contents.subject != self.subject:
                raise ValueError(f"{self.path}: the certificate is that of {contents.subject}")
        except (OSError, ValueError) as error:
            _log.warning("the certificate of %s stays as it is: %s", self.subject, error)
            return
        self._contents = contents
        _log.info("%s: the certificate is now one until %s", self.path, in_words(self.until))


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Return what changes when the file does; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size


def _read(path: Path) -> _Contents:
    text = read_private(path).decode("ascii", errors="replace")
    _, *authorities = _PEM.findall(text) or [""]
    if not authorities:
        raise ValueError(f"{path}: there should be a certificate, its key, and a CA's certificate")
    contexts = [new_context(server_side=side) for side in (True, False)]
    try:
        for context in contexts:
            # An empty password, or OpenSSL asks for one at the terminal.
            context.load_cert_chain(path, password="")
            context.load_verify_locations(cadata="\n".join(authorities))
        subject, until = _prove(*contexts)
    except ssl.SSLError as error:
        raise ValueError(f"{path}: the certificate cannot be used: {error}") from None
    except (TlsError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    return _Contents(subject, until, *contexts)


def _prove(accepting: ssl.SSLContext, calling: ssl.SSLContext) -> tuple[Subject, datetime.datetime]:
    """Show a certificate to ourselves: what others would not believe is found out here.

    Its owner may be no server, so the calling end does not look for one.
    """
    calling.verify_mode = ssl.CERT_NONE
    server = Tls(accepting, server_side=True)
    caller = Tls(calling, server_side=False)
    while not server.established:
        server.receive(caller.outgoing())
        caller.receive(server.outgoing())
    calling.verify_mode = ssl.CERT_REQUIRED
    return Subject.of(server.names()), server.until()
