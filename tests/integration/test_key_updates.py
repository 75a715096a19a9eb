"""A key that changes to one of another group: a row is deleted and inserted, refused where that shows (findings-gateway 5)."""

from __future__ import annotations

import psycopg
import pytest

from support.schemas import Schema

SHARDED = "PARTITION BY HASH (id) WITH (shards = 4)"


def test_a_referenced_key_stays(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute(f"CREATE TABLE p (id bigint PRIMARY KEY, v int) {SHARDED}")
        connection.execute(
            "CREATE TABLE c (id bigint REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE, n int, PRIMARY KEY (id, n)) "
            + SHARDED
        )
        connection.execute("INSERT INTO p SELECT g, 0 FROM generate_series(1, 20) g")
        connection.execute("INSERT INTO c SELECT g, 1 FROM generate_series(1, 20) g")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="which foreign keys refer to"):
            connection.execute("UPDATE p SET id = id + 100")
        assert connection.execute("SELECT count(*), min(id), max(id) FROM c").fetchone() == (20, 1, 20)
        connection.execute("UPDATE p SET v = 1")
        connection.execute("UPDATE p SET id = id")
        connection.execute("DROP TABLE c")
        connection.execute("UPDATE p SET id = id + 100")
        assert connection.execute("SELECT count(*), min(id), max(id) FROM p").fetchone() == (20, 101, 120)


def test_triggers_would_see_a_delete(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute(f"CREATE TABLE t (id bigint PRIMARY KEY, v int DEFAULT 0) {SHARDED}")
        connection.execute(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.v := OLD.v + 1; RETURN NEW; END$$"
        )
        connection.execute("CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()")
        connection.execute("INSERT INTO t SELECT g FROM generate_series(1, 20) g")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='which has trigger "tr"'):
            connection.execute("UPDATE t SET id = id + 100")
        connection.execute("UPDATE t SET v = 5")
        assert connection.execute("SELECT count(*), sum(v) FROM t").fetchone() == (20, 20)
