"""Tools to test with: a cluster in memory, transcripts, simulations, mutants of the rules."""
