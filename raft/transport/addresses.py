"""Where a server listens, as text."""

from __future__ import annotations

import ipaddress
import re
import socket

HIGHEST_PORT = 65535
MAX_HOST = 255
"""Characters of the longest host; names in the DNS are no longer (RFC 1035)."""


_LABEL = "[A-Za-z0-9_-]{1,63}"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?)\]")


def parse_address(text: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPv6]:PORT``. Raises ValueError with what is wrong.

    HOST is an IPv4 address or a name: letters, digits, ``-``, ``_`` and dots, in labels of up to 63
    characters, or what becomes that by IDNA.
    """
    host, _, port = text.rpartition(":")
    if max(len(host), len(port)) > MAX_HOST:
        # Not to be quoted: the words go into a message, too.
        raise ValueError(f"an address of {len(text)} characters: a host has at most {MAX_HOST}")
    if not host or not re.fullmatch(r"-?[0-9]{1,9}", port):
        raise ValueError(f"{text!r} is not an address: HOST:PORT is, such as 127.0.0.1:7001")
    if not 0 <= int(port) <= HIGHEST_PORT:
        raise ValueError(f"{text!r}: there is no port {port}: 1 to {HIGHEST_PORT} are")
    bracketed = _BRACKETED.fullmatch(host)
    if not (_is_ipv6(bracketed[1]) if bracketed else _is_name(host)):
        raise ValueError(
            f"{text!r} is not an address: there can be no host {host!r}: 127.0.0.1 is one, and "
            "[::1], and example.org"
        )
    return bracketed[1] if bracketed else host, int(port)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return False
    return _NAME.fullmatch(name) is not None


def is_unspecified(host: str) -> bool:
    """Tell whether a host stands for all addresses of a machine: nobody can be called there."""
    if ":" in host:
        return ipaddress.IPv6Address(host).is_unspecified
    try:
        return not any(socket.inet_aton(host))  # 0 and 0.0 are what 0.0.0.0 is
    except OSError:
        return False


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
