"""A lesson beside the live cluster: where one is, what to read, what to do, what to answer."""

from __future__ import annotations

from rich.style import Style
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Markdown, OptionList, Static

from raft.printable import printable
from raftviz.lab.api import Lab
from raftviz.lesson import Lesson, LessonRun, SceneError, Step, names
from raftviz.tui.canvas import Canvas, width_of
from raftviz.tui.screens.steps import StepsScreen
from raftviz.tui.seen import Seen
from raftviz.tui.widgets.panel import Panel

Span = tuple[str, Style]
AGAIN = " ✗ failed: s sets it up again "


class LessonHead(Panel):
    """The step's title, how far one is, and whether the goal is reached."""

    run: LessonRun | None = None
    failed = False
    """Whether the step's scene could not be set."""

    def on_click(self, event: events.Click) -> None:
        """Set the scene again where it says that this is what a click does."""
        at = event.get_content_offset(self)
        if self.failed and at is not None and at.y == 1:
            self.post_message(self.Pressed("again"))

    def draw(self, canvas: Canvas) -> None:
        """Draw the title above a row of steps."""
        palette = self.seen.palette
        if self.run is None:
            canvas.text(0, 0, "the servers start …", palette.faint)
            return
        canvas.text(0, 0, self.run.step.title, palette.strong, width=canvas.width)
        text, style = self._goal()
        goal = canvas.width - width_of(text)
        canvas.text(goal, 1, text, style)
        x = canvas.text(0, 1, f"{self.run.progress}  ", palette.dim)
        if x + len(self.run.lesson.steps) >= goal:
            return
        for place in range(len(self.run.lesson.steps)):
            here, done = place == self.run.index, place in self.run.done
            sign = "◉" if here else "✓" if done else "·"
            style = palette.key if here else palette.good if done else palette.dim
            x = canvas.text(x, 1, sign, style)

    def _goal(self) -> Span:
        palette, run = self.seen.palette, self.run
        assert run is not None
        if self.failed:
            return AGAIN, palette.fill_bad
        if not run.ready:
            return "setting the scene …", palette.dim
        if run.step.goal is None:
            return "", palette.dim
        if run.goal_met:
            return " ✓ goal reached ", palette.fill_good
        return "goal: not yet", palette.dim


class LessonFoot(Panel):
    """Back and Next at places that never change."""

    def draw(self, canvas: Canvas) -> None:
        """Draw the buttons."""
        palette = self.seen.palette
        for x, name, text in self._buttons(canvas.width):
            style = palette.fill_key if name in ("back", "next") else palette.fill_panel
            canvas.text(x, 0, text, style)

    def _buttons(self, width: int) -> list[tuple[int, str, str]]:
        texts = {"back": " ‹N back ", "hint": " m hint ", "steps": " j jump ", "next": " next n› "}
        spare = max(width - sum(map(len, texts.values())), 0)
        places = {
            "back": 0,
            "hint": len(texts["back"]) + spare // 2,
            "steps": width - spare // 2 - len(texts["next"]) - len(texts["steps"]),
            "next": width - len(texts["next"]),
        }
        return [(places[name], name, text) for name, text in texts.items()]

    def on_click(self, event: events.Click) -> None:
        """Press the button that was clicked."""
        for x, name, text in self._buttons(self.content_size.width):
            if x <= event.x < x + len(text):
                self.post_message(self.Pressed(name))


class LessonPanel(Vertical):
    """The text of a step, its question, its hints; the way from step to step."""

    BORDER_TITLE = "lesson"

    class Failed(Message):
        """A step's scene could not be set, and why."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, seen: Seen, lesson: Lesson, *, id: str) -> None:
        super().__init__(id=id)
        self.border_title = Content(f"lesson · {printable(lesson.title)}")
        self._seen = seen
        self._lesson = lesson
        self._run: LessonRun | None = None
        self._hints = 0
        self._head = LessonHead(seen, id="lesson-head")
        self._text = VerticalScroll(Markdown(open_links=False), id="lesson-text", can_focus=False)
        self._foot = LessonFoot(seen, id="lesson-foot")

    def compose(self) -> ComposeResult:
        """Lay out head, text and foot."""
        yield from (self._head, self._text, self._foot)

    def repaint(self) -> None:
        """Draw what may have changed."""
        self._head.repaint()
        self._foot.repaint()

    # --- From step to step -------------------------------------------------------------------

    def start(self, lab: Lab) -> None:
        """Begin, once; later calls change nothing."""
        if self._run is None:
            self._run = self._head.run = LessonRun(self._lesson, lab, self._seen.view)
            self._go(0)

    def view_changed(self) -> None:
        """Judge the goal."""
        if self._run is not None:
            try:
                self._run.view_changed()
            except SceneError as error:
                self._fail(error)

    def next(self) -> None:
        """Go to the next step; on the last one say that the lesson is over, and what else is."""
        if self._run is None:
            return
        if self._run.index + 1 < len(self._lesson.steps):
            self._go(self._run.index + 1)
        elif not self._text.query(".finished"):
            self._note(finished(self._lesson), "finished right")

    def again(self) -> None:
        """Set this step's scene once more."""
        if self._run is not None:
            self._go(self._run.index)

    def back(self) -> None:
        """Go to the step before; on the first one set its scene again."""
        if self._run is not None:
            self._go(max(self._run.index - 1, 0))

    def jump(self) -> None:
        """Let the user choose a step."""
        if self._run is not None:
            self.app.push_screen(StepsScreen(self._run), self._jump_to)

    def _jump_to(self, place: int | None) -> None:
        if place is not None:
            self._go(place)

    def _go(self, place: int) -> None:
        self.run_worker(self._set_scene(place), group="scene")
        self.run_worker(self._show(self._lesson.steps[place]), group="text", exclusive=True)

    async def _set_scene(self, place: int) -> None:
        assert self._run is not None
        self._head.failed = False
        try:
            await self._run.go(place)
        except SceneError as error:
            self._fail(error)

    def _fail(self, error: SceneError) -> None:
        """Say in the panel what failed: the line below is the next command's."""
        self._head.failed = True
        self._note(f"✗ {error}\nPress `s` to set this step up again.", "wrong")
        self.post_message(self.Failed(str(error)))

    def scroll(self, lines: int) -> None:
        """Scroll the text up (positive) or down."""
        self._text.scroll_relative(y=-lines, animate=False)

    # --- A step's text -----------------------------------------------------------------------

    async def _show(self, step: Step) -> None:
        self._hints = 0
        await self._text.remove_children(".note, OptionList")
        await self._text.query_one(Markdown).update(safe_markdown(step.narrative))
        if step.question is not None:
            choices = OptionList(
                *map(_choice, enumerate(step.question.choices)), markup=False, compact=True
            )
            choices.highlighted = None
            keys = " ".join(_letter(place) for place in range(len(step.question.choices)))
            question = _text(f"{step.question.text} ({keys} or click)")
            await self._text.mount(Static(question, markup=False, classes="note"), choices)
        if step.task is not None:
            task = Static(_text(f"▶ {step.task}"), markup=False, classes="note task")
            await self._text.mount(task)
        self._text.scroll_home(animate=False)

    @property
    def _step(self) -> Step | None:
        return None if self._run is None else self._run.step

    def hint(self) -> None:
        """Show one hint more."""
        step = self._step
        if step is None:
            return
        if self._hints >= len(step.hints):
            self._note("there is no other hint" if step.hints else "this step has no hint")
            return
        self._hints += 1
        number = f"hint {self._hints} of {len(step.hints)}: "
        self._note(number + step.hints[self._hints - 1])

    def answer(self, choice: int) -> None:
        """Judge an answer to the step's question, once, and say why."""
        question = self._step.question if self._step else None
        asked = self._text.query(OptionList)
        if question is None or not asked or not 0 <= choice < len(question.choices):
            return
        asked.remove()
        right = choice == question.answer
        given = f"{'✓' if right else '✗'} {question.choices[choice]}"
        if not right:
            given += f"\n✓ {question.choices[question.answer]}"
        self._note(f"{given}\n{question.why}", "right" if right else "wrong")

    def _note(self, text: str, kind: str = "") -> None:
        self._text.mount(Static(_text(text), markup=False, classes=f"note {kind}".strip()))
        self._text.scroll_end(animate=False)


def finished(lesson: Lesson) -> str:
    """Say that a lesson is over, and which others there are."""
    others = "\n".join(f"`raftviz lesson {name}`" for name in names() if name != lesson.name)
    more = f"\nOther lessons:\n{others}" if others else ""
    return f"✓ This was the last step: the lesson is finished.{more}"


def safe_markdown(text: str) -> str:
    """Return Markdown from which every character that a terminal would obey is gone."""
    return "\n".join(map(printable, text.splitlines()))


def _text(text: str) -> Text:
    """Return plain text in which what stands between backticks is told apart."""
    shown = Text()
    for place, part in enumerate("\n".join(map(printable, text.splitlines())).split("`")):
        shown.append(part, "bold" if place % 2 else "")
    return shown


def _letter(place: int) -> str:
    return chr(ord("A") + place)


def _choice(numbered: tuple[int, str]) -> Text:
    place, text = numbered
    return Text(f"{_letter(place)}  {printable(text)}")
