"""The Raft protocol: `core` is where to begin."""
