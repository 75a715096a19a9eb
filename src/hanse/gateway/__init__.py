"""The process that speaks PostgreSQL's protocol to clients."""
