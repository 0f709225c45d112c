"""Which panel stands where at which size: one pure function.

Wide terminals show everything. Smaller ones keep the cluster and give the rest of the room to
one panel at a time, which the user switches; a lesson always stays beside the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.geometry import Region

TABS = ("lesson", "logs", "feed", "server")
"""The panels that take turns where there is no room for all."""
MIN_WIDTH, MIN_HEIGHT = 40, 12
WIDE, HIGH = 120, 34
BESIDE = 72
"""From this width on a lesson stands beside the cluster; below it takes turns with the rest."""
SERVER_ROWS, FEED_ROWS, TALL = 8, 7, 30


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where each visible panel stands; with ``framed`` they have a border all around."""

    regions: dict[str, Region]
    framed: bool


def turns(width: int, lesson: bool) -> tuple[str, ...]:
    """Return the panels that take turns on a narrow terminal, the first one first."""
    return TABS if lesson and width < BESIDE else TABS[1:]


def arrange(width: int, height: int, tab: str, lesson: bool, servers: int) -> Arrangement | None:
    """Arrange the panels on a terminal of this size; None when it is too small for any.

    ``tab`` is whose turn it is. ``servers`` is how many rows the logs need.
    """
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return None
    wide = width >= WIDE and height >= HIGH
    head = 2 if wide else 1
    foot = 2
    regions = {
        "header": Region(0, 0, width, head),
        "status": Region(0, height - foot, width, 1),
        "keys": Region(0, height - 1, width, 1),
    }
    body = Region(0, head, width, height - head - foot)
    if wide:
        regions |= _wide(body, lesson, servers)
    else:
        regions |= _narrow(body, tab, lesson, servers)
    return Arrangement(regions, framed=wide)


def _wide(body: Region, lesson: bool, servers: int) -> dict[str, Region]:
    left, right = body.split_vertical(round(body.width * 0.54))
    logs_height = min(2 * servers + 4, right.height // 2)
    if lesson:
        cluster, feed = left.split_horizontal(left.height - max(9, left.height // 5))
        text, logs = right.split_horizontal(right.height - logs_height)
        return {"cluster": cluster, "feed": feed, "lesson": text, "logs": logs}
    logs, rest = right.split_horizontal(logs_height)
    rows = min(SERVER_ROWS + servers, rest.height - FEED_ROWS)
    server, feed = rest.split_horizontal(rows)
    return {"cluster": left, "logs": logs, "server": server, "feed": feed}


def _narrow(body: Region, tab: str, lesson: bool, servers: int) -> dict[str, Region]:
    regions = {}
    order = turns(body.width, lesson)
    if lesson and "lesson" not in order:
        body, regions["lesson"] = body.split_vertical(body.width - max(36, body.width * 2 // 5))
    rows = min(servers + 2, body.height // 2 - 1)
    if body.height >= TALL:
        rows = max(rows, body.height * 2 // 5)
    shown = tab if tab in order else order[0]
    if shown == "lesson":
        rows = max(rows, body.height // 2)
    regions["cluster"], regions[shown] = body.split_horizontal(body.height - rows)
    return regions
