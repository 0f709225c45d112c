"""``raftviz``: the explorer, its lessons, and scripts without a screen.

What takes long to load is imported by the command that needs it.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from raft.printable import printable
from raftviz.command.text import DURATION, MAX_ECHO, RATE, read_duration, read_rate
from raftviz.lab.api import MAX_SERVERS, LabClient, LabError, LabOptions

if TYPE_CHECKING:
    from raftviz.headless import Transcript
    from raftviz.script import Line

FAILED, UNUSABLE = 1, 2
INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells count it."""
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
            "--heartbeat",
            callback=_words(DURATION, read_duration),
            metavar="DURATION",
            help="How often a leader sends heartbeats (50ms).",
        ),
        click.option(
            "--election-timeout",
            callback=_words(_TIMEOUTS, _read_timeouts),
            metavar="FROM..TO",
            help="How long a server waits for a leader (150ms..300ms).",
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


def _chosen(context: click.Context, given: dict[str, Any]) -> LabOptions:
    """Return the laboratory's options: those of a command go before those of ``raftviz``."""
    chosen = {**context.parent.params} if context.parent else {}
    chosen.update((name, value) for name, value in given.items() if value is not None)
    try:
        return LabOptions(**{name: value for name, value in chosen.items() if value is not None})
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


@main.command()
@click.argument("name", required=False)
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


@main.command()
@click.argument("topic", nargs=-1)
def commands(topic: tuple[str, ...]) -> None:
    """List all commands, or explain one.

    TOPIC is the name of a command, or "conditions".
    """
    from raftviz.commands import help_text, is_topic

    wanted = " ".join(topic).lower()
    if not is_topic(wanted):
        raise click.UsageError(help_text(wanted))
    click.echo(help_text(wanted))


@main.command()
@click.argument("file")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print every event as one line of JSON, and the rest to standard error.",
)
@_lab_options
@click.pass_context
def run(context: click.Context, /, file: str, as_json: bool, **given: Any) -> None:
    """Play a file of commands, without a screen.

    They are carried out on real servers. A line of FILE (- is standard input) is a command, or
    `wait` or `expect` with a condition; # begins a comment. The exit status is 0 when all
    expectations held, 1 when one did not or a command was refused, 2 when FILE cannot be used.
    """
    options = _chosen(context, given)
    try:
        context.exit(_run(options, file, as_json))
    except KeyboardInterrupt:
        context.exit(INTERRUPTED)
    except BrokenPipeError:
        # Nobody reads on. The interpreter would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        context.exit(FAILED)


def _explore(options: LabOptions, lesson_name: str | None = None) -> int:
    if not _can_draw():
        _complain("raftviz draws on a terminal, and there is none; without it: raftviz run FILE")
        return UNUSABLE
    from raftviz.tui import app

    return app.run(options, lesson=lesson_name)


def _can_draw() -> bool:
    return os.isatty(0) and os.isatty(1) and os.environ.get("TERM") != "dumb"


def _run(options: LabOptions, file: str, as_json: bool) -> int:
    from raftviz.headless import Transcript
    from raftviz.script import MAX_BYTES, ScriptError, read_script

    try:
        lines = read_script(_read(file, MAX_BYTES + 1), options.servers)
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


def _read(file: str, most: int) -> bytes:
    if file != "-":
        with open(file, "rb") as stream:
            return stream.read(most)
    return sys.stdin.buffer.read(most) if sys.stdin else b""  # it may be closed


async def _play(options: LabOptions, lines: list[Line], transcript: Transcript) -> int:
    from raftviz.headless import Headless

    lab = await LabClient.spawn(options)
    try:
        return await Headless(lab, lines, transcript).play()
    finally:
        await lab.close()


def _complain(text: str) -> None:
    click.echo(printable(text), err=True)
