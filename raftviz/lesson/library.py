"""Finds lessons: those that came with the program, and a teacher's own files."""

from __future__ import annotations

import difflib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from raftviz.lesson.lesson import Lesson, LessonError
from raftviz.lesson.parser import parse

MAX_BYTES = 256 * 1024
SUFFIX = ".md"


def names() -> list[str]:
    """Return the names of the lessons that came with the program."""
    found = (entry.name for entry in _folder().iterdir())
    lessons = (name.removesuffix(SUFFIX) for name in found if name.endswith(SUFFIX))
    return sorted(name for name in lessons if name != "README")


def load(name: str) -> Lesson:
    """Return the lesson called ``name``; a name that ends in .md is a file of the user's own.

    Raises LessonError, also when there is no such lesson.
    """
    if name.endswith(SUFFIX):
        path = Path(name)
        return _read(path.name.removesuffix(SUFFIX), path, name)
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        right = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise LessonError(name, 1, "no such lesson", right + " (a file's name ends in .md)")
    file = name + SUFFIX
    return _read(name, _folder() / file, file)


def _folder() -> Traversable:
    """Return the lessons' folder: inside the installed package, else beside it in a checkout."""
    package = files("raftviz")
    inside = package / "lessons"
    if inside.is_dir():
        return inside
    return Path(str(package)).parent / "lessons"


def _read(name: str, path: Traversable, file: str) -> Lesson:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise LessonError(file, 1, f"cannot be read: {error.strerror}", "name a file") from error
    if len(raw) > MAX_BYTES:
        raise LessonError(file, 1, f"more than {MAX_BYTES} bytes", "make two lessons of it")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise LessonError(file, line, "not UTF-8", "save the file as UTF-8") from error
    return parse(name, text.replace("\r\n", "\n"), file)
