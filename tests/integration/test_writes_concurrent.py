"""A write whose new values a query computes loses no update of somebody else (planner/writeback.py: why it locks)."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

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
