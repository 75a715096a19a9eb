"""pg_dump and pg_restore: every row once, into an empty Hanse and into a plain PostgreSQL."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from clients.home import Home, make_home
from support.servers import Cluster, Server, binary

CLIENT = "pg_dump, pg_restore"
VERSION = subprocess.run([binary("pg_dump"), "--version"], capture_output=True, text=True, check=True).stdout.split()[2]

# What only a dump of everything may meet: partitions that a client named, a view on views, rights, sequences, large values.
MORE = """
CREATE TABLE visit (day date, n int, what text) PARTITION BY RANGE (day);
CREATE TABLE visit_old PARTITION OF visit FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE visit_new PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
INSERT INTO visit SELECT DATE '2025-12-01' + i, i, repeat('w', i) FROM generate_series(1, 60) i;
CREATE MATERIALIZED VIEW count_of_visits AS SELECT count(*) FROM note;
CREATE TABLE "Odd name" ("a b" int PRIMARY KEY, "select" text DEFAULT E'tab\\t');
INSERT INTO "Odd name" VALUES (1, E'back\\\\slash\\nline'), (2, NULL), (3, '');
SELECT create_distributed_table('"Odd name"', 'a b', shard_count => 2);
GRANT SELECT ON person TO pg_monitor;
ALTER TABLE town SET (fillfactor = 70);
CREATE SEQUENCE counter INCREMENT 5 START 100;
SELECT nextval('counter');
"""
# One line of each table: its rows, counted and summed up in an order of their own.
TABLES = ("town", "person", "letter", "note", "visit", '"Odd name"')
SUMS = "SELECT count(*), md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {} t"


@pytest.fixture(scope="module")
def source(cluster: Cluster) -> Iterator[Home]:
    """A schema with everything, which tests drop and restore."""
    schema = f"dump_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        made = make_home(connection, cluster.server, schema, shards=2)
        for statement in MORE.strip().split(";\n"):
            connection.execute(statement)  # type: ignore[call-overload]
        yield made
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


def _sums(server: Server, schema: str) -> dict[str, tuple[object, ...] | None]:
    with psycopg.connect(server.dsn_for(options=f"-c search_path={schema}"), autocommit=True) as connection:
        return {table: connection.execute(SUMS.format(table)).fetchone() for table in TABLES}  # type: ignore[call-overload]


def _kinds(connection: psycopg.Connection, schema: str) -> list[tuple[object, ...]]:
    query = "SELECT name, kind, strategy, key, shard_count FROM hanse.tables WHERE schema = %s ORDER BY name"
    return connection.execute(query, (schema,)).fetchall()


def _dropped(connection: psycopg.Connection, schema: str) -> None:
    connection.execute("SET client_min_messages = warning")
    connection.execute(f"DROP SCHEMA {schema} CASCADE")  # type: ignore[call-overload]


@pytest.mark.parametrize("form", ["custom", "plain"])
def test_into_an_empty_hanse(source: Home, form: str, tmp_path: Path) -> None:
    """plain and custom format of sharded, reference and single tables, restored into an empty Hanse: same tables, same rows"""
    rows, file = _sums(source.server, source.schema), tmp_path / "dump"
    source.run("pg_dump", "-n", source.schema, "-F", form, "-f", str(file))
    with psycopg.connect(source.server.dsn, autocommit=True) as connection:
        kinds = _kinds(connection, source.schema)
        _dropped(connection, source.schema)
        if form == "plain":
            source.run("psql", "-Xq", "-1", "-v", "ON_ERROR_STOP=1", "-f", str(file))
        else:
            source.run("pg_restore", "-j1", "--exit-on-error", "-d", source.server.database, str(file))
        assert _kinds(connection, source.schema) == kinds
        assert ("town", "reference", None, None, None) in kinds
        groups = "SELECT count(DISTINCT group_name) FROM hanse.shards WHERE schema = %s AND table_name = 'person'"
        assert connection.execute(groups, (source.schema,)).fetchone() == (2,)
        connection.execute(f"SET search_path = {source.schema}")  # type: ignore[call-overload]
        assert connection.execute("SELECT nextval('counter') IN (105, 110)").fetchone() == (True,)
        assert connection.execute("INSERT INTO note (body) VALUES ('n') RETURNING id > 5").fetchone() == (True,)
        assert connection.execute("DELETE FROM note WHERE body = 'n'").rowcount == 1
    assert _sums(source.server, source.schema) == rows


def test_into_plain_postgresql(source: Home, plain_postgres: Server, tmp_path: Path) -> None:
    """data into a plain PostgreSQL with plain tables (`--data-only --load-via-partition-root`): every row exactly once"""
    file = tmp_path / "data.sql"
    source.run("pg_dump", "-n", source.schema, "--data-only", "--load-via-partition-root", "--inserts", "-f", str(file))
    target = Home(plain_postgres, source.schema)
    with psycopg.connect(plain_postgres.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {source.schema}")
        connection.execute(f"SET search_path = {source.schema}")
        for statement in PLAIN.strip().split(";\n"):
            connection.execute(statement)  # type: ignore[call-overload]
        try:
            target.run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", str(file))
            assert _sums(plain_postgres, source.schema) == _sums(source.server, source.schema)
        finally:
            _dropped(connection, source.schema)


PLAIN = """
CREATE TYPE mood AS ENUM ('calm', 'glad', 'cross');
CREATE TABLE town (code text PRIMARY KEY, name text NOT NULL);
CREATE TABLE person (id bigint PRIMARY KEY, town text, name text, age int, mood mood, tags text[], seen timestamptz);
CREATE SEQUENCE person_id_seq;
CREATE TABLE letter (person_id bigint, n int, body text, weight numeric(6, 2), PRIMARY KEY (person_id, n));
CREATE TABLE note (id serial PRIMARY KEY, body text UNIQUE, data jsonb);
CREATE TABLE visit (day date, n int, what text);
CREATE TABLE "Odd name" ("a b" int PRIMARY KEY, "select" text);
CREATE SEQUENCE counter
"""


def test_partitioned_into_plain_postgresql(source: Home, plain_postgres: Server, tmp_path: Path) -> None:
    """the whole dump into a plain PostgreSQL, when `distribution=reference` is taken out: partitioned tables there"""
    rows, file = _sums(source.server, source.schema), tmp_path / "dump.sql"
    source.run("pg_dump", "-n", source.schema, "--no-owner", "-f", str(file))
    text = file.read_text()
    assert text.count("distribution=reference") == 1
    file.write_text(text.replace(", distribution=reference", ""))
    with psycopg.connect(plain_postgres.dsn, autocommit=True) as connection:
        try:
            Home(plain_postgres, source.schema).run("psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-f", str(file))
            assert _sums(plain_postgres, source.schema) == rows
        finally:
            _dropped(connection, source.schema)


def test_nothing_of_hanse(home: Home) -> None:
    """nothing of Hanse's own in the dump of a whole database (`--schema-only`)"""
    patterns = [f"--exclude-schema={pattern}" for pattern in ("t_*", "clients_*", "dump_*", "bench_*", "home_*")]
    out = home.run("pg_dump", "--schema-only", *patterns)
    assert "hanse." not in out and "EXTENSION" not in out and "SCHEMA hanse" not in out
