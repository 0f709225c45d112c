@0xb1d8a5f04c7e9d23;
# What the register, a state machine with one value, understands: the contents of a command entry
# (Propose.data), and of the answers to commands and queries (Result.data). Any query reads the
# register and is answered with `holds`.

struct RegisterCommand {
  union {
    write @0 :Write;
    # Answered with done.
    cas @1 :Cas;
    # Answered with done, or with `holds`, and nothing is changed.
  }
}

struct RegisterAnswer {
  union {
    done @0 :Void;
    holds @1 :Holds;
    malformed @2 :Void;
    # The command made no sense and changed nothing.
  }
}

struct Write {
  value @0 :Data;
}

struct Cas {
  # Compare and swap: write `value` if the register holds `expected`.

  expected @0 :Data;
  value @1 :Data;
}

struct Holds {
  value @0 :Data;
}
