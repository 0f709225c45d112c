@0x9262f35123499f7a;
# What a server tells an observer, and what an observer may ask of it.
#
# Each event is a fact, stated after it became true in memory. Folded in order, from a
# ServerState on, they give the state of the server exactly. All times are in seconds.

using Messages = import "messages.capnp";

struct Observation {
  virtualTime @0 :Float64;
  # Of the cluster's clock, see SetClock.
  monotonicTime @1 :Float64;
  # Of the machine's clock, which all its processes share.
  event :union {
    serverState @2 :ServerState;
    observationsLost @3 :ObservationsLost;
    barrierReached @4 :BarrierReached;
    roleChanged @5 :RoleChanged;
    termChanged @6 :TermChanged;
    voteCast @7 :VoteCast;
    voteReceived @8 :VoteReceived;
    leaderChanged @9 :LeaderChanged;
    timerArmed @10 :TimerArmed;
    entriesAppended @11 :EntriesAppended;
    entriesTruncated @12 :EntriesTruncated;
    commitAdvanced @13 :CommitAdvanced;
    applied @14 :Applied;
    progressChanged @15 :ProgressChanged;
    messageIgnored @16 :MessageIgnored;
    preVoteCast @17 :PreVoteCast;
    preVoteReceived @18 :PreVoteReceived;
    configurationChanged @19 :ConfigurationChanged;
    logCompacted @20 :LogCompacted;
    snapshotSent @21 :SnapshotSent;
    snapshotInstalled @22 :SnapshotInstalled;
    transferChanged @23 :TransferChanged;
  }
}

# --- A server's whole state -----------------------------------------------------------------

struct ServerState {
  # The first observation, and again after some were lost.

  server @0 :UInt64;
  pid @1 :UInt64;
  address @2 :Text;
  role @3 :UInt16;
  # 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
  term @4 :UInt64;
  votedFor @5 :UInt64;
  leader @6 :UInt64;
  firstIndex @7 :UInt64;
  # The index of the first of the entries.
  entries @8 :Messages.Entries;
  commitIndex @9 :UInt64;
  lastApplied @10 :UInt64;
  votes @11 :List(UInt64);
  # The voters that granted this candidate their vote.
  progress @12 :List(FollowerProgress);
  timerKind @13 :UInt16;
  # 0 election, 1 heartbeat.
  timerDeadline @14 :Float64;
  # Virtual time; 0 with no timer armed.
  timerInterval @15 :Float64;
  snapshotTerm @16 :UInt64;
  # The term of the last entry before firstIndex, which a snapshot stands for (0: there is none).
  configuration @17 :ConfigurationChanged;
}

struct FollowerProgress {
  # nextIndex and matchIndex of one follower (Figure 2, leaders' volatile state).

  follower @0 :UInt64;
  nextIndex @1 :UInt64;
  matchIndex @2 :UInt64;
}

struct ObservationsLost {
  # The observer read too slowly: count observations were dropped; a ServerState follows.

  count @0 :UInt64;
}

struct BarrierReached {
  # Everything asked for by the Barrier with this token is done; sent peer messages went out
  # since the process started.

  token @0 :UInt64;
  sent @1 :UInt64;
}

# --- What the core tells --------------------------------------------------------------------

struct RoleChanged {
  role @0 :UInt16;
  # 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
  term @1 :UInt64;
  reason @2 :UInt16;
  # 0 started, 1 election timeout, 2 asked, 3 won the election, 4 saw a higher term,
  # 5 a leader of this term exists, 6 the pre-votes were won, 7 no majority answers,
  # 8 the leader hands over, 9 it was removed from the cluster.
}

struct TermChanged {
  # currentTerm rose; the vote of the old term is void.

  term @0 :UInt64;
}

struct VoteCast {
  # The server decided on a RequestVote. Granted: votedFor is now the candidate.

  term @0 :UInt64;
  candidate @1 :UInt64;
  outcome @2 :Messages.VoteOutcome;
}

struct VoteReceived {
  # A candidate counted a reply (its own vote first).

  term @0 :UInt64;
  voter @1 :UInt64;
  outcome @2 :Messages.VoteOutcome;
}

struct LeaderChanged {
  # The server learnt who leads the term; 0: that it does not know.

  term @0 :UInt64;
  leader @1 :UInt64;
}

struct TimerArmed {
  # The server's one timer will fire at deadline (virtual time), interval after now.

  kind @0 :UInt16;
  # 0 election, 1 heartbeat.
  deadline @1 :Float64;
  interval @2 :Float64;
}

struct EntriesAppended {
  firstIndex @0 :UInt64;
  entries @1 :Messages.Entries;
}

struct EntriesTruncated {
  # The entries from fromIndex on were removed: they conflict with the leader's (§5.3).

  fromIndex @0 :UInt64;
}

struct CommitAdvanced {
  index @0 :UInt64;
}

struct Applied {
  # lastApplied rose to index.

  index @0 :UInt64;
}

struct ProgressChanged {
  # What the leader knows of one follower.

  follower @0 :UInt64;
  nextIndex @1 :UInt64;
  matchIndex @2 :UInt64;
}

struct MessageIgnored {
  # A message changed nothing, and why.

  src @0 :UInt64;
  kind @1 :Text;
  reason @2 :Text;
}

struct PreVoteCast {
  # The server said whether it would vote for a candidate in electionTerm.

  electionTerm @0 :UInt64;
  candidate @1 :UInt64;
  outcome @2 :Messages.VoteOutcome;
}

struct PreVoteReceived {
  # A pre-candidate counted an answer (its own first).

  electionTerm @0 :UInt64;
  voter @1 :UInt64;
  outcome @2 :Messages.VoteOutcome;
}

struct ConfigurationChanged {
  # Who belongs to the cluster, by the entry at index (0: from the beginning).

  index @0 :UInt64;
  voters @1 :List(UInt64);
  outgoing @2 :List(UInt64);
  # The old voters while the configuration is joint.
  learners @3 :List(UInt64);
}

struct LogCompacted {
  # A snapshot up to index was taken; the log starts at firstIndex now (§7).

  index @0 :UInt64;
  term @1 :UInt64;
  firstIndex @2 :UInt64;
}

struct SnapshotSent {
  # A leader sent a follower the bytes of a snapshot from offset on, size in all.

  follower @0 :UInt64;
  index @1 :UInt64;
  offset @2 :UInt64;
  size @3 :UInt64;
}

struct SnapshotInstalled {
  # A leader's snapshot up to index replaced this server's state. Retained: the log goes on
  # behind it; otherwise all of the log was discarded.

  index @0 :UInt64;
  term @1 :UInt64;
  retained @2 :Bool;
}

struct TransferChanged {
  # A leader hands its leadership to target; 0: no longer.

  target @0 :UInt64;
}

# --- Control, from an observer to the server ------------------------------------------------

struct SetClock {
  # From now on virtual time is virtual + rate · (monotonic clock − monotonic). Rate 0 is
  # frozen: nothing arrives and no timer fires.

  virtual @0 :Float64;
  monotonic @1 :Float64;
  rate @2 :Float64;
}

struct Barrier {
  # Answer with BarrierReached once received peer messages, counted since the process
  # started, are digested.

  token @0 :UInt64;
  received @1 :UInt64;
}

struct SetDisk {
  # From now on the disk fails like this; all zero: it is in order.

  delay @0 :Float64;
  # Virtual seconds that each sync takes longer.
  full @1 :Bool;
  # No file grows.
  failSync @2 :Bool;
  # The next sync fails.
  tear @3 :Bool;
  # The power fails in the middle of the next write.
}
