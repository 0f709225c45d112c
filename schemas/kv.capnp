@0xe5fe1f24a64ca018;
# What the key-value state machine understands: the contents of a command entry (Propose.data),
# of a query (Read.query), and of the answers to both (Result.data).

struct KvCommand {
  # Answered with KvAnswer.done.

  union {
    put @0 :Put;
    delete @1 :Delete;
  }
}

struct KvQuery {
  # The one query: what a key holds. Answered with KvAnswer.value.

  key @0 :Data;
}

struct KvAnswer {
  union {
    done @0 :Void;
    value @1 :Value;
    malformed @2 :Malformed;
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

struct Value {
  found @0 :Bool;
  value @1 :Data;
  # Empty when nothing was found.
}

struct Malformed {
  # The command or query made no sense and changed nothing.

  detail @0 :Text;
}
