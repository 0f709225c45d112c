"""The one sanitiser: foreign text in, text that is safe to send to any terminal out.

Keys, values, file contents and messages come from people and machines we do not know. A
terminal obeys some characters instead of showing them: escape sequences write the clipboard
and the window title, bidirectional controls turn a line around, zero-width characters make
two different keys look the same. ``printable`` replaces each of them by a form one can read.

What comes out is *plain text*. It may still hold ``[bold]`` or ``<b>``, because somebody's
key may: never hand it to anything that parses markup.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator

MAX_MARKS = 4
"""As many combining marks may sit on one character: piled higher, they paint over neighbours."""

_DOTTED_CIRCLE = "◌"
_ELLIPSIS = "…"

_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}

# Controls (Cc: C0, DEL, C1), format characters (Cf: bidi controls, zero-width joiners, tags),
# lone surrogates, private use and unassigned characters (whose width no terminal knows), and
# the separators of lines and paragraphs.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Letters and marks by category, yet invisible: Unicode calls them default-ignorable.
_INVISIBLE = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
    + "".join(map(chr, (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def printable(value: str | bytes, limit: int | None = None) -> str:
    r"""Return ``value`` as text in which every character is visible and none is obeyed.

    Bytes are read as UTF-8; what is not UTF-8 is shown byte by byte, as ``\xff``. A character
    that a terminal would obey, hide or not know is shown by its number, as ``\x1b`` or
    ``\u202e``. With ``limit`` the result has at most that many characters and ends in ``…``
    if something was left out. Applying it twice changes nothing.
    """
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    plain = text.isascii() and text.isprintable()
    if plain and (limit is None or len(text) <= limit):
        return text
    pieces = text if plain else _visible_pieces(text)
    return "".join(pieces if limit is None else _shortened(pieces, limit))


def _visible_pieces(text: str) -> Iterator[str]:
    """Yield the visible form of each character, leaving out marks beyond ``MAX_MARKS``."""
    marks = 0
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        if category in _UNSAFE_CATEGORIES or character in _INVISIBLE:
            marks = 0
            yield _escaped(character)
        elif not category.startswith("M"):
            marks = 0
            yield character
        else:
            marks += 1
            if place == 0:  # it would sit on whatever is drawn to the left of this text
                yield _DOTTED_CIRCLE
            if marks <= MAX_MARKS:
                yield character
            elif marks == MAX_MARKS + 1:
                yield _ELLIPSIS


def _escaped(character: str) -> str:
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _shortened(pieces: Iterable[str], limit: int) -> list[str]:
    """Take whole pieces, so that a cut never leaves half of an escaped form."""
    taken: list[str] = []
    length = 0
    for piece in pieces:
        taken.append(piece)
        length += len(piece)
        if length > limit:
            while taken and length > limit - len(_ELLIPSIS):
                length -= len(taken.pop())
            return [*taken, _ELLIPSIS] if limit > 0 else []
    return taken
