"""``raftviz``: the explorer, its lessons, and scripts without a screen.

What takes long to load is imported by the command that needs it.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem, get_completion_class

from raft.printable import printable
from raftviz.command.text import DURATION, MAX_ECHO, RATE, read_duration, read_rate
from raftviz.lab.api import MAX_SERVERS, Answer, LabClient, LabError, LabOptions

if TYPE_CHECKING:
    from raftviz.headless import Transcript
    from raftviz.script import Line

FAILED, UNUSABLE = 1, 2
INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells count it."""
MANY = 9
"""With more servers than these, one machine needs longer to carry an election (§5.6): so they
wait longer, and send heartbeats less often, unless somebody says how long."""
MANY_TIMEOUT, MANY_HEARTBEAT = (1.0, 2.0), 0.25
SLOW_MOTION = 1 / 10
"""How fast time runs on a screen that is asked for nothing else: an election in real time is
over before anybody has seen it."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


_Callback = Callable[[click.Context, click.Parameter, str | None], Any]


def _words(expected: str, read: Callable[[str], object]) -> _Callback:
    """Read an option in the words of the command language."""

    def convert(context: click.Context, parameter: click.Parameter, value: str | None) -> object:
        found = None if value is None else read(value)
        if value is not None and found is None:
            reason = f"expected {expected}, found {printable(value, 40)!r}"
            raise click.BadParameter(reason, context, parameter)
        return found

    return convert


def _read_timeouts(text: str) -> tuple[float, float] | None:
    low, _, high = text.partition("..")
    shortest, longest = read_duration(low), read_duration(high or low)
    return None if shortest is None or longest is None else (shortest, longest)


_TIMEOUTS = "durations from the shortest to the longest (150ms..300ms)"


def _lab_options(command: _Command) -> _Command:
    """Add the options that say what a laboratory starts with; one not given is left out."""
    for option in (
        click.option(
            "--one-entry",
            is_flag=True,
            default=None,
            help="Send one entry in a message at most, as in the paper's figures.",
        ),
        click.option(
            "--check-quorum",
            is_flag=True,
            default=None,
            help="Let leaders without a majority step down, and followers keep a leader they hear.",
        ),
        click.option(
            "--pre-vote",
            is_flag=True,
            default=None,
            help="Let servers ask whether they can win before they start an election.",
        ),
        click.option(
            "--heartbeat",
            callback=_words(DURATION, read_duration),
            metavar="DURATION",
            help=f"How often a leader sends heartbeats (50ms; with over {MANY} servers 250ms).",
        ),
        click.option(
            "--election-timeout",
            callback=_words(_TIMEOUTS, _read_timeouts),
            metavar="FROM..TO",
            help=f"How long a server waits for a leader (150ms..300ms; over {MANY}: 1s..2s).",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, 2**31 - 1),
            metavar="NUMBER",
            help="The seed of all election timeouts (a new one).",
        ),
        click.option(
            "--delay",
            callback=_words(DURATION, read_duration),
            metavar="DURATION",
            help="How long every message takes (10ms).",
        ),
        click.option(
            "--rate",
            callback=_words(RATE, read_rate),
            metavar="RATE",
            help="How fast time runs: 1 is real time, 0 is frozen (1; on a screen 1/10).",
        ),
        click.option(
            "--servers",
            type=click.IntRange(1, MAX_SERVERS),
            metavar="NUMBER",
            help="How many servers (5).",
        ),
    ):
        command = option(command)
    return command


def _chosen(
    context: click.Context, given: dict[str, Any], asked: dict[str, Any] | None = None
) -> LabOptions:
    """Return the laboratory's options.

    Those given to a command go before those of ``raftviz``, and both before those that a
    script ``asked`` for.
    """
    chosen: dict[str, Any] = {}
    for options in (asked or {}, context.parent.params if context.parent else {}, given):
        chosen.update((name, value) for name, value in options.items() if value is not None)
    if chosen.get("servers", 0) > MANY and not chosen.keys() & {"election_timeout", "heartbeat"}:
        chosen["election_timeout"], chosen["heartbeat"] = MANY_TIMEOUT, MANY_HEARTBEAT
    try:
        return LabOptions(**chosen)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _show_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        try:
            click.echo(f"raftviz {metadata.version('raftviz')}")
        except metadata.PackageNotFoundError:
            click.echo("raftviz, from a folder that is not installed")
        context.exit()


class _Brief(click.Group):
    """Repeats in its complaints no more of what it was given than a person can read."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _shortened():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        with _shortened():
            return super().invoke(context)


@contextmanager
def _shortened() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        raise click.UsageError(printable(error.format_message(), MAX_ECHO), error.ctx) from None


@click.group(
    cls=_Brief,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and leave.",
)
@_lab_options
@click.pass_context
def main(context: click.Context, /, **given: Any) -> None:
    """See Raft and break it: without a command, a live cluster opens on this terminal.

    All durations are in the cluster's time, which --rate can slow down.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale may lack arrows and marks
    if context.invoked_subcommand is None:
        given["rate"] = SLOW_MOTION if given["rate"] is None else given["rate"]
        context.exit(_explore(_chosen(context, given)))


def _complete_lesson(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    from raftviz.lesson import names

    return [CompletionItem(name) for name in names() if name.startswith(begun)]


@main.command()
@click.argument("name", required=False, shell_complete=_complete_lesson)
@_lab_options
@click.pass_context
def lesson(context: click.Context, /, name: str | None, **given: Any) -> None:
    """Open the lesson NAME, or list the lessons.

    It stands beside a live cluster. A NAME that ends in .md is a file of your own.
    """
    if name is not None:
        context.exit(_explore(_chosen(context, given), name))
    from raftviz.lesson import load, names

    for known in names():
        click.echo(f"{known:<14} {load(known).title}")


def _complete_topic(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    from raftviz.commands import complete_word

    typed = context.params.get(parameter.name or "") or ()
    return [] if typed else [CompletionItem(word) for word in complete_word(["help"], begun)]


@main.command()
@click.argument("topic", nargs=-1, shell_complete=_complete_topic)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the list as Markdown.")
def commands(topic: tuple[str, ...], as_markdown: bool) -> None:
    """List all commands, or explain one.

    TOPIC is the name of a command, "conditions", or "rules" for those that can be broken.
    """
    from raftviz.commands import help_text, is_topic, markdown

    if as_markdown:
        if topic:
            raise click.UsageError("--markdown is for the whole list, without a topic")
        click.echo(markdown())
        return
    wanted = " ".join(topic).lower()
    if not is_topic(wanted):
        raise click.UsageError(help_text(wanted))
    click.echo(help_text(wanted))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete raftviz.

    Put into its start-up file: in ~/.bashrc  eval "$(raftviz completion bash)", in ~/.zshrc the
    same with zsh, in ~/.config/fish/config.fish  raftviz completion fish | source.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "raftviz", "_RAFTVIZ_COMPLETE").source())


def _complete_file(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    from raftviz.scenarios import names

    found = [CompletionItem(name) for name in names() if name.startswith(begun)]
    return [*found, CompletionItem(begun, type="file")]


@main.command()
@click.argument("file", required=False, shell_complete=_complete_file)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print every event as one line of JSON, and the rest to standard error.",
)
@_lab_options
@click.pass_context
def run(context: click.Context, /, file: str | None, as_json: bool, **given: Any) -> None:
    """Play a file of commands, without a screen, or list the scenarios that ship.

    The commands are carried out on real servers. A line of FILE (- is standard input) is a
    command, or `wait` or `expect` with a condition; # begins a comment. Its first line may say
    how it is run, as `#!/usr/bin/env -S raftviz run --servers 7`; options given here go before
    those. FILE may also be the name of a scenario. The exit status is 0 when all expectations
    held, 1 when one did not or a command was refused, 2 when FILE cannot be used.
    """
    if file is None:
        _list_scenarios()
        return
    try:
        context.exit(_run(context, given, file, as_json))
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads on. The interpreter would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        context.exit(FAILED)


def _complete_lab(context: click.Context, parameter: click.Parameter, begun: str) -> list[str]:
    from raftviz.lab.run_directory import running

    return [name for name in running() if name.startswith(begun)]


_lab_option = click.option(
    "--lab",
    metavar="NAME",
    help="Which laboratory, if several run.",
    shell_complete=_complete_lab,
)


@main.command()
@_lab_option
@click.pass_context
def attach(context: click.Context, lab: str | None) -> None:
    """Open a laboratory that runs already, on this terminal, too.

    Everybody who has it open sees the same, and all may give commands. It goes on when you leave.
    """
    context.exit(_open(lab, watching=False))


@main.command()
@_lab_option
@click.pass_context
def watch(context: click.Context, lab: str | None) -> None:
    """Watch a laboratory that runs already, without touching it."""
    context.exit(_open(lab, watching=True))


def _complete_command(
    context: click.Context, parameter: click.Parameter, begun: str
) -> list[CompletionItem]:
    from raftviz.commands import complete_word

    typed = context.params.get(parameter.name or "") or ()
    return [CompletionItem(word) for word in complete_word(typed, begun)]


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, shell_complete=_complete_command)
@_lab_option
@click.pass_context
def do(context: click.Context, command: tuple[str, ...], lab: str | None) -> None:
    """Give one command to a laboratory that runs already.

    It is one of those that `raftviz commands` lists. The exit status is 0 when it was carried
    out, 1 when it was refused, 2 when there is no laboratory to give it to.
    """
    socket = _find(lab)
    if socket is None:
        context.exit(UNUSABLE)
    answer = asyncio.run(_ask(socket, " ".join(command)))
    click.echo(_printable_lines(answer.text), err=not answer.ok)
    context.exit(0 if answer.ok else FAILED)


async def _ask(socket: Path, command: str) -> Answer:
    try:
        client = await LabClient.attach(socket)
    except LabError as error:
        return Answer(False, str(error))
    try:
        return await client.command(command)
    finally:
        await client.close()


def _printable_lines(text: str) -> str:
    """Return a text of several lines, safe to print."""
    return "\n".join(map(printable, text.split("\n")))


def _open(lab: str | None, *, watching: bool) -> int:
    if not _can_draw():
        _complain("raftviz draws on a terminal, and there is none; without it: raftviz do COMMAND")
        return UNUSABLE
    socket = _find(lab)
    if socket is None:
        return UNUSABLE
    from raftviz.tui import app

    return app.attach(socket, watching=watching)


def _find(name: str | None) -> Path | None:
    """Return where the laboratory is that is meant; if that is not clear, say so: None."""
    from raftviz.lab.run_directory import running

    labs = running()
    if name is not None:
        socket = labs.get(name)
        if socket is None:
            _complain(f"there is no laboratory {name!r}; {_listed(labs)}")
        return socket
    if len(labs) != 1:
        advice = "; say which with --lab NAME" if labs else "; start one with raftviz"
        _complain(f"{_listed(labs)}{advice}")
        return None
    return next(iter(labs.values()))


def _listed(labs: Iterable[str]) -> str:
    names = ", ".join(labs)
    return f"these run: {names}" if names else "no laboratory runs"


def _list_scenarios() -> None:
    from raftviz.scenarios import names, title

    for known in names():
        click.echo(f"{known:<28} {title(known)}")


def _explore(options: LabOptions, lesson_name: str | None = None) -> int:
    if not _can_draw():
        _complain("raftviz draws on a terminal, and there is none; without it: raftviz run FILE")
        return UNUSABLE
    from raftviz.tui import app

    try:
        return app.run(options, lesson=lesson_name)
    finally:
        _remove_what_is_left()


def _remove_what_is_left() -> None:
    """Remove the files of a laboratory that was killed: the next one would, but who knows when."""
    from raftviz.lab.run_directory import remove_stale

    remove_stale()


def _can_draw() -> bool:
    return os.isatty(0) and os.isatty(1) and os.environ.get("TERM") != "dumb"


def _run(context: click.Context, given: dict[str, Any], file: str, as_json: bool) -> int:
    from raftviz.headless import Transcript
    from raftviz.script import MAX_BYTES, ScriptError, read_script

    try:
        raw = _read(file, MAX_BYTES + 1)
        options = _chosen(context, given, _asked_for_by(raw))
        lines = read_script(raw, options.servers)
    except OSError as error:
        _complain(f"{file}: {error.strerror}")
        return UNUSABLE
    except ScriptError as error:
        click.echo(error.shown("standard input" if file == "-" else file), err=True)
        return UNUSABLE
    transcript = Transcript(sys.stderr, sys.stdout) if as_json else Transcript(sys.stdout)
    try:
        return asyncio.run(_play(options, lines, transcript))
    except LabError as error:
        _complain(str(error))
        return FAILED


def _asked_for_by(raw: bytes) -> dict[str, Any]:
    """Return the options that a script itself asks for. Raises ScriptError."""
    from raftviz.script import Problem, ScriptError
    from raftviz.script import options as words_of

    words = words_of(raw)
    try:
        with run.make_context("run", words) as context:
            asked = dict(context.params)
    except click.UsageError as error:
        raise ScriptError([Problem(1, 1, error.format_message())]) from None
    if asked.pop("file") is not None or asked.pop("as_json"):
        raise ScriptError([Problem(1, 1, "here only options of the laboratory can stand")])
    return asked


def _read(file: str, most: int) -> bytes:
    if file != "-":
        with open(_path(file), "rb") as stream:
            return stream.read(most)
    return sys.stdin.buffer.read(most) if sys.stdin else b""  # it may be closed


def _path(file: str) -> str | Path:
    """Return the file of this name, or else the scenario."""
    from raftviz import scenarios

    is_scenario = file in scenarios.names() and not os.path.exists(file)
    return scenarios.path(file) if is_scenario else file


async def _play(options: LabOptions, lines: list[Line], transcript: Transcript) -> int:
    from raftviz.headless import Headless

    lab = await LabClient.spawn(options)
    try:
        return await Headless(lab, lines, transcript).play()
    finally:
        await lab.close()
        _remove_what_is_left()


def _complain(text: str) -> None:
    click.echo(printable(text), err=True)
