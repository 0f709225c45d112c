"""Certificates for tests: of a cluster, of another one, expired, forged."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from raft.certificate import Certificate, Role, Subject
from raft.certs import Authority

DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Certs:
    """A CA, and what it signs, in files."""

    def __init__(self, directory: Path, cluster: str = "test") -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self.directory = directory
        self.cluster = cluster
        self.authority = Authority.new(cluster)

    def file(
        self,
        role: Role,
        name: object,
        days: float = 90,
        begins: datetime.datetime | None = None,
    ) -> Path:
        """Write a certificate, over the one that may be there."""
        subject = Subject(self.cluster, role, str(name))
        path = self.directory / f"{role}-{name}.pem"
        path.touch()
        path.chmod(0o600)
        path.write_bytes(self.authority.issue(subject, days, begins))
        return path

    def server(self, id: int, **kind: object) -> Certificate:
        return Certificate(self.file(Role.SERVER, id, **kind))

    def client(self, name: str = "alice") -> Certificate:
        return Certificate(self.file(Role.CLIENT, name))

    def observer(self, name: str = "eve") -> Certificate:
        return Certificate(self.file(Role.OBSERVER, name))


def calling(path: Path | None = None) -> ssl.SSLContext:
    """Settings of a caller that believes everybody, and shows this certificate or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if path is not None:
        context.load_cert_chain(path)
    return context
