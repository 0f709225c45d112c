"""The words of the command language: servers, durations, rates, quoted text, and their errors."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import NoReturn, TypeVar

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.model.link_rules import CLIENT, MESSAGE_KINDS

T = TypeVar("T")

MAX_LENGTH = 2000
"""Characters of the longest command."""
MAX_DURATION = 3600.0
MIN_RATE, MAX_RATE = 1 / 1000, 10.0
MAX_BANDWIDTH = 1e8


class Who(enum.Enum):
    """Servers named by what they are at the moment, not by number."""

    ALL = "all"
    LEADER = "leader"
    FOLLOWERS = "followers"
    CANDIDATE = "candidate"


Servers = tuple[ServerId, ...] | Who
"""Servers by number, or by role (resolved when the command is carried out).

At the ends of links ``CLIENT`` may be among them.
"""

ROLES = tuple(who.value for who in Who)
SERVER = "a server (a number, leader, followers, candidate or all)"
END = f"{SERVER[:-1]}, or client)"
ONE_SERVER = "one server (a number, leader or candidate)"
DURATION = "a duration with its unit (200ms, 1.5s)"
RATE = f"a rate (1/20, 0.5, 2: from 1/1000 to {MAX_RATE:g}, or 0)"
SHARE = "a share of the messages (10%: from 0% to 100%)"
BANDWIDTH = "bytes in a second (500B/s, 10kB/s, 1.5MB/s, unlimited)"
MESSAGE = "the number of a message (#12)"


MAX_ECHO = 200
"""Characters that are repeated of what somebody gave us."""


class CommandError(Exception):
    """A text that is no command.

    At ``column`` (from 1) of ``text`` something else was ``expected``; ``nearest`` is the
    right command that comes closest.
    """

    def __init__(self, text: str, column: int, expected: str, nearest: str) -> None:
        super().__init__(text, column, expected, nearest)
        self.text = text
        self.column = column
        self.expected = expected
        self.nearest = nearest

    @property
    def reason(self) -> str:
        """What was expected and what was found, without the place."""
        words = self.text[self.column - 1 :].split()
        found = f'"{printable(words[0], 30)}"' if words else "the end"
        return f"expected {self.expected}, found {found}"

    def __str__(self) -> str:
        return f"column {self.column}: {self.reason}; try: {printable(self.nearest, MAX_ECHO)}"


class ReadingError(Exception):
    """Why the reading of a command stopped, before the nearest right one is sought.

    ``words`` are some that could stand there; ``fixed`` is a whole text that may be meant.
    """

    def __init__(
        self, column: int, expected: str, words: tuple[str, ...] = (), fixed: str = ""
    ) -> None:
        super().__init__(column, expected)
        self.column = column
        self.expected = expected
        self.words = words
        self.fixed = fixed


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command at ``column`` (from 1), and what it says without its quotes."""

    text: str
    column: int
    value: bytes


_QUOTES = ("'", '"')
_SPACE = re.compile(r"\s*(?:#(?!\d).*)?", re.DOTALL)  # and a comment; ``#12`` is a word
_COMMENT = re.compile(r"(?<!\S)#(?!\d)|$")
_AFTER_CONDITION = re.compile(r"(?<!\S)(?:within\b|#(?!\d))|$")
_BARE = re.compile(r"\S+")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_SYMBOL = re.compile(r"->|→|[|,]|(?:(?!->)[^\s,|→])+")
_ARROW = re.compile(r"->|→")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED = {"n": "\n", "r": "\r", "t": "\t"}
_ID = re.compile(r"[sS]?([0-9]{1,4})")
_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,30})?"
_RANGE = re.compile(r"[sS]?([0-9]{1,4})-[sS]?([0-9]{1,4})")
_DURATION = re.compile(rf"({_NUMBER})(ms|s)")
_JITTER = re.compile(r"(?:±|\+/?-)\s*")
_SHARE = re.compile(rf"({_NUMBER})%")
_BANDWIDTH = re.compile(rf"({_NUMBER})(B|kB|MB)/s", re.IGNORECASE)
_BYTES = {"b": 0, "kb": 3, "mb": 6}
_MESSAGE = re.compile(r"#([0-9]{1,15})")
_COUNT = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(_NUMBER)
_FRACTION = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")
_PLAIN = re.compile(r"[^\s'\"\\@#][^\s'\"\\]*")
_AFTER_SERVERS = ("", "->", "→", "|")
_CLIENT = "client"
_KINDS = {kind.lower(): kind for kind in MESSAGE_KINDS}
MAX_RANGE = 100
"""Servers that one range may name."""


class Reader:
    """Reads a command from left to right; whatever does not fit raises ReadingError."""

    def __init__(self, text: str, place: int = 0) -> None:
        self._text = text
        self._place = place
        self._skip_space()

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._place)
        assert match is not None
        self._place = match.end()

    @property
    def column(self) -> int:
        """The column (from 1) of what comes next."""
        return self._place + 1

    @property
    def at_end(self) -> bool:
        """Whether nothing but a comment is left."""
        return self._place == len(self._text)

    @property
    def _comment(self) -> int:
        """Where a comment begins, or the end, if nothing to come is in quotes."""
        match = _COMMENT.search(self._text, self._place)
        assert match is not None  # it matches the end, too
        return match.start()

    def fail(self, expected: str, words: tuple[str, ...] = ()) -> NoReturn:
        """Say that something else was expected here."""
        raise ReadingError(self.column, expected, words)

    def end(self) -> None:
        """Take the end of the command."""
        if not self.at_end:
            self.fail("the end")

    def comes(self, pattern: re.Pattern[str]) -> bool:
        """Whether what comes next looks like this."""
        return pattern.match(self._text, self._place) is not None

    def rest(self) -> str:
        """Take all that is left before a comment, as it is written."""
        rest = self._text[self._place : self._comment].rstrip()
        self._place = len(self._text)
        return rest

    def condition(self) -> str:
        """Take a condition: all up to the word ``within``, or a comment, outside of quotes."""
        match = _AFTER_CONDITION.search(blanked(self._text), self._place)
        assert match is not None  # it matches the end, too
        condition = self._text[self._place : match.start()].rstrip()
        if not condition:
            self.fail("a condition (leader != 0)")
        self._place = match.start()
        self._skip_space()
        return condition

    def condition_within(self, seconds: float) -> tuple[str, float]:
        """Take a condition and how long it may take to come true: ``seconds`` if not said."""
        condition = self.condition()
        return condition, self.duration() if self.take("within") else seconds

    # --- Free words: keys, values, topics ------------------------------------------------------

    def word(self, expected: str) -> Word:
        """Take a bare word, or one in quotes with its escapes resolved."""
        if self.at_end:
            self.fail(expected)
        column = self.column
        quoted = self._text[self._place] in _QUOTES
        match = (_QUOTED if quoted else _BARE).match(self._text, self._place)
        if match is None:
            self.fail(f"a closing {self._text[self._place]}")
        text = match[0]
        self._place = match.end()
        if quoted and self._text[self._place : self._place + 1].strip():
            self.fail("a space after the closing quote")
        value = _unescaped(text[1:-1]) if quoted else text
        self._skip_space()
        try:
            return Word(text, column, value.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise ReadingError(column, "characters of Unicode") from None

    # --- Servers -------------------------------------------------------------------------------

    def _next_symbol(self) -> str:
        match = _SYMBOL.match(self._text, self._place)
        return match[0] if match else ""

    def take(self, symbol: str) -> bool:
        """Take ``symbol`` if it comes next (``->`` is any arrow)."""
        found = self._next_symbol()
        if found != symbol and not (symbol == "->" and _ARROW.fullmatch(found)):
            return False
        self._place += len(found)
        self._skip_space()
        return True

    @property
    def has_arrow(self) -> bool:
        """Whether an arrow is still to come."""
        return _ARROW.search(self._text, self._place, self._comment) is not None

    def one_server(self) -> Servers:
        """Take a number, or a role that one server can have."""
        one = self._group(ONE_SERVER, (Who.LEADER.value, Who.CANDIDATE.value))
        return one if isinstance(one, Who) else one[:1]

    def servers(self) -> Servers:
        """Take one role, or numbers and ranges with spaces or commas between them."""
        return self._groups(lambda: self.take(",") or self._next_symbol() not in _AFTER_SERVERS)

    def one_group(self) -> Servers:
        """Take one role, or numbers and ranges with commas between them."""
        return self._groups(lambda: self.take(","))

    def end_of_link(self, *, joined: bool = False, last: bool = True) -> Servers:
        """Take servers or the client: only such as commas join, or spaces, too.

        Where something else may follow (not ``last``), they end before what is no number.
        """
        if joined:
            return self._groups(lambda: self.take(","), client=True)
        if last:
            more = self._next_symbol
            return self._groups(lambda: self.take(",") or more() not in _AFTER_SERVERS, client=True)
        return self._groups(lambda: self.take(",") or self.has_server, client=True)

    @property
    def has_server(self) -> bool:
        """Whether a server or the client comes next."""
        word = self._next_symbol().lower()
        return _numbered(word, client=True) is not None or word in ROLES

    def _groups(self, goes_on: Callable[[], bool], *, client: bool = False) -> Servers:
        first = self._group(END if client else SERVER, ROLES, client=client)
        if isinstance(first, Who):
            return first
        numbers = list(first)
        while goes_on():
            column = self.column
            more = self._group("a number of a server (a role stands alone)", (), client=client)
            assert not isinstance(more, Who)
            if set(more) & set(numbers):
                raise ReadingError(column, "a server that is not named yet")
            numbers += more
        return tuple(numbers)

    def _group(self, expected: str, roles: tuple[str, ...], *, client: bool = False) -> Servers:
        """Take a number, a range of them (``1-3``), or a role."""
        word = self._next_symbol()
        numbers = _numbered(word, client=client)
        if numbers is not None and (len(numbers) == 1 or expected != ONE_SERVER):
            found: Servers = numbers
        elif word.lower() in roles:
            found = Who(word.lower())
        else:
            self.fail(expected, (*roles, _CLIENT) if client else roles)
        self._place += len(word)
        self._skip_space()
        return found

    def servers_then(self) -> Servers:
        """Take one role, or numbers and ranges, before a word that is none."""
        return self._groups(lambda: self.take(",") or self.has_server)

    def destination(self) -> Servers | None:
        """Take ``@`` and one server; None if nothing like that comes next."""
        if self.at_end or self._text[self._place] != "@":
            return None
        self._place += 1
        return self.one_server()

    # --- Messages ------------------------------------------------------------------------------

    def kind(self) -> str:
        """Take the kind of a message, in the paper's words; empty if none comes next."""
        word = self._next_symbol()
        kind = _KINDS.get(word.lower(), "")
        if kind:
            self.take(word)
        return kind

    def choice(self, words: Mapping[str, T], expected: str) -> T:
        """Take one of these words and return what it stands for."""
        word = self._next_symbol()
        if word.lower() not in words:
            self.fail(expected, tuple(words))
        self.take(word)
        return words[word.lower()]

    @property
    def has_message(self) -> bool:
        """Whether the number of a message comes next."""
        return self.comes(_MESSAGE)

    def messages(self) -> tuple[int, ...]:
        """Take one or more numbers of messages."""
        numbers: list[int] = []
        while not numbers or not self.at_end:
            match = _MESSAGE.fullmatch(self._next_symbol())
            if match is None:
                self.fail(MESSAGE)
            numbers.append(int(match[1]))
            self.take(match[0])
            self.take(",")
        return tuple(dict.fromkeys(numbers))

    # --- Numbers -------------------------------------------------------------------------------

    def duration(self) -> float:
        """Take a duration and return its seconds."""
        return self._number(DURATION, read_duration)

    def jitter(self) -> float:
        """Take ``±`` and a duration; 0 if nothing like that comes next."""
        match = _JITTER.match(self._text, self._place)
        if match is None:
            return 0.0
        self._place = match.end()
        return self.duration()

    def share(self) -> float:
        """Take a percentage, and return it as a share from 0 to 1."""
        return self._number(SHARE, read_share)

    def bandwidth(self) -> float:
        """Take bytes in a second; 0 for ``unlimited``."""
        return self._number(BANDWIDTH, read_bandwidth)

    def rate(self) -> float:
        """Take how fast time runs."""
        return self._number(RATE, read_rate)

    def count(self, most: int) -> int:
        """Take a whole number from 1 to ``most``."""
        read = partial(read_count, most=most)
        return int(self._number(f"a whole number from 1 to {most}", read))

    def _number(self, expected: str, read: Callable[[str], float | None]) -> float:
        match = _BARE.match(self._text, self._place)
        number = read(match[0]) if match else None
        if number is None:
            self.fail(expected)
        self.word(expected)
        return number


def blanked(text: str) -> str:
    """Return ``text``, as long as it is, with spaces for everything in quotes."""
    return _QUOTED.sub(lambda match: " " * len(match[0]), text)


def read_duration(text: str) -> float | None:
    """Return the seconds of ``200ms`` or ``1.5s``, None if it is no such duration."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    # Decimals, so that 0.1ms is the number nearest to 0.0001 and is written back as it was.
    seconds = float(Decimal(match[1]).scaleb(-3 if match[2] == "ms" else 0))
    return seconds if seconds <= MAX_DURATION else None


def read_count(text: str, most: int) -> int | None:
    """Return the number of ``5``, None if it is no whole number from 1 to ``most``."""
    return int(text) if _COUNT.fullmatch(text) and 1 <= int(text) <= most else None


def read_share(text: str) -> float | None:
    """Return 0.1 for ``10%``, None if it is no percentage from 0 to 100."""
    match = _SHARE.fullmatch(text)
    share = float(Decimal(match[1]).scaleb(-2)) if match else None
    return share if share is not None and share <= 1 else None


def read_bandwidth(text: str) -> float | None:
    """Return the bytes of ``10kB/s``, 0 for ``unlimited``, None if it is neither."""
    if text.lower() == "unlimited":
        return 0.0
    match = _BANDWIDTH.fullmatch(text)
    if match is None:
        return None
    bandwidth = float(Decimal(match[1]).scaleb(_BYTES[match[2].lower()]))
    return bandwidth if 0 < bandwidth <= MAX_BANDWIDTH else None


def read_rate(text: str) -> float | None:
    """Return the number of ``1/20`` or ``0.5``, None if it is no rate that time can run at."""
    if match := _FRACTION.fullmatch(text):
        if int(match[2]) == 0:
            return None
        rate = int(match[1]) / int(match[2])
    elif _DECIMAL.fullmatch(text):
        rate = float(text)
    else:
        return None
    return rate if rate == 0 or MIN_RATE <= rate <= MAX_RATE else None


def _numbered(word: str, *, client: bool) -> tuple[ServerId, ...] | None:
    """Return the servers of ``3`` or ``1-3`` (or ``client``), None if it is nothing like that."""
    if client and word.lower() == _CLIENT:
        return (CLIENT,)
    if match := _ID.fullmatch(word):
        first = last = int(match[1])
    elif match := _RANGE.fullmatch(word):
        first, last = int(match[1]), int(match[2])
    else:
        return None
    named = tuple(map(ServerId, range(first, last + 1)))
    return named if first > 0 and 0 < len(named) <= MAX_RANGE else None


def _unescaped(text: str) -> str:
    """Resolve the escapes of a quoted word; a byte of its own becomes a surrogate escape."""

    def resolve(match: re.Match[str]) -> str:
        if match[1] is not None:
            return bytes.fromhex(match[1]).decode("utf-8", "surrogateescape")
        return _NAMED.get(match[2], match[2])

    return _ESCAPE.sub(resolve, text)


# --- Writing ---------------------------------------------------------------------------------


def format_servers(servers: Servers, between: str = " ") -> str:
    """Write servers as they are read."""
    if isinstance(servers, Who):
        return servers.value
    return between.join(_CLIENT if server == CLIENT else str(server) for server in servers)


def format_link(a: Servers, b: Servers, both_ways: bool) -> str:
    """Write the two ends of a link as they are read."""
    if both_ways:
        return f"{format_servers(a, ',')} {format_servers(b, ',')}"
    return f"{format_servers(a)} -> {format_servers(b)}"


def format_duration(seconds: float) -> str:
    """Write a duration so that reading it gives the same seconds."""
    exact = Decimal(repr(seconds))
    return f"{exact.scaleb(3):f}ms" if 0 < exact < 1 else f"{_plain(exact)}s"


def format_share(share: float) -> str:
    """Write a share so that reading it gives the same number."""
    return f"{_plain(Decimal(repr(share)).scaleb(2).normalize())}%"


def format_bandwidth(bandwidth: float) -> str:
    """Write bytes in a second so that reading them gives the same number."""
    return f"{_plain(Decimal(repr(bandwidth)))}B/s" if bandwidth else "unlimited"


def format_rate(rate: float) -> str:
    """Write a rate so that reading it gives the same number."""
    if 0 < rate < 1:
        fraction = Fraction(rate).limit_denominator(1000)
        if fraction.numerator == 1 and float(fraction) == rate:
            return f"1/{fraction.denominator}"
    return _plain(Decimal(repr(rate)))


def _plain(number: Decimal) -> str:
    return f"{number:f}".removesuffix(".0")


def quote(value: bytes) -> str:
    """Write a key or value so that reading it gives the same bytes, and is safe to show."""
    text = value.decode("utf-8", "surrogateescape")
    if _PLAIN.fullmatch(text) and printable(text) == text:
        return text
    return "'" + "".join(map(_quoted_character, text)) + "'"


def _quoted_character(character: str) -> str:
    if character in "'\\":
        return "\\" + character
    if character == printable(character):
        return character
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
