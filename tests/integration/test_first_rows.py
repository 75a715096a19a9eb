"""A HASH table that was declared without shards gets them when its first rows come, whatever statement brings them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support.schemas import Schema

DEFAULT_SHARDS = 8  # four for each group, at least eight
FIRST_ROWS = {
    "one row": "INSERT INTO t VALUES (1, 'a')",
    "rows": "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    "a drawn key": "INSERT INTO t (b) VALUES ('a')",
    "a query": "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 50) i",
    "an upsert": "INSERT INTO t VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET b = 'z'",
    "a CTE": "WITH source AS (SELECT 1 AS id) INSERT INTO t SELECT id, 'a' FROM source",
}


@pytest.mark.parametrize("statement", FIRST_ROWS.values(), ids=FIRST_ROWS.keys())
def test_shards_are_made(cluster_schema: Schema, statement: str) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id bigserial PRIMARY KEY, b text) PARTITION BY HASH (id)")
        assert shards(connection, cluster_schema.name) == 0
        written = connection.execute(statement).rowcount
        assert written == connection.execute("SELECT count(*) FROM t").fetchone()[0]  # type: ignore[index]
        assert shards(connection, cluster_schema.name) == DEFAULT_SHARDS


def test_with_parameters(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY HASH (id)")
        assert connection.execute("INSERT INTO t VALUES (%s) RETURNING id", (7,)).fetchall() == [(7,)]
        assert shards(connection, cluster_schema.name) == DEFAULT_SHARDS


def test_they_stay_and_others_change_the_schema_meanwhile(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection, cluster_schema.connect() as other:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY HASH (id)")
        with connection.transaction(force_rollback=True):
            connection.execute("INSERT INTO t VALUES (1), (2)")
            other.execute("CREATE TABLE another (id int)")
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
        assert shards(connection, cluster_schema.name) == DEFAULT_SHARDS
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


OWN_LOCKS = {
    "the table was read": "SELECT count(*) FROM t",
    "the table was locked": "LOCK TABLE t IN ACCESS SHARE MODE",
    "the schema was changed": "CREATE TABLE another (id int)",
}


@pytest.mark.parametrize("before", OWN_LOCKS.values(), ids=OWN_LOCKS.keys())
def test_rollback_takes_them_back_where_the_transaction_makes_them(cluster_schema: Schema, before: str) -> None:
    """What it has done before stands against somebody else's change."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY HASH (id)")
        with connection.transaction(force_rollback=True):
            connection.execute(before)
            connection.execute("INSERT INTO t VALUES (1), (2)")
        assert shards(connection, cluster_schema.name) == 0
        connection.execute("INSERT INTO t VALUES (1)")
        assert connection.execute("SELECT id FROM t").fetchall() == [(1,)]


def test_transactions_that_bring_first_rows_at_once(cluster_schema: Schema) -> None:
    """Each has done something else before, and waits for its turn to make the shards with what it has locked."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY) PARTITION BY HASH (id)")
        connection.execute("CREATE TABLE other (id int PRIMARY KEY) PARTITION BY HASH (id) WITH (shards = 4)")
    clients = 6
    ready = threading.Barrier(clients)

    def bring(number: int) -> None:
        with cluster_schema.connect() as connection, connection.transaction():
            connection.execute("INSERT INTO other VALUES (%s)", (number,))
            ready.wait(60)
            connection.execute("INSERT INTO t VALUES (%s)", (number,))

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(bring, range(clients)))
    with cluster_schema.connect() as connection:
        assert connection.execute("SELECT count(*) FROM t JOIN other USING (id)").fetchone() == (clients,)


def test_an_error_of_a_statement_whose_table_goes(cluster_schema: Schema) -> None:
    """It was under way when the schema changed, and is told with its place in the text."""
    with cluster_schema.connect() as holder, cluster_schema.connect() as waiting, ThreadPoolExecutor(1) as pool:
        holder.execute("CREATE TABLE t (id int PRIMARY KEY, b int) PARTITION BY HASH (id) WITH (shards = 2)")
        holder.execute("INSERT INTO t VALUES (1, 1)")
        for _ in range(10):  # its plan is known
            waiting.execute("UPDATE t SET b = b + 1 WHERE id = 1")
        with holder.transaction():
            holder.execute("ALTER TABLE t DROP COLUMN b")
            told = pool.submit(waiting.execute, "UPDATE t SET b = b + 1 WHERE id = 1")
            holder.execute("DROP TABLE t")
        with pytest.raises((psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
            told.result(60)
        assert waiting.execute("SELECT 1").fetchone() == (1,)


def test_a_range_table_has_no_place_for_them(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int) PARTITION BY RANGE (id)")
        with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
            connection.execute("INSERT INTO t VALUES (1)")


def shards(connection: psycopg.Connection, schema: str) -> int:
    row = connection.execute("SELECT count(*) FROM hanse.shards WHERE schema = %s AND table_name = 't'", (schema,))
    return int(row.fetchone()[0])  # type: ignore[index]
