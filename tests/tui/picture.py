"""Makes the picture of the README from the real program: five real servers on a real screen.

Run it with `python -m tests.tui.picture [FILE]` (`tests/tui/screen.svg` unless told otherwise).
"""

from __future__ import annotations

import asyncio
import html
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from raft.core.messages import AppendEntries
from raftviz.lab.api import LabClient, LabOptions
from raftviz.tui.explorer import Explorer
from raftviz.tui.pace import Pace
from raftviz.tui.traffic import progress

FILE = Path(__file__).with_name("screen.svg")
SIZE = (150, 44)
CELL = 12.2
"""A cell's width in the picture's units."""
FONTS = '"Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace'
PIECE = re.compile(r"[!-~]+|[^!-~\s\xa0]")
WITHIN = 30.0


def portable(svg: str) -> str:
    """Return a picture that looks the same everywhere: no font from elsewhere, no drifting text.

    A viewer takes glyphs that its font lacks from another one, with another width; so whatever
    is not plain gets its own place.
    """
    svg = re.sub(r"@font-face\s*{[^}]*}", "", svg)
    svg = svg.replace("Fira Code, monospace", FONTS)
    return re.sub(r'<text([^>]*?) x="([0-9.]+)"([^>]*)>([^<]*)</text>', _placed, svg)


def _placed(found: re.Match[str]) -> str:
    before, x, after, escaped = found.groups()
    if "textLength" not in after:
        return found[0]
    after = re.sub(r' textLength="[^"]*"', "", after)
    return "".join(
        f'<text{before} x="{float(x) + CELL * piece.start():.1f}"{after} '
        f'textLength="{CELL * len(piece[0]):.1f}">{html.escape(piece[0])}</text>'
        for piece in PIECE.finditer(html.unescape(escaped))
    )


def under_way(app: Explorer) -> bool:
    """Tell whether the new leader's first entry has just begun its way."""
    messages = ((flight, flight.message) for flight in app.seen.view.flights.values())
    return any(
        isinstance(message, AppendEntries)
        and message.entries
        and 0.2 < progress(flight, app.seen.virtual) < 0.3
        for flight, message in messages
    )


async def take() -> str:
    """Let five servers replicate, then let two of them ask for votes at once, in slow motion."""
    lab = asyncio.create_task(LabClient.spawn(LabOptions(seed=4)))
    app = Explorer(lab, pace=Pace())
    async with app.run_test(size=SIZE) as pilot:
        view = app.seen.view

        async def until(holds: Callable[[], object]) -> None:
            end = time.monotonic() + WITHIN
            while not holds():
                assert time.monotonic() < end, "the cluster did not come so far"
                await pilot.pause(0.02)

        await until(lambda: view.leader is not None and view.commit_index >= 1)
        for text in ("put x 1", "put y 2", "put colour blue"):
            await app.hands.perform(text)
        await until(lambda: all(server.commit_index >= 4 for server in view.servers.values()))
        await pilot.pause(1.0)  # until the last entry's arrival is seen no more
        others = [server for server in view.servers if server != view.leader]
        for text in ("rate 1/100", "kill leader", f"timeout {others[0]}", f"timeout {others[2]}"):
            answer = await app.hands.perform(text)
            assert answer.ok, f"{text}: {answer.text}"
        await until(lambda: view.leader is not None and under_way(app))
        app.frame()
        await pilot.pause()
        picture = app.export_screenshot(title="raftviz")
    await (await lab).close()
    return portable(picture)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text(asyncio.run(take()) + "\n", encoding="utf-8")
    print(f"wrote {file}")


if __name__ == "__main__":
    main()
