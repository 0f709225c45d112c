"""Clients of the lab's own: what they do, how it is measured, and that it ends."""

from __future__ import annotations

import pytest
import pytest_asyncio

from raftviz.lab.load import percentile
from raftviz.model.events import (
    LoadChanged,
    LoadMeasured,
    OperationInvoked,
    OperationKind,
    OperationReturned,
    Outcome,
)

shared = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def lab(orderly):
    """A laboratory in order, in which no clients work before or after the test."""
    yield orderly
    await orderly.ask("thaw")
    await orderly.ask("load off")
    orderly.events.clear()


def test_percentiles_are_values_that_were_measured():
    assert percentile([], 99) == 0
    assert percentile([3.0], 50) == percentile([3.0], 99) == 3.0
    hundred = [float(n) for n in range(1, 101)]
    assert [percentile(hundred, share) for share in (50, 90, 99)] == [50, 90, 99]


@shared
async def test_a_load_at_a_rate_is_measured_and_every_operation_is_told(lab):
    await lab.do("load 100/s put 70% get 30% keys 3")
    assert lab.view.load == "load 100/s put 70% get 30% keys 3"
    await lab.until(lambda view: view.measured is not None and view.measured.ok > 20)
    measured = lab.view.measured
    assert 0 < measured.p50 <= measured.p90 <= measured.p99
    assert measured.seconds > 0
    assert await lab.do("load off") == "the clients stop"
    assert (lab.view.load, lab.view.measured) == ("", None)
    assert await lab.refused("load off") == "no clients are at work"
    invoked = lab.told(OperationInvoked)
    assert {what.kind for what in invoked} == {OperationKind.PUT, OperationKind.GET}
    assert {what.key for what in invoked} == {b"k1", b"k2", b"k3"}
    values = [what.value for what in invoked if what.kind is OperationKind.PUT]
    assert len(set(values)) == len(values)
    await lab.until(lambda view: len(lab.told(OperationReturned)) == len(invoked))
    outcomes = [what.outcome for what in lab.told(OperationReturned)]
    assert outcomes.count(Outcome.OK) >= measured.ok


@shared
async def test_clients_in_turn_have_one_operation_each_under_way(lab):
    await lab.do("load 4 clients sessions 2")
    await lab.until(lambda view: view.measured is not None and view.measured.ok > 20)
    assert lab.view.measured.waiting <= 4
    under_way = most = 0
    for event in lab.events:
        if isinstance(event.what, OperationInvoked):
            under_way += 1
        elif isinstance(event.what, OperationReturned):
            under_way -= 1
        most = max(most, under_way)
    assert most == 4


@shared
async def test_a_new_load_takes_the_place_of_the_old_one(lab):
    await lab.do("load 50/s")
    await lab.do("load 2 clients")
    first, over, second = [what.text for what in lab.told(LoadChanged)]
    assert first == "load 50/s put 50% get 50% keys 10"
    assert over == ""
    assert second == lab.view.load == "load 2 clients put 50% get 50% keys 10"


@shared
async def test_nothing_begins_and_nothing_is_measured_while_time_stands_still(lab):
    await lab.do("load 200/s")
    await lab.until(lambda view: view.measured is not None)
    await lab.do("freeze")
    before = len(lab.told(OperationInvoked)), len(lab.told(LoadMeasured))
    for _ in range(5):
        await lab.do("rate 0")
    assert (len(lab.told(OperationInvoked)), len(lab.told(LoadMeasured))) == before
    await lab.do("thaw")
    await lab.until(lambda view: len(lab.told(LoadMeasured)) > before[1])
