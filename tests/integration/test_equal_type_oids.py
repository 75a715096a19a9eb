"""Types have equal OIDs on every instance, also where other sessions draw from the same counters (findings-gateway 10)."""

from __future__ import annotations

import contextlib
import json
import threading

import psycopg
import pytest

from support.schemas import Schema
from support.servers import Cluster

TYPES = """
SELECT t.typname, t.oid::int8 FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE n.nspname = %s
"""
DRAW = "SELECT count(pg_nextoid('pg_type', 'oid', 'pg_type_oid_index')) FROM generate_series(1, 50)"
STATEMENTS = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN small AS int CHECK (VALUE < 10)",
    "CREATE TYPE span AS RANGE (subtype = int)",
    "CREATE TABLE plain (id serial PRIMARY KEY, m mood, n small)",
    "CREATE TABLE sharded (id bigint PRIMARY KEY, m mood[]) PARTITION BY HASH (id) WITH (shards = 5)",
    "CREATE TABLE copied (id int PRIMARY KEY, p pair) WITH (distribution = 'reference')",
    "CREATE TABLE ranged (day date, m mood) PARTITION BY RANGE (day)",
    "CREATE TABLE ranged_1 PARTITION OF ranged FOR VALUES FROM (MINVALUE) TO ('2026-01-01') TABLESPACE g2",
    "CREATE VIEW seen AS SELECT id, m FROM plain",
    "CREATE TABLE made AS SELECT id FROM plain",
    "CREATE MATERIALIZED VIEW kept AS SELECT id FROM plain",
    "CREATE TABLE turned (id int PRIMARY KEY, m mood)",
    "CREATE VIEW over_turned AS SELECT * FROM turned",
    "SELECT create_distributed_table('turned', 'id')",
    "ALTER TABLE ranged DETACH PARTITION ranged_1",
)


@pytest.fixture
def instances(cluster: Cluster) -> dict[str, str]:
    return cluster.instance_dsns()


def _differing(instances: dict[str, str], schema: str, *, at_least: int, without: str = "") -> list[str]:
    oids: dict[str, dict[str, int]] = {}
    for place, dsn in instances.items():
        if without and place.endswith(without):
            continue
        with psycopg.connect(dsn) as connection:
            for name, oid in connection.execute(TYPES, (schema,)):
                oids.setdefault(name, {})[place] = oid
    assert len(oids) >= at_least
    return [f"{name}: {places}" for name, places in oids.items() if len(set(places.values())) > 1]


def test_types_have_equal_oids_everywhere(cluster: Cluster, cluster_schema: Schema, instances: dict[str, str]) -> None:
    with cluster_schema.connect() as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
    for file in sorted(cluster.data_directory.glob("*/node.json")):  # each node's workspace follows when it is asked
        port = json.loads(file.read_text())["gateway_port"]
        with psycopg.connect(cluster_schema.dsn, port=port) as connection:
            assert connection.execute("SELECT to_regtype('mood')::text").fetchone() == ("mood",)
    # A detached table is made anew in the groups that did not have it, as a single table that is empty there.
    assert [line for line in _differing(instances, cluster_schema.name, at_least=40) if "ranged_1" not in line] == []


def test_a_busy_counter_is_noticed(cluster_schema: Schema, instances: dict[str, str]) -> None:
    stop = threading.Event()
    group = next(dsn for place, dsn in instances.items() if place.endswith("g1"))

    def draw() -> None:
        with psycopg.connect(group, autocommit=True) as busy:
            while not stop.wait(0.05):
                busy.execute(DRAW)

    thread = threading.Thread(target=draw)
    thread.start()
    made = 0
    try:
        with cluster_schema.connect() as connection:
            for number in range(25):
                with contextlib.suppress(psycopg.errors.SerializationFailure):
                    connection.execute(f"CREATE TABLE busy_{number} (a int)")
                    made += 1
    finally:
        stop.set()
        thread.join()
    assert _differing(instances, cluster_schema.name, at_least=2 * made, without="n2.workspace") == []
