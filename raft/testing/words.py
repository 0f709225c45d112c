"""What servers do and say, one line each, as the transcripts show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from raft.core.core import Core
from raft.core.events import (
    CommitAdvanced,
    ConfigurationChanged,
    EntriesAppended,
    EntriesTruncated,
    LogCompacted,
    MessageIgnored,
    PreVoteReceived,
    ProgressChanged,
    Role,
    RoleChanged,
    RoleReason,
    SnapshotInstalled,
    TermChanged,
    TransferChanged,
    VoteCast,
    VoteReceived,
)
from raft.core.membership import Configuration
from raft.core.messages import (
    AlreadyVoted,
    Appended,
    AppendEntries,
    AppendEntriesReply,
    AppendOutcome,
    Entry,
    EntryKind,
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
from raft.core.readonly import ReadState
from raft.printable import printable
from raft.testing.network import Happening

_REASONS = {
    RoleReason.STARTED: "every server begins as one",
    RoleReason.ELECTION_TIMEOUT: "it heard from no leader",
    RoleReason.ASKED: "it was asked to",
    RoleReason.WON_ELECTION: "a majority votes for it",
    RoleReason.HIGHER_TERM: "a message carried a higher term",
    RoleReason.LEADER_EXISTS: "this term has a leader",
    RoleReason.PRE_VOTES_WON: "a majority would vote for it",
    RoleReason.QUORUM_LOST: "no majority answers it",
    RoleReason.TRANSFER: "the leader hands over to it",
    RoleReason.REMOVED: "the change that removed it is committed",
}


def message_line(message: Message) -> str:
    """Return ``S1 → S2  AppendEntries  term 8, after 10/6, +1 entry, commit 9`` and the like.

    ``10/6`` is the entry at index 10, of term 6.
    """
    kind = type(message).__name__
    return f"S{message.src} → S{message.dst}  {kind}  term {message.term}, {_content(message)}"


def happening_line(happening: Happening) -> str | None:
    """Return what a server did in words, None for what a transcript leaves out."""
    me = f"S{happening.server}"
    match happening.what:
        case message if isinstance(message, Message):
            return message_line(message)
        case RoleChanged(role, term, reason):
            return f"{me} is {role_name(role)} in term {term}: {_REASONS[reason]}"
        case TermChanged(term):
            return f"{me} enters term {term}"
        case VoteCast(candidate=candidate, outcome=Granted()):
            return f"{me} decides to vote for S{candidate}"
        case VoteReceived(voter=voter, outcome=Granted()):
            return f"{me} has the vote of S{voter}"
        case PreVoteReceived(voter=voter, outcome=Granted()):
            return f"{me} would have the vote of S{voter}"
        case EntriesAppended(first_index, entries):
            places = " ".join(f"{i}/{entry.term}" for i, entry in enumerate(entries, first_index))
            return f"{me} appends {places}"
        case EntriesTruncated(from_index):
            return f"{me} removes its entries from {from_index} on"
        case CommitAdvanced(index):
            return f"{me} commits up to {index}"
        case ProgressChanged(follower, next_index, match_index):
            return f"{me} notes for S{follower}: nextIndex {next_index}, matchIndex {match_index}"
        case MessageIgnored(src, kind, reason):
            return f"{me} ignores {kind} from S{src}: {reason}"
        case ReadState(context, index):
            return f"{me} may answer read {context} from entry {index} on"
        case _:
            return _change_line(me, happening)


def _change_line(me: str, happening: Happening) -> str | None:
    match happening.what:
        case ConfigurationChanged(index, voters, outgoing, learners):
            members = _members(Configuration(voters, learners, outgoing))
            place = f"entry {index}" if index else "the beginning"
            return f"{me} goes by the configuration of {place}: {members}"
        case LogCompacted(index, term, first_index):
            return f"{me} has a snapshot up to {index}/{term}; its log begins at {first_index}"
        case SnapshotInstalled(index, term, retained):
            rest = "keeps what follows" if retained else "discards its log"
            return f"{me} installs the snapshot up to {index}/{term} and {rest}"
        case TransferChanged(None):
            return f"{me} hands over no longer"
        case TransferChanged(target):
            return f"{me} hands over to S{target}"
        case _:
            return None


def happening_lines(happenings: Sequence[Happening]) -> list[str]:
    """Return the lines of what happened at one moment, without what goes without saying.

    A new role names its term, a candidate votes for itself, a new leader knows nothing yet;
    a decision that is told at once is told once, and of a leader's notes on a follower the last.
    """
    roles = {(h.server, h.what.term) for h in happenings if isinstance(h.what, RoleChanged)}
    new_leaders = {
        h.server
        for h in happenings
        if isinstance(h.what, RoleChanged) and h.what.role is Role.LEADER
    }
    voters = {h.server for h in happenings if isinstance(h.what, RequestVoteReply)}
    last_note = {h.what.follower: h.what for h in happenings if isinstance(h.what, ProgressChanged)}
    lines = []
    for happening in happenings:
        match happening.what:
            case ProgressChanged(follower=follower) if happening.what is not last_note[follower]:
                continue
            case TermChanged(term) if (happening.server, term) in roles:
                continue
            case VoteReceived(voter=voter) | PreVoteReceived(voter=voter) if (
                voter == happening.server
            ):
                continue
            case VoteCast() if happening.server in voters:
                continue
            case ProgressChanged(match_index=0) if happening.server in new_leaders:
                continue
        line = happening_line(happening)
        if line is not None:
            lines.append(line)
    return lines


def state_lines(core: Core) -> list[str]:
    """Return all of Figure 2's state of one server."""
    log = core.log
    behind = f" behind {log.prev_index}/{log.prev_term}" if log.prev_index else ""
    lines = [
        f"S{core.config.server} {role_name(core.role)}: currentTerm {core.term}, "
        f"votedFor {_server(core.voted_for)}, leader {_server(core.leader)}",
        f"log{behind} {_terms(log.entries(log.first_index, log.last_index))}, "
        f"commitIndex {core.commit_index}, lastApplied {core.last_applied}",
    ]
    if core.recovering:
        lines.append("it lost entries of its log and does not vote until it has them again")
    if core.configuration_index:
        lines.append(f"{_members(core.configuration)}, by entry {core.configuration_index}")
    for peer, progress in core.progress.items():
        lines.append(
            f"S{peer}: nextIndex {progress.next_index}, matchIndex {progress.match_index}, "
            f"{progress.state.value}"
        )
    return lines


def cell(entry: Entry) -> str:
    """Return an entry as the drawing of a log shows it: its term and its command."""
    if entry.kind is EntryKind.NOOP:
        return f"{entry.term} –"
    if entry.kind is EntryKind.CONFIGURATION:
        return f"{entry.term} {_set(Configuration.decode(entry.data))}"
    return f"{entry.term} {printable(entry.data)}".rstrip()


def role_name(role: Role) -> str:
    """Return a role in the thesis's spelling."""
    return role.name.lower().replace("_", "-")


def _members(configuration: Configuration) -> str:
    text = f"voters {_names(configuration.voters)}"
    if configuration.outgoing:
        text = f"old voters {_names(configuration.outgoing)}, new {text}"
    if configuration.learners:
        text += f", learners {_names(configuration.learners)}"
    return text


def _names(servers: Iterable[ServerId]) -> str:
    return " ".join(f"S{server}" for server in servers)


def _set(configuration: Configuration) -> str:
    """Return ``{123}``, with a learner ``{123+4}``, joint ``{123→145}``."""
    parts = (configuration.outgoing, configuration.voters, configuration.learners)
    old, new, learners = ("".join(str(server) for server in part) for part in parts)
    joint, plus = (f"{old}→" if old else ""), (f"+{learners}" if learners else "")
    return f"{{{joint}{new}{plus}}}"


def _content(message: Message) -> str:
    match message:
        case RequestVote(last_log_index=index, last_log_term=term):
            return f"its log ends at {index}/{term}"
        case RequestVoteReply(src=voter, outcome=outcome):
            return _vote(outcome, voter)
        case AppendEntries(entries=entries):
            more = f"+{len(entries)} {'entry' if len(entries) == 1 else 'entries'}"
            return (
                f"after {message.prev_log_index}/{message.prev_log_term}, "
                f"{more if entries else 'no entries'}, commit {message.leader_commit}"
            )
        case AppendEntriesReply(outcome=outcome):
            return _append(outcome)
        case RequestPreVote(last_log_index=index, last_log_term=term):
            return f"could it win? its log ends at {index}/{term}"
        case RequestPreVoteReply(src=voter, election_term=term, outcome=outcome):
            return f"about term {term}: {_vote(outcome, voter)}"
        case TimeoutNow():
            return "start an election now"
        case InstallSnapshot(last_index=index, last_term=term, offset=offset, size=size):
            if message.asks:
                return f"snapshot up to {index}/{term}, where to go on?"
            end = offset + len(message.data)
            return f"snapshot up to {index}/{term}, bytes {offset} to {end} of {size}"
        case InstallSnapshotReply(last_index=index, next_offset=offset, installed=installed):
            return f"has the snapshot up to {index}" if installed else f"go on from byte {offset}"
        case ReadIndex(context=context):
            return f"from where on may read {context} be answered?"
        case ReadIndexReply(context=context, index=index):
            return f"read {context} may be answered from entry {index} on"


def _vote(outcome: VoteOutcome, voter: ServerId) -> str:
    match outcome:
        case Granted():
            return "granted"
        case StaleTerm():
            return "refused: the candidate's term is over"
        case AlreadyVoted(candidate):
            return f"refused: its vote is S{candidate}'s"
        case LogBehind(index, term):
            return f"refused: its log ends at {index}/{term}"
        case LeaderAlive(None):
            return "refused: it may have heard from a leader before it restarted"
        case LeaderAlive(leader):
            leads = leader == voter
            return "refused: it leads" if leads else f"refused: it hears from the leader S{leader}"


def _append(outcome: AppendOutcome) -> str:
    match outcome:
        case Appended(index):
            return f"matches up to {index}"
        case StaleTerm():
            return "refused: the leader's term is over"
        case Mismatch(prev, 0, first):
            return f"refused after {prev}: its log ends at {first - 1}"
        case Mismatch(prev, term, first):
            return f"refused after {prev}: term {term} there, from {first} on"


def _server(server: ServerId | None) -> str:
    return "none" if server is None else f"S{server}"


def _terms(entries: Iterable[Entry]) -> str:
    return " ".join(str(entry.term) for entry in entries) or "empty"
