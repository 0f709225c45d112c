@0x91d7ae2b92174fc1;
# Exactly-once sessions (thesis §6.3), around the commands of any state machine.
#
# A command entry (Propose.data) that begins with the 8 bytes "session\n" is a request to the
# sessions. Any other command goes to the state machine as it is, and so does the answer. Every
# server takes every request apart, so they are numbers in fixed places, little-endian:
#
#   request   "session\n" │ kind u8 │ session u64 │ sequence u64 │ first unanswered u64 │ command
#
#   kind 0  Open a session; all numbers are 0, and there is no command. Answered with 0. A retry
#           opens another session.
#        1  Do nothing but use the session, so that others expire before it. Answered with 1.
#        2  Close the session. Answered with 2. (1 and 2: sequence and first unanswered are 0,
#           and there is no command.)
#        3  Carry the command out unless it was before; in both cases answer (3) with what the
#           state machine answered then. sequence counts the session's commands from 1; a retry
#           repeats it. The client has the answers of all commands before "first unanswered", and
#           will not ask for them again.
#
#   answer    kind u8, and what belongs to it (Result.data)
#
#   kind 0  opened: the session's id, u64
#        1  kept
#        2  closed
#        3  performed: what the state machine answered, up to the end
#        4  unknown session: nothing was done; it has expired or was closed, or never was. Whether
#           a command that is being retried was carried out before is not known any more.
#        5  answer forgotten: nothing was done now; the sequence number lies before
#           "first unanswered".
#        6  malformed: nothing was done; the bytes make no sense.

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
