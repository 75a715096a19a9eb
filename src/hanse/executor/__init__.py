"""Running a plan over backends: forward, scatter, merge, pull, COPY."""
