"""A schema that only one test uses, on any server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from .servers import Cluster, Server


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


@contextmanager
def on_both(plain: Server, cluster: Cluster, prefix: str, setup: Sequence[str], *, sharded: str = "t") -> Iterator[str]:
    """The same schema on a plain server and on a cluster, where table `sharded`, with key `id`, is distributed as soon as it
    is made. `{schema}` in a statement, and what is given, is the schema's name.
    """
    name = f"{prefix}_{uuid.uuid4().hex[:10]}"
    servers = (plain, cluster.server)
    for server in servers:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}; SET search_path = {name}")  # type: ignore[call-overload]
            for statement in setup:
                connection.execute(statement.replace("{schema}", name))  # type: ignore[call-overload]
                if server is cluster.server and statement.startswith(f"CREATE TABLE {sharded} "):
                    connection.execute(f"SELECT create_distributed_table('{sharded}', 'id')")  # type: ignore[call-overload]
    yield name
    for server in servers:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {name} CASCADE")  # type: ignore[call-overload]
