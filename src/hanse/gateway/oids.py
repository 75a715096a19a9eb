"""Types made by a schema change get equal OIDs in every place: how a transaction's branches are kept in step.

`catalog/type_oids.py` says why and has the statements. A procedure of `catalog.ddl` runs in stages: some statements in the
schema-complete database, then some in the groups, perhaps the same again. All counters are brought to one value before
each stage; at the end of the stage the new types are compared by name::

    CREATE TABLE t …         workspace   g1       g2
    counters found               20118   20310    20177
    moved to                     20310   20310    20310
    type t, type t[]       20313,20312   20313,20312 …

Where they differ, because a session elsewhere drew from the same counter, `TypesDiffer` undoes the statement by its
savepoint, and it is run again. The log of schema changes gets the value, too, from which other nodes' workspaces start.

What it does not do: partitions made by name in one group only are not compared; a table that is detached from its
parent keeps the types it had as a partition.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ..catalog.type_oids import OIDS_AHEAD, TURN, advance_sql, latest, made_sql, position_sql, read_sql
from ..core.errors import PgError
from ..core.ids import quote_literal
from ..engines.postgres.backend import Backend
from ..engines.postgres.replay import types_from
from .transaction import SchemaChange, Transaction

if TYPE_CHECKING:
    from .gateway import Gateway

ALIGNMENTS_MAX = 20
STATEMENT_ATTEMPTS_MAX = 4

MAKERS = frozenset(
    (
        "CreateStmt", "CreateTableAsStmt", "SelectStmt", "ViewStmt", "CompositeTypeStmt", "CreateEnumStmt",
        "CreateRangeStmt", "CreateDomainStmt", "DefineStmt", "CreateExtensionStmt", "AlterExtensionStmt", "CreateSchemaStmt",
    )
)  # fmt: skip


class TypesDiffer(Exception):
    """The places made a type with different OIDs: the statement must be undone."""


def unequal() -> PgError:
    return PgError(
        "40001",
        "could not give new types the same OIDs in all groups",
        detail="Other sessions drew from the groups' OID counters at the same time.",
        hint="The transaction might succeed if retried.",
    )


class Alignment:
    """The counters of one statement's places. `begin_stage` before each stage, `end` when the statement has run."""

    def __init__(self, gateway: Gateway, transaction: Transaction, change: SchemaChange) -> None:
        self._gateway = gateway
        self._backends = {place: branch.backend for place, branch in transaction.branches.items()}
        self._change = change
        self._since: int | None = None

    async def begin_stage(self) -> None:
        await self.end()
        positions = await self._positions(read_sql())
        target = latest(positions.values())
        if not self._change.statements:
            target = (target + OIDS_AHEAD) % TURN
        for _ in range(ALIGNMENTS_MAX):
            if set(positions.values()) == {target}:
                break
            behind = [place for place, position in positions.items() if position != target]
            positions |= await self._positions(advance_sql(target), behind)
            target = latest(positions.values())
        else:
            raise unequal()
        self._since = target
        self._change.statements.append(types_from(target))

    async def end(self) -> None:
        """Raises TypesDiffer."""
        if self._since is None:
            return
        sql = made_sql(self._since)
        rows = await asyncio.gather(*(backend.query(sql) for backend in self._backends.values()))
        oids: dict[tuple[str | None, str | None], str | None] = {}
        for schema, name, oid in (row for place in rows for row in place):
            if oids.setdefault((schema, name), oid) != oid:
                raise TypesDiffer(f"{schema}.{name}")

    async def _positions(self, sql: str, places: list[str] | None = None) -> dict[str, int]:
        chosen = list(self._backends) if places is None else places
        found = await asyncio.gather(*(self._position(self._backends[place], sql) for place in chosen))
        return dict(zip(chosen, found, strict=True))

    async def _position(self, backend: Backend, sql: str) -> int:
        proof = await self._gateway.system_proof(backend.pid, sql)
        run = f"SELECT hanse.run_as_system({quote_literal(sql)}, {quote_literal(proof)})"
        rows = await backend.query(f"{run}; {position_sql()}")
        return int(rows[0][0] or 0)
