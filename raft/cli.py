"""``raft``: run one server of a cluster, and use a cluster.

What a command needs is imported when it runs: ``raft --help`` waits for nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from raft import simulate
from raft.core.messages import ServerId
from raft.printable import printable

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
"""

EPILOG = """\
Exit status: 0 done, 1 failed (standard error says why), 2 wrong usage, 3 a server's storage
cannot be used.
"""

DONE, FAILED, INTERRUPTED = 0, 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Nobody reads our output any more, and Python must not complain about that at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status


def _fail(options: argparse.Namespace, reason: object) -> int:
    print(f"raft {options.command}: {printable(str(reason))}", file=sys.stderr)
    return FAILED


def _misused(options: argparse.Namespace, reason: str) -> NoReturn:
    parser: argparse.ArgumentParser = options.parser
    parser.error(printable(reason))


# --- The commands ----------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    from raft.core.core import Config
    from raft.handshake import Identity
    from raft.server import ServerConfig
    from raft.serving import serve

    peers = _by_id(options, options.peer)
    if options.id in peers:
        _misused(options, f"--peer names the other servers; {options.id} is this one")
    shortest, longest = options.election_timeout
    try:
        identity = Identity(_cluster(options), options.id, _secret(options))
        core = Config(
            server=options.id,
            members=tuple(sorted([options.id, *peers])),
            election_timeout_min=shortest,
            election_timeout_max=longest,
            heartbeat_interval=options.heartbeat,
        )
    except ValueError as error:
        _misused(options, str(error))
    config = ServerConfig(
        core=core,
        cluster=identity.cluster,
        secret=identity.secret,
        listen=options.listen,
        peers=peers,
        seed=options.seed,
        attended=options.attended,
    )
    return serve(config, options.data)


def _secret_command(options: argparse.Namespace) -> int:
    from raft.secret import write_secret

    try:
        write_secret(options.file)
    except OSError as error:
        return _fail(options, f"{options.file}: {error.strerror}")
    return DONE


def _use(options: argparse.Namespace) -> int:
    from raft.client import Raft
    from raft.errors import RaftError
    from raft.using import CannotError, use

    try:
        raft = Raft(_servers(options), _cluster(options), _secret(options))
    except ValueError as error:
        _misused(options, str(error))
    try:
        use(raft, options)
    except (RaftError, CannotError) as error:
        return _fail(options, error)
    return DONE


# --- What they are told ------------------------------------------------------------------------


def _servers(options: argparse.Namespace) -> dict[ServerId, str]:
    """Return where the cluster's servers are, from the command line or the environment."""
    given: list[tuple[ServerId, str]] = options.server or []
    text = os.environ.get("RAFT_SERVERS", "")
    if not given and text:
        try:
            given = [_server(part.strip()) for part in text.split(",")]
        except argparse.ArgumentTypeError as error:
            _misused(options, f"RAFT_SERVERS: {error}")
    if not given:
        _misused(options, "which servers? Give --server ID=HOST:PORT, or set RAFT_SERVERS")
    return _by_id(options, given)


def _by_id(
    options: argparse.Namespace, given: Iterable[tuple[ServerId, str]]
) -> dict[ServerId, str]:
    addresses: dict[ServerId, str] = {}
    for server, address in given:
        if server in addresses:
            _misused(options, f"server {server} is given twice")
        addresses[server] = address
    return addresses


def _cluster(options: argparse.Namespace) -> str:
    name: str = options.cluster or os.environ.get("RAFT_CLUSTER", "")
    if not name:
        _misused(options, "which cluster? Give --cluster NAME, or set RAFT_CLUSTER")
    return name


def _secret(options: argparse.Namespace) -> bytes:
    from raft.secret import read_secret

    path: Path | None = options.secret_file
    if path is None and (name := os.environ.get("RAFT_SECRET_FILE")):
        path = Path(name)
    if path is None:
        _misused(options, "which secret? Give --secret-file FILE, or set RAFT_SECRET_FILE")
    try:
        return read_secret(path)
    except OSError as error:
        _misused(options, f"{path}: {error.strerror}")
    except ValueError as error:
        _misused(options, str(error))


def _id(text: str) -> ServerId:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**63):
        raise argparse.ArgumentTypeError(f"{text!r} is no server id: a number from 1 on is")
    return ServerId(int(text))


def _address(text: str) -> str:
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
    return _id(number), _address(address)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")
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
    put = _add(commands, "put", _use, "store a value under a key")
    get = _add(commands, "get", _use, "print what a key holds")
    delete = _add(commands, "delete", _use, "forget a key")
    status = _add(commands, "status", _use, "print every server's state")
    secret = _add(commands, "secret", _secret_command, "make the secret that a cluster shares")
    simulate.add_arguments(_add(commands, "sim", simulate.main, "try Raft in simulated clusters"))
    for command in (put, get, delete, status):
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
            default=5.0,
            metavar="DURATION",
            help="how long to try (default 5s)",
        )
    for command in (put, get, delete):
        command.add_argument("key", type=os.fsencode)
    put.add_argument("value", type=os.fsencode)
    secret.add_argument("file", type=Path, help="a new file, for its owner's eyes alone")
    return parser


Commands = Any  # argparse keeps the name of this class to itself


def _add(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], what: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what[0].upper() + what[1:] + "."
    )
    command.set_defaults(run=run, parser=command)
    return command


def _add_cluster_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--cluster", metavar="NAME", help="the cluster's name (RAFT_CLUSTER)")
    command.add_argument(
        "--secret-file",
        type=Path,
        metavar="FILE",
        help="the file with the cluster's secret (RAFT_SECRET_FILE)",
    )


def _add_serve(commands: Commands) -> None:
    serve = _add(commands, "serve", _serve, "run one server until it is told to stop")
    _add_cluster_options(serve)
    add = serve.add_argument
    add("--id", type=_id, required=True, help="this server's number, from 1 on")
    add(
        "--listen",
        type=_address,
        required=True,
        metavar="HOST:PORT",
        help="where to listen; port 0 takes a free one",
    )
    add(
        "--peer",
        type=_server,
        action="append",
        default=[],
        metavar="ID=HOST:PORT",
        help="another server of the cluster; once for each",
    )
    add("--data", type=Path, required=True, metavar="DIR", help="the directory of this server")
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
    add("--seed", type=int, metavar="N", help="draw the same election timeouts in every run")
    add(
        "--attended",
        action="store_true",
        help="stop when standard input ends; time stands still until an observer sets the clock",
    )
