# ruff: noqa: E501
"""A key written in any form finds the rows that PostgreSQL finds: literals of every type, casts, parameters of every type.

Routing reads a key's value from the statement's text or from Bind; where it reads another value than PostgreSQL, rows are missed
without an error. Each form is asked of a table sharded by the key and of a plain table with the same rows, in the simple
protocol, in the extended one, and as a statement that is prepared and run twice; and it is written, so that rows lie where
they are looked for.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

import psycopg
import pytest

from support.differential import Comparison, difference
from support.servers import Cluster, Server
from support.wire import Mode, Wire

KEYS = {
    "int2": ["-32768", "-5", "-1", "0", "1", "5", "6", "31", "1000", "32767"],
    "int4": ["-5", "-1", "0", "1", "5", "6", "31", "1000", "70000", "2147483647", "-2147483648"],
    "int8": ["-5", "-1", "0", "1", "5", "6", "31", "1000", "5000000000", "9223372036854775807", "-9223372036854775808"],
    "text": ["", "5", "05", "a", "A", " a", "a ", "it's", "\\x41", "é", "e\u0301", "1000", "NULL"],
    "varchar(10)": ["", "5", "a", "a ", "it's", "é", "1000"],
    "char(4)": ["", "5", "a", "it's", "é"],
    "date": ["2020-02-29", "2024-01-02", "2024-02-01", "infinity", "-infinity", "0044-03-15 BC", "1999-12-31"],
    "timestamptz": ["2020-02-29 12:00:00+00", "2024-01-02 00:00:00+00", "2024-01-01 23:00:00+00", "infinity"],
    "timestamp": ["2020-02-29 12:00:00", "2024-01-02 00:00:00", "2024-01-02 00:00:00.5", "-infinity"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"],
    "bool": ["t", "f"],
    "bytea": ["\\x", "\\x41", "\\x4142"],
}
INTEGERS = (
    "5 5.0 5.4 5.5 5e0 1e1 1e3 0x1F 0x5 0b101 0o5 1_000 005 -1 - 1 +5 -(-5) +-1 -0 5000000000 9223372036854775807 9223372036854775808 "
    "-9223372036854775808 -32768 32767 -2147483648 70000 '5' '05' '-5' '+5' '0x1F' '1_000' '0b101' '5.0' '' 'x' NULL true "
    "5::int2 5::int8 5::numeric 5.4::int4 '5'::int8 '5'::text::int4 (5) (2+3) 2+3 5*1 1000/200 5/1.0 int'5' cast(5AStext) cast('5'ASint2) "
    "E'5' E'\\x35' U&'\\0035' $$5$$ $q$5$q$ B'101' X'5' current_date length('abcde') abs(-5) 5::oid ARRAY[5] (SELECT/**/5) 5-- 5::float8 "
    "'5'::float4 '5'::money 5::bool '5'::\"char\" nullif(5,5) greatest(1,5) coalesce(NULL,5) extract(dayFROMdate'2020-01-05') 1_000_000 .5e1 5. 0 -5 31"
)
FORMS: dict[str, Sequence[str]] = {
    "int2": (),
    "int4": (),
    "int8": (),
    "text": [
        "''", "'5'", "5", "'a'", "'A'", "' a'", "'a '", "'it''s'", "E'it\\'s'", "E'\\x61'", "'\\x41'", "E'\\\\x41'", "'é'", "'e\u0301'",
        "U&'\\00e9'", "U&'!00e9' UESCAPE '!'", "$$a$$", "'a'::char(3)", "'a  '::char(4)", "'a'::varchar", "'a'::name", "'a' || ''",
        "lower('A')", "NULL", "NULL::text", "'NULL'", "1000::text", "5::text", "'a' COLLATE \"C\"", "'a'\n'b'", "''\n'a'", "N'a'",
        "text 'a'", "cast('a' as text)", "concat('a')", "format('%s', 'a')", "'5'::int::text", "5.0::text", "B'1'", "current_user",
    ],
    "varchar(10)": ["''", "'5'", "'a'", "'a '", "'a  '", "'it''s'", "'é'", "'a'::char(3)", "'a'::text", "'a '::varchar(1)", "1000::text"],
    "char(4)": ["''", "'   '", "'5'", "'a'", "'a '", "'a    '", "'it''s'", "'é'", "'a'::text", "'a '::text", "'a '::varchar", "'a'::char(3)"],
    "date": [
        "'2024-01-02'", "'20240102'", "'01/02/2024'", "'1/2/2024'", "'Jan 2, 2024'", "'2024-Jan-02'", "'2024.002'", "'J2460312'", "'2-1-2024'",
        "date '2024-01-02'", "'2024-01-02'::date", "'2024-01-02'::timestamp", "'2024-01-02 00:00'::timestamp", "'2024-01-02 05:00'::timestamp",
        "'2024-01-02'::timestamptz", "'2024-01-02 00:00:00+00'::timestamptz", "'2024-01-01 23:00:00-01'", "'2024-01-02 23:59'", "'infinity'",
        "'-infinity'", "'Infinity'", "'0044-03-15 BC'", "'44-03-15 BC'", "'epoch'", "'2024-02-30'", "'2023-12-33'", "date '2024-01-01' + 1",
        "make_date(2024, 1, 2)", "to_date('2024-01-02', 'YYYY-MM-DD')", "NULL", "'2024-1-2'", "' 2024-01-02 '", "'24-01-02'", "'99-12-31'",
        "'2024-01-02T00:00:00'", "'2024-01-02 BC'", "'12020-01-01'", "'now'::date - 'now'::date + date '2024-01-02'", "5",
    ],
    "timestamptz": [
        "'2024-01-02 00:00:00+00'", "'2024-01-02'", "'2024-01-02 00:00'", "'2024-01-02T00:00:00Z'", "'2024-01-02 01:00:00+01'", "'2024-01-01 19:00 EST'",
        "'2024-01-02 00:00 UTC'", "'2024-01-01 24:00:00+00'", "'2024-01-01 23:59:60+00'", "'2024-01-02 00:00:00.0000001+00'", "'2024-01-02'::date",
        "'2024-01-02'::timestamp", "timestamptz '2024-01-02 00:00:00+00'", "'2024-01-02 00:00:00 Europe/Berlin'", "'2024-01-02 01:00 Europe/Berlin'",
        "'infinity'", "to_timestamp(1704153600)", "'epoch'", "NULL", "'2024-01-02 00:00:00+0000'", "'2024-01-02 00:00:00+00:00:00'",
        "'2024-01-02 00:00:00-00'", "timestamp '2024-01-02' at time zone 'UTC'", "'2024-01-01 23:00:00'", "'20240102T000000Z'", "'2024-01-02 12:00 AM'",
    ],
    "timestamp": [
        "'2024-01-02'", "'2024-01-02 00:00:00'", "'2024-01-02T00:00:00'", "'2024-01-02 00:00:00.5'", "'2024-01-02 00:00:00.50'", "'2024-01-02 00:00:00.4999999'",
        "'2024-01-02 05:00:00+05'", "'2024-01-02 00:00:00+05'", "'2024-01-02 00:00:00Z'", "'2024-01-02'::date", "'2024-01-02 00:00+00'::timestamptz", "'-infinity'",
        "timestamp '2024-01-02'", "'2024-01-01 24:00:00'", "'2024-01-02 12:00:00 AM'", "NULL", "timestamp '2024-01-01' + interval '1 day'",
    ],
    "uuid": [
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'",
        "'a0eebc999c0b4ef8bb6d6bb9bd380a11'", "'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'", "'{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}'", "' a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "uuid 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text::uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::text", "NULL", "'x'",
    ],
    "bool": ["true", "false", "'t'", "'TRUE'", "'tr'", "'yes'", "'y'", "'on'", "'of'", "'o'", "'1'", "'0'", "1", "1::bool", "' t '", "NULL", "not true", "1 = 1"],
    "bytea": ["'\\x41'", "'A'", "'\\x4142'", "'AB'", "'\\101'", "E'\\\\x41'", "E'\\x41'", "''", "'\\x'", "'\\X41'", "'\\x4 1'", "'\\x41 42'", "decode('41', 'hex')", "'A'::bytea", "X'41'", "NULL"],
}  # fmt: skip
TYPE_OIDS = {
    "unknown": 0, "bool": 16, "bytea": 17, "int8": 20, "int2": 21, "int4": 23, "text": 25, "oid": 26, "float4": 700, "float8": 701, "bpchar": 1042,
    "varchar": 1043, "date": 1082, "timestamp": 1114, "timestamptz": 1184, "numeric": 1700, "uuid": 2950, "name": 19, "interval": 1186,
}  # fmt: skip
PARAMETERS: dict[str, Sequence[str | None]] = {
    "int2": ["5", "-5", "31", "1000", "5.0", " 5 ", "0x1F", "1_000", None, "70000"],
    "int4": [
        "5",
        "-5",
        "31",
        "1000",
        "5.0",
        "5.4",
        "1e3",
        "+5",
        " 5",
        "0x1F",
        "1_000",
        "005",
        None,
        "70000",
        "5000000000",
    ],
    "int8": ["5", "-5", "5000000000", "5.0", "1e3", "0x1F", None, "9223372036854775807", "9223372036854775808"],
    "text": ["5", "a", "a ", "it's", "", "é", None],
    "varchar(10)": ["5", "a", "a ", ""],
    "char(4)": ["5", "a", "a  ", ""],
    "date": ["2024-01-02", "01/02/2024", "20240102", "2024-01-02 00:00:00", "2024-01-02 05:00:00+00", "infinity", None],
    "timestamptz": ["2024-01-02", "2024-01-02 00:00:00+00", "2024-01-01 23:00:00", "infinity", None],
    "timestamp": ["2024-01-02", "2024-01-02 00:00:00+05", "2024-01-02 00:00:00.5", None],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", None],
    "bool": ["t", "true", "1", "of", None],
    "bytea": ["\\x41", "A", "\\101", None],
}
SETTINGS = ("timezone = 'UTC'", "datestyle = 'ISO, MDY'", "client_min_messages = error", "statement_timeout = '20s'")


def forms_of(key_type: str) -> Sequence[str]:
    if FORMS[key_type]:
        return FORMS[key_type]
    words = (
        INTEGERS.replace("dayFROMdate", "day\u00a0FROM\u00a0date\u00a0")
        .replace("- 1", "-\u00a01")
        .replace("5AStext", "5\u00a0AS\u00a0text")
    )
    words = words.replace("'5'ASint2", "'5'\u00a0AS\u00a0int2")
    return [word.replace("\u00a0", " ") + ("\n" if word.endswith("--") else "") for word in words.split(" ")]


def table_of(key_type: str) -> str:
    return "k_" + "".join(c for c in key_type if c.isalnum())


@pytest.fixture(scope="module")
def wires(plain_postgres: Server, cluster: Cluster) -> Iterator[tuple[Wire, Wire]]:
    schema = f"forms_{uuid.uuid4().hex[:10]}"
    servers = (plain_postgres, cluster.server)
    for server in servers:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}")  # type: ignore[call-overload]
            for key_type, values in KEYS.items():
                table = table_of(key_type)
                connection.execute(f"CREATE TABLE {table} (id {key_type}, v text)")  # type: ignore[call-overload]
                if server is cluster.server:
                    connection.execute(f"SELECT create_distributed_table('{table}', 'id')")  # type: ignore[call-overload]
                for value in values:
                    connection.execute(f"INSERT INTO {table} VALUES (%s::{key_type}, %s)", (value, value))  # type: ignore[call-overload]
    found = tuple(Wire(server.dsn_for(options=f"-c search_path={schema}")) for server in servers)
    for wire in found:
        for setting in SETTINGS:
            wire.run(f"SET {setting}")
    yield found  # type: ignore[misc]
    for wire, server in zip(found, servers, strict=True):
        wire.close()
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA {schema} CASCADE")  # type: ignore[call-overload]


def same(wires: tuple[Wire, Wire], sql: str, mode: Mode, **more: object) -> str | None:
    expected, got = (wire.run(sql, mode, **more) for wire in wires)  # type: ignore[arg-type]
    found = difference(expected, got, Comparison())
    return None if found is None else f"[{mode}] {sql} {more or ''}\n{found}"


@pytest.mark.parametrize("key_type", KEYS)
def test_literals(wires: tuple[Wire, Wire], key_type: str) -> None:
    """Every form, more often than a template needs to become a prepared statement."""
    table, wrong = table_of(key_type), []
    for form in forms_of(key_type):
        for sql in (
            f"SELECT id, v FROM {table} WHERE id = {form}",
            f"UPDATE {table} SET v = v WHERE {form} = id RETURNING v",
            f"SELECT v FROM {table} WHERE id IN ({form}, {form})",
        ):
            for mode in (Mode.SIMPLE, Mode.EXTENDED):
                wrong.append(same(wires, sql, mode))
    assert not any(wrong), "\n\n".join(filter(None, wrong))


@pytest.mark.parametrize("key_type", KEYS)
def test_rows_lie_where_they_are_looked_for(wires: tuple[Wire, Wire], key_type: str) -> None:
    """What INSERT stores under a form is found by the stored value."""
    table, wrong = table_of(key_type), []
    for form in forms_of(key_type):
        for sql in (
            f"INSERT INTO {table} VALUES ({form}, 'new') RETURNING id",
            f"SELECT a.id, b.id FROM {table} a LEFT JOIN {table} b ON a.id = b.id AND b.v = 'new' WHERE a.v = 'new'",
            f"DELETE FROM {table} WHERE v = 'new' RETURNING id",
        ):
            wrong.append(same(wires, sql, Mode.SIMPLE))
    assert not any(wrong), "\n\n".join(filter(None, wrong))


@pytest.mark.parametrize("key_type", KEYS)
def test_parameters(wires: tuple[Wire, Wire], key_type: str) -> None:
    table, wrong = table_of(key_type), []
    for name, oid in TYPE_OIDS.items():
        for value in PARAMETERS[key_type]:
            for sql in (
                f"SELECT id, v FROM {table} WHERE id = $1",
                f"SELECT v FROM {table} WHERE id = ANY (ARRAY[$1, $1])",
            ):
                found = same(wires, sql, Mode.PREPARED, parameters=(value,), types=(oid,))
                wrong.append(None if found is None else f"{name}: {found}")
    assert not any(wrong), "\n\n".join(filter(None, wrong))
