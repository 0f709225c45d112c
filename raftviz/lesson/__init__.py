"""Lessons: text files that lead through Raft, step by step, beside a live cluster (design §11)."""

from raftviz.lesson.lesson import Lesson, LessonError, Question, Step
from raftviz.lesson.library import load, names
from raftviz.lesson.run import LessonRun, SceneError

__all__ = [
    "Lesson",
    "LessonError",
    "LessonRun",
    "Question",
    "SceneError",
    "Step",
    "load",
    "names",
]
