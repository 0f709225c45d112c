"""The commands of a transcript: each does one thing to a :class:`Network` and says what happened.

::

    servers N [one entry a message]    a new cluster, all logs empty
    pre-vote on    check-quorum on     set the scene: what all servers do (they start again)
    pieces of N bytes                  set the scene: how snapshots are sent
    window of N messages (or bytes)    and how much of the log may be out without an answer
    tail of N bytes                    and how much of it may wait to be committed
    log N: TERM …                      set the scene: a server's log, by terms
    term N: TERM     vote N: M         set the scene: currentTerm, votedFor
    timeout N        heartbeat N       a timer fires: an election; a round of heartbeats
    heartbeat N->M after INDEX         the paper's empty AppendEntries (Figure 2)
    elect N by M …                     timeout N, and only these others get to vote
    campaign N                         a server is told to start an election now
    propose N COMMAND                  a client speaks to a server
    open-session N   request N SESSION/NUMBER COMMAND
                                       it wants a command to be carried out once, however often
                                       it asks (thesis §6.3)
    answers N                          what N's state machine answered: it counts each command
    read N           lease-read N      a client reads at a server; and trusts its lease
    stale-read N                       and takes what the server has, however old that is
    add N  add-learner N  promote N  demote N  remove N
                                       the leader is asked to change the members
    change add N remove M … [as of INDEX]
                                       … in several ways at once; only if the members are still
                                       those of that entry
    transfer N       transfer          the leader is asked to hand over to N, to the best one
    forget-leader N                    a server is told that its leader is gone
    compact N [keep COUNT]             a snapshot takes the place of N's log
    deliver [one] [N->M] [KIND]        messages now in flight arrive: all that fit, or the oldest
    drop … hold … duplicate … release  they are lost; held back; a copy is; no longer. * fits all
    damage N->M                        a byte of the piece of a snapshot between them changes
    settle [N M]                       deliver until nothing is in flight (between these two)
    tick 50ms                          time passes; timers that are due fire
    cut N [M …]      heal              these servers reach only each other; all reach all again
    crash N    restart N    disk N slow    disk N save [last]
    lose N from INDEX                  what N, which is down, has stored cannot be read any more
    logs       state N      flight     draw all logs, tell a state, list what is in flight

At the margin stands what was done, indented beneath it what that made happen. ``quietly`` at
the end of a command keeps all of it back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from raft.core.events import Role
from raft.core.log import HardState
from raft.core.membership import AddLearner, AddVoter, Change, Demote, Remove
from raft.core.messages import (
    AppendEntries,
    AppendEntriesReply,
    Entry,
    Index,
    InstallSnapshot,
    InstallSnapshotReply,
    Message,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    ServerId,
    Term,
    TimeoutNow,
)
from raft.core.ready import Refused
from raft.core.rules import Rules
from raft.printable import printable
from raft.testing.network import Flight, ImpossibleRequest, Network, entries_of
from raft.testing.safety import Disk, Safety, Strict
from raft.testing.tally import answers, open_session, perform
from raft.testing.words import cell, happening_lines, message_line, role_name, state_lines

KINDS = {
    kind.__name__: kind
    for kind in (
        RequestVote,
        RequestVoteReply,
        AppendEntries,
        AppendEntriesReply,
        RequestPreVote,
        RequestPreVoteReply,
        TimeoutNow,
        InstallSnapshot,
        InstallSnapshotReply,
        ReadIndex,
        ReadIndexReply,
    )
}

CHANGES: dict[str, Callable[[ServerId], Change]] = {
    "add": AddVoter,
    "add-learner": AddLearner,
    "promote": AddVoter,
    "demote": Demote,
    "remove": Remove,
}


LIMITS = {
    ("pieces", "bytes"): "snapshot_chunk_bytes",
    ("window", "messages"): "max_inflight_messages",
    ("window", "bytes"): "max_inflight_bytes",
    ("tail", "bytes"): "max_uncommitted_bytes",
}


class ScriptError(Exception):
    """A command cannot be understood or carried out; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class _Command:
    syntax: str
    pattern: str
    run: Callable[..., list[str]]


class Script:
    """Carries out commands one after the other, beginning with ``servers N``."""

    def __init__(self, rules: Rules | None = None, judge: type[Safety] = Strict) -> None:
        self._rules = rules
        self._judge = judge
        self._network: Network | None = None

    @property
    def network(self) -> Network:
        """The cluster. Raises ScriptError before ``servers N`` has made one."""
        if self._network is None:
            raise ScriptError("there is no cluster yet: begin with `servers 3`")
        return self._network

    def do(self, text: str) -> list[str]:
        """Carry out one command and return what happened, a line each.

        Raises ScriptError for a wrong command, and what the rules make the servers raise.
        """
        quietly = text.strip().endswith(" quietly")
        command = text.strip().removesuffix(" quietly")
        for known in _COMMANDS:
            match = re.fullmatch(known.pattern, command)
            if match is not None:
                try:
                    lines = known.run(self, *match.groups())
                except ImpossibleRequest as error:
                    raise ScriptError(f"`{command}`: {error}") from error
                return [] if quietly else lines
        raise ScriptError(_what_is_right(command))

    # --- The scene -------------------------------------------------------------------------------

    def _servers(self, count: str, one_entry: str | None) -> list[str]:
        size = int(count)
        if not 1 <= size <= 9:
            raise ScriptError(f"a cluster has 1 to 9 servers, not {size}")
        limit = {"max_append_bytes": 1} if one_entry else {}
        self._network = Network(size, self._rules, judge=self._judge, **limit)
        return self._set_the_scene()

    def _switch(self, option: str, state: str) -> list[str]:
        self.network.configure(**{option.replace("-", "_"): state == "on"})
        return self._set_the_scene()

    def _limit(self, what: str, size: str, unit: str) -> list[str]:
        self.network.configure(**{LIMITS[what, unit]: int(size)})
        return self._set_the_scene()

    def _log(self, server: str, terms: str) -> list[str]:
        entries = entries_of(map(int, terms.split()))
        last_term = entries[-1].term if entries else Term(0)
        stored = self._stored(server).hard_state
        hard_state = HardState(max(stored.term, last_term), stored.voted_for)
        return self._install(server, hard_state, entries)

    def _term(self, server: str, term: str) -> list[str]:
        return self._install(server, HardState(Term(int(term))), self._stored(server).entries)

    def _vote(self, server: str, candidate: str) -> list[str]:
        stored = self._stored(server)
        hard_state = HardState(stored.hard_state.term, ServerId(int(candidate)))
        return self._install(server, hard_state, stored.entries)

    def _stored(self, server: str) -> Disk:
        return self.network.disks[self.network.core(int(server)).config.server]

    def _install(self, server: str, hard_state: HardState, entries: tuple[Entry, ...]) -> list[str]:
        self.network.install(int(server), hard_state, entries)
        return self._set_the_scene()

    def _set_the_scene(self) -> list[str]:
        self.network.take_trace()
        return []

    # --- Timers ----------------------------------------------------------------------------------

    def _timeout(self, server: str) -> list[str]:
        if self.network.core(int(server)).role is Role.LEADER:
            raise ScriptError(f"S{server} leads: its timer is for heartbeats, `heartbeat {server}`")
        self.network.fire(int(server))
        return self._happened(f"S{server}'s election timer fires")

    def _heartbeat(self, server: str) -> list[str]:
        if self.network.core(int(server)).role is not Role.LEADER:
            raise ScriptError(f"S{server} does not lead: its timer is for elections")
        self.network.fire(int(server))
        return self._happened(f"S{server}'s heartbeat timer fires")

    def _greet(self, src: str, dst: str, index: str) -> list[str]:
        return [message_line(self.network.greet(int(src), int(dst), int(index)).message)]

    def _elect(self, server: str, voters: str) -> list[str]:
        lines = self._timeout(server)
        for kind in ("RequestPreVote", "RequestVote"):
            if not self._chosen(f" {server}->* {kind}"):
                continue
            for voter in voters.split():
                lines += self._deliver(f" {server}->{voter} {kind}")
            self._drop(f" {server}->* {kind}")
            for voter in voters.split():
                lines += self._deliver(f" {voter}->{server} {kind}Reply")
        return lines

    def _campaign(self, server: str) -> list[str]:
        if not self.network.campaign(int(server)):
            return [f"S{server} starts no election"]
        return self._happened(f"S{server} is told to start an election")

    def _tick(self, milliseconds: str) -> list[str]:
        self.network.advance(int(milliseconds) / 1000)
        return self._happened(f"{milliseconds} ms pass")

    # --- Clients, and people in charge -----------------------------------------------------------

    def _propose(self, server: str, command: str) -> list[str]:
        index = self.network.propose(int(server), command.encode())
        if isinstance(index, Refused):
            return _refused(server, index)
        return self._happened(f"S{server} takes {printable(command)} as entry {index}")

    def _open_session(self, server: str) -> list[str]:
        index = self.network.propose(int(server), open_session())
        if isinstance(index, Refused):
            return _refused(server, index)
        return self._happened(f"S{server} takes the opening of a session as entry {index}")

    def _request(self, server: str, session: str, number: str, command: str) -> list[str]:
        request = perform(int(session), int(number), command)
        index = self.network.propose(int(server), request)
        if isinstance(index, Refused):
            return _refused(server, index)
        words = f"command {number} of session {session}, {printable(command)},"
        return self._happened(f"S{server} takes {words} as entry {index}")

    def _answers(self, server: str) -> list[str]:
        lines = [f"  {line}" for line in answers(self.network.core(int(server)))]
        return [f"S{server}'s state machine answers", *lines]

    def _read(self, server: str) -> list[str]:
        context = self.network.read(int(server))
        if context is None:
            return [f"S{server} knows no leader and takes no read"]
        return self._happened(f"S{server} takes read {context}")

    def _lease_read(self, server: str) -> list[str]:
        context = self.network.lease_read(int(server))
        if context is None:
            return [f"S{server} has no lease"]
        return self._happened(f"S{server} takes read {context} on its lease")

    def _stale_read(self, server: str) -> list[str]:
        applied = self.network.core(int(server)).last_applied
        return [f"S{server} answers a stale read from what it has applied, up to entry {applied}"]

    def _change(self, text: str, expected: str | None = None) -> list[str]:
        leader = self._leader()
        words = text.split()
        changes = []
        for word, number in zip(words[::2], words[1::2], strict=True):
            changes.append(CHANGES[word](ServerId(int(number))))
            if word.startswith("add"):
                self.network.join(int(number))
        index = self.network.change(leader, changes, int(expected) if expected else None)
        if isinstance(index, Refused):
            return _refused(leader, index)
        return self._happened(f"S{leader} is asked: {text}")

    def _transfer(self, target: str | None) -> list[str]:
        leader = self._leader()
        refused = self.network.transfer(leader, int(target) if target else None)
        if refused is not None:
            return _refused(leader, refused)
        return self._happened(f"S{leader} is asked to hand over")

    def _leader(self) -> ServerId:
        if self.network.leader is None:
            raise ImpossibleRequest("nobody leads")
        return self.network.leader

    def _forget_leader(self, server: str) -> list[str]:
        self.network.forget_leader(int(server))
        return self._happened(f"S{server} is told that its leader is gone")

    def _compact(self, server: str, keep: str | None) -> list[str]:
        self.network.compact(int(server), int(keep or 0))
        return self._happened(f"S{server} is asked to compact its log")

    # --- Messages --------------------------------------------------------------------------------

    def _deliver(self, choice: str) -> list[str]:
        lines = []
        for flight in self._chosen(choice):
            self.network.deliver(flight)
            lines += self._arrived(flight.message)
        return lines or ["no such message is in flight"]

    def _settle(self, one: str | None, other: str | None) -> list[str]:
        def wanted(message: Message) -> bool:
            return one is None or {str(message.src), str(message.dst)} == {one, other}

        return [line for message in self.network.each(wanted) for line in self._arrived(message)]

    def _drop(self, choice: str) -> list[str]:
        return self._all(self._chosen(choice), self.network.drop)

    def _duplicate(self, choice: str) -> list[str]:
        def keep_a_copy(flight: Flight) -> None:
            self.network.duplicate(flight).held = True

        return self._all(self._chosen(choice), keep_a_copy)

    def _hold(self, choice: str) -> list[str]:
        return self._all(self._chosen(choice), lambda flight: _set_held(flight, True))

    def _release(self, choice: str) -> list[str]:
        chosen = self._chosen(choice, held=True)
        return self._all(chosen, lambda flight: _set_held(flight, False))

    def _damage(self, src: str, dst: str) -> list[str]:
        return self._all(self._chosen(f" {src}->{dst} InstallSnapshot"), _flip_a_bit)

    def _flight(self) -> list[str]:
        return [
            message_line(flight.message) + ("  (held)" if flight.held else "")
            for flight in self.network.in_flight
        ] or ["nothing is in flight"]

    def _all(self, flights: Iterable[Flight], fate: Callable[[Flight], object]) -> list[str]:
        lines = []
        for flight in flights:
            fate(flight)
            lines.append(message_line(flight.message))
        return lines or ["no such message is in flight"]

    def _chosen(self, choice: str, held: bool = False) -> list[Flight]:
        match = _CHOICE.fullmatch(choice)
        if match is None:
            raise ImpossibleRequest(
                f"messages are [one] [N->M] [KIND], KIND is one of {', '.join(KINDS)}"
            )
        one, src, dst, kind = match.groups()

        def fits(message: Message) -> bool:
            return (
                src in (None, "*", str(message.src))
                and dst in (None, "*", str(message.dst))
                and (kind is None or isinstance(message, KINDS[kind]))
            )

        chosen = [f for f in self.network.in_flight if f.held is held and fits(f.message)]
        return chosen[:1] if one else chosen

    # --- Faults, and looking at it ---------------------------------------------------------------

    def _crash(self, server: str) -> list[str]:
        self.network.crash(int(server))
        return self._happened(f"S{server} crashes")

    def _lose(self, server: str, index: str) -> list[str]:
        disk = self.network.disks.get(ServerId(int(server)))
        if disk is None or int(server) in self.network.cores:
            raise ScriptError(
                f"only the disk of a server that is down is damaged: `crash {server}`"
            )
        if not disk.log.prev_index < int(index) <= disk.log.last_index:
            raise ScriptError(f"there is no entry {index} on the disk of S{server}")
        disk.lose(Index(int(index)))
        return [f"S{server} cannot read its log any more from entry {index} on"]

    def _restart(self, server: str) -> list[str]:
        self.network.restart(int(server))
        return self._happened(f"S{server} restarts")

    def _slow(self, server: str) -> list[str]:
        self.network.slow.add(self.network.core(int(server)).config.server)
        return []

    def _save(self, server: str) -> list[str]:
        self.network.save(int(server))
        self.network.slow.discard(ServerId(int(server)))
        return self._happened(f"S{server}'s disk has stored all it was given")

    def _report_last(self, server: str) -> list[str]:
        self.network.report_last(int(server))
        return self._happened(f"S{server}'s disk reports of the last that it was given")

    def _cut(self, group: str) -> list[str]:
        inside = {self.network.core(int(server)).config.server for server in group.split()}
        everybody = self.network.servers
        self.network.cut |= {
            (a, b) for a in everybody for b in everybody if (a in inside) != (b in inside)
        }
        return []

    def _heal(self) -> list[str]:
        self.network.cut.clear()
        return []

    def _logs(self) -> list[str]:
        return draw_logs(self.network)

    def _state(self, server: str) -> list[str]:
        return state_lines(self.network.core(int(server)))

    def _arrived(self, message: Message) -> list[str]:
        lines = self._happened(message_line(message))
        if message.dst not in self.network.cores:
            lines.append(f"  lost: S{message.dst} is down")
        elif (message.src, message.dst) in self.network.cut:
            lines.append("  lost: nothing gets through between these two")
        return lines

    def _happened(self, done: str) -> list[str]:
        return [done, *(f"  {line}" for line in happening_lines(self.network.take_trace()))]


def draw_logs(network: Network) -> list[str]:
    """Return all logs, one row a server and one column an index.

    [ ] encloses what is committed, · stands for what was compacted away. Of a server that is
    down its disk is drawn.
    """
    rows = []
    for server in network.servers:
        core = network.cores.get(server)
        log = core.log if core else network.disks[server].log
        commit_index = core.commit_index if core else 0
        role = role_name(core.role) if core else "down"
        cells = [
            f"[{cell(entry)}]" if index <= commit_index else f" {cell(entry)} "
            for index, entry in enumerate(log.entries(1, log.last_index), log.first_index)
        ]
        rows.append([f"S{server} {role}", *[" ·"] * log.prev_index, *cells])
    length = max(len(row) for row in rows)
    if length > 1:
        rows.insert(0, ["", *(f" {index}" for index in range(1, length))])
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(length)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _refused(server: str | ServerId, refused: Refused) -> list[str]:
    return [f"S{server} refuses: {refused.detail}"]


def _set_held(flight: Flight, held: bool) -> None:
    flight.held = held


def _flip_a_bit(flight: Flight) -> None:
    message = flight.message
    assert isinstance(message, InstallSnapshot)
    damaged = bytes([message.data[0] ^ 1]) + message.data[1:]
    flight.message = replace(message, data=damaged)


_CHOICE = re.compile(r"( one)?(?: ([\d*])->([\d*]))?(?: (" + "|".join(KINDS) + "))?")

_A_CHANGE = rf"(?:{'|'.join(CHANGES)}) \d"

_COMMANDS = (
    _Command(
        "servers N [one entry a message]", r"servers (\d+)( one entry a message)?", Script._servers
    ),
    _Command("pre-vote on", r"(pre-vote) (on|off)", Script._switch),
    _Command("check-quorum on", r"(check-quorum) (on|off)", Script._switch),
    *(
        _Command(f"{what} of N {unit}", rf"({what}) of ([1-9]\d*) ({unit})", Script._limit)
        for what, unit in LIMITS
    ),
    _Command("log N: TERM …", r"log (\d):((?: [1-9]\d*)*)", Script._log),
    _Command("term N: TERM", r"term (\d): (\d+)", Script._term),
    _Command("vote N: M", r"vote (\d): (\d)", Script._vote),
    _Command("timeout N", r"timeout (\d)", Script._timeout),
    _Command("heartbeat N", r"heartbeat (\d)", Script._heartbeat),
    _Command("heartbeat N->M after INDEX", r"heartbeat (\d)->(\d) after (\d+)", Script._greet),
    _Command("elect N by M …", r"elect (\d) by((?: \d)+)", Script._elect),
    _Command("campaign N", r"campaign (\d)", Script._campaign),
    _Command("propose N COMMAND", r"propose (\d) (.+)", Script._propose),
    _Command("open-session N", r"open-session (\d)", Script._open_session),
    _Command("request N SESSION/NUMBER COMMAND", r"request (\d) (\d+)/(\d+) (.+)", Script._request),
    _Command("answers N", r"answers (\d)", Script._answers),
    _Command("read N", r"read (\d)", Script._read),
    _Command("lease-read N", r"lease-read (\d)", Script._lease_read),
    _Command("stale-read N", r"stale-read (\d)", Script._stale_read),
    *(_Command(f"{word} N", rf"({word} \d)", Script._change) for word in CHANGES),
    _Command(
        "change add N remove M … [as of INDEX]",
        rf"change ({_A_CHANGE}(?: {_A_CHANGE})*)(?: as of (\d+))?",
        Script._change,
    ),
    _Command("transfer [N]", r"transfer(?: (\d))?", Script._transfer),
    _Command("forget-leader N", r"forget-leader (\d)", Script._forget_leader),
    _Command("compact N [keep COUNT]", r"compact (\d)(?: keep (\d+))?", Script._compact),
    _Command("tick 50ms", r"tick (\d+)ms", Script._tick),
    _Command("deliver [one] [N->M] [KIND]", r"deliver(.*)", Script._deliver),
    _Command("drop [one] [N->M] [KIND]", r"drop(.*)", Script._drop),
    _Command("duplicate [one] [N->M] [KIND]", r"duplicate(.*)", Script._duplicate),
    _Command("hold [one] [N->M] [KIND]", r"hold(.*)", Script._hold),
    _Command("release [one] [N->M] [KIND]", r"release(.*)", Script._release),
    _Command("damage N->M", r"damage (\d)->(\d)", Script._damage),
    _Command("settle [N M]", r"settle(?: (\d) (\d))?", Script._settle),
    _Command("cut N [M …]", r"cut((?: \d)+)", Script._cut),
    _Command("heal", r"heal", Script._heal),
    _Command("crash N", r"crash (\d)", Script._crash),
    _Command("restart N", r"restart (\d)", Script._restart),
    _Command("lose N from INDEX", r"lose (\d) from (\d+)", Script._lose),
    _Command("disk N slow", r"disk (\d) slow", Script._slow),
    _Command("disk N save", r"disk (\d) save", Script._save),
    _Command("disk N save last", r"disk (\d) save last", Script._report_last),
    _Command("logs", "logs", Script._logs),
    _Command("state N", r"state (\d)", Script._state),
    _Command("flight", "flight", Script._flight),
)


def _what_is_right(command: str) -> str:
    word = command.partition(" ")[0]
    forms = [known.syntax for known in _COMMANDS if known.syntax.split()[0] == word]
    if forms:
        return f"`{command}` is not of the form " + " or ".join(f"`{form}`" for form in forms)
    words = dict.fromkeys(known.syntax.split()[0] for known in _COMMANDS)
    return f"`{command}`: there is no command `{word}`; there are {', '.join(words)}"
