"""What keys, clicks and typed commands do. All of them speak the one command language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft.core.messages import ServerId
from raftviz import commands
from raftviz.commands import Expect, Help, Quit, Select, Wait
from raftviz.lab.api import Answer, Lab
from raftviz.model.view import Flight
from raftviz.model.words import message_line
from raftviz.tui.keys import KEYS, LESSON_KEYS, Key
from raftviz.tui.scene.links import mark_of
from raftviz.tui.screens.help import HelpScreen
from raftviz.tui.screens.messages import MessagesScreen
from raftviz.tui.seen import Aim, Said
from raftviz.tui.selection import select
from raftviz.tui.theme import DARK, LIGHT

if TYPE_CHECKING:
    from raftviz.tui.explorer import Explorer


class Hands:
    """The user's hands on an explorer. ``lab`` is None until there is one."""

    def __init__(self, app: Explorer) -> None:
        self._app = app
        self._seen = app.seen
        self._stage = app.stage
        self.lab: Lab | None = None
        self._keys = {key.name: key for key in self._all_keys()}

    def _all_keys(self) -> tuple[Key, ...]:
        return (*(LESSON_KEYS if self._stage.lesson else ()), *KEYS)

    # --- Commands ----------------------------------------------------------------------------

    def give(self, text: str) -> None:
        """Carry out a command, as typed or as a key stands for it. Raises CommandError."""
        match commands.parse(text):
            case Quit():
                self._app.end()
            case Help(topic):
                self.help(topic)
            case Select(servers):
                self._select(select(servers, self._seen.view), text)
            case Wait() | Expect():
                self._say(text, Answer(False, "that is for scripts and lessons: raftviz run FILE"))
            case _:
                self._app.run_worker(self.perform(text), group="commands")

    async def perform(self, text: str) -> Answer:
        """Let the laboratory carry out a command; show that it does, and how it went."""
        said = self._say(text, None)
        if self.lab is None:
            answer = Answer(False, "the laboratory is not there")
        else:
            answer = await self.lab.command(text)
        if self._seen.said is said:
            self._say(text, answer)
        return answer

    def _say(self, text: str, answer: Answer | None) -> Said:
        self._seen.said = said = Said(text, answer)
        self._seen.remark = ""
        return said

    # --- Servers and links -------------------------------------------------------------------

    def point_at(self, server: ServerId) -> None:
        """Select a server; when a link is about to be cut, cut the one to it."""
        seen = self._seen
        aim, seen.aim = seen.aim, None
        if aim is None:
            self._select(server if server in seen.view.servers else None, f"select {server}")
        elif server == aim.server or server not in seen.view.servers:
            self._say(aim.command(server), Answer(False, "there is no such link"))
        else:
            self.give(aim.command(server))

    def _select(self, server: ServerId | None, text: str) -> None:
        if server is None:
            self._say(text, Answer(False, "there is no such server now"))
        else:
            self._seen.chosen = server

    def toggle_link(self, one: ServerId, two: ServerId) -> None:
        """Cut a link both ways; heal it if anything is wrong with it in any."""
        view = self._seen.view
        is_ruled = mark_of(view, one, two) or mark_of(view, two, one)
        self.give(f"{'heal' if is_ruled else 'cut'} {one} {two}")

    # --- Keys --------------------------------------------------------------------------------

    def press(self, name: str) -> None:
        """Do what a key does: give its command, or act on the screen."""
        key = self._keys.get(name)
        if key is None:
            return
        self._seen.aim = None
        if key.command is None:
            getattr(self, f"_press_{name}")()
        elif (text := key.command(self._seen)) is not None:
            self.give(text)

    def help(self, topic: str = "") -> None:
        """Show help on everything, or on one topic."""
        self._app.push_screen(HelpScreen(self._all_keys(), self._seen.palette, topic))

    def _press_help(self) -> None:
        self.help()

    def _press_quit(self) -> None:
        self._app.end()

    def _press_select(self) -> None:
        """Select the next server: what a click on the key can mean."""
        servers = list(self._seen.view.servers)
        if servers:
            here = servers.index(self._seen.selected) if self._seen.selected in servers else -1
            self.point_at(servers[(here + 1) % len(servers)])

    def _press_leader(self) -> None:
        self._seen.chosen = None

    def _press_cut(self) -> None:
        self._aim(both_ways=True)

    def _press_cut_one_way(self) -> None:
        self._aim(both_ways=False)

    def _aim(self, *, both_ways: bool) -> None:
        if self._seen.selected is not None:
            self._seen.aim = Aim(self._seen.selected, both_ways)

    def _press_leave(self) -> None:
        """Give up what was begun: that every key does."""

    def _press_command(self) -> None:
        self._app.open_line("")

    def _press_messages(self) -> None:
        seen = self._seen
        if not seen.frozen:
            seen.remark = "messages stand still only while time does: ␣ freezes it"
        elif not seen.view.flights:
            seen.remark = "no message is in flight"
        else:
            self._pick_message(None)

    def point_at_message(self, flight: Flight) -> None:
        """Let the user say what becomes of a message; while time runs tell what it says."""
        if self._seen.frozen and flight.message_id in self._seen.view.flights:
            self._pick_message(flight.message_id)
        else:
            self._seen.remark = message_line(flight.message)

    def _pick_message(self, marked: int | None) -> None:
        seen = self._seen
        screen = MessagesScreen(seen.view, seen.virtual, seen.palette, marked)
        self._app.push_screen(screen, self._give_picked)

    def _give_picked(self, text: str | None) -> None:
        if text is not None:
            self.give(text)

    def _press_put(self) -> None:
        self._app.open_line("put ")

    def _press_get(self) -> None:
        self._app.open_line("get ")

    def _press_tab(self) -> None:
        if self._seen.typing:
            self._stage.line.complete()
            return
        self._stage.next_tab(self._app.size)

    def _press_older(self) -> None:
        self._stage.logs.scroll(1)

    def _press_newer(self) -> None:
        self._stage.logs.scroll(-1)

    def _press_up(self) -> None:
        (self._stage.lesson or self._stage.feed).scroll(1)

    def _press_down(self) -> None:
        (self._stage.lesson or self._stage.feed).scroll(-1)

    def _press_earlier(self) -> None:
        self._stage.feed.scroll(1)

    def _press_later(self) -> None:
        self._stage.feed.scroll(-1)

    def _press_noise(self) -> None:
        self._stage.feed.toggle()

    def _press_light(self) -> None:
        self._app.theme = (DARK if self._app.theme == LIGHT.name else LIGHT).name

    def _press_back(self) -> None:
        if self._stage.lesson is not None:
            self._stage.lesson.back()

    def _press_next(self) -> None:
        if self._stage.lesson is not None:
            self._stage.lesson.next()

    def _press_again(self) -> None:
        if self._stage.lesson is not None:
            self._stage.lesson.again()

    def _press_hint(self) -> None:
        if self._stage.lesson is not None:
            self._stage.lesson.hint()

    def _press_steps(self) -> None:
        if self._stage.lesson is not None:
            self._stage.lesson.jump()
