"""The one door to PostgreSQL's grammar (pglast)."""
