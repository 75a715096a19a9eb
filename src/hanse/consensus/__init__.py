"""Agreement among nodes on one sequence of commands: `raft` is the protocol, and its storage and driver."""
