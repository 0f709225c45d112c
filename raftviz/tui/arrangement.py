"""Which panel stands where at which size: one pure function.

Wide terminals show everything. Smaller ones keep the cluster and give the rest of the room to
one panel at a time, which the user switches; a lesson always stays beside the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.geometry import Region

TABS = ("logs", "feed", "server")
"""The panels that take turns where there is no room for all."""
MIN_WIDTH, MIN_HEIGHT = 40, 12
WIDE, HIGH = 120, 34
SERVER_ROWS = 13


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Where each visible panel stands; ``framed`` ones have a border all around."""

    regions: dict[str, Region]
    framed: bool
    tabbed: bool


def arrange(width: int, height: int, tab: str, lesson: bool, servers: int) -> Arrangement | None:
    """Arrange the panels on a terminal of this size; None when it is too small for any."""
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
    return Arrangement(regions, framed=wide, tabbed=not wide)


def _wide(body: Region, lesson: bool, servers: int) -> dict[str, Region]:
    left, right = body.split_vertical(round(body.width * 0.54))
    logs_height = min(2 * servers + 4, right.height // 2)
    if lesson:
        cluster, feed = left.split_horizontal(left.height - max(9, left.height // 5))
        text, logs = right.split_horizontal(right.height - logs_height)
        return {"cluster": cluster, "feed": feed, "lesson": text, "logs": logs}
    logs, rest = right.split_horizontal(logs_height)
    server, feed = rest.split_horizontal(min(SERVER_ROWS, rest.height // 2))
    return {"cluster": left, "logs": logs, "server": server, "feed": feed}


def _narrow(body: Region, tab: str, lesson: bool, servers: int) -> dict[str, Region]:
    regions = {}
    if lesson:
        body, text = body.split_vertical(body.width - max(36, body.width * 2 // 5))
        regions["lesson"] = text
    panel = min(servers + 2, body.height // 2 - 1) if body.height >= 12 else 0
    if body.height >= 30:
        panel = max(panel, body.height * 2 // 5)
    cluster, below = body.split_horizontal(body.height - panel)
    regions["cluster"] = cluster
    if panel:
        regions[tab] = below
    return regions
