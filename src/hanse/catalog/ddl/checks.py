"""What a distributed schema must not have, checked on the catalog as it would become, before anything is committed.

**Foreign keys.** PostgreSQL checks them inside one group, against that group's rows. That is right exactly when the
referenced row must be in the group of the referencing row:

- the referenced table is a reference table; or
- both are single tables (or partitions) of one group; or
- both are sharded, the shard key's columns refer to each other position by position, and shards that may hold equal
  keys lie in the same group. `orders (customer_id, …)` hashed by customer_id may refer to `customers (customer_id)`
  hashed by it; a key on `orders (product_id)` may not, since the product's row is in some other group.

Shards of RANGE and LIST tables are compared by PostgreSQL itself (`Ask`), since their values have types.

**Keys.** Routing must compute PostgreSQL's own hash and order (`catalog.keys` knows for which types), with the default
operator class and collation C.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from math import gcd
from typing import Any

from ...core.errors import PgError, not_supported
from ...core.ids import quote_literal
from .. import keys
from ..model import Bound, ForeignKey, Kind, Relation, Shard, Snapshot, Strategy
from .places import qualified
from .steps import Ask, Identity, Step

_KEY_FACTS = """
SELECT k.place,
       coalesce(l.collname IN ('C', 'POSIX', 'ucs_basic', 'default'), true), o.opcdefault
FROM pg_catalog.pg_partitioned_table p
CROSS JOIN unnest(p.partcollation::oid[], p.partclass::oid[]) WITH ORDINALITY AS k(collation_oid, class_oid, place)
LEFT JOIN pg_catalog.pg_collation l ON l.oid = k.collation_oid
LEFT JOIN pg_catalog.pg_opclass o ON o.oid = k.class_oid
WHERE p.partrelid = {relation}::pg_catalog.regclass
ORDER BY k.place
"""


def check_key(relation: Relation) -> Generator[Step, Any, None]:
    """0A000 where Hanse could not route by the partition key."""
    facts = yield Ask(_KEY_FACTS.format(relation=quote_literal(qualified(relation.identity))))
    assert relation.strategy is not None
    for name, type_oid, (_, collation_is_c, default_class) in zip(relation.key, relation.key_types, facts, strict=True):
        if not name:
            raise not_supported(
                "expressions in a partition key are not supported",
                hint="Store the expression in a column of its own and partition by it.",
            )
        column = relation.column_by_name[name]
        reason = keys.why_not_a_key(
            type_oid,
            relation.strategy.value,
            column.collation_deterministic,
            collation_is_c=collation_is_c == "t",
        )
        if reason is None and default_class != "t":
            reason = "Its operator class is not the default one of its type."
        if reason is not None:
            raise not_supported(f'column "{name}" cannot be used in a partition key', detail=reason)


def check_foreign_keys(before: Snapshot, after: Snapshot) -> Generator[Step, Any, None]:
    """0A000 for the first foreign key among relations that changed that could not be checked inside one group."""
    for relation in after.relations:
        for key in relation.foreign_keys:
            referenced = after.relation_by_identity.get((key.referenced_schema, key.referenced_name))
            if referenced is not None and not (_unchanged(relation, before) and _unchanged(referenced, before)):
                yield from _check(relation, key, referenced)


def _unchanged(relation: Relation, before: Snapshot) -> bool:
    return before.relation_by_identity.get(relation.identity) == relation


def _check(relation: Relation, key: ForeignKey, referenced: Relation) -> Generator[Step, Any, None]:
    if referenced.kind is Kind.REFERENCE:
        return
    one_group = (Kind.SINGLE, Kind.PARTITION)
    if referenced.kind in one_group:
        if relation.kind not in one_group:
            raise _refused(relation, key, f'"{referenced.name}" is in one group only.')
        if relation.group != referenced.group:
            raise _refused(relation, key, f"The tables are in groups {relation.group} and {referenced.group}.")
        return
    if relation.kind is not Kind.SHARDED:
        raise _refused(relation, key, f'"{referenced.name}" is sharded and "{relation.name}" is not.')
    if not _keys_meet(relation, key, referenced):
        raise _refused(relation, key, "The foreign key does not join the tables' partition keys, column by column.")
    if (yield from _apart(relation, referenced)):
        raise _refused(relation, key, "Shards of the tables that may hold equal keys are in different groups.")


def _keys_meet(relation: Relation, key: ForeignKey, referenced: Relation) -> bool:
    pairs = set(zip(key.columns, key.referenced_columns, strict=True))
    same_form = relation.strategy == referenced.strategy and relation.key_types == referenced.key_types
    return same_form and all(pair in pairs for pair in zip(relation.key, referenced.key, strict=True))


def _refused(relation: Relation, key: ForeignKey, detail: str) -> PgError:
    return not_supported(
        f'foreign key "{key.name}" of table "{relation.name}" would reach rows in other groups',
        detail=detail,
        hint=f'Make "{key.referenced_name}" a reference table (create_reference_table), or shard both tables alike by '
        "the columns of the foreign key.",
    )


def linked(relation: Relation, snapshot: Snapshot) -> tuple[Relation, ...]:
    """The sharded tables that foreign keys join with this one, in either direction, itself not among them."""
    names: set[Identity] = {(key.referenced_schema, key.referenced_name) for key in relation.foreign_keys}
    for other in snapshot.relations:
        if any((key.referenced_schema, key.referenced_name) == relation.identity for key in other.foreign_keys):
            names.add(other.identity)
    found = (snapshot.relation_by_identity.get(name) for name in sorted(names - {relation.identity}))
    return tuple(other for other in found if other is not None and other.kind is Kind.SHARDED)


def _apart(left: Relation, right: Relation) -> Generator[Step, Any, bool]:
    """Whether shards in different groups may hold equal keys."""
    conditions: list[str] = []
    for a in left.shards:
        for b in right.shards:
            if a.group == b.group:
                continue
            overlap = _overlap(a.bound, b.bound, left)
            if overlap is True:
                return True
            if overlap is not False:
                conditions.append(overlap)
    if not conditions:
        return False
    rows = yield Ask("SELECT " + " OR ".join(f"({condition})" for condition in conditions))
    return bool(rows[0][0] == "t")


def _overlap(a: Bound, b: Bound, relation: Relation) -> bool | str:
    """True, False, or a condition that PostgreSQL can answer."""
    if a == b or a.default or b.default:
        return True
    types = [relation.column_by_name[name].type_name for name in relation.key]
    if a.modulus is not None and b.modulus is not None:
        assert a.remainder is not None and b.remainder is not None
        return (a.remainder - b.remainder) % gcd(a.modulus, b.modulus) == 0
    if a.values is not None and b.values is not None:
        if None in a.values and None in b.values:
            return True
        return _any_equal(a.values, b.values, types[0])
    assert a.lower is not None and a.upper is not None and b.lower is not None and b.upper is not None
    return f"({_below(a.lower, b.upper, types)}) AND ({_below(b.lower, a.upper, types)})"


def _any_equal(left: Iterable[str | None], right: Iterable[str | None], type_name: str) -> str | bool:
    one, other = (
        ", ".join(f"CAST({quote_literal(value)} AS {type_name})" for value in values if value is not None)
        for values in (left, right)
    )
    return f"ARRAY[{one}] OPERATOR(pg_catalog.&&) ARRAY[{other}]" if one and other else False


def _below(lower: tuple[str | None, ...], upper: tuple[str | None, ...], types: list[str]) -> str:
    """lower < upper, as PostgreSQL compares range bounds: column by column, and nothing counts after an infinity."""
    if not types:
        return "false"
    if lower[0] is None or upper[0] is None:  # MINVALUE on the left or MAXVALUE on the right
        return "true"
    one, other = (f"CAST({quote_literal(value)} AS {types[0]})" for value in (lower[0], upper[0]))
    rest = _below(lower[1:], upper[1:], types[1:])
    return f"{one} < {other} OR ({one} = {other} AND ({rest}))"


def equal_bound(relation: Relation, bound: Bound) -> Shard | None:
    return next((shard for shard in relation.shards if shard.bound == bound), None)


def same_layout_possible(left: Relation, right: Relation) -> bool:
    return left.strategy == right.strategy == Strategy.HASH and left.key_types == right.key_types
