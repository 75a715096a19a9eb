"""Queries over several groups after a schema change in the same transaction: rows are joined in its own branch.

Nobody but the transaction sees its new tables and columns, so no slot can have them. Its branch in the schema-complete
database has: the pulled rows are loaded into the tables there, the text runs, and a savepoint takes everything back::

    SAVEPOINT hanse_room
    -- as the system: the table loses what would refuse rows, as in a slot (flatten.sql)
    SELECT hanse.flatten('t'); CREATE UNLOGGED TABLE hanse.pulled_7_1 AS SELECT a, b FROM t WITH NO DATA; GRANT INSERT …
    COPY hanse.pulled_7_1 FROM STDIN (FORMAT binary)
    -- as the system, because the user need not have any right on the table that a view of his reads
    INSERT INTO t (a, b) SELECT … FROM hanse.pulled_7_1; DROP TABLE hanse.pulled_7_1
    SET LOCAL transaction_read_only = on
    the client's text
    ROLLBACK TO SAVEPOINT hanse_room

The locks that this takes on empty tables end with the savepoint. What it does not do: statistics of the loaded rows
(they would stay), so that plans are worse than in a slot.

The same idea serves tables that a view reads with its owner's rights, in a transaction that may have written them
(`owners_rows`): a view of the owner's, made and taken back in the group's branch, is read by the user.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from pglast import ast, enums

from ..catalog.model import Relation
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.ids import quote_identifier, quote_literal, quote_qualified
from ..core.limits import WORKSPACE_BYTES_PER_QUERY_MAX
from ..engines.postgres.backend import Backend
from ..engines.postgres.copy_join import HEADER, TRAILER, CopyJoin
from ..engines.postgres.slots import Slot
from ..executor.copy_stream import end_copy, finish_copy_in, send_copy_data, start_copy_in
from ..executor.request import Places
from ..executor.room import Filling
from ..pgwire import frontend
from ..sql.parse import parse_one
from ..sql.render import clone, render

if TYPE_CHECKING:
    from .session import Session

Prove = Callable[[int, str], Awaitable[str]]  # (backend's pid, statement) → the proof that run_as_system wants
SAVEPOINT = "hanse_room"
_numbers = itertools.count()
_TAKE_BACK = f"ROLLBACK TO SAVEPOINT {SAVEPOINT}; RELEASE SAVEPOINT {SAVEPOINT}"


async def run_as_system(backend: Backend, prove: Prove, sql: str) -> None:
    proof = await prove(backend.pid, sql)
    await backend.query(f"SELECT hanse.run_as_system({quote_literal(sql)}, {quote_literal(proof)})")


class BranchRoom:
    """A `Room` in a transaction's branch; `close` takes everything back."""

    def __init__(self, branch: Backend, prove: Prove) -> None:
        self.branch = branch
        self.key = f"room {id(self)}"  # among what the session runs
        self._prove = prove
        self._open = False
        self._flat: set[str] = set()
        self._tables = 0
        self._bytes = 0
        self._loading = False  # a COPY is under way

    async def load(self, relation: Relation, columns: tuple[str, ...]) -> Filling:
        await self._begin()
        name = quote_qualified(relation.schema, relation.name)
        table = self._new_name("pulled")
        listed = ", ".join(map(quote_identifier, columns))
        flatten = "" if name in self._flat else f"SELECT hanse.flatten({quote_literal(name)}::pg_catalog.regclass); "
        self._flat.add(name)
        await self._system(
            f"{flatten}CREATE UNLOGGED TABLE {table} AS SELECT {listed} FROM {name} WITH NO DATA; "
            f"GRANT INSERT ON {table} TO PUBLIC"
        )
        target = f"{name} ({listed})" if columns else name
        return await self._fill(table, name, f"INSERT INTO {target} SELECT {listed} FROM {table}; DROP TABLE {table}")

    async def create_partial(self, columns: tuple[tuple[str, str], ...]) -> Filling:
        await self._begin()
        table = self._new_name("partial")
        definition = ", ".join(f"{quote_identifier(name)} {kind}" for name, kind in columns)
        await self._system(f"CREATE UNLOGGED TABLE {table} ({definition}); GRANT SELECT, INSERT ON {table} TO PUBLIC")
        return await self._fill(table, table, None)

    async def ready(self) -> None:
        await self._begin()
        await self._system("SET LOCAL session_replication_role = origin")
        await self.branch.query("SET LOCAL transaction_read_only = on")

    async def backend(self) -> Backend:
        return self.branch

    async def close(self) -> None:
        """Also after an error; the transaction as a whole has failed then, in the session's books."""
        if self._loading:
            self._loading = False
            self.branch.write(frontend.copy_fail(b"given up"))
            with contextlib.suppress(PgError):
                await end_copy(self.branch)
        if self._open and not self.branch.closed:
            self._open = False
            await self.branch.query(_TAKE_BACK)

    # --- for BranchFilling -------------------------------------------------------------------------------------

    def account(self, size: int) -> None:
        self._bytes += size
        if self._bytes > WORKSPACE_BYTES_PER_QUERY_MAX:
            raise PgError("53400", f"the query needs more than {WORKSPACE_BYTES_PER_QUERY_MAX} bytes of rows")

    async def finish(self, finally_sql: str | None) -> int:
        self._loading = False
        rows = await finish_copy_in(self.branch)
        if finally_sql is not None:
            await self._system(finally_sql)
        return rows

    # -----------------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        if not self._open:
            await self.branch.query(f"SAVEPOINT {SAVEPOINT}")
            self._open = True
            await self._system("SET LOCAL session_replication_role = replica")  # no event triggers, no triggers

    def _new_name(self, kind: str) -> str:
        self._tables += 1
        return f"hanse.{kind}_{self.branch.pid}_{self._tables}"

    async def _system(self, sql: str) -> None:
        await run_as_system(self.branch, self._prove, sql)

    async def _fill(self, table: str, name: str, finally_sql: str | None) -> Filling:
        await start_copy_in(self.branch, f"COPY {table} FROM STDIN (FORMAT binary)")
        self._loading = True
        await send_copy_data(self.branch, HEADER)
        return BranchFilling(self, name, finally_sql)


class BranchFilling:
    """A `Filling` whose rows go to the branch as CopyData."""

    def __init__(self, room: BranchRoom, name: str, finally_sql: str | None) -> None:
        self.name = name
        self._room = room
        self._finally_sql = finally_sql
        self._join = CopyJoin()

    def begin_source(self) -> None:
        self._join.begin_source()

    async def write(self, chunk: bytes) -> None:
        self._room.account(len(chunk))
        await send_copy_data(self._room.branch, self._join.feed(chunk))

    def end_source(self) -> None:
        self._join.end_source()

    async def finish(self) -> int:
        await send_copy_data(self._room.branch, TRAILER)
        return await self._room.finish(self._finally_sql)


def _session_settings(local: Sequence[str]) -> Iterator[str]:
    """The transaction's own settings, for a connection that is closed after one statement."""
    for sql in local:
        node = parse_one(sql.encode()).node
        if isinstance(node, ast.VariableSetStmt) and node.kind != enums.VariableSetKind.VAR_SET_MULTI:
            setting = clone(node)
            setting.is_local = False
            yield render(setting)
        elif isinstance(node, ast.SelectStmt):  # set_config, in our own words (`setconfig`)
            yield sql.replace(", True)", ", False)")


class SlotRoom:
    """A `Room` in a slot of the workspace, which others of the gateway use before and after."""

    def __init__(self, session: Session, slot: Slot) -> None:
        self._session = session
        self._slot = slot
        self.key = f"room {slot.database}"
        self._backend: Backend | None = None
        self.load = slot.load
        self.create_partial = slot.create_partial
        self.ready = slot.ready

    async def backend(self) -> Backend:
        self._backend = await self._session.acquire(WORKSPACE_PLACE, self._slot.database)
        if self._session.transaction is not None and self._session.transaction.local:
            for setting in _session_settings(self._session.transaction.local):
                await self._backend.query(setting)
        return self._backend

    async def close(self) -> None:
        if self._backend is not None:
            self._backend.close()  # the slot's database may be dropped before it is used again
        await self._slot.release()


# --- tables that a view reads with its owner's rights ----------------------------------------------------------------


@contextlib.asynccontextmanager
async def owners_rows(
    session: Session, places: Places, place: str, owner: str, select: str
) -> AsyncIterator[tuple[Backend, str]]:
    """See `Environment.owners_rows`. A transaction must see what it has written itself, and waits for its own locks in
    any other session; so it reads in its branch. Only where it may not write even a view is another session right.
    """
    transaction = session.transaction
    if owner == session.context.user:
        yield await places.backend(place), select
    elif transaction is not None and not transaction.modes.read_only:
        async with _through_view(await places.backend(place), session.gateway.system_proof, owner, select) as found:
            yield found
    else:
        async with _other_session(session, place, owner) as backend:
            yield backend, select


@contextlib.asynccontextmanager
async def _through_view(backend: Backend, prove: Prove, owner: str, select: str) -> AsyncIterator[tuple[Backend, str]]:
    view = f"hanse.pulled_as_{backend.pid}_{next(_numbers)}"
    await backend.query(f"SAVEPOINT {SAVEPOINT}")
    await run_as_system(
        backend,
        prove,
        f"CREATE VIEW {view} AS {select}; ALTER VIEW {view} OWNER TO {quote_identifier(owner)}; "
        f"GRANT SELECT ON {view} TO PUBLIC",
    )
    yield backend, f"SELECT * FROM {view}"
    await backend.query(_TAKE_BACK)


@contextlib.asynccontextmanager
async def _other_session(session: Session, place: str, owner: str) -> AsyncIterator[Backend]:
    backend = await session.gateway.system_backend(place)
    try:
        await backend.query(f"SET ROLE {quote_identifier(owner)}; BEGIN")
        yield backend
    finally:
        backend.close()
