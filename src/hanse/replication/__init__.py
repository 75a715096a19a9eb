"""A group's instances as one: who leads, what a commit waits for, what happens when one is lost. Decisions, no I/O but `asking.py`.

Start reading at `failover.py`, which has the protocol and why it is right.
"""
