"""Conditions on the cluster, for ``expect``, ``wait`` and the goals of lessons (design §9).

A condition is an expression of CEL, the Common Expression Language, over the values that
``variables`` lists. It is compiled and evaluated by that language alone, never as Python.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from raft.core.messages import ServerId
from raft.printable import printable
from raftviz.command.text import blanked
from raftviz.model.values import (
    ENTRY_FIELDS,
    MESSAGE_FIELDS,
    NAMES,
    OPERATION_FIELDS,
    SERVER_FIELDS,
    SERVER_NAME,
    VALUES,
    server_values,
    shown,
)
from raftviz.model.values import variables as variables
from raftviz.model.view import ClusterView, ServerView

if TYPE_CHECKING:
    import cel

MAX_LENGTH = 1000
MAX_NESTING = 3
"""Macros (all, exists, map, filter …) inside macros: each multiplies the work."""
SHOWN = 160
"""Characters of the longest value that ``explain`` shows."""

_FUNCTIONS = (
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "duration",
    "timestamp",
    "type",
    "dyn",
)


class ConditionError(Exception):
    """A text that is no condition on this cluster; ``column`` (from 1) is where it goes wrong."""

    def __init__(self, column: int, reason: str) -> None:
        super().__init__(column, reason)
        self.column = column
        self.reason = reason

    def __str__(self) -> str:
        return f"column {self.column}: {self.reason}"


class Condition:
    """A compiled condition. Raises ConditionError for a text that is none."""

    def __init__(self, text: str) -> None:
        self.text = text
        _check_shape(text)
        self._program = _compile(text)
        self._code = blanked(text)
        self._bound = _bound_names(self._code)
        self._names = [name for name in self._program.variables() if name not in self._bound]
        self._check_names()
        self._check_functions()
        self._check_fields()

    def __str__(self) -> str:
        return self.text

    def holds(self, view: ClusterView, extra: Mapping[str, Any] | None = None) -> bool:
        """Judge the cluster. What the condition asks of something that is not there is not so.

        ``extra`` holds further values by name (``start``). Raises ConditionError if it asks
        for a server that the cluster has not, compares what cannot be compared, or has a
        result that is neither true or false nor a whole number.
        """
        values = self._values(view, extra or {})
        try:
            result = self._program.execute(values)
        except (KeyError, IndexError, ArithmeticError):
            return False  # a key not yet put, an entry not yet there
        except (TypeError, RuntimeError) as error:
            if _NO_NUMBER_YET.match(str(error)):
                return False
            raise ConditionError(1, _evaluation_words(str(error))) from None
        if not isinstance(result, int):  # True and False are whole numbers, too
            raise ConditionError(1, f"this is neither true nor false but {shown(result)}")
        return result != 0

    def explain(self, view: ClusterView, extra: Mapping[str, Any] | None = None) -> str:
        """Return what it looked at and what it saw there, as ``leader = 0, term = 3``."""
        values = self._values(view, extra or {})
        seen = [f"{path}{_seen(path, values)}" for path in self._paths()]
        return ", ".join(seen) or "it looks at nothing in the cluster"

    def _paths(self) -> list[str]:
        """Return the parts of the text that name a value of the cluster, each once."""
        found = {
            match[0]: None
            for match in _PATH.finditer(self.text)
            if self._code[match.start()] != " " and match[1] in self._names
        }
        return list(found)

    def _values(self, view: ClusterView, extra: Mapping[str, Any]) -> dict[str, Any]:
        values = {}
        for name in self._names:
            if name in extra:
                values[name] = extra[name]
            elif name in VALUES:
                values[name] = VALUES[name](view)
            elif name in NAMES:
                self._fail(name, f"{name} is known in lessons only")
            else:
                values[name] = server_values(self._named_server(name, view), view)
        return values

    def _named_server(self, name: str, view: ClusterView) -> ServerView:
        server = view.servers.get(ServerId(int(name[1:])))
        if server is None:
            there = ", ".join(f"s{number}" for number in view.servers) or "none"
            self._fail(name, f"there is no {name}; the servers are {there}")
        return server

    # --- What can be judged without a cluster --------------------------------------------------

    def _check_names(self) -> None:
        for name in self._names:
            if name not in NAMES and not SERVER_NAME.fullmatch(name):
                self._fail(name, _unknown(name, [*NAMES, "s1"]))

    def _check_functions(self) -> None:
        for name in self._program.functions():
            if name.isidentifier() and name[0] != "_" and name not in _FUNCTIONS:
                self._fail(name, _unknown(name, _FUNCTIONS))

    def _check_fields(self) -> None:
        for match in _FIELD.finditer(self._code):
            right = self._fields_of(self._code[: match.start()])
            if right is not None and match[1] not in right:
                raise ConditionError(match.start(1) + 1, _unknown(match[1], right))

    def _fields_of(self, owner: str) -> Sequence[str] | None:
        """Return what the value that ``owner`` ends with can be asked for; None: anything."""
        match = _OWNER.search(owner)
        name = match[2] if match else ""
        if name in ("kv", "start"):
            return None
        is_whole = match is not None and not match[1]
        if is_whole and name in self._bound:
            return self._bound[name]
        if SERVER_NAME.fullmatch(name):
            return _ELEMENTS["servers"]
        if name == "last":
            return _ELEMENTS["operations"]
        return () if is_whole and name in self._names else _ANY_FIELD

    def _fail(self, name: str, reason: str) -> NoReturn:
        match = re.search(rf"\b{re.escape(name)}\b", self._code)
        raise ConditionError(match.start() + 1 if match else 1, reason)


# --- The text --------------------------------------------------------------------------------

_MACRO = r"\.\s*(?:all|exists|exists_one|map|filter)\s*\("
_BOUND = re.compile(r"(\w*)\s*" + _MACRO + r"\s*([A-Za-z_]\w*)\s*,")
_FIELD = re.compile(r"\.\s*([A-Za-z_]\w*)\b(?!\s*\()")
_OWNER = re.compile(r"(\.?)\s*([A-Za-z_]\w*)\s*$")
_PATH = re.compile(
    r"""(?<![\w.])([A-Za-z_]\w*)(?!\w*\s*\()"""
    r"""(?:\.[A-Za-z_]\w*(?!\w*\s*\()|\["[^"]*"\]|\['[^']*'\]|\[\d+\])*"""
)
_NESTED = re.compile(rf"({_MACRO})|(\()|(\))")
_ELEMENTS = {
    "servers": tuple(SERVER_FIELDS),
    "operations": tuple(OPERATION_FIELDS),
    "messages": tuple(MESSAGE_FIELDS),
    "log": tuple(ENTRY_FIELDS),
}
_ANY_FIELD = tuple(field for fields in _ELEMENTS.values() for field in fields)


def _bound_names(code: str) -> dict[str, tuple[str, ...]]:
    """Return the names that macros bind, each with what its values may be asked for."""
    bound: dict[str, tuple[str, ...]] = {}
    for owner, name in _BOUND.findall(code):
        fields = _ELEMENTS.get(owner, _ANY_FIELD)
        bound[name] = fields if bound.get(name, fields) == fields else _ANY_FIELD
    return bound


def _check_shape(text: str) -> None:
    if len(text) > MAX_LENGTH:
        raise ConditionError(MAX_LENGTH + 1, f"a condition has at most {MAX_LENGTH} characters")
    code = blanked(text)
    if quote := re.search("['\"]", code):
        raise ConditionError(quote.start() + 1, f"this {quote[0]} is never closed")
    open_macros = [False]
    for match in _NESTED.finditer(code):
        if match[3]:
            open_macros = open_macros[:-1] or [False]
        else:
            open_macros.append(match[1] is not None)
        if sum(open_macros) > MAX_NESTING:
            reason = f"at most {MAX_NESTING} of all, exists, map … stand inside each other"
            raise ConditionError(match.start() + 1, reason)


def _compile(text: str) -> cel.Program:
    import cel  # takes 200 ms, so not before somebody states a condition

    try:
        return cel.compile(text)
    except ValueError as error:
        raise _syntax_error(text, str(error)) from None


def _syntax_error(text: str, message: str) -> ConditionError:
    match = _FIRST_ERROR.search(message)
    if match is None:
        return ConditionError(1, "this is not an expression of CEL")
    lines_before = text.split("\n")[: int(match[1]) - 1]
    column = sum(len(line) + 1 for line in lines_before) + int(match[2])
    return ConditionError(column, _syntax_words(match[3]))


_FIRST_ERROR = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?(.*)")


def _syntax_words(message: str) -> str:
    """Say in plain words what the parser found wrong."""
    found = re.search(r"(?:error at:|input) '(.*?)'(?: expecting|$)", message)
    word = found[1].strip() if found else ""
    if word == "<EOF>":
        return "the condition ends too early"
    if word[:1] in ("'", '"'):
        return f"this text in quotes has a wrong escape: {_brief(word)}"
    if word in _MEANT:
        return f"write {_MEANT[word]}, not {word}"
    if missing := re.match(r"missing '(.*?)' at", message):
        return f"{missing[1]} is missing here"
    if "Recursion limit" in message:
        return "too many brackets stand inside each other"
    return f"{_brief(word)} does not belong here" if word else _brief(message)


_MEANT = {"=": "==", "&": "&&", "|": "||", "and": "&&", "or": "||", "not": "!"}


_NO_NUMBER_YET = re.compile(r"Function '(u?int|double)' error")


def _evaluation_words(message: str) -> str:
    if "No such overload" in message or "Unsupported operation" in message:
        return (
            "this puts together what does not fit: && and || want true or false (leader != 0), "
            "< and + want two numbers of one kind (time > 1.5, term > 1)"
        )
    return _brief(message)


def _brief(text: str) -> str:
    return printable(text.split("\n")[0], 80)


def _unknown(name: str, known: Sequence[str]) -> str:
    name = printable(name, 30)
    if not known:
        return f"a number or list has no {name}"
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else "help conditions lists what there is"
    return f"there is no {name}: {hint}"


def _seen(path: str, values: Mapping[str, Any]) -> str:
    try:
        value = _compile(path).execute(dict(values))
    except (KeyError, IndexError):
        return " is not there"
    except TypeError:
        return " cannot be asked for"
    return f" = {printable(shown(value), SHOWN)}"


# --- Completion and help -----------------------------------------------------------------------

_BEGUN = re.compile(r"(?:([A-Za-z_]\w*)\s*\.\s*)?([A-Za-z_]\w*|)$")


def complete_condition(text: str, servers: Sequence[ServerId]) -> list[str]:
    """Return what ``text``, which ends in a begun condition, may go on with."""
    match = _BEGUN.search(text)
    if match is None or text.count('"') % 2 or text.count("'") % 2:
        return []
    owner, begun = match[1], match[2]
    if owner is None:
        words = [*NAMES, *(f"s{server}" for server in servers)]
    elif SERVER_NAME.fullmatch(owner):
        words = list(SERVER_FIELDS)
    else:
        words = list(OPERATION_FIELDS) if owner == "last" else []
    return [w[len(begun) :] for w in words if w.startswith(begun) and w != begun]


def condition_help() -> str:
    """Return what a condition can say."""
    sections = (
        ("a condition is true or false, or a whole number that is not 0; it can ask for", NAMES),
        ("and of a server, as s1.role or servers.exists(s, s.role == ...)", SERVER_FIELDS),
        ("of an operation, as last.outcome", OPERATION_FIELDS),
        ("of a message, as messages.exists(m, m.kind == ...)", MESSAGE_FIELDS),
        ("of an entry, as s1.log[0].term", ENTRY_FIELDS),
    )
    return "\n\n".join(
        "\n".join((f"{title}:", *(f"  {name:<11} {what}" for name, what in fields.items())))
        for title, fields in sections
    )
