"""The explorer: see Raft and break it, on real server processes."""
