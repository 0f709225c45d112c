@0xd3a2171a15b2d6c8;
# The one ordered stream of a laboratory, and how a viewer talks to it. A recording is this
# stream. All times are in seconds.

using Messages = import "messages.capnp";
using Observe = import "observe.capnp";

struct ViewerFrame {
  # The root type of every frame between a viewer and the laboratory.

  union {
    # From the viewer
    attach @0 :Attach;
    commandRequest @1 :CommandRequest;

    # To the viewer
    commandAnswer @2 :CommandAnswer;
    event @3 :Event;
  }
}

struct Attach {
  # The first frame of a viewer; the whole state follows as events.

  owner @0 :Bool;
  # The laboratory ends when its last owner has gone.
  watching @1 :Bool;
  # It gives no commands: all are refused.
}

struct CommandRequest {
  id @0 :UInt64;
  # Chosen by the viewer; the answer repeats it.
  text @1 :Text;
}

struct CommandAnswer {
  # Comes after every event that the command caused.

  id @0 :UInt64;
  ok @1 :Bool;
  # False: refused, and nothing changed.
  text @2 :Text;
}

struct Event {
  # One happening in its place in the stream.

  sequence @0 :UInt64;
  # Counts from 1 without gaps.
  virtualTime @1 :Float64;
  # Of the cluster's clock.
  monotonicTime @2 :Float64;
  # Of the machine's.
  source @3 :UInt64;
  # The server that told it; 0: the laboratory.
  what :union {
    labStarted @4 :LabStarted;
    clockChanged @5 :ClockChanged;
    commandGiven @6 :CommandGiven;
    warned @7 :Warned;
    serverSpawned @8 :ServerSpawned;
    serverExited @9 :ServerExited;
    serverPaused @10 :ServerPaused;
    serverResumed @11 :ServerResumed;
    messageSent @12 :MessageSent;
    messageDelivered @13 :MessageDelivered;
    messageDropped @14 :MessageDropped;
    linkChanged @15 :LinkChanged;
    operationInvoked @16 :OperationInvoked;
    operationReturned @17 :OperationReturned;

    # As the server told it
    roleChanged @18 :Observe.RoleChanged;
    termChanged @19 :Observe.TermChanged;
    voteCast @20 :Observe.VoteCast;
    voteReceived @21 :Observe.VoteReceived;
    leaderChanged @22 :Observe.LeaderChanged;
    timerArmed @23 :Observe.TimerArmed;
    entriesAppended @24 :Observe.EntriesAppended;
    entriesTruncated @25 :Observe.EntriesTruncated;
    commitAdvanced @26 :Observe.CommitAdvanced;
    applied @27 :Observe.Applied;
    progressChanged @28 :Observe.ProgressChanged;
    messageIgnored @29 :Observe.MessageIgnored;
    serverState @30 :Observe.ServerState;
    observationsLost @31 :Observe.ObservationsLost;
    preVoteCast @32 :Observe.PreVoteCast;
    preVoteReceived @33 :Observe.PreVoteReceived;
    configurationChanged @34 :Observe.ConfigurationChanged;
    logCompacted @35 :Observe.LogCompacted;
    snapshotSent @36 :Observe.SnapshotSent;
    snapshotInstalled @37 :Observe.SnapshotInstalled;
    transferChanged @38 :Observe.TransferChanged;

    messageDuplicated @39 :MessageDuplicated;
    messageHeld @40 :MessageHeld;
    messageRescheduled @41 :MessageRescheduled;
    requestSent @42 :RequestSent;

    # What is done to servers, and asked of the cluster
    diskChanged @43 :DiskChanged;
    diskDamaged @44 :DiskDamaged;
    powerCut @45 :PowerCut;
    serverClockChanged @46 :ServerClockChanged;
    ruleBroken @47 :RuleBroken;
    ruleMended @48 :RuleMended;
    serverAdded @49 :ServerAdded;
    serverRemoved @50 :ServerRemoved;
    loadChanged @51 :LoadChanged;
    loadMeasured @52 :LoadMeasured;
    chaosChanged @53 :ChaosChanged;
  }
}

# --- The laboratory and its clock -----------------------------------------------------------

struct LabStarted {
  cluster @0 :Text;
  servers @1 :List(UInt64);
  electionTimeoutMin @2 :Float64;
  electionTimeoutMax @3 :Float64;
  heartbeatInterval @4 :Float64;
  seed @5 :Int64;
}

struct ClockChanged {
  # Virtual time is virtual + rate · (monotonic clock − monotonic) from here on.

  virtual @0 :Float64;
  monotonic @1 :Float64;
  rate @2 :Float64;
}

struct CommandGiven {
  # Somebody gave a command, and this is how it went.

  text @0 :Text;
  ok @1 :Bool;
  answer @2 :Text;
}

struct Warned {
  # Something is wrong with the laboratory itself, in words.

  text @0 :Text;
}

# --- Processes ------------------------------------------------------------------------------

struct ServerSpawned {
  server @0 :UInt64;
  pid @1 :UInt64;
  address @2 :Text;
}

struct ServerExited {
  server @0 :UInt64;
  pid @1 :UInt64;
  how @2 :Text;
  expected @3 :Bool;
}

struct ServerPaused {
  # Stopped with SIGSTOP: it is alive, holds its connections, does nothing.

  server @0 :UInt64;
}

struct ServerResumed {
  server @0 :UInt64;
}

# --- The network ----------------------------------------------------------------------------

struct MessageSent {
  # A message left its sender; it is due (virtual time) at its receiver.

  messageId @0 :UInt64;
  message @1 :Message;
  due @2 :Float64;
}

struct Message {
  union {
    requestVote @0 :Messages.RequestVote;
    requestVoteReply @1 :Messages.RequestVoteReply;
    appendEntries @2 :Messages.AppendEntries;
    appendEntriesReply @3 :Messages.AppendEntriesReply;
    requestPreVote @4 :Messages.RequestPreVote;
    requestPreVoteReply @5 :Messages.RequestPreVoteReply;
    timeoutNow @6 :Messages.TimeoutNow;
    installSnapshot @7 :Messages.InstallSnapshot;
    installSnapshotReply @8 :Messages.InstallSnapshotReply;
    readIndex @9 :Messages.ReadIndex;
    readIndexReply @10 :Messages.ReadIndexReply;
  }
}

struct MessageDelivered {
  messageId @0 :UInt64;
}

struct MessageDropped {
  messageId @0 :UInt64;
  reason @1 :UInt16;
  # 0 the link is cut, 1 the server is down, 2 by hand, 3 the link loses a share of its
  # messages, 4 the connection was broken.
}

struct MessageDuplicated {
  # A message is under way once more.

  messageId @0 :UInt64;
  copyId @1 :UInt64;
  due @2 :Float64;
}

struct MessageHeld {
  # It waits until it is released, delivered or dropped.

  messageId @0 :UInt64;
}

struct MessageRescheduled {
  # It was released, or its link got faster.

  messageId @0 :UInt64;
  due @1 :Float64;
}

struct RequestSent {
  # A client's request to a server, or a reply, on a link that has rules. The client is 0.

  messageId @0 :UInt64;
  src @1 :UInt64;
  dst @2 :UInt64;
  kind @3 :Text;
  due @4 :Float64;
}

struct LinkChanged {
  # The rules of one direction of a link from here on.

  src @0 :UInt64;
  dst @1 :UInt64;
  cut @2 :Bool;
  # Messages are lost.
  delay @3 :Float64;
  # Virtual seconds.
  stalled @4 :Bool;
  # Messages wait until this is over.
  reset @5 :Bool;
  # The connection is broken, and none comes about.
  held @6 :Bool;
  # Messages wait for somebody's hand.
  jitter @7 :Float64;
  distribution @8 :UInt16;
  # Of the delay: 0 uniform (± jitter), 1 normal (jitter: its standard deviation), 2 exponential
  # (jitter: what it adds on average).
  loss @9 :Float64;
  duplication @10 :Float64;
  reordering @11 :Float64;
  # Shares of the messages, from 0 to 1.
  bandwidth @12 :Float64;
  # Bytes in a virtual second; 0: no limit.
  kind @13 :Text;
  # The kind of messages that these rules are for, by its name in messages.capnp's Message;
  # empty: all, and what was told of kinds before is over.
}

# --- Clients of the laboratory --------------------------------------------------------------

struct OperationInvoked {
  operationId @0 :UInt64;
  kind @1 :UInt16;
  # 0 put, 1 get, 2 delete.
  key @2 :Data;
  value @3 :Data;
  server @4 :UInt64;
  # The server it was sent to; 0: whoever leads.
  consistency @5 :UInt16;
  # What a get is content with: 0 linearizable, 1 the leader's lease, 2 stale.
}

struct OperationReturned {
  operationId @0 :UInt64;
  outcome @1 :UInt16;
  # 0 ok; 1 failed: it certainly had no effect; 2 unknown: it may have, may still, or never.
  found @2 :Bool;
  value @3 :Data;
  detail @4 :Text;
}

# --- What is done to servers, and asked of the cluster --------------------------------------

struct DiskChanged {
  # How a server's disk fails from here on; all zero: it is in order.

  server @0 :UInt64;
  delay @1 :Float64;
  # Virtual seconds that each sync takes longer.
  full @2 :Bool;
  # No file grows.
  failsSync @3 :Bool;
  # The next sync fails.
  tears @4 :Bool;
  # The power fails in the middle of the next write.
}

struct DiskDamaged {
  # Something happened to what a dead server has on its disk.

  server @0 :UInt64;
  what @1 :Text;
}

struct PowerCut {
  # A server's power is cut: what it has not synced is lost with its process.

  server @0 :UInt64;
}

struct ServerClockChanged {
  # A server's clock runs factor times as fast as the cluster's.

  server @0 :UInt64;
  factor @1 :Float64;
}

struct RuleBroken {
  # A server breaks a rule of Raft on purpose from its next start on.

  server @0 :UInt64;
  rule @1 :Text;
}

struct RuleMended {
  server @0 :UInt64;
  rule @1 :Text;
}

struct ServerAdded {
  # The laboratory has one more server.

  server @0 :UInt64;
}

struct ServerRemoved {
  # It left the cluster, and its process has ended.

  server @0 :UInt64;
}

struct LoadChanged {
  # Clients of the laboratory's own work on the cluster as this command says; empty: none do.

  text @0 :Text;
}

struct LoadMeasured {
  # How the load's operations went that ended within the last seconds.

  seconds @0 :Float64;
  # All times are virtual.
  ok @1 :UInt64;
  failed @2 :UInt64;
  unknown @3 :UInt64;
  waiting @4 :UInt64;
  # Still under way.
  p50 @5 :Float64;
  p90 @6 :Float64;
  p99 @7 :Float64;
  # Latencies of those that were ok; 0 if there were none.
}

struct ChaosChanged {
  # Faults come at random, as this command says; empty: no more.

  text @0 :Text;
}
