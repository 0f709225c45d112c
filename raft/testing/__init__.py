"""Tools to test Raft with, and whatever is built on it.

- ``network``: a cluster of cores in memory, in which nothing happens by itself
- ``safety``: what Raft promises, checked after each step
- ``simulation``: random histories with all faults, one for each seed
- ``script`` and ``transcript``: conversations as text files, played and compared
- ``conformance``: whether a log store or a state machine of yours keeps the rules
- ``mutants``: Raft with one rule broken, to see whether a test notices
"""
