@0xe5fe1f24a64ca018;
# What the key-value state machine understands: the contents of a command entry (Propose.data),
# of a query (Read.query), and of the answers to both (Result.data).

struct KvCommand {
  # Answered as said here; with KvAnswer.failed, and nothing is changed, if what the key holds
  # does not allow it.

  union {
    put @0 :Put;
    # done
    delete @1 :Delete;
    # done
    cas @2 :Cas;
    # done, or `value` with what the key holds instead of what was expected
    append @3 :Append;
    # number: how many bytes the value has now
    increment @4 :Increment;
    # number: the new value
  }
}

struct KvQuery {
  # What `key` holds: answered with KvAnswer.value. Or, with `scan`, all keys that begin with the
  # bytes of `key`, with their values: answered with KvAnswer.pairs.

  key @0 :Data;
  scan @1 :Bool;
  start @2 :Data;
  # The keys from here on, itself included.
  limit @3 :UInt32;
  # So many of them; 0: as many as fit into an answer.
}

struct KvAnswer {
  union {
    done @0 :Void;
    value @1 :Value;
    malformed @2 :Malformed;
    number @3 :Number;
    pairs @4 :Pairs;
    failed @5 :Failed;
  }
}

struct KvSnapshot {
  # The whole state, in the order of the keys.

  pairs @0 :List(Put);
}

struct Put {
  key @0 :Data;
  value @1 :Data;
}

struct Delete {
  key @0 :Data;
}

struct Cas {
  # Compare and swap: put `value` if the key holds what is expected.

  key @0 :Data;
  expected @1 :Value;
  value @2 :Data;
}

struct Append {
  # Put these bytes behind what the key holds; a key that is not there holds none.

  key @0 :Data;
  value @1 :Data;
}

struct Increment {
  # Add to the value, a number in decimal digits; a key that is not there holds 0. The result must
  # fit in 64 bits, with a sign.

  key @0 :Data;
  amount @1 :Int64;
}

struct Value {
  found @0 :Bool;
  value @1 :Data;
  # Empty when nothing was found.
}

struct Malformed {
  # The command or query made no sense and changed nothing.

  detail @0 :Text;
}

struct Number {
  number @0 :Int64;
}

struct Pairs {
  # In the order of the keys.

  pairs @0 :List(Put);
  more @1 :Bool;
  # There are others behind the last one.
}

struct Failed {
  # What the key holds does not allow the command; nothing was changed.

  detail @0 :Text;
}
