"""Where a server listens, as text."""

from __future__ import annotations

import ipaddress
import re

HIGHEST_PORT = 65535
MAX_HOST = 255
"""Characters of the longest host; names in the DNS are no longer (RFC 1035)."""


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT``. Raises ValueError with what is wrong."""
    host, _, port = text.rpartition(":")
    if max(len(host), len(port)) > MAX_HOST:
        # Not to be quoted: the words go into a message, too.
        raise ValueError(f"an address of {len(text)} characters: a host has at most {MAX_HOST}")
    if not host or not re.fullmatch(r"-?[0-9]{1,9}", port):
        raise ValueError(f"{text!r} is not an address: HOST:PORT is, such as 127.0.0.1:7001")
    if not 0 <= int(port) <= HIGHEST_PORT:
        raise ValueError(f"{text!r}: there is no port {port}: 1 to {HIGHEST_PORT} are")
    return host.removeprefix("[").removesuffix("]"), int(port)


def format_address(host: str, port: int) -> str:
    """Return what ``parse_address`` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def require_loopback(host: str) -> str:
    """Return the address of this machine's own that ``host`` is, or raise ValueError.

    Without TLS everybody on the way could read and forge everything.
    """
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise ValueError(
        f"{host!r} is not on this machine: connections are not encrypted, so only loopback "
        "addresses are allowed (127.0.0.1 or ::1)"
    )
