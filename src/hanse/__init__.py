"""Hanse: many PostgreSQL servers that look like one PostgreSQL database."""

__version__ = "0.1.0"
