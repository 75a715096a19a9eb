"""Sharded tables as values, for tests of routing."""

from __future__ import annotations

from collections.abc import Sequence

from hanse.catalog.model import Bound, Column, Kind, Relation, Shard, Strategy

TYPE_NAMES = {
    16: "boolean",
    17: "bytea",
    18: '"char"',
    20: "bigint",
    21: "smallint",
    23: "integer",
    25: "text",
    26: "oid",
    1042: "character(10)",
    1043: "character varying",
    1082: "date",
    1114: "timestamp without time zone",
    1184: "timestamp with time zone",
    2950: "uuid",
}


def sharded(
    strategy: Strategy,
    types: Sequence[int],
    bounds: Sequence[Bound],
    *,
    names: Sequence[str] = ("id", "second", "third"),
    type_names: Sequence[str] = (),
) -> Relation:
    key = tuple(names[: len(types)])
    written = type_names or [TYPE_NAMES[type_oid] for type_oid in types]
    return Relation(
        schema="public",
        name="t",
        kind=Kind.SHARDED,
        strategy=strategy,
        key=key,
        key_types=tuple(types),
        columns=tuple(
            Column(name=name, type_oid=oid, type_name=text) for name, oid, text in zip(key, types, written, strict=True)
        ),
        shards=tuple(
            Shard(schema="public", name=f"t_p{i}", group=f"g{i % 2 + 1}", bound=b) for i, b in enumerate(bounds)
        ),
    )


def hashed(types: Sequence[int], modulus: int, **more: Sequence[str]) -> Relation:
    return sharded(Strategy.HASH, types, [Bound(modulus=modulus, remainder=i) for i in range(modulus)], **more)
