"""Who belongs to the cluster, and the legal steps from one configuration to the next.

A configuration is an entry of the log and counts from the moment it is *appended*, committed
or not (§6; thesis §4.1); if the entry is removed again, the one before it counts. What makes
changes safe is that the majorities of neighbouring configurations share a server:

* one voter more or less: majorities overlap by themselves (thesis §4.1);
* any other change goes through a *joint* configuration, in which elections and commitment
  need a majority of the old voters and one of the new (§6)::

      C_old ────▶ C_old,new ────▶ C_new
               appended        appended when C_old,new is committed
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from raft.core.messages import Index, ServerId
from raft.core.quorum import is_quorum, quorum_value

MAX_CONFIGURATION_BYTES = 128 * 1024
"""A longer one is refused before it enters the log: it goes into messages, beside other things."""

Number = TypeVar("Number", int, float)


class ConfigurationError(ValueError):
    """A change asks for something that cannot be; the message says what, for a person."""


@dataclass(frozen=True, slots=True)
class AddLearner:
    """Let a server receive the log without counting in any majority (thesis §4.2.1)."""

    server: ServerId
    address: str = ""


@dataclass(frozen=True, slots=True)
class AddVoter:
    """Make a server a voter: a new one, or a learner that is promoted."""

    server: ServerId
    address: str = ""


@dataclass(frozen=True, slots=True)
class Demote:
    """Make a voter a learner."""

    server: ServerId


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a server out of the cluster."""

    server: ServerId


Change = AddLearner | AddVoter | Demote | Remove


@dataclass(frozen=True, slots=True)
class Configuration:
    """The servers of a cluster. Ids are sorted; ``addresses`` covers those that have one.

    ``outgoing`` are the old voters while the configuration is joint, else empty. A voter on its
    way to learner is in ``outgoing`` and in ``learners``.
    """

    voters: tuple[ServerId, ...]
    learners: tuple[ServerId, ...] = ()
    outgoing: tuple[ServerId, ...] = ()
    addresses: tuple[tuple[ServerId, str], ...] = ()

    @property
    def is_joint(self) -> bool:
        """Two sets of voters must agree."""
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[ServerId, ...]:
        """All servers: voters old and new, and learners."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))

    def is_voter(self, server: ServerId) -> bool:
        """Tell whether a server's vote counts in one of the majorities."""
        return server in self.voters or server in self.outgoing

    def is_quorum(self, agreeing: Iterable[ServerId], quorum: Callable[[int], int]) -> bool:
        """Tell whether enough voters agree: of both sets, if the configuration is joint (§6)."""
        agreed = set(agreeing)
        return all(is_quorum(half, agreed, quorum(len(half))) for half in self._halves())

    def quorum_value(
        self, values: Mapping[ServerId, Number], quorum: Callable[[int], int], missing: Number
    ) -> Number:
        """Return the highest value that enough voters have reached; absent ones have ``missing``.

        Joint: the lower of what the two sets have reached.
        """
        reached = quorum_value(
            [values.get(v, missing) for v in self.voters], quorum(len(self.voters))
        )
        if self.outgoing:
            old = [values.get(v, missing) for v in self.outgoing]
            reached = min(reached, quorum_value(old, quorum(len(self.outgoing))))
        return reached

    def _halves(self) -> tuple[tuple[ServerId, ...], ...]:
        return (self.voters, self.outgoing) if self.outgoing else (self.voters,)

    def address(self, server: ServerId) -> str:
        """Return a server's address, empty if none is known."""
        return dict(self.addresses).get(server, "")

    # --- Steps -------------------------------------------------------------------------------

    def after(self, changes: Iterable[Change]) -> Configuration:
        """Return the configuration that these changes ask for. Raises ConfigurationError."""
        voters, learners = set(self.voters), set(self.learners)
        addresses = dict(self.addresses)
        for change in changes:
            server = change.server
            if server < 1:
                raise ConfigurationError(f"servers have numbers from 1, not {server}")
            match change:
                case AddLearner(address=address):
                    if server in voters or server in learners:
                        raise ConfigurationError(f"S{server} is a member already")
                    learners.add(server)
                    addresses[server] = address
                case AddVoter(address=address):
                    if server in voters:
                        raise ConfigurationError(f"S{server} is a voter already")
                    voters.add(server)
                    learners.discard(server)
                    addresses[server] = address or addresses.get(server, "")
                case Demote():
                    if server not in voters:
                        raise ConfigurationError(f"S{server} is no voter")
                    voters.remove(server)
                    learners.add(server)
                case Remove():
                    if server not in voters and server not in learners:
                        raise ConfigurationError(f"S{server} is no member")
                    voters.discard(server)
                    learners.discard(server)
        if not voters:
            raise ConfigurationError("a cluster needs at least one voter")
        return _configuration(voters, learners, (), addresses)

    def next_step(self, target: Configuration) -> Configuration:
        """Return what to append on the way to ``target``: itself, or the joint step before it."""
        if len(set(self.voters) ^ set(target.voters)) <= 1:
            return target
        return _configuration(
            target.voters,
            target.learners,
            self.voters,
            {**dict(self.addresses), **dict(target.addresses)},
        )

    def left_joint(self) -> Configuration:
        """Return C_new of a joint configuration."""
        return _configuration(self.voters, self.learners, (), dict(self.addresses))

    # --- In the log --------------------------------------------------------------------------

    def encode(self) -> bytes:
        """Return the configuration as the data of a log entry: JSON, so that people can read it."""
        return json.dumps(
            {
                "voters": self.voters,
                "learners": self.learners,
                "outgoing": self.outgoing,
                "addresses": {str(server): address for server, address in self.addresses},
            },
            separators=(",", ":"),
        ).encode()

    def too_long(self) -> str | None:
        """Say that a configuration is over the limit, None if it is not."""
        if (size := len(self.encode())) <= MAX_CONFIGURATION_BYTES:
            return None
        return f"the configuration has {size} bytes; at most {MAX_CONFIGURATION_BYTES} are taken"

    @classmethod
    def decode(cls, data: bytes) -> Configuration:
        """Read what ``encode`` wrote. Raises ConfigurationError."""
        try:
            fields = json.loads(data)
            addresses = {ServerId(int(s)): str(a) for s, a in fields["addresses"].items()}
            parts = [
                [ServerId(int(s)) for s in fields[name]]
                for name in ("voters", "learners", "outgoing")
            ]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"not a configuration: {error}") from None
        voters, learners, outgoing = parts
        return _configuration(voters, learners, outgoing, addresses)


def _configuration(
    voters: Iterable[ServerId],
    learners: Iterable[ServerId],
    outgoing: Iterable[ServerId],
    addresses: Mapping[ServerId, str],
) -> Configuration:
    made = Configuration(
        tuple(sorted(set(voters))), tuple(sorted(set(learners))), tuple(sorted(set(outgoing)))
    )
    known = sorted((s, a) for s, a in addresses.items() if a and s in made.members)
    return replace(made, addresses=tuple(known))


@dataclass(frozen=True, slots=True)
class Placed:
    """A configuration and the index of the entry that it stands in."""

    index: Index
    configuration: Configuration


class Configurations:
    """The configurations in one server's log, the latest in force.

    Invariant: indexes rise; the first one is what the snapshot has, or that of the beginning.
    """

    __slots__ = ("_placed",)

    def __init__(self, first: Configuration, index: Index = Index(0)) -> None:
        self._placed = [Placed(index, first)]

    @property
    def latest(self) -> Configuration:
        """The configuration that counts."""
        return self._placed[-1].configuration

    @property
    def index(self) -> Index:
        """The index of the entry that the latest configuration stands in."""
        return self._placed[-1].index

    @property
    def before(self) -> Configuration:
        """The configuration before the latest; the latest if that is all there is."""
        return self._placed[-2:][0].configuration

    def at(self, index: Index) -> Placed:
        """Return the configuration that was in force at ``index``."""
        for placed in reversed(self._placed):
            if placed.index <= index:
                return placed
        return self._placed[0]

    def append(self, index: Index, configuration: Configuration) -> None:
        """Note a configuration that was appended at ``index``."""
        self._placed.append(Placed(index, configuration))

    def truncate(self, from_index: Index) -> bool:
        """Forget configurations from ``from_index`` on; tell whether the latest changed."""
        before = len(self._placed)
        while len(self._placed) > 1 and self._placed[-1].index >= from_index:
            self._placed.pop()
        return len(self._placed) != before

    def compact(self, index: Index) -> None:
        """Forget what lies before the configuration in force at ``index``."""
        while len(self._placed) > 1 and self._placed[1].index <= index:
            del self._placed[0]

    def begin_with(self, placed: Placed) -> None:
        """Let this one be the first: a snapshot says what was in force before the log begins."""
        self._placed[0] = placed
