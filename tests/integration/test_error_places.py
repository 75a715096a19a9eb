"""Where an error lies in the client's text is told as PostgreSQL tells it, whatever texts Hanse has made of his."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from support.schemas import on_both
from support.servers import Cluster, Server

SETUP = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, n int)",
    "INSERT INTO t SELECT g, 'v', g FROM generate_series(1, 6) g",
)
JOIN = "FROM t a JOIN t b ON a.n = b.n"
TEXTS = (
    "PREPARE p AS SELECT wrong FROM t WHERE id = $1",
    f"PREPARE p AS SELECT a.wrong {JOIN}",
    "EXECUTE known('x')",
    "EXECUTE  known ( 1 + 1, 2)",
    "EXECUTE known(wrong)",
    "EXECUTE known(1/0)",
    "DECLARE c CURSOR WITH HOLD FOR SELECT wrong FROM t",
    f"DECLARE c CURSOR WITH HOLD FOR SELECT a.wrong {JOIN}",
    "EXPLAIN SELECT wrong FROM t",
    "EXPLAIN (COSTS OFF) SELECT wrong FROM t WHERE id = 1",
    f"EXPLAIN SELECT a.wrong {JOIN}",
    f"EXPLAIN ANALYZE VERBOSE SELECT a.wrong {JOIN}",
    "COPY (SELECT wrong FROM t) TO STDOUT",
    f"COPY (SELECT a.id, b.wrong {JOIN}) TO STDOUT",
    "INSERT INTO t (id, n) VALUES (1, 'x', 3)",
    "INSERT INTO t (id, n) VALUES (1)",
    "INSERT INTO t VALUES (1, 'x', 3), (2, 'x', 'wrong')",
    f"INSERT INTO t SELECT a.id + 100, a.v, b.v {JOIN}",
    f"WITH w AS (INSERT INTO t VALUES (9, 'x') RETURNING *) SELECT a.wrong {JOIN.replace('t a', 'w a')}",
    f"SELECT 'ä', b.wrong {JOIN}",
    f"SELECT 1; SELECT b.wrong {JOIN}",
    "SELECT E'\\u00'",
    "VACUUM nowhere",
    "ANALYZE t (wrong)",
)


@pytest.fixture(scope="module")
def schema(plain_postgres: Server, cluster: Cluster) -> Iterator[str]:
    with on_both(plain_postgres, cluster, "places", SETUP) as name:
        yield name


def test_as_postgres(schema: str, plain_postgres: Server, cluster: Cluster) -> None:
    plain, ours = (_told(server, schema) for server in (plain_postgres, cluster.server))
    assert ours == plain
    assert [text for text, told in plain.items() if told is None] == []


def _told(server: Server, schema: str) -> dict[str, tuple[str | None, ...] | None]:
    found: dict[str, tuple[str | None, ...] | None] = {}
    with psycopg.connect(server.dsn_for(options=f"-c search_path={schema}"), autocommit=True) as connection:
        connection.execute("PREPARE known AS SELECT v FROM t WHERE id = $1")
        for text in TEXTS:
            try:
                connection.execute(text)  # type: ignore[call-overload]
                found[text] = None
            except psycopg.Error as error:
                diag = error.diag
                found[text] = (
                    diag.sqlstate,
                    diag.message_primary,
                    diag.message_detail,
                    diag.message_hint,
                    diag.statement_position,
                )
    return found
