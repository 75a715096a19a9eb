"""Bounds are the whole cluster's, and a DEFAULT partition takes its own rows only (findings-gateway 4, 5)."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from support.schemas import Schema
from support.servers import Cluster

PLACED = "SELECT tableoid::regclass::text, k FROM {schema}.parts ORDER BY 1, 2"


@pytest.fixture
def parts(cluster_schema: Schema) -> Iterator[psycopg.Connection]:
    """LIST partitions in two groups and a DEFAULT partition in one of them."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE parts (k int, v text DEFAULT 'v') PARTITION BY LIST (k)")
        connection.execute("CREATE TABLE one PARTITION OF parts FOR VALUES IN (1, 11) TABLESPACE g1")
        connection.execute("CREATE TABLE two PARTITION OF parts FOR VALUES IN (2, 12) TABLESPACE g2")
        connection.execute("CREATE TABLE rest PARTITION OF parts DEFAULT TABLESPACE g2")
        yield connection


def _rows(connection: psycopg.Connection, table: str) -> list[int]:
    return [row[0] for row in connection.execute(f"SELECT k FROM {table} ORDER BY k").fetchall()]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more PARTITION OF parts FOR VALUES IN (7, 11) TABLESPACE g2",
        "CREATE TABLE more PARTITION OF parts FOR VALUES IN (2) TABLESPACE g1",
        "CREATE TABLE more PARTITION OF parts DEFAULT TABLESPACE g1",
    ],
)
def test_bounds_must_not_overlap_across_groups(parts: psycopg.Connection, statement: str) -> None:
    with pytest.raises(errors.InvalidObjectDefinition):  # 42P17
        parts.execute(statement)
    assert parts.execute("SELECT to_regclass('more')").fetchone() == (None,)


def test_ranges_must_not_overlap_across_groups(cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE days (d date) PARTITION BY RANGE (d)")
        connection.execute(
            "CREATE TABLE a PARTITION OF days FOR VALUES FROM ('2026-01-01') TO ('2026-02-01') TABLESPACE g1"
        )
        connection.execute("CREATE TABLE loose (d date)")
        for wrong in (
            "CREATE TABLE b PARTITION OF days FOR VALUES FROM ('2026-01-31') TO ('2026-03-01') TABLESPACE g2",
            "ALTER TABLE days ATTACH PARTITION loose FOR VALUES FROM (MINVALUE) TO ('2026-01-02')",
        ):
            with pytest.raises(errors.InvalidObjectDefinition):
                connection.execute(wrong)
        connection.execute("ALTER TABLE days ATTACH PARTITION loose FOR VALUES FROM (MINVALUE) TO ('2026-01-01')")


def test_rows_go_to_their_partitions_by_insert_copy_and_update(
    cluster: Cluster, parts: psycopg.Connection, cluster_schema: Schema
) -> None:
    parts.execute("INSERT INTO parts (k) VALUES (1), (2), (3), (11), (12), (13), (NULL)")
    with parts.cursor().copy("COPY parts (k) FROM STDIN") as copy:
        copy.write("1\n2\n3\n11\n12\n99\n\\N\n")
    parts.execute("INSERT INTO parts (k) SELECT k FROM (VALUES (1), (2), (4)) v(k)")
    assert _rows(parts, "one") == [1, 1, 1, 11, 11]
    assert _rows(parts, "two") == [2, 2, 2, 12, 12]
    assert _rows(parts, "rest") == [3, 3, 4, 13, 99, None, None]
    parts.execute("UPDATE parts SET k = 1 WHERE k = 99")  # from the DEFAULT partition to another group
    parts.execute("UPDATE parts SET k = 50 WHERE k = 11 AND v = 'v'")  # and to it
    parts.execute("UPDATE parts SET k = k + 10 WHERE k = 2")  # inside a partition
    assert _rows(parts, "one") == [1, 1, 1, 1]
    assert _rows(parts, "rest") == [3, 3, 4, 13, 50, 50, None, None]
    assert _rows(parts, "parts") == [1, 1, 1, 1, 3, 3, 4, 12, 12, 12, 12, 12, 13, 50, 50, None, None]
    found = {}
    for group, dsn in cluster.group_dsns().items():
        with psycopg.connect(dsn) as connection:
            for name, key in connection.execute(PLACED.format(schema=cluster_schema.name)).fetchall():
                found.setdefault((group, name.rpartition(".")[2]), []).append(key)
    assert {place: len(keys) for place, keys in found.items()} == {
        ("g1", "one"): 4,
        ("g2", "two"): 5,
        ("g2", "rest"): 8,
    }


def test_a_partition_for_rows_that_the_default_has_is_refused(parts: psycopg.Connection) -> None:
    """In the other group, where PostgreSQL does not see the DEFAULT partition's rows."""
    parts.execute("INSERT INTO parts (k) VALUES (5)")
    parts.execute("CREATE TABLE loose (k int, v text)")
    for statement in (
        "CREATE TABLE five PARTITION OF parts FOR VALUES IN (5) TABLESPACE g1",
        "ALTER TABLE parts ATTACH PARTITION loose FOR VALUES IN (5)",
    ):
        with pytest.raises(errors.CheckViolation):
            parts.execute(statement)
    parts.execute("DELETE FROM parts WHERE k = 5")
    parts.execute("CREATE TABLE five PARTITION OF parts FOR VALUES IN (5) TABLESPACE g1")
    parts.execute("INSERT INTO parts (k) VALUES (5), (6)")
    assert (_rows(parts, "five"), _rows(parts, "rest")) == ([5], [6])


def test_detaching_gives_the_bound_to_the_default_partition(parts: psycopg.Connection) -> None:
    parts.execute("INSERT INTO parts (k) VALUES (1), (3)")
    parts.execute("ALTER TABLE parts DETACH PARTITION one")
    parts.execute("INSERT INTO parts (k) VALUES (1)")
    assert (_rows(parts, "one"), _rows(parts, "rest")) == ([1], [1, 3])
    with pytest.raises(errors.CheckViolation):
        parts.execute("ALTER TABLE parts ATTACH PARTITION one FOR VALUES IN (1, 11)")
    parts.execute("DELETE FROM parts WHERE k = 1")
    parts.execute("ALTER TABLE parts ATTACH PARTITION one FOR VALUES IN (1, 11)")
    assert _rows(parts, "parts") == [1, 3]
    parts.execute("ALTER TABLE parts DETACH PARTITION rest")
    with pytest.raises(errors.CheckViolation):
        parts.execute("INSERT INTO parts (k) VALUES (3)")
    parts.execute("INSERT INTO rest (k) VALUES (1), (2)")  # any row: it is a table of its own now
    assert (_rows(parts, "rest"), _rows(parts, "parts")) == ([1, 2, 3], [1])


def test_a_row_that_a_foreign_key_refers_to_does_not_change_groups(cluster_schema: Schema) -> None:
    """As DELETE and INSERT it would fire ON DELETE CASCADE where ON UPDATE CASCADE was meant."""
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE owners (id int PRIMARY KEY) PARTITION BY HASH (id) WITH (shards = 4)")
        connection.execute(
            "CREATE TABLE things (id int, owner int REFERENCES owners ON DELETE CASCADE ON UPDATE CASCADE)"
            " PARTITION BY HASH (owner) WITH (shards = 4)"
        )
        connection.execute("INSERT INTO owners VALUES (1), (2), (3)")
        connection.execute("INSERT INTO things VALUES (1, 1), (2, 2), (3, 3)")
        refused = 0
        for new in range(10, 20):  # some are in the group of the old one, where PostgreSQL does it
            try:
                connection.execute(f"UPDATE owners SET id = {new} WHERE id = (SELECT max(id) FROM owners)")
            except errors.FeatureNotSupported:
                refused += 1
            joined = connection.execute("SELECT count(*) FROM things JOIN owners o ON o.id = owner").fetchone()
            assert joined == (3,)
        assert refused > 0
