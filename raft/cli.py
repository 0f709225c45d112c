"""``raft``: run one server of a cluster, and use a cluster.

What a command needs is imported when it runs: ``raft --help`` waits for nothing.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from raft import certifying, simulate
from raft.core.messages import ServerId
from raft.printable import printable

if TYPE_CHECKING:
    from raft.certificate import Certificate

DESCRIPTION = """\
Run one server of a Raft cluster, and use a cluster.

Three servers in three terminals, and a fourth terminal to use them:

  raft secret demo.secret
  export RAFT_CLUSTER=demo RAFT_SECRET_FILE=demo.secret      # in every terminal

  raft serve --id 1 --listen 127.0.0.1:7001 --data demo1 \\
             --peer 2=127.0.0.1:7002 --peer 3=127.0.0.1:7003
  raft serve --id 2 --listen 127.0.0.1:7002 --data demo2 \\
             --peer 1=127.0.0.1:7001 --peer 3=127.0.0.1:7003
  raft serve --id 3 --listen 127.0.0.1:7003 --data demo3 \\
             --peer 1=127.0.0.1:7001 --peer 2=127.0.0.1:7002

  export RAFT_SERVERS=1=127.0.0.1:7001,2=127.0.0.1:7002,3=127.0.0.1:7003
  raft put greeting hello
  raft get greeting
  raft status

The cluster grows by a server that joins, and shrinks again, while it is used:

  raft serve --id 4 --listen 127.0.0.1:7004 --data demo4 --join
  raft add 4 127.0.0.1:7004       # it gets the log, and then a vote
  raft members
  raft transfer 4                 # let it lead
  raft remove 1                   # then stop the process of server 1

Between machines, connections are encrypted and proved by certificates: see raft certs --help.
"""

EPILOG = """\
Exit status: 0 done, 1 failed (standard error says why), 2 wrong usage, 3 a server's storage
cannot be used.
"""

DONE, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a terminal cannot show is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # nobody reads our output any more
        _drop_output()
        return FAILED
    except OSError as error:
        _drop_output()
        return _fail(options, f"{error.filename or 'standard output'}: {error.strerror}")
    return status


def _open_closed_streams() -> None:
    """Let whatever was closed when we began lead nowhere: Python has None in its place.

    And the operating system would give its number to the next file, for others to write into.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for good


def _drop_output() -> None:
    """Let go of what cannot be written: Python must not complain about it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(options: argparse.Namespace, reason: object) -> int:
    print(f"raft {options.command}: {printable(str(reason))}", file=sys.stderr)
    return FAILED


def _misused(options: argparse.Namespace, reason: str) -> NoReturn:
    parser: argparse.ArgumentParser = options.parser
    parser.error(printable(reason))


# --- The commands ----------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from raft.applying import SnapshotPolicy
    from raft.core.core import Config
    from raft.handshake import Identity
    from raft.server import ServerConfig
    from raft.serving import serve
    from raft.transport import is_unspecified, parse_address

    peers = _by_id(options, options.peer, "--peer")
    if options.id in peers:
        _misused(options, f"--peer names the other servers; {options.id} is this one")
    here = options.advertise or options.listen
    host, port = parse_address(here)
    known = peers if port == 0 else {**peers, options.id: here}
    _must_differ(options, known, "--peer")
    shortest, longest = options.election_timeout
    secret = _secret(options)
    if not isinstance(secret, bytes) and is_unspecified(host):
        _misused(options, f"nobody can call {here}: --advertise an address that others can")
    try:
        identity = Identity(_cluster(options, secret), options.id, secret)
        core = Config(
            server=options.id,
            members=() if options.join else tuple(sorted([options.id, *peers])),
            addresses=() if options.join else tuple(sorted(known.items())),
            election_timeout_min=shortest,
            election_timeout_max=longest,
            heartbeat_interval=options.heartbeat,
            pre_vote=options.pre_vote,
            check_quorum=options.check_quorum,
            max_append_bytes=options.append_bytes,
        )
        config = ServerConfig(
            core=core,
            cluster=identity.cluster,
            secret=identity.secret,
            listen=options.listen,
            peers=peers,
            seed=options.seed,
            attended=options.attended,
            advertise=options.advertise or "",
            snapshots=SnapshotPolicy(options.snapshot_entries, options.snapshot_bytes),
        )
    except ValueError as error:
        _misused(options, str(error))
    return serve(config, options.data, _broken(options))


def _broken(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the rules that are to be broken, once it is clear that they can be."""
    if not options.rules:
        return ()
    if not options.attended:
        _misused(options, "--rules breaks Raft on purpose, which only --attended servers may")
    from raft.testing import catalogue

    try:
        catalogue.broken(options.rules)
    except ValueError as error:
        _misused(options, str(error))
    return tuple(options.rules)


def _secret_command(options: argparse.Namespace) -> int:
    from raft.secret import write_secret

    try:
        write_secret(options.file)
    except OSError as error:
        return _fail(options, f"{options.file}: {error.strerror}")
    return DONE


def _inspect(options: argparse.Namespace) -> int:
    from raft.inspecting import inspect

    return inspect(options.directory, options.first, options.last)


def _use(options: argparse.Namespace) -> int:
    from raft.client import Raft
    from raft.errors import RaftError
    from raft.using import CannotError, use

    servers, secret = _servers(options), _secret(options)
    try:
        raft = Raft(servers, _cluster(options, secret), secret)
    except ValueError as error:
        _misused(options, str(error))
    try:
        use(raft, options)
    except RaftError as error:
        return _fail(options, f"{error} ({error.advice})" if error.advice else error)
    except CannotError as error:
        return _fail(options, error)
    return DONE


# --- What they are told ------------------------------------------------------------------------


def _servers(options: argparse.Namespace) -> dict[ServerId, str]:
    """Return where the cluster's servers are, from the command line or the environment."""
    given: list[tuple[ServerId, str]] = options.server or []
    where = "--server" if given else "RAFT_SERVERS"
    text = os.environ.get("RAFT_SERVERS", "")
    if not given and text:
        try:
            given = [_server(part.strip()) for part in text.split(",")]
        except argparse.ArgumentTypeError as error:
            _misused(options, f"{where}: {error}")
    if not given:
        _misused(options, "which servers? Give --server ID=HOST:PORT, or set RAFT_SERVERS")
    servers = _by_id(options, given, where)
    _must_differ(options, servers, where)
    return servers


def _by_id(
    options: argparse.Namespace, given: Iterable[tuple[ServerId, str]], where: str
) -> dict[ServerId, str]:
    addresses: dict[ServerId, str] = {}
    for server, address in given:
        if server in addresses:
            _misused(options, f"{where}: server {server} is given twice")
        addresses[server] = address
    return addresses


def _must_differ(options: argparse.Namespace, addresses: dict[ServerId, str], where: str) -> None:
    """End if two servers are said to listen at one address."""
    servers: dict[str, ServerId] = {}
    for server, address in addresses.items():
        other = servers.setdefault(address, server)
        if other != server:
            _misused(options, f"{where}: servers {other} and {server} cannot both be at {address}")


def _cluster(options: argparse.Namespace, secret: bytes | Certificate) -> str:
    name: str = options.cluster or os.environ.get("RAFT_CLUSTER", "")
    if not name and not isinstance(secret, bytes):
        return secret.subject.cluster
    if not name:
        _misused(options, "which cluster? Give --cluster NAME, or set RAFT_CLUSTER")
    return name


def _secret(options: argparse.Namespace) -> bytes | Certificate:
    """Read what proves who we are: from the command line, or else the environment."""
    certificate, secret = options.certificate, options.secret_file
    if certificate is None and secret is None:
        certificate = os.environ.get("RAFT_CERTIFICATE")
        secret = os.environ.get("RAFT_SECRET_FILE")
    if not (path := certificate or secret):
        _misused(
            options,
            "which secret? Give --secret-file FILE or --certificate FILE, "
            "or set RAFT_SECRET_FILE or RAFT_CERTIFICATE",
        )
    try:
        return _read_certificate(path) if certificate else _read_secret(path)
    except OSError as error:
        _misused(options, f"{path}: {error.strerror}")
    except ValueError as error:
        _misused(options, str(error))


def _read_certificate(path: Path | str) -> Certificate:
    from raft.certificate import Certificate

    return Certificate(path)


def _read_secret(path: Path | str) -> bytes:
    from raft.secret import read_secret

    return read_secret(path)


def _id(text: str) -> ServerId:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 0 < int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is no server id: a number from 1 on is")
    return ServerId(int(text))


def _address(text: str) -> str:
    """Return where a server can be called."""
    if int(_place(text).rpartition(":")[2]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: nobody can be called at port 0")
    return text


def _place(text: str) -> str:
    """Return where a server may listen: port 0 takes a free one."""
    from raft.transport import parse_address

    try:
        parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _server(text: str) -> tuple[ServerId, str]:
    number, equals, address = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} should be ID=HOST:PORT")
    if "," in address:
        raise argparse.ArgumentTypeError(
            f"{text!r} are several: give the option once for each server"
        )
    return _id(number), _address(address)


_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)")
_UNITS = {"ms": 0.001, "s": 1.0}


def _duration(text: str) -> float:
    """Return the seconds in ``150ms`` or ``2s``."""
    match = _DURATION.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: 150ms or 2s is")
    return float(match[1]) * _UNITS[match[2]]


def _durations(text: str) -> tuple[float, float]:
    """Return the bounds in ``150ms..300ms``; one duration is both."""
    shortest, dots, longest = text.partition("..")
    return _duration(shortest), _duration(longest if dots else shortest)


_SIZE = re.compile(r"(\d{1,18})(KiB|MiB|GiB)?")
_FACTORS = {None: 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def _size(text: str) -> int:
    """Return the bytes in ``64MiB``."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 64MiB is, or a number of bytes")
    return int(match[1]) * _FACTORS[match[2]]


def _directory(text: str) -> Path:
    if not text:  # "$DATA", and DATA is not set: not the directory where we are
        raise argparse.ArgumentTypeError("a directory has a name")
    return Path(text)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 999999999")
    return int(text)


def _whole(text: str) -> int:
    if re.fullmatch(r"[+-]?[0-9]+", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text} has more than 64 bits: {2**63 - 1} has not")
    return int(text)


# --- The command line --------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="raft",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_serve(commands)
    _add_users(commands)
    secret = _add(commands, "secret", _secret_command, "make the secret that a cluster shares")
    secret.add_argument("file", type=Path, help="a new file, for its owner's eyes alone")
    certs = _add(commands, "certs", certifying.main, "make certificates, for encrypted connections")
    certifying.add_arguments(certs)
    inspect = _add(commands, "inspect", _inspect, "print in words what a server has stored")
    inspect.epilog = (
        "Nothing is changed, and the server may run meanwhile. Exit status: 0 fine, 1 something "
        "is damaged (the last lines say where), 2 this is no directory of a server."
    )
    inspect.add_argument("directory", type=Path, metavar="DIR", help="what serve's --data names")
    inspect.add_argument(
        "--from", type=_count, metavar="N", dest="first", help="from this entry on"
    )
    inspect.add_argument("--to", type=_count, metavar="N", dest="last", help="up to this entry")
    simulate.add_arguments(_add(commands, "sim", simulate.main, "try Raft in simulated clusters"))
    return parser


def _add_users(commands: Commands) -> None:
    """Add the commands that ask a cluster, or change it."""
    _add_key_value(commands)
    status = _use_command(commands, "status", "print every server's state")
    status.epilog = (
        "Among the members, 4? gets the log without a vote, and 1 2 3 → 1 2 4 is a change that is "
        "not over. A server that is recovering lost entries of its log: it gets them back, and "
        "does not vote until then."
    )
    _use_command(commands, "members", "print who belongs to the cluster")
    add = _use_command(
        commands,
        "add",
        "add a server: it gets the log, and then a vote; it must run, with --join",
        timeout=60.0,
    )
    add.add_argument("id", type=_id, help="its number, which no other server has had")
    add.add_argument("address", type=_address, metavar="HOST:PORT", help="where it listens")
    add.add_argument("--learner", action="store_true", help="give it the log, but no vote")
    for name, what in (
        ("promote", "make a learner a voter"),
        ("demote", "make a voter a learner"),
        ("remove", "take a server out of the cluster, even the leader"),
    ):
        _use_command(commands, name, what).add_argument("id", type=_id)
    transfer = _use_command(commands, "transfer", "let another server lead")
    transfer.add_argument("id", type=_id, nargs="?", help="which one (default: the best)")
    snapshot = _use_command(
        commands, "snapshot", "let a server replace its log by a snapshot", timeout=30.0
    )
    snapshot.add_argument("id", type=_id, nargs="?", help="which one (default: the leader)")


def _add_key_value(commands: Commands) -> None:
    """Add what can be done with keys and values."""
    put = _use_command(commands, "put", "store a value under a key")
    get = _use_command(commands, "get", "print what a key holds")
    delete = _use_command(commands, "delete", "forget a key")
    cas = _use_command(commands, "cas", "store a value if the key holds the one that is expected")
    append = _use_command(commands, "append", "put a value behind what a key holds")
    incr = _use_command(commands, "incr", "add to the number that a key holds, and print it")
    for command in (put, get, delete, cas, append, incr):
        command.add_argument("key", type=os.fsencode)
    cas.add_argument("expected", type=os.fsencode, help="what it must hold")
    for command in (put, cas, append):
        command.add_argument("value", type=os.fsencode)
    put.add_argument("--new", action="store_true", help="only if there is no such key")
    incr.add_argument("amount", type=_whole, nargs="?", default=1, help="default 1")
    scan = _use_command(commands, "scan", "print keys and what they hold, a line for each")
    scan.add_argument("prefix", type=os.fsencode, nargs="?", default=b"", help="how they begin")
    scan.add_argument("--limit", type=_count, default=0, metavar="N", help="at most so many")
    _add_consistency(get)
    _add_consistency(scan)


def _add_consistency(get: argparse.ArgumentParser) -> None:
    choice = get.add_mutually_exclusive_group()
    choice.set_defaults(consistency="LINEARIZABLE")
    for name, what in (
        ("lease", "let the leader answer without asking the others, trusting their clocks"),
        ("stale", "let any server answer from what it has, perhaps long out of date"),
    ):
        choice.add_argument(
            f"--{name}",
            dest="consistency",
            action="store_const",
            const=name.upper(),
            help=what,
        )


Commands = Any  # argparse keeps the name of this class to itself


def _add(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + "."
    )
    # As from Python 3.14 on: -1s is a wrong duration then, and no unknown option.
    command._negative_number_matcher = re.compile(r"-\.?\d")
    command.set_defaults(run=run, parser=command)
    return command


def _use_command(
    commands: Commands, name: str, what: str, timeout: float = 5.0
) -> argparse.ArgumentParser:
    command = _add(commands, name, _use, what)
    _add_cluster_options(command)
    command.add_argument(
        "--server",
        type=_server,
        action="append",
        metavar="ID=HOST:PORT",
        help="a server of the cluster; once for each (RAFT_SERVERS=ID=HOST:PORT,...)",
    )
    command.add_argument(
        "--timeout",
        type=_duration,
        default=timeout,
        metavar="DURATION",
        help=f"how long to try (default {timeout:g}s)",
    )
    return command


def _add_cluster_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--cluster",
        metavar="NAME",
        help="the cluster's name (RAFT_CLUSTER; default: the one in the certificate)",
    )
    proof = command.add_mutually_exclusive_group()
    proof.add_argument(
        "--secret-file",
        type=Path,
        metavar="FILE",
        help="the file with the cluster's secret, on one machine (RAFT_SECRET_FILE)",
    )
    proof.add_argument(
        "--certificate",
        type=Path,
        metavar="FILE",
        help="our certificate and key, made by 'raft certs': connections are encrypted, "
        "between machines, too (RAFT_CERTIFICATE, which counts more than RAFT_SECRET_FILE)",
    )


def _add_serve(commands: Commands) -> None:
    serve = _add(commands, "serve", _serve, "run one server until it is told to stop")
    _add_cluster_options(serve)
    add = serve.add_argument
    add("--id", type=_id, required=True, help="this server's number, from 1 on")
    add(
        "--listen",
        type=_place,
        required=True,
        metavar="HOST:PORT",
        help="where to listen; port 0 takes a free one; without a certificate on loopback only",
    )
    add(
        "--peer",
        type=_server,
        action="append",
        default=[],
        metavar="ID=HOST:PORT",
        help="another server of the cluster; once for each",
    )
    add(
        "--join",
        action="store_true",
        help="belong to no cluster yet, and wait to be added to one (raft add)",
    )
    add(
        "--advertise",
        type=_address,
        metavar="HOST:PORT",
        help="where the others reach this server, if not where it listens",
    )
    add(
        "--data", type=_directory, required=True, metavar="DIR", help="the directory of this server"
    )
    _add_behaviour(serve)
    add("--seed", type=_whole, metavar="N", help="draw the same election timeouts in every run")
    add(
        "--attended",
        action="store_true",
        help="stop when standard input ends; time stands still until an observer sets the clock",
    )
    add(
        "--rules",
        action="append",
        default=[],
        metavar="NAME",
        help="break this rule of Raft on purpose (with --attended); once for each",
    )


def _add_behaviour(serve: argparse.ArgumentParser) -> None:
    """Add what a server does when: elections, heartbeats, snapshots."""
    add = serve.add_argument
    add(
        "--election-timeout",
        type=_durations,
        default=(0.150, 0.300),
        metavar="A..B",
        help="how long to wait for a leader, at random between these (default 150ms..300ms)",
    )
    add(
        "--heartbeat",
        type=_duration,
        default=0.050,
        metavar="DURATION",
        help="how often a leader makes itself heard (default 50ms)",
    )
    add(
        "--append-bytes",
        type=_size,
        default=256 * 1024,
        metavar="SIZE",
        help="send followers so much of the log at once, but at least an entry (default 256KiB)",
    )
    add(
        "--snapshot-entries",
        type=_count,
        default=10_000,
        metavar="N",
        help="take a snapshot after so many entries (default 10000; 0: never for that reason)",
    )
    add(
        "--snapshot-bytes",
        type=_size,
        default=64 * 1024**2,
        metavar="SIZE",
        help="or after so many bytes of them (default 64MiB; 0: never for that reason)",
    )
    add(
        "--no-pre-vote",
        dest="pre_vote",
        action="store_false",
        help="start elections without asking first whether they can be won",
    )
    add(
        "--no-check-quorum",
        dest="check_quorum",
        action="store_false",
        help="let a leader lead on that hears from no majority, and others vote against one "
        "that they hear; there are no lease reads then",
    )
