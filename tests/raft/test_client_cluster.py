"""The client's handle and the cluster itself: what servers decline, and members that change."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from raft import Raft, changing
from raft.core.membership import AddLearner, AddVoter, Remove
from raft.core.messages import Index, ServerId
from raft.core.ready import Refusal
from raft.errors import (
    BusyError,
    ChangeInProgressError,
    ConfigurationMovedError,
    DeclinedError,
    GivenUpError,
    ImpossibleError,
    LaggingError,
    NoLeaderError,
    OutcomeUnknownError,
)
from raft.frames import (
    Address,
    ChangeMembers,
    ClientReply,
    ClientRequest,
    Consistency,
    Declined,
    FollowerProgress,
    ForgetLeader,
    Members,
    MembersQuery,
    NotLeader,
    Propose,
    Read,
    Reply,
    Result,
    SnapshotTaken,
    TakeSnapshot,
    TransferLeadership,
    Transferred,
)
from raft.transport import Connection
from tests.raft.scripted import (
    ONE,
    THREE,
    TWO,
    Script,
    Scripted,
    cluster,
    hangs_up,
    says,
    silent,
    status,
    until,
)


def members(index: int = 0, *, committed: bool = True, **where: str) -> Members:
    """Members 1 and 2, and whoever is somewhere: ``_3="127.0.0.1:1"``."""
    addresses = tuple(Address(ServerId(int(who[1:])), at) for who, at in where.items())
    voters = tuple(sorted({ONE, TWO, *(known.server for known in addresses)}))
    return Members(Index(index), committed, voters, (), (), addresses, (), Index(9), ONE)


# --- What servers decline --------------------------------------------------------------------


def declines(reason: Refusal, times: int, then: Reply) -> Script:
    """Decline so often, then answer."""
    left = [times]

    def script(request: ClientRequest, connection: Connection) -> Reply:
        left[0] -= 1
        return Declined(reason, "why") if left[0] >= 0 else then

    return script


@pytest.mark.parametrize("reason", [Refusal.BUSY, Refusal.TRANSFERRING])
async def test_what_passes_is_waited_for(reason: Refusal) -> None:
    """Back-pressure: the client slows down, and its command is carried out once."""
    one = Scripted(ONE, declines(reason, 3, Result(b"done")))
    async with cluster(one) as raft:
        assert await raft.propose(b"c") == b"done"
    assert one.bodies == [Propose(b"c")] * 4


async def test_what_does_not_pass_in_time_is_told_with_its_reason_and_advice() -> None:
    one = Scripted(ONE, says(Declined(Refusal.BUSY, "9 bytes wait to be committed")))
    async with cluster(one) as raft:
        with pytest.raises(BusyError, match=r"server 1: 9 bytes wait") as busy:
            await raft.propose(b"c", timeout=0.2)
        assert busy.value.__notes__ == ["send less at once, or try again later"]
        asked = len(one.requests)
        assert asked > 1
        with pytest.raises(BusyError):
            await raft.propose(b"c", timeout=5.0, server=ONE)
        assert len(one.requests) == asked + 1


async def test_a_refusal_that_has_passed_is_not_the_reason() -> None:
    one = Scripted(ONE, declines(Refusal.BUSY, 1, NotLeader(None)))
    async with cluster(one) as raft:
        with pytest.raises(NoLeaderError, match="server 1 does not lead"):
            await raft.propose(b"c", timeout=0.3)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (Refusal.IMPOSSIBLE, ImpossibleError),
        (Refusal.CONFIGURATION_MOVED, ConfigurationMovedError),
        (Refusal.GIVEN_UP, GivenUpError),
    ],
)
async def test_what_does_not_pass_is_told_at_once(
    reason: Refusal, kind: type[DeclinedError]
) -> None:
    one, two = Scripted(ONE, says(Declined(reason, "why"))), Scripted(TWO, says(members()))
    async with cluster(one, two) as raft:
        with pytest.raises(kind, match="server 1: why") as caught:
            await raft.change_membership([Remove(TWO)])
    assert caught.value.reason is reason
    assert two.requests == []


# --- Servers that come and go ----------------------------------------------------------------


async def test_a_leader_that_joined_later_is_found_by_the_hint() -> None:
    three = Scripted(THREE, says(Result(b"done")))
    address = await three.start()
    async with cluster(Scripted(ONE, says(NotLeader(THREE, address)))) as raft:
        assert await raft.propose(b"c") == b"done"
        assert raft.servers[THREE] == address
    three.stop()


@pytest.mark.parametrize("address", ["", "nowhere"])
async def test_a_hint_that_leads_nowhere(address: str) -> None:
    one, two = Scripted(ONE, says(NotLeader(THREE, address))), Scripted(TWO, says(Result(b"done")))
    async with cluster(one, two) as raft:
        assert await raft.propose(b"c") == b"done"
        assert THREE not in raft.servers


async def test_members_are_learned_when_a_reply_tells_of_a_newer_configuration() -> None:
    """All whom the client knew may leave, one by one, and it never asks in vain."""
    three = Scripted(THREE, says(Result(b"from three")))
    told = members(7, _3=await three.start())

    def tells(request: ClientRequest, connection: Connection) -> None:
        body = told if isinstance(request.body, MembersQuery) else Result(b"done")
        connection.send(ClientReply(request.id, body, configuration=Index(7)))

    one = Scripted(ONE, tells)
    async with cluster(one) as raft:
        assert await raft.propose(b"c") == b"done"
        await until(lambda: THREE in raft.servers)
        assert await raft.propose(b"d") == b"done"
        assert one.bodies.count(MembersQuery()) == 1, "what is known is not asked again"
        one.stop()
        assert await raft.read(b"q") == b"from three"
    three.stop()


async def test_an_address_that_is_known_is_not_replaced_by_the_clusters() -> None:
    async with cluster(Scripted(ONE, says(members(3, _1="127.0.0.1:9")))) as raft:
        before = raft.servers[ONE]
        await raft.members()
        assert raft.servers[ONE] == before


async def test_a_configuration_that_is_not_certain_is_asked_about_again() -> None:
    asked = 0

    def tells(request: ClientRequest, connection: Connection) -> None:
        nonlocal asked
        queried = isinstance(request.body, MembersQuery)
        asked += queried
        body: Reply = members(7, committed=asked > 1) if queried else Result(b"done")
        connection.send(ClientReply(request.id, body, configuration=Index(7)))

    async with cluster(Scripted(ONE, tells)) as raft:
        for _ in range(20):
            await raft.propose(b"c")
            await until(lambda: raft._asker._learning is None)
    assert asked == 2


# --- Changes ---------------------------------------------------------------------------------


async def test_a_change_whose_answer_is_lost_is_looked_for_before_it_is_asked_for_again() -> None:
    seen: list[type] = []

    def script(request: ClientRequest, connection: Connection) -> Reply | None:
        seen.append(type(request.body))
        if not isinstance(request.body, MembersQuery):
            connection.close("crashed")
            return None
        if ChangeMembers in seen:
            return dataclasses.replace(members(5), learners=(THREE,))
        return members(4)

    async with cluster(Scripted(ONE, script)) as raft:
        assert (await raft.add_learner(THREE, "127.0.0.1:1")).learners == (THREE,)
    assert seen == [MembersQuery, ChangeMembers, MembersQuery]


async def test_a_change_is_asked_for_again_when_the_members_were_others() -> None:
    expected: list[tuple[bool, Index]] = []

    def script(request: ClientRequest, connection: Connection) -> Reply:
        if isinstance(request.body, MembersQuery):
            return members(4 + len(expected), _3="127.0.0.1:1")
        assert isinstance(request.body, ChangeMembers)
        expected.append((request.body.compare, request.body.expected_index))
        moved = Declined(Refusal.CONFIGURATION_MOVED, "it moved")
        return moved if len(expected) == 1 else members(9)

    async with cluster(Scripted(ONE, script)) as raft:
        assert (await raft.remove(THREE)).voters == (ONE, TWO)
    assert expected == [(True, 4), (True, 5)]


async def test_a_change_that_never_commits_is_unknown() -> None:
    pending = dataclasses.replace(members(4, committed=False), learners=(THREE,))
    async with cluster(Scripted(ONE, says(pending))) as raft:
        with pytest.raises(OutcomeUnknownError):
            await raft.add_learner(THREE, "127.0.0.1:1", timeout=0.2)


async def test_a_change_that_nobody_tells_of_is_unknown() -> None:
    """No leader is found any more: that would mean that nothing was done."""

    def script(request: ClientRequest, connection: Connection) -> Reply | None:
        if isinstance(request.body, ChangeMembers):
            one.script = silent
            connection.close("crashed")
            return None
        return members(4)

    one = Scripted(ONE, script)
    async with cluster(one) as raft:
        with pytest.raises(OutcomeUnknownError, match="the change may have been made; then: no le"):
            await raft.add_learner(THREE, "127.0.0.1:1", timeout=0.3)


REFUSALS = (
    *(Refusal.CHANGE_IN_PROGRESS, Refusal.CONFIGURATION_MOVED, Refusal.NO_COMMIT_YET),
    *(Refusal.BUSY, Refusal.TRANSFERRING, Refusal.IMPOSSIBLE),
)


@pytest.mark.parametrize("reason", REFUSALS)
async def test_a_change_that_is_refused_when_it_is_asked_for_again_is_unknown(
    reason: Refusal,
) -> None:
    """What is in progress may be the very change that got no answer before."""
    asked = 0

    def script(request: ClientRequest, connection: Connection) -> Reply | None:
        nonlocal asked
        if isinstance(request.body, MembersQuery):
            return members(4)
        asked += 1
        if asked > 1:
            return Declined(reason, "why")
        connection.close("crashed")
        return None

    async with cluster(Scripted(ONE, script)) as raft:
        with pytest.raises(OutcomeUnknownError):
            await raft.remove(TWO, timeout=0.3)
    assert asked > 1


async def test_members_that_are_not_committed_are_not_what_a_change_is_made_to() -> None:
    """Another leader may put other members at the same index, and this change was not for those."""
    looks = 0

    def script(request: ClientRequest, connection: Connection) -> Reply | None:
        nonlocal looks
        if isinstance(request.body, MembersQuery):
            looks += 1
            return members(4, committed=looks > 2)
        assert isinstance(request.body, ChangeMembers)
        assert looks == 3
        return dataclasses.replace(members(5), voters=(ONE,))

    async with cluster(Scripted(ONE, script)) as raft:
        await raft.remove(TWO, timeout=20)
    with pytest.raises(ChangeInProgressError, match="the change at index 4 is not over yet"):
        async with cluster(Scripted(ONE, says(members(4, committed=False)))) as raft:
            await raft.remove(TWO, timeout=0.3)


@pytest.mark.parametrize(
    ("has", "looks", "then", "why"),
    [
        (9, 4, silent, ""),
        (9, 4, says(Declined(Refusal.IMPOSSIBLE, "no member")), ""),
        (2, 5, silent, "no leader"),
    ],
    ids=["not answered when it is promoted", "refused", "lagging, and then nobody tells"],
)
async def test_a_learner_that_gets_no_further_is_one_all_the_same(
    has: int, looks: int, then: Script, why: str
) -> None:
    progress = (FollowerProgress(THREE, Index(has + 1), Index(has)),)
    learner = dataclasses.replace(members(4), learners=(THREE,), progress=progress)

    def script(request: ClientRequest, connection: Connection) -> Reply:
        if len(one.requests) == looks:
            one.script = then
        return learner

    one = Scripted(ONE, script)
    async with cluster(one) as raft:
        with pytest.raises(LaggingError, match=f"server 3 was added as a learner; then: {why}"):
            await raft.add(THREE, "127.0.0.1:1", timeout=0.5)


async def test_nothing_was_done_for_a_voter_of_which_nobody_tells() -> None:
    def script(request: ClientRequest, connection: Connection) -> Reply:
        one.script = silent
        return members(4)

    one = Scripted(ONE, script)
    async with cluster(one) as raft:
        with pytest.raises(NoLeaderError):
            await raft.add(TWO, "127.0.0.1:1", timeout=0.3)


async def test_a_learner_that_does_not_catch_up_stays_one() -> None:
    progress = (FollowerProgress(THREE, Index(3), Index(2)),)
    lagging = dataclasses.replace(members(4), learners=(THREE,), progress=progress)
    async with cluster(Scripted(ONE, says(lagging))) as raft:
        with pytest.raises(LaggingError, match=r"up to 2 of 9 after 0.3 s; it stays a learner"):
            await raft.add(THREE, "127.0.0.1:1", timeout=0.3)


async def test_a_learner_that_has_all_at_the_first_look_keeps_up_on_the_slowest_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(changing, "ROUND_SECONDS", 0.0)  # every answer takes longer
    progress = (FollowerProgress(THREE, Index(10), Index(9)),)
    learner = dataclasses.replace(members(4), learners=(THREE,), progress=progress)

    def script(request: ClientRequest, connection: Connection) -> Reply:
        if isinstance(request.body, ChangeMembers):
            return members(5, _3="127.0.0.1:1")
        return learner

    async with cluster(Scripted(ONE, script)) as raft:
        assert THREE in (await raft.add(THREE, "127.0.0.1:1", timeout=10.0)).voters


async def test_a_new_voter_is_a_learner_until_it_has_the_log() -> None:
    asked: list[object] = []

    def script(request: ClientRequest, connection: Connection) -> Reply:
        asked.append(request.body)
        changes = sum(isinstance(body, ChangeMembers) for body in asked)
        has = Index(min(9, len(asked)))
        progress = (FollowerProgress(THREE, Index(has + 1), has),)
        if changes == 1:
            return dataclasses.replace(members(1), learners=(THREE,), progress=progress)
        return members(2, _3="127.0.0.1:1") if changes == 2 else members()

    async with cluster(Scripted(ONE, script)) as raft:
        assert THREE in (await raft.add(THREE, "127.0.0.1:1")).voters
    added, promoted = (body for body in asked if isinstance(body, ChangeMembers))
    assert added.changes == (AddLearner(THREE, "127.0.0.1:1"),)
    assert promoted.changes == (AddVoter(THREE),)
    assert asked.index(promoted) > 9, "it waits until the log is there"


# --- The rest of the handle ------------------------------------------------------------------


async def test_requests_go_where_they_are_sent() -> None:
    def script(request: ClientRequest, connection: Connection) -> Reply:
        match request.body:
            case TakeSnapshot():
                return SnapshotTaken(Index(7))
            case ForgetLeader():
                return status(TWO)
            case TransferLeadership(to):
                return Transferred(to or TWO)
        return members()

    one, two = Scripted(ONE, says(NotLeader(TWO))), Scripted(TWO, script)
    async with cluster(one, two) as raft:
        assert await raft.snapshot(TWO) == 7
        assert one.requests == []
        assert await raft.snapshot() == 7, "without a name the leader is meant"
        assert await raft.forget_leader(TWO) == status(TWO)
        assert await raft.transfer_leadership() == TWO
        assert await raft.transfer_leadership(THREE) == THREE
    assert one.bodies == [MembersQuery()]


async def test_the_leader_is_found_and_asked_within_one_limit() -> None:
    def script(request: ClientRequest, connection: Connection) -> Reply | None:
        match request.body:
            case MembersQuery():
                return members()
            case TakeSnapshot():
                return SnapshotTaken(Index(5))
        return status(ONE)

    async with cluster(Scripted(ONE, script)) as raft:
        assert await raft.status(timeout=asyncio.timeout(5)) == status(ONE)
        assert await raft.snapshot(timeout=asyncio.timeout(5)) == 5


async def test_a_caller_may_end_the_wait_for_the_leader_that_was_found() -> None:
    def script(request: ClientRequest, connection: Connection) -> Reply | None:
        return members() if isinstance(request.body, MembersQuery) else None

    one = Scripted(ONE, script)
    outcomes = ((Raft.status, NoLeaderError), (Raft.snapshot, OutcomeUnknownError))
    async with cluster(one) as raft:
        for ask, outcome in outcomes:
            one.requests.clear()
            limit = asyncio.timeout(None)
            asking = asyncio.create_task(ask(raft, None, limit))
            await until(lambda: len(one.requests) == 2)
            limit.reschedule(asyncio.get_running_loop().time())
            with pytest.raises(outcome, match=r"server 1.*no answer in time"):
                await asking


async def test_a_transfer_without_an_answer_is_unknown() -> None:
    async with cluster(Scripted(ONE, hangs_up)) as raft:
        with pytest.raises(OutcomeUnknownError, match="server 1 took the request"):
            await raft.transfer_leadership()


async def test_what_a_read_asks_for_is_what_is_sent() -> None:
    one = Scripted(ONE, says(Result(b"v")))
    async with cluster(one) as raft:
        await raft.read(b"q", consistency=Consistency.LEASE)
        await raft.read(b"q", consistency=Consistency.STALE, server=ONE)
    assert one.bodies == [Read(b"q", Consistency.LEASE), Read(b"q", Consistency.STALE)]
