"""The supervisor of one node: instances, gateway workers, control service."""
