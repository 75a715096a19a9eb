"""What PostgreSQL does outside transactions, over all groups (findings-gateway 18, 26)."""

from __future__ import annotations

import asyncio
import threading

import psycopg
import pytest
from psycopg import errors

from hanse.agent.sizes import Sizes
from hanse.agent.statistics import Statistics
from hanse.config import WORKSPACE_PLACE, load_node_config, load_secrets
from hanse.core.errors import PgError
from support.processes import wait_until
from support.schemas import Schema
from support.servers import Cluster

INDEXES = """SELECT i.indexrelid::regclass::text, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND NOT i.indisprimary ORDER BY 1"""
JOBS = "SELECT count(*) FROM hanse.jobs WHERE groups = %s::text[] AND state = %s AND done = '{}'"
SIZES = """SELECT relname::text, pg_total_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = %s AND relkind IN ('r', 'i')"""
ESTIMATES = """SELECT relname::text, reltuples::int FROM pg_class
    WHERE oid IN ('sharded'::regclass, 'copied'::regclass, 'plain'::regclass) ORDER BY 1"""
ANALYSED = """SELECT count(*) FROM pg_stats WHERE schemaname = %s AND tablename = 'parent' AND inherited"""


def _indexes(cluster: Cluster, schema: Schema) -> dict[str, list[tuple[str, bool]]]:
    found = {}
    for group, dsn in cluster.group_dsns().items():
        with psycopg.connect(dsn, options=f"-c search_path={schema.name}") as connection:
            found[group] = connection.execute(INDEXES, (schema.name,)).fetchall()
    return found


@pytest.fixture
def tables(cluster_schema: Schema) -> Schema:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE plain (id int PRIMARY KEY, n int) TABLESPACE g2")
        connection.execute("CREATE TABLE copied (id int PRIMARY KEY, n int) WITH (distribution = 'reference')")
        connection.execute("CREATE TABLE sharded (id int PRIMARY KEY, n int) PARTITION BY HASH (id) WITH (shards = 4)")
        for table in ("plain", "copied", "sharded"):
            connection.execute(f"INSERT INTO {table} VALUES (1, 1), (2, 1), (3, 2)")
    return cluster_schema


def test_an_index_made_concurrently_is_in_all_groups_and_can_be_dropped(cluster: Cluster, tables: Schema) -> None:
    with tables.connect() as connection:
        connection.execute("CREATE INDEX CONCURRENTLY plain_n ON plain (n)")
        connection.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS copied_n ON copied (n)")
        connection.execute("CREATE INDEX CONCURRENTLY p1_n ON sharded_p1 (n)")
        connection.execute("CREATE INDEX CONCURRENTLY IF NOT EXISTS copied_n ON copied (n)")
        with pytest.raises(errors.DuplicateTable):
            connection.execute("CREATE INDEX CONCURRENTLY plain_n ON plain (n)")
        assert _indexes(cluster, tables) == {
            "g1": [("copied_n", True), ("plain_n", True)],
            "g2": [("copied_n", True), ("p1_n", True), ("plain_n", True)],
        }
        connection.execute("REINDEX TABLE CONCURRENTLY plain")
        connection.execute("REINDEX TABLE sharded_p1")
        connection.execute("VACUUM (ANALYZE) sharded, copied, plain")
        connection.execute("DROP INDEX CONCURRENTLY plain_n, copied_n, p1_n")
        assert _indexes(cluster, tables) == {"g1": [], "g2": []}
        with connection.transaction(), pytest.raises(errors.ActiveSqlTransaction):
            connection.execute("CREATE INDEX CONCURRENTLY plain_n ON plain (n)")
            raise AssertionError


def test_an_index_that_cannot_be_made_leaves_nothing(cluster: Cluster, tables: Schema) -> None:
    """`plain` is in g2 only: g1 has made the index on its empty table already."""
    with tables.connect() as connection:
        for table in ("plain", "copied"):
            with pytest.raises(errors.UniqueViolation):
                connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY wrong ON {table} (n)")
        assert _indexes(cluster, tables) == {"g1": [], "g2": []}
        connection.execute("DELETE FROM plain WHERE id = 2")
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY wrong ON plain (n)")


def test_schema_changes_go_on_while_an_index_is_made(cluster: Cluster, tables: Schema) -> None:
    """g1 has it already, in g2 a transaction is waited for; what comes in between may be the end of it."""
    told: list[psycopg.Error] = []

    def make(name: str) -> None:
        with tables.connect() as connection:
            try:
                connection.execute(f"CREATE INDEX CONCURRENTLY {name} ON plain (n)")  # type: ignore[call-overload]
            except psycopg.Error as error:
                told.append(error)

    g1, g2 = (cluster.group_dsns()[name] for name in ("g1", "g2"))
    made = f"SELECT count(*) FROM pg_index WHERE indrelid = '{tables.name}.plain'::regclass"
    for name, lost in (("kept", False), ("gone", True)):
        with psycopg.connect(g2) as writer, psycopg.connect(g2, autocommit=True) as group, tables.connect() as other:
            before = group.execute(made).fetchone()  # type: ignore[call-overload]
            writer.execute(f"UPDATE {tables.name}.plain SET n = n")  # type: ignore[call-overload]
            thread = threading.Thread(target=make, args=(name,))
            thread.start()
            wait_until("g2's turn", lambda: group.execute(made).fetchone() != before, timeout_s=30)  # type: ignore[call-overload] # noqa: B023
            other.execute(f"CREATE TABLE beside_{name} (id int PRIMARY KEY)")  # type: ignore[call-overload]
            other.execute("ALTER TABLE sharded ADD COLUMN IF NOT EXISTS more int")
            assert thread.is_alive() and not told
            if lost:  # as if another table had come into the place of this one
                with psycopg.connect(g1, autocommit=True) as connection:
                    connection.execute(f"DROP INDEX {tables.name}.{name}")  # type: ignore[call-overload]
            writer.rollback()
            thread.join(60)
    assert [error.sqlstate for error in told] == ["55000"]
    assert _indexes(cluster, tables) == {"g1": [("kept", True)], "g2": [("kept", True)]}
    with tables.connect() as connection:
        assert connection.execute("SELECT to_regclass('kept')::text, to_regclass('gone')").fetchone() == ("kept", None)


def test_an_index_that_was_not_made_anew_leaves_nothing(cluster: Cluster, tables: Schema) -> None:
    """The schema-complete database has no `…_ccnew`, so nobody could drop it."""
    told: list[psycopg.Error] = []

    def reindex() -> None:
        with tables.connect() as connection:
            connection.execute("SET statement_timeout = '500ms'")
            try:
                connection.execute("REINDEX TABLE CONCURRENTLY plain")
            except psycopg.Error as error:
                told.append(error)

    with psycopg.connect(cluster.group_dsns()["g2"]) as writer, tables.connect() as watcher:
        writer.execute(f"UPDATE {tables.name}.plain SET n = n")
        thread = threading.Thread(target=reindex)
        thread.start()
        wait_until("a job", lambda: watcher.execute(JOBS, (["g2"], "running")).fetchone() == (1,))
        removing = f"SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DROP INDEX%{tables.name}%_ccnew%'"
        with psycopg.connect(cluster.group_dsns()["g2"], autocommit=True) as group:
            wait_until("its removal", lambda: group.execute(removing).fetchone() == (1,))  # type: ignore[call-overload]
        writer.rollback()
        thread.join(60)
        assert [error.sqlstate for error in told] == ["57014"]
        assert watcher.execute("SELECT count(*) FROM hanse.jobs WHERE statement LIKE 'REINDEX%'").fetchone() == (0,)
    with psycopg.connect(cluster.group_dsns()["g2"]) as group:
        invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid = %s::regclass"
        assert group.execute(invalid, (f"{tables.name}.plain",)).fetchone() == (0,)


def test_what_a_killed_attempt_has_left_is_replaced(cluster: Cluster, tables: Schema) -> None:
    """As if the gateway had died in g2: g1 has a valid index, g2 an invalid one, the catalog none."""
    groups = cluster.group_dsns()
    with psycopg.connect(groups["g1"], autocommit=True) as connection:
        connection.execute(f"CREATE INDEX half ON {tables.name}.plain (n)")
    with psycopg.connect(groups["g2"], autocommit=True) as connection, pytest.raises(errors.UniqueViolation):
        connection.execute(f"CREATE UNIQUE INDEX CONCURRENTLY half ON {tables.name}.plain (n)")
    assert _indexes(cluster, tables) == {"g1": [("half", True)], "g2": [("half", False)]}
    with tables.connect() as connection:
        connection.execute("CREATE INDEX CONCURRENTLY half ON plain (n)")
        assert _indexes(cluster, tables) == {"g1": [("half", True)], "g2": [("half", True)]}
        assert connection.execute("SELECT to_regclass('half')::text").fetchone() == ("half",)


def test_the_agent_analyses_partitioned_tables(cluster: Cluster, cluster_schema: Schema) -> None:
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE parent (id int PRIMARY KEY, n int) PARTITION BY HASH (id) WITH (shards = 2)")
        connection.execute("INSERT INTO parent SELECT i, mod(i, 10) FROM generate_series(1, 500) i")
    dsns, parent = cluster.group_dsns(), f"{cluster_schema.name}.parent"
    for file in sorted(cluster.data_directory.glob("*/node.json")):
        node, secrets = load_node_config(file), load_secrets(cluster.data_directory / "secrets.json")
        for each in (Statistics(node, secrets, found) for found in node.instances if found.group != WORKSPACE_PLACE):
            with psycopg.connect(dsns[each.group], autocommit=True) as connection:
                # The cluster's own agent may be faster.
                wait_until("statistics", lambda group=each: _refreshed(group, connection, cluster_schema.name))
                assert parent not in asyncio.run(each.refresh())


def _refreshed(group: Statistics, connection: psycopg.Connection, schema: str) -> bool:
    asyncio.run(group.refresh())
    return connection.execute(ANALYSED, (schema,)).fetchone() == (2,)


def _sizes_refreshed(sizes: Sizes) -> bool:
    """False: the workspace ended the session to make a database. The agent tries again after a while."""
    try:
        asyncio.run(sizes.refresh())
    except PgError as error:
        assert error.sqlstate.startswith("08"), error
        return False
    return True


def test_activity_is_that_of_all_groups(cluster: Cluster, tables: Schema) -> None:
    """Rows are counted once, though a reference table has them in each group, and so is a VACUUM that each group has run."""
    with tables.connect() as connection:
        for table in ("plain", "copied", "sharded"):
            connection.execute(f"INSERT INTO {table} SELECT i, i FROM generate_series(10, 109) i")
            connection.execute(f"DELETE FROM {table} WHERE id < 20")
            connection.execute(f"SELECT n FROM {table} WHERE id = 50")
    node = load_node_config(cluster.data_directory / "n1" / "node.json")
    sizes = Sizes(node, load_secrets(cluster.data_directory / "secrets.json"))
    query = f"""SELECT sum(n_tup_ins)::int, sum(n_tup_del)::int, sum(n_live_tup)::int, max(vacuum_count)::int,
        min(vacuum_count)::int, bool_and(last_vacuum <= now()), sum(idx_scan) > 0
        FROM pg_stat_user_tables WHERE schemaname = '{tables.name}' AND relname LIKE %s"""
    blocks = f"""SELECT sum(heap_blks_hit) > 0, (SELECT sum(idx_tup_read) > 0 FROM pg_stat_user_indexes
        WHERE schemaname = '{tables.name}') FROM pg_statio_user_tables WHERE schemaname = '{tables.name}'"""
    options = f"-c search_path={tables.name}"
    with psycopg.connect(cluster.gateways[0].dsn_for(options=options), autocommit=True) as connection:

        def told(columns: int, *expected: object) -> bool:
            """Servers count some time after the statement, and what comes after a VACUUM is added to what that has found."""
            rows = [connection.execute(query, (name,)).fetchone() for name in ("plain", "copied", "sharded\\_p%")]
            return _sizes_refreshed(sizes) and all(row is not None and row[:columns] == expected for row in rows)

        wait_until("activity", lambda: told(2, 103, 13), timeout_s=60)
        for table in ("plain", "copied", "sharded"):
            connection.execute(f"VACUUM {table}")  # type: ignore[call-overload]
        wait_until("its VACUUM", lambda: told(7, 103, 13, 90, 1, 1, True, True), timeout_s=60)
        assert connection.execute(blocks).fetchone() == (True, True)
        system = "SELECT count(*) > 50 AND sum(seq_scan) > 0 FROM pg_stat_sys_tables"
        assert connection.execute(system).fetchone() == (True,)


def test_sizes_and_estimates_are_those_of_all_groups(cluster: Cluster, tables: Schema) -> None:
    with tables.connect() as connection:
        connection.execute("INSERT INTO sharded SELECT i, i FROM generate_series(10, 3000) i")
        connection.execute("INSERT INTO copied SELECT i, i FROM generate_series(10, 3000) i")
        connection.execute("VACUUM (ANALYZE) sharded, copied, plain")
    for gateway in cluster.gateways:  # each node's workspace follows the schema when it is asked
        with psycopg.connect(gateway.dsn) as connection:
            connection.execute("SELECT FROM pg_class")
    secrets = load_secrets(cluster.data_directory / "secrets.json")
    for file in sorted(cluster.data_directory.glob("*/node.json")):
        sizes = Sizes(load_node_config(file), secrets)
        wait_until("sizes", lambda sizes=sizes: _sizes_refreshed(sizes), timeout_s=30)  # type: ignore[misc]
    expected: dict[str, int] = {}
    for dsn in cluster.group_dsns().values():
        with psycopg.connect(dsn) as group:
            for name, size in group.execute(SIZES, (tables.name,)).fetchall():
                expected[name] = expected.get(name, 0) + size
    assert min(expected["sharded_p0"], expected["copied"], expected["plain"]) > 8192
    for gateway in cluster.gateways:
        with psycopg.connect(gateway.dsn_for(options=f"-c search_path={tables.name}"), autocommit=True) as connection:
            assert dict(connection.execute(SIZES, (tables.name,)).fetchall()) == expected
            size, whole, indexes, database = connection.execute(
                "SELECT pg_relation_size('copied'), pg_table_size('copied'), pg_indexes_size('copied'),"
                " pg_database_size(current_database())"
            ).fetchone()  # type: ignore[misc]
            assert 0 < size < whole < expected["copied"] == whole + indexes < database
            estimates = connection.execute(ESTIMATES).fetchall()
            assert estimates == [("copied", 2994), ("plain", 3), ("sharded", 2994)]
            assert connection.execute("SELECT pg_relation_size('pg_class') > 0, pg_table_size(0)").fetchone() == (
                True,
                None,
            )
