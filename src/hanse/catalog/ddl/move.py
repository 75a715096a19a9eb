"""ALTER TABLE … SET TABLESPACE: the rows of a single table, or of a shard, go to another group.

One transaction copies the rows, records the placement and empties the old place; other sessions wait (`Freeze`). It is
not the online move that comes later, but it is whole.

A shard is made again in the new group from its definition, filled, and dropped in the old one. Shards of tables that
foreign keys join are refused: both tables' shards would have to move together.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ...core.errors import PgError, not_supported
from ...core.ids import quote_identifier, quote_literal
from ..model import Kind, Relation, Snapshot
from .checks import check_foreign_keys, linked
from .partitions import move_rows
from .places import place, qualified, run_groups, run_system
from .placing import chosen_group
from .rights import mirror_everywhere
from .sequences import move as move_sequence
from .sequences import owned_by
from .steps import Ask, DdlContext, DdlResult, Freeze, Identity, Introspect, Procedure, RunWorkspace, Step

_INDEXES = """
SELECT pg_catalog.pg_get_indexdef(i.indexrelid)
FROM pg_catalog.pg_index i
WHERE i.indrelid = {relation}::pg_catalog.regclass
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = i.indexrelid)
"""

_PART = """
SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid), pg_catalog.array_to_string(c.reloptions, ', '),
       c.relpersistence, c.relkind,
       (SELECT count(*) FROM pg_catalog.pg_constraint k
        WHERE k.conrelid = c.oid AND k.conparentid = 0 AND k.conislocal AND k.contype IN ('c', 'f', 'x'))
       + (SELECT count(*) FROM pg_catalog.pg_trigger t
          WHERE t.tgrelid = c.oid AND t.tgparentid = 0 AND NOT t.tgisinternal)
       + (SELECT count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid)
       + (SELECT count(*) FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid)
       + (SELECT count(*) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
          WHERE d.refobjid = c.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass)
FROM pg_catalog.pg_class c WHERE c.oid = {relation}::pg_catalog.regclass
"""


def set_tablespace(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    command = next(c for c in stmt.cmds if c.subtype.name == "AT_SetTableSpace")
    wanted = chosen_group(command.name, ctx)
    relation = ctx.find(stmt.relation)
    if relation is None and not stmt.missing_ok and stmt.objtype.name == "OBJECT_TABLE":
        raise PgError("42P01", f'relation "{stmt.relation.relname}" does not exist')
    if wanted is None or relation is None:
        return DdlResult()  # pg_default means nothing here; an index is where its table is
    if len(stmt.cmds) > 1:
        raise not_supported("SET TABLESPACE cannot be combined with other changes", hint="Use two statements.")
    yield from _check_owner(relation, ctx)
    if relation.kind is Kind.SINGLE:
        yield from _move_table(relation, wanted, ctx)
    elif relation.kind is Kind.PARTITION:
        yield from _move_shard(relation, wanted, ctx)
    else:
        raise _not_movable(relation)
    return DdlResult()


def _not_movable(relation: Relation) -> PgError:
    if relation.kind is Kind.SHARDED:
        return not_supported(
            f'"{relation.name}" is in several groups', hint="ALTER TABLE each partition SET TABLESPACE instead."
        )
    return not_supported(f'"{relation.name}" is in every group')


def _check_owner(relation: Relation, ctx: DdlContext) -> Generator[Step, Any, None]:
    user, owner = quote_literal(ctx.user), quote_literal(relation.owner)
    rows = yield Ask(f"SELECT pg_catalog.pg_has_role({user}, {owner}, 'USAGE')")
    if rows[0][0] not in ("t", "true", True):
        raise PgError("42501", f"must be owner of table {relation.name}")


def _move_table(relation: Relation, group: str, ctx: DdlContext) -> Generator[Step, Any, None]:
    old = relation.group
    assert old is not None
    yield Freeze((relation.identity,))
    yield place(relation.identity, Kind.SINGLE, group)
    if old == group:
        return
    after: Snapshot = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, after)
    yield from _check_not_inherited(relation)
    yield from move_rows(relation, (old,), relation.identity, (group,), ctx)
    yield from run_system(
        [
            "SET LOCAL session_replication_role = replica",
            f"DELETE FROM ONLY {qualified(relation.identity)}",
            "SET LOCAL session_replication_role = origin",
        ],
        (old,),
        workspace=False,
    )
    yield from _move_sequences(relation.identity, group, ctx)


def _check_not_inherited(relation: Relation) -> Generator[Step, Any, None]:
    oid = f"{quote_literal(qualified(relation.identity))}::pg_catalog.regclass"
    rows = yield Ask(f"SELECT count(*) FROM pg_catalog.pg_inherits WHERE {oid} IN (inhrelid, inhparent)")
    if str(rows[0][0]) != "0":
        raise not_supported(f'"{relation.name}" takes part in inheritance and cannot be moved')


def _move_sequences(table: Identity, group: str, ctx: DdlContext) -> Generator[Step, Any, None]:
    """Sequences of a single table are drawn where it is."""
    for row in (yield owned_by(table)):
        sequence = ctx.snapshot.relation_by_identity[(row[0], row[1])]
        if sequence.group != group:
            yield from move_sequence(sequence, group, ctx)


def _move_shard(relation: Relation, group: str, ctx: DdlContext) -> Generator[Step, Any, None]:
    old, top = relation.group, relation.parent
    assert old is not None and top is not None
    if old == group:
        return
    parent = ctx.snapshot.relation_by_identity[top]
    if not any((shard.schema, shard.name) == relation.identity for shard in parent.shards):
        raise not_supported(f'"{relation.name}" is below a shard and moves with it', hint="Move the shard.")
    if linked(parent, ctx.snapshot):
        raise not_supported(
            f'"{relation.name}" cannot be moved: foreign keys join "{parent.name}" with other sharded tables',
            detail="Shards that may hold equal keys must stay in one group.",
        )
    yield Freeze((top, relation.identity))
    statements = yield from _remake(relation, parent, ctx)
    yield place(relation.identity, Kind.PARTITION, group)
    yield from run_groups({group: tuple(statements)}, system=True)
    yield from mirror_everywhere([top], ctx)  # first: the user writes the rows as the owner
    yield from move_rows(relation, (old,), relation.identity, (group,), ctx)
    yield from run_groups({old: (f"DROP TABLE {qualified(relation.identity)}",)}, system=True)


def _remake(relation: Relation, parent: Relation, ctx: DdlContext) -> Generator[Step, Any, list[str]]:
    """CREATE TABLE … PARTITION OF and the shard's own indexes; what else it has of its own is refused."""
    name = qualified(relation.identity)
    row = (yield Ask(_PART.format(relation=quote_literal(name))))[0]
    bound, storage, persistence, relkind, own = row
    if relkind != "r" or str(own) != "0":
        raise not_supported(
            f'"{relation.name}" cannot be moved',
            detail="It is partitioned itself, or has constraints, triggers, policies, rules or views of its own.",
        )
    unlogged = "UNLOGGED " if persistence == "u" else ""
    options = f" WITH ({storage})" if storage else ""
    create = f"CREATE {unlogged}TABLE {name} PARTITION OF {qualified(parent.identity)} {bound}{options}"
    yield Ask("SET LOCAL search_path = ''")
    indexes = yield Ask(_INDEXES.format(relation=quote_literal(name)))
    path = ", ".join(quote_identifier(schema) for schema in ctx.search_path) or "''"
    yield Ask(f"SET LOCAL search_path = {path}")
    return [create, *(index[0] for index in indexes)]


__all__ = ["RunWorkspace", "set_tablespace"]
