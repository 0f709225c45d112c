"""One end of a TLS connection without IO: bytes of the network in, bytes for the network out.

asyncio's own TLS tells its protocol of a connection only once TLS is up, and holds 256 KiB for
each caller until then. Here a server counts, limits and closes those that have proved nothing
from the moment that they are accepted, whatever they say or do not say.
"""

from __future__ import annotations

import datetime
import re
import ssl
from functools import cached_property
from typing import Any

_RECORD = 16 * 1024  # the most that one TLS record carries
_ALERT = bytes.fromhex("15030300020246")  # fatal, protocol_version
_FIRST_BYTES = (b"\x15\x03", b"\x16\x03")  # an alert, or a handshake message, of any version

_REFUSALS = {
    "UNKNOWN_CA": "our certificate is not of its cluster",
    "DECRYPT_ERROR": "our certificate is not of its cluster",
    "CERTIFICATE_EXPIRED": "our certificate has expired",
    "BAD_CERTIFICATE": "our certificate is not valid yet, or never",
    "CERTIFICATE_REQUIRED": "it wants a certificate",
    "UNSUPPORTED_CERTIFICATE": "our certificate is for another purpose",
    "PROTOCOL_VERSION": "it does not speak our version of TLS",
}

_STRANGER = {7, 18, 19, 20, 21, 24, 79}
"""OpenSSL's numbers (X509_V_ERR_...) for all the ways not to be signed by our CA."""


class TlsError(Exception):
    """The ends of a connection cannot agree on TLS; the message says why, in words."""


def looks_like_tls(start: bytes | memoryview) -> bool:
    """Tell whether a connection on which the other end began with these bytes speaks TLS."""
    return start[:2] in _FIRST_BYTES


def new_context(*, server_side: bool) -> ssl.SSLContext:
    """Return settings for TLS 1.3 alone; who the other end is stands in its certificate.

    It names no host, because a server may move: so ``check_hostname`` is off, and whoever uses
    this compares what the certificate does name with whom it expects.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if server_side:
        # Connections last, and each one proves its certificate anew.
        context.num_tickets = 0
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Tls:
    """One end. Hand what arrives to ``receive``, and send what ``outgoing`` returns after it.

    What ``encrypt`` returns must be sent in the same order.

    A connection that ends without TLS's own goodbye is one that ends: frames are whole or not.
    """

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.established = False
        """Both ends have proved their certificates, as far as this end can know."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._context = context
        self._server_side = server_side
        self._heard = b""
        if not server_side:
            self._shake_hands()

    def receive(self, data: bytes | memoryview) -> bytes:
        """Take what arrived, and return what it says. Raises TlsError; then the end is near.

        ``outgoing`` may hold a last word then, by which the other end knows what was wrong.
        """
        if len(self._heard) < 2:
            self._heard += data[:2]
        self._incoming.write(data)
        if not self.established:
            self._shake_hands()
        return self._read() if self.established else b""

    def encrypt(self, data: bytes) -> bytes:
        """Return what carries ``data``, in as few records as it takes; once ``established``."""
        left, pieces = memoryview(data), []
        while left:
            left = left[self._end.write(left) :]
            # Taken out one by one: OpenSSL would grow its buffer, and move it, again and again.
            pieces.append(self._outgoing.read())
        return b"".join(pieces)

    def outgoing(self) -> bytes:
        """Return, once, what TLS itself has to say now."""
        return self._outgoing.read()

    def names(self) -> list[str]:
        """Return the URIs in the other end's certificate, which is proved to be its own."""
        alternatives: Any = self._certificate.get("subjectAltName", ())
        return [name for kind, name in alternatives if kind == "URI"]

    def until(self) -> datetime.datetime:
        """Return when the other end's certificate ends."""
        end = ssl.cert_time_to_seconds(str(self._certificate["notAfter"]))
        return datetime.datetime.fromtimestamp(end, datetime.UTC)

    @cached_property
    def _end(self) -> ssl.SSLObject:
        """What OpenSSL keeps of this end: nothing, until there is something to say or to hear."""
        return self._context.wrap_bio(self._incoming, self._outgoing, server_side=self._server_side)

    @property
    def _certificate(self) -> dict[str, Any]:
        return self._end.getpeercert() or {}

    def _shake_hands(self) -> None:
        try:
            self._end.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise TlsError(self._in_words(error)) from None
        self.established = True

    def _read(self) -> bytes:
        pieces = []
        try:
            while piece := self._end.read(_RECORD):
                pieces.append(piece)
                if not self._incoming.pending and not self._end.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise TlsError(self._in_words(error)) from None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _in_words(self, error: ssl.SSLError) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            kind = "is not of this cluster" if error.verify_code in _STRANGER else "does not count"
            return f"its certificate {kind}: {error.verify_message}"
        reason = error.reason or str(error)
        if not looks_like_tls(self._heard):
            # OpenSSL is silent then; whoever speaks in plain frames should learn why.
            self._outgoing.write(_ALERT)
            return "the other end does not speak TLS"
        if alert := re.fullmatch(r".*_ALERT_(\w+)", reason):
            words = _REFUSALS.get(alert[1], alert[1].lower().replace("_", " "))
            return f"the other end refuses the connection: {words}"
        if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            return "it shows no certificate"
        return f"TLS failed: {reason.lower().replace('_', ' ')}"
