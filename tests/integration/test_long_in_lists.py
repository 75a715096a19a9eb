# ruff: noqa: E501
"""Statements with long lists of values answer as on one server, on every path; a worker serves others meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from hanse.sql.inlists import VALUES_MIN
from support.schemas import on_both
from support.servers import Cluster, Server

COUNT = VALUES_MIN + 100
NUMBERS = ", ".join(str(3 * n) for n in range(COUNT))
STRINGS = ", ".join(f"'v{3 * n}'" for n in range(COUNT)) + ", NULL"
ROWS = ", ".join(f"({3 * n}, 'w{n}')" for n in range(COUNT))
STATEMENTS = {
    "key": f"SELECT count(*), sum(id) FROM t WHERE id IN ({NUMBERS})",
    "not": f"SELECT id FROM t WHERE id NOT IN ({NUMBERS}) ORDER BY id LIMIT 7",
    "not null": f"SELECT count(*) FROM t WHERE v NOT IN ({STRINGS})",
    "strings": f"SELECT id, v FROM t WHERE v IN ({STRINGS}) ORDER BY id DESC LIMIT 9",
    "joined": f"SELECT count(*) FROM t a JOIN t b ON a.v = b.v WHERE a.id IN ({NUMBERS}) AND b.v IN ({STRINGS})",
    "grouped": f"SELECT id IN ({NUMBERS}) AS third, count(*) FROM t GROUP BY 1 ORDER BY 1",
    "window": f"SELECT id, row_number() OVER (ORDER BY id DESC) FROM t WHERE v IN ({STRINGS}) ORDER BY 1 LIMIT 5",
    "subquery": f"SELECT count(*) FROM t WHERE id < (SELECT avg(id) FROM t WHERE id IN ({NUMBERS}))",
    "union": f"SELECT id FROM t WHERE id IN ({NUMBERS}) INTERSECT SELECT id FROM t WHERE id IN ({NUMBERS}, 1) ORDER BY 1 LIMIT 3",
    "update": f"UPDATE t SET n = n + 1 WHERE id IN ({NUMBERS}) AND n >= 0",
    "returning": f"WITH d AS (DELETE FROM t WHERE v IN ({STRINGS}) AND id > 1500 RETURNING id) SELECT count(*) FROM d",
    "rows": f"SELECT count(*), max(id) FROM t WHERE (id, v) IN (VALUES {ROWS}) OR (n, v) IN ({ROWS.replace('w', 'v')})",
    "array": f"SELECT count(*), min(v) FROM t WHERE id = ANY (ARRAY[{NUMBERS}]) AND v <> ALL (ARRAY[{STRINGS.removesuffix(', NULL')}])",
    "table": f"SELECT count(*), max(x) FROM t JOIN (VALUES {ROWS}) v (id, x) USING (id)",
    "table not by key": f"SELECT t.id, x FROM t JOIN (VALUES {ROWS}) v (w, x) ON t.n = v.w ORDER BY 1, 2 LIMIT 3",
    "table in WITH": f"WITH v (id, x) AS (VALUES {ROWS}) SELECT x, id, sum(id) OVER (ORDER BY id DESC) FROM t LEFT JOIN v USING (id) ORDER BY 2 LIMIT 4",
    "table alone": f"SELECT * FROM (VALUES (1, NULL), {ROWS}) v (id, x) WHERE x > 'w9' ORDER BY 1 LIMIT 3",
    "types of later rows": f"SELECT pg_typeof(id), count(*) FROM t, (VALUES (1), {', '.join(f'({n})' for n in range(COUNT))}, (2.5)) v (w) WHERE w > 2 AND id = 7 GROUP BY 1",
    "update from": f"UPDATE t SET n = length(x) FROM (VALUES {ROWS}) v (id, x) WHERE t.id = v.id",
    "merge": f"MERGE INTO t USING (VALUES {ROWS}) v (id, x) ON t.id = v.id WHEN MATCHED THEN UPDATE SET n = t.n + 1 WHEN NOT MATCHED AND v.id > 2001 THEN INSERT VALUES (v.id, v.x, -1)",
    "merged": "SELECT count(*), sum(n), max(v) FROM t",
    "insert from": f"INSERT INTO t SELECT id + 10000, x FROM (VALUES {ROWS}) v (id, x) WHERE id % 2 = 0",
    "insert in parentheses": f"INSERT INTO t (id, v) (VALUES {ROWS}) ON CONFLICT (id) DO UPDATE SET v = t.v || excluded.v",
    "inserted": "SELECT count(*), sum(n), max(v), min(v) FROM t",
    "or": "SELECT count(*) FROM t WHERE " + " OR ".join(f"id = {3 * n} AND v <> 'v{n}'" for n in range(COUNT)),
    "wrong or": "SELECT count(*) FROM t WHERE " + " OR ".join(f"id = {3 * n} AND z <> 'v{n}'" for n in range(COUNT)),
    "insert": f"INSERT INTO copied SELECT id FROM t WHERE id IN ({NUMBERS})",
    "view": f"CREATE VIEW few AS SELECT id FROM t WHERE id IN ({NUMBERS})",
    "from view": "SELECT count(*), max(id) FROM few",
    "into": f"SELECT id INTO made FROM t WHERE id IN ({NUMBERS}) AND id < 100",
    "from made": "SELECT count(*), max(id) FROM made",
    "types": f"SELECT count(*) FROM t WHERE v IN ({NUMBERS})",
    "wrong": "SELECT count(*) FROM t WHERE id IN (" + NUMBERS + ", 'x')",
    "name": f"SELECT count(*) FROM t WHERE nothing IN ({NUMBERS})",
    "several": f"SELECT 1; SELECT count(*) FROM t WHERE id IN ({NUMBERS})",
}  # fmt: skip


@pytest.fixture(scope="module")
def dsns(plain_postgres: Server, cluster: Cluster) -> Iterator[list[str]]:
    setup = (
        "CREATE TABLE t (id int PRIMARY KEY, v text, n int)",
        "CREATE TABLE copied (id int PRIMARY KEY)",
        "INSERT INTO t SELECT g, 'v' || g, 0 FROM generate_series(1, 2000) g",
    )
    with on_both(plain_postgres, cluster, "lists", setup) as schema:
        with psycopg.connect(cluster.dsn, autocommit=True) as connection:
            connection.execute(f"SELECT create_reference_table('{schema}.copied')")
        options = f"-c search_path={schema} -c client_min_messages=error"
        yield [server.dsn_for(options=options) for server in (plain_postgres, cluster.server)]


def _answer(connection: psycopg.Connection, sql: str, values: list[object] | None = None) -> object:
    try:
        cursor = connection.execute(sql, values, prepare=False)  # type: ignore[call-overload]
        while cursor.nextset():
            pass
        return cursor.statusmessage, cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        return error.sqlstate, error.diag.message_primary, error.diag.statement_position


def test_as_postgres(dsns: list[str]) -> None:
    plain, ours = (psycopg.connect(dsn, autocommit=True) for dsn in dsns)
    with plain, ours:
        for name, sql in STATEMENTS.items():
            assert _answer(ours, sql) == _answer(plain, sql), name
            if not name.startswith(("view", "into", "several")) and "VALUES" not in sql and " OR " not in sql:
                assert _answer(ours, "EXPLAIN (COSTS off) " + sql)[0] == _answer(plain, "EXPLAIN (COSTS off) " + sql)[0], name  # type: ignore[index]  # fmt: skip
        values: list[object] = [3 * n for n in range(COUNT)]
        marks = ",".join(["%s"] * COUNT)
        for sql in (
            f"SELECT count(*), max(v) FROM t WHERE id IN ({marks})",
            f"UPDATE t SET n = 7 WHERE id IN ({marks})",
            f"SELECT id, rank() OVER (ORDER BY v) FROM t WHERE id NOT IN ({marks}) ORDER BY 2 LIMIT 4",
        ):
            for _ in range(2):
                assert _answer(ours, sql, values) == _answer(plain, sql, values), sql
        both = f"SELECT v FROM t WHERE id = %s AND n < %s AND id IN ({marks})"
        assert _answer(ours, both, [30, 99, *values]) == _answer(plain, both, [30, 99, *values])


PARAMETERS = 65_535  # took a worker 50 s
TERMS = 1_500  # 2 s
LONG = {
    "parameters": "SELECT count(*) > 1000 FROM t WHERE id IN ("
    + ",".join(f"${n + 1}" for n in range(PARAMETERS))
    + ")",
    "table": "SELECT count(*) > 1000 FROM t JOIN (VALUES "
    + ",".join(f"({n})" for n in range(PARAMETERS))
    + ") v (w) ON t.id = v.w",
    "or": "SELECT count(*) > 1000 FROM t WHERE " + " OR ".join(f"id = {n} OR v = '{n}'" for n in range(TERMS)),
}


def test_others_are_served_meanwhile(dsns: list[str]) -> None:
    """However long it takes: how many statements another session has had answered is what is counted."""
    waits: list[float] = []
    ready, over = threading.Event(), threading.Event()

    def other() -> None:
        with psycopg.connect(dsns[1], autocommit=True) as connection:
            while not over.is_set():
                began = time.monotonic()
                connection.execute("SELECT 1")
                waits.append(time.monotonic() - began)
                ready.set()
                time.sleep(0.002)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with psycopg.connect(dsns[1], autocommit=True) as connection:
            assert ready.wait(20)
            for name, sql in LONG.items():
                before = len(waits)
                values = [b"%d" % n for n in range(PARAMETERS)] if name == "parameters" else []
                found = connection.pgconn.exec_params(sql.encode(), values)
                assert found.get_value(0, 0) == b"t", found.error_message
                assert len(waits) - before >= 10, name
    finally:
        over.set()
        thread.join(60)
    assert max(waits) < 20, "the worker was away for long"
