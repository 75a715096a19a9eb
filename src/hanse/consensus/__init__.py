"""Agreement among nodes on one sequence of commands: `contract` is what others see of it, `raft` and `etcd` are two ways to it."""
