"""What tables, shards, groups and nodes there are: immutable, numbered snapshots."""
