"""CREATE TABLE: single, reference and sharded tables. Partitions of a sharded table are in partitions.py.

The client's text runs everywhere with our own clauses cut out; the workspace goes first, so that what PostgreSQL has
to say about it comes before anything else. The catalog as the workspace then shows it is checked (partition key,
foreign keys, inheritance) before the groups hear of it.

    CREATE TABLE orders (…) PARTITION BY HASH (customer_id) WITH (shards = 4)

    workspace  CREATE TABLE orders (…) PARTITION BY HASH (customer_id)
    g1, g2     the same
    workspace  CREATE TABLE orders_p0 PARTITION OF orders FOR VALUES WITH (MODULUS 4, REMAINDER 0) … _p3
    g1         _p0, _p2;  g2  _p1, _p3
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ...core.errors import PgError, not_supported
from ...core.ids import parse_identifier_list
from ..model import Kind, Relation, Snapshot, Strategy
from . import text as surgery
from .checks import check_foreign_keys, check_key
from .definition import capture, create_statements
from .marks import mark_reference
from .partitions import create_partition
from .places import place, run_groups, run_system
from .placing import chosen_group, options_of
from .sequences import settle_new
from .shards import Layout, checked_count, layout_for, make_shards, round_robin
from .steps import DdlContext, DdlResult, Introspect, Procedure, RunWorkspace, Step, everywhere

DISTRIBUTIONS = ("reference", "single", "hash")


def create_table(stmt: Any, text: str, ctx: DdlContext) -> Procedure:
    if stmt.partbound is not None:
        return (yield from create_partition(stmt, text, ctx))
    group = chosen_group(stmt.tablespacename, ctx)
    options = options_of(stmt)
    _check_options(stmt, options)
    plain = surgery.without_own_clauses(text)
    identity = ctx.target(stmt.relation)
    yield RunWorkspace(plain)
    if stmt.if_not_exists and identity in ctx.snapshot.relation_by_identity:
        return DdlResult()
    if options.get("distribution") == "reference":
        yield place(identity, Kind.REFERENCE, None)
        yield mark_reference(identity)
    elif group is not None and stmt.partspec is None:
        yield place(identity, Kind.SINGLE, group)
    after: Snapshot = yield Introspect()
    relation = after.relation_by_identity.get(identity)
    if relation is None:  # IF NOT EXISTS, and the name is an index's or the like
        return DdlResult()
    layout = yield from _checked(stmt, relation, options, after, ctx)
    if _copies_partition(stmt, ctx):  # LIKE a table that only one group has
        definition = yield from capture(identity, ctx)
        yield from run_system(create_statements(definition), ctx.groups, workspace=False)
    else:
        yield from run_groups(everywhere(ctx.groups, plain))
    yield from settle_new(ctx.snapshot, after, relation.group or ctx.snapshot.home_group, ctx)
    if layout:
        yield from make_shards(identity, layout, ctx, persistence=_persistence(stmt))
        final = yield Introspect()
        yield from check_foreign_keys(ctx.snapshot, final)
    return DdlResult()


def _copies_partition(stmt: Any, ctx: DdlContext) -> bool:
    sources = [e.relation for e in stmt.tableElts or () if type(e).__name__ == "TableLikeClause"]
    found = [ctx.find(source) for source in sources]
    return any(relation is not None and relation.kind is Kind.PARTITION for relation in found)


def _persistence(stmt: Any) -> str:
    return "UNLOGGED" if stmt.relation.relpersistence == "u" else ""


def _check_options(stmt: Any, options: dict[str, Any]) -> None:
    distribution = options.get("distribution")
    if distribution is not None and distribution not in DISTRIBUTIONS:
        raise PgError("22023", f'invalid value for option "distribution": "{distribution}"')
    partitioned = stmt.partspec is not None
    if distribution == "reference" and (partitioned or stmt.inhRelations or stmt.tablespacename in ("",)):
        raise PgError("42P16", "a reference table cannot be partitioned or inherit")
    hashed = partitioned and stmt.partspec.strategy.name == "PARTITION_STRATEGY_HASH"
    for option in ("shards", "colocate_with"):
        if option in options and not hashed:
            raise PgError("42P16", f'option "{option}" needs PARTITION BY HASH')
    if distribution == "hash" and not hashed:
        raise PgError("42P16", 'distribution "hash" needs PARTITION BY HASH')


def _checked(
    stmt: Any, relation: Relation, options: dict[str, Any], after: Snapshot, ctx: DdlContext
) -> Generator[Step, Any, Layout]:
    """Refuses what cannot be distributed; gives the shards to make now."""
    _check_inheritance(stmt, relation, ctx)
    if relation.kind is Kind.SHARDED:
        yield from check_key(relation)
    layout: Layout = ()
    if "shards" in options or options.get("colocate_with") not in (None, "none", "default"):
        layout = _layout(relation, options, after, ctx)
    if not layout:
        yield from check_foreign_keys(ctx.snapshot, after)
    return layout


def _layout(relation: Relation, options: dict[str, Any], after: Snapshot, ctx: DdlContext) -> Layout:
    count = checked_count(options["shards"]) if "shards" in options else None
    partner = colocated_table(options.get("colocate_with"), ctx)
    return layout_for(relation, after, ctx, count=count, colocate_with=partner)


def colocated_table(name: str | None, ctx: DdlContext) -> Relation | None:
    """The sharded table that `colocate_with` names; None for 'none', 'default' and no name."""
    if name in (None, "none", "default"):
        return None
    parts = _parts(name)
    partner = ctx.snapshot.find(parts[-2] if len(parts) > 1 else None, parts[-1], ctx.search_path)
    if partner is None:
        raise PgError("42P01", f'relation "{name}" does not exist')
    if partner.kind is not Kind.SHARDED or partner.strategy is not Strategy.HASH:
        raise PgError("42P16", f'cannot colocate with "{name}": it is not sharded by HASH')
    if not partner.shards:
        raise PgError(
            "55000",
            f'cannot colocate with "{name}": its shards are not made yet',
            hint="They are made at its first row, or by WITH (shards = n).",
        )
    return partner


def _parts(name: str) -> tuple[str, ...]:
    """A qualified name's parts: `"My schema".t` → ('My schema', 't')."""
    outside = True
    characters = []
    for character in name:
        outside ^= character == '"'
        characters.append("," if outside and character == "." else character)
    try:
        return parse_identifier_list("".join(characters))
    except ValueError:
        raise PgError("42602", f'invalid name syntax: "{name}"') from None


def _check_inheritance(stmt: Any, relation: Relation, ctx: DdlContext) -> None:
    for name in stmt.inhRelations or ():
        parent = ctx.find(name)
        if parent is None:
            continue
        if parent.kind is not Kind.SINGLE or parent.group != relation.group:
            raise not_supported(
                f'table "{relation.name}" cannot inherit from "{parent.name}"',
                detail="Inheritance needs both tables in one group, and none of them replicated.",
                hint=f"Use TABLESPACE {parent.group}." if parent.group else None,
            )


__all__ = ["colocated_table", "create_table", "round_robin"]
