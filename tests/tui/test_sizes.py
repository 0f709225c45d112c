"""Any terminal shows something useful, or says what it needs; none makes the screen fail."""

from __future__ import annotations

import pytest
from textual.geometry import Region

from raft.core.events import VoteCast, VoteReceived
from raft.core.messages import AlreadyVoted, ServerId, Term
from raftviz.lesson import load
from raftviz.tui.arrangement import BESIDE, MIN_HEIGHT, MIN_WIDTH, TABS, arrange
from tests.raftviz.fake_lab import cluster
from tests.tui.harness import NARROW, WIDE, explorer, lab_of, show, text_of
from tests.tui.scenes import frozen, replication, split_vote

SIZES = [
    (1, 1),
    (10, 3),
    (20, 6),
    (39, 12),
    (40, 11),
    (40, 12),
    (60, 20),
    (80, 24),
    (100, 30),
    (100, 60),
    (119, 50),
    (120, 34),
    (160, 30),
    (160, 48),
    (300, 100),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lesson", [False, True])
@pytest.mark.parametrize("servers", [1, 5, 9])
@pytest.mark.parametrize("tab", TABS)
def test_panels_fill_the_screen_and_never_overlap(
    size: tuple[int, int], lesson: bool, servers: int, tab: str
) -> None:
    found = arrange(*size, tab, lesson, servers)
    if size[0] < MIN_WIDTH or size[1] < MIN_HEIGHT:
        assert found is None
        return
    assert found is not None
    regions = list(found.regions.values())
    assert sum(region.area for region in regions) == size[0] * size[1]
    screen = Region(0, 0, *size)
    for place, region in enumerate(regions):
        assert region.area > 0
        assert screen.contains_region(region)
        assert not any(region.overlaps(other) for other in regions[place + 1 :])
    assert "cluster" in found.regions
    if lesson:
        beside = size[0] >= BESIDE
        assert ("lesson" in found.regions) == (beside or tab == "lesson")


@pytest.mark.parametrize("size", SIZES)
async def test_no_size_makes_the_screen_fail(size: tuple[int, int]) -> None:
    async with explorer(lab_of(replication()), size) as pilot:
        await pilot.press("tab", "colon", "k", "escape", "question_mark", "escape")
        await show(pilot)


async def test_it_follows_a_terminal_that_changes() -> None:
    async with explorer(lab_of(split_vote()), WIDE) as pilot:
        for size in (NARROW, (20, 6), (40, 12), WIDE):
            await pilot.resize_terminal(*size)
            await show(pilot)
            shown = text_of(pilot)
            assert ("raftviz needs" in shown) == (size == (20, 6))
            assert ("CANDIDATE" in shown) == (size in (NARROW, WIDE))


@pytest.mark.parametrize("servers", range(1, 10))
@pytest.mark.parametrize("size", [(40, 12), NARROW, WIDE])
async def test_one_to_nine_servers(servers: int, size: tuple[int, int]) -> None:
    lab = lab_of((0.0, told) for told in cluster(servers, leader=1, term=2))
    async with explorer(lab, size) as pilot:
        shown = text_of(pilot)
        for server in range(1, servers + 1):
            assert f"S{server}" in shown
        assert f"{servers}/{servers} alive" in shown or size == (40, 12)


async def test_a_small_screen_says_what_matters() -> None:
    async with explorer(lab_of(frozen()), NARROW) as pilot:
        shown = text_of(pilot)
    for expected in ("5/5 alive", "term 3", "★ leader S5", "safety ✓✓✓✓✓", "❄ FROZEN", "CANDIDATE"):
        assert expected in shown


@pytest.mark.parametrize("size", [(40, 12), NARROW, WIDE])
async def test_a_lesson_stays_beside_the_cluster(size: tuple[int, int]) -> None:
    async with explorer(lab_of(replication()), size, load("elections")) as pilot:
        shown = text_of(pilot)
        assert "step 1 of" in shown
        for server in range(1, 6):
            assert f"S{server}" in shown


async def test_a_narrow_column_shortens_its_lines_and_cuts_none() -> None:
    lab = lab_of(split_vote())
    refusal = VoteCast(Term(4), ServerId(3), AlreadyVoted(ServerId(1)))
    lab.feed((1, refusal), (1, VoteReceived(Term(4), ServerId(2), AlreadyVoted(ServerId(2)))))
    async with explorer(lab, (120, 40)) as pilot:
        shown = text_of(pilot)
    for whole in (
        "170 ms of 200 ms",
        "S3 − had voted for itself",
        "did not vote for S3: voted S1",
        "◆commit ◇applied ▲match ▷next",
    ):
        assert whole in shown


@pytest.mark.parametrize("size", [(120, 40), WIDE])
async def test_the_logs_beside_a_lesson_show_every_server(size: tuple[int, int]) -> None:
    async with explorer(lab_of(replication()), size, load("elections")) as pilot:
        logs = text_of(pilot).split("─ logs ─")[1]
    for server in range(1, 6):
        assert f"S{server} " in logs
    assert logs.count("◆") == 6, "five commit marks, and the one that says what they mean"


async def test_every_sign_means_one_thing() -> None:
    async with explorer(lab_of(split_vote())) as pilot:
        assert "++−·· 2/3" in text_of(pilot)
    async with explorer(lab_of(replication())) as pilot:
        logs = text_of(pilot).split("─ logs ─")[1].split("selected server")[0]
        cells = [line.split("│")[-2] for line in logs.splitlines() if line.count("│") > 2]
        assert "▲match" in "".join(cells)
        assert "●" not in "".join(cells), "that is a heartbeat"
