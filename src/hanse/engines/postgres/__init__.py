"""PostgreSQL: instances, and the workspace."""
