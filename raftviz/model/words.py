"""Every event in plain words, and which of them tell the story.

``describe`` and ``noteworthy`` take the view *just before* the event is applied to it: who
stepped down, which message was lost and whose timer ran out is known there and gone after.
Everything foreign (keys, values, words from elsewhere) goes through ``raft.printable``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from raft.core import events as core
from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntries,
    AppendEntriesReply,
    AppendOutcome,
    Entry,
    Granted,
    InstallSnapshot,
    InstallSnapshotReply,
    LeaderAlive,
    LogBehind,
    Message,
    Mismatch,
    ReadIndex,
    ReadIndexReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    ServerId,
    StaleTerm,
    TimeoutNow,
    VoteOutcome,
)
from raft.frames import Consistency, ObservationsLost, ServerState
from raft.printable import printable
from raftviz.model import events as ev
from raftviz.model import fault_words, faults
from raftviz.model.link_words import describe_link, end_text
from raftviz.model.machine import command_text as command_text
from raftviz.model.machine import members_text
from raftviz.model.view import ClusterView, OperationView, ServerView

SHORT = 24
"""Characters of a key, a value or a command in a line about something else."""
LONG = 200
ENTRIES_NAMED = 3

_NOBODY = ServerView(ServerId(0))


class MessageKind(enum.Enum):
    """What a message is to a person who watches."""

    REQUEST_VOTE = "asks for a vote"
    VOTE_GRANTED = "grants a vote"
    VOTE_REFUSED = "refuses a vote"
    HEARTBEAT = "heartbeat"
    APPEND = "entries"
    APPEND_OK = "has the entries"
    APPEND_REFUSED = "refuses the entries"
    REQUEST_PRE_VOTE = "asks whether it would get a vote"
    PRE_VOTE_GRANTED = "would grant a vote"
    PRE_VOTE_REFUSED = "would refuse a vote"
    TIMEOUT_NOW = "hands leadership over"
    SNAPSHOT = "a piece of a snapshot"
    SNAPSHOT_OK = "has a piece of a snapshot"
    READ_INDEX = "asks how far a read must see"
    READ_INDEX_OK = "says how far a read must see"


_ROUTINE = (MessageKind.HEARTBEAT, MessageKind.APPEND_OK)
_TOLD = (MessageKind.APPEND, MessageKind.APPEND_REFUSED, MessageKind.TIMEOUT_NOW)


def kind_of(message: Message) -> MessageKind:
    """Return what a message is to a person who watches."""
    match message:
        case RequestVote():
            return MessageKind.REQUEST_VOTE
        case RequestVoteReply(outcome=Granted()):
            return MessageKind.VOTE_GRANTED
        case RequestVoteReply():
            return MessageKind.VOTE_REFUSED
        case AppendEntries(entries=()):
            return MessageKind.HEARTBEAT
        case AppendEntries():
            return MessageKind.APPEND
        case AppendEntriesReply(outcome=Appended()):
            return MessageKind.APPEND_OK
        case AppendEntriesReply():
            return MessageKind.APPEND_REFUSED
        case RequestPreVote():
            return MessageKind.REQUEST_PRE_VOTE
        case RequestPreVoteReply(outcome=Granted()):
            return MessageKind.PRE_VOTE_GRANTED
        case RequestPreVoteReply():
            return MessageKind.PRE_VOTE_REFUSED
        case TimeoutNow():
            return MessageKind.TIMEOUT_NOW
        case InstallSnapshot():
            return MessageKind.SNAPSHOT
        case InstallSnapshotReply():
            return MessageKind.SNAPSHOT_OK
        case ReadIndex():
            return MessageKind.READ_INDEX
        case ReadIndexReply():
            return MessageKind.READ_INDEX_OK


def noteworthy(event: ev.Event, view: ClusterView | None = None) -> bool:
    """Tell the story (elections, entries, commits, faults, refusals) from the routine.

    Whether the loss of a message, or its doubling, is part of it can only be told with the view.
    """
    match event.what:
        case ev.MessageSent(message=message):
            return kind_of(message) in _TOLD
        case ev.MessageDropped(message_id) | ev.MessageDuplicated(message_id):
            flight = view.flight(message_id) if view else None
            return flight is not None and kind_of(flight.message) not in _ROUTINE
    return isinstance(event.what, _STORY)


_STORY = (
    core.RoleChanged
    | core.VoteCast
    | core.EntriesAppended
    | core.EntriesTruncated
    | core.CommitAdvanced
    | core.PreVoteCast
    | core.ConfigurationChanged
    | core.LogCompacted
    | core.SnapshotInstalled
    | core.TransferChanged
    | ev.LabStarted
    | ev.CommandGiven
    | ev.Warned
    | ev.ServerSpawned
    | ev.ServerExited
    | ev.ServerPaused
    | ev.ServerResumed
    | ev.OperationReturned
    | faults.OfServer
    | ev.ServerAdded
    | ev.ServerRemoved
    | ev.LoadChanged
    | ev.ChaosChanged
    | ObservationsLost
)


def clock_text(seconds: float) -> str:
    """Return a moment of the cluster's time as ``00:12.340`` (minutes, seconds)."""
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 60_000:02d}:{milliseconds % 60_000 / 1000:06.3f}"


def duration_text(seconds: float) -> str:
    """Return a length of time as ``214 ms`` or ``1.50 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def describe(event: ev.Event, view: ClusterView | None = None) -> str:
    """Say in one line what happened; ``view`` is the cluster just before it."""
    view = view or ClusterView()
    what = event.what
    match what:
        case ev.MessageSent() | ev.MessageDelivered() | ev.MessageDropped():
            return _of_message(what, view)
        case ev.MessageDuplicated() | ev.MessageHeld() | ev.MessageRescheduled():
            return _of_handled(what, view)
        case ev.RequestSent(src=src, dst=dst, kind=kind):
            return f"{end_text(src)} → {end_text(dst)}  {printable(kind, SHORT)}"
        case ev.LinkChanged():
            return describe_link(what, view)
        case ev.OperationInvoked() | ev.OperationReturned():
            return _of_client(what, view)
        case ev.ServerSpawned() | ev.ServerExited() | ev.ServerPaused() | ev.ServerResumed():
            return _of_process(what)
        case ev.LabStarted() | ev.ClockChanged() | ev.CommandGiven() | ev.Warned():
            return _of_lab(what, view)
        case _ if isinstance(what, faults.OfServer):
            return fault_words.of_server(what)
        case _ if isinstance(what, faults.OfLab):
            return fault_words.of_lab(what)
    return _of_server(what, event.source, view)


# --- The lab, its processes and its network ----------------------------------------------------


def _of_lab(
    what: ev.LabStarted | ev.ClockChanged | ev.CommandGiven | ev.Warned, view: ClusterView
) -> str:
    match what:
        case ev.LabStarted(servers=servers, seed=seed):
            size = "1 server" if len(servers) == 1 else f"{len(servers)} servers"
            return f"a laboratory of {size} starts (seed {seed})"
        case ev.ClockChanged(virtual, _, 0) if view.clock.rate == 0:
            return f"frozen time steps to {clock_text(virtual)}"
        case ev.ClockChanged(rate=0):
            return "time stands still"
        case ev.ClockChanged(rate=rate):
            return "time runs in real time" if rate == 1 else f"time runs at {rate:g} of real time"
        case ev.CommandGiven(text, ok, answer):
            said = printable(answer.replace("\n", "; "), LONG)
            result = said if ok else f"refused: {said}"
            return f"» {printable(text, LONG)}: {result}"
        case ev.Warned(text):
            return f"warning: {printable(text, LONG)}"


def _of_process(
    what: ev.ServerSpawned | ev.ServerExited | ev.ServerPaused | ev.ServerResumed,
) -> str:
    me = f"S{what.server}"
    match what:
        case ev.ServerSpawned(pid=pid, address=address):
            return f"{me} starts as process {pid} at {printable(address, LONG)}"
        case ev.ServerExited(how=how, expected=True):
            return f"{me} is dead: {printable(how, LONG)}"
        case ev.ServerExited(how=how):
            return f"{me} died by itself: {printable(how, LONG)}"
        case ev.ServerPaused():
            return f"{me} is paused (SIGSTOP): its process stops where it is"
        case ev.ServerResumed():
            return f"{me} goes on (SIGCONT): to itself, no time has passed"


def _of_message(
    what: ev.MessageSent | ev.MessageDelivered | ev.MessageDropped, view: ClusterView
) -> str:
    match what:
        case ev.MessageSent(message=message):
            return message_line(message)
        case ev.MessageDelivered(message_id):
            return f"arrived: {_message_line_of(message_id, view)}"
        case ev.MessageDropped(message_id, reason):
            return f"lost, {_LOST[reason]}: {_message_line_of(message_id, view)}"


def _of_handled(
    what: ev.MessageDuplicated | ev.MessageHeld | ev.MessageRescheduled, view: ClusterView
) -> str:
    line = _message_line_of(what.message_id, view)
    match what:
        case ev.MessageDuplicated(copy_id=copy):
            return f"sent once more, as #{copy}: {line}"
        case ev.MessageHeld():
            return f"held: {line}"
        case ev.MessageRescheduled(due=due):
            return f"due at {clock_text(due)}: {line}"


_LOST = {
    ev.DropReason.LINK_CUT: "the link is cut",
    ev.DropReason.SERVER_DOWN: "nobody was there to take it",
    ev.DropReason.BY_HAND: "dropped by hand",
    ev.DropReason.LOSS: "by the share of messages that its link loses",
    ev.DropReason.LINK_RESET: "its connection was broken",
}


def _message_line_of(message_id: int, view: ClusterView) -> str:
    if (request := view.requests.get(message_id)) is not None:
        ends = f"{end_text(request.src)} → {end_text(request.dst)}"
        return f"{ends}  {printable(request.kind, SHORT)}"
    flight = view.flight(message_id)
    return message_line(flight.message) if flight else f"message {message_id}"


def message_line(message: Message) -> str:
    """Return ``S2 → S3  AppendEntries  term 3, after 4/3, +1 entry`` and the like.

    ``4/3`` is the entry at index 4, of term 3.
    """
    kind = type(message).__name__
    return f"S{message.src} → S{message.dst}  {kind}  term {message.term}, {_content(message)}"


def _content(message: Message) -> str:
    match message:
        case RequestVote(last_log_index=0):
            return "its log is empty"
        case RequestVote(last_log_index=index, last_log_term=term):
            return f"its log ends at {index}/{term}"
        case RequestVoteReply(outcome=Granted()):
            return "granted"
        case RequestVoteReply(outcome=outcome, src=voter):
            return f"refused: {_vote_refusal(outcome, voter)}"
        case AppendEntries(entries=entries):
            after = f"after {message.prev_log_index}/{message.prev_log_term}"
            place = after if message.prev_log_index else "from the start"
            count = len(entries)
            content = f"+{count} {'entry' if count == 1 else 'entries'}" if count else "heartbeat"
            return f"{place}, {content}"
        case AppendEntriesReply(outcome=outcome):
            return _append_answer(outcome)
        case InstallSnapshot(last_index=index, offset=offset, data=data, size=size):
            bytes_ = f"bytes {offset} to {offset + len(data)} of {size}"
            piece = "where to go on?" if message.asks else bytes_
            return f"all up to {index}/{message.last_term}, {piece}"
        case InstallSnapshotReply(last_index=index, installed=True):
            return f"has all up to {index}"
        case InstallSnapshotReply(last_index=index, next_offset=offset):
            return f"wants the snapshot up to {index} from byte {offset} on"
    return _election_content(message)


def _election_content(
    message: RequestPreVote | RequestPreVoteReply | TimeoutNow | ReadIndex | ReadIndexReply,
) -> str:
    match message:
        case RequestPreVote(last_log_index=index, last_log_term=term):
            return f"its log ends at {index}/{term}" if index else "its log is empty"
        case RequestPreVoteReply(election_term=term, outcome=Granted()):
            return f"it would vote in term {term}"
        case RequestPreVoteReply(election_term=term, outcome=outcome, src=voter):
            return f"it would not vote in term {term}: {_vote_refusal(outcome, voter)}"
        case TimeoutNow():
            return "start an election and take over"
        case ReadIndex():
            return "how far must a read see?"
        case ReadIndexReply(index=index):
            return f"a read must see all up to {index}"


def _append_answer(outcome: AppendOutcome) -> str:
    match outcome:
        case Appended(match_index):
            return f"has all up to {match_index}"
        case StaleTerm():
            return "refused: the request is of an older term"
        case Mismatch(conflict_term=0, first_index=first_index):
            return f"refused: its log ends at {first_index - 1}"
        case Mismatch(index, term, first_index):
            return f"refused: its entry {index} is of term {term}, which begins at {first_index}"


def _vote_refusal(outcome: VoteOutcome, voter: ServerId) -> str:
    match outcome:
        case AlreadyVoted(candidate):
            return f"it already voted for {'itself' if candidate == voter else f'S{candidate}'}"
        case LogBehind(index, term):
            return f"its own log is more up-to-date (ends at {index}/{term})"
        case StaleTerm():
            return "the request is of an older term"
        case LeaderAlive(None):
            return "it has just started, and may have heard from a leader before"
        case LeaderAlive(leader):
            return "it leads itself" if leader == voter else f"it hears from the leader S{leader}"
        case Granted():
            return "it does not"


# --- Clients -----------------------------------------------------------------------------------


def _of_client(what: ev.OperationInvoked | ev.OperationReturned, view: ClusterView) -> str:
    match what:
        case ev.OperationInvoked(_, kind, key, value, server, consistency):
            whom = f"S{server}" if server else "the leader"
            return f"a client asks {whom}: {_request(kind, key, value, consistency)}"
        case ev.OperationReturned(operation_id):
            known = view.operation(operation_id)
            name = operation_text(known) if known else f"operation {operation_id}"
            return f"{name}: {_result(what, known)}"


def operation_text(operation: OperationView) -> str:
    """Return what a client asked for, as ``put x=1``, ``get x``, ``delete x``."""
    return _request(operation.kind, operation.key, operation.value, operation.consistency)


def _request(kind: ev.OperationKind, key: bytes, value: bytes, consistency: Consistency) -> str:
    text = f"{kind.name.lower()} {printable(key, SHORT)}"
    if consistency is not Consistency.LINEARIZABLE:
        text += f" ({consistency.name.lower()})"
    return f"{text}={printable(value, SHORT)}" if kind is ev.OperationKind.PUT else text


def _result(returned: ev.OperationReturned, known: OperationView | None) -> str:
    detail = printable(returned.detail, LONG)
    match returned.outcome:
        case ev.Outcome.FAILED:
            return f"it failed and changed nothing ({detail})"
        case ev.Outcome.UNKNOWN:
            return f"it may have taken effect, may still, or never ({detail})"
    if known is None or known.kind is not ev.OperationKind.GET:
        return "done"
    return printable(returned.value, LONG) if returned.found else "there is none"


# --- Servers -----------------------------------------------------------------------------------


def _of_server(
    what: core.CoreEvent | ServerState | ObservationsLost, source: ServerId, view: ClusterView
) -> str:
    me = f"S{source}"
    match what:
        case core.RoleChanged():
            return f"{me}{_role_change(what, view.servers.get(source, _NOBODY))}"
        case core.TermChanged(term):
            return f"{me} enters term {term}"
        case core.VoteCast(term, candidate, Granted()):
            return f"{me} votes for S{candidate} in term {term}"
        case core.VoteCast(term, candidate, outcome):
            why = _vote_refusal(outcome, source)
            return f"{me} refuses its vote to S{candidate} in term {term}: {why}"
        case core.VoteReceived():
            return f"{me} {_vote_count(what, source, view)}"
        case core.LeaderChanged(term, None):
            return f"{me} knows no leader of term {term}"
        case core.LeaderChanged(term, leader):
            return f"{me} {'leads' if leader == source else f'follows S{leader} in'} term {term}"
        case core.TimerArmed(core.TimerKind.HEARTBEAT, _, interval):
            return f"{me} sends heartbeats again in {duration_text(interval)}"
        case core.TimerArmed(_, _, interval):
            return f"{me} waits {duration_text(interval)} before it starts an election"
        case core.ProgressChanged(follower, next_index, match_index):
            known = f"matches up to {match_index}" if match_index else "may differ"
            return f"{me}: the log of S{follower} {known}; it will be sent {next_index} next"
        case core.MessageIgnored(src, kind, reason):
            return f"{me} ignores a {printable(kind, LONG)} of S{src}: {printable(reason, LONG)}"
        case core.PreVoteCast(term, candidate, Granted()):
            return f"{me} would vote for S{candidate} in term {term}"
        case core.PreVoteCast(term, candidate, outcome):
            why = _vote_refusal(outcome, source)
            return f"{me} would not vote for S{candidate} in term {term}: {why}"
        case core.PreVoteReceived():
            return f"{me} {_pre_vote_count(what, source, view)}"
        case core.TransferChanged(None):
            return f"{me} hands its leadership to nobody any more"
        case core.TransferChanged(target):
            return f"{me} hands its leadership to S{target}"
        case ServerState():
            entries = "1 entry" if len(what.entries) == 1 else f"{len(what.entries)} entries"
            place = f" from {what.first_index} on" if what.first_index > 1 else ""
            role = role_text(what.role)
            return f"{me} tells its state: {role} in term {what.term}, {entries}{place}"
        case ObservationsLost(count):
            return f"{count} observations of {me} were lost: it told more than could be heard"
    return f"{me} {_log_change(what)}"


def _role_change(what: core.RoleChanged, before: ServerView) -> str:
    term = what.term
    candidate = before.role is core.Role.CANDIDATE
    if what.role is core.Role.PRE_CANDIDATE:
        return f" asks whether it could win an election in term {term + 1}{_waited(what, before)}"
    match what.reason:
        case core.RoleReason.STARTED:
            return f" begins as a follower in term {term}"
        case core.RoleReason.ELECTION_TIMEOUT:
            waited = _for(before.timer_interval)
            if candidate:
                return f": no majority{waited}, so it starts another election in term {term}"
            return f": no word from a leader{waited}, so it starts an election in term {term}"
        case core.RoleReason.ASKED:
            return f" was timed out by hand and starts an election in term {term}"
        case core.RoleReason.WON_ELECTION:
            votes = " ".join(f"S{voter}" for voter in before.granted)
            return f" wins term {term} with votes of {votes}" if votes else f" wins term {term}"
        case core.RoleReason.HIGHER_TERM:
            return f" {_steps_down(before)}: another server is in term {term}"
        case core.RoleReason.LEADER_EXISTS:
            return f" {_steps_down(before)}: term {term} has a leader"
        case core.RoleReason.PRE_VOTES_WON:
            return f" could win, so it starts an election in term {term}"
        case core.RoleReason.QUORUM_LOST:
            return f" {_steps_down(before)}: no majority answers it any more"
        case core.RoleReason.TRANSFER:
            return f" takes over: the leader asked it to start an election, in term {term}"
        case core.RoleReason.REMOVED:
            return f" {_steps_down(before)}: it is no member any more"


def _for(interval: float) -> str:
    return f" for {duration_text(interval)}" if interval else ""


def _waited(what: core.RoleChanged, before: ServerView) -> str:
    if what.reason is core.RoleReason.ASKED:
        return ": it was timed out by hand"
    if before.role is core.Role.PRE_CANDIDATE:
        return f" again: no majority{_for(before.timer_interval)}"
    return f": no word from a leader{_for(before.timer_interval)}"


def role_text(role: core.Role) -> str:
    """Return ``follower``, ``pre-candidate`` and so on."""
    return role.name.lower().replace("_", "-")


def _steps_down(before: ServerView) -> str:
    match before.role:
        case core.Role.LEADER:
            return "stops leading"
        case core.Role.CANDIDATE | core.Role.PRE_CANDIDATE:
            return "gives up its election"
    return "becomes a follower"


def _vote_count(what: core.VoteReceived, me: ServerId, view: ClusterView) -> str:
    if not isinstance(what.outcome, Granted):
        why = _vote_refusal(what.outcome, what.voter)
        return f"does not get the vote of S{what.voter}: {why}"
    have = (
        f"votes for itself in term {what.term}"
        if what.voter == me
        else f"has the vote of S{what.voter}"
    )
    if me not in view.servers:
        return have
    granted = {*view.servers[me].granted, what.voter}
    return f"{have} ({len(granted)} of {len(view.servers)})"


def _pre_vote_count(what: core.PreVoteReceived, me: ServerId, view: ClusterView) -> str:
    if not isinstance(what.outcome, Granted):
        why = _vote_refusal(what.outcome, what.voter)
        return f"would not get the vote of S{what.voter}: {why}"
    if what.voter == me:
        return f"would vote for itself in term {what.election_term}"
    have = f"would get the vote of S{what.voter}"
    if me not in view.servers:
        return have
    return f"{have} ({len({*view.servers[me].granted, what.voter})} of {len(view.servers)})"


def _log_change(
    what: core.EntriesAppended
    | core.EntriesTruncated
    | core.CommitAdvanced
    | core.Applied
    | core.ConfigurationChanged
    | core.LogCompacted
    | core.SnapshotSent
    | core.SnapshotInstalled,
) -> str:
    match what:
        case core.EntriesAppended(first_index, entries):
            return f"appends {_entries(first_index, entries)}"
        case core.EntriesTruncated(index):
            return f"removes its entries from {index} on: they conflict with the leader's"
        case core.CommitAdvanced(index):
            return f"commits up to {index}"
        case core.Applied(index):
            return f"has applied all up to {index}"
        case core.ConfigurationChanged(index):
            since = f"by its entry {index}" if index else "as at the beginning"
            return f"takes these for the members: {members_text(what)} ({since})"
        case core.LogCompacted(index, term, first_index):
            return f"has a snapshot up to {index}/{term}; its log starts at {first_index} now"
        case core.SnapshotSent(follower, index, offset, size):
            return f"sends S{follower} its snapshot up to {index}, from byte {offset} of {size} on"
        case core.SnapshotInstalled(index, term, retained):
            rest = "keeps the log behind it" if retained else "discards all of its log"
            return f"takes over the leader's snapshot up to {index}/{term} and {rest}"


def _entries(first_index: int, entries: Sequence[Entry]) -> str:
    last = first_index + len(entries) - 1
    if len(entries) > ENTRIES_NAMED:
        ends = f"{first_index}/{entries[0].term} to {last}/{entries[-1].term}"
        return f"{len(entries)} entries, {ends}"
    named = (
        f"{index}/{entry.term} {printable(command_text(entry), SHORT)}"
        for index, entry in enumerate(entries, first_index)
    )
    return ", ".join(named)
