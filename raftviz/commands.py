"""The one command language (design §9): keys, mouse, ``:`` line, lessons and scripts speak it.

Each family of commands has a module in ``raftviz.command``; here is the one table of them all,
and from it come the reading, the completion and the help.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.command import (
    clients,
    goings_on,
    machines,
    members,
    messages,
    network,
    rules,
    scripts,
    servers,
    time,
    viewer,
)
from raftviz.command.clients import ClientCommand as ClientCommand
from raftviz.command.clients import Delete as Delete
from raftviz.command.clients import Get as Get
from raftviz.command.clients import Put as Put
from raftviz.command.goings_on import ChaosCommand as ChaosCommand
from raftviz.command.goings_on import ChaosOff as ChaosOff
from raftviz.command.goings_on import ChaosOn as ChaosOn
from raftviz.command.goings_on import Load as Load
from raftviz.command.goings_on import LoadCommand as LoadCommand
from raftviz.command.goings_on import LoadOff as LoadOff
from raftviz.command.goings_on import Mix as Mix
from raftviz.command.machines import Clock as Clock
from raftviz.command.machines import Disk as Disk
from raftviz.command.machines import DiskFault as DiskFault
from raftviz.command.machines import Flip as Flip
from raftviz.command.machines import MachineCommand as MachineCommand
from raftviz.command.machines import Power as Power
from raftviz.command.machines import Slow as Slow
from raftviz.command.members import Add as Add
from raftviz.command.members import Demote as Demote
from raftviz.command.members import MemberCommand as MemberCommand
from raftviz.command.members import Promote as Promote
from raftviz.command.members import Remove as Remove
from raftviz.command.members import Replace as Replace
from raftviz.command.members import Transfer as Transfer
from raftviz.command.messages import Deliver as Deliver
from raftviz.command.messages import Drop as Drop
from raftviz.command.messages import Duplicate as Duplicate
from raftviz.command.messages import Duplication as Duplication
from raftviz.command.messages import Hold as Hold
from raftviz.command.messages import MessageCommand as MessageCommand
from raftviz.command.messages import Messages as Messages
from raftviz.command.messages import Numbered as Numbered
from raftviz.command.messages import Release as Release
from raftviz.command.messages import ShowMessages as ShowMessages
from raftviz.command.network import Bandwidth as Bandwidth
from raftviz.command.network import Bridge as Bridge
from raftviz.command.network import Cut as Cut
from raftviz.command.network import Delay as Delay
from raftviz.command.network import Heal as Heal
from raftviz.command.network import Isolate as Isolate
from raftviz.command.network import Loss as Loss
from raftviz.command.network import NetworkCommand as NetworkCommand
from raftviz.command.network import Partition as Partition
from raftviz.command.network import Reorder as Reorder
from raftviz.command.network import Reset as Reset
from raftviz.command.network import Ring as Ring
from raftviz.command.network import ShowLinks as ShowLinks
from raftviz.command.network import Stall as Stall
from raftviz.command.rules import Break as Break
from raftviz.command.rules import Mend as Mend
from raftviz.command.rules import RuleCommand as RuleCommand
from raftviz.command.scripts import Expect as Expect
from raftviz.command.scripts import ScriptCommand as ScriptCommand
from raftviz.command.scripts import Wait as Wait
from raftviz.command.servers import Kill as Kill
from raftviz.command.servers import Pause as Pause
from raftviz.command.servers import Restart as Restart
from raftviz.command.servers import Resume as Resume
from raftviz.command.servers import ServerCommand as ServerCommand
from raftviz.command.servers import Stop as Stop
from raftviz.command.servers import Timeout as Timeout
from raftviz.command.spec import CommandSpec as CommandSpec
from raftviz.command.spec import Links as Links
from raftviz.command.spec import Scope as Scope
from raftviz.command.spec import Takes as Takes
from raftviz.command.text import MAX_LENGTH as MAX_LENGTH
from raftviz.command.text import ROLES, Reader, ReadingError
from raftviz.command.text import CommandError as CommandError
from raftviz.command.text import Servers as Servers
from raftviz.command.text import Who as Who
from raftviz.command.time import MAX_STEPS as MAX_STEPS
from raftviz.command.time import Advance as Advance
from raftviz.command.time import Due as Due
from raftviz.command.time import Fire as Fire
from raftviz.command.time import Freeze as Freeze
from raftviz.command.time import Rate as Rate
from raftviz.command.time import Run as Run
from raftviz.command.time import Step as Step
from raftviz.command.time import StepUntil as StepUntil
from raftviz.command.time import Thaw as Thaw
from raftviz.command.time import TimeCommand as TimeCommand
from raftviz.command.viewer import Help as Help
from raftviz.command.viewer import Quit as Quit
from raftviz.command.viewer import Select as Select
from raftviz.command.viewer import ViewerCommand as ViewerCommand
from raftviz.model.conditions import complete_condition, condition_help
from raftviz.model.link_rules import MESSAGE_KINDS

LabCommand = (
    ServerCommand
    | MachineCommand
    | RuleCommand
    | MemberCommand
    | NetworkCommand
    | MessageCommand
    | ClientCommand
    | LoadCommand
    | ChaosCommand
    | TimeCommand
)
Command = LabCommand | ViewerCommand | ScriptCommand

TABLE: tuple[CommandSpec[Command], ...] = (
    *servers.SPECS,
    *machines.SPECS,
    *rules.SPECS,
    *members.SPECS,
    *network.SPECS,
    *messages.SPECS,
    *clients.SPECS,
    *goings_on.LOAD_SPECS,
    *goings_on.CHAOS_SPECS,
    *time.SPECS,
    *viewer.SPECS,
    *scripts.SPECS,
)
"""Every command, family by family."""

SYNTAX_WIDTH = 34
"""A longer syntax has a line of its own in the list of commands."""
DEFAULT_SERVERS = tuple(map(ServerId, range(1, 6)))

# --- Reading ---------------------------------------------------------------------------------

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


def _spec_and_reader(text: str) -> tuple[CommandSpec[Command] | None, Reader]:
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


def format_command(command: Command) -> str:
    """Write a command so that ``parse`` reads the same one."""
    return str(command)


# --- Completion and help -----------------------------------------------------------------------

_SUGGESTED: dict[Takes, tuple[str, ...]] = {
    Takes.SERVERS: ROLES,
    Takes.DISK: (*ROLES, *machines.DISK_WORDS, *machines.FILES),
    Takes.CLOCK: (*ROLES, "x1.5", "x2", "x1/2", "ok"),
    Takes.LOAD: (
        "200/s",
        "8",
        "clients",
        "off",
        "put",
        "get",
        "delete",
        "keys",
        "sessions",
        "size",
    ),
    Takes.CHAOS: ("on", "off", "seed", "kinds", "every", *goings_on.CHAOS_KINDS),
    Takes.LINKS: (*ROLES, "client", *MESSAGE_KINDS),
    Takes.MESSAGES: MESSAGE_KINDS,
    Takes.KEY: ("@leader",),
    Takes.DURATION: ("10ms", "20ms", "50ms", "100ms", "200ms"),
    Takes.RATE: ("0", "1/100", "1/50", "1/20", "1/10", "1/5", "1/2", "1", "2", "5", "10"),
    Takes.TOPIC: (*(spec.name for spec in TABLE), "conditions", "rules"),
}
_NAMES_SERVERS = (
    *(Takes.SERVERS, Takes.LINKS, Takes.MESSAGES, Takes.STEP),
    *(Takes.DISK, Takes.CLOCK),
)
_UNTIL = re.compile(r"\S+\s+until\s", re.IGNORECASE)
_LAST_WORD = re.compile(r"[^\s,|>→]*$")


def complete(
    text: str,
    servers: Sequence[ServerId] = DEFAULT_SERVERS,
    messages: Sequence[int] = (),
) -> list[str]:
    """Return longer texts that ``text`` may become, the likeliest first; each begins with it.

    ``servers`` and ``messages`` are the numbers of those that there are.
    """
    spec, _ = _spec_and_reader(text)
    if not text[-1:].isspace() and len(text.split()) <= 1:
        names = (spec.name for spec in TABLE)
        return _continued(text, text.lstrip(), names)
    if spec is None:
        return []
    until = spec.takes in (Takes.STEP, Takes.RUN) and _UNTIL.match(text.lstrip())
    if spec.takes is Takes.CONDITION or until:
        return [text + rest for rest in complete_condition(text, servers)]
    words: list[str] = [*_SUGGESTED.get(spec.takes, ()), *spec.words]
    if spec.takes in _NAMES_SERVERS:
        words = [*map(str, servers), *words]
    if spec.takes is Takes.MESSAGES:
        words = [*(f"#{message}" for message in messages), *words]
    elif spec.takes is Takes.RULE:
        words = [*rules.rule_names(), "in", *map(str, servers)]
    elif spec.takes is Takes.KEY:
        words += [f"@{server}" for server in servers]
    match = _LAST_WORD.search(text)
    assert match is not None
    return _continued(text, match[0], words)


def complete_word(words: Sequence[str], begun: str) -> list[str]:
    """Return what a shell's word, after other words of a command, may be completed to."""
    before = "".join(f"{word} " for word in words)
    return [longer[len(before) :] for longer in complete(before + begun)]


def _continued(text: str, begun: str, words: Iterable[str]) -> list[str]:
    return [
        text + word[len(begun) :]
        for word in words
        if word.lower().startswith(begun.lower()) and len(word) > len(begun)
    ]


def help_text(topic: str = "") -> str:
    """Return what can be said, or how to say one thing: a command, or ``conditions``."""
    if not topic:
        return "\n\n".join(_help_on_scope(scope) for scope in Scope)
    if topic == "conditions":
        return condition_help()
    if topic == "rules":
        return rules.rules_help()
    spec = _BY_NAME.get(topic)
    if spec is None:
        near = difflib.get_close_matches(topic, [*_BY_NAME, "conditions", "rules"], 1)
        hint = f"did you mean {near[0]}?" if near else "help lists all commands"
        return f'there is no "{printable(topic, 30)}": {hint}'
    lines = [spec.syntax, f"    {spec.summary}", f"    for example: {', '.join(spec.examples)}"]
    if spec.aliases:
        lines.append(f"    also: {', '.join(spec.aliases)}")
    if "[KIND]" in spec.syntax:
        lines.append(f"    KIND is one of {', '.join(MESSAGE_KINDS)}")
    if spec.takes is Takes.CHAOS:
        lines.append(f"    kinds: {', '.join(goings_on.CHAOS_KINDS)}")
    if spec.takes is Takes.CONDITION:
        lines.append("    what a condition can say: help conditions")
    return "\n".join(lines)


def is_topic(topic: str) -> bool:
    """Tell whether ``help_text`` knows more of it than what comes near."""
    return not topic or topic in ("conditions", "rules") or topic in _BY_NAME


def _help_on_scope(scope: Scope) -> str:
    specs = [spec for spec in TABLE if spec.scope is scope]
    width = min(max(len(spec.syntax) for spec in specs), SYNTAX_WIDTH)
    rows = [f"{scope.value}:"]
    for spec in specs:
        short = len(spec.syntax) <= width
        rows += [] if short else [f"  {spec.syntax}"]
        rows.append(f"  {spec.syntax if short else '':<{width}}  {spec.summary}")
    return "\n".join(rows)


def markdown() -> str:
    """Return the whole table as Markdown."""
    parts = []
    for scope in Scope:
        rows = [
            f"| {_cell(spec.syntax)} | {spec.summary} | {_cell(*spec.examples)} |"
            for spec in TABLE
            if spec.scope is scope
        ]
        head = ("| command | what it does | for example |", "|---|---|---|")
        parts.append("\n".join((f"## {scope.value.capitalize()}", "", *head, *rows)))
    return "\n\n".join(parts)


def _cell(*texts: str) -> str:
    return " · ".join(f"`{text}`".replace("|", "\\|") for text in texts)
