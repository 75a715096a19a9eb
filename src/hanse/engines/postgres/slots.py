"""Private databases for queries that need rows of several groups in one place.

A slot is a database `{main}_ws_{worker}_{i}`: a clone of the schema-complete database at some version of the schema.
One query at a time has it. A worked example, `SELECT … FROM orders JOIN customers USING (email)`::

    slot = await workspace.acquire(version)             # cloned before, or now (about 50 ms)
    loader = await slot.load(orders, ("email", "amount"))   # first time in this slot: flattened (about 10 ms)
    loader.begin_source(); await loader.write(chunk) …; loader.end_source()     # one group, then the next
    await loader.finish()                               # then the next table, on the same connection
    await slot.ready()                                  # ANALYZE, COMMIT: other connections see the rows
    …the client's text on a connection of the client's own role to slot.database…
    await slot.release()                                # DELETE or TRUNCATE, and the slot is free

Until `ready` all is one transaction, which a failure rolls back. `release` always empties what was loaded, and
forgets its statistics, which would show one user's values to another; when it cannot within WORKSPACE_CLEAN_S_MAX
(somebody holds a lock, the server restarted) the database is dropped and made anew for the next query.

**What a query sees there.** Its own rows, under the names, types and oids of the cluster, as tables that any user may
read who may read them in the cluster; row security, triggers and constraints are gone (flatten.sql tells which and
why). It may not write (default_transaction_read_only). It does not see: the shard a row came from (tableoid is the
catch-all's), the partitions in pg_class, values of columns that were not pulled.

**Partial rows** (plan `TwoPhase`) go to a table `hanse.partial_<n>`, which everybody may read, of the columns that
the plan names. A slot keeps such tables for the next statement with equal columns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from ...catalog.model import Relation
from ...core.errors import PgError
from ...core.ids import quote_identifier, quote_qualified
from ...core.limits import WORKSPACE_CLEAN_S_MAX, WORKSPACE_PARTIALS_PER_SLOT_MAX
from .loader import Loader
from .replay import applied_version
from .system_connection import Connection, SystemAccess, translated

ANALYZE_BYTES_MIN = 1 << 16  # of loaded rows; below, any plan is good enough
REMAINS_BYTES_MAX = 1 << 18  # of deleted rows that a table may keep until it is truncated

log = logging.getLogger(__name__)

PartialColumns = tuple[tuple[str, str], ...]


class Keeper(Protocol):
    """What a slot needs of its workspace."""

    access: SystemAccess
    bytes_max: int

    async def clone(self, slot: Slot) -> None: ...
    async def drop(self, slot: Slot) -> None: ...
    def give_back(self, slot: Slot) -> None: ...
    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Slot:
    """See the module's docstring. `version` is that of the last schema change it has; `generation` counts its clones:
    connections to an older generation are dead."""

    def __init__(self, keeper: Keeper, database: str) -> None:
        self._keeper = keeper
        self.database = database
        self.version = -1
        self.generation = 0
        self.bytes = 0  # loaded by this query
        self._connection: Connection = None
        self._flat: set[str] = set()
        self._flat_uncommitted: set[str] = set()
        self._partials: dict[PartialColumns, str] = {}
        self._partials_made = 0
        self._remains: dict[str, int] = {}  # bytes of deleted rows in each table
        self._in_transaction = False
        self._loaded: dict[str, Loader] = {}  # everything that may hold rows of this query
        self._columns: dict[str, set[str]] = {}
        self._analyzed = False
        self._loader: Loader | None = None
        self._leased = False

    # --- lending, by the workspace -----------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        return self._connection is not None and not self._connection.is_closed()

    async def lend(self, wanted: int | None) -> None:
        """Makes the slot one of schema version `wanted` (None: any) unless it is."""
        self._leased = True
        if not self.usable or (wanted is not None and self.version != wanted):
            await self._make()

    async def _make(self) -> None:
        await self._disconnect()
        await self._keeper.clone(self)
        self._connection = await self._keeper.access.connect(
            self.database,
            session_replication_role="replica",  # no triggers while rows are loaded
            default_transaction_read_only="off",
            synchronous_commit="off",
            lock_timeout=f"{WORKSPACE_CLEAN_S_MAX}s",
        )
        self.version = await applied_version(self._connection)
        self.generation += 1
        self._flat.clear()
        self._partials.clear()
        self._remains.clear()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            with contextlib.suppress(Exception):
                await connection.close(timeout=1)

    # --- filling -----------------------------------------------------------------------------------------------------

    async def load(self, relation: Relation, columns: tuple[str, ...]) -> Loader:
        """A loader of these columns; the others are NULL. One at a time. May be called again for the same relation.

        No columns: rows of NULLs, for a query that only counts them.
        """
        name = quote_qualified(relation.schema, relation.name)
        self._check_free()
        with translated("a table was prepared"):
            if not self._in_transaction:
                await self._connection.execute("BEGIN")
                self._in_transaction = True
            if name not in self._flat and name not in self._flat_uncommitted:
                await self._connection.execute("SELECT hanse.flatten($1::text::regclass)", name)
                self._flat_uncommitted.add(name)
        self._columns.setdefault(name, set()).update(columns)
        if not columns:
            move = f"WITH moved AS (DELETE FROM hanse.no_columns RETURNING 1) INSERT INTO {name} SELECT FROM moved"
            return self._start("hanse", "no_columns", (), name, move)
        return self._start(relation.schema, relation.name, columns, name)

    async def create_partial(self, columns: PartialColumns) -> Loader:
        """A loader of a table of these (name, type) columns; `Loader.name` is what stands for hanse_partial in SQL."""
        self._check_free()
        assert not self._in_transaction, "partial rows and pulled tables are of different plans"
        table = self._partials.get(columns)
        if table is None or f"hanse.{table}" in self._loaded:
            table = await self._create_partial(columns)
        return self._start("hanse", table, tuple(name for name, _ in columns), f"hanse.{table}")

    async def _create_partial(self, columns: PartialColumns) -> str:
        self._partials_made += 1
        table = f"partial_{self._partials_made}"
        definition = ", ".join(f"{quote_identifier(name)} {kind}" for name, kind in columns)
        with translated("a table for partial rows was made"):
            while len(self._partials) >= WORKSPACE_PARTIALS_PER_SLOT_MAX:
                oldest = next(iter(self._partials))
                if f"hanse.{self._partials[oldest]}" in self._loaded:
                    break
                await self._connection.execute(f"DROP TABLE hanse.{self._partials.pop(oldest)}")
            await self._connection.execute(
                f"CREATE UNLOGGED TABLE hanse.{table} ({definition}); GRANT SELECT ON hanse.{table} TO PUBLIC"
            )
        self._partials[columns] = table
        return table

    def _check_free(self) -> None:
        assert self._leased, "acquire() comes first"
        assert self._loader is None or self._loader.done, "the loader before has not been finished"
        if not self.usable:
            raise PgError("08006", "the workspace's connection was lost")

    def _start(
        self, schema: str, table: str, columns: tuple[str, ...], name: str, finally_sql: str | None = None
    ) -> Loader:
        self._loader = Loader(self._connection, schema, table, columns, name, self._account, finally_sql)
        self._loaded[name] = self._loader
        return self._loader

    def _account(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self._keeper.bytes_max:
            raise PgError(
                "53400",
                f"the query needs more than {self._keeper.bytes_max} bytes of rows in the workspace",
                hint="Add conditions that leave fewer rows, or join on the tables' distribution columns.",
            )

    async def ready(self) -> None:
        """Lets other connections see what was loaded. Raises the server's PgError."""
        self._check_free()
        if not self._in_transaction:
            return
        with translated("loaded rows were committed"):
            for name, loader in self._loaded.items():
                if loader.bytes >= ANALYZE_BYTES_MIN and self._columns.get(name):
                    listed = ", ".join(map(quote_identifier, sorted(self._columns[name])))
                    await self._connection.execute(f"ANALYZE {name} ({listed})")
                    self._analyzed = True
            await self._connection.execute("COMMIT")
        self._in_transaction = False
        self._flat |= self._flat_uncommitted
        self._flat_uncommitted.clear()

    # --- emptying ----------------------------------------------------------------------------------------------------

    async def release(self) -> None:
        """Empties the slot and gives it back, whatever happened before. Raises nothing; may be called twice.

        Goes on when whoever waits for it is cancelled.
        """
        if self._leased:
            self._leased = False
            await asyncio.shield(self._keeper.spawn(self._release()))

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(WORKSPACE_CLEAN_S_MAX):
                await self._clean()
        except Exception as error:
            log.warning("slot %s could not be emptied and is made anew: %s", self.database, error)
            await self._throw_away()
        finally:
            self.bytes = 0
            self._in_transaction = self._analyzed = False
            self._loader = None
            self._loaded.clear()
            self._columns.clear()
            self._flat_uncommitted.clear()
            self._keeper.give_back(self)

    async def _clean(self) -> None:
        if self._loader is not None and not self._loader.done:
            await self._loader.abort()
        if not self._loaded and not self._in_transaction:
            return
        with translated("a slot was emptied"):
            if self._in_transaction:
                await self._connection.execute("ROLLBACK")
            tables = [name for name in self._loaded if name in self._flat or name.startswith("hanse.partial_")]
            if tables:
                await self._connection.execute("; ".join(map(self._emptying, tables)))  # one transaction
            if self._analyzed:
                await self._connection.execute(_FORGET, tables)

    def _emptying(self, table: str) -> str:
        """TRUNCATE makes new files, 1 ms at best and 6 on a busy disk; few rows are deleted in 0.2 ms. Their remains
        are scanned by later queries, so that they may not grow."""
        remains = self._remains.get(table, 0) + self._loaded[table].bytes
        if remains <= REMAINS_BYTES_MAX:
            self._remains[table] = remains
            return f"DELETE FROM {table}"
        self._remains.pop(table, None)
        return f"TRUNCATE {table}"

    async def _throw_away(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        with contextlib.suppress(PgError):  # then it is dropped before its next use
            await self._keeper.drop(self)


# Of a partitioned table, also the catch-all's.
_FORGET = """
DELETE FROM pg_statistic WHERE starelid IN (
    SELECT tree.relid FROM unnest($1::text[]) AS t (name)
    CROSS JOIN LATERAL (
        SELECT to_regclass(t.name)::oid UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(t.name)
    ) AS tree (relid))
"""
