"""Making the shards of a HASH table: `WITH (shards = n)`, `create_distributed_table`, or lazily before the first row.

Shard r of table `orders` is its partition `orders_p<r>`, with modulus n and remainder r. The workspace gets all of
them, each group its own. They are made by the system and then given the parent's owner and grants.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from ...core.errors import PgError, not_supported
from ...core.ids import quote_identifier, quote_literal
from ..model import Bound, Kind, Relation, Snapshot
from ..type_oids import TURN, advance_sql, read_sql
from .checks import check_foreign_keys, linked, same_layout_possible
from .places import place, qualified, run_groups
from .rights import mirror_everywhere
from .steps import Ask, DdlContext, DdlResult, Freeze, Identity, Introspect, Procedure, RunWorkspace, Step

SHARDS_MAX = 1024
NAME_BYTES_MAX = 63  # NAMEDATALEN - 1
_OIDS_ASKED_MAX = 500  # columns of one query

Layout = tuple[tuple[Bound, str], ...]  # bounds with their groups


def checked_count(value: Any) -> int:
    try:
        count = int(value)
    except (TypeError, ValueError):
        raise PgError("22023", f'invalid value for option "shards": "{value}"') from None
    if not 1 <= count <= SHARDS_MAX:
        raise PgError("22023", f'{count} is outside the valid range for option "shards" (1 .. {SHARDS_MAX})')
    return count


def round_robin(count: int, ctx: DdlContext) -> Layout:
    return tuple(
        (Bound(modulus=count, remainder=remainder), ctx.groups[remainder % len(ctx.groups)])
        for remainder in range(count)
    )


def layout_of(relation: Relation) -> Layout:
    return tuple((shard.bound, shard.group) for shard in relation.shards)


def layout_for(
    relation: Relation, snapshot: Snapshot, ctx: DdlContext, *, count: int | None, colocate_with: Relation | None
) -> Layout:
    """The shards that a HASH table gets: another table's if it is named or joined by foreign keys, else n in turn."""
    partner = colocate_with
    if partner is None:
        candidates = (other for other in linked(relation, snapshot) if same_layout_possible(relation, other))
        partner = next((other for other in candidates if other.shards), None)
    if partner is None:
        return round_robin(count or ctx.default_shard_count, ctx)
    if colocate_with is not None and not same_layout_possible(relation, partner):
        raise not_supported(
            f'cannot colocate tables "{relation.name}" and "{partner.name}"',
            detail="Their partition keys have different types, or one is not partitioned by HASH.",
        )
    if count is not None and count != len(partner.shards) and colocate_with is not None:
        raise PgError("22023", f'"{partner.name}" has {len(partner.shards)} shards, not {count}')
    return layout_of(partner) if count in (None, len(partner.shards)) else round_robin(count or 1, ctx)


def shard_name(table: str, number: int) -> str:
    """`<table>_p<number>`, the table's part cut where PostgreSQL would cut the name."""
    suffix = f"_p{number}"
    stem = table.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore")
    return stem + suffix


def make_shards(
    table: Identity, layout: Layout, ctx: DdlContext, *, storage: str = "", persistence: str = ""
) -> Generator[Step, Any, None]:
    """`storage` is a WITH clause for each partition, `persistence` 'UNLOGGED' or nothing."""
    made: list[tuple[Identity, str, str]] = []
    yield RunWorkspace(read_sql(), system=True)  # the groups, too, draw one OID at least before each shard
    for number, (bound, group) in enumerate(layout):
        identity = (table[0], shard_name(table[1], number))
        sql = " ".join(
            word
            for word in (
                "CREATE", persistence, "TABLE", qualified(identity), "PARTITION OF", qualified(table),
                f"FOR VALUES WITH (MODULUS {bound.modulus}, REMAINDER {bound.remainder})", storage,
            )
            if word
        )  # fmt: skip
        yield RunWorkspace(sql, system=True)
        made.append((identity, group, sql))
    for identity, group, _ in made:
        yield place(identity, Kind.PARTITION, group)
    yield from run_groups((yield from _in_step(made, ctx)), system=True)
    yield from mirror_everywhere([table], ctx)


def _in_step(made: list[tuple[Identity, str, str]], ctx: DdlContext) -> Generator[Step, Any, dict[str, Any]]:
    """Each group's statements. Its OID counter is moved before each to where the workspace's was, so that a shard's types
    have the same OIDs in both.
    """
    statements: dict[str, list[str]] = {group: [] for group in ctx.groups}
    for first in range(0, len(made), _OIDS_ASKED_MAX):
        part = made[first : first + _OIDS_ASKED_MAX]
        names = ", ".join(f"{quote_literal(qualified(identity))}::pg_catalog.regclass::oid" for identity, _, _ in part)
        rows = yield Ask(f"SELECT {names}")
        for (_, group, sql), oid in zip(part, rows[0], strict=True):
            statements[group].append(f"{advance_sql((int(oid) - 1) % TURN)}; {sql}")
    return {group: tuple(sql) for group, sql in statements.items()}


def make_default_shards(table: Identity, ctx: DdlContext) -> Procedure:
    """Shards of a HASH table that has none, when its first row arrives. Does nothing if another session was faster."""
    yield Freeze((table,))
    snapshot: Snapshot = yield Introspect()
    relation = snapshot.relation_by_identity.get(table)
    if relation is None:
        raise PgError("42P01", f"relation {quote_identifier(table[1])} does not exist")
    if relation.awaits_shards:
        layout = layout_for(relation, snapshot, ctx, count=None, colocate_with=None)
        yield from make_shards(table, layout, ctx)
        after = yield Introspect()
        yield from check_foreign_keys(snapshot, after)
    return DdlResult()
