"""The transcripts: each goes as it is written, and a wrong one says what is wrong and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raft.testing.script import Script, ScriptError
from raft.testing.transcript import (
    TranscriptError,
    TranscriptMismatch,
    check,
    main,
    parse,
    play,
    rewrite,
)

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "transcripts").glob("*.txt"))

GOOD = """\
S1 asks for votes.

> servers 3
> timeout 1
S1's election timer fires
  S1 is candidate in term 1: it heard from no leader
  S1 → S2  RequestVote  term 1, its log ends at 0/0
  S1 → S3  RequestVote  term 1, its log ends at 0/0

Then it does nothing.
"""


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_goes_as_it_is_written(path: Path) -> None:
    check(path)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_it_begins_with_a_sentence_about_what_it_shows(path: Path) -> None:
    first = path.read_text(encoding="utf-8").split("\n\n")[0].replace("\n", " ")
    assert first.endswith(".")
    assert not first.startswith(">")
    assert "§" in first or "Figure" in first or "receiver implementation" in first


OF_THE_PAPER = "5.1 5.2 5.3 5.4.1 5.4.2 5.4.3 5.5 5.6 6 7 8 figure-2 figure-7 figure-8"
OF_THE_THESIS = "3.10 4.1 4.2.1 4.2.2 4.2.3 6.2 6.3 6.4 6.4.1 9.6"


def passage(name: str) -> str | None:
    """What a transcript is about: `5.3`, `figure-8`, `thesis-6.4.1`."""
    match = re.match(r"(thesis-|figure-)?\d[\d.]*(?=-|$)", name)
    return match[0] if match else None


def test_every_passage_has_a_transcript() -> None:
    """Neither is one missing, nor is there one whose passage nobody would miss."""
    names = {path.stem for path in TRANSCRIPTS}
    passages = {passage(name) for name in names if passage(name)}
    assert passages == {*OF_THE_PAPER.split(), *(f"thesis-{s}" for s in OF_THE_THESIS.split())}
    assert names >= {"figure-8-overwritten", "figure-8-committed"}, "it has two endings"
    assert {name for name in names if passage(name) is None} == {"a-damaged-disk"}


def test_nothing_expected_is_missing_from_what_was_read() -> None:
    """A blank line in the output would silently end what is compared."""
    for path in TRANSCRIPTS:
        for block, happened in play(path):
            assert all(line.strip() and not line.startswith("> ") for line in happened), block


def test_a_difference_names_the_line_what_was_written_and_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(GOOD.replace("S3  RequestVote  term 1", "S3  RequestVote  term 2"))
    with pytest.raises(TranscriptMismatch) as caught:
        check(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:8: `timeout 1` went another way")
    assert "\n-   S1 → S3  RequestVote  term 2, its log ends at 0/0" in text
    assert "\n+   S1 → S3  RequestVote  term 1, its log ends at 0/0" in text


def test_a_missing_line_and_a_line_too_many_are_differences(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    lines = GOOD.splitlines()
    path.write_text("\n".join(lines[:7] + lines[8:]))
    with pytest.raises(TranscriptMismatch, match=r"wrong\.txt:8: "):
        check(path)
    path.write_text("\n".join([*lines[:8], "S1 is tired", *lines[8:]]))
    with pytest.raises(TranscriptMismatch, match=r"wrong\.txt:9: "):
        check(path)


def test_rewriting_writes_down_what_happens_and_keeps_the_prose(tmp_path: Path) -> None:
    path = tmp_path / "new.txt"
    lines = GOOD.splitlines()
    path.write_text("\n".join([*lines[:4], "nonsense", *lines[8:]]))
    assert rewrite(path)
    assert path.read_text() == GOOD
    assert not rewrite(path)


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_rewriting_from_nothing_gives_the_same_file(path: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for block in reversed(parse(text)):
        del lines[block.line : block.line + len(block.expected)]
    bare = tmp_path / path.name
    bare.write_text("\n".join(lines), encoding="utf-8")
    rewrite(bare)
    assert bare.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("timeuot 1", "there is no command `timeuot`; there are servers, pre-vote, check-quorum,"),
        ("timeout", "is not of the form `timeout N`"),
        ("heartbeat", "`heartbeat N` or `heartbeat N->M after INDEX`"),
        ("deliver 1-2", r"messages are \[one\] \[N->M\] \[KIND\], KIND is one of RequestVote,"),
        ("deliver 1->2 Append", "KIND is one of"),
        ("servers 12", "1 to 9 servers, not 12"),
        ("timeout 7", "there is no S7"),
        ("crash 2", "S2 is down"),
        ("restart 1", "S1 runs already"),
        ("heartbeat 1", "S1 does not lead"),
        ("heartbeat 1->3 after 0", "S1 does not lead, or has no entry 0"),
        ("vote 7: 1", "there is no S7"),
        ("disk 2 slow", "S2 is down"),
        ("restart 7", "there is no S7"),
        ("disk 7 save", "there is no S7"),
        ("transfer 3", "nobody leads"),
        ("add 4", "nobody leads"),
        ("add", "is not of the form `add N`"),
        ("change remove 2 add", r"is not of the form `change add N remove M … \[as of INDEX\]`"),
        (
            "window of 0 messages",
            "is not of the form `window of N messages` or `window of N bytes`",
        ),
        ("disk 1 save last", "the disk of S1 was given nothing to store"),
        ("pre-vote maybe", "is not of the form `pre-vote on`"),
        ("compact 1 keep", r"is not of the form `compact N \[keep COUNT\]`"),
        ("cut 7", "there is no S7"),
        ("lease-read 7", "there is no S7"),
        ("stale-read 2", "S2 is down"),
    ],
)
def test_a_wrong_command_is_answered_with_what_would_be_right(command: str, answer: str) -> None:
    script = Script()
    script.do("servers 3")
    script.do("crash 2")
    with pytest.raises(ScriptError, match=answer):
        script.do(command)


def test_a_leaders_timer_is_no_election_timer() -> None:
    script = Script()
    script.do("servers 3")
    script.do("elect 1 by 2")
    with pytest.raises(ScriptError, match="`heartbeat 1`"):
        script.do("timeout 1")


def test_a_command_before_there_are_servers() -> None:
    with pytest.raises(ScriptError, match="begin with `servers 3`"):
        Script().do("timeout 1")


def test_a_wrong_command_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("Something.\n\n> servers 3\n> jump 1\n")
    with pytest.raises(TranscriptError, match=r"wrong\.txt:4: `jump 1`: there is no command"):
        check(path)


@pytest.mark.parametrize("content", [b"", b"only prose\n", b"\xff\xfe> servers 3"])
def test_a_file_that_is_no_transcript(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no.txt"
    path.write_bytes(content)
    with pytest.raises(TranscriptError, match=r"no\.txt"):
        check(path)


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, wrong = tmp_path / "good.txt", tmp_path / "wrong.txt"
    good.write_text(GOOD)
    wrong.write_text(GOOD.replace("term 1", "term 3"))
    assert main([str(good)]) == 0
    assert main([str(good), str(wrong)]) == 1
    assert "went another way" in capsys.readouterr().err
    assert main([str(tmp_path / "none.txt")]) == 2
    assert "none.txt cannot be read" in capsys.readouterr().err
    assert main(["--rewrite", str(wrong)]) == 0
    assert wrong.read_text() == GOOD
