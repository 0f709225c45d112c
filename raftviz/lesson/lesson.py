"""What a lesson is: steps beside a live cluster, each with a scene, a text and a goal."""

from __future__ import annotations

from dataclasses import dataclass

from raft.core.messages import ServerId
from raft.printable import printable


class LessonError(Exception):
    """A lesson file cannot be used: where, what is wrong there, and what would be right."""

    def __init__(self, file: str, line: int, wrong: str, right: str) -> None:
        super().__init__(printable(f"{file}, line {line}: {wrong}; {right}"))
        self.file = file
        self.line = line


@dataclass(frozen=True, slots=True)
class Question:
    """Something to predict before it is seen. ``answer`` is the right choice's place, from 0."""

    text: str
    choices: tuple[str, ...]
    answer: int
    why: str


@dataclass(frozen=True, slots=True)
class Step:
    """One idea.

    Before it begins the cluster is made whole, and ``leader`` (None: anybody) leads it. Then
    ``scene``, commands, sets the stage. ``goal`` is a condition on the live cluster that the
    learner makes true; ``task`` tells what to do, ``solution`` are commands that do it.
    ``narrative`` is Markdown.
    """

    title: str
    narrative: str
    scene: tuple[str, ...] = ()
    goal: str | None = None
    hints: tuple[str, ...] = ()
    question: Question | None = None
    solution: tuple[str, ...] = ()
    leader: ServerId | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson for a cluster of ``servers``, whose time runs at ``rate`` while one learns."""

    name: str
    title: str
    servers: int
    rate: float
    steps: tuple[Step, ...]
