"""A whole cluster in one process, decided by one seed: see ``raft sim --help``."""
