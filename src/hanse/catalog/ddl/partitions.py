"""Partitions made, attached and detached by name.

A shard is in one group: there its table exists and is attached; in the other groups there is nothing. So

- `CREATE TABLE p PARTITION OF t …` runs in the workspace and in the shard's group;
- `ATTACH PARTITION` turns a single table, which every group has, into a shard: its rows are moved to the shard's group
  if need be, and the other groups drop their empty copies (pg_dump creates every partition this way, findings-gateway
  12);
- `DETACH PARTITION` turns a shard into a single table: the other groups get an empty copy.

Sub-partitions go with their shard: statements about them run in the workspace and in that one group.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

from ...core.errors import not_supported
from ...core.ids import quote_literal
from ..model import Kind, Relation, Shard, Snapshot, Strategy
from . import text as surgery
from .checks import check_foreign_keys, check_key
from .definition import capture, create_statements
from .places import groups_of, place, qualified, run, run_groups, run_system, unplace
from .placing import chosen_group, group_for_shard
from .rights import mirror_everywhere
from .sequences import park_elsewhere
from .steps import (
    Ask,
    DdlContext,
    DdlResult,
    Freeze,
    Identity,
    Introspect,
    MoveRows,
    Procedure,
    RunGroups,
    RunWorkspace,
    Step,
)


def create_partition(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """CREATE TABLE … PARTITION OF …"""
    wanted = chosen_group(stmt.tablespacename, ctx)
    plain = surgery.without_own_clauses(text)
    identity = ctx.target(stmt.relation)
    parent = ctx.find(stmt.inhRelations[0])
    if parent is None or parent.kind not in (Kind.SHARDED, Kind.PARTITION):
        return (yield from run(plain, ctx))  # PostgreSQL says what is wrong
    if stmt.if_not_exists and identity in ctx.snapshot.relation_by_identity:
        yield RunWorkspace(plain)
        return DdlResult()
    if parent.kind is Kind.PARTITION:
        return (yield from _create_below(parent, plain, wanted, ctx))
    yield Freeze((parent.identity,))
    yield RunWorkspace(plain)
    after: Snapshot = yield Introspect()
    shard = _shard(after.relation_by_identity[parent.identity], identity)
    group = group_for_shard(parent, shard.bound, wanted, ctx)
    yield place(identity, Kind.PARTITION, group)
    yield from _check_new_shard(ctx)
    yield from run_groups({group: (plain,)})
    yield from mirror_everywhere([parent.identity], ctx)
    return DdlResult()


def _create_below(parent: Relation, plain: str, wanted: str | None, ctx: DdlContext) -> Procedure:
    assert parent.group is not None and parent.parent is not None
    if wanted not in (None, parent.group):
        raise not_supported(
            f'a partition of "{parent.name}" must be in its group',
            detail=f'"{parent.name}" is a shard in group {parent.group}, and what is below it goes with it.',
            hint=f"Use TABLESPACE {parent.group}, or no TABLESPACE.",
        )
    yield Freeze((parent.parent,))
    result = yield from run(plain, ctx, groups=(parent.group,))
    yield from mirror_everywhere([parent.parent], ctx)
    return result


def _shard(parent: Relation, identity: Identity) -> Shard:
    return next(shard for shard in parent.shards if (shard.schema, shard.name) == identity)


def _check_new_shard(ctx: DdlContext) -> Generator[Step, Any, Snapshot]:
    after: Snapshot = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, after)
    return after


def attach(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """ALTER TABLE parent ATTACH PARTITION part …"""
    parent, part = ctx.find(stmt.relation), ctx.find(stmt.cmds[0].def_.name)
    if parent is None or part is None or parent.kind not in (Kind.SHARDED, Kind.PARTITION):
        # PostgreSQL refuses, or it is ALTER INDEX … ATTACH PARTITION, for the group that has the partition's index.
        return (yield from run(text, ctx, groups=(yield from groups_of(stmt.cmds[0].def_.name, ctx))))
    top = parent.identity if parent.kind is Kind.SHARDED else parent.parent
    assert top is not None
    if part.kind is Kind.SHARDED:
        return (yield from _attach_tree(parent, part, text, ctx))
    if part.kind is not Kind.SINGLE:
        yield RunWorkspace(text)  # a partition already: 42809
        raise not_supported(
            f'"{part.name}" cannot be attached as a partition',
            detail="Only a table in a single group can become a partition.",
        )
    yield Freeze((top, part.identity))
    yield RunWorkspace(text)
    group = yield from _attach_group(parent, part, ctx)
    if parent.kind is Kind.SHARDED:
        yield place(part.identity, Kind.PARTITION, group)
    else:
        yield unplace(part.identity)
    yield from _check_new_shard(ctx)
    yield from _become_shard(part, group, text, ctx)
    yield from mirror_everywhere([top], ctx)
    return DdlResult()


def _attach_group(parent: Relation, part: Relation, ctx: DdlContext) -> Generator[Step, Any, str]:
    assert part.group is not None
    if parent.kind is Kind.PARTITION:
        assert parent.group is not None
        return parent.group
    after: Snapshot = yield Introspect()
    bound = _shard(after.relation_by_identity[parent.identity], part.identity).bound
    wanted = yield from _chosen_before(part)
    if wanted is None and parent.strategy is not Strategy.HASH and (yield from _has_rows(part, part.group)):
        wanted = part.group  # no reason to move them
    return group_for_shard(parent, bound, wanted, ctx)


def _chosen_before(part: Relation) -> Generator[Step, Any, str | None]:
    """The group that the client named when the table was made: only then has it a placement of its own."""
    name = quote_literal(qualified(part.identity))  # its oid in this catalog may be that of another node's workspace
    sql = f"SELECT home FROM hanse.placement WHERE relid = {name}::pg_catalog.regclass"
    rows = yield Ask(sql)
    return rows[0][0] if rows else None


def _has_rows(relation: Relation, group: str) -> Generator[Step, Any, bool]:
    sql = f"SELECT EXISTS (SELECT FROM {qualified(relation.identity)})"
    answer = yield RunGroups({group: (sql,)}, system=True)
    return answer[group][0][0] in ("t", "true", True)


def _become_shard(part: Relation, group: str, text: str, ctx: DdlContext) -> Generator[Step, Any, None]:
    assert part.group is not None
    if part.group != group:
        yield from move_rows(part, (part.group,), part.identity, (group,), ctx)
    yield from run_groups({group: (text,)})
    others = tuple(other for other in ctx.groups if other != group)
    yield from run_system([f"DROP TABLE {qualified(part.identity)}"], others, workspace=False)


def _attach_tree(parent: Relation, part: Relation, text: str, ctx: DdlContext) -> Procedure:
    """A partitioned table becomes a shard with its subtree, whose partitions must all be in one group."""
    if parent.kind is not Kind.SHARDED or len(part.groups) > 1:
        raise not_supported(
            f'"{part.name}" cannot be attached: its partitions are in several groups',
            detail="A shard and everything below it are in one group.",
            hint="Create its partitions with one TABLESPACE, or attach it before they are created.",
        )
    yield Freeze((parent.identity, part.identity))
    yield RunWorkspace(text)
    after: Snapshot = yield Introspect()
    bound = _shard(after.relation_by_identity[parent.identity], part.identity).bound
    wanted = part.groups[0] if part.groups else None
    group = group_for_shard(parent, bound, wanted, ctx)
    for shard in part.shards:
        yield unplace((shard.schema, shard.name))
    yield place(part.identity, Kind.PARTITION, group)
    yield from _check_new_shard(ctx)
    yield from run_groups({group: (text,)})
    others = tuple(other for other in ctx.groups if other != group)
    yield from run_system([f"DROP TABLE {qualified(part.identity)}"], others, workspace=False)
    yield from mirror_everywhere([parent.identity], ctx)
    return DdlResult()


def detach(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    """ALTER TABLE parent DETACH PARTITION part [CONCURRENTLY | FINALIZE]"""
    parent, part = ctx.find(stmt.relation), ctx.find(stmt.cmds[0].def_.name)
    plain = surgery.without_word(text, "CONCURRENTLY")  # it cannot be part of a transaction; the result is the same
    if parent is None or part is None or part.kind is not Kind.PARTITION or part.group is None:
        return (yield from run(plain, ctx))
    assert part.parent is not None
    yield Freeze((part.parent,))
    yield RunWorkspace(plain)
    yield from run_groups({part.group: (plain,)})
    after: Snapshot = yield Introspect()
    detached = after.relation_by_identity[part.identity]
    if detached.kind is Kind.SHARDED:
        yield from _detached_tree(part, detached, ctx)
        return DdlResult()
    yield place(part.identity, Kind.SINGLE, part.group)
    final: Snapshot = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, final)
    definition = yield from capture(part.identity, ctx)
    others = tuple(group for group in ctx.groups if group != part.group)
    yield from run_system(create_statements(definition), others, workspace=False)
    yield from _place_owned_sequences(part, final, ctx)
    return DdlResult()


def _detached_tree(part: Relation, detached: Relation, ctx: DdlContext) -> Generator[Step, Any, None]:
    """A shard that was partitioned itself becomes a sharded table whose shards are all in the group where they were."""
    assert part.group is not None
    yield from check_key(detached)
    yield unplace(part.identity)
    for shard in detached.shards:
        yield place((shard.schema, shard.name), Kind.PARTITION, part.group)
    final = yield Introspect()
    yield from check_foreign_keys(ctx.snapshot, final)
    definition = yield from capture(part.identity, ctx)
    others = tuple(group for group in ctx.groups if group != part.group)
    yield from run_system(create_statements(definition), others, workspace=False)


def _place_owned_sequences(part: Relation, after: Snapshot, ctx: DdlContext) -> Generator[Step, Any, None]:
    drawn = {column.default_sequence for column in after.relation_by_identity[part.identity].columns}
    sequences = [r for r in after.relations if r.kind is Kind.SEQUENCE and qualified(r.identity) in drawn]
    if sequences:
        yield from park_elsewhere(sequences, ctx)


def move_rows(
    relation: Relation,
    source_groups: tuple[str, ...],
    target: Identity,
    target_groups: tuple[str, ...] | None,
    ctx: DdlContext,
) -> Generator[Step, Any, None]:
    """Copies rows without triggers and foreign key actions: nothing happens to the rows but their place.

    The user has the rights of both tables' owners. Row security that is forced on owners is lifted meanwhile: rows that
    a policy hides from the owner would be lost.
    """
    forced = yield from _forced(dict.fromkeys((relation.identity, target)))
    lift = [f"ALTER TABLE IF EXISTS {name} NO FORCE ROW LEVEL SECURITY" for name in forced]
    restore = [f"ALTER TABLE IF EXISTS {name} FORCE ROW LEVEL SECURITY" for name in forced]
    yield from run_system(["SET LOCAL session_replication_role = replica", *lift], ctx.groups, workspace=False)
    # Freezing does not wait for transactions of gateways that the control plane has lost.
    lock = f"LOCK TABLE {qualified(relation.identity)} IN EXCLUSIVE MODE"
    yield from run_system([lock], source_groups, workspace=False)
    yield MoveRows(
        source=relation.identity,
        source_groups=source_groups,
        target=target,
        columns=tuple(column.name for column in relation.columns if not column.generated),
        target_groups=target_groups,
    )
    yield from run_system(["SET LOCAL session_replication_role = origin", *restore], ctx.groups, workspace=False)


def _forced(tables: Iterable[Identity]) -> Generator[Step, Any, list[str]]:
    names = ", ".join(f"({quote_literal(schema)}, {quote_literal(name)})" for schema, name in tables)
    rows = yield Ask(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relforcerowsecurity AND (n.nspname, c.relname) IN ({names})"
    )
    return [qualified((row[0], row[1])) for row in rows]
