"""The one stream tells a cause before its effect, though the two come by different connections."""

from raft.core.events import EntriesAppended, Role, RoleChanged, VoteCast
from raft.core.messages import AppendEntries, Granted, RequestVote, RequestVoteReply
from raftviz.model.events import MessageSent


def without_cause(events):
    """Return the messages that were told before what made their senders send them."""
    causes = set()
    found = []
    for event in events:
        match event.what:
            case RoleChanged(role, term):
                causes.add((event.source, role, term))
            case VoteCast(term, candidate, Granted()):
                causes.add((event.source, "vote", candidate, term))
            case EntriesAppended(first, entries):
                causes |= {(event.source, i, entry.term) for i, entry in enumerate(entries, first)}
            case MessageSent(message=message) if not causes.issuperset(_causes_of(message)):
                found.append(message)
    return found


def _causes_of(message):
    match message:
        case RequestVote(src=src, term=term):
            yield src, Role.CANDIDATE, term
        case AppendEntries(src=src, term=term, prev_log_index=before, entries=entries):
            yield src, Role.LEADER, term
            yield from ((src, i, entry.term) for i, entry in enumerate(entries, before + 1))
        case RequestVoteReply(src=src, dst=dst, term=term, outcome=Granted()):
            yield src, "vote", dst, term


def back_in_time(events):
    """Return the events that are earlier than one before them from the same source."""
    last = {}
    found = []
    for event in events:
        now = (event.monotonic_time, event.virtual_time)
        if now < last.get(event.source, (0.0, 0.0)):
            found.append(event)
        last[event.source] = now
    return found


async def test_in_running_time_no_message_is_told_before_its_cause(start_lab):
    lab = await start_lab(seed=21, servers=3, rate=0)  # so that nothing is told in retrospect
    await lab.do("rate 1")
    for number in range(3):
        leader = await lab.leader()
        for key in range(5):
            await lab.ask(f"put k{key} {number}")
        await lab.ask(f"timeout {leader % 3 + 1}")  # refused if it leads by now
    await lab.leader()
    assert len(lab.told(MessageSent)) > 50
    assert without_cause(lab.events) == []
    assert back_in_time(lab.events) == []


async def test_step_by_step_no_message_is_told_before_its_cause(start_lab):
    lab = await start_lab(seed=22, servers=3, rate=0)
    await lab.do("timeout 1")
    await lab.do("step 10")
    await lab.do("put x 1")
    for _ in range(20):
        await lab.do("step")
    assert any(isinstance(m.message, AppendEntries) for m in lab.told(MessageSent))
    assert without_cause(lab.events) == []
    assert back_in_time(lab.events) == []
