"""The one command language (design §9): keys, mouse, ``:`` line, lessons and scripts speak it."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.command_kinds import Command as Command
from raftviz.command_kinds import Cut as Cut
from raftviz.command_kinds import Delay as Delay
from raftviz.command_kinds import Delete as Delete
from raftviz.command_kinds import Expect as Expect
from raftviz.command_kinds import Freeze as Freeze
from raftviz.command_kinds import Get as Get
from raftviz.command_kinds import Heal as Heal
from raftviz.command_kinds import Help as Help
from raftviz.command_kinds import Isolate as Isolate
from raftviz.command_kinds import Kill as Kill
from raftviz.command_kinds import LabCommand as LabCommand
from raftviz.command_kinds import Partition as Partition
from raftviz.command_kinds import Pause as Pause
from raftviz.command_kinds import Put as Put
from raftviz.command_kinds import Quit as Quit
from raftviz.command_kinds import Rate as Rate
from raftviz.command_kinds import Restart as Restart
from raftviz.command_kinds import Resume as Resume
from raftviz.command_kinds import ScriptCommand as ScriptCommand
from raftviz.command_kinds import Select as Select
from raftviz.command_kinds import Step as Step
from raftviz.command_kinds import Thaw as Thaw
from raftviz.command_kinds import Timeout as Timeout
from raftviz.command_kinds import ViewerCommand as ViewerCommand
from raftviz.command_kinds import Wait as Wait
from raftviz.command_text import MAX_LENGTH as MAX_LENGTH
from raftviz.command_text import (
    ROLES,
    Reader,
    ReadingError,
    Word,
    format_duration,
    format_link,
    format_rate,
    format_servers,
    quote,
)
from raftviz.command_text import CommandError as CommandError
from raftviz.command_text import Servers as Servers
from raftviz.command_text import Who as Who
from raftviz.model.conditions import complete_condition, condition_help

MAX_STEPS = 1000
WAIT_SECONDS = 30.0
"""How long ``wait CONDITION`` waits unless it says so."""

DEFAULT_SERVERS = tuple(map(ServerId, range(1, 6)))

_Read = Callable[[Reader], Command]
_AT = re.compile("@")
_LIKE_DURATION = re.compile(r"[0-9.]+\s*[a-zA-Z]*\s*(#|$)")


# --- Reading ---------------------------------------------------------------------------------


def _servers(kind: Callable[[Servers], Command]) -> _Read:
    return lambda reader: kind(reader.servers())


def _nothing(kind: Callable[[], Command]) -> _Read:
    return lambda reader: kind()


def _link(reader: Reader, *, one_side: bool = False) -> tuple[Servers, Servers, bool]:
    """Read ``1 -> 2`` (one way) or ``1 2`` (both ways); a side may be several, as ``1,2``.

    With ``one_side`` the other one may be left out and is all servers.
    """
    one_way = reader.has_arrow
    a = reader.servers() if one_way else reader.joined_servers()
    if one_way and not reader.take("->"):
        reader.fail("->")
    if one_side and reader.at_end and not one_way:
        return a, Who.ALL, True
    column = reader.column
    b = reader.servers() if one_way else reader.joined_servers()
    if a == b and not isinstance(a, Who) and len(a) == 1:
        raise ReadingError(column, "another server at the other end")
    return a, b, not one_way


def _heal(reader: Reader) -> Command:
    if reader.at_end:
        return Heal(Who.ALL, Who.ALL, True)
    return Heal(*_link(reader, one_side=True))


def _partition(reader: Reader) -> Command:
    groups: list[Servers] = []
    while True:
        column = reader.column
        group = reader.servers()
        if any(group == other or set(_numbers(group)) & set(_numbers(other)) for other in groups):
            raise ReadingError(column, "servers that are in no other group")
        groups.append(group)
        if not reader.take("|"):
            return Partition(tuple(groups))


def _numbers(servers: Servers) -> tuple[ServerId, ...]:
    return () if isinstance(servers, Who) else servers


def _put(reader: Reader) -> Command:
    key, value = _key(reader), reader.word("a value")
    server = reader.destination()
    if not reader.at_end:
        whole = f"{value.text} {reader.rest()}".encode("utf-8", "replace")
        raise ReadingError(
            value.column,
            "one value (in quotes if it has spaces)",
            fixed=f"put {quote(key.value)} {quote(whole)}",
        )
    return Put(key.value, value.value, server)


def _key(reader: Reader) -> Word:
    if reader.comes(_AT):
        reader.fail("a key (in quotes if it begins with @)")
    return reader.word("a key")


def _step(reader: Reader) -> Command:
    return Step(1 if reader.at_end else reader.count(MAX_STEPS))


def _help(reader: Reader) -> Command:
    return Help(" ".join(reader.rest().lower().split()))


def _wait(reader: Reader) -> Command:
    if reader.comes(_LIKE_DURATION):
        return Wait(reader.duration())
    return _condition(reader, WAIT_SECONDS)


def _expect(reader: Reader) -> Command:
    return _condition(reader, 0.0)


def _condition(reader: Reader, within: float) -> Expect:
    condition = reader.condition()
    if reader.take("within"):
        within = reader.duration()
    return Expect(condition, within)


# --- The table -------------------------------------------------------------------------------


class Scope(enum.Enum):
    """Where a command means something."""

    LAB = "on the cluster"
    VIEWER = "on the screen"
    SCRIPT = "in scripts and lessons"


class Takes(enum.Enum):
    """What a command's arguments are, for their completion."""

    NOTHING = enum.auto()
    SERVERS = enum.auto()
    KEY = enum.auto()
    DURATION = enum.auto()
    RATE = enum.auto()
    TOPIC = enum.auto()
    CONDITION = enum.auto()


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """One command of the language. ``read`` reads what follows its name."""

    name: str
    syntax: str
    summary: str
    example: str
    takes: Takes
    read: _Read
    scope: Scope = Scope.LAB
    aliases: tuple[str, ...] = ()


TABLE: tuple[CommandSpec, ...] = (
    CommandSpec(
        "kill",
        "kill SERVERS",
        "end server processes at once (SIGKILL)",
        "kill leader",
        Takes.SERVERS,
        _servers(Kill),
    ),
    CommandSpec(
        "restart",
        "restart SERVERS",
        "start dead servers again, each on its own data",
        "restart all",
        Takes.SERVERS,
        _servers(Restart),
    ),
    CommandSpec(
        "pause",
        "pause SERVERS",
        "stop processes where they are (SIGSTOP); their connections stay open",
        "pause 2",
        Takes.SERVERS,
        _servers(Pause),
    ),
    CommandSpec(
        "resume",
        "resume SERVERS",
        "let paused processes go on (SIGCONT)",
        "resume 2",
        Takes.SERVERS,
        _servers(Resume),
    ),
    CommandSpec(
        "cut",
        "cut A B | cut A -> B",
        "lose every message between two servers, or those one way only",
        "cut 1 -> 2",
        Takes.SERVERS,
        lambda reader: Cut(*_link(reader)),
    ),
    CommandSpec(
        "heal",
        "heal [A [B] | A -> B]",
        "undo cuts: all of them, those of a server, or of one link",
        "heal all",
        Takes.SERVERS,
        _heal,
    ),
    CommandSpec(
        "partition",
        "partition SERVERS | SERVERS …",
        "cut every link between the groups; servers not named form one more",
        "partition 1 2 | 3 4 5",
        Takes.SERVERS,
        _partition,
    ),
    CommandSpec(
        "isolate",
        "isolate SERVERS",
        "cut every link of each of these servers, both ways",
        "isolate leader",
        Takes.SERVERS,
        _servers(Isolate),
    ),
    CommandSpec(
        "delay",
        "delay DURATION",
        "how long every message takes, in the cluster's time",
        "delay 20ms",
        Takes.DURATION,
        lambda reader: Delay(reader.duration()),
    ),
    CommandSpec(
        "put",
        "put KEY VALUE [@SERVER]",
        "store a value; @SERVER asks that server, leader or not",
        "put x 1",
        Takes.KEY,
        _put,
    ),
    CommandSpec(
        "get",
        "get KEY [@SERVER]",
        "read a key as of now (a linearizable read)",
        "get x @2",
        Takes.KEY,
        lambda reader: Get(_key(reader).value, reader.destination()),
    ),
    CommandSpec(
        "delete",
        "delete KEY [@SERVER]",
        "forget a key",
        "delete x",
        Takes.KEY,
        lambda reader: Delete(_key(reader).value, reader.destination()),
    ),
    CommandSpec(
        "timeout",
        "timeout SERVERS",
        "let election timers run out now",
        "timeout 3",
        Takes.SERVERS,
        _servers(Timeout),
        aliases=("time out",),
    ),
    CommandSpec(
        "rate",
        "rate RATE",
        "how fast the cluster's time runs: 1 is real time, 0 stands still",
        "rate 1/20",
        Takes.RATE,
        lambda reader: Rate(reader.rate()),
    ),
    CommandSpec(
        "freeze",
        "freeze",
        "let time stand still: nothing arrives, no timer fires",
        "freeze",
        Takes.NOTHING,
        _nothing(Freeze),
    ),
    CommandSpec(
        "thaw",
        "thaw",
        "let time run again as fast as before",
        "thaw",
        Takes.NOTHING,
        _nothing(Thaw),
    ),
    CommandSpec(
        "step",
        "step [COUNT]",
        "while frozen: go on to the next thing due, a message or a timer",
        "step",
        Takes.NOTHING,
        _step,
    ),
    CommandSpec(
        "select",
        "select SERVER",
        "show the whole state of a server",
        "select leader",
        Takes.SERVERS,
        lambda reader: Select(reader.one_server()),
        Scope.VIEWER,
    ),
    CommandSpec(
        "help",
        "help [COMMAND | conditions]",
        "what can be said, and how",
        "help partition",
        Takes.TOPIC,
        _help,
        Scope.VIEWER,
        aliases=("?",),
    ),
    CommandSpec(
        "quit",
        "quit",
        "stop all servers and leave",
        "quit",
        Takes.NOTHING,
        _nothing(Quit),
        Scope.VIEWER,
        aliases=("exit",),
    ),
    CommandSpec(
        "wait",
        "wait DURATION | wait CONDITION [within DURATION]",
        f"let the cluster's time pass, or wait (up to {WAIT_SECONDS:g} s) for a condition",
        "wait leader != 0",
        Takes.CONDITION,
        _wait,
        Scope.SCRIPT,
    ),
    CommandSpec(
        "expect",
        "expect CONDITION [within DURATION]",
        "fail unless a condition holds, now or within a time",
        "expect leaders == 1 within 5s",
        Takes.CONDITION,
        _expect,
        Scope.SCRIPT,
    ),
)
_BY_NAME = {name: spec for spec in TABLE for name in (spec.name, *spec.aliases)}
_NAME = re.compile(r"\s*(time\s+out\b|[^\s#]\S*|)", re.IGNORECASE)  # one alias is two words


def parse(text: str) -> Command:
    """Read one command; a comment behind it (``# …``) is left out. Raises CommandError."""
    try:
        return _read(text)
    except ReadingError as error:
        nearest = _nearest(text, error)
        raise CommandError(text, error.column, error.expected, nearest) from None


def is_blank(text: str) -> bool:
    """Tell whether a line says nothing: it is empty or only a comment."""
    return text.strip() == "" or text.lstrip().startswith("#")


def _spec_and_reader(text: str) -> tuple[CommandSpec | None, Reader]:
    match = _NAME.match(text)
    assert match is not None  # it matches nothing, too
    spec = _BY_NAME.get(" ".join(match[1].lower().split()))
    return spec, Reader(text, match.end() if spec else match.start(1))


def _read(text: str) -> Command:
    if len(text) > MAX_LENGTH:
        raise ReadingError(MAX_LENGTH + 1, f"at most {MAX_LENGTH} characters")
    spec, reader = _spec_and_reader(text)
    if spec is None:
        reader.fail("a command", tuple(_BY_NAME))
    command = spec.read(reader)
    reader.end()
    return command


def _nearest(text: str, error: ReadingError) -> str:
    """Return the right command that comes closest to ``text``."""
    for candidate in _corrections(text, error):
        try:
            _read(candidate)
        except ReadingError:
            continue
        return candidate.strip()
    spec, _ = _spec_and_reader(text)
    if spec is None:
        names = difflib.get_close_matches(_word_at(text, 0).lower(), _BY_NAME, 1)
        return _BY_NAME[names[0]].example if names else "help"
    return spec.example


def _corrections(text: str, error: ReadingError) -> Iterator[str]:
    start = error.column - 1
    word = _word_at(text, start)
    if error.fixed:
        yield error.fixed
    for right in difflib.get_close_matches(word.lower(), error.words, 3, 0.5):
        yield text[:start] + right + text[start + len(word) :]
    yield text[:start]


def _word_at(text: str, place: int) -> str:
    return next(iter(text[place:].split()), "")


# --- Writing ---------------------------------------------------------------------------------


def format_command(command: Command) -> str:
    """Write a command so that ``parse`` reads the same one."""
    match command:
        case Cut(a, b, both_ways) | Heal(a, b, both_ways):
            if command == Heal(Who.ALL, Who.ALL, True):
                return "heal all"
            return f"{_name(command)} {format_link(a, b, both_ways)}"
        case Partition(groups):
            return "partition " + " | ".join(format_servers(group) for group in groups)
        case Delay(seconds) | Wait(seconds):
            return f"{_name(command)} {format_duration(seconds)}"
        case Put(key, value, server):
            return f"put {quote(key)} {quote(value)}{_destination(server)}"
        case Get(key, server) | Delete(key, server):
            return f"{_name(command)} {quote(key)}{_destination(server)}"
        case Rate(rate):
            return f"rate {format_rate(rate)}"
        case Step(count):
            return "step" if count == 1 else f"step {count}"
        case Help(topic):
            return f"help {topic}".strip()
        case Expect(condition, within):
            return f"expect {condition}{f' within {format_duration(within)}' if within else ''}"
        case Freeze() | Thaw() | Quit():
            return _name(command)
    return f"{_name(command)} {format_servers(command.servers)}"


def _name(command: Command) -> str:
    return type(command).__name__.lower()


def _destination(server: Servers | None) -> str:
    return "" if server is None else f" @{format_servers(server)}"


# --- Completion and help -----------------------------------------------------------------------

_SUGGESTED: dict[Takes, tuple[str, ...]] = {
    Takes.SERVERS: ROLES,
    Takes.KEY: ("@leader",),
    Takes.DURATION: ("10ms", "20ms", "50ms", "100ms", "200ms"),
    Takes.RATE: ("0", "1/100", "1/50", "1/20", "1/10", "1/5", "1/2", "1", "2", "5", "10"),
    Takes.TOPIC: (*(spec.name for spec in TABLE), "conditions"),
}
_LAST_WORD = re.compile(r"[^\s,|>→]*$")


def complete(text: str, servers: Sequence[ServerId] = DEFAULT_SERVERS) -> list[str]:
    """Return longer texts that ``text`` may become, the likeliest first; each begins with it."""
    spec, _ = _spec_and_reader(text)
    if not text[-1:].isspace() and len(text.split()) <= 1:
        names = (spec.name for spec in TABLE)
        return _continued(text, text.lstrip(), names)
    if spec is None:
        return []
    if spec.takes is Takes.CONDITION:
        return [text + rest for rest in complete_condition(text, servers)]
    words: list[str] = list(_SUGGESTED.get(spec.takes, ()))
    if spec.takes is Takes.SERVERS:
        words = [*map(str, servers), *words]
    elif spec.takes is Takes.KEY:
        words += [f"@{server}" for server in servers]
    match = _LAST_WORD.search(text)
    assert match is not None
    return _continued(text, match[0], words)


def _continued(text: str, begun: str, words: Iterable[str]) -> list[str]:
    return [
        text + word[len(begun) :]
        for word in words
        if word.startswith(begun.lower()) and len(word) > len(begun)
    ]


def help_text(topic: str = "") -> str:
    """Return what can be said, or how to say one thing: a command, or ``conditions``."""
    if not topic:
        return "\n\n".join(_help_on_scope(scope) for scope in Scope)
    if topic == "conditions":
        return condition_help()
    spec = _BY_NAME.get(topic)
    if spec is None:
        near = difflib.get_close_matches(topic, [*_BY_NAME, "conditions"], 1)
        hint = f"did you mean {near[0]}?" if near else "help lists all commands"
        return f'there is no "{printable(topic, 30)}": {hint}'
    lines = [spec.syntax, f"    {spec.summary}", f"    for example: {spec.example}"]
    if spec.aliases:
        lines.append(f"    also: {', '.join(spec.aliases)}")
    if spec.takes is Takes.CONDITION:
        lines.append("    what a condition can say: help conditions")
    return "\n".join(lines)


def is_topic(topic: str) -> bool:
    """Tell whether ``help_text`` knows more of it than what comes near."""
    return not topic or topic == "conditions" or topic in _BY_NAME


def _help_on_scope(scope: Scope) -> str:
    specs = [spec for spec in TABLE if spec.scope is scope]
    width = max(len(spec.syntax) for spec in specs)
    lines = (f"  {spec.syntax:<{width}}  {spec.summary}" for spec in specs)
    return "\n".join((f"{scope.value}:", *lines))
