"""How the agent reaches an instance as Hanse's own superuser."""

from __future__ import annotations

from ..config import SYSTEM_ROLE, Secrets
from ..engines.postgres.system_connection import SystemAccess


def system_access(secrets: Secrets, host: str, port: int, socket_directory: str | None) -> SystemAccess:
    """`socket_directory`: of an instance on this node; None, by TCP."""
    return SystemAccess(
        host=host, port=port, socket_directory=socket_directory, user=SYSTEM_ROLE, password=secrets.system_password
    )
