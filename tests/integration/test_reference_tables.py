"""A reference table's copies stay identical under writers that conflict, on two gateways (findings-gateway 20), and text
means the same everywhere (21)."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

CLIENTS, STEPS, KEYS = 8, 15, 12
DIGEST = "SELECT count(*), md5(string_agg(r::text, ',' ORDER BY id)) FROM {schema}.{table} r"


def _write(dsn: str, seed: int) -> int:
    """Statements that meet in few rows, in any order; gives what was added to `hits` and acknowledged."""
    dice, acknowledged = random.Random(seed), 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        for step in range(STEPS):
            key, other = dice.sample(range(KEYS), 2)
            statements = dice.choice(
                [
                    [
                        f"INSERT INTO shared VALUES ({key}, 1, 's{seed}') ON CONFLICT (id) DO UPDATE SET n = shared.n + 1"
                    ],
                    [f"UPDATE shared SET n = n + 1, note = 's{seed}.{step}' WHERE id IN ({key}, {other})"],
                    [f"DELETE FROM shared WHERE id = {key} AND n > 3"],
                    [f"INSERT INTO shared VALUES ({key}, 0, random()::text) ON CONFLICT DO NOTHING"],
                    [
                        f"UPDATE shared SET n = n - 1 WHERE id = {key}",
                        f"UPDATE shared SET note = 'x', at = clock_timestamp() WHERE id = {other}",
                    ],
                ]
            )
            with contextlib.suppress(errors.DeadlockDetected, errors.SerializationFailure), connection.transaction():
                for statement in statements:
                    connection.execute(statement)
            connection.execute("UPDATE hits SET n = n + 1")
            acknowledged += 1
    return acknowledged


def test_copies_are_identical_after_conflicting_writes(cluster: Cluster, cluster_schema: Schema) -> None:
    reference = "WITH (distribution = 'reference')"
    with cluster_schema.connect() as connection:
        connection.execute(f"CREATE TABLE shared (id int PRIMARY KEY, n int, note text, at timestamptz) {reference}")
        connection.execute(f"CREATE TABLE hits (id int PRIMARY KEY, n int) {reference}")
        connection.execute("INSERT INTO hits VALUES (1, 0)")
    path = f"-c search_path={cluster_schema.name},public"
    dsns = [gateway.dsn_for(options=path) for gateway in cluster.gateways]
    with ThreadPoolExecutor(CLIENTS) as pool:
        total = sum(pool.map(_write, [dsns[i % len(dsns)] for i in range(CLIENTS)], range(CLIENTS)))
    for table in ("shared", "hits"):
        digests = {}
        for group, dsn in cluster.group_dsns().items():
            with psycopg.connect(dsn) as connection:
                query = DIGEST.format(schema=cluster_schema.name, table=table)
                digests[group] = connection.execute(query).fetchone()  # type: ignore[arg-type]
        assert len(set(digests.values())) == 1, digests
    with cluster_schema.connect() as connection:
        assert connection.execute("SELECT n FROM hits").fetchone() == (total,)


WAITING = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%%first_then%%'"


@pytest.mark.parametrize("value", ["1", "random()"])
def test_a_writer_waits_in_the_first_group_and_holds_nothing_in_others(
    cluster: Cluster, cluster_schema: Schema, value: str
) -> None:
    """Two writers of one row that began in different groups would each hold what the other waits for."""
    with cluster_schema.connect() as connection, ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
        connection.execute(
            "CREATE TABLE first_then (id int PRIMARY KEY, n float) WITH (distribution = 'reference')",
        )
        connection.execute("INSERT INTO first_then VALUES (1, 0)")
        dsns = dict(sorted(cluster.group_dsns().items()))
        groups = [stack.enter_context(psycopg.connect(dsn)) for dsn in dsns.values()]
        row = f"SELECT n FROM {cluster_schema.name}.first_then WHERE id = 1 FOR UPDATE NOWAIT"
        groups[0].execute(row)  # type: ignore[call-overload]
        writer = pool.submit(connection.execute, f"UPDATE first_then SET n = {value} WHERE id = 1")
        with psycopg.connect(next(iter(dsns.values())), autocommit=True) as watcher:
            wait_until("the writer waits", lambda: watcher.execute(WAITING).fetchone() is not None, timeout_s=30)
        for group in groups[1:]:
            group.execute(row)  # type: ignore[call-overload]
        for group in groups:
            group.rollback()
        assert writer.result(timeout=60).rowcount == 1


LOCALE = """
SELECT datcollate, datctype, datlocprovider, pg_encoding_to_char(encoding), current_setting('lc_messages'),
    current_setting('lc_monetary'), current_setting('lc_numeric'), current_setting('lc_time'), lower('ÉA'),
    (SELECT string_agg(x, '' ORDER BY x) FROM (VALUES ('b'), ('A'), ('a'), ('é'), ('Z')) v(x))
FROM pg_database WHERE datname = current_database()
"""


def test_every_instance_has_the_same_locale(cluster: Cluster) -> None:
    found = {row for (row,) in cluster.ask_instances(LOCALE).values()}
    ctype = {row[1] for row in found}
    assert found == {("C", *ctype, "c", "UTF8", "C", "C", "C", "C", "éa", "AZabé")}


def test_a_nondeterministic_collation_is_no_key(cluster_schema: Schema) -> None:
    """Equal texts would have different hashes."""
    with cluster_schema.connect() as connection:
        try:
            connection.execute(
                "CREATE COLLATION folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )
        except errors.FeatureNotSupported:
            pytest.skip("this PostgreSQL was built without ICU")
        for strategy in ("HASH", "LIST", "RANGE"):
            with pytest.raises(errors.FeatureNotSupported):
                connection.execute(f"CREATE TABLE t (k text COLLATE folded) PARTITION BY {strategy} (k)")
        connection.execute("CREATE TABLE plain (k text COLLATE folded, v int)")
        with pytest.raises(errors.FeatureNotSupported):
            connection.execute("SELECT create_distributed_table('plain', 'k')")
        assert connection.execute("SELECT count(*) FROM plain").fetchone() == (0,)
