"""Where objects are: most are in every group; a partition, and whatever is built on it, is in the partition's group.

A view over a partition, an index of it, a sequence owned by one of its columns: PostgreSQL's own dependencies lead
from each to the partition (pg_depend, and for views by way of their rule). An object whose parts lie in several groups
is in none of them, only in the workspace (findings-gateway 25); queries on it run there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from ...core.ids import quote_identifier, quote_literal, quote_qualified
from ..model import Kind
from .steps import Ask, DdlContext, DdlResult, Identity, Procedure, RunGroups, RunWorkspace, Step, everywhere

HAS_TABLE_EVERYWHERE = (Kind.SHARDED, Kind.REFERENCE, Kind.SINGLE, Kind.MATERIALIZED_VIEW)

_REACH = """
WITH RECURSIVE named(position, oid) AS (
    SELECT * FROM (VALUES {values}) AS v(position, oid) WHERE oid IS NOT NULL
), part(position, classid, objid) AS (
    SELECT position, 'pg_catalog.pg_class'::pg_catalog.regclass::oid, oid FROM named
    UNION
    SELECT part.position, next.classid, next.objid FROM part CROSS JOIN LATERAL (
        SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass::oid AS classid, r.oid AS objid
        FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind = 'v'
        WHERE part.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND r.ev_class = part.objid
        UNION ALL
        SELECT d.refclassid, d.refobjid
        FROM pg_catalog.pg_depend d
        WHERE d.classid = part.classid AND d.objid = part.objid
          AND NOT (part.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND EXISTS (
              SELECT FROM pg_catalog.pg_class t WHERE t.oid = part.objid AND t.relkind IN ('r', 'p', 'm')))
    ) next
)
SELECT named.position, n.nspname, c.relname, c.relkind,
       (SELECT string_agg(DISTINCT coalesce(p.shard_group, p.home), ',')
        FROM part
        CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(part.objid) AS ancestor(relid)
        JOIN hanse.placement p ON p.relid = ancestor.relid AND p.kind = 'partition'
        WHERE part.position = named.position AND part.classid = 'pg_catalog.pg_class'::pg_catalog.regclass)
FROM named
JOIN pg_catalog.pg_class c ON c.oid = named.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY named.position
"""


@dataclass(frozen=True, slots=True)
class Located:
    """A relation of any kind (index, view, sequence too) that exists, with the groups that have it."""

    position: int  # in the list of names that was asked for
    identity: Identity
    relkind: str
    groups: tuple[str, ...]


def qualified(identity: Identity) -> str:
    return quote_qualified(*identity)


def dotted(schema: str | None, name: str) -> str:
    """A name as the client gave it, quoted."""
    return qualified((schema, name)) if schema else quote_identifier(name)


def locate(names: Iterable[tuple[str | None, str]], ctx: DdlContext) -> Generator[Step, Any, list[Located]]:
    """What these names mean to the session; names of nothing are left out."""
    texts = [dotted(*name) for name in names]
    values = ", ".join(f"({i}, pg_catalog.to_regclass({quote_literal(text)})::oid)" for i, text in enumerate(texts))
    rows = yield Ask(_REACH.format(values=values))
    return [_located(row, ctx) for row in rows]


def _located(row: tuple[str, ...], ctx: DdlContext) -> Located:
    position, schema, name, relkind, homes = row
    if not homes:
        groups = ctx.groups
    elif "," in homes:
        groups = ()
    else:
        groups = (homes,)
    return Located(int(position), (schema, name), relkind, groups)


def groups_of(name: Any, ctx: DdlContext) -> Generator[Step, Any, tuple[str, ...]]:
    """The groups that have the relation a RangeVar names; all of them when there is no such relation."""
    relation = ctx.find(name)
    if relation is not None and relation.kind is Kind.PARTITION:
        return (relation.group or ctx.snapshot.home_group,)
    if relation is not None and relation.kind in HAS_TABLE_EVERYWHERE:
        return ctx.groups
    found = yield from locate([(name.schemaname, name.relname)], ctx)
    return found[0].groups if found else ctx.groups


def run(sql: str, ctx: DdlContext, *, groups: tuple[str, ...] | None = None) -> Procedure:
    """Client text: in the workspace, where its mistakes show, then in the groups."""
    yield RunWorkspace(sql)
    yield from run_groups(everywhere(ctx.groups if groups is None else groups, sql))
    return DdlResult()


def run_groups(sql: dict[str, tuple[str, ...]], *, system: bool = False) -> Generator[Step, Any, dict[str, Any]]:
    if not any(sql.values()):
        return {}
    answer: dict[str, Any] = yield RunGroups(sql, system=system)
    return answer


def run_system(
    statements: Iterable[str], groups: tuple[str, ...], *, workspace: bool = True
) -> Generator[Step, Any, None]:
    """Our own statements, in the workspace and in these groups."""
    texts = tuple(statements)
    for sql in texts if workspace else ():
        yield RunWorkspace(sql, system=True)
    if texts:
        yield from run_groups(everywhere(groups, *texts), system=True)


def place(identity: Identity, kind: str, group: str | None) -> RunWorkspace:
    """Records where a relation is. Names, not oids: the statement is replayed on other workspaces."""
    home, shard_group = (None, group) if kind == Kind.PARTITION else (group, None)
    values = ", ".join("NULL" if value is None else quote_literal(value) for value in (kind, home, shard_group))
    return RunWorkspace(
        f"INSERT INTO hanse.placement (relid, kind, home, shard_group)"
        f" VALUES ({quote_literal(qualified(identity))}::pg_catalog.regclass, {values})"
        f" ON CONFLICT (relid) DO UPDATE SET kind = excluded.kind, home = excluded.home,"
        f" shard_group = excluded.shard_group",
        system=True,
    )


def unplace(identity: Identity) -> RunWorkspace:
    relid = f"{quote_literal(qualified(identity))}::pg_catalog.regclass"
    return RunWorkspace(f"DELETE FROM hanse.placement WHERE relid = {relid}", system=True)


FORGET_DROPPED = RunWorkspace(
    "DELETE FROM hanse.placement p WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = p.relid)",
    system=True,
)
