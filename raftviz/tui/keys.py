"""What each key does: one table, from which bindings, the bottom line and help are made.

A key that does something to the cluster gives a command of the one language, the same that
can be typed after ``:``; the screen shows it, so that pressing keys teaches the language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from raftviz.command.text import format_rate
from raftviz.tui.seen import Seen

HELP_ONLY = 13
"""The rank of keys that only help tells of."""
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Key:
    """A key: ``keys`` as Textual names them, ``shown`` as a person does.

    ``command`` gives the command it stands for, from what is on the screen; a key without one
    is the screen's own affair, its ``name`` says which. ``rank`` orders what gives way first
    where the bottom line is short.
    """

    name: str
    keys: tuple[str, ...]
    shown: str
    label: str
    help: str
    rank: int
    command: Callable[[Seen], str | None] | None = None


def _selected(verb: str) -> Callable[[Seen], str | None]:
    return lambda seen: f"{verb} {seen.selected}" if seen.selected else None


def _pause(seen: Seen) -> str | None:
    server = seen.selected_server
    if server is None:
        return None
    return f"{'resume' if server.paused else 'pause'} {server.id}"


def _freeze(seen: Seen) -> str:
    return "thaw" if seen.view.clock.rate == 0 else "freeze"


def _faster(seen: Seen) -> str:
    now = seen.view.clock.rate
    return f"rate {format_rate(next((rate for rate in RATES if rate > now * 1.001), RATES[-1]))}"


def _slower(seen: Seen) -> str:
    now = seen.view.clock.rate
    slower = (rate for rate in reversed(RATES) if rate < now * 0.999)
    return f"rate {format_rate(next(slower, RATES[0]))}"


KEYS: tuple[Key, ...] = (
    Key("select", (), "1-9", "select", "select a server; a click does, too", 3),
    Key("leader", ("0",), "0", "leader", "select whoever leads, also after the next election", 12),
    Key("kill", ("k",), "k", "kill", "kill the selected server (SIGKILL)", 0, _selected("kill")),
    Key(
        "restart", ("r",), "r", "restart", "start it again on its own data", 0, _selected("restart")
    ),
    Key("pause", ("p",), "p", "pause", "stop its process where it is, or let it go on", 1, _pause),
    Key("cut", ("x",), "x", "cut", "cut the link to the server named next, both ways", 1),
    Key("cut_one_way", ("X",), "X", "one way", "cut only what the selected server sends there", 11),
    Key("isolate", ("i",), "i", "isolate", "cut all its links", 5, _selected("isolate")),
    Key("heal", ("h",), "h", "heal", "heal every link", 1, lambda _: "heal all"),
    Key(
        "timeout", ("t",), "t", "time out", "let it start an election now", 4, _selected("timeout")
    ),
    Key("freeze", ("space",), "␣", "freeze", "freeze time, or let it go on", 0, _freeze),
    Key(
        "step",
        ("full_stop",),
        ".",
        "step",
        "while frozen: on to the next thing that is due",
        1,
        lambda _: "step",
    ),
    Key(
        "messages",
        ("m", "M"),
        "m",
        "messages",
        "while frozen: deliver, drop, copy or hold a message (M in a lesson)",
        5,
    ),
    Key("slower", ("minus",), "−", "slower", "slow time down", 2, _slower),
    Key("faster", ("plus", "equals_sign"), "+", "faster", "speed time up", 2, _faster),
    Key("put", ("w",), "w", "write", "write a key: type its name and its value", 4),
    Key("get", ("g",), "g", "read", "read a key: type its name", 7),
    Key("command", ("colon",), ":", "command", "type any command", 0),
    Key("tab", ("tab",), "⇥", "panel", "switch panels where there is no room for all", 6),
    Key("older", ("left",), "←", "older", "look at older entries of the logs", HELP_ONLY),
    Key("newer", ("right",), "→", "newer", "look at newer entries of the logs", HELP_ONLY),
    Key("up", ("up",), "↑", "up", "scroll up: the lesson's text, or what happened", HELP_ONLY),
    Key("down", ("down",), "↓", "down", "scroll down", HELP_ONLY),
    Key(
        "earlier",
        ("left_square_bracket",),
        "[",
        "earlier",
        "look at what happened earlier",
        HELP_ONLY,
    ),
    Key("later", ("right_square_bracket",), "]", "later", "look at what happened later", HELP_ONLY),
    Key("noise", ("v",), "v", "every message", "show every message in what happened, or not", 8),
    Key("light", ("l",), "l", "light", "light or dark", 10),
    Key(
        "leave", ("escape",), "Esc", "leave", "leave the command line, or give up a cut", HELP_ONLY
    ),
    Key("help", ("question_mark",), "?", "help", "this help", 0),
    Key("quit", ("q",), "q", "quit", "stop all servers and leave", 0),
)

LESSON_KEYS: tuple[Key, ...] = (
    Key("back", ("N", "pageup"), "N", "back", "the step before; Page Up does, too", 0),
    Key("next", ("n", "pagedown"), "n", "next", "the next step; Page Down does, too", 0),
    Key("hint", ("m",), "m", "hint", "a hint, and one more each time", 1),
    Key("steps", ("j",), "j", "jump", "the list of steps, to jump to any", 1),
    Key("again", ("s",), "s", "set up again", "set this step's scene up again", HELP_ONLY),
    Key("answer", (), "a b …", "answer", "answer a question; a click does, too", HELP_ONLY),
)
