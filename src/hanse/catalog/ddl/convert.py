"""create_distributed_table, create_reference_table, undistribute_table: a table in another form, with rows and name.

A table cannot be turned into a partitioned one, so it is made again beside the old one:

1. hold everybody else's statements on it (`Freeze`), and read its definition;
2. drop what hangs on it and would stop it from being dropped (views, foreign keys of both directions, statistics), and
move    the old table to schema `hanse_conversion`: its name, its indexes' and its constraints' names are free then;
3. make the new table, its identity columns and its shards; move the rows; then keys and indexes;
4. put back foreign keys, triggers, rules, policies, rights, comments, views; drop the old table.

The same statements run in the workspace and in every group, in one transaction: nobody ever sees it half done. Foreign
keys are checked like those of any other statement, on the catalog as it would be: one that would span groups is
refused.

Not carried over, and therefore refused: inheritance, typed tables, publications, security labels, materialized views
over the table. A function whose signature names the table's row type is PostgreSQL's own error (2BP01) at the end.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from ...core.errors import PgError, not_supported
from ...core.ids import quote_identifier, quote_literal
from ..model import Kind, Relation, Snapshot, Strategy
from .checks import check_foreign_keys, check_key
from .definition import Definition, capture, create_table
from .marks import mark_reference, unmark_reference
from .partitions import move_rows
from .places import FORGET_DROPPED, place, qualified, run_groups, run_system, unplace
from .rights import mirror_everywhere
from .sequences import numbers, park, position, set_position
from .shards import Layout, checked_count, layout_for, make_shards
from .steps import Ask, DdlContext, DdlResult, Freeze, Identity, Introspect, Procedure, RunGroups, Step
from .tables import _parts, colocated_table

SCHEMA = "hanse_conversion"


def find_table(name: str, ctx: DdlContext) -> Generator[Step, Any, Relation]:
    """The table that a function's argument names. Raises 42P01, 42809 and 42501 as PostgreSQL words them."""
    parts = _parts(name)
    relation = ctx.snapshot.find(parts[-2] if len(parts) > 1 else None, parts[-1], ctx.search_path)
    if relation is None:
        raise PgError("42P01", f'relation "{name}" does not exist')
    if relation.kind not in (Kind.SINGLE, Kind.REFERENCE, Kind.SHARDED):
        raise PgError("42809", f'"{relation.name}" is not a table')
    rows = yield Ask(
        f"SELECT pg_catalog.pg_has_role({quote_literal(ctx.user)}, {quote_literal(relation.owner)}, 'USAGE')"
    )
    if rows[0][0] not in ("t", "true", True):
        raise PgError("42501", f"must be owner of table {relation.name}")
    return relation


def result(function: str) -> DdlResult:
    return DdlResult(tag="SELECT 1", columns=(function,), rows=(("",),))


def create_distributed_table(
    table: str, column: str, ctx: DdlContext, *, colocate_with: str | None = None, shard_count: int | None = None
) -> Procedure:
    relation = yield from find_table(table, ctx)
    if relation.kind is not Kind.SINGLE:
        raise PgError("42P16", f'table "{relation.name}" is already distributed')
    if column not in relation.column_by_name:
        raise PgError("42703", f'column "{column}" of relation "{relation.name}" does not exist')
    count = None if shard_count is None else checked_count(shard_count)
    partner = colocated_table(colocate_with, ctx)
    key = relation.column_by_name[column]
    draft = _as_sharded(relation, column, key.type_oid)
    layout = layout_for(draft, ctx.snapshot, ctx, count=count, colocate_with=partner)
    yield from _rebuild(relation, ctx, partition_by=f"HASH ({quote_identifier(column)})", layout=layout)
    return result("create_distributed_table")


def _as_sharded(relation: Relation, column: str, type_oid: int) -> Relation:
    return Relation(
        schema=relation.schema,
        name=relation.name,
        kind=Kind.SHARDED,
        columns=relation.columns,
        strategy=Strategy.HASH,
        key=(column,),
        key_types=(type_oid,),
        foreign_keys=relation.foreign_keys,
    )


def create_reference_table(table: str, ctx: DdlContext) -> Procedure:
    relation = yield from find_table(table, ctx)
    if relation.kind is not Kind.SINGLE:
        raise PgError("42P16", f'table "{relation.name}" is already distributed')
    assert relation.group is not None
    yield Freeze((relation.identity,))
    yield from _refuse_obstacles((yield from capture(relation.identity, ctx)), only=("it takes part in inheritance",))
    yield place(relation.identity, Kind.REFERENCE, None)
    yield mark_reference(relation.identity)
    after: Snapshot = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, after)
    others = tuple(group for group in ctx.groups if group != relation.group)
    if others:
        yield from move_rows(relation, (relation.group,), relation.identity, others, ctx)
    return result("create_reference_table")


def undistribute_table(table: str, ctx: DdlContext) -> Procedure:
    """Back to a single table in the home group."""
    relation = yield from find_table(table, ctx)
    home = ctx.snapshot.home_group
    if relation.kind is Kind.SINGLE:
        raise PgError("42P16", f'table "{relation.name}" is not distributed')
    if relation.kind is Kind.SHARDED:
        yield from _rebuild(relation, ctx, partition_by=None, layout=())
        return result("undistribute_table")
    yield Freeze((relation.identity,))
    yield unplace(relation.identity)
    yield unmark_reference(relation.identity)
    after: Snapshot = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, after)
    others = tuple(group for group in ctx.groups if group != home)
    yield from run_system(_emptied(relation.identity), others, workspace=False)
    return result("undistribute_table")


def _emptied(identity: Identity) -> list[str]:
    """Rows go without triggers and without what foreign keys do on DELETE: they live on elsewhere."""
    return [
        "SET LOCAL session_replication_role = replica",
        f"DELETE FROM ONLY {qualified(identity)}",
        "SET LOCAL session_replication_role = origin",
    ]


def _refuse_obstacles(definition: Definition, *, only: tuple[str, ...] | None = None) -> Generator[Step, Any, None]:
    found = [what for what in definition.obstacles if only is None or what in only]
    if found:
        raise not_supported(f'table "{definition.name}" cannot be converted', detail=f"Reason: {found[0]}.")
    return
    yield  # a generator, like its neighbours


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An identity sequence: its state, and the group where its values are drawn."""

    identity: Identity
    group: str
    last_value: str
    is_called: str


def _rebuild(
    relation: Relation, ctx: DdlContext, *, partition_by: str | None, layout: Layout
) -> Generator[Step, Any, None]:
    definition = yield from capture(relation.identity, ctx)
    yield from _refuse_obstacles(definition)
    touched = {(key.schema, key.name) for key in definition.foreign_keys} | {relation.identity}
    yield Freeze(tuple(sorted(touched)))
    drawn = yield from _positions(definition, ctx)
    old = (SCHEMA, relation.name)
    yield from run_system(_aside(definition), ctx.groups)
    yield from run_system(_readable(old, definition, ctx), ctx.groups, workspace=False)
    yield from run_system(_new_table(definition, partition_by), ctx.groups)
    yield from _place_new(relation, definition, layout, ctx)
    after: Snapshot = yield Introspect()
    if partition_by is not None:
        yield from check_key(after.relation_by_identity[relation.identity])
    yield from _rows(relation, old, partition_by, ctx)
    yield from run_system(_finish(definition, partitioned=partition_by is not None), ctx.groups)
    # By themselves: what is above made more indexes in the workspace, and the views' types must have equal OIDs.
    yield from run_system((sql for view in definition.views for sql in view.create), ctx.groups)
    yield from _restore_sequences(drawn, ctx)
    yield from run_system([f"DROP TABLE {qualified(old)}", f"DROP SCHEMA {SCHEMA}"], ctx.groups)
    yield FORGET_DROPPED
    if partition_by is not None:
        yield from mirror_everywhere([relation.identity], ctx)
    final = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, final)


def _positions(definition: Definition, ctx: DdlContext) -> Generator[Step, Any, list[_Drawn]]:
    found = []
    for entry in definition.identities:
        identity = (entry.schema, entry.name)
        sequence = ctx.snapshot.relation_by_identity[identity]
        group = sequence.group or ctx.snapshot.home_group
        last_value, is_called = yield from position(identity, group)
        found.append(_Drawn(identity, group, last_value, is_called))
    return found


def _aside(definition: Definition) -> list[str]:
    table = qualified(definition.identity)
    return [
        *(view.drop for view in reversed(definition.views)),
        *(key.drop for key in definition.foreign_keys),
        *(pair.drop for pair in definition.statistics),
        *(serial.disown for serial in definition.serials),
        f"CREATE SCHEMA {SCHEMA}",
        f"ALTER TABLE {table} SET SCHEMA {SCHEMA}",
    ]


def _readable(old: Identity, definition: Definition, ctx: DdlContext) -> list[str]:
    """The rows are read as the user, who need not be a superuser, and whose own rights on the table may be revoked."""
    user = quote_identifier(ctx.user)
    return [
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {user}",
        f"GRANT SELECT ON {qualified(old)} TO {quote_identifier(definition.owner)}, {user}",
    ]


def _new_table(definition: Definition, partition_by: str | None) -> list[str]:
    return [
        create_table(definition, partition_by=partition_by),
        f"ALTER TABLE {qualified(definition.identity)} OWNER TO {quote_identifier(definition.owner)}",
        *definition.column_settings,
        *(identity.add for identity in definition.identities),
    ]


def _place_new(
    relation: Relation, definition: Definition, layout: Layout, ctx: DdlContext
) -> Generator[Step, Any, None]:
    for entry in definition.identities:
        sequence = ctx.snapshot.relation_by_identity[(entry.schema, entry.name)]
        if sequence.group not in (None, ctx.snapshot.home_group):
            yield place(sequence.identity, Kind.SEQUENCE, sequence.group)
    if layout:
        storage = f"WITH ({definition.storage})" if definition.storage else ""
        yield from make_shards(
            relation.identity, layout, ctx, storage=storage, persistence="UNLOGGED" if definition.unlogged else ""
        )


def _rows(relation: Relation, old: Identity, partition_by: str | None, ctx: DdlContext) -> Generator[Step, Any, None]:
    source = Relation(schema=old[0], name=old[1], kind=relation.kind, columns=relation.columns)
    if partition_by is not None:
        assert relation.group is not None
        yield from move_rows(source, (relation.group,), relation.identity, None, ctx)
        return
    if relation.groups:
        yield from move_rows(source, relation.groups, relation.identity, (ctx.snapshot.home_group,), ctx)


def _finish(definition: Definition, *, partitioned: bool) -> list[str]:
    return [
        *definition.constraints,
        *definition.indexes,
        *(pair.create for pair in definition.statistics),
        *(serial.own for serial in definition.serials),
        *(key.create for key in definition.foreign_keys),
        *([definition.replica_identity] if definition.replica_identity and not partitioned else []),
        *([_partitions_identity(definition)] if definition.replica_identity and partitioned else []),
        *definition.behaviour,
        *definition.rights,
        *definition.comments,
    ]


def _partitions_identity(definition: Definition) -> str:
    """REPLICA IDENTITY is each partition's own; an index is named by what it covers, since each has another name."""
    assert definition.replica_identity is not None
    table = quote_literal(qualified(definition.identity))
    form = definition.replica_identity.split("REPLICA IDENTITY ", 1)[1]
    change = f"EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY {form}', part)"
    if form.startswith("USING INDEX"):
        parent_index = quote_literal(f"{quote_identifier(definition.schema)}.{form.removeprefix('USING INDEX ')}")
        change = (
            "EXECUTE pg_catalog.format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', part, (SELECT x.relname"
            " FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class x ON x.oid = i.inhrelid"
            " JOIN pg_catalog.pg_index k ON k.indexrelid = x.oid"
            f" WHERE k.indrelid = part AND i.inhparent = {parent_index}::pg_catalog.regclass))"
        )
    body = (
        "DECLARE part pg_catalog.regclass; BEGIN FOR part IN SELECT t.relid FROM pg_catalog.pg_partition_tree("
        f"{table}::pg_catalog.regclass) t WHERE t.isleaf LOOP {change}; END LOOP; END"
    )
    return "DO " + quote_literal(body).strip()


def _restore_sequences(drawn: list[_Drawn], ctx: DdlContext) -> Generator[Step, Any, None]:
    """Identity goes on where it was; copies in the other groups are parked."""
    number = numbers(ctx)
    for sequence in drawn:
        before = f"(SELECT last_value FROM {qualified((SCHEMA, sequence.identity[1]))})"  # the old copy's position
        sql = {
            group: (park(sequence.identity, number[group], before=before),)
            for group in ctx.groups
            if group != sequence.group
        }
        sql[sequence.group] = (set_position(sequence.identity, sequence.last_value, sequence.is_called),)
        yield RunGroups(sql, system=True)


__all__ = ["create_distributed_table", "create_reference_table", "run_groups", "undistribute_table"]
