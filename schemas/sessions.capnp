@0x91d7ae2b92174fc1;
# Exactly-once sessions (thesis §6.3), around the commands of any state machine.
#
# A command entry (Propose.data) that begins with the 8 bytes "session\n" is a request of this
# file: behind them stands one frame with the root SessionRequest, and its answer (Result.data)
# is one frame with the root SessionAnswer. Any other command goes to the state machine as it is,
# and so does the answer.

struct SessionRequest {
  union {
    openSession @0 :Void;
    # Answered with sessionOpened. A retry opens another session.
    keepSession @1 :KeepSession;
    closeSession @2 :CloseSession;
    perform @3 :Perform;
  }
}

struct KeepSession {
  # Do nothing but use the session, so that others expire before it. Answered with sessionKept.

  session @0 :UInt64;
}

struct CloseSession {
  # Answered with sessionClosed.

  session @0 :UInt64;
}

struct Perform {
  # Carry the command out unless it was before; in both cases answer with what the state machine
  # answered then.

  session @0 :UInt64;
  sequence @1 :UInt64;
  # Counts the session's commands, from 1. A retry repeats it.
  firstUnanswered @2 :UInt64;
  # The client has the answers of all commands before this one, and will not ask for them again.
  command @3 :Data;
}

struct SessionAnswer {
  union {
    sessionOpened @0 :SessionOpened;
    sessionKept @1 :Void;
    sessionClosed @2 :Void;
    performed @3 :Performed;
    unknownSession @4 :Void;
    # Nothing was done: the session has expired or was closed, or never was. Whether a command
    # that is being retried was carried out before is not known any more.
    answerForgotten @5 :Void;
    # Nothing was done now: the sequence number lies before firstUnanswered.
    malformedRequest @6 :Void;
    # Nothing was done: the bytes behind "session\n" make no sense.
  }
}

struct SessionOpened {
  session @0 :UInt64;
}

struct Performed {
  answer @0 :Data;
}

struct SessionsSnapshot {
  # The snapshot of a state machine with sessions.

  sessions @0 :List(SessionState);
  # The least recently used one, which expires next, comes first.
  machine @1 :Data;
  # The snapshot of the machine inside.
}

struct SessionState {
  session @0 :UInt64;
  firstUnanswered @1 :UInt64;
  answers @2 :List(KeptAnswer);
}

struct KeptAnswer {
  sequence @0 :UInt64;
  answer @1 :Data;
}
