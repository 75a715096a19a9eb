"""The schema-complete database of a workspace ("main"), as a whole: made, cloned, thrown away.

All of this happens under one advisory lock in database `postgres`, because the workers of a node share the server.

**Cloning** needs main without other sessions. `CREATE DATABASE … TEMPLATE` waits up to 5 s for them to leave, and new
sessions wait while it runs. So this worker's newcomers wait for a moment (`main_gate.py`), its idle sessions are closed, and
other workers' *idle* ones ended (a gateway's pool makes new ones when it needs them).
Sessions that run a statement or have a transaction open are left alone: they end, or the clone is given up after
WORKSPACE_CLONE_S_MAX. A statement that arrives at a session in the very moment it is ended fails with 57P01 before it
did anything; whoever sent it sends it again.

**A clone must not hold on to roles.** `DROP ROLE` looks into pg_shdepend for objects in any database, and would find
those of every slot. A clone lives only as long as its version of the schema, so its rows there are deleted.

**Making anew.** When an entry of the log cannot be replayed, main is dropped with all slots, and with all roles that
the log made: roles belong to the server, and `CREATE ROLE` would find them. Which roles were there before the log is
kept in database `postgres`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from importlib import resources

from ...core.errors import PgError
from ...core.ids import quote_identifier
from ...core.limits import WORKSPACE_CLONE_S_MAX
from .main_gate import MainGate
from .system_connection import Connection, SystemAccess, translated

LOCK_KEY = 0x68616E7365  # 'hanse'
_CREATE_ATTEMPT_PAUSE_S = 0.005
_STARTING = ("08006", "57P03")
_STARTING_PAUSE_S = 0.05

# A session that has only just become idle is about to be used, or is being closed by its owner.
_END_IDLE = """
SELECT count(*) FILTER (
    WHERE state = 'idle' AND state_change < clock_timestamp() - interval '250 milliseconds' AND pg_terminate_backend(pid)
), count(*)
FROM pg_stat_activity
WHERE datname = $1 AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
_REMEMBER_ROLES = """
CREATE TABLE IF NOT EXISTS public.hanse_bootstrap_role (name name PRIMARY KEY);
REVOKE ALL ON public.hanse_bootstrap_role FROM PUBLIC;
INSERT INTO public.hanse_bootstrap_role
SELECT rolname FROM pg_roles WHERE NOT EXISTS (SELECT FROM public.hanse_bootstrap_role);
"""
_LATER_ROLES = """
SELECT rolname FROM pg_roles
WHERE rolname !~ '^pg_' AND rolname NOT IN (SELECT name FROM public.hanse_bootstrap_role)
"""

# To one that an earlier version has made. Asked first: ALTER TABLE would wait for whoever reads hanse.groups.
_LACKS_LOCATIONS = """
SELECT NOT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = 'hanse.groups'::regclass AND attname = 'location' AND NOT attisdropped
)
"""
_ADD_LOCATIONS = "ALTER TABLE hanse.groups ADD COLUMN location jsonb NOT NULL DEFAULT '{}'"

log = logging.getLogger(__name__)


class MainDatabase:
    """`name` is the database; slots of worker w are `{name}_ws_{w}_{i}`. `owner` owns main where such a role exists."""

    def __init__(self, access: SystemAccess, name: str, owner: str) -> None:
        self.access = access
        self.name = name
        self._owner = owner
        self._admin: Connection = None
        self.gate = MainGate()
        self._turn = asyncio.Lock()  # one at a time on our connection

    async def open(self) -> None:
        self._admin = await self.access.connect("postgres")

    async def open_when_started(self) -> None:
        """Waits for a server that does not accept connections yet."""
        while True:
            try:
                await self.open()
                return
            except PgError as error:
                if error.sqlstate not in _STARTING:
                    raise
                await asyncio.sleep(_STARTING_PAUSE_S)

    async def close(self) -> None:
        if self._admin is not None:
            await self._admin.close(timeout=5)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A session in main. Short ones only: it would keep a clone waiting."""
        connection = await self.access.connect(self.name)
        try:
            yield connection
        finally:
            await connection.close(timeout=5)

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[Connection]:
        async with self._turn:
            if self._admin is None or self._admin.is_closed():
                await self.open()
            with translated("databases were made"):
                await self._admin.execute(f"SELECT pg_advisory_lock({LOCK_KEY})")
                try:
                    yield self._admin
                finally:
                    if not self._admin.is_closed():
                        await self._admin.execute(f"SELECT pg_advisory_unlock({LOCK_KEY})")

    async def ensure(self) -> None:
        """Makes main if it is missing, and what this package needs in it."""
        async with self._alone() as admin:
            await admin.execute(_REMEMBER_ROLES)
            await self._create(admin)

    async def _create(self, admin: Connection) -> None:
        fresh = not await admin.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", self.name)
        if fresh:
            owned = await admin.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", self._owner)
            owner = f" OWNER {quote_identifier(self._owner)}" if owned else ""
            await admin.execute(f"CREATE DATABASE {quote_identifier(self.name)}{owner}")
        async with self.connection() as connection, connection.transaction():
            if await connection.fetchval("SELECT to_regclass('hanse.applied') IS NOT NULL"):
                if await connection.fetchval(_LACKS_LOCATIONS):
                    await connection.execute(_ADD_LOCATIONS)
                return
            if not await connection.fetchval("SELECT to_regnamespace('hanse') IS NOT NULL"):
                await connection.execute(_read("bootstrap_database.sql"))
            await connection.execute(_read("workspace.sql"))
            await connection.execute(_read("flatten.sql"))
            await connection.execute(_read("sizes.sql"))
            await connection.execute(_read("counters.sql"))
            await connection.execute(_read("membership.sql"))

    async def make_anew(self, broken_version: int) -> None:
        """Main as it was before the log began. Does nothing when another worker has brought it past
        `broken_version`.
        """
        async with self._alone() as admin:
            if await self._version() > broken_version:
                return
            for row in await admin.fetch("SELECT datname FROM pg_database WHERE datname LIKE $1", self._slot_pattern()):
                await self._drop(admin, row[0])
            await self._drop(admin, self.name)
            for row in await admin.fetch(_LATER_ROLES):
                try:
                    await admin.execute(f"DROP ROLE {quote_identifier(row[0])}")
                except Exception:  # something outside of our databases is its; replay will say what that means
                    log.exception("role %s could not be dropped", row[0])
            await self._create(admin)

    async def _version(self) -> int:
        try:
            async with self.connection() as connection:
                version: int = await connection.fetchval("SELECT version FROM hanse.applied")
                return version
        except PgError as error:
            if error.sqlstate == "3D000":
                return -1
            raise

    def _slot_pattern(self) -> str:
        return self.name.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "\\_ws\\_%"

    async def clone(self, name: str) -> None:
        """Database `name` becomes a copy of main as it is now. Raises PgError 55006 when main was never free."""
        async with self._alone() as admin:
            await self._drop(admin, name)
            await self._copy(admin, name)
            quoted = quote_identifier(name)
            # What a user's statement writes here would be lost: it must fail instead.
            await admin.execute(f"ALTER DATABASE {quoted} SET default_transaction_read_only = on")
            await admin.execute(
                "DELETE FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = $1)", name
            )

    async def _copy(self, admin: Connection, name: str) -> None:
        sql = f"CREATE DATABASE {quote_identifier(name)} TEMPLATE {quote_identifier(self.name)} STRATEGY wal_log"
        deadline = asyncio.get_running_loop().time() + WORKSPACE_CLONE_S_MAX
        with self.gate.attempts() as attempts:
            while True:
                attempts.begin()
                _, sessions = await admin.fetchrow(_END_IDLE, self.name)
                if not sessions:
                    try:
                        await self._create_database(admin, sql)
                        return
                    except PgError as error:
                        if error.sqlstate != "55006":
                            raise
                if asyncio.get_running_loop().time() > deadline:
                    raise PgError(
                        "55006",
                        "the workspace could not be prepared because schema changes or catalog queries are running",
                        hint="Retry when they have ended; a transaction that changed the schema must be committed first.",
                    )
                await attempts.wait(_CREATE_ATTEMPT_PAUSE_S)

    async def _create_database(self, admin: Connection, sql: str) -> None:
        with translated("a database was copied"):
            await admin.execute(sql)

    async def drop(self, name: str) -> None:
        """With every session in it, if it is there."""
        async with self._alone() as admin:
            await self._drop(admin, name)

    async def _drop(self, admin: Connection, name: str) -> None:
        await admin.execute(f"DROP DATABASE IF EXISTS {quote_identifier(name)} WITH (FORCE)")


def _read(file: str) -> str:
    return resources.files(__package__).joinpath(file).read_text("utf-8")
