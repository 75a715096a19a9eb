"""What one node's gateway does to the schema, every other node's workspace can repeat."""

from __future__ import annotations

import uuid

import psycopg

from support.servers import Cluster


def test_a_table_made_with_the_roles_own_search_path_is_known_everywhere(cluster: Cluster) -> None:
    """The path in force comes from ALTER ROLE, not from the session: the log must tell it all the same."""
    name = f"t_{uuid.uuid4().hex[:12]}"
    first, *others = cluster.gateways
    assert others, "a cluster of one node shows nothing"
    with psycopg.connect(first.dsn, autocommit=True) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("public",)
        connection.execute(f"CREATE TABLE {name} (id int PRIMARY KEY) PARTITION BY HASH (id) WITH (shards = 2)")
        connection.execute(f"INSERT INTO {name} VALUES (1), (2), (3)")
    for gateway in others:
        with psycopg.connect(gateway.dsn, autocommit=True) as connection:
            schema = connection.execute("SELECT schema FROM hanse.tables WHERE name = %s", (name,)).fetchone()
            assert schema == ("public",)
            # An aggregate that needs the workspace: a slot, cloned from what was repeated.
            median = f"SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM public.{name}"
            assert connection.execute(median).fetchone() == (2,)
    with psycopg.connect(first.dsn, autocommit=True) as connection:
        connection.execute(f"DROP TABLE {name}")
