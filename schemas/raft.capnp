@0xf531e6a01dfc5d28;
# The one root type of every frame on every connection; README.md tells which frames go where.

using Client = import "client.capnp";
using Messages = import "messages.capnp";
using Observe = import "observe.capnp";

struct Envelope {
  union {
    # The handshake
    preamble @0 :Preamble;
    welcome @1 :Welcome;
    proof @2 :Proof;
    refused @3 :Refused;

    # From a peer
    requestVote @4 :Messages.RequestVote;
    requestVoteReply @5 :Messages.RequestVoteReply;
    appendEntries @6 :Messages.AppendEntries;
    appendEntriesReply @7 :Messages.AppendEntriesReply;

    # From and to a client
    clientRequest @8 :Client.ClientRequest;
    clientReply @9 :Client.ClientReply;

    # To an observer
    observation @10 :Observe.Observation;

    # From an observer
    setClock @11 :Observe.SetClock;
    fireTimer @12 :Void;
    # Let the armed timer fire now, whatever its deadline: one step of frozen time.
    campaign @13 :Void;
    # Start an election now, as if the election timer had fired. A leader ignores it.
    barrier @14 :Observe.Barrier;

    # From a peer, too
    requestPreVote @15 :Messages.RequestPreVote;
    requestPreVoteReply @16 :Messages.RequestPreVoteReply;
    timeoutNow @17 :Messages.TimeoutNow;
    installSnapshot @18 :Messages.InstallSnapshot;
    installSnapshotReply @19 :Messages.InstallSnapshotReply;
    readIndex @20 :Messages.ReadIndex;
    readIndexReply @21 :Messages.ReadIndexReply;

    # From an observer, too
    setDisk @22 :Observe.SetDisk;
    cutPower @23 :Void;
    # Lose at once what is not synced, and end without a word.

    # From a client, too, and to it
    proposals @24 :Client.Proposals;
    queries @25 :Client.Queries;
    results @26 :Client.Results;
  }
}

struct Preamble {
  # The first frame of a connection: who calls, and whom it wants.

  version @0 :UInt32;
  cluster @1 :Text;
  caller @2 :UInt16;
  # 0 peer, 1 client, 2 observer.
  src @3 :UInt64;
  # The caller's server id; 0 if it is none. A server may call as a client or an observer, too.
  dst @4 :UInt64;
  # The server it wants.
  nonce @5 :Data;
  # 32 fresh random bytes; empty under TLS.
  address @6 :Text;
  # Where the caller itself listens, if it is a peer: a server that does not know it yet answers
  # there. Empty: it does not say.
}

struct Welcome {
  # The server's half of the handshake.

  nonce @0 :Data;
  # 32 fresh random bytes; empty under TLS.
  proof @1 :Data;
  # HMAC-SHA256 with the cluster's secret, whose input README.md gives; empty under TLS.
}

struct Proof {
  # The caller's half of the handshake.

  proof @0 :Data;
}

struct Refused {
  # The server does not want this connection; it closes right after.

  reason @0 :UInt16;
  # 0 version, 1 cluster, 2 wrong server, 3 unknown peer, 4 proof, 5 busy, 6 expected preamble.
  detail @1 :Text;
}
