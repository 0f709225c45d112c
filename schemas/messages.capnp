@0xbf59daa510a960a7;
# What Raft servers say to each other (Figure 2 of the paper), and the entries of the log.
#
# A server id is a whole number from 1; 0 stands for "none". Terms and indexes are whole
# numbers from 0; index 0 is the place before the first entry and has term 0.

struct Entries {
  # A run of log entries as columns, all of the same length: entry i of the run is
  # (terms[i], kinds[i], datas[i]). Columns are ten times cheaper to read than structs where
  # every field access is a call into another language.

  terms @0 :List(UInt64);
  kinds @1 :List(UInt16);
  # 0 no-op, appended by each new leader (§5.4.2, §8); 1 a command for the state machine;
  # 2 a configuration, as JSON: who belongs to the cluster from here on (§6).
  datas @2 :List(Data);
}

struct RequestVote {
  # A candidate asks for a vote (§5.2).

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  lastLogIndex @3 :UInt64;
  lastLogTerm @4 :UInt64;
  transfer @5 :Bool;
  # The leader itself asked for this election (TimeoutNow).
}

struct RequestVoteReply {
  # term is the voter's term after it decided.

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  outcome @3 :VoteOutcome;
}

struct VoteOutcome {
  # Why a vote was granted or refused.

  union {
    granted @0 :Void;
    staleTerm @1 :Void;
    # The candidate's term is older than the voter's.
    alreadyVoted @2 :AlreadyVoted;
    logBehind @3 :LogBehind;
    leaderAlive @4 :LeaderAlive;
  }
}

struct AlreadyVoted {
  # The voter's one vote of this term belongs to another candidate.

  candidate @0 :UInt64;
}

struct LogBehind {
  # The candidate's log is less up-to-date than the voter's, which ends here (§5.4.1).

  lastLogIndex @0 :UInt64;
  lastLogTerm @1 :UInt64;
}

struct LeaderAlive {
  # The voter heard from a leader less than an election timeout ago (§6; thesis §4.2.3).

  leader @0 :UInt64;
}

struct AppendEntries {
  # A leader replicates entries; without entries it is a heartbeat (§5.2, §5.3).

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  prevLogIndex @3 :UInt64;
  prevLogTerm @4 :UInt64;
  entries @5 :Entries;
  # Absent when there are none. The first has index prevLogIndex + 1.
  leaderCommit @6 :UInt64;
  round @7 :UInt64;
  # Counts the leader's broadcasts in this term; the reply repeats it.
}

struct AppendEntriesReply {
  # term is the follower's term after it decided.

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  outcome @3 :AppendOutcome;
  round @4 :UInt64;
  patience @5 :UInt64;
  # For so many milliseconds after the request came the follower lets nobody else be elected
  # (thesis §6.4.1); 0: it promises nothing.
}

struct AppendOutcome {
  union {
    appended @0 :Appended;
    staleTerm @1 :Void;
    # The leader's term is older than the follower's.
    mismatch @2 :Mismatch;
  }
}

struct Appended {
  # The follower's log equals the leader's up to and including matchIndex.

  matchIndex @0 :UInt64;
}

struct Mismatch {
  # The follower has no entry with the leader's prevLogTerm at prevLogIndex (end of §5.3).

  prevLogIndex @0 :UInt64;
  # What was refused, so that the leader knows which request this answers.
  conflictTerm @1 :UInt64;
  # The term of the follower's entry there; 0: its log is shorter.
  firstIndex @2 :UInt64;
  # The first index the follower stores for conflictTerm, or one past its last entry.
}

struct RequestPreVote {
  # A server asks whether it could win an election in term, the one after its own (thesis §9.6).

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  lastLogIndex @3 :UInt64;
  lastLogTerm @4 :UInt64;
}

struct RequestPreVoteReply {
  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  # The voter's own term.
  electionTerm @3 :UInt64;
  # The term that was asked about.
  outcome @4 :VoteOutcome;
}

struct TimeoutNow {
  # A leader asks a server to start an election at once and take over (thesis §3.10).

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
}

struct InstallSnapshot {
  # A leader sends a piece of its snapshot to a follower that lags too far behind (§7).

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  lastIndex @3 :UInt64;
  lastTerm @4 :UInt64;
  configuration @5 :Data;
  # The one in force at lastIndex, as in an entry of kind 2.
  size @6 :UInt64;
  checksum @7 :UInt64;
  # Of the whole snapshot: its bytes, and their CRC-32.
  offset @8 :UInt64;
  data @9 :Data;
  # This piece of it, and where it belongs.
  round @10 :UInt64;
  configurationIndex @11 :UInt64;
  # The entry that the configuration stands in; 0: it is that of the beginning.
}

struct InstallSnapshotReply {
  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  lastIndex @3 :UInt64;
  nextOffset @4 :UInt64;
  # Where the leader should go on.
  installed @5 :Bool;
  # The follower has all that the snapshot stands for.
  round @6 :UInt64;
  patience @7 :UInt64;
  # As in AppendEntriesReply.
}

struct ReadIndex {
  # A follower asks its leader at which index a read is up to date (thesis §6.4).

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  context @3 :UInt64;
}

struct ReadIndexReply {
  # Whoever has applied index may answer the read.

  src @0 :UInt64;
  dst @1 :UInt64;
  term @2 :UInt64;
  context @3 :UInt64;
  index @4 :UInt64;
}
