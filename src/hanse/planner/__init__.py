"""From a statement and a catalog snapshot to a plan."""
