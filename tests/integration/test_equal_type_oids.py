"""Types have equal OIDs on every instance, also where other sessions draw from the same counters (findings-gateway 10)."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

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


def _differing(cluster: Cluster, schema: str, *, at_least: int, without: str = "") -> list[str]:
    oids: dict[str, dict[str, int]] = {}
    for place, types in cluster.ask_instances(TYPES, (schema,)).items():
        if without and place.endswith(without):
            continue
        for name, oid in types:
            oids.setdefault(name, {})[place] = oid
    assert len(oids) >= at_least
    return [f"{name}: {places}" for name, places in oids.items() if len(set(places.values())) > 1]


def test_types_have_equal_oids_everywhere(cluster: Cluster, cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        for statement in (*STATEMENTS, "CREATE TABLE whole (id int, CHECK (whole IS NOT NULL))"):
            connection.execute(statement)
    for file in sorted(cluster.data_directory.glob("*/node.json")):  # each node's workspace follows when it is asked
        port = json.loads(file.read_text())["gateway_port"]
        with psycopg.connect(cluster_schema.dsn, port=port) as connection:
            assert connection.execute("SELECT to_regtype('mood')::text").fetchone() == ("mood",)
    assert _differing(cluster, cluster_schema.name, at_least=40) == []


JOINS = """
SELECT fktable::regclass::text, fkcols, pktable::regclass::text, pkcols, is_array, is_opt
FROM pg_get_catalog_foreign_keys()
"""
LOOSE = """
SELECT classid::regclass::text, objid FROM pg_depend WHERE classid = 'pg_type'::regclass
    AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = objid)
UNION ALL SELECT refclassid::regclass::text, refobjid FROM pg_depend WHERE refclassid = 'pg_type'::regclass
    AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = refobjid)
UNION ALL SELECT classid::regclass::text, objid FROM pg_shdepend WHERE classid = 'pg_type'::regclass
    AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = objid)
UNION ALL SELECT classoid::regclass::text, objoid FROM pg_description WHERE classoid = 'pg_type'::regclass
    AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = objoid)
"""
USED = (
    "INSERT INTO plain (m, n) VALUES ('ok', 3) RETURNING m::text, (ROW(m, n)::text)",
    "SELECT p, p::text, array_agg(p) FROM (VALUES (ROW(1, 'a')::pair)) v(p) GROUP BY p",
    "SELECT span(1, 5), span(1, 5)::span_multirange, span_multirange(span(1, 2)), '{[1,3)}'::span_multirange @> 2",
    "SELECT '{sad,ok}'::mood[], enum_range(NULL::mood), 'ok'::mood > 'sad'",
    "INSERT INTO copied VALUES (1, ROW(1, 'x')::pair), (2, ROW(2, 'x')::pair)",
    "SELECT c, (c).p, (c.p).b FROM copied c ORDER BY 1",
    "INSERT INTO sharded VALUES (1, ARRAY['ok', 'sad']::mood[]), (2, '{sad}'), (3, '{}'), (4, NULL)",
    "SELECT count(s), count(DISTINCT m) FROM sharded s",
    "SELECT s FROM seen s",
    "ALTER TYPE mood ADD VALUE 'fine' AFTER 'ok'",
    "SELECT 'fine'::mood",
    "ALTER TABLE plain ADD COLUMN extra span DEFAULT '[1,2)'",
    "SELECT extra, plain FROM plain",
    "DROP VIEW seen",
    "DROP TABLE plain, sharded, copied CASCADE",
    "DROP TYPE pair, span, mood CASCADE",
)


def _check_catalogs(dsn: str) -> None:
    """What PostgreSQL's own regression test `oidjoins` checks: nothing refers to what is not there."""
    with psycopg.connect(dsn) as connection:
        assert connection.execute(LOOSE).fetchall() == []
        for table, columns, target, keys, is_array, optional in connection.execute(JOINS).fetchall():
            if target != "pg_type":
                continue
            (column,), (key,) = columns, keys
            source = f"unnest(t.{column}::oid[])" if is_array else f"(SELECT t.{column}::oid)"
            zero = "AND u.ref <> 0" if optional else ""
            query = f"""SELECT u.ref FROM {table} t CROSS JOIN LATERAL {source} AS u(ref)
                WHERE NOT EXISTS (SELECT FROM {target} p WHERE p.{key} = u.ref) {zero}"""
            assert connection.execute(query).fetchall() == [], f"{table}.{column}"


@pytest.fixture
def drawing(cluster: Cluster, cluster_schema: Schema, instances: dict[str, str]) -> Iterator[None]:
    """Clients insert values of 10 kB all the time, each of which draws an OID; one draws many at once."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE big (id bigint, value text) PARTITION BY HASH (id) WITH (shards = 4)")
        connection.execute("ALTER TABLE big ALTER value SET STORAGE EXTERNAL")
    stop = threading.Event()

    def insert(seed: int) -> None:
        values = ", ".join(f"({seed + i}, '{'x' * 10000}')" for i in range(10))
        with cluster_schema.connect() as busy:
            while not stop.is_set():
                busy.execute(f"INSERT INTO big VALUES {values}")

    def draw() -> None:
        group = next(dsn for place, dsn in instances.items() if place.endswith("g1"))
        with psycopg.connect(group, autocommit=True) as busy:
            while not stop.wait(0.005):
                busy.execute(DRAW)

    with ThreadPoolExecutor(3) as pool:
        work = [pool.submit(insert, 1), pool.submit(insert, 500), pool.submit(draw)]
        try:
            yield
        finally:
            stop.set()
        for each in work:
            each.result()


@pytest.mark.usefixtures("drawing")
def test_busy_counters_do_not_matter(cluster: Cluster, cluster_schema: Schema, instances: dict[str, str]) -> None:
    """No error, no difference, and catalogs in which everything fits."""
    with cluster_schema.connect() as connection:
        for statement in STATEMENTS:
            connection.execute(statement)
        for number in range(4):
            connection.execute(f"CREATE TABLE busy_{number} (a int)")
        with connection.transaction():
            for number in range(4):
                connection.execute(f"CREATE TABLE more_{number} (a busy_{number}, b busy_{number}[])")
        assert connection.execute("SELECT 1 FROM pg_type WHERE typname = 'busy_3'").fetchall() == [(1,)]
        assert _differing(cluster, cluster_schema.name, at_least=50, without="n2.workspace") == []
        for dsn in instances.values():
            _check_catalogs(dsn)
        for statement in USED:
            connection.execute(statement)
