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
            if not name.startswith(("view", "into", "several")):
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


def test_others_are_served_meanwhile(dsns: list[str]) -> None:
    """65,535 parameters took a worker 50 s."""
    count = 65_535
    waits: list[float] = []
    ready, over = threading.Event(), threading.Event()

    def other() -> None:
        with psycopg.connect(dsns[1], autocommit=True) as connection:
            while not over.is_set():
                began = time.monotonic()
                connection.execute("SELECT 1")
                waits.append(time.monotonic() - began)
                ready.set()
                time.sleep(0.005)

    thread = threading.Thread(target=other)
    thread.start()
    try:
        with psycopg.connect(dsns[1], autocommit=True) as connection:
            assert ready.wait(20)
            sql = "SELECT count(*) FROM t WHERE id IN (" + ",".join(["%s"] * count) + ")"
            found = connection.execute(sql, list(range(count)), prepare=False).fetchone()  # type: ignore[call-overload]
            assert found is not None and found[0] > 1000
    finally:
        over.set()
        thread.join(60)
    assert max(waits) < 10, "the worker was away for seconds"
