"""Types made by a schema change get equal OIDs in every place: how a transaction's branches are kept in step.

`catalog/type_oids.py` says why and has the statements. A procedure of `catalog.ddl` runs in stages: some statements in the
schema-complete database, then some in the groups, perhaps the same again. All counters are brought to one value before
each stage; at the end of the stage the new types are compared by name::

    CREATE TABLE t …         workspace   g1       g2
    counters found               20118   20310    20177
    moved to                     20310   20310    20310
    type t, type t[]       20313,20312   20313,20312 …

Where a group's differ, because a session elsewhere drew from the same counter or because a counter was too far ahead to
be caught up with, they are given the OIDs that the schema-complete database has (`catalog/renumber.py`). Where that is
not possible, `TypesDiffer` undoes the statement by its savepoint, and it is run again further along. The log of schema
changes gets the position and the OIDs, for other nodes' workspaces.

What it does not do: a type that a table's own CHECK refers to (a whole row) is only tried again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..catalog.renumber import TAKEN, TREES_KNOW, renumber_sql
from ..catalog.type_oids import (
    OIDS_AHEAD,
    TURN,
    TypeName,
    advance_sql,
    latest,
    made_sql,
    named_sql,
    position_sql,
    read_sql,
    taken_sql,
)
from ..config import WORKSPACE_PLACE
from ..core.errors import PgError
from ..core.ids import quote_literal
from ..engines.postgres.backend import Backend
from ..engines.postgres.replay import types_are, types_from
from .transaction import SchemaChange, Transaction

if TYPE_CHECKING:
    from .gateway import Gateway

log = logging.getLogger(__name__)

STATEMENT_ATTEMPTS_MAX = 8

MAKERS = frozenset(
    (
        "CreateStmt", "CreateTableAsStmt", "SelectStmt", "ViewStmt", "CompositeTypeStmt", "CreateEnumStmt",
        "CreateRangeStmt", "CreateDomainStmt", "DefineStmt", "CreateExtensionStmt", "AlterExtensionStmt", "CreateSchemaStmt",
    )
)  # fmt: skip
_MAKING_COMMANDS = frozenset(("AT_DetachPartition",))  # the other groups get an empty copy


def makes_types(statement: Any) -> bool:
    """Whether the statement may make types in any place."""
    if type(statement).__name__ == "AlterTableStmt":
        return any(command.subtype.name in _MAKING_COMMANDS for command in statement.cmds)
    return type(statement).__name__ in MAKERS


class TypesDiffer(Exception):
    """The places made a type with different OIDs, and they cannot be changed: the statement must be undone."""


def unequal() -> PgError:
    return PgError(
        "40001",
        "could not give new types the same OIDs in all groups",
        detail="Other sessions drew from the groups' OID counters at the same time.",
        hint="The transaction might succeed if retried.",
    )


Found = dict[TypeName, tuple[int, bool]]  # type → its OID, and whether it is new


class Alignment:
    """The counters of one statement's places. `begin_stage` before each stage, `end` when the statement has run.

    `attempt` counts from 0: later ones begin further along, past what stood in the way.
    """

    def __init__(self, gateway: Gateway, transaction: Transaction, change: SchemaChange, attempt: int = 0) -> None:
        self._gateway = gateway
        self._backends = {place: branch.backend for place, branch in transaction.branches.items()}
        self._change = change
        self._ahead = OIDS_AHEAD << 2 * attempt if attempt or not change.statements else 0
        self._since: dict[str, int] | None = None

    async def begin_stage(self) -> None:
        await self.end()
        positions = await self._positions(read_sql())
        target = (latest(positions.values()) + self._ahead) % TURN
        behind = [place for place, position in positions.items() if position != target]
        self._since = positions | await self._positions(advance_sql(target), behind)
        self._ahead = 0
        self._change.statements.append(types_from(self._since[WORKSPACE_PLACE]))

    async def end(self) -> None:
        """Raises TypesDiffer."""
        since, self._since = self._since, None
        if since is None:
            return
        found = await self._ask({place: made_sql(since[place]) for place in since})
        if not any(found.values()):
            return
        if any(types != found[WORKSPACE_PLACE] for types in found.values()):
            await self._settle({name for types in found.values() for name in types}, since)
        if found[WORKSPACE_PLACE]:
            made = tuple((*name, oid) for name, (oid, _) in sorted(found[WORKSPACE_PLACE].items()))
            self._change.statements.append(types_are(made))

    async def _ask(self, sql: dict[str, str]) -> dict[str, Found]:
        rows = await asyncio.gather(*(self._backends[place].query(text) for place, text in sql.items()))
        return {
            place: {(str(row[0]), str(row[1])): (int(row[2] or 0), row[3] == "t") for row in answer}
            for place, answer in zip(sql, rows, strict=True)
        }

    async def _settle(self, names: Iterable[TypeName], since: dict[str, int]) -> None:
        """Every place gets the OIDs of the schema-complete database, which has every type."""
        ordered = sorted(names)
        found = await self._ask({place: named_sql(ordered, since[place]) for place in since})
        wanted = found.pop(WORKSPACE_PLACE)
        for place, types in found.items():
            moves: dict[int, int] = {}
            for name, (oid, new) in types.items():
                if name not in wanted or wanted[name][0] == oid:
                    continue
                if new:
                    moves[oid] = wanted[name][0]
                else:
                    log.warning("type %s.%s has OID %d in %s only", *name, oid, place)
            if moves:
                await self._renumber(place, moves)

    async def _renumber(self, place: str, moves: dict[int, int]) -> None:
        taken = {int(row[0] or 0) for row in await self._backends[place].query(taken_sql(moves.values()))}
        if taken - moves.keys():
            raise TypesDiffer(f"in {place}, where {sorted(taken - moves.keys())} are in use")
        try:
            await self._as_system(place, renumber_sql(moves))
        except PgError as error:
            if error.sqlstate in (TAKEN, TREES_KNOW):
                raise TypesDiffer(f"in {place}: {error.message}") from error
            raise

    async def _as_system(self, place: str, sql: str, then: str = "") -> list[tuple[str | None, ...]]:
        backend: Backend = self._backends[place]
        proof = await self._gateway.system_proof(backend.pid, sql)
        return await backend.query(f"SELECT hanse.run_as_system({quote_literal(sql)}, {quote_literal(proof)}){then}")

    async def _positions(self, sql: str, places: list[str] | None = None) -> dict[str, int]:
        chosen = list(self._backends) if places is None else places
        found = await asyncio.gather(*(self._as_system(place, sql, f"; {position_sql()}") for place in chosen))
        return {place: int(rows[0][0] or 0) for place, rows in zip(chosen, found, strict=True)}
