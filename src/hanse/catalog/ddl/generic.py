"""Statements that every place runs as they are, and those that it cannot run yet.

Types, functions, operators, schemas, extensions and the like are schema, and schema is everywhere. Where such a
statement concerns a relation (an index, a trigger, a comment), it runs in the groups that have it.
"""

from __future__ import annotations

from typing import Any

from ...core.errors import PgError, not_supported
from ..model import Kind
from . import text as surgery
from .checks import check_foreign_keys
from .drop import _Name, _owner
from .places import groups_of, run, run_groups
from .placing import chosen_group
from .sequences import settle_new
from .steps import DdlContext, DdlResult, Freeze, Introspect, Notice, Procedure, RunWorkspace, everywhere


def everywhere_as_is(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    return (yield from run(text, ctx))


def on_relation(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """CREATE TRIGGER, RULE, POLICY, ALTER POLICY: where the relation is."""
    name = getattr(stmt, "relation", None) or stmt.table
    groups = yield from groups_of(name, ctx)
    relation = ctx.find(name)
    if relation is not None and relation.kind in (Kind.SHARDED, Kind.REFERENCE):
        yield Freeze((relation.identity,))
    return (yield from run(text, ctx, groups=groups))


def create_statistics(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    groups = yield from groups_of(stmt.relations[0], ctx)
    return (yield from run(text, ctx, groups=groups))


def create_index(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """CREATE INDEX. CONCURRENTLY cannot be part of a transaction over groups: writers wait while the index is built."""
    chosen_group(stmt.tableSpace, ctx)
    groups = yield from groups_of(stmt.relation, ctx)
    relation = ctx.find(stmt.relation)
    if stmt.concurrent and ctx.in_transaction_block:
        raise PgError("25001", "CREATE INDEX CONCURRENTLY cannot run inside a transaction block")
    if stmt.concurrent and relation is not None and relation.kind is Kind.SHARDED:
        raise not_supported(f'cannot create index on partitioned table "{relation.name}" concurrently')
    if stmt.concurrent:
        yield Notice(
            PgError("00000", "CONCURRENTLY is ignored: writers wait until the index is built", severity="NOTICE")
        )
    plain = surgery.without_word(surgery.without_own_clauses(text), "CONCURRENTLY")
    if relation is None or relation.kind is not Kind.MATERIALIZED_VIEW:
        return (yield from run(plain, ctx, groups=groups))
    yield RunWorkspace(plain)
    yield from run_groups(everywhere(groups, plain))
    return DdlResult()


def comment(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """COMMENT ON and SECURITY LABEL ON."""
    groups = ctx.groups
    name = _relation_of(stmt)
    if name is not None:
        groups = yield from groups_of(name, ctx)
    yield RunWorkspace(text)
    yield from run_groups(everywhere(groups, surgery.as_plain_table(text)))
    return DdlResult()


_OWN_NAME = ("OBJECT_TABLE", "OBJECT_VIEW", "OBJECT_MATVIEW", "OBJECT_INDEX", "OBJECT_SEQUENCE", "OBJECT_FOREIGN_TABLE")
_LAST_IS_ANOTHER = ("OBJECT_COLUMN", "OBJECT_TABCONSTRAINT", "OBJECT_TRIGGER", "OBJECT_RULE", "OBJECT_POLICY")


def _relation_of(stmt: Any) -> Any:
    """The relation that a comment's object is, or is a part of."""
    kind = stmt.objtype.name
    if kind in _OWN_NAME:
        parts = [part.sval for part in stmt.object]
        return _Name(parts[-2] if len(parts) > 1 else None, parts[-1])
    return _owner(stmt.object) if kind in _LAST_IS_ANOTHER else None


def create_schema(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    for element in stmt.schemaElts or ():
        if type(element).__name__ == "CreateStmt" and (element.partspec or element.options or element.tablespacename):
            raise not_supported(
                "CREATE SCHEMA with a partitioned or placed table is not supported",
                hint="Create the schema first, then the table.",
            )
    yield RunWorkspace(text)
    yield from run_groups(everywhere(ctx.groups, text))
    if stmt.schemaElts:
        after = yield Introspect()
        yield from check_foreign_keys(ctx.snapshot, after)
        yield from settle_new(ctx.snapshot, after, ctx.snapshot.home_group, ctx)
    return DdlResult()


_REFUSED = {
    "AlterTableMoveAllStmt": ("ALTER … ALL IN TABLESPACE", "Move tables one by one: ALTER TABLE … SET TABLESPACE."),
    "CreatedbStmt": ("CREATE DATABASE", "A cluster has one database; use schemas."),
    "DropdbStmt": ("DROP DATABASE", "A cluster has one database."),
    "AlterDatabaseStmt": ("ALTER DATABASE", "Use ALTER ROLE … SET for settings."),
    "AlterDatabaseSetStmt": ("ALTER DATABASE … SET", "Use ALTER ROLE … SET."),
    "AlterDatabaseRefreshCollStmt": ("ALTER DATABASE", None),
    "AlterSystemStmt": ("ALTER SYSTEM", "Use ALTER ROLE … SET for settings."),
    "CreateEventTrigStmt": ("CREATE EVENT TRIGGER", "It would fire once in every group and in the workspace."),
    "AlterEventTrigStmt": ("ALTER EVENT TRIGGER", None),
    "CreateFdwStmt": ("CREATE FOREIGN DATA WRAPPER", None),
    "AlterFdwStmt": ("ALTER FOREIGN DATA WRAPPER", None),
    "CreateForeignServerStmt": ("CREATE SERVER", None),
    "AlterForeignServerStmt": ("ALTER SERVER", None),
    "CreateForeignTableStmt": ("CREATE FOREIGN TABLE", None),
    "CreateUserMappingStmt": ("CREATE USER MAPPING", None),
    "AlterUserMappingStmt": ("ALTER USER MAPPING", None),
    "DropUserMappingStmt": ("DROP USER MAPPING", None),
    "ImportForeignSchemaStmt": ("IMPORT FOREIGN SCHEMA", None),
    "CreatePublicationStmt": ("CREATE PUBLICATION", None),
    "AlterPublicationStmt": ("ALTER PUBLICATION", None),
    "CreateSubscriptionStmt": ("CREATE SUBSCRIPTION", None),
    "AlterSubscriptionStmt": ("ALTER SUBSCRIPTION", None),
    "DropSubscriptionStmt": ("DROP SUBSCRIPTION", None),
}

REFUSED = tuple(_REFUSED)


def refuse(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    name, hint = _REFUSED[type(stmt).__name__]
    raise not_supported(f"{name} is not supported", hint=hint)
    yield  # a generator, like its neighbours
