"""A reference table's copies stay identical under writers that conflict, on two gateways (findings-gateway 20), and text
means the same everywhere (21)."""

from __future__ import annotations

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

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
