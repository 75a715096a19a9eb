"""What `from_text` and `from_literal` read, PostgreSQL reads as the same value, under any DateStyle and TimeZone."""

from __future__ import annotations

import random
import uuid

import psycopg
import pytest

from hanse.catalog import keys
from hanse.catalog.keys import NotEvaluable, from_literal, from_text
from support.schemas import Schema

_random = random.Random(7)
SETTINGS = [("ISO, MDY", "UTC"), ("German, DMY", "Asia/Kolkata"), ("SQL, YMD", "America/St_Johns")]

EXPRESSIONS = {
    keys.INT2: "(x::int2)::int8",
    keys.INT4: "(x::int4)::int8",
    keys.INT8: "x::int8",
    keys.OID: "(x::oid)::int8",
    keys.BOOL: "(x::bool)::int::int8",
    keys.CHAR: "get_byte(convert_to((x::\"char\")::text || chr(1), 'UTF8'), 0)::int8",
    keys.DATE: "(x::date - '2000-01-01'::date)::int8",
    keys.TIMESTAMP: "(extract(epoch FROM x::timestamp) * 1000000)::int8 - 946684800000000",
    keys.TIMESTAMPTZ: "(extract(epoch FROM x::timestamptz) * 1000000)::int8 - 946684800000000",
    keys.UUID: "uuid_send(x::uuid)",
    keys.BYTEA: "x::bytea",
    keys.TEXT: "textsend(x::text)",
    keys.BPCHAR: "textsend((x::bpchar)::text)",
}
ALPHABETS = {
    keys.INT2: "0123456789+- _x\t",
    keys.INT4: "0123456789+- _xoe.",
    keys.INT8: "0123456789+- _",
    keys.OID: "0123456789+- ",
    keys.BYTEA: "\\x0123abz'",
    keys.TEXT: "ab 'é\\",
    keys.BPCHAR: "ab 'é\\",
    keys.CHAR: "ab\\1 é",
}
WORDS = [
    "t",
    "true",
    "TRUE",
    " f ",
    "of",
    "on",
    "yes",
    "0",
    "1",
    "01",
    "tr",
    "null",
    "",
    "infinity",
    "Infinity",
    "now",
    "epoch",
]


def _moment(type_oid: int) -> str:
    year = _random.choice(["1999", "0099", "99", "12345", "012345", "2024", "0000", "1900", "2000", "0001"])
    day = (
        f"{year}-{_random.choice(['01', '2', '13', '02', '12', '03'])}-{_random.choice(['01', '29', '30', '31', '3'])}"
    )
    if type_oid == keys.DATE and _random.random() < 0.8:
        return day + _random.choice(["", "", " BC", " 10:00"])
    time = _random.choice(
        [" 10:00", "T10:00:00", " 23:59:60", " 24:00:00", " 10:00:00.123456", " 1:00", " 10:00:00.1234567"]
    )
    if type_oid == keys.TIMESTAMP and _random.random() < 0.7:
        return day + _random.choice(["", time]) + _random.choice(["", "", " BC"])
    zone = _random.choice(["", "Z", "+01", "-0330", "+05:30:15", "+15:59", "+16:00", " UTC", "+1", " +02"])
    return day + time + zone + _random.choice(["", "", "", " BC"])


def _candidates(type_oid: int) -> list[str]:
    if type_oid == keys.UUID:
        plain = [str(uuid.UUID(int=_random.getrandbits(128))) for _ in range(50)]
        odd = [f"{{{text}}}" for text in plain] + [text.replace("-", "", n % 5) for n, text in enumerate(plain)]
        return plain + odd + [text.upper() for text in plain]
    if type_oid in ALPHABETS:
        drawn = ["".join(_random.choices(ALPHABETS[type_oid], k=_random.randint(0, 6))) for _ in range(250)]
        digits = [
            _random.choice(["", "-", "+", " "]) + str(_random.randrange(10 ** _random.randint(1, 22)))
            for _ in range(60)
        ]
        return drawn + digits
    return WORDS if type_oid == keys.BOOL else [_moment(type_oid) for _ in range(400)]


def _ask(connection: psycopg.Connection, expression: str, text: str) -> object:
    try:
        row = connection.execute(f"SELECT {expression} FROM (VALUES (%s::text)) v(x)", [text]).fetchone()
    except psycopg.DataError:
        return None
    return row[0] if row else None


@pytest.mark.parametrize("type_oid", sorted(EXPRESSIONS))
def test_from_text_agrees(plain_schema: Schema, type_oid: int) -> None:
    read = 0
    with plain_schema.connect() as connection:
        candidates = _candidates(type_oid)
        for number, text in enumerate(candidates):
            try:
                ours = from_text(type_oid, text.encode())
            except NotEvaluable:
                continue
            if number % 20 == 0 or type_oid in (keys.DATE, keys.TIMESTAMP, keys.TIMESTAMPTZ):
                style, zone = _random.choice(SETTINGS)
                connection.execute(f"SET datestyle = '{style}'")
                connection.execute(f"SET timezone = '{zone}'")
            if text in ("infinity", "-infinity"):
                continue
            expected = _ask(connection, EXPRESSIONS[type_oid], text)
            if type_oid == keys.CHAR and ours == 0:
                ours = 1  # a zero byte is shown as the empty text
            assert ours == expected, text
            read += 1
    assert read >= min(10, len(candidates) // 10)  # the comparison did take place


@pytest.mark.parametrize(
    ("column", "type_oid", "token"),
    [
        ("int4", keys.INT4, "5"),
        ("int4", keys.INT4, "-7"),
        ("int4", keys.INT4, "' 5 '"),
        ("int8", keys.INT8, "5000000000"),
        ("text", keys.TEXT, "'it''s'"),
        ("text", keys.TEXT, "''"),
        ("varchar(3)", keys.VARCHAR, "'ab'"),
        ("char(4)", keys.BPCHAR, "'ab  '"),
        ("bool", keys.BOOL, "TRUE"),
        ("bool", keys.BOOL, "'f'"),
        ("oid", keys.OID, "3000000000"),
        ("bytea", keys.BYTEA, r"'\x00ff'"),
        ("date", keys.DATE, "'2024-02-29'"),
    ],
)
def test_literals_find_the_row_where_an_insert_puts_it(
    plain_schema: Schema, column: str, type_oid: int, token: str
) -> None:
    from hanse.catalog.partition_hash import partition_index

    ours = partition_index((from_literal(token.encode(), type_oid),), (type_oid,), 16)
    with plain_schema.connect() as connection:
        connection.execute(f"CREATE TABLE h (k {column}) PARTITION BY HASH (k)")
        connection.execute(f"CREATE TABLE p PARTITION OF h FOR VALUES WITH (MODULUS 16, REMAINDER {ours})")
        connection.execute(f"INSERT INTO h VALUES ({token})")
        assert connection.execute(f"SELECT count(*) FROM p WHERE k = {token}").fetchone() == (1,)
