"""State machines: what the replicated log drives."""
