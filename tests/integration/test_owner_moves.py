"""An owner who is no superuser turns his tables into others and moves their rows: all rows, row security or not."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from support.schemas import Schema
from support.servers import PASSWORD, Cluster

ROWS = 40


@pytest.fixture
def owner(cluster: Cluster, cluster_schema: Schema) -> Iterator[psycopg.Connection]:
    """The session of a role that owns what it makes in its schema, and nothing else."""
    name = f"own_{cluster_schema.name}"
    with psycopg.connect(cluster.server.dsn, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        admin.execute(f"GRANT USAGE, CREATE ON SCHEMA {cluster_schema.name} TO {name}")
    with psycopg.connect(cluster_schema.dsn, user=name, password=PASSWORD, autocommit=True) as connection:
        yield connection
    with psycopg.connect(cluster.server.dsn, autocommit=True) as admin:
        admin.execute(f"DROP OWNED BY {name} CASCADE")
        admin.execute(f"DROP ROLE {name}")


def filled(owner: psycopg.Connection, table: str, *, secured: bool) -> None:
    owner.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, tenant text, n bigint GENERATED ALWAYS AS IDENTITY)")
    owner.execute(
        f"INSERT INTO {table} (id, tenant) SELECT g, CASE WHEN g % 2 = 0 THEN 'x' END FROM generate_series(1, {ROWS}) g"
    )
    if secured:  # the owner himself sees half of the rows
        owner.execute(f"CREATE POLICY p ON {table} USING (tenant = 'x')")
        owner.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")


def rows(cluster: Cluster, schema: Schema, table: str) -> list[tuple[int, int]]:
    with schema.connect() as admin:
        return admin.execute(f"SELECT id, n FROM {table} ORDER BY id").fetchall()


EVERY = [(number, number) for number in range(1, ROWS + 1)]


@pytest.mark.parametrize("secured", [False, True])
def test_conversions(cluster: Cluster, cluster_schema: Schema, owner: psycopg.Connection, secured: bool) -> None:
    filled(owner, "t", secured=secured)
    seen = ROWS // 2 if secured else ROWS
    for call in (
        "create_distributed_table('t', 'id')",
        "undistribute_table('t')",
        "create_reference_table('t')",
        "undistribute_table('t')",
    ):
        owner.execute(f"SELECT {call}")
        assert rows(cluster, cluster_schema, "t") == EVERY, call
        assert owner.execute("SELECT count(*) FROM t").fetchone() == (seen,), call


def test_an_owner_who_has_no_rights_on_his_table(
    cluster: Cluster, cluster_schema: Schema, owner: psycopg.Connection
) -> None:
    filled(owner, "t", secured=False)
    owner.execute("REVOKE ALL ON t FROM CURRENT_USER")
    owner.execute("SELECT create_distributed_table('t', 'id')")
    assert rows(cluster, cluster_schema, "t") == EVERY
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        owner.execute("SELECT count(*) FROM t")


@pytest.mark.parametrize("secured", [False, True])
def test_moves(cluster: Cluster, cluster_schema: Schema, owner: psycopg.Connection, secured: bool) -> None:
    filled(owner, "single", secured=secured)
    for group in ("g2", "g1", "g2"):
        owner.execute(f"ALTER TABLE single SET TABLESPACE {group}")
        assert rows(cluster, cluster_schema, "single") == EVERY
    owner.execute("CREATE TABLE ranged (id int, tenant text, n bigint NOT NULL) PARTITION BY RANGE (id)")
    owner.execute("ALTER TABLE single ALTER n DROP IDENTITY; ALTER TABLE single SET TABLESPACE g1")
    owner.execute("CREATE TABLE ranged_0 PARTITION OF ranged FOR VALUES FROM (-100) TO (0) TABLESPACE g2")
    owner.execute(f"ALTER TABLE ranged ATTACH PARTITION single FOR VALUES FROM (1) TO ({ROWS + 1})")
    assert rows(cluster, cluster_schema, "ranged") == EVERY
    if not secured:  # a shard with a policy of its own does not move
        for group in ("g2", "g1"):
            owner.execute(f"ALTER TABLE single SET TABLESPACE {group}")
            assert rows(cluster, cluster_schema, "ranged") == EVERY


def test_a_stranger_converts_nothing(cluster: Cluster, cluster_schema: Schema, owner: psycopg.Connection) -> None:
    with cluster_schema.connect() as admin:
        admin.execute("CREATE TABLE theirs (id int PRIMARY KEY)")
    for call in ("create_distributed_table('theirs', 'id')", "create_reference_table('theirs')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of table theirs"):
            owner.execute(f"SELECT {call}")
