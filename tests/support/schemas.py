"""A schema that only one test uses, on any server."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from .servers import Server


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema that only one test uses."""

    name: str
    server: Server

    @property
    def dsn(self) -> str:
        """Connections start with the schema first in their search_path."""
        return self.server.dsn_for(options=f"-c search_path={self.name},public")

    def connect(self, **more: object) -> psycopg.Connection:
        return psycopg.connect(self.dsn, autocommit=True, **more)  # type: ignore[arg-type]
