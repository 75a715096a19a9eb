"""What a backend keeps of prepared statements has a bound, in number and in bytes, however many clients prepare."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from hanse.core.limits import PREPARED_BYTES_PER_BACKEND_MAX, PREPARED_PER_BACKEND_MAX
from support.schemas import Schema
from support.servers import PASSWORD, Cluster

TEXT_BYTES = 40_000
MEMORY = """
CREATE FUNCTION memory(OUT statements bigint, OUT bytes bigint) LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
    SELECT count(*), sum(length(statement)) INTO statements, bytes FROM pg_catalog.pg_prepared_statements;
END $$
"""


@pytest.fixture
def session(cluster: Cluster, cluster_schema: Schema) -> Iterator[psycopg.Connection]:
    """Of a role of its own, so that it always has the same backend in each group."""
    role = f"preparer_{uuid.uuid4().hex[:8]}"
    with cluster_schema.connect() as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
        admin.execute("CREATE TABLE t (id int PRIMARY KEY, v int)")
        admin.execute("INSERT INTO t VALUES (1, 7)")
        admin.execute(MEMORY)
        admin.execute(f"GRANT USAGE ON SCHEMA {cluster_schema.name} TO {role}; GRANT SELECT ON t TO {role}")
    with psycopg.connect(cluster_schema.dsn, user=role, password=PASSWORD, autocommit=True) as connection:
        connection.prepared_max = None
        yield connection
    with cluster_schema.connect() as admin:
        admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def kept(session: psycopg.Connection) -> tuple[int, int]:
    """(number, bytes) of the statements in the backend of the table's group, as the server counts them."""
    row = session.execute("SELECT (memory()).* FROM t WHERE id = 1").fetchone()
    assert row is not None
    return int(row[0]), int(row[1] or 0)


def prepare(session: psycopg.Connection, count: int, padding: str = "") -> None:
    for number in range(count):
        query = f"SELECT v AS c{number} FROM t WHERE id = %s AND '{padding}' <> 'y'"
        for _ in range(2):  # the first time it is not known yet
            assert session.execute(query, (1,), prepare=True).fetchone() == (7,)


def test_number(session: psycopg.Connection) -> None:
    prepare(session, PREPARED_PER_BACKEND_MAX + 50)
    number, _ = kept(session)
    assert PREPARED_PER_BACKEND_MAX // 2 < number <= PREPARED_PER_BACKEND_MAX
    prepare(session, 20)  # of which the backend has none any more


def test_bytes(session: psycopg.Connection) -> None:
    prepare(session, 2 * PREPARED_BYTES_PER_BACKEND_MAX // TEXT_BYTES, "x" * TEXT_BYTES)
    number, size = kept(session)
    assert number > 1 and PREPARED_BYTES_PER_BACKEND_MAX // 2 < size <= PREPARED_BYTES_PER_BACKEND_MAX
