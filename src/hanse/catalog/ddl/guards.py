"""A DEFAULT partition takes every row that no other partition takes; in its group PostgreSQL knows only that group's
partitions (findings-gateway 4). So there it carries, for each partition that is elsewhere, a CHECK that its rows are not in
that partition's bound::

    t: t_a FOR VALUES IN (1, 2) in g1, t_rest DEFAULT in g2
    g2: ALTER TABLE t_rest ADD CONSTRAINT hanse_not_5d3c… CHECK (NOT ((id IS NOT NULL) AND (id = ANY (ARRAY[1, 2]))))

A row that is sent to the wrong group is refused then, and a new partition whose rows the DEFAULT partition has already is
refused with PostgreSQL's own SQLSTATE (23514). A bound's expression is never NULL, because it says IS NOT NULL first.

`guard_defaults` compares the catalog before and after a statement of any kind, and brings the constraints up to date.
They exist in the group only; the schema-complete database has all partitions, and no need of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from typing import Any

import msgspec

from ...core.ids import quote_identifier, quote_literal, quote_qualified
from ..model import Kind, Relation, Shard, Snapshot
from .steps import Ask, DdlContext, Identity, RunGroups, Step

Guards = dict[str, Shard]  # constraint name → the partition that it stands for

_EXPRESSION = "SELECT pg_catalog.pg_get_partition_constraintdef({name}::pg_catalog.regclass)"


def guard_defaults(before: Snapshot, after: Snapshot, ctx: DdlContext) -> Generator[Step, Any, None]:
    """`before` and `after` one statement, in the same transaction. Tables are the same when their names are."""
    had, has = _all_guards(before), _all_guards(after)
    for default in sorted(had.keys() - has.keys()):
        yield from _let_go(default, had[default], after)
    for default in sorted(has):
        group, wanted = has[default]
        known = had.get(default, ("", {}))
        guarded = known[1] if known[0] == group else {}
        table = quote_qualified(*default)
        added = yield from _additions(table, {name: wanted[name] for name in wanted.keys() - guarded.keys()}, ctx)
        dropped = [_drop(table, name) for name in sorted(guarded.keys() - wanted.keys())]
        if dropped or added:
            yield RunGroups({group: (*dropped, *added)}, system=True)


def _all_guards(snapshot: Snapshot) -> dict[Identity, tuple[str, Guards]]:
    """Each DEFAULT partition with its group and guards."""
    found = {}
    for relation in snapshot.relations:
        default = _default(relation)
        if default is not None:
            found[(default.schema, default.name)] = (default.group, _guards(relation, default))
    return found


def _default(relation: Relation) -> Shard | None:
    if relation.kind is not Kind.SHARDED:
        return None
    return next((shard for shard in relation.shards if shard.bound.default), None)


def _guards(relation: Relation, default: Shard) -> Guards:
    """Bounds never change, names do: so the constraint is called after the bound."""
    others = (shard for shard in relation.shards if shard.group != default.group)
    return {f"hanse_not_{hashlib.md5(msgspec.json.encode(shard.bound)).hexdigest()[:20]}": shard for shard in others}


def _let_go(table: Identity, before: tuple[str, Guards], after: Snapshot) -> Generator[Step, Any, None]:
    """It is no DEFAULT partition any more. Where it was moved or dropped, the constraints are gone with the table."""
    group, guarded = before
    relation = after.relation_by_identity.get(table)
    if relation is not None and relation.group == group and guarded:
        name = quote_qualified(*table)
        yield RunGroups({group: tuple(_drop(name, guard) for guard in sorted(guarded))}, system=True)


def _drop(table: str, name: str) -> str:
    return f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {quote_identifier(name)}"


def _additions(table: str, shards: dict[str, Shard], ctx: DdlContext) -> Generator[Step, Any, list[str]]:
    if not shards:
        return []
    statements = []
    yield Ask("SET LOCAL search_path = ''")  # names of types and operators come qualified
    for name in sorted(shards):
        shard = quote_literal(quote_qualified(shards[name].schema, shards[name].name))
        rows = yield Ask(_EXPRESSION.format(name=shard))
        statements.append(_drop(table, name))  # it is there when the table was only renamed
        statements.append(f"ALTER TABLE {table} ADD CONSTRAINT {quote_identifier(name)} CHECK (NOT ({rows[0][0]}))")
    path = ", ".join(quote_identifier(schema) for schema in ctx.search_path) or "''"
    yield Ask(f"SET LOCAL search_path = {path}")
    return statements
