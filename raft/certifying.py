"""``raft certs``: make, renew and show the certificates of a cluster."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from raft.printable import printable

if TYPE_CHECKING:
    from raft.certs import Facts

EPILOG = """\
  raft certs make demo-certs --cluster demo --server 1..3 --client alice
  raft certs make demo-certs --server 4                # later, one more
  raft certs show demo-certs/*.pem
  raft certs renew demo-certs                          # all of them, in place

Each server gets its own file and no other, each client likewise; ca.pem stays where it was
made, since whoever has it can make certificates. A server reads a renewed file at its next
connection. Who leaves the cluster keeps a valid certificate until that ends; if that must not
be, make a new CA in a new directory, and start the servers with certificates of that.
"""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,39}", re.ASCII)
_MOST = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``raft certs``."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser("make", help="make certificates, and the cluster's CA if needed")
    make.add_argument("directory", type=Path, metavar="DIR", help="for its owner's eyes alone")
    make.add_argument("--cluster", metavar="NAME", help="the cluster's name, for a new CA")
    for role, kind, metavar, what in (
        ("server", _servers, "ID", "a server (1..3: one each for 1, 2 and 3)"),
        ("client", _names, "NAME", "somebody who uses the cluster"),
        ("observer", _names, "NAME", "somebody who watches its servers"),
    ):
        make.add_argument(
            f"--{role}", type=kind, action="extend", default=[], metavar=metavar, help=what
        )
    renew = actions.add_parser("renew", help="replace certificates by new ones, with new keys")
    renew.add_argument("directory", type=Path, metavar="DIR", help="where the CA is")
    renew.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="which ones (default: all in DIR)"
    )
    for command in (make, renew):
        command.add_argument("--days", type=_days, default=365, help="valid for (default 365)")
    show = actions.add_parser("show", help="print whom certificates name, and until when")
    show.add_argument("files", type=Path, nargs="+", metavar="FILE")


def main(options: argparse.Namespace) -> int:
    """Carry out ``raft certs`` and return the exit status."""
    from raft.certs import CertsError

    action = {"make": _make, "renew": _renew, "show": _show}[options.action]
    try:
        action(options)
    except OSError as error:
        reason = error.strerror or str(error)
        if error.filename:
            reason = f"{error.filename}: {reason}"
    except CertsError as error:
        reason = str(error)
    else:
        return 0
    print(f"raft certs {options.action}: {printable(reason)}", file=sys.stderr)
    return 1


def _make(options: argparse.Namespace) -> None:
    from raft import certs
    from raft.certificate import Role

    wanted = [(role, name) for role in Role for name in getattr(options, role, ())]
    authority = certs.open_authority(options.directory, options.cluster)
    made = [*certs.make(options.directory, authority, wanted, options.days)]
    _print(made or [options.directory / certs.AUTHORITY_FILE])
    if not made:
        print("nobody was named: add --server ID, --client NAME or --observer NAME")


def _renew(options: argparse.Namespace) -> None:
    from raft import certs

    paths = options.files or certs.certificates(options.directory)
    certs.renew(certs.read_authority(options.directory), paths, options.days)
    _print(paths)


def _show(options: argparse.Namespace) -> None:
    _print(options.files)


def _print(paths: Sequence[Path]) -> None:
    from raft import certs

    for path in paths:
        facts = certs.read(path)
        print(printable(f"{path}: {facts.subject}, {_validity(facts)}"))


def _validity(facts: Facts) -> str:
    from raft.certificate import WARN_SECONDS, in_words

    now = datetime.datetime.now(datetime.UTC)
    if now >= facts.ends:
        return f"EXPIRED {in_words(facts.ends)}"
    if now < facts.begins:
        return f"NOT VALID before {in_words(facts.begins)}"
    left = facts.ends - now
    hint = ": renew it" if left.total_seconds() < WARN_SECONDS else ""
    return f"until {in_words(facts.ends)} ({round(left / datetime.timedelta(days=1))} days{hint})"


def _servers(text: str) -> list[str]:
    first, dots, last = text.partition("..")
    numbers = (first, last if dots else first)
    if not all(re.fullmatch(r"[0-9]{1,19}", number) for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no server: 1 is, or 1..3")
    lowest, highest = map(int, numbers)
    if not 0 < lowest <= highest < 2**63 or highest - lowest >= _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is no range of servers: 1..3 is")
    return [str(number) for number in range(lowest, highest + 1)]


def _names(text: str) -> list[str]:
    if not _NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: up to 40 letters, digits, and . _ - are"
        )
    return [text]


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 0 < days <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days up to 3650")
    return days
