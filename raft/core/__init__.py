"""Consensus and nothing else: no clock, no socket, no file, no waiting (sans-IO)."""
