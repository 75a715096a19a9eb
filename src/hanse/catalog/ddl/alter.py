"""ALTER TABLE and its relatives, RENAME, SET SCHEMA, OWNER TO.

PostgreSQL carries most changes of a table to its partitions, in the workspace to all of them and in a group to that
group's. What remains to be done here: a statement about a partition goes to its group only; owner, schema and rights of
partitions follow; the changed catalog is checked; and a new column must not get different values in different groups.

**A new column with a default that is not constant** (ADD COLUMN … DEFAULT now()) on a table whose rows are in several
groups: stable expressions are computed once, in the workspace, and the groups' rows are set to that value. Volatile
ones are left to the groups for sharded tables (each row has its own value anyway) and refused for reference tables,
whose copies would differ; sequences (serial, identity) are refused for both, since other groups' sequences are parked
(sequences.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ...core.errors import PgError, not_supported
from ...core.ids import quote_identifier, quote_literal
from ..model import Column, Kind, Relation, Snapshot
from . import text as surgery
from .checks import check_foreign_keys
from .marks import changes_options, mark_reference, unmark_reference
from .move import set_tablespace
from .partitions import attach, detach
from .places import groups_of, qualified, run, run_groups, run_system
from .placing import chosen_group
from .rights import mirror_everywhere, withdraw
from .sequences import numbers, park_elsewhere, park_remembered, remember, settle_new
from .steps import (
    Ask,
    DdlContext,
    DdlResult,
    Freeze,
    Identity,
    Introspect,
    Procedure,
    RunGroups,
    RunWorkspace,
    Step,
    everywhere,
)

SPREAD = (Kind.SHARDED, Kind.REFERENCE)


def alter_table(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    kinds = [command.subtype.name for command in stmt.cmds]
    if "AT_AttachPartition" in kinds:
        return (yield from attach(stmt, text, ctx))
    if "AT_DetachPartition" in kinds or "AT_DetachPartitionFinalize" in kinds:
        return (yield from detach(stmt, text, ctx))
    if "AT_SetTableSpace" in kinds:
        return (yield from set_tablespace(stmt, text, ctx))
    relation = ctx.find(stmt.relation)
    groups = yield from groups_of(stmt.relation, ctx)
    if relation is None or relation.kind in (Kind.VIEW, Kind.SEQUENCE):
        return (yield from _alter_other(relation, text, groups, ctx))
    for command in stmt.cmds:
        _check_index_tablespace(command, ctx)
    if relation.kind in SPREAD:
        yield Freeze((relation.identity,))
    plain = surgery.without_own_clauses(text)
    yield from _run_in_workspace(relation, plain, kinds)
    after: Snapshot = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, after)
    changed = after.relation_by_identity[relation.identity]
    if "AT_AddInherit" in kinds:
        _check_inherit(stmt, changed, ctx)
    added = _added_columns(relation, changed)
    fills = yield from _fills(changed, added, ctx)
    restarted = _identity_sequences(relation, after) if "AT_SetIdentity" in kinds else []
    yield from run_system(remember(s.identity for s in restarted), groups, workspace=False)
    yield from run_groups(everywhere(groups, surgery.as_plain_table(plain)))
    yield from _park_restarted(restarted, groups, ctx)
    yield from run_system(fills, groups, workspace=False)
    yield from settle_new(ctx.snapshot, after, changed.group or ctx.snapshot.home_group, ctx, groups=groups)
    yield from _follow(relation, changed, kinds, ctx)
    return DdlResult()


def _run_in_workspace(relation: Relation, text: str, kinds: list[str]) -> Generator[Step, Any, None]:
    marked = relation.kind is Kind.REFERENCE and changes_options(kinds)
    if marked:
        yield unmark_reference(relation.identity)
    yield RunWorkspace(text)
    if marked:
        yield mark_reference(relation.identity)


def _alter_other(relation: Relation | None, text: str, groups: tuple[str, ...], ctx: DdlContext) -> Procedure:
    """Views, sequences, indexes, and what does not exist (IF EXISTS)."""
    result = yield from run(text, ctx, groups=groups)
    if relation is not None and relation.kind is Kind.SEQUENCE:
        yield from park_elsewhere([relation], ctx)
    return result


def _check_index_tablespace(command: Any, ctx: DdlContext) -> None:
    """An index is where its table is; the name must still be one of ours, as PostgreSQL demands of its own."""
    space = getattr(command.def_, "indexspace", None)
    if space:
        chosen_group(space, ctx)


def _check_inherit(stmt: Any, relation: Relation, ctx: DdlContext) -> None:
    for command in stmt.cmds:
        parent = ctx.find(command.def_) if command.subtype.name == "AT_AddInherit" else None
        if parent is not None and (parent.kind, parent.group) != (Kind.SINGLE, relation.group):
            raise not_supported(
                f'table "{relation.name}" cannot inherit from "{parent.name}"',
                detail="Inheritance needs both tables in one group, and none of them replicated.",
            )


def _added_columns(before: Relation, after: Relation) -> list[Column]:
    return [column for column in after.columns if column.name not in before.column_by_name]


def _fills(relation: Relation, added: list[Column], ctx: DdlContext) -> Generator[Step, Any, list[str]]:
    """What sets the new columns alike in all groups (see above). Raises 0A000 where that cannot be."""
    unsteady = [column for column in added if column.default_volatile or column.identity or column.default_sequence]
    if relation.kind not in SPREAD or not unsteady:
        return []
    if not (yield from _has_rows(relation, ctx)):
        return []
    fills = []
    for column in unsteady:
        volatile = yield from _is_volatile(relation, column)
        if column.default_sequence is not None or column.identity:
            raise _cannot_fill(relation, column, "Its values come from a sequence.")
        if not volatile:
            fills.append((yield from _fill(relation, column)))
        elif relation.kind is Kind.REFERENCE:
            raise _cannot_fill(relation, column, "Its default is volatile, and the copies of the rows would differ.")
    if not fills:
        return []
    replica = "SET LOCAL session_replication_role = {}"
    return [replica.format("replica"), *fills, replica.format("origin")]


def _has_rows(relation: Relation, ctx: DdlContext) -> Generator[Step, Any, bool]:
    groups = relation.groups if relation.kind is Kind.SHARDED else ctx.groups[:1]
    if not groups:
        return False
    sql = f"SELECT EXISTS (SELECT FROM {qualified(relation.identity)})"
    answer = yield RunGroups(everywhere(groups, sql), system=True)
    return any(answer[group][0][0] in ("t", "true", True) for group in groups)


def _is_volatile(relation: Relation, column: Column) -> Generator[Step, Any, bool]:
    rows = yield Ask(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attrdef d"
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum,"
        " LATERAL regexp_matches(d.adbin::text, ':(?:opfuncid|funcid) (\\d+)', 'g') AS called(id)"
        " JOIN pg_catalog.pg_proc p ON p.oid = called.id[1]::oid AND p.provolatile = 'v'"
        f" WHERE d.adrelid = {quote_literal(qualified(relation.identity))}::pg_catalog.regclass"
        f" AND a.attname = {quote_literal(column.name)})"
    )
    return rows[0][0] in ("t", "true", True)


def _fill(relation: Relation, column: Column) -> Generator[Step, Any, str]:
    rows = yield Ask(f"SELECT ({column.default})::text")
    value = rows[0][0]
    literal = "NULL" if value is None else f"CAST({quote_literal(value)} AS {column.type_name})"
    return f"UPDATE {qualified(relation.identity)} SET {quote_identifier(column.name)} = {literal}"


def _cannot_fill(relation: Relation, column: Column, detail: str) -> PgError:
    return not_supported(
        f'cannot add column "{column.name}" with this default to table "{relation.name}", which has rows',
        detail=detail,
        hint="Add the column without a default, UPDATE the rows, then ALTER COLUMN … SET DEFAULT.",
    )


def _identity_sequences(relation: Relation, snapshot: Snapshot) -> list[Relation]:
    names = {column.default_sequence for column in relation.columns if column.identity}
    return [r for r in snapshot.relations if r.kind is Kind.SEQUENCE and qualified(r.identity) in names]


def _park_restarted(sequences: list[Relation], groups: tuple[str, ...], ctx: DdlContext) -> Generator[Step, Any, None]:
    """ALTER COLUMN … RESTART moved the copies of identity sequences, too: back to where they were."""
    number = numbers(ctx)
    for group in groups:
        found = park_remembered((s.identity for s in sequences), number[group])
        kept = tuple(sql for sql, s in zip(found, sequences, strict=True) if s.group != group)
        yield from run_groups({group: kept}, system=True)


def _follow(before: Relation, after: Relation, kinds: list[str], ctx: DdlContext) -> Generator[Step, Any, None]:
    """Partitions follow the table above them."""
    top = after.identity if after.kind is Kind.SHARDED else after.parent
    if top is None:
        return
    if after.kind is Kind.SHARDED and after.row_security and not before.row_security:
        yield from run_system([withdraw(top)], ctx.groups)
    elif before.owner != after.owner or before.row_security != after.row_security:
        yield from mirror_everywhere([top], ctx)


def rename(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """ALTER … RENAME of anything. Placement hangs on the oid, and stays."""
    if stmt.relation is None:
        return (yield from run(text, ctx))
    yield from _named_anew(stmt.relation, text, ctx)
    return DdlResult()


def _named_anew(target: Any, text: str, ctx: DdlContext) -> Generator[Step, Any, Relation | None]:
    """Gives what it was before. Statements on rows of several groups wait: they name the table."""
    relation = ctx.find(target)
    groups = yield from groups_of(target, ctx)
    if relation is not None and relation.kind in SPREAD:
        yield Freeze((relation.identity,))
    yield RunWorkspace(text)
    yield from run_groups(everywhere(groups, surgery.as_plain_table(text)))
    return relation


def set_schema(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """ALTER … SET SCHEMA. Partitions in the table's schema go with it, for Hanse made most of them, not the client."""
    if stmt.relation is None:
        return (yield from run(text, ctx))
    relation = yield from _named_anew(stmt.relation, text, ctx)
    if relation is not None and relation.kind is Kind.SHARDED:
        moved = (stmt.newschema, relation.name)
        yield from run_system([_partitions_to_schema(moved, relation.schema)], ctx.groups)
    return DdlResult()


def _partitions_to_schema(table: Identity, old_schema: str) -> str:
    body = f"""
DECLARE part pg_catalog.regclass;
BEGIN
    FOR part IN
        SELECT t.relid
        FROM pg_catalog.pg_partition_tree({quote_literal(qualified(table))}::pg_catalog.regclass) t
        JOIN pg_catalog.pg_class c ON c.oid = t.relid
        WHERE t.level > 0 AND c.relnamespace = {quote_literal(quote_identifier(old_schema))}::pg_catalog.regnamespace
    LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s SET SCHEMA %I', part, {quote_literal(table[0])});
    END LOOP;
END
"""
    return "DO " + quote_literal(body).strip()
