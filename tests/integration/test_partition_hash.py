"""PostgreSQL puts rows into hash partitions; our hash must name the same ones, for every type that may be a key."""

from __future__ import annotations

import random

import pytest
from psycopg import sql

from hanse.catalog import keys
from hanse.catalog.keys import Canonical, from_text
from hanse.catalog.partition_hash import partition_index, remainders
from support.schemas import Schema

MODULUS = 60  # neither a power of two nor a prime

_random = random.Random(20261122)


def _integers(low: int, high: int, count: int = 300) -> list[str]:
    edges = [low, high, 0, 1, -1, low + 1, high - 1, 1 << 15, 1 << 31, 1 << 32, -(1 << 31), -(1 << 32), -(1 << 32) - 1]
    drawn = [_random.randint(low, high) for _ in range(count)] + [_random.randint(-100, 100) for _ in range(50)]
    return [str(value) for value in edges + drawn if low <= value <= high]


def _texts() -> list[str]:
    alphabet = "abcxyz 019ÄßéЖ漢😀'\"\\"
    drawn = ["".join(_random.choices(alphabet, k=length)) for length in range(40) for _ in range(6)]
    return ["", " ", "  x  ", "x" * 3000, "é" * 251, *drawn]


def _timestamps() -> list[str]:
    def moment() -> str:
        r = _random.randint
        day = f"{r(1, 9999):04}-{r(1, 12):02}-{r(1, 28):02}"
        return f"{day} {r(0, 23):02}:{r(0, 59):02}:{r(0, 59):02}.{r(0, 999999):06}"

    return [moment() for _ in range(200)]


CASES = {
    keys.INT2: ("int2", _integers(-(1 << 15), (1 << 15) - 1)),
    keys.INT4: ("int4", _integers(-(1 << 31), (1 << 31) - 1)),
    keys.INT8: ("int8", _integers(-(1 << 63), (1 << 63) - 1)),
    keys.OID: ("oid", _integers(0, (1 << 32) - 1)),
    keys.BOOL: ("bool", ["t", "f"]),
    keys.CHAR: ('"char"', [chr(code) for code in range(1, 127) if code != 92] + [""]),
    keys.TEXT: ("text", _texts()),
    keys.VARCHAR: ("varchar", _texts()),
    keys.BPCHAR: ("char(3000)", _texts()),
    keys.BYTEA: (
        "bytea",
        ["\\x" + _random.randbytes(n).hex() for n in range(50)] + ["\\x00", "\\x" + "00" * 12, "abc"],
    ),
    keys.UUID: ("uuid", [_random.randbytes(16).hex() for _ in range(200)]),
    keys.DATE: (
        "date",
        [text[:10] for text in _timestamps()] + ["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"],
    ),
    keys.TIMESTAMP: ("timestamp", [*_timestamps(), "infinity", "-infinity", "4713-01-01 00:00:00 BC"]),
    keys.TIMESTAMPTZ: ("timestamptz", [text + "+05:30" for text in _timestamps()] + ["infinity"]),
}


@pytest.mark.parametrize("type_oid", sorted(CASES))
def test_every_key_type(plain_schema: Schema, type_oid: int) -> None:
    type_name, texts = CASES[type_oid]
    with plain_schema.connect() as connection:
        connection.execute(f"CREATE TABLE h (n int, k {type_name}) PARTITION BY HASH (k)")
        _partitions(connection, "h")
        with connection.cursor().copy("COPY h FROM STDIN") as copy:
            for row in enumerate([*texts, None]):
                copy.write_row(row)
        found = connection.execute(
            "SELECT n, replace(tableoid::regclass::text, 'h_', '')::int FROM h ORDER BY n"
        ).fetchall()
    values: list[Canonical] = [from_text(type_oid, text.encode()) for text in texts] + [None]
    expected = [remainder for _, remainder in found]
    assert [partition_index((value,), (type_oid,), MODULUS) for value in values] == expected
    assert remainders([values], (type_oid,), MODULUS).tolist() == expected


def test_several_columns_with_nulls(plain_schema: Schema) -> None:
    def maybe(value: object) -> object:
        return None if _random.random() < 0.3 else value

    rows = [
        (n, maybe(_random.randint(-5, 10**12)), maybe(_random.choice(_texts())), maybe(n % 2 == 0)) for n in range(500)
    ]
    types = (keys.INT8, keys.TEXT, keys.BOOL)
    with plain_schema.connect() as connection:
        connection.execute("CREATE TABLE h (n int, a int8, b text, c bool) PARTITION BY HASH (a, b, c)")
        _partitions(connection, "h")
        with connection.cursor().copy("COPY h FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        found = connection.execute(
            "SELECT n, replace(tableoid::regclass::text, 'h_', '')::int FROM h ORDER BY n"
        ).fetchall()
    expected = [remainder for _, remainder in found]
    canonical = [(a, b if b is None else b.encode(), c if c is None else int(c)) for _, a, b, c in rows]
    assert [partition_index(key, types, MODULUS) for key in canonical] == expected
    assert remainders(list(zip(*canonical, strict=True)), types, MODULUS).tolist() == expected
    assert len(set(expected)) > MODULUS // 2


def test_satisfies_hash_partition_for_many_moduli(plain_schema: Schema) -> None:
    values = [_random.randint(-(1 << 63), (1 << 63) - 1) for _ in range(200)]
    with plain_schema.connect() as connection:
        connection.execute("CREATE TABLE h (k int8) PARTITION BY HASH (k)")
        for modulus in (1, 2, 3, 7, 32, 1000, 32768):
            ours = [(value, partition_index((value,), (keys.INT8,), modulus)) for value in values]
            query = sql.SQL(
                "SELECT bool_and(satisfies_hash_partition('h'::regclass, {}, r, v)) "
                "FROM unnest(%s::int8[], %s::int[]) u(v, r)"
            ).format(modulus)
            assert connection.execute(query, [list(column) for column in zip(*ours, strict=True)]).fetchone() == (True,)


def _partitions(connection: object, table: str) -> None:
    for remainder in range(MODULUS):
        connection.execute(  # type: ignore[attr-defined]
            f"CREATE TABLE {table}_{remainder} PARTITION OF {table} "
            f"FOR VALUES WITH (MODULUS {MODULUS}, REMAINDER {remainder})"
        )
