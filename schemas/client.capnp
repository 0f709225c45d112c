@0xd400c6b1fb7697c2;
# Requests of clients, and a server's answers. Commands, queries and answers are opaque here:
# the state machine defines them (kv.capnp for the key-value machine).

struct ClientRequest {
  id @0 :UInt64;
  # Chosen by the client; the reply repeats it. Requests may be in flight together, and their
  # replies come in any order.
  body :union {
    statusQuery @1 :Void;
    # Answered by any server, leader or not, with its status.
    propose @2 :Propose;
    read @3 :Read;
  }
}

struct Propose {
  # Replicate a command, apply it, and return what the state machine answered.

  data @0 :Data;
}

struct Read {
  # Answer a query from state at least as new as every write acknowledged before (§8).

  query @0 :Data;
}

struct ClientReply {
  id @0 :UInt64;
  body :union {
    outcomeUnknown @1 :OutcomeUnknown;
    result @2 :Result;
    notLeader @3 :NotLeader;
    rejected @4 :Rejected;
    status @5 :Status;
  }
}

struct OutcomeUnknown {
  # The server lost leadership: the command may still take effect, or never.

  detail @0 :Text;
}

struct Result {
  # The state machine's answer.

  data @0 :Data;
}

struct NotLeader {
  # Nothing was done. leader is who leads as far as this server knows, or 0.

  leader @0 :UInt64;
}

struct Rejected {
  # Nothing was done, and asking again will not help.

  detail @0 :Text;
}

struct Status {
  server @0 :UInt64;
  role @1 :UInt16;
  # 0 follower, 1 candidate, 2 leader.
  term @2 :UInt64;
  votedFor @3 :UInt64;
  # 0: nobody in this term.
  leader @4 :UInt64;
  # 0: not known.
  lastIndex @5 :UInt64;
  lastTerm @6 :UInt64;
  commitIndex @7 :UInt64;
  lastApplied @8 :UInt64;
}
