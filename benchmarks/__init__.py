"""Benchmarks: Hanse beside one plain PostgreSQL in the same minutes, on the same machine, with the same settings."""
