"""A write whose new values a query computes loses no update of somebody else (planner/writeback.py: why it locks)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from support.processes import wait_until
from support.servers import Cluster

WAITING = """SELECT count(*) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND query LIKE '%conc_items%' AND pid <> pg_backend_pid()"""


def _waiting(cluster: Cluster) -> bool:
    for dsn in cluster.group_dsns().values():
        with psycopg.connect(dsn, autocommit=True) as connection:
            row = connection.execute(WAITING).fetchone()
            if row is not None and row[0] > 0:
                return True
    return False


def test_an_update_by_rows_of_other_groups_waits_for_the_row(cluster: Cluster, cluster_schema: Any) -> None:
    with cluster_schema.connect() as first, cluster_schema.connect() as second:
        first.execute("CREATE TABLE conc_items (id int PRIMARY KEY, qty int) PARTITION BY HASH (id) WITH (shards = 4)")
        first.execute(
            "CREATE TABLE conc_words (word text PRIMARY KEY, n int) PARTITION BY HASH (word) WITH (shards = 4)"
        )
        first.execute("INSERT INTO conc_items SELECT i, 100 FROM generate_series(1, 8) i")
        first.execute("INSERT INTO conc_words SELECT 'w' || i, 5 FROM generate_series(1, 8) i")
        first.execute("BEGIN")
        first.execute("UPDATE conc_items SET qty = qty + 1")
        update = "UPDATE conc_items i SET qty = i.qty + w.n FROM conc_words w WHERE w.word = 'w' || i.id"
        thread = threading.Thread(target=second.execute, args=(update,))
        thread.start()
        wait_until("the second to wait", lambda: _waiting(cluster), timeout_s=10)
        first.execute("COMMIT")
        thread.join(10)
        assert not thread.is_alive()
        assert first.execute("SELECT DISTINCT qty FROM conc_items").fetchall() == [(106,)]


@pytest.mark.parametrize("prepared", [True, False], ids=["extended", "simple"])
@pytest.mark.parametrize("times", [1, 8], ids=["new", "known"])
def test_a_write_in_one_group_that_met_another_is_repeated(
    cluster: Cluster, cluster_schema: Any, prepared: bool, times: int
) -> None:
    """At REPEATABLE READ PostgreSQL answers 40001; of a statement of its own nothing is lost by trying again."""
    update = "UPDATE conc_items SET qty = qty + 1 WHERE id = %s RETURNING qty"
    with cluster_schema.connect() as first, cluster_schema.connect() as second, ThreadPoolExecutor(1) as pool:
        cursor = second.cursor() if prepared else psycopg.ClientCursor(second)
        first.execute("CREATE TABLE conc_items (id int PRIMARY KEY, qty int) PARTITION BY HASH (id) WITH (shards = 4)")
        first.execute("INSERT INTO conc_items SELECT i, 100 FROM generate_series(1, 8) i")
        second.execute("SET default_transaction_isolation = 'repeatable read'")
        for id in range(2, 2 + times - 1):
            assert cursor.execute(update, (id,)).fetchone() == (101,)
        first.execute("BEGIN")
        first.execute("UPDATE conc_items SET qty = qty + 1 WHERE id = 1")
        changed = pool.submit(lambda: cursor.execute(update, (1,)).fetchall())
        wait_until("the second to wait", lambda: _waiting(cluster), timeout_s=10)
        first.execute("COMMIT")
        assert changed.result(10) == [(102,)]


def test_a_write_over_groups_sees_one_moment_and_the_newest_rows(cluster: Cluster, cluster_schema: Any) -> None:
    """In a transaction at READ COMMITTED: it waits for a row, and changes what that has become, in every group alike."""
    with cluster_schema.connect() as first, cluster_schema.connect() as second, ThreadPoolExecutor(1) as pool:
        first.execute("CREATE TABLE conc_items (id int PRIMARY KEY, qty int) PARTITION BY HASH (id) WITH (shards = 4)")
        first.execute("INSERT INTO conc_items SELECT i, 100 FROM generate_series(1, 8) i")
        first.execute("BEGIN")
        first.execute("UPDATE conc_items SET qty = 0 WHERE id IN (1, 2)")
        first.execute("INSERT INTO conc_items SELECT i, 0 FROM generate_series(11, 14) i")
        second.execute("BEGIN")
        changed = pool.submit(lambda: second.execute("UPDATE conc_items SET qty = qty + 1").rowcount)
        wait_until("the second to wait", lambda: _waiting(cluster), timeout_s=10)
        first.execute("COMMIT")
        assert changed.result(10) == 8
        second.execute("COMMIT")
        rows = first.execute("SELECT qty, count(*) FROM conc_items GROUP BY qty ORDER BY qty").fetchall()
        assert rows == [(0, 4), (1, 2), (101, 6)]
