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
  }
}

# --- A server's whole state -----------------------------------------------------------------

struct ServerState {
  # The first observation, and again after some were lost.

  server @0 :UInt64;
  pid @1 :UInt64;
  address @2 :Text;
  role @3 :UInt16;
  # 0 follower, 1 candidate, 2 leader.
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
  # 0 follower, 1 candidate, 2 leader.
  term @1 :UInt64;
  reason @2 :UInt16;
  # 0 started, 1 election timeout, 2 asked, 3 won the election, 4 saw a higher term,
  # 5 a leader of this term exists.
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
