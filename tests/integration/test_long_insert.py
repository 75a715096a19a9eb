"""INSERT … VALUES of many rows: rows, order, tags and errors are one PostgreSQL's, and other sessions go on meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from fuzz.test_fuzz_gateway import worker_of
from support.schemas import Schema
from support.servers import Cluster
from support.turns import turns_of

ROWS = 3_000
BLOCKING_ROWS = 20_000  # their tree took 10 s to make and walk, during which nobody else was served
TURN_S_MAX = 0.3  # of CPU

TABLES = {
    "sharded": "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, d timestamptz){by_id}",
    "text key": "CREATE TABLE t (id text, a int, b text, d timestamptz){by_id}",
    "doubtful key": "CREATE TABLE t (id bigint, a int, b text, d date){by_date}",
    "reference": "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, d timestamptz){reference}",
    "single": "CREATE TABLE t (id bigint PRIMARY KEY, a int, b text, d timestamptz)",
}
OPTIONS = {
    "by_id": " PARTITION BY HASH (id) WITH (shards = 4)",
    "by_date": " PARTITION BY HASH (d) WITH (shards = 4)",
    "reference": " WITH (distribution = reference)",
}


def row(number: int) -> str:
    a = "NULL" if number % 3 == 0 else str(number % 11 - 5)
    b = "NULL" if number % 7 == 0 else f"'it''s ({number}'"
    return f"({number}, {a}, {b}, '{'2024-02-01' if number % 5 else '1 Feb 2024'}')"


def values(count: int, make: Callable[[int], str] = row) -> str:
    return ",\n".join(map(make, range(count)))


def pair(table: str, plain: Schema, cluster: Schema) -> tuple[psycopg.Connection, psycopg.Connection]:
    one, many = plain.connect(), cluster.connect()
    one.execute(TABLES[table].format(**dict.fromkeys(OPTIONS, "")))
    many.execute(TABLES[table].format(**OPTIONS))
    return one, many


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("extended", [False, True])
def test_rows(plain_schema: Schema, cluster_schema: Schema, table: str, extended: bool) -> None:
    one, many = pair(table, plain_schema, cluster_schema)
    sql = f"INSERT INTO t VALUES {values(ROWS)} RETURNING a, id, b, d"
    with one, many:
        expected = one.execute(sql).fetchall()
        assert many.execute(sql, prepare=extended).fetchall() == expected
        assert many.execute("SELECT count(*), sum(a), count(b), min(d) FROM t").fetchone() == (
            one.execute("SELECT count(*), sum(a), count(b), min(d) FROM t").fetchone()
        )
        if table == "sharded":
            assert many.execute("SELECT a FROM t WHERE id = 4").fetchone() == (-1,)


def test_on_conflict_and_tag(plain_schema: Schema, cluster_schema: Schema) -> None:
    one, many = pair("sharded", plain_schema, cluster_schema)
    with one, many:
        for connection in (one, many):
            connection.execute(f"INSERT INTO t VALUES {values(10)}")
            sql = f"INSERT INTO t (id, a, b, d) VALUES {values(ROWS)} ON CONFLICT (id) DO UPDATE SET b = 'again'"
            assert connection.execute(sql).rowcount == ROWS
            with pytest.raises(psycopg.errors.UniqueViolation):
                connection.execute(f"INSERT INTO t VALUES {values(ROWS)}")
            with pytest.raises(psycopg.errors.InvalidTextRepresentation):
                connection.execute(
                    f"INSERT INTO t VALUES {values(ROWS, lambda n: row(n + ROWS))}, ('x', 1, 'b', '2024-01-01')"
                )
            with pytest.raises(psycopg.errors.SyntaxError, match="VALUES lists must all be the same length"):
                connection.execute(f"INSERT INTO t VALUES {values(ROWS)}, (7, 7)")
            assert connection.execute("SELECT count(*), count(*) FILTER (WHERE b = 'again') FROM t").fetchone() == (
                ROWS,
                10,
            )


def test_ids_from_a_sequence(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as many:
        many.execute(
            "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int) PARTITION BY HASH (id)"
        )
        found = many.execute(
            f"INSERT INTO t (a) VALUES {values(ROWS, lambda n: f'({n}) /**/'[:-5])} RETURNING id, a"
        ).fetchall()
        assert [a for _, a in found] == list(range(ROWS)) and len({id for id, _ in found}) == ROWS
        assert many.execute("SELECT a FROM t WHERE id = %s", [found[-1][0]]).fetchone() == (ROWS - 1,)


def test_the_same_list_again_takes_the_plan_that_was_kept(cluster_schema: Schema) -> None:
    def rows(first: int) -> str:
        return values(ROWS // 2, lambda n: f"({first + n}, {n}, 'b', '2024-01-01')")

    with cluster_schema.connect() as many:
        many.execute(TABLES["sharded"].format(**OPTIONS))
        for turn in range(3):
            many.execute(f"INSERT INTO t VALUES {rows(turn * ROWS)}")
        found = many.execute("SELECT count(*), count(DISTINCT id), min(id), max(id) FROM t").fetchone()
        assert found == (3 * ROWS // 2, 3 * ROWS // 2, 0, 2 * ROWS + ROWS // 2 - 1)
        assert many.execute("SELECT a FROM t WHERE id = %s", [2 * ROWS + 5]).fetchone() == (5,)


def test_parentheses_around_the_list_mean_nothing(plain_schema: Schema, cluster_schema: Schema) -> None:
    one, many = pair("sharded", plain_schema, cluster_schema)
    again = "ON CONFLICT (id) DO UPDATE SET b = excluded.b || '!'"
    statements = (
        f"INSERT INTO t (VALUES {values(ROWS)})",
        f"INSERT INTO t (id, a, b, d) ( VALUES {values(ROWS + 100)} ) {again} RETURNING id, a, b",
        f"INSERT INTO t (VALUES {values(ROWS)}",
        f"INSERT INTO t (VALUES {values(ROWS)}))",
        f"INSERT INTO t (VALUES {values(ROWS)}, (1, 2))",
    )
    with one, many:
        for sql in statements:
            assert answer(many, sql) == answer(one, sql), sql[:40]
        look = "SELECT * FROM t ORDER BY id"
        assert many.execute(look).fetchall() == one.execute(look).fetchall()


def answer(connection: psycopg.Connection, sql: str) -> object:
    try:
        cursor = connection.execute(sql)  # type: ignore[call-overload]
        return cursor.statusmessage, cursor.fetchall() if cursor.description else None
    except psycopg.Error as error:
        return error.sqlstate


@pytest.mark.parametrize("form", ["INSERT INTO t VALUES {}", "INSERT INTO t (VALUES {})"])
def test_others_are_served_meanwhile(form: str, cluster_schema: Schema, cluster: Cluster) -> None:
    with cluster_schema.connect() as many:
        many.execute(TABLES["sharded"].format(**OPTIONS))
        with turns_of(cluster.server, worker_of(cluster).process.pid) as turns:
            many.execute(form.format(values(BLOCKING_ROWS)))  # type: ignore[call-overload]
        assert turns.longest_s < TURN_S_MAX
        assert many.execute("SELECT count(*) FROM t").fetchone() == (BLOCKING_ROWS,)
