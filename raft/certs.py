"""Making the certificates of a cluster: its own CA, and one file for each server and client.

Keys are of the curve P-256. The cryptography is that of the package ``cryptography``, which
takes its time to load: only ``raft certs`` imports this module.
"""

from __future__ import annotations

import datetime
import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raft.certificate import Role, Subject
from raft.handshake import require_cluster_name
from raft.private import read_private, write_private

AUTHORITY_FILE = "ca.pem"
AUTHORITY_DAYS = 3650
DAYS = 365

_CLOCKS_DIFFER = datetime.timedelta(hours=1)
"""A certificate counts a little earlier than it is made: the servers' clocks are not the same."""

_USES = {
    Role.SERVER: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    Role.CLIENT: [ExtendedKeyUsageOID.CLIENT_AUTH],
    Role.OBSERVER: [ExtendedKeyUsageOID.CLIENT_AUTH],
}


class CertsError(Exception):
    """Certificates cannot be made, or read; the message says why, in words."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says: whom it names, and from when until when, in UTC."""

    subject: Subject
    begins: datetime.datetime
    ends: datetime.datetime


class Authority:
    """The CA of one cluster: whatever it signs belongs to that cluster."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.cluster = _facts(certificate).subject.cluster
        self._certificate = certificate
        self._key = key

    @classmethod
    def new(cls, cluster: str, days: float = AUTHORITY_DAYS) -> Authority:
        """Make a CA with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        # A second CA of a cluster, or of another one of its name, differs by its own.
        subject = Subject(cluster, Role.AUTHORITY, secrets.token_hex(8))
        builder = _builder(subject, key, days).issuer_name(_name(subject))
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def read(cls, path: Path) -> Authority:
        """Read what ``pem`` returned. Raises OSError, ValueError."""
        data = read_private(path)
        try:
            key = serialization.load_pem_private_key(data, None)
            certificate = x509.load_pem_x509_certificate(data)
        except (ValueError, TypeError):  # TypeError: a password is wanted
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{path}: there should be a CA's key and certificate")
        return cls(certificate, key)

    def pem(self) -> bytes:
        """Return the certificate and the key, as text."""
        return _pem(self._key, self._certificate)

    def issue(
        self,
        subject: Subject,
        days: float = DAYS,
        begins: datetime.datetime | None = None,
    ) -> bytes:
        """Return a new key, a certificate for it, and that of this CA, as text.

        It is valid for ``days`` from now (or ``begins``) on, but not longer than this CA is.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        uses = x509.ExtendedKeyUsage(_USES[subject.role])
        ours = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours.value)
        latest = self._certificate.not_valid_after_utc
        certificate = (
            _builder(subject, key, days, begins, latest)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(uses, critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return _pem(key, certificate, self._certificate)


def open_authority(directory: Path, cluster: str | None) -> Authority:
    """Return the CA in a directory; make both (mode 0700) if there is none.

    ``cluster`` is needed to make one, and otherwise compared. Raises CertsError, OSError.
    """
    path = directory / AUTHORITY_FILE
    if not path.exists():
        if cluster is None:
            raise CertsError(f"{path}: there is no CA yet, so give the cluster's name (--cluster)")
        try:
            require_cluster_name(cluster)
        except ValueError as error:
            raise CertsError(str(error)) from None
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        if not directory.is_dir():
            raise CertsError(f"{directory}: this is no directory")
        if directory.stat().st_mode & 0o077:
            raise CertsError(f"{directory}: others may use this directory; chmod 700 it first")
        write_private(path, Authority.new(cluster).pem())
    authority = read_authority(directory)
    if cluster not in (None, authority.cluster):
        raise CertsError(f"{path}: this is the CA of cluster '{authority.cluster}'")
    return authority


def read_authority(directory: Path) -> Authority:
    """Return the CA in a directory. Raises CertsError, OSError."""
    try:
        return Authority.read(directory / AUTHORITY_FILE)
    except ValueError as error:
        raise CertsError(str(error)) from None


def make(
    directory: Path, authority: Authority, who: Iterable[tuple[Role, str]], days: float
) -> list[Path]:
    """Write a file for each; nothing at all if one is there already. Raises CertsError, OSError."""
    subjects = [Subject(authority.cluster, role, name) for role, name in who]
    files = {directory / f"{subject.role}-{subject.name}.pem": subject for subject in subjects}
    for path in files:
        if path.exists():
            raise CertsError(f"{path} is there already; 'raft certs renew' makes a new one")
    for path, subject in files.items():
        write_private(path, authority.issue(subject, days))
    return list(files)


def renew(authority: Authority, paths: Sequence[Path], days: float) -> None:
    """Replace each file, at once, by one with a new key. Raises CertsError, OSError."""
    subjects = [read(path).subject for path in paths]
    for path, subject in zip(paths, subjects, strict=True):
        if subject.cluster != authority.cluster or subject.role is Role.AUTHORITY:
            raise CertsError(f"{path}: the CA of cluster '{authority.cluster}' made no {subject}")
    for path, subject in zip(paths, subjects, strict=True):
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)  # left behind by a renewal that was broken off
        write_private(new, authority.issue(subject, days))
        os.replace(new, path)


def certificates(directory: Path) -> list[Path]:
    """Return the files in a directory that ``make`` wrote."""
    return sorted(path for path in directory.glob("*-*.pem"))


def read(path: Path) -> Facts:
    """Return what the first certificate in a file says. Raises CertsError, OSError."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise CertsError(f"{path}: this is no certificate") from None
    try:
        return _facts(certificate)
    except ValueError as error:
        raise CertsError(f"{path}: this is no certificate of a cluster: {error}") from None


def _facts(certificate: x509.Certificate) -> Facts:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("it names nobody") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    subject = Subject.of(uris)
    return Facts(subject, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def _builder(
    subject: Subject,
    key: ec.EllipticCurvePrivateKey,
    days: float,
    begins: datetime.datetime | None = None,
    latest: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    ends = (begins or now) + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - _CLOCKS_DIFFER)
        .not_valid_after(min(ends, latest) if latest else ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(subject.uri)]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(subject: Subject) -> x509.Name:
    """Return what other tools show: nothing here reads it."""
    return x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"raft {subject.role} {subject.name}")]
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey, *certificates: x509.Certificate) -> bytes:
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = [certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates]
    return b"".join([secret, *public])
