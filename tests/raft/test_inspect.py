"""``raft inspect``: what is stored, in words; damage with its place; and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from raft import cli, inspecting
from raft.core.log import HardState, Snapshot
from raft.core.membership import Configuration
from raft.core.messages import Entry, EntryKind, Index, ServerId, Term
from raft.machine.kv import KeyValue, Put, encode_command
from raft.machine.sessions import Sessions
from raft.storage import StorageError, Wal
from raft.storage.log_file import used_bytes
from raft.storage.reading import Damage, Reading

ONE = ServerId(1)
MEMBERS = Configuration((ONE, ServerId(2), ServerId(3)), addresses=((ServerId(2), "host:7"),))


def put(term: int, key: bytes, value: bytes) -> Entry:
    return Entry(Term(term), EntryKind.COMMAND, encode_command(Put(key, value)))


LOG = (
    Entry(Term(1), EntryKind.NOOP),
    put(1, b"x", b"1"),
    put(1, b"evil", b"\x1b]0;title\x07\xff"),
    Entry(Term(2), EntryKind.CONFIGURATION, MEMBERS.encode()),
    Entry(Term(2), EntryKind.COMMAND, b"\xffof another machine"),
    Entry(Term(2), EntryKind.COMMAND, b""),
)


@pytest.fixture
def wal(tmp_path: Path) -> Wal:
    """The open log of a server, with LOG in it."""
    wal = Wal(tmp_path / "data", "demo\x1b[2J", ONE, segment_bytes=1024)
    wal.load()
    wal.save(HardState(Term(3), ServerId(2)), Index(1), LOG)
    return wal


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def newest(directory: Path) -> Path:
    return max(directory.glob("log-*"), key=lambda path: int(path.name.removeprefix("log-")))


class Told:
    """What the command printed, and its exit status."""

    def __init__(self, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> None:
        self.status = cli.main(["inspect", *map(str, arguments)])
        self.out, self.err = capsys.readouterr()
        assert "\x1b" not in self.out + self.err
        assert "Traceback" not in self.err

    def line(self, start: str) -> str:
        """Return the one line that begins like this."""
        (line,) = (line for line in self.out.splitlines() if line.strip().startswith(start))
        return " ".join(line.split())


def test_everything_in_words(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the server, which has the directory locked; what others wrote is made visible."""
    before = files(wal.path)
    told = Told(capsys, wal.path)
    assert told.status == 0
    assert told.line("server") == r"server 1 of cluster demo\x1b[2J"
    assert told.line("term") == "term 3, voted for 2"
    assert told.line("log:") == "log: entries 1 to 6, terms 1 to 2"
    assert told.line("1 ") == "1 1 noop 0"
    assert told.line("2 ").endswith("x=1")
    assert told.line("3 ").endswith(r"evil=\x1b]0;title\x07\xff")
    assert told.line("4 ").endswith("voters 1 2 3, 2 at host:7")
    assert told.line("5 ").endswith("(not a command)")
    assert told.line("6 ").endswith("(empty)")
    assert files(wal.path) == before


def test_a_part_of_the_log(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys, wal.path, "--from", "2", "--to", "3")
    assert "x=1" in told.out
    assert "evil" in told.out
    assert "noop" not in told.out
    assert "configuration" not in told.out
    assert "none of these entries is here" in Told(capsys, wal.path, "--from", "7").out


def test_a_long_log_is_summarised(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    wal.save(None, Index(7), [put(3, b"key %d" % number, b"v") for number in range(7, 1001)])
    told = Told(capsys, wal.path)
    assert len(told.out.splitlines()) < 70
    assert "960 more; --from and --to show them" in told.out
    assert "key 1000=v" in told.out
    assert "key 500=v" not in told.out
    assert "key 500=v" in Told(capsys, wal.path, "--from", "500", "--to", "500").out


def test_a_snapshot_in_words(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Sessions(KeyValue())
    for index, entry in enumerate(LOG[1:3], 2):
        machine.apply(index, entry.data)
    wal.save(None, Index(0), [], Snapshot(Index(3), Term(1), MEMBERS, machine.snapshot()))
    told = Told(capsys, wal.path)
    assert told.line("snapshot-3").startswith(
        "snapshot-3: stands for the entries up to 3, the last of term 1;"
    )
    assert told.line("x =") == "x = 1"
    assert told.line("log:") == "log: entries 4 to 6, term 2"


def test_a_snapshot_of_another_machine(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    for data in (b"", b"\xffnot a state", bytes(range(256)) * 40):
        index = Index(10 + len(data))
        wal.save(None, Index(0), [], Snapshot(index, Term(1), MEMBERS, data))
        told = Told(capsys, wal.path)
        assert told.status == 0
        assert f"{len(data):,} bytes" in told.line(f"snapshot-{index}")
        assert told.line("log:") == f"log: no entries behind {index}"


def test_an_unfinished_write_is_no_damage(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    path = newest(wal.path)
    wal.save(None, Index(7), [put(3, b"after", b"v")])
    content = path.read_bytes()
    path.write_bytes(content[: used_bytes(content, 0) - 60].ljust(len(content), b"\0"))
    told = Told(capsys, wal.path)
    assert told.status == 0
    assert "bytes of a write that is not finished" in told.out
    assert told.line("log:") == "log: entries 1 to 6, terms 1 to 2"


# --- Damage --------------------------------------------------------------------------------------


def damage(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def filled(wal: Wal) -> Path:
    """Let there be several segments and a snapshot; return the directory."""
    wal.save(None, Index(0), [], Snapshot(Index(2), Term(1), MEMBERS, b"state" * 100))
    for index in range(7, 40):
        wal.save(None, Index(index), [put(3, b"key %d" % index, b"v" * 40)])
    wal.close()
    return wal.path


@pytest.mark.parametrize(
    ("name", "offset", "what"),
    [
        ("log-1", 0, "byte 0: this is not a log of raft"),
        ("log-1", 30, "byte 0: the header's checksum does not match it"),
        ("log-1", 400, "byte 168: the batch's checksum does not match it"),
        ("log-2", 100, "byte 96: no batch starts here"),
        ("snapshot-2", 50, "byte 0: the header's checksum does not match it"),
        ("snapshot-2", 300, "the checksum of the 65536 bytes from here is wrong"),
        ("vote", 60, "byte 0: this copy of term and vote is not whole"),
        ("vote", 4096 + 60, "byte 4096: this copy of term and vote is not whole"),
    ],
)
def test_damage_is_located(
    wal: Wal, capsys: pytest.CaptureFixture[str], name: str, offset: int, what: str
) -> None:
    directory = filled(wal)
    damage(directory / name, offset)
    before = files(directory)
    told = Told(capsys, directory)
    assert told.status == 1
    assert f"{directory / name}: damaged at" in told.line("DAMAGED")
    assert what in told.line("DAMAGED")
    assert files(directory) == before


@pytest.mark.parametrize("name", ["log-1", "log-3", "newest", "snapshot-2", "vote"])
def test_a_missing_file_is_named(wal: Wal, capsys: pytest.CaptureFixture[str], name: str) -> None:
    directory = filled(wal)
    path = newest(directory) if name == "newest" else directory / name
    path.unlink()
    told = Told(capsys, directory)
    assert told.status == 1
    assert f"{path}: missing" in told.out


def test_a_vote_that_is_not_certain(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    directory = filled(wal)
    damage(directory / "vote", 60)
    damage(newest(directory), 200)
    told = Told(capsys, directory)
    assert told.status == 1
    assert "term and vote are not certain" in told.out
    assert told.out.count("DAMAGED") == 2


def test_what_was_set_aside_is_named(wal: Wal, capsys: pytest.CaptureFixture[str]) -> None:
    directory = filled(wal)
    damage(newest(directory), 200)
    again = Wal(directory, "demo\x1b[2J", ONE, members=())
    again.load()
    told = Told(capsys, directory)
    assert told.status == 0
    assert "does not vote until it has a committed one of term 4 or later" in told.out
    assert told.line("set aside after damage").count("damaged-log-") > 2


@pytest.mark.parametrize("what", ["nothing", "a file", "an empty directory", "another directory"])
def test_what_is_no_data_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    path = tmp_path / "data"
    if what == "a file":
        path.write_bytes(b"x")
    elif what != "nothing":
        path.mkdir()
    if what == "another directory":
        (path / "letter.txt").write_text("Dear …")
    told = Told(capsys, path)
    assert told.status == 2
    assert str(path) in told.err
    assert told.out == ""


@pytest.mark.parametrize("name", ["log-1", "vote"])
def test_what_cannot_be_read_is_named(
    wal: Wal, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    wal.close()
    (wal.path / name).unlink()
    (wal.path / name).mkdir()
    told = Told(capsys, wal.path)
    assert (told.status, told.out) == (2, "")
    assert f"{wal.path / name}: Is a directory" in told.err
    again = Wal(wal.path, "demo\x1b[2J", ONE)
    with pytest.raises(StorageError, match=f"{wal.path / name}: Is a directory"):
        again.load()
    again.close()


def test_the_log_of_another_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raft.wal").write_bytes(b"raft-wal")
    told = Told(capsys, tmp_path)
    assert told.status == 2
    assert "format version 2; this program reads 4" in told.err


# --- Beside a server that writes -----------------------------------------------------------------


def test_what_only_looks_like_damage_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files come and go between the list of their names and their reading."""
    fine = Reading(tmp_path, [])
    seen: list[Reading | OSError] = [
        FileNotFoundError(2, "No such file or directory"),
        Reading(tmp_path, [], damage=Damage(tmp_path / "log-3", None, "missing")),
        Reading(tmp_path, [], damage=Damage(tmp_path / "log-4", None, "missing")),
        fine,
    ]

    def read(*_: object) -> Reading:
        found = seen.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    monkeypatch.setattr(inspecting, "read_directory", read)
    assert inspecting.read_steadily(tmp_path) is fine
    damaged = Reading(tmp_path, [], damage=Damage(tmp_path / "log-4", 7, "bad"))
    seen += [damaged, damaged]
    assert inspecting.read_steadily(tmp_path) is damaged
