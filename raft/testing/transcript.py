"""Conversations between servers, written down with what is said in them.

A transcript is a text file: paragraphs of plain English, and commands (``raft.testing.script``)
each followed by what it makes happen, down to the next blank line::

    A candidate needs the votes of a majority.

    > servers 3
    > timeout 1
    S1 is candidate in term 1: its election timer fired
    S1 → S2  RequestVote  term 1, its log ends at 0/0
    S1 → S3  RequestVote  term 1, its log ends at 0/0

``python -m raft.testing.transcript FILE …`` plays files and tells the first difference;
with ``--rewrite`` it writes down what happens now instead. Read the diff: keep it only if you
understand why every line of it changed.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raft.core.log import InvariantViolation
from raft.core.rules import Rules
from raft.testing.safety import Safety, SafetyViolation, Strict
from raft.testing.script import Script, ScriptError

PROMPT = "> "


class TranscriptError(Exception):
    """A transcript cannot be played; the text names the file and the line."""


class TranscriptMismatch(AssertionError):  # noqa: N818 - a difference, not a mistake
    """Something else happened than is written down; the text says where and what."""


@dataclass(frozen=True, slots=True)
class Block:
    """A command and what should happen. ``line`` is that of the command, from 1."""

    line: int
    command: str
    expected: tuple[str, ...]


def parse(text: str) -> list[Block]:
    """Return the commands of a transcript with the lines that follow each of them."""
    lines = text.splitlines()
    blocks = []
    for number, line in enumerate(lines, 1):
        if line.startswith(PROMPT):
            end = number
            while end < len(lines) and lines[end].strip() and not lines[end].startswith(PROMPT):
                end += 1
            expected = tuple(line.rstrip() for line in lines[number:end])
            blocks.append(Block(number, line.removeprefix(PROMPT), expected))
    return blocks


def check(path: Path, rules: Rules | None = None, judge: type[Safety] = Strict) -> None:
    """Play a transcript and compare.

    Raises TranscriptMismatch at the first difference, TranscriptError for a file that cannot
    be played, SafetyViolation or InvariantViolation, with a note of the place, if the servers
    break a promise.
    """
    for block, happened in play(path, rules, judge):
        if happened != list(block.expected):
            raise TranscriptMismatch(_difference(path, block, happened))


def play(
    path: Path, rules: Rules | None = None, judge: type[Safety] = Strict
) -> Iterator[tuple[Block, list[str]]]:
    """Carry out the commands one by one and yield each with what happened.

    Raises what :func:`check` raises, but does not compare.
    """
    script = Script(rules, judge)
    for block in parse(_read(path)):
        yield block, _carry_out(path, script, block)


def rewrite(path: Path) -> bool:
    """Write down what happens now; returns whether that changed the file.

    Raises what :func:`check` raises, but for a difference, and then leaves the file alone.
    """
    old = _read(path)
    lines = old.splitlines()
    for block, happened in reversed(list(play(path))):
        lines[block.line : block.line + len(block.expected)] = happened
    new = "\n".join(lines) + "\n"
    if new != old:
        path.write_text(new, encoding="utf-8")
    return new != old


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TranscriptError(f"{path} cannot be read: {error}") from error
    if not parse(text):
        raise TranscriptError(f"{path} has no command: a command is a line that begins with `> `")
    return text


def _carry_out(path: Path, script: Script, block: Block) -> list[str]:
    try:
        return script.do(block.command)
    except ScriptError as error:
        raise TranscriptError(f"{path}:{block.line}: {error}") from error
    except (SafetyViolation, InvariantViolation) as violation:
        violation.add_note(f"{path}:{block.line}: during `{block.command}`")
        raise


def _difference(path: Path, block: Block, happened: list[str]) -> str:
    same = 0
    for expected, got in zip(block.expected, happened, strict=False):
        if expected != got:
            break
        same += 1
    line = block.line + 1 + same
    diff = difflib.ndiff(block.expected, happened)
    return (
        f"{path}:{line}: `{block.command}` went another way "
        "(- is written there, + happened)\n"
        + "\n".join(entry.rstrip() for entry in diff if not entry.startswith("?"))
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Play or rewrite transcripts; 0: all as written, 1: some differ, 2: some cannot be played."""
    parser = argparse.ArgumentParser(
        prog="python -m raft.testing.transcript",
        description="Play conversations between Raft servers and compare with what is written.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument(
        "--rewrite", action="store_true", help="write down what happens now; then read the diff"
    )
    options = parser.parse_args(arguments)
    status = 0
    for path in options.files:
        try:
            if options.rewrite:
                print(f"{path}: {'rewritten' if rewrite(path) else 'as it was'}")
            else:
                check(path)
                print(f"{path}: as written")
        except TranscriptError as error:
            print(error, file=sys.stderr)
            return 2
        except (TranscriptMismatch, SafetyViolation, InvariantViolation) as error:
            print(error, *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
