"""Connections of Hanse itself to a workspace, by asyncpg, and its errors as ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from ...core.errors import PgError
from ...core.limits import CONNECT_TIMEOUT_S

Connection = Any  # asyncpg.Connection: the package has no types

# asyncpg's attribute → the wire's field code (manual, 55.8)
_FIELDS = (
    ("context", "W"),
    ("schema_name", "s"),
    ("table_name", "t"),
    ("column_name", "c"),
    ("data_type_name", "d"),
    ("constraint_name", "n"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemAccess:
    """How Hanse's own superuser reaches a workspace server."""

    host: str
    port: int
    socket_directory: str | None
    user: str
    password: str

    async def connect(self, database: str, **settings: str) -> Connection:
        """A connection with search_path pg_catalog, and `settings`. Raises PgError."""
        with translated("connecting to the workspace"):
            return await asyncpg.connect(
                host=self.socket_directory or self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                database=database,
                ssl=False,
                timeout=CONNECT_TIMEOUT_S,
                statement_cache_size=0,
                server_settings={
                    "application_name": "hanse workspace",
                    "search_path": "pg_catalog",
                    "client_min_messages": "error",
                    **settings,
                },
            )


@contextlib.contextmanager
def translated(doing: str, who: str = "the workspace") -> Iterator[None]:
    """Errors of asyncpg leave as PgError: the server's whole, a lost connection as 08006."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise to_pg_error(error) from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        # InternalClientError: the server has said goodbye while the connection was idle, and it is not closed yet
        reason = str(error) or type(error).__name__
        raise PgError("08006", f"{who} failed while {doing}", detail=reason) from error


def to_pg_error(error: Any) -> PgError:
    fields = {code: str(value) for name, code in _FIELDS if (value := getattr(error, name, None))}
    sqlstate = error.sqlstate or "XX000"
    return PgError(sqlstate, error.message or str(error), detail=error.detail, hint=error.hint, fields=fields)
