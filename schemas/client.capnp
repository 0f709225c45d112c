@0xd400c6b1fb7697c2;
# Requests of clients, and a server's answers. Commands, queries and answers are opaque here:
# the state machine defines them (kv.capnp for the key-value machine).

using Observe = import "observe.capnp";

struct ClientRequest {
  id @0 :UInt64;
  # Chosen by the client; the reply repeats it. Requests may be in flight together, and their
  # replies come in any order.
  body :union {
    statusQuery @1 :Void;
    # Answered by any server, leader or not, with its status.
    propose @2 :Propose;
    read @3 :Read;
    membersQuery @4 :Void;
    # Answered by the leader with its members, once it is certain that it still leads.
    changeMembers @5 :ChangeMembers;
    transferLeadership @6 :TransferLeadership;
    takeSnapshot @7 :Void;
    # Answered by any server with snapshotTaken, when the snapshot is on its disk.
    forgetLeader @8 :Void;
    # Stop holding to a leader that is known to be gone. Answered by any server with its status.
  }
}

# Many requests in one frame, as columns: request i is (ids[i], commands[i]). Each is answered as if
# it had come alone, but for results: those come in Results frames.

struct Proposals {
  # Many times propose.

  ids @0 :List(UInt64);
  commands @1 :List(Data);
}

struct Queries {
  # Many times read, linearizable.

  ids @0 :List(UInt64);
  queries @1 :List(Data);
}

struct Results {
  # The state machine's answers to requests that came in Proposals or Queries.

  ids @0 :List(UInt64);
  datas @1 :List(Data);
  configuration @2 :UInt64;
  # As in ClientReply.
}

struct Propose {
  # Replicate a command, apply it, and return what the state machine answered.

  data @0 :Data;
}

struct Read {
  # Answer a query. How new the state must be is the client's choice.

  query @0 :Data;
  consistency @1 :UInt16;
  # 0 linearizable: at least as new as every write acknowledged before (§8), by any server.
  # 1 lease: the same, from the leader alone and without asking anybody while it holds a lease,
  #   which trusts that clocks run about equally fast (thesis §6.4.1).
  # 2 stale: whatever this server has applied, at once.
}

struct ChangeMembers {
  # Change who belongs to the cluster: all of it in one step, or nothing. Answered by the leader
  # with members, once the change is committed.

  changes @0 :List(Change);
  compare @1 :Bool;
  # Only if the configuration is still the one at expectedIndex.
  expectedIndex @2 :UInt64;
}

struct Change {
  union {
    addLearner @0 :AddLearner;
    addVoter @1 :AddVoter;
    demote @2 :Demote;
    remove @3 :Remove;
  }
}

struct AddLearner {
  # Let a server receive the log without counting in any majority (thesis §4.2.1).

  server @0 :UInt64;
  address @1 :Text;
}

struct AddVoter {
  # Make a server a voter: a new one, or a learner, which keeps its address if this one is empty.

  server @0 :UInt64;
  address @1 :Text;
}

struct Demote {
  # Make a voter a learner.

  server @0 :UInt64;
}

struct Remove {
  server @0 :UInt64;
}

struct TransferLeadership {
  # Hand leadership over (thesis §3.10). Answered by the leader with transferred, when another
  # one leads.

  to @0 :UInt64;
  # 0: to the voter that has most of the log.
}

struct ClientReply {
  id @0 :UInt64;
  body :union {
    outcomeUnknown @1 :OutcomeUnknown;
    result @2 :Result;
    notLeader @3 :NotLeader;
    rejected @4 :Rejected;
    status @5 :Status;
    declined @7 :Declined;
    members @8 :Members;
    transferred @9 :Transferred;
    snapshotTaken @10 :SnapshotTaken;
    answerTooLong @11 :AnswerTooLong;
  }
  configuration @6 :UInt64;
  # The index of the newest configuration that the server knows. One that is newer than those the
  # client has seen tells it to ask for the members.
}

struct OutcomeUnknown {
  # The server lost leadership: the command may still take effect, or never.

  detail @0 :Text;
}

struct Result {
  # The state machine's answer.

  data @0 :Data;
}

struct AnswerTooLong {
  # The query was answered, or the command carried out, but the state machine's answer is longer
  # than a server sends.

  size @0 :UInt64;
}

struct NotLeader {
  # Nothing was done. leader is who leads as far as this server knows, or 0.

  leader @0 :UInt64;
  address @1 :Text;
  # Where the leader listens, by the configuration; empty if that is not known.
}

struct Rejected {
  # Nothing was done, and asking again will not help.

  detail @0 :Text;
}

struct Declined {
  # Nothing was done, for this reason; detail says it for a person.

  reason @0 :UInt16;
  # 1 leadership is being handed over, 2 too much waits to be committed, 3 the leader has not
  # committed an entry of its term, 4 a change of the members is not over, 5 the configuration is
  # not the expected one: for these, asking again may help. 6 it makes no sense, 7 it was begun
  # and given up.
  detail @1 :Text;
}

struct Members {
  # Who belongs to the cluster, by the configuration at index (0: from the beginning).

  index @0 :UInt64;
  committed @1 :Bool;
  voters @2 :List(UInt64);
  outgoing @3 :List(UInt64);
  # The old voters, while the configuration is joint (§6).
  learners @4 :List(UInt64);
  addresses @5 :List(Address);
  # Of those members whose address is known.
  progress @6 :List(Observe.FollowerProgress);
  # What the leader knows of the others' logs.
  lastIndex @7 :UInt64;
  # The end of its own.
  leader @8 :UInt64;
}

struct Address {
  server @0 :UInt64;
  address @1 :Text;
}

struct Transferred {
  leader @0 :UInt64;
  # Who leads now.
}

struct SnapshotTaken {
  index @0 :UInt64;
  # The last entry that the snapshot stands for; 0: nothing is applied yet.
}

struct Status {
  server @0 :UInt64;
  role @1 :UInt16;
  # 0 follower, 1 candidate, 2 leader, 3 pre-candidate.
  term @2 :UInt64;
  votedFor @3 :UInt64;
  # 0: nobody in this term.
  leader @4 :UInt64;
  # 0: not known.
  lastIndex @5 :UInt64;
  lastTerm @6 :UInt64;
  commitIndex @7 :UInt64;
  lastApplied @8 :UInt64;
  snapshotIndex @9 :UInt64;
  # The last entry that its snapshot stands for; 0: it has none.
  configurationIndex @10 :UInt64;
  voters @11 :List(UInt64);
  outgoing @12 :List(UInt64);
  learners @13 :List(UInt64);
  # The newest configuration in its log, as in Members.
  recovering @14 :Bool;
  # It lost entries, and does not vote until it has got them back.
}
