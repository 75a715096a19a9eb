"""Transaction modes that a role begins with (ALTER ROLE … SET, also IN DATABASE) hold over several groups."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg import errors

from support.schemas import Schema
from support.servers import PASSWORD


@pytest.fixture
def role(cluster_schema: Schema) -> Iterator[str]:
    """A role that may use table t, which has keys 0 to 9 in g1 and 10 to 19 in g2."""
    name = f"role_{uuid.uuid4().hex[:10]}"
    with cluster_schema.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL) PARTITION BY RANGE (id)")
        connection.execute("CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10) TABLESPACE g1")
        connection.execute("CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20) TABLESPACE g2")
        connection.execute("INSERT INTO t SELECT i, 1 FROM generate_series(0, 19) i")
        connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
        connection.execute(f"GRANT USAGE ON SCHEMA {cluster_schema.name} TO {name}")
        connection.execute(f"GRANT ALL ON t TO {name}")
        yield name
        connection.execute("DROP TABLE t")
        connection.execute(f"REVOKE ALL ON SCHEMA {cluster_schema.name} FROM {name}")
        connection.execute(f"DROP ROLE {name}")


def alter(schema: Schema, what: str) -> None:
    with schema.connect() as connection:
        connection.execute(what)  # type: ignore[call-overload]


def session(schema: Schema, role: str) -> closing[psycopg.Connection]:
    dsn = schema.server.dsn_for(user=role, password=PASSWORD, options=f"-c search_path={schema.name}")
    return closing(psycopg.connect(dsn, autocommit=True))


def seen(connection: psycopg.Connection) -> tuple[str, int]:
    """The level, and the sum over both groups."""
    level, total = (
        connection.execute(ask).fetchone() for ask in ("SHOW transaction_isolation", "SELECT sum(v) FROM t")
    )
    assert level is not None and total is not None
    return level[0], total[0]


@pytest.mark.parametrize("where", ["ALTER ROLE {role}", "ALTER ROLE {role} IN DATABASE {database}"])
def test_write_skew_over_groups_is_refused(cluster_schema: Schema, role: str, where: str) -> None:
    """Each reads everything and writes in one group: only SERIALIZABLE finds that."""
    where = where.format(role=role, database=cluster_schema.server.database)
    alter(cluster_schema, f"{where} SET default_transaction_isolation = 'serializable'")
    with session(cluster_schema, role) as one, session(cluster_schema, role) as other:
        for connection in (one, other):
            assert seen(connection) == ("serializable", 20)
            connection.execute("BEGIN")
            assert seen(connection) == ("serializable", 20)
        one.execute("UPDATE t SET v = 2 WHERE id = 1")
        other.execute("UPDATE t SET v = 2 WHERE id = 11")
        one.execute("COMMIT")
        with pytest.raises(errors.SerializationFailure):
            other.execute("COMMIT")


def test_one_snapshot_for_a_transaction(cluster_schema: Schema, role: str) -> None:
    alter(cluster_schema, f"ALTER ROLE {role} SET default_transaction_isolation = 'repeatable read'")
    with session(cluster_schema, role) as reader, session(cluster_schema, role) as writer:
        reader.execute("BEGIN")
        assert reader.execute("SELECT v FROM t WHERE id = 1").fetchone() == (1,)
        writer.execute("UPDATE t SET v = 5")
        assert reader.execute("SELECT v FROM t WHERE id = 11").fetchone() == (1,)
        assert seen(reader) == ("repeatable read", 20)
        reader.execute("COMMIT")
        reader.execute("RESET ALL")
        assert seen(reader) == ("repeatable read", 100)


def test_what_the_client_says_goes_before(cluster_schema: Schema, role: str) -> None:
    alter(cluster_schema, f"ALTER ROLE {role} SET default_transaction_isolation = 'serializable'")
    alter(cluster_schema, f"ALTER ROLE {role} SET default_transaction_read_only = on")
    with session(cluster_schema, role) as connection:
        with pytest.raises(errors.ReadOnlySqlTransaction):
            connection.execute("UPDATE t SET v = 2")
        connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE")
        connection.execute("UPDATE t SET v = 3")
        assert seen(connection) == ("read committed", 60)
        connection.execute("COMMIT AND CHAIN")
        connection.execute("UPDATE t SET v = 4")
        assert seen(connection) == ("read committed", 80)
        connection.execute("COMMIT")
        connection.execute("SET default_transaction_isolation = 'repeatable read'")
        assert seen(connection) == ("repeatable read", 80)
        connection.execute("RESET default_transaction_isolation")
        connection.execute("BEGIN")
        assert seen(connection) == ("serializable", 80)
        connection.execute("COMMIT")
    with closing(psycopg.connect(cluster_schema.dsn, autocommit=True)) as somebody_else:
        somebody_else.execute("UPDATE t SET v = 5")
        assert seen(somebody_else) == ("read committed", 100)


def test_a_default_of_deferrable_waits_for_nobody(cluster_schema: Schema, role: str) -> None:
    """A safe snapshot in one group would be waited for under the barrier of both (findings A7)."""
    alter(cluster_schema, f"ALTER ROLE {role} SET default_transaction_deferrable = on")
    with session(cluster_schema, role) as writer, session(cluster_schema, role) as reader:
        assert reader.execute("SHOW default_transaction_deferrable").fetchone() == ("on",)
        writer.execute("BEGIN ISOLATION LEVEL SERIALIZABLE")
        writer.execute("UPDATE t SET v = v + 1 WHERE id IN (1, 11)")
        reader.execute("SET statement_timeout = '60s'")
        for begin in ("BEGIN ISOLATION LEVEL", "BEGIN; SET TRANSACTION DEFERRABLE; SET TRANSACTION ISOLATION LEVEL"):
            reader.execute(f"{begin} SERIALIZABLE READ ONLY")  # type: ignore[call-overload]
            assert seen(reader) == ("serializable", 20)
            reader.execute("COMMIT")
        writer.execute("COMMIT")
