"""A `Consensus` by an etcd that is there anyway: `node.py` has the argument."""
