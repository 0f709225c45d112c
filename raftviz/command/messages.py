"""Commands on single messages in flight: deliver, drop, duplicate, hold, release."""

from __future__ import annotations

from dataclasses import dataclass

from raftviz.command.spec import CommandSpec, Links, Takes, alone, read_links
from raftviz.command.text import Reader, format_share


@dataclass(frozen=True, slots=True)
class Numbered:
    """Messages by their numbers: ``#12 #13``."""

    numbers: tuple[int, ...]

    def __str__(self) -> str:
        return " ".join(f"#{number}" for number in self.numbers)


Messages = Numbered | Links
"""Messages by their numbers, or all that are on these links, perhaps of one kind."""


@dataclass(frozen=True, slots=True)
class OnMessages:
    """A command that is its name and messages."""

    messages: Messages

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.messages}"


@dataclass(frozen=True, slots=True)
class Deliver(OnMessages):
    """``deliver #12`` · ``deliver AppendEntries 2 -> 3``: let them arrive now."""


@dataclass(frozen=True, slots=True)
class Drop(OnMessages):
    """``drop #12``: lose them."""


@dataclass(frozen=True, slots=True)
class Duplicate(OnMessages):
    """``duplicate #12``: put them on their way once more."""


@dataclass(frozen=True, slots=True)
class Duplication:
    """``duplicate 1 -> 2 10%``: from now on this share of messages arrives twice."""

    links: Links
    share: float

    def __str__(self) -> str:
        return f"duplicate {self.links} {format_share(self.share)}"


@dataclass(frozen=True, slots=True)
class Hold(OnMessages):
    """``hold #12`` · ``hold AppendEntries 2 -> 3``: those there, and all that follow, wait."""


@dataclass(frozen=True, slots=True)
class Release(OnMessages):
    """``release #12`` · ``release AppendEntries 2 -> 3`` · ``release all``."""


@dataclass(frozen=True, slots=True)
class ShowMessages:
    """``messages``: those in flight, with their numbers."""

    def __str__(self) -> str:
        return "messages"


MessageCommand = Deliver | Drop | Duplicate | Duplication | Hold | Release | ShowMessages


def _messages(reader: Reader) -> Messages:
    if reader.has_message:
        return Numbered(reader.messages())
    if reader.at_end:
        reader.fail("messages (#12), or where they are (2 -> 3)")
    return read_links(reader, one_side=True)


def _duplicate(reader: Reader) -> MessageCommand:
    if reader.has_message:
        return Duplicate(Numbered(reader.messages()))
    links = read_links(reader, one_side=True, last=False)
    return Duplicate(links) if reader.at_end else Duplication(links, reader.share())


SPECS: tuple[CommandSpec[MessageCommand], ...] = (
    CommandSpec(
        "deliver",
        "deliver #MESSAGE … | deliver [KIND] A -> B",
        "let messages in flight arrive now, before those that are due sooner",
        "deliver #12",
        Takes.MESSAGES,
        lambda reader: Deliver(_messages(reader)),
        more=("deliver AppendEntries 2 -> 3",),
    ),
    CommandSpec(
        "drop",
        "drop #MESSAGE … | drop [KIND] A -> B",
        "lose messages that are in flight",
        "drop #12",
        Takes.MESSAGES,
        lambda reader: Drop(_messages(reader)),
        more=("drop RequestVote 1 -> 2",),
    ),
    CommandSpec(
        "duplicate",
        "duplicate #MESSAGE … | duplicate [KIND] A -> B [SHARE]",
        "send messages in flight once more; with a share, that part of all that follow",
        "duplicate #12",
        Takes.MESSAGES,
        _duplicate,
        more=("duplicate 1 -> 2 10%",),
    ),
    CommandSpec(
        "hold",
        "hold #MESSAGE … | hold [KIND] A -> B",
        "let messages wait: some in flight, or all on a link from now on",
        "hold AppendEntries 2 -> 3",
        Takes.MESSAGES,
        lambda reader: Hold(_messages(reader)),
        more=("hold #12",),
    ),
    CommandSpec(
        "release",
        "release #MESSAGE … | release [KIND] A -> B | release all",
        "let what was held go on, and hold no more",
        "release all",
        Takes.MESSAGES,
        lambda reader: Release(_messages(reader)),
        more=("release #12", "release AppendEntries 2 -> 3"),
    ),
    CommandSpec(
        "messages",
        "messages",
        "list the messages in flight, with their numbers",
        "messages",
        Takes.NOTHING,
        alone(ShowMessages),
    ),
)
