"""Atomic commit over several groups, and its recovery."""
