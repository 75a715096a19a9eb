"""A stream is split and each part loaded straight into its partition: PostgreSQL raises 23514 for any wrong row.

The rows, read back through the parent, are those of a plain COPY of the same stream.
"""

from __future__ import annotations

import random

import psycopg
import pytest
from psycopg import sql

from hanse.catalog import keys
from hanse.catalog.model import Bound, Relation, Strategy
from hanse.executor.copy_formats import CopyOptions
from hanse.executor.copy_split import CopySplitter
from support.schemas import Schema
from support.sharded import TYPE_NAMES, sharded

ROWS = 3000
BY_TYPE = {
    keys.INT4: "n * 7919 - 5000000",
    keys.INT8: "CASE WHEN n % 7 = 0 THEN NULL ELSE n::int8 * 1000003 * n END",
    keys.TEXT: "CASE n % 9 WHEN 0 THEN NULL WHEN 1 THEN E'a\\tb\\\\' WHEN 2 THEN '' WHEN 3 THEN E'é\\n\"' "
    "ELSE 'user ' || n END",
    keys.VARCHAR: "'v' || n",
    keys.BPCHAR: "'b' || n % 100",
    keys.BOOL: "n % 2 = 0",
    keys.UUID: "md5(n::text)::uuid",
    keys.DATE: "date '2020-01-01' + n",
    keys.TIMESTAMP: "timestamp '2020-01-01' + n * interval '1.000001 hour'",
    keys.TIMESTAMPTZ: "timestamptz '2020-01-01+00' + n * interval '1 hour'",
    keys.BYTEA: "decode(md5(n::text), 'hex')",
}
FORMATS = {
    "text": ((), ""),
    "csv": ((("format", "csv"),), "(FORMAT csv)"),
    "odd csv": (
        (("format", "csv"), ("quote", "'"), ("escape", "|"), ("delimiter", ";"), ("null", "none")),
        "(FORMAT csv, QUOTE '''', ESCAPE '|', DELIMITER ';', NULL 'none')",
    ),
    "odd text": ((("delimiter", "|"), ("null", "x")), "(DELIMITER '|', NULL 'x')"),
    "binary": ((("format", "binary"),), "(FORMAT binary)"),
}


def _load(connection: psycopg.Connection, relation: Relation, data: bytes, options: tuple, options_sql: str) -> None:
    """As the gateway would: 64 KiB at a time; keys it cannot read are asked for."""
    columns = ("note", *relation.key, "last")
    splitter = CopySplitter(CopyOptions.of(options), relation, columns)
    streams: dict[int, list[bytes]] = {}

    def take(batches: list[tuple[int, bytes]]) -> None:
        for shard, piece in batches:
            streams.setdefault(shard, []).append(piece)
        if splitter.unrouted:
            take(splitter.resolve([_ask(connection, relation, row.keys) for row in splitter.unrouted]))

    for at in range(0, len(data), 65_536):
        take(splitter.feed(data[at : at + 65_536]))
    take(splitter.finish())
    for shard, pieces in streams.items():
        statement = sql.SQL("COPY {} FROM STDIN ").format(sql.Identifier(relation.shards[shard].name)) + sql.SQL(
            options_sql
        )
        with connection.cursor().copy(statement) as copy:
            for piece in pieces:
                copy.write(piece)


def _ask(connection: psycopg.Connection, relation: Relation, texts: tuple[bytes | None, ...]) -> list[bytes | None]:
    answer = []
    for text, type_oid in zip(texts, relation.key_types, strict=True):
        value = None if text is None else text.decode()
        row = connection.execute(f"SELECT (%s::text::{TYPE_NAMES[type_oid]})::text", [value]).fetchone()
        assert row is not None
        answer.append(None if row[0] is None else row[0].encode())
    return answer


def _create(connection: psycopg.Connection, relation: Relation, types: list[str]) -> None:
    columns = ", ".join(f"{name} {type_name}" for name, type_name in zip(relation.key, types, strict=True))
    connection.execute(
        f"CREATE TABLE t (note text, {columns}, last int) PARTITION BY {relation.strategy} ({', '.join(relation.key)})"
    )
    for shard in relation.shards:
        connection.execute(f"CREATE TABLE {shard.name} PARTITION OF t {_bound_sql(shard.bound)}")


def _bound_sql(bound: Bound) -> str:
    def shown(texts: tuple[str | None, ...], otherwise: str) -> str:
        return ", ".join(otherwise if text is None else f"'{text}'" for text in texts)

    if bound.default:
        return "DEFAULT"
    if bound.modulus is not None:
        return f"FOR VALUES WITH (MODULUS {bound.modulus}, REMAINDER {bound.remainder})"
    if bound.values is not None:
        return f"FOR VALUES IN ({shown(bound.values, 'NULL')})"
    assert bound.lower is not None and bound.upper is not None
    return f"FOR VALUES FROM ({shown(bound.lower, 'MINVALUE')}) TO ({shown(bound.upper, 'MAXVALUE')})"


def _source(connection: psycopg.Connection, key_columns: str, options_sql: str) -> bytes:
    odd = "WHEN 1 THEN E'tab\\tquote\"''|' WHEN 2 THEN E'line\\r\\nbreak;'"
    note = f"CASE n % 5 WHEN 0 THEN NULL {odd} ELSE 'note ' || n END"
    query = f"SELECT {note}, {key_columns}, n FROM generate_series(1, {ROWS}) n"
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT {options_sql}") as copy:
        return b"".join(bytes(piece) for piece in copy)


def _same_as_plain(connection: psycopg.Connection, data: bytes, options_sql: str) -> None:
    connection.execute("CREATE TABLE plain (LIKE t)")
    with connection.cursor().copy(f"COPY plain FROM STDIN {options_sql}") as copy:
        copy.write(data)
    difference = "(SELECT * FROM {0} EXCEPT ALL SELECT * FROM {1})"
    both = difference.format("t", "plain") + " UNION ALL " + difference.format("plain", "t")
    assert connection.execute(both).fetchall() == []
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (ROWS,)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("type_oid", sorted(BY_TYPE))
def test_hash(plain_schema: Schema, type_oid: int, form: str) -> None:
    options, options_sql = FORMATS[form]
    relation = sharded(Strategy.HASH, [type_oid], [Bound(modulus=4, remainder=r) for r in range(4)])
    with plain_schema.connect() as connection:
        _create(connection, relation, [TYPE_NAMES[type_oid]])
        expression = f"({BY_TYPE[type_oid]})::{TYPE_NAMES[type_oid]}"
        data = _source(connection, expression, options_sql)
        _load(connection, relation, data, options, options_sql)
        _same_as_plain(connection, data, options_sql)


@pytest.mark.parametrize("form", ["text", "csv", "binary"])
def test_two_key_columns_and_ranges(plain_schema: Schema, form: str) -> None:
    options, options_sql = FORMATS[form]
    bounds = [
        Bound(lower=(None, None), upper=("2020-06-01", "m")),
        Bound(lower=("2020-06-01", "m"), upper=("2020-06-01", None)),
        Bound(lower=("2020-06-02", None), upper=("infinity", None)),
        Bound(default=True),
    ]
    relation = sharded(Strategy.RANGE, [keys.DATE, keys.TEXT], bounds)
    with plain_schema.connect() as connection:
        _create(connection, relation, ["date", "text"])
        keys_sql = "CASE WHEN n % 11 = 0 THEN NULL ELSE date '2020-05-25' + n % 20 END, chr(97 + n % 26)"
        data = _source(connection, keys_sql, options_sql)
        _load(connection, relation, data, options, options_sql)
        _same_as_plain(connection, data, options_sql)


def test_keys_that_only_postgresql_can_read(plain_schema: Schema) -> None:
    """Dates in the session's style, and timestamps rounded by the column's type."""
    relation = sharded(Strategy.HASH, [keys.DATE], [Bound(modulus=4, remainder=r) for r in range(4)])
    with plain_schema.connect() as connection:
        _create(connection, relation, ["date"])
        connection.execute("SET datestyle = 'German, DMY'")
        data = _source(connection, "CASE WHEN n % 3 = 0 THEN NULL ELSE date '2020-01-01' + n % 50 END", "")
        connection.execute("SET datestyle = 'ISO, DMY'")
        assert b".2020" in data
        _load(connection, relation, data, (), "")
        _same_as_plain(connection, data, "")


@pytest.mark.parametrize(
    ("type_oid", "type_name", "expression"),
    [
        (keys.TIMESTAMP, "timestamp(0) without time zone", "'2020-01-01 00:00:00.' || lpad((n * 333)::text, 6, '0')"),
        (keys.VARCHAR, "character varying(4)", "rpad((n % 1000)::text, 6)"),
    ],
)
def test_type_modifiers(plain_schema: Schema, type_oid: int, type_name: str, expression: str) -> None:
    bounds = [Bound(modulus=4, remainder=r) for r in range(4)]
    relation = sharded(Strategy.HASH, [type_oid], bounds, type_names=[type_name])
    with plain_schema.connect() as connection:
        _create(connection, relation, [type_name])
        data = _source(connection, expression, "")
        _load(connection, relation, data, (), "")
        _same_as_plain(connection, data, "")


def test_rows_of_a_shard_keep_their_order(plain_schema: Schema) -> None:
    relation = sharded(Strategy.HASH, [keys.INT4], [Bound(modulus=4, remainder=r) for r in range(4)])
    numbers = random.Random(1).sample(range(100_000), ROWS)
    data = b"".join(b"x\t%d\t%d\n" % (number, row) for row, number in enumerate(numbers))
    with plain_schema.connect() as connection:
        _create(connection, relation, ["int"])
        _load(connection, relation, data, (), "")
        for shard in relation.shards:
            found = [row[0] for row in connection.execute(f"SELECT last FROM {shard.name} ORDER BY ctid")]
            assert found == sorted(found) and found
